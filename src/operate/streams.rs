//! `showcaller streams show STREAM`: the events of a stream, personal fields masked.

use anyhow::{Context, Result};
use events::{Ciphertext, RecordedEvent, StreamId, Version};
use serde_json::{Value, json};

use super::exit::Exit;
use super::out::Out;
use crate::config::Settings;
use crate::open;

const PAGE: usize = 1_000;
/// What stands in the place of a personal value.
const MASK: &str = "(personal)";

/// Prints a stream, oldest event first.
pub async fn show(settings: &Settings, stream: &str) -> Result<Exit> {
    let stream = StreamId::parse(stream)?;
    let store = open::events_to_read(settings).await?;
    let mut out = Out::new(settings.output);
    let mut version = Version::ZERO;
    loop {
        let events = store.read_stream(&stream, version, PAGE).await?;
        for event in &events {
            let shown = masked(event)?;
            out.record(&shown, || table(event, &shown))?;
            version = event.version;
        }
        if events.len() < PAGE {
            break;
        }
    }
    out.finish()?;
    store.close().await;
    if version == Version::ZERO {
        eprintln!("{stream} has no events");
        return Ok(Exit::Wrong);
    }
    Ok(Exit::Done)
}

fn table(event: &RecordedEvent, shown: &Value) -> String {
    let text = |path: &str| shown.pointer(path).and_then(Value::as_str).unwrap_or("-");
    format!(
        "{:>6}  position {:<8} {}  {}  by {}\n        {}",
        event.version.get(),
        event.position.get(),
        text("/metadata/recorded_at"),
        event.type_name,
        text("/metadata/actor"),
        shown["data"]
    )
}

fn masked(event: &RecordedEvent) -> Result<Value> {
    let broken = || {
        format!(
            "the event at position {} holds no valid JSON",
            event.position
        )
    };
    let mut data: Value = serde_json::from_str(&event.data).with_context(broken)?;
    let mut metadata: Value = serde_json::from_str(&event.metadata).with_context(broken)?;
    mask(&mut data);
    mask(&mut metadata);
    Ok(json!({
        "position": event.position,
        "stream": event.stream,
        "version": event.version,
        "id": event.id,
        "type": event.type_name,
        "schema_version": event.schema_version,
        "data": data,
        "metadata": metadata,
        "hash": event.hash,
    }))
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) if Ciphertext::parse(text).is_ok() => MASK.clone_into(text),
        Value::Array(list) => list.iter_mut().for_each(mask),
        Value::Object(map) => map.values_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphertext_is_masked_wherever_it_stands() {
        let mut value =
            json!({"a": ["enc1.k.s.e.f.payload", "open"], "b": {"c": "enc1.k.s.e.f.payload"}});
        mask(&mut value);
        assert_eq!(value, json!({"a": [MASK, "open"], "b": {"c": MASK}}));
    }
}
