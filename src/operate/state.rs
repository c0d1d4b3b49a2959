//! The state of a stream after any of its versions: what its aggregate makes of the events, and the rows that each read
//! model would hold of this stream alone. It refuses to ask a database: both are folds of the log.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use command_api::Folding;
use event_store::EventStore;
use events::{RecordedEvent, StreamId, Version, partition_of};
use read_models::{Changes, EventPlace, ReadModel, Rows, fold};
use serde_json::{Map, Value, json};

use super::select::PAGE;

/// Makes an empty state for each category that has an aggregate.
pub type States = BTreeMap<&'static str, fn() -> Box<dyn Folding>>;

/// The state after a version (`None`: as it is now); `None` if the stream has not come that far.
pub async fn at(
    store: &dyn EventStore,
    states: &States,
    models: &[ReadModel],
    stream: &StreamId,
    version: Option<Version>,
) -> Result<Option<Value>> {
    let mut aggregate = states.get(stream.category()).map(|begin| begin());
    let mut read_models: Vec<(&ReadModel, Rows, Option<String>)> = models
        .iter()
        .filter(|model| model.takes(stream))
        .map(|model| (model, Rows::new(), None))
        .collect();
    let mut last: Option<RecordedEvent> = None;
    loop {
        let after = last.as_ref().map_or(Version::ZERO, |event| event.version);
        let mut events = store.read_stream(stream, after, PAGE).await?;
        let whole = events.len() >= PAGE;
        events.retain(|event| version.is_none_or(|version| event.version <= version));
        for event in &events {
            if let Some(aggregate) = &mut aggregate {
                aggregate.take(event)?;
            }
            for (model, rows, problem) in &mut read_models {
                if problem.is_none() {
                    *problem = project(store, model, rows, event)
                        .err()
                        .map(|error| error.to_string());
                }
            }
        }
        let ended = !whole || events.is_empty();
        last = events.pop().or(last);
        if ended {
            break;
        }
    }
    let Some(last) = last else { return Ok(None) };
    if version.is_some_and(|version| last.version < version) {
        return Ok(None);
    }
    let mut held = Map::new();
    for (model, rows, problem) in read_models {
        let rows: Vec<Value> = shown(model, &rows);
        let value = match problem {
            Some(problem) => json!({ "parked": problem, "rows": rows }),
            None => rows.into(),
        };
        held.insert(model.name.clone(), value);
    }
    Ok(Some(json!({
        "stream": stream,
        "version": last.version,
        "position": last.position,
        "state": aggregate.map_or(Value::Null, |aggregate| aggregate.shown()),
        "read_models": held,
    })))
}

fn project(
    store: &dyn EventStore,
    model: &ReadModel,
    rows: &mut Rows,
    event: &RecordedEvent,
) -> Result<()> {
    let mut changes = Changes::new(model);
    (model.project)(event, &mut changes).map_err(|error| anyhow!("{error}"))?;
    changes.keys().for_each(|key| rows.or_absent(key));
    let partition = partition_of(&event.stream, store.identity().partitions);
    let place = EventPlace::of(partition, event);
    fold(rows, changes, place).map_err(|error| anyhow!("{error}"))
}

fn shown(model: &ReadModel, rows: &Rows) -> Vec<Value> {
    let mut shown: Vec<_> = rows
        .clone()
        .into_iter()
        .filter_map(|(key, row)| row.map(|row| (key, row)))
        .collect();
    shown.sort_by(|(a, _), (b, _)| a.cmp(b));
    let object = |(key, row): (read_models::RowKey, read_models::Row)| {
        let columns = model.key.iter().chain(&model.columns);
        let values = key.into_iter().chain(row.values);
        columns
            .zip(values)
            .map(|(column, value)| (column.name.clone(), json!(value)))
            .collect::<Map<_, _>>()
            .into()
    };
    shown.into_iter().map(object).collect()
}

/// What differs between two values: by JSON pointer (RFC 6901), what stood there and what stands there.
pub fn differences(before: &Value, after: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    found
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Value>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let part = name.replace('~', "~0").replace('/', "~1");
                let (a, b) = (a.get(name), b.get(name));
                compare(
                    &format!("{path}/{part}"),
                    a.unwrap_or(&Value::Null),
                    b.unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                compare(
                    &format!("{path}/{index}"),
                    a.get(index).unwrap_or(&Value::Null),
                    b.get(index).unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        _ if before == after => {}
        _ => found.push(json!({"path": path, "before": before, "after": after})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_their_path() {
        let before = json!({"a": {"b/c": [1, 2]}, "same": 1});
        let after = json!({"a": {"b/c": [1, 3, 4]}, "same": 1, "new": true});
        assert_eq!(
            differences(&before, &after),
            [
                json!({"path": "/a/b~1c/1", "before": 2, "after": 3}),
                json!({"path": "/a/b~1c/2", "before": null, "after": 4}),
                json!({"path": "/new", "before": null, "after": true}),
            ]
        );
    }
}
