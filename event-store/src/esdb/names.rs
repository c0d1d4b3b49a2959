//! What streams are called on the server. One server may hold several logs: those of a named one begin with its name. It
//! refuses names that could be taken for another's.

use std::borrow::Cow;

use ::eventstore::SubscriptionFilter;

use crate::envelope::KEY;
use crate::{Error, Filter};

/// Parts a log's name from its streams' names, and begins those of the adapter's own records. No category may hold it.
pub(super) const MARK: char = '~';
/// The longest name of a log.
const LONGEST: usize = 40;

/// The names of one log's streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// What they begin with: nothing, or the log's name and [`MARK`].
    prefix: String,
    /// Under which key of the user metadata their events carry envelopes. Each log has its own, so that a log which
    /// Showcaller serves can hold others as somebody else's events.
    key: String,
}

impl Names {
    /// Those of the log of this name, or of the server's one log without a name.
    pub(super) fn new(log: Option<&str>) -> Result<Self, Error> {
        let Some(log) = log else {
            return Ok(Self {
                prefix: String::new(),
                key: KEY.to_owned(),
            });
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if log.is_empty() || log.len() > LONGEST || !log.chars().all(plain) {
            return Err(Error::Invalid(format!(
                "the log's name in the event store's URL (log=NAME) must be 1 to {LONGEST} lowercase letters, digits and \
                 underscores"
            )));
        }
        Ok(Self {
            prefix: format!("{log}{MARK}"),
            key: format!("{KEY}{MARK}{log}"),
        })
    }

    /// What a stream is called on the server.
    pub(super) fn there<'a>(&self, stream: &'a str) -> Cow<'a, str> {
        if self.prefix.is_empty() {
            return Cow::Borrowed(stream);
        }
        Cow::Owned(format!("{}{stream}", self.prefix))
    }

    /// What a stream of the server is called in this log; `None` if it belongs to another, or holds a record.
    pub(super) fn here<'a>(&self, there: &'a str) -> Option<&'a str> {
        let name = there.strip_prefix(&self.prefix)?;
        let category = name.split_once('-').map_or(name, |(category, _)| category);
        (!category.contains(MARK)).then_some(name)
    }

    /// Under which key of the user metadata events carry envelopes.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Lets the events of this log pass that a filter may want: neither those of other logs, nor EventStoreDB's own, nor
    /// the adapter's records.
    pub(super) fn filter(&self, filter: &Filter) -> SubscriptionFilter {
        let streams = SubscriptionFilter::on_stream_name();
        if filter.categories.is_empty() {
            return streams.regex(format!("^{}[^$~-][^~-]*-", self.prefix));
        }
        let add = |streams: SubscriptionFilter, category: &String| {
            streams.add_prefix(format!("{}{category}-", self.prefix))
        };
        filter.categories.iter().fold(streams, add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_knows_its_own_streams_and_no_others() {
        let (unnamed, blue) = (Names::new(None).unwrap(), Names::new(Some("blue")).unwrap());
        for (there, in_unnamed, in_blue) in [
            ("seats-1", Some("seats-1"), None),
            ("seats-~1~", Some("seats-~1~"), None),
            ("blue~seats-1-2", None, Some("seats-1-2")),
            ("blue~~showcaller_log-identity", None, None),
            ("~showcaller_log-identity", None, None),
            ("deepblue~seats-1", None, None),
        ] {
            assert_eq!(unnamed.here(there), in_unnamed, "{there}");
            assert_eq!(blue.here(there), in_blue, "{there}");
        }
        assert_eq!(unnamed.there("seats-1"), "seats-1");
        assert_eq!(blue.there("seats-1"), "blue~seats-1");
        for wrong in ["", "Blue", "a~b", "a-b", "ü", &"x".repeat(41)] {
            assert!(Names::new(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
