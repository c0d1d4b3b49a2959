//! Sessions: rotation, grace, reuse, and the feed of those that ended.

use std::collections::HashSet;

use secrecy::ExposeSecret;
use tokio::task::JoinSet;
use uuid::Uuid;
use vault::{FeedPosition, RefreshError, RefreshRefusal, Seen, Vault};

use super::support::{Place, at, id, new_session, on_both};

const END: i64 = 1_000;

async fn begin(vault: &Vault, session: u128, account: u128) -> String {
    vault
        .begin_session(new_session(session, account))
        .await
        .unwrap()
        .expose_secret()
        .to_owned()
}

async fn refresh(vault: &Vault, token: &str, seconds: i64) -> Result<String, RefreshRefusal> {
    match vault.refresh(token, &Seen::default(), at(seconds)).await {
        Ok(refreshed) => Ok(refreshed.successor_token.expose_secret().to_owned()),
        Err(RefreshError::Refused(refusal)) => Err(refusal),
        Err(RefreshError::Fault(fault)) => panic!("{fault}"),
    }
}

async fn feed(vault: &Vault, from: u64) -> Vec<Uuid> {
    let page = vault.ended_since(FeedPosition(from)).await.unwrap();
    page.sessions.iter().map(|ended| ended.session_id).collect()
}

