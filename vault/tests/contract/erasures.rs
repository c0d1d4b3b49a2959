//! Erasures: what is gone, from the files too, the ledger that outlives a restored backup, and what just expires.

use std::time::Duration;

use secrecy::ExposeSecret;
use test_support::files_containing;
use tokio::task::JoinSet;
use uuid::Uuid;
use vault::{Entry, ErasureLedger, Error, Purpose, Seen, Settled, Vault};

use super::support::{Place, at, challenge, id, intent, new_session, on_both};

const DAY: i64 = 24 * 60 * 60;

/// The ledger that belongs to a place; in PostgreSQL, a schema of its own beside the vault's.
async fn ledger(place: &Place) -> ErasureLedger {
    ErasureLedger::open(&ledger_url(place)).await.unwrap()
}

fn ledger_url(place: &Place) -> String {
    place.url.replace("vault.db", "erasures.db")
}

async fn erased(vault: &Vault, account: u128) -> bool {
    matches!(
        vault.data_key(id(account)).await,
        Err(vault::KeyError::Erased)
    )
}

async fn listed(ledger: &ErasureLedger) -> Vec<(i64, Uuid)> {
    let entries = ledger.entries(0, 1_000).await.unwrap();
    entries
        .iter()
        .map(|entry| (entry.seq, entry.account))
        .collect()
}

