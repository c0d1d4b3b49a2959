//! The built-in read models: one file each, one line each in the registry below.
//!
//! Refuses: I/O. A projection is a pure function from one event to changes of rows.

use events::{DecodeError, Metadata, RecordedEvent};
use read_models::ReadModel;
use uuid::Uuid;

mod account_history;
mod accounts;
mod active_sessions;
mod api_keys;
mod events_per_type;
mod log_ins_per_hour;
pub(crate) mod projection_status;
mod sign_ups_per_day;
#[cfg(test)]
pub(crate) mod testing;

/// The read models of the built-in domain.
pub fn built_in() -> Vec<ReadModel> {
    vec![
        accounts::read_model(),
        account_history::read_model(),
        active_sessions::read_model(),
        api_keys::read_model(),
        events_per_type::read_model(),
        log_ins_per_hour::read_model(),
        projection_status::read_model(),
        sign_ups_per_day::read_model(),
    ]
}

/// The id of the account, or of whatever else the stream is of. One that is no UUID cannot be written by any decider, so it is an error.
fn id_of(event: &RecordedEvent) -> Result<Uuid, DecodeError> {
    let (category, id) = (event.stream.category(), event.stream.id());
    id.parse().map_err(|_| {
        DecodeError::new(
            event,
            format_args!("this stream is named {category}-{{UUID}}; {id:?} is no UUID"),
        )
    })
}

fn metadata_of(event: &RecordedEvent) -> Result<Metadata, DecodeError> {
    event
        .parse_metadata()
        .map_err(|cause| DecodeError::new(event, cause))
}