on_both! {
    async fn a_token_rotates_at_each_use(place: Place) {
        let (vault, other) = (place.open().await, place.open().await);
        let first = begin(&vault, 1, 2).await;
        assert_eq!(begin(&vault, 1, 2).await, first, "beginning is idempotent");
        let refreshed = other.refresh(&first, &Seen::default(), at(1)).await.unwrap();
        assert_eq!((refreshed.session_id, refreshed.account, refreshed.expires_at), (id(1), id(2), at(END)));
        let second = refreshed.successor_token.expose_secret().to_owned();
        let third = refresh(&vault, &second, 2).await.unwrap();
        assert_eq!(HashSet::from([&first, &second, &third]).len(), 3);
    }

    async fn another_accounts_session_is_not_handed_out(place: Place) {
        let vault = place.open().await;
        begin(&vault, 1, 2).await;
        assert!(vault.begin_session(new_session(1, 3)).await.is_err());
    }

    async fn within_the_grace_the_same_successor_comes_again(place: Place) {
        let vault = place.open().await;
        let first = begin(&vault, 1, 2).await;
        let second = refresh(&vault, &first, 5).await.unwrap();
        assert_eq!(refresh(&vault, &first, 15).await.unwrap(), second);
        // Another process's clock may be behind.
        assert_eq!(refresh(&vault, &first, 3).await.unwrap(), second);
        refresh(&vault, &second, 16).await.unwrap();
    }

    async fn reuse_after_the_grace_ends_the_family(place: Place) {
        let vault = place.open().await;
        let first = begin(&vault, 1, 2).await;
        let second = refresh(&vault, &first, 5).await.unwrap();
        let reused = RefreshRefusal::Reused { session_id: id(1), account: id(2) };
        assert_eq!(refresh(&vault, &first, 16).await, Err(reused));
        assert_eq!(refresh(&vault, &second, 16).await, Err(RefreshRefusal::Ended));
        assert_eq!(refresh(&vault, &first, 16).await, Err(RefreshRefusal::Ended));
        assert_eq!(feed(&vault, 0).await, [id(1)]);
    }

    async fn a_token_two_rotations_old_is_reuse_even_within_the_grace(place: Place) {
        let vault = place.open().await;
        let first = begin(&vault, 1, 2).await;
        let second = refresh(&vault, &first, 1).await.unwrap();
        refresh(&vault, &second, 1).await.unwrap();
        assert!(matches!(refresh(&vault, &first, 1).await, Err(RefreshRefusal::Reused { .. })));
    }

    async fn twenty_refreshes_at_once_get_one_successor(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let first = begin(&one, 1, 2).await;
        let mut tasks = JoinSet::new();
        for index in 0..20 {
            let vault = if index % 2 == 0 { one.clone() } else { other.clone() };
            let first = first.clone();
            tasks.spawn(async move { refresh(&vault, &first, 1).await.unwrap() });
        }
        let successors: HashSet<_> = tasks.join_all().await.into_iter().collect();
        assert_eq!(successors.len(), 1);
        refresh(&one, successors.iter().next().unwrap(), 2).await.unwrap();
    }

    async fn expired_ended_and_foreign_tokens_are_refused(place: Place) {
        let vault = place.open().await;
        let token = begin(&vault, 1, 2).await;
        assert_eq!(refresh(&vault, &token, END).await, Err(RefreshRefusal::Expired));
        refresh(&vault, &token, END - 1).await.unwrap();
        let ended = begin(&vault, 3, 2).await;
        assert!(vault.end_session(id(3), at(1)).await.unwrap());
        assert!(!vault.end_session(id(3), at(2)).await.unwrap(), "it had ended before");
        assert_eq!(refresh(&vault, &ended, 3).await, Err(RefreshRefusal::Ended));
        assert_eq!(refresh(&vault, "nonsense", 3).await, Err(RefreshRefusal::Unknown));
        let elsewhere = Place::sqlite().open().await;
        let foreign = begin(&elsewhere, 1, 2).await;
        assert_eq!(refresh(&vault, &foreign, 3).await, Err(RefreshRefusal::Unknown));
    }

    async fn all_sessions_but_one_can_end(place: Place) {
        let vault = place.open().await;
        for session in 1..=3 {
            begin(&vault, session, 10).await;
        }
        assert_eq!(vault.end_sessions(id(10), Some(id(2)), at(1)).await.unwrap(), [id(1), id(3)]);
        let open = vault.open_sessions(id(10), at(2)).await.unwrap();
        assert_eq!(open.iter().map(|session| session.id).collect::<Vec<_>>(), [id(2)]);
        assert_eq!(feed(&vault, 0).await, [id(1), id(3)]);
    }

    async fn an_accounts_sessions_end_together_and_the_feed_tells(place: Place) {
        let vault = place.open().await;
        for (session, account) in [(1, 10), (2, 10), (3, 11), (4, 10)] {
            begin(&vault, session, account).await;
        }
        vault.end_session(id(4), at(1)).await.unwrap();
        assert_eq!(vault.end_sessions(id(10), None, at(100)).await.unwrap(), [id(1), id(2)]);
        assert!(vault.end_sessions(id(10), None, at(101)).await.unwrap().is_empty());
        assert_eq!(feed(&vault, 0).await, [id(4), id(1), id(2)]);
        assert_eq!(feed(&vault, 1).await, [id(1), id(2)]);
        let page = vault.ended_since(FeedPosition(3)).await.unwrap();
        assert_eq!((page.sessions.len(), page.through), (0, FeedPosition(3)));
        let ended = vault.session_ended(&[id(1), id(3), id(4), id(99)]).await.unwrap();
        assert_eq!(ended, HashSet::from([id(1), id(4), id(99)]), "what is not known counts as ended");
        // A process that starts reads only what tokens still alive can need.
        assert_eq!(vault.feed_position_at(at(0)).await.unwrap(), FeedPosition(0));
        assert_eq!(vault.feed_position_at(at(50)).await.unwrap(), FeedPosition(1));
        assert_eq!(vault.feed_position_at(at(500)).await.unwrap(), FeedPosition(3));
    }

    async fn a_reader_of_the_feed_misses_nothing_while_many_end_sessions(place: Place) {
        const SESSIONS: u128 = 120;
        let (vault, reader) = (place.open().await, place.open().await);
        for session in 0..SESSIONS {
            begin(&vault, session, session % 6).await;
        }
        let mut tasks = JoinSet::new();
        for task in 0..6 {
            let vault = vault.clone();
            tasks.spawn(async move {
                for session in (task * 20)..(task * 20 + 15) {
                    vault.end_session(id(session), at(1)).await.unwrap();
                }
                vault.end_sessions(id(task), None, at(2)).await.unwrap();
            });
        }
        let (mut seen, mut position) = (Vec::new(), FeedPosition::default());
        while seen.len() < SESSIONS as usize {
            let page = reader.ended_since(position).await.unwrap();
            position = page.through;
            seen.extend(page.sessions.iter().map(|ended| ended.session_id));
            if page.sessions.is_empty() && tasks.is_empty() {
                break;
            }
            while let Some(done) = tasks.try_join_next() {
                done.unwrap();
            }
        }
        tasks.join_all().await;
        let distinct: HashSet<_> = seen.iter().copied().collect();
        assert_eq!((seen.len(), distinct.len()), (SESSIONS as usize, SESSIONS as usize));
        assert_eq!(position, FeedPosition(SESSIONS as u64), "gapless");
    }
}
