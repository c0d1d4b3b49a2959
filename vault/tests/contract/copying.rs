//! A vault as rows: out of one, into another, of either kind.

use serde_json::Value;
use uuid::Uuid;
use vault::{Error, Purpose, Vault};

use crate::contract::support::{Place, at, on_both};

const ADA: Uuid = Uuid::from_u128(0xada);
const BOB: Uuid = Uuid::from_u128(0xb0b);

async fn rows(vault: &Vault) -> Vec<Value> {
    let mut rows = Vec::new();
    let take = |row| -> Result<(), Error> {
        rows.push(row);
        Ok(())
    };
    vault.copy_out(take).await.expect("it is copied");
    rows
}

on_both! {
    async fn a_vault_moves_whole_into_an_empty_one_of_either_kind(place: Place) {
        let from = place.open().await;
        from.create_data_key(ADA).await.expect("a key");
        from.create_data_key(BOB).await.expect("a key");
        from.erase_person(BOB, at(0)).await.expect("erased");
        from.store_credential(Uuid::from_u128(1), ADA, "phc").await.expect("stored");
        from.issue_challenge(ADA, Purpose::VerifyEmail, Some([7; 32]), at(0)).await.expect("issued");
        let copied = rows(&from).await;
        assert!(copied.iter().all(|row| row["table"] != "format"));
        for mut other in [Place::sqlite(), Place::postgres().await] {
            other.keys = place.keys.clone();
            let into = other.open().await;
            assert!(into.is_empty().await.expect("answered"));
            let given = copied.iter().cloned().map(Ok::<_, Error>);
            let count = into.copy_in(given).await.expect("it is taken");
            assert_eq!(count, copied.len() as u64);
            assert_eq!(rows(&into).await, copied);
            assert!(into.data_key(ADA).await.is_ok(), "the key opens here");
            assert!(into.data_key(BOB).await.is_err(), "who was erased stays so");
            let again = into.copy_in(copied.iter().cloned().map(Ok::<_, Error>)).await;
            assert!(again.unwrap_err().to_string().contains("not empty"));
        }
    }

    async fn half_a_copy_leaves_nothing(place: Place) {
        let vault = place.open().await;
        let good = serde_json::json!({"table": "recovery_codes", "row": {"account": ADA, "hash": "AAAA"}});
        let bad = serde_json::json!({"table": "recovery_codes", "row": {"account": "nobody", "hash": "AAAA"}});
        let taken = vault.copy_in([Ok::<_, Error>(good), Ok(bad)]).await;
        assert!(taken.is_err());
        assert!(vault.is_empty().await.expect("answered"));
    }
}