on_both! {
    async fn nothing_of_an_erased_person_is_left_but_sessions_and_intents(place: Place) {
        let vault = place.open().await;
        for account in 1..=2 {
            vault.create_data_key(id(account)).await.unwrap();
            vault.store_credential(id(account), id(account), "phc").await.unwrap();
            vault.claim_pending([1; 32], id(account), at(0)).await.unwrap();
            vault.enqueue_mail(id(account), &serde_json::json!("mail"), at(0)).await.unwrap();
            vault.enroll_totp(id(account)).await.unwrap();
            vault.store_api_key(id(account), id(account), &[], at(DAY)).await.unwrap();
            let mut new = new_session(account, account);
            new.seen = Seen { device: Some("phone".into()), address: None };
            vault.begin_session(new).await.unwrap();
            vault.begin_intent(&intent(account)).await.unwrap();
        }
        let hash = place.either("x'00'", "''");
        place.sql(&format!("INSERT INTO recovery_codes SELECT account, {hash} FROM second_factors")).await;
        let verify = challenge(&vault, 1, Purpose::VerifyEmail, [1; 32]).await;
        let reset = challenge(&vault, 1, Purpose::ResetPassword, [1; 32]).await;
        let kept = challenge(&vault, 2, Purpose::VerifyEmail, [1; 32]).await;

        vault.erase_person(id(1), at(1)).await.unwrap();
        assert_eq!(vault.settle_claim(&verify, &intent(9)).await.unwrap(), Settled::Used);
        assert!(!vault.settle_reset(&reset, id(9), "phc", &intent(9)).await.unwrap());
        assert_eq!(vault.open_sessions(id(1), at(2)).await.unwrap().len(), 1);
        for (table, left) in [
            ("challenges", 1), ("credentials", 1), ("claims", 1), ("outbox", 1), ("second_factors", 1),
            ("recovery_codes", 1), ("api_keys", 1), ("sessions", 2), ("sessions WHERE seen IS NOT NULL", 1),
            ("intents", 2),
        ] {
            assert_eq!(place.count(table).await, left, "{table}");
        }
        assert_eq!(vault.settle_claim(&kept, &intent(8)).await.unwrap(), Settled::Verified);
    }

    async fn a_challenge_that_outlived_an_erasure_settles_nothing(place: Place) {
        let vault = place.open().await;
        vault.create_data_key(id(1)).await.unwrap();
        vault.erase_person(id(1), at(0)).await.unwrap();
        let verify = challenge(&vault, 1, Purpose::VerifyEmail, [1; 32]).await;
        let reset = challenge(&vault, 1, Purpose::ResetPassword, [1; 32]).await;
        assert_eq!(vault.settle_claim(&verify, &intent(9)).await.unwrap(), Settled::Used);
        assert!(!vault.settle_reset(&reset, id(9), "phc", &intent(9)).await.unwrap());
        assert_eq!(vault.claims([1; 32]).await.unwrap().verified, None);
        assert!(vault.credential(id(9)).await.unwrap().is_none());
    }

    async fn the_ledger_lists_each_erasure_once_without_gaps(place: Place) {
        let (one, other) = (ledger(&place).await, ledger(&place).await);
        let mut tasks = JoinSet::new();
        for index in 0..40 {
            let ledger = if index % 2 == 0 { one.clone() } else { other.clone() };
            tasks.spawn(async move { ledger.record(id(index / 2), at(0)).await.unwrap() });
        }
        tasks.join_all().await;
        one.record(id(3), at(9)).await.unwrap();
        let entries = one.entries(0, 1_000).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
        let mut accounts: Vec<_> = entries.iter().map(|entry| entry.account).collect();
        accounts.sort_unstable();
        assert_eq!(accounts, (0..20).map(id).collect::<Vec<_>>());
        assert!(entries.iter().all(|entry| entry.recorded_at == at(0)));
        assert_eq!(other.entries(17, 2).await.unwrap(), entries[17..19]);
        assert!(other.holds(id(19)).await.unwrap() && !other.holds(id(20)).await.unwrap());
    }

    async fn a_reader_of_the_ledger_misses_nothing_while_many_record(place: Place) {
        let (writer, reader) = (ledger(&place).await, ledger(&place).await);
        let mut tasks = JoinSet::new();
        for task in 0..6 {
            let writer = writer.clone();
            tasks.spawn(async move {
                for number in 0..20 {
                    writer.record(id(task * 100 + number), at(0)).await.unwrap();
                }
            });
        }
        let mut seen: Vec<Entry> = Vec::new();
        let mut done = false;
        while !done {
            while let Some(ended) = tasks.try_join_next() {
                ended.unwrap();
            }
            done = tasks.is_empty();
            let after = seen.last().map_or(0, |entry| entry.seq);
            seen.extend(reader.entries(after, 1_000).await.unwrap());
        }
        assert_eq!(seen.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=120).collect::<Vec<_>>());
    }

    async fn a_ledger_outlives_its_process_and_a_newer_one_is_refused(place: Place) {
        ledger(&place).await.record(id(1), at(0)).await.unwrap();
        assert_eq!(listed(&ledger(&place).await).await, [(1, id(1))]);
        place.ledger_sql("UPDATE format SET version = 7").await;
        let error = ErasureLedger::open(&ledger_url(&place)).await.unwrap_err().to_string();
        assert!(error.contains("a showcaller that knows erasure ledger format 7"), "{error}");
    }

    async fn eight_that_open_an_empty_ledger_at_once_all_succeed(place: Place) {
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let url = ledger_url(&place);
            tasks.spawn(async move { ErasureLedger::open(&url).await.unwrap() });
        }
        for ledger in tasks.join_all().await {
            ledger.record(id(1), at(0)).await.unwrap();
        }
    }

    async fn a_restored_vault_erases_again_whom_the_ledger_lists(place: Place) {
        let (vault, ledger) = (place.open().await, ledger(&place).await);
        for account in 1..=4 {
            vault.create_data_key(id(account)).await.unwrap();
        }
        ledger.record(id(1), at(0)).await.unwrap();
        assert_eq!(vault.apply_ledger(&ledger, at(0)).await.unwrap(), [id(1)]);
        place.keep_backup().await;
        ledger.record(id(2), at(1)).await.unwrap();
        ledger.record(id(3), at(1)).await.unwrap();
        // One as it goes usually, one that a process died over.
        vault.erase_person(id(2), at(1)).await.unwrap();
        assert_eq!(vault.apply_ledger(&ledger, at(2)).await.unwrap(), [id(3)]);
        assert!(vault.apply_ledger(&ledger, at(3)).await.unwrap().is_empty());
        drop(vault);

        place.restore_backup().await;
        let vault = place.open().await;
        assert!(erased(&vault, 1).await && !erased(&vault, 2).await && !erased(&vault, 3).await);
        assert_eq!(vault.apply_ledger(&ledger, at(4)).await.unwrap(), [id(2), id(3)]);
        assert!(erased(&vault, 2).await && erased(&vault, 3).await && !erased(&vault, 4).await);
        assert!(place.open().await.apply_ledger(&ledger, at(5)).await.unwrap().is_empty());
    }

    async fn a_ledger_that_forgot_erasures_is_refused_saying_what_to_do(place: Place) {
        let (vault, ledger) = (place.open().await, ledger(&place).await);
        for account in 1..=2 {
            ledger.record(id(account), at(0)).await.unwrap();
        }
        vault.apply_ledger(&ledger, at(0)).await.unwrap();
        let folder = test_support::temp_dir();
        let lost = ErasureLedger::open(&format!("sqlite:{}/erasures.db", folder.path().display())).await.unwrap();
        lost.record(id(5), at(0)).await.unwrap();
        let error = vault.apply_ledger(&lost, at(1)).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        let error = error.to_string();
        assert!(error.contains("applied 2 erasures") && error.contains("holds 1"), "{error}");
        assert!(error.contains("restore it from its newest backup"), "{error}");
        assert!(!erased(&vault, 5).await);
    }

    async fn a_long_ledger_is_applied_whole(place: Place) {
        let (vault, ledger) = (place.open().await, ledger(&place).await);
        place.ledger_sql(place.either(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1005) \
             INSERT INTO erasures SELECT i, unhex(printf('%032x', i)), 0 FROM n; UPDATE ledger SET head = 1005",
            "INSERT INTO erasures SELECT i, lpad(to_hex(i), 32, '0')::uuid, 0 FROM generate_series(1, 1005) i; \
             UPDATE ledger SET head = 1005",
        )).await;
        let applied = vault.apply_ledger(&ledger, at(0)).await.unwrap();
        assert_eq!(applied, (1..=1005).map(id).collect::<Vec<_>>());
    }

    async fn what_expired_is_forgotten_in_its_time_and_nothing_else(place: Place) {
        let vault = place.open().await;
        let minute = Duration::from_mins(1);
        vault.issue_challenge(id(1), Purpose::VerifyEmail, None, at(0)).await.unwrap();
        vault.note_failure([1; 32], at(0)).await.unwrap();
        vault.count_rate([1; 32], minute, at(0)).await.unwrap();
        vault.store_api_key(id(1), id(1), &[], at(0)).await.unwrap();
        let token = vault.begin_session(new_session(1, 1)).await.unwrap();
        vault.begin_intent(&intent(1)).await.unwrap();
        for (table, last_second) in [
            ("rates", 59), ("challenges", 599), ("throttles", DAY - 1), ("sessions", 1_000 + DAY - 1),
            ("api_keys", 30 * DAY - 1),
        ] {
            assert_eq!(vault.forget_expired(at(last_second)).await.unwrap(), 0, "{table}");
            assert_eq!(place.count(table).await, 1, "{table}");
            assert_eq!(vault.forget_expired(at(last_second + 1)).await.unwrap(), 1, "{table}");
            assert_eq!(place.count(table).await, 0, "{table}");
        }
        assert_eq!(place.count("intents").await, 1, "never dropped");
        let refused = vault.refresh(token.expose_secret(), &Seen::default(), at(1)).await;
        assert!(matches!(refused, Err(vault::RefreshError::Refused(vault::RefreshRefusal::Unknown))));
    }

    async fn a_call_forgets_a_thousand_rows_of_a_table(place: Place) {
        let vault = place.open().await;
        place.sql(place.either(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1005) \
             INSERT INTO rates (key, count, ends_at_ms) SELECT unhex(printf('%064x', i)), 1, i FROM n",
            "INSERT INTO rates SELECT decode(lpad(to_hex(i), 64, '0'), 'hex'), 1, i FROM generate_series(1, 1005) i",
        )).await;
        assert_eq!(vault.forget_expired(at(0)).await.unwrap(), 1_000);
        assert_eq!(place.count("rates WHERE ends_at_ms > 1000").await, 5, "the oldest first");
        assert_eq!(vault.forget_expired(at(0)).await.unwrap(), 5);
    }
}

