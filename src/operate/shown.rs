//! Events for operators' eyes: as JSON, and as lines. What is personal is masked, unless it was opened on the record
//! ([`super::reveal`]).

use anyhow::{Context, Result};
use events::{Ciphertext, RecordedEvent};
use serde_json::{Value, json};
use vault::{Opened, Vault};

use super::out::Out;

/// What stands in the place of a personal value.
pub const MASK: &str = "(personal)";
/// What stands in the place of an erased person's value.
const ERASED: &str = "(erased)";

/// How personal values are looked at.
pub enum Eyes {
    /// Not at all.
    Masked,
    /// With the keys.
    Open(Box<Vault>),
}

impl Eyes {
    /// Prints events, oldest first.
    pub async fn print(&self, out: &mut Out, events: &[RecordedEvent]) -> Result<()> {
        for (event, object) in events.iter().zip(self.look(events).await?) {
            out.record(&object, || line(event, &object))?;
        }
        Ok(())
    }

    /// Events as objects.
    pub async fn look(&self, events: &[RecordedEvent]) -> Result<Vec<Value>> {
        let mut objects = events.iter().map(object).collect::<Result<Vec<_>>>()?;
        self.see(&mut objects).await?;
        Ok(objects)
    }

    /// Puts what may be seen in the place of every ciphertext.
    pub async fn see(&self, values: &mut [Value]) -> Result<()> {
        let mut found = Vec::new();
        for value in values.iter_mut() {
            each(value, &mut |text| {
                if let Ok(ciphertext) = Ciphertext::parse(text) {
                    found.push(ciphertext);
                }
                None
            });
        }
        let mut opened = match self {
            Self::Open(vault) => vault.open_many(&found).await?,
            Self::Masked => vec![],
        }
        .into_iter();
        for value in values {
            each(value, &mut |text| {
                Ciphertext::parse(text).ok()?;
                Some(match (self, opened.next()) {
                    (Self::Open(_), Some(Opened::Plain(plain))) => plain,
                    (Self::Open(_), _) => ERASED.into(),
                    (Self::Masked, _) => MASK.into(),
                })
            });
        }
        Ok(())
    }
}

/// Visits every text, in the same order each time, and replaces it by what `visit` gives.
fn each(value: &mut Value, visit: &mut impl FnMut(&str) -> Option<Value>) {
    match value {
        Value::String(text) => {
            if let Some(new) = visit(text) {
                *value = new;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| each(value, visit)),
        Value::Object(map) => map.values_mut().for_each(|value| each(value, visit)),
        _ => {}
    }
}

fn object(event: &RecordedEvent) -> Result<Value> {
    let broken = || {
        format!(
            "the event at position {} holds no valid JSON",
            event.position
        )
    };
    let data: Value = serde_json::from_str(&event.data).with_context(broken)?;
    let metadata: Value = serde_json::from_str(&event.metadata).with_context(broken)?;
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

/// An event in two lines.
pub fn line(event: &RecordedEvent, object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("-");
    format!(
        "{:>8}  {}  {} {}  {}  by {}\n          {}",
        event.position.get(),
        text("/metadata/recorded_at"),
        event.stream,
        event.version,
        event.type_name,
        text("/metadata/actor"),
        object["data"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ciphertext_is_masked_wherever_it_stands() {
        let mut values =
            [json!({"a": ["enc1.k.s.e.f.payload", "open"], "b": {"c": "enc1.k.s.e.f.payload"}})];
        Eyes::Masked.see(&mut values).await.unwrap();
        assert_eq!(values, [json!({"a": [MASK, "open"], "b": {"c": MASK}})]);
    }
}
