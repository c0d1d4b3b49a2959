//! What every append must be before it is handed to the writer. It refuses what a database would refuse later, when
//! other appends of the same batch would have to wait for it.

use events::NewEvent;
use serde::de::IgnoredAny;

use crate::{Append, Error};

/// The most events of one append.
pub const MAX_EVENTS: usize = 1_000;
/// The most bytes of data, metadata and type names in one append.
pub const MAX_BYTES: usize = 4 << 20;
/// The longest type name, in bytes: it is a word of an AMQP routing key.
const MAX_TYPE_NAME: usize = 128;

/// How many bytes an event takes up, about.
pub(crate) fn bytes(event: &NewEvent) -> usize {
    event.data.len() + event.metadata.len() + event.type_name.len()
}

/// Refuses an append that no store may take.
pub(crate) fn check(append: &Append) -> Result<(), Error> {
    let invalid = |what: String| {
        Err(Error::Invalid(format!(
            "this append to {} cannot be stored: {what}",
            append.stream
        )))
    };
    if append.events.is_empty() {
        return invalid("it has no events".into());
    }
    if append.events.len() > MAX_EVENTS {
        return invalid(format!(
            "it has {} events; at most {MAX_EVENTS} go in together",
            append.events.len()
        ));
    }
    let size: usize = append.events.iter().map(bytes).sum();
    if size > MAX_BYTES {
        return invalid(format!(
            "it has {size} bytes; at most {MAX_BYTES} go in together"
        ));
    }
    for event in &append.events {
        let name = &event.type_name;
        if name.is_empty()
            || name.len() > MAX_TYPE_NAME
            || name.chars().any(|c| c == '.' || c.is_control())
        {
            return invalid(format!(
                "the type name {name:?} is empty, longer than {MAX_TYPE_NAME} bytes, or holds '.' or a control character"
            ));
        }
        for (what, text) in [("data", &event.data), ("metadata", &event.metadata)] {
            if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
                return invalid(format!("the {what} of {name} is not JSON: {error}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::{CommandId, EventId, StreamId};
    use uuid::Uuid;

    use super::*;
    use crate::Expected;

    fn append(type_name: &str, data: &str) -> Append {
        Append {
            stream: StreamId::parse("thing-1").unwrap(),
            expected: Expected::Any,
            command_id: CommandId(Uuid::nil()),
            events: vec![NewEvent {
                id: EventId(Uuid::nil()),
                type_name: type_name.into(),
                schema_version: 1,
                data: data.into(),
                metadata: "{}".into(),
            }],
        }
    }

    #[test]
    fn what_could_not_be_read_back_is_refused() {
        assert!(check(&append("ThingDone", "{}")).is_ok());
        for (name, data) in [
            ("", "{}"),
            ("Thing.Done", "{}"),
            ("ThingDone", "{"),
            ("ThingDone", "{\"a\":\"\u{0}\"}"),
        ] {
            assert!(check(&append(name, data)).is_err(), "{name:?} {data:?}");
        }
        assert!(
            check(&Append {
                events: vec![],
                ..append("ThingDone", "{}")
            })
            .is_err()
        );
    }
}
