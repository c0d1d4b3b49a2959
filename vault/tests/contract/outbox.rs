//! Mail on its way: sent once by one of many, tried again for a day, and gone with its person.

use std::collections::HashSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;
use vault::{Enqueued, KeyError, Outgoing, Vault};

use super::support::{at, id, on_both};

const DAY: i64 = 24 * 60 * 60;

fn content(number: u64) -> Value {
    json!({"to": "canary@example.org", "code": number})
}

async fn enqueue(vault: &Vault, account: u128, number: u64, seconds: i64) -> Uuid {
    match vault
        .enqueue_mail(id(account), &content(number), at(seconds))
        .await
        .unwrap()
    {
        Enqueued::Waiting(mail) => mail,
        Enqueued::Full => panic!("as many as may wait are waiting"),
    }
}

async fn due(vault: &Vault, seconds: i64) -> Vec<Outgoing> {
    let due = vault.due_mail(at(seconds), 100).await.unwrap();
    assert_eq!(due.given_up, 0);
    due.mail
}

on_both! {
    async fn a_mail_is_handed_out_at_once_and_again_when_nobody_says_it_was_sent(place: Place) {
        let (vault, other) = (place.open().await, place.open().await);
        vault.create_data_key(id(1)).await.unwrap();
        let mail = enqueue(&vault, 1, 7, 0).await;
        let mut expected = Outgoing { id: mail, account: id(1), content: content(7), tries: 0 };
        assert_eq!(due(&other, 0).await, [expected.clone()]);
        assert!(due(&vault, 59).await.is_empty(), "it is being sent");
        expected.tries = 1;
        assert_eq!(due(&vault, 60).await, [expected]);
        vault.mail_sent(mail).await.unwrap();
        assert!(due(&vault, 1_000).await.is_empty());
    }

    async fn a_mail_that_fails_waits_twice_as_long_each_time_and_is_given_up_after_a_day(place: Place) {
        let vault = place.open().await;
        vault.create_data_key(id(1)).await.unwrap();
        let mail = enqueue(&vault, 1, 7, 0).await;
        let mut now = 0;
        for pause in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert_eq!(due(&vault, now).await.len(), 1);
            vault.mail_failed(mail, at(now)).await.unwrap();
            assert!(due(&vault, now + pause - 1).await.is_empty());
            now += pause;
        }
        assert_eq!(due(&vault, DAY - 1).await.len(), 1);
        enqueue(&vault, 1, 8, DAY).await;
        let last = vault.due_mail(at(DAY), 100).await.unwrap();
        assert_eq!((last.given_up, last.mail.len(), &last.mail[0].content), (1, 1, &content(8)));
        assert_eq!(vault.due_mail(at(DAY + 100), 100).await.unwrap().given_up, 0);
    }

    async fn twenty_wait_for_an_account_and_no_more_however_many_come_at_once(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        one.create_data_key(id(1)).await.unwrap();
        one.create_data_key(id(2)).await.unwrap();
        let mut tasks = JoinSet::new();
        for number in 0..30 {
            let vault = if number % 2 == 0 { one.clone() } else { other.clone() };
            tasks.spawn(async move { vault.enqueue_mail(id(1), &content(number), at(0)).await.unwrap() });
        }
        let full = tasks.join_all().await.into_iter().filter(|enqueued| *enqueued == Enqueued::Full).count();
        assert_eq!(full, 10);
        enqueue(&one, 2, 1, 0).await;
        let mail = due(&one, 0).await;
        assert_eq!(mail.len(), 21);
        let sent = mail.iter().find(|mail| mail.account == id(1)).unwrap();
        one.mail_sent(sent.id).await.unwrap();
        enqueue(&one, 1, 99, 1).await;
    }

    async fn two_processes_share_no_mail(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        for account in 0..10 {
            one.create_data_key(id(account)).await.unwrap();
            for number in 0..10 {
                enqueue(&one, account, number, 0).await;
            }
        }
        let mut tasks = JoinSet::new();
        for index in 0..8 {
            let vault = if index % 2 == 0 { one.clone() } else { other.clone() };
            tasks.spawn(async move {
                let mut taken = Vec::new();
                for _ in 0..20 {
                    let due = vault.due_mail(at(1), 3).await.unwrap().mail;
                    assert!(due.len() <= 3);
                    taken.extend(due.iter().map(|mail| mail.id));
                }
                taken
            });
        }
        let taken: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!((taken.len(), taken.into_iter().collect::<HashSet<_>>().len()), (100, 100));
    }

    async fn mail_of_the_erased_is_gone_and_none_comes_after(place: Place) {
        let vault = place.open().await;
        for account in 1..=3 {
            vault.create_data_key(id(account)).await.unwrap();
            enqueue(&vault, account, account as u64, 0).await;
        }
        vault.erase_person(id(1), at(1)).await.unwrap();
        assert!(matches!(vault.enqueue_mail(id(1), &content(1), at(2)).await, Err(KeyError::Erased)));
        assert!(matches!(vault.enqueue_mail(id(9), &content(1), at(2)).await, Err(KeyError::Missing)));
        // Rows that outlived their person, and their key, in a way that the vault does not go.
        place.sql("UPDATE outbox SET account = (SELECT person FROM data_keys WHERE wrapped IS NULL) \
                   WHERE account = (SELECT person FROM data_keys WHERE wrapped IS NOT NULL ORDER BY person LIMIT 1)").await;
        let left = due(&vault, 2).await;
        assert_eq!(left.iter().map(|mail| mail.account).collect::<Vec<_>>(), [id(3)]);
        place.sql("DELETE FROM data_keys WHERE wrapped IS NOT NULL").await;
        let other = place.open().await;
        other.create_data_key(id(4)).await.unwrap();
        enqueue(&other, 4, 4, 2).await;
        let left = due(&other, 100).await;
        assert_eq!(left.iter().map(|mail| mail.account).collect::<Vec<_>>(), [id(4)], "one holds up no other");
        assert_eq!(vault.due_mail(at(DAY), 100).await.unwrap().given_up, 1, "the one that can't be opened");
    }

    async fn what_is_in_a_mail_is_neither_stored_nor_shown_in_clear(place: Place) {
        let vault = place.open().await;
        vault.create_data_key(id(1)).await.unwrap();
        enqueue(&vault, 1, 7, 0).await;
        let shown = format!("{:?}", vault.due_mail(at(0), 1).await.unwrap());
        assert!(!shown.contains("canary"), "{shown}");
        if let Some(folder) = place.folder() {
            assert!(test_support::files_containing(folder, "canary").is_empty());
        } else {
            let rows = test_support::psql(&place.url, "SELECT encode(sealed, 'escape') FROM showcaller_vault.outbox");
            let rows = rows.await;
            assert!(!rows.is_empty() && !rows.contains("canary"), "{rows}");
        }
    }
}
