//! Looking for what few ask for: which streams there are, by their last events, and an event by its id. The bounds of walks
//! for stores with indexes, and scans of the whole log for those without. It refuses to hold more than was asked for.

use std::collections::BTreeMap;

use events::{EventId, Position, RecordedEvent, StreamId};

use crate::{Error, EventStore, Filter};

/// Events read at once by a scan.
const PAGE: usize = 5_000;
/// The longest name of a stream has fewer bytes than 64 times this has.
const LAST: char = '\u{10FFFF}';

/// Names strictly between these two are asked for.
pub(crate) fn bounds(category: Option<&str>, after: Option<&StreamId>) -> (String, String) {
    let (first, end) = match category {
        // In the order of bytes '.' comes right after '-', and a name holds something after its '-'.
        Some(category) => (format!("{category}-"), format!("{category}.")),
        None => (String::new(), LAST.to_string().repeat(64)),
    };
    let after = after.map_or("", StreamId::as_str);
    (first.max(after.to_owned()), end)
}

/// The last event of each stream, found by reading the whole log.
pub(crate) async fn scan<S: EventStore + ?Sized>(
    store: &S,
    category: Option<&str>,
    after: Option<&StreamId>,
    limit: usize,
) -> Result<Vec<RecordedEvent>, Error> {
    let (begin, end) = bounds(category, after);
    let filter = Filter {
        categories: category.map(str::to_owned).into_iter().collect(),
        ..Filter::default()
    };
    let mut found: BTreeMap<StreamId, RecordedEvent> = BTreeMap::new();
    let mut position = Position::ZERO;
    loop {
        let page = store.read_all(position, &filter, PAGE).await?;
        for event in page.events {
            let name = event.stream.as_str();
            if name > begin.as_str() && name < end.as_str() {
                found.insert(event.stream.clone(), event);
                if found.len() > limit {
                    found.pop_last();
                }
            }
        }
        if page.through <= position {
            return Ok(found.into_values().collect());
        }
        position = page.through;
    }
}

/// The event with an id, found by reading the log from its beginning.
pub(crate) async fn find<S: EventStore + ?Sized>(
    store: &S,
    id: EventId,
) -> Result<Option<RecordedEvent>, Error> {
    let mut position = Position::ZERO;
    loop {
        let page = store.read_all(position, &Filter::default(), PAGE).await?;
        let found = page.events.into_iter().find(|event| event.id == id);
        if found.is_some() || page.through <= position {
            return Ok(found);
        }
        position = page.through;
    }
}

/// How many positions one statement looks at for an id.
const LOOKED_AT: u64 = 200_000;

/// Ranges of positions that go from a head back to the first event, each after one position and up to another.
pub(crate) fn backwards(head: Position) -> impl Iterator<Item = (Position, Position)> {
    std::iter::successors(Some(head.get()), |end| Some(end.saturating_sub(LOOKED_AT)))
        .take_while(|end| *end > 0)
        .map(|end| {
            let after = end.saturating_sub(LOOKED_AT);
            (Position::new(after), Position::new(end))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_category_lie_between_its_bounds_and_no_others() {
        let (begin, end) = bounds(Some("account"), None);
        for name in ["account-1", "account-\u{10FFFF}", "account--"] {
            assert!(name > begin.as_str() && name < end.as_str(), "{name}");
        }
        for name in ["accounts-1", "accoun-1", "account_x-1"] {
            assert!(name < begin.as_str() || name > end.as_str(), "{name}");
        }
        let after = StreamId::parse("account-5").unwrap();
        assert_eq!(bounds(Some("account"), Some(&after)).0, "account-5");
        assert!(bounds(None, None).1 > "\u{10FFFF}".repeat(62));
    }
}
