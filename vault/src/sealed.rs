//! What the vault's own rows hold about a person: sealed under that person's data key, for one row of one table.
//!
//! Refuses: to open it in another row or table. Without the data key it is noise, so an erasure reaches every copy.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::data_key::DataKey;
use crate::error::{Error, KeyError};
use crate::vault::Vault;

impl DataKey {
    /// Seals a value for a row.
    pub(crate) fn seal_row(&self, table: &str, row: Uuid, value: &Value) -> Vec<u8> {
        self.seal_bytes(&self.context(table, row), value)
    }

    /// Opens what was sealed for a row.
    pub(crate) fn open_row(&self, table: &str, row: Uuid, sealed: Vec<u8>) -> Result<Value, Error> {
        self.open_bytes(&self.context(table, row), sealed)
            .map_err(|error| Error::Invalid(format!("{table}, row {row}: {error}")))
    }

    fn context(&self, table: &str, row: Uuid) -> String {
        format!("row1.{}.{table}.{row}", self.person())
    }
}

impl Vault {
    /// A person's data key, or `None` when they were erased. A key that is missing is a fault.
    pub(crate) async fn key_unless_erased(
        &self,
        person: Uuid,
    ) -> Result<Option<Arc<DataKey>>, Error> {
        match self.data_key(person).await {
            Ok(key) => Ok(Some(key)),
            Err(KeyError::Erased) => Ok(None),
            Err(error) => Err(error.into_fault(person)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_opens_in_its_place_under_its_key_alone() {
        let (person, row) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let key = DataKey::new(person, &[7; 32]);
        let value = json!({"address": "ada@example.org"});
        let sealed = key.seal_row("outbox", row, &value);
        assert_eq!(key.open_row("outbox", row, sealed.clone()).unwrap(), value);
        assert!(key.open_row("sessions", row, sealed.clone()).is_err());
        assert!(key.open_row("outbox", person, sealed.clone()).is_err());
        assert!(key.open_row("outbox", row, sealed[..9].to_vec()).is_err());
        let other = DataKey::new(person, &[8; 32]);
        assert!(other.open_row("outbox", row, sealed).is_err());
    }
}
