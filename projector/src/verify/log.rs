//! The log on its own: versions without gaps and a sound hash chain in every stream, positions that rise (by one, where
//! the store promises that).
//!
//! Refuses: to be quiet after the first fault. It goes on from what is stored, so each fault is named once.

use std::collections::HashMap;

use events::{Hash, Position, RecordedEvent, StreamId, Version};

use super::LogReport;

pub(super) struct LogCheck {
    gapless: bool,
    position: Position,
    streams: HashMap<StreamId, (Version, Hash)>,
    report: LogReport,
}

impl LogCheck {
    pub(super) fn new(gapless: bool) -> Self {
        Self {
            gapless,
            position: Position::ZERO,
            streams: HashMap::new(),
            report: LogReport::default(),
        }
    }

    pub(super) fn take(&mut self, event: &RecordedEvent) {
        let RecordedEvent {
            position,
            stream,
            version,
            ..
        } = event;
        self.report.events += 1;
        let expected = self.position.get() + 1;
        if *position <= self.position || (self.gapless && position.get() != expected) {
            let last = self.position;
            self.report
                .problems
                .add(format!("position {position} follows position {last}"));
        }
        self.position = *position;
        let known = self.streams.get(stream).copied();
        let (last, hash) = known.unwrap_or_default();
        if *version != last.plus(1) {
            self.report.problems.add(format!(
                "position {position}: version {version} of {stream} follows version {last}"
            ));
        } else if event.hash != event.expected_hash(&hash) {
            self.report.problems.add(format!(
                "position {position}: the hash of {stream} version {version} is not that of what is stored"
            ));
        }
        match self.streams.get_mut(stream) {
            Some(known) => *known = (*version, event.hash),
            None => _ = self.streams.insert(stream.clone(), (*version, event.hash)),
        }
    }

    pub(super) fn finish(mut self) -> LogReport {
        self.report.streams = self.streams.len() as u64;
        self.report
    }
}

#[cfg(test)]
mod tests {
    use events::EventId;
    use uuid::Uuid;

    use super::*;

    fn log(streams: &[&str]) -> Vec<RecordedEvent> {
        let mut known: HashMap<&str, (u64, Hash)> = HashMap::new();
        let event = |(position, stream): (u64, &&'static str)| {
            let (version, hash) = known.entry(stream).or_default();
            *version += 1;
            let mut event = RecordedEvent {
                position: Position::new(position),
                stream: StreamId::parse(stream).unwrap(),
                version: Version::new(*version),
                id: EventId(Uuid::from_u128(position.into())),
                type_name: "Happened".into(),
                schema_version: 1,
                data: "{}".into(),
                metadata: "{}".into(),
                hash: Hash::ZERO,
            };
            event.hash = event.expected_hash(hash);
            *hash = event.hash;
            event
        };
        let streams: Vec<&'static str> = streams
            .iter()
            .map(|name| if *name == "a" { "a-1" } else { "b-1" })
            .collect();
        (1..).zip(&streams).map(event).collect()
    }

    fn problems(events: &[RecordedEvent], gapless: bool) -> Vec<String> {
        let mut check = LogCheck::new(gapless);
        for event in events {
            check.take(event);
        }
        check.finish().problems.first
    }

    #[test]
    fn a_sound_log_is_clean() {
        assert!(problems(&log(&["a", "b", "a", "a", "b"]), true).is_empty());
    }

    #[test]
    fn changed_bytes_a_missing_event_and_a_gap_are_named_once_each() {
        let mut changed = log(&["a", "b", "a", "a"]);
        changed[2].data = "{ }".into();
        assert_eq!(
            problems(&changed, true),
            ["position 3: the hash of a-1 version 2 is not that of what is stored"]
        );
        let mut missing = log(&["a", "b", "a", "a"]);
        missing.remove(2);
        assert_eq!(
            problems(&missing, true),
            [
                "position 4 follows position 2",
                "position 4: version 3 of a-1 follows version 1"
            ]
        );
        let sparse: Vec<_> = log(&["a", "b"])
            .into_iter()
            .map(|event| RecordedEvent {
                position: Position::new(event.position.get() * 100),
                ..event
            })
            .collect();
        assert!(problems(&sparse, false).is_empty());
        assert_eq!(problems(&sparse, true).len(), 2);
    }
}