/// A person's wrapped key, as it stands in the file.
async fn wrapped(place: &Place, person: u128) -> Vec<u8> {
    use sqlx::Connection;
    let mut connection = sqlx::SqliteConnection::connect(&place.url).await.unwrap();
    let wrapped = sqlx::query_scalar("SELECT wrapped FROM data_keys WHERE person = $1")
        .bind(id(person))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    wrapped
}

#[tokio::test]
async fn sqlites_files_hold_no_erased_key() {
    let place = Place::sqlite();
    let (vault, other) = (place.open().await, place.open().await);
    let ledger = ledger(&place).await;
    let folder = place.folder().unwrap();
    for person in 1..=300 {
        vault.create_data_key(id(person)).await.unwrap();
    }
    let mut keys = Vec::new();
    for person in [1, 2, 150, 151, 299, 300] {
        let key = wrapped(&place, person).await;
        assert!(
            !files_containing(folder, &key).is_empty(),
            "it is looked for rightly"
        );
        other.data_key(id(person)).await.unwrap();
        keys.push((person, key));
    }
    let kept = wrapped(&place, 152).await;
    for (person, key) in &keys[..4] {
        vault.erase_person(id(*person), at(0)).await.unwrap();
        assert!(files_containing(folder, key).is_empty(), "{person}");
    }
    for (person, _) in &keys[4..] {
        ledger.record(id(*person), at(0)).await.unwrap();
    }
    other.apply_ledger(&ledger, at(0)).await.unwrap();
    for (person, key) in &keys {
        assert!(files_containing(folder, key).is_empty(), "{person}");
    }
    assert!(!files_containing(folder, &kept).is_empty());
}

#[tokio::test]
async fn a_wrong_ledger_url_is_refused_with_what_to_write() {
    for (url, hint) in [
        ("redis://x", "--erasure-ledger wants"),
        ("sqlite::memory:", "write a file"),
        (
            "postgres://u:canary-secret@h:notaport/d",
            "--erasure-ledger is no",
        ),
    ] {
        let error = ErasureLedger::open(url).await.unwrap_err();
        assert!(
            matches!(error, Error::Invalid(_)) && error.to_string().contains(hint),
            "{error}"
        );
        assert!(!error.to_string().contains("canary-secret"));
    }
}
