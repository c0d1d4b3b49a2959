//! Failed log-ins and rates: the sequence of blocks, and counting by many at once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::JoinSet;
use vault::{Failure, Rate, Vault};

use super::support::{at, on_both};

const ADDRESS: [u8; 32] = [5; 32];
const DAY: i64 = 24 * 60 * 60;

async fn fail(vault: &Vault, seconds: i64) -> Failure {
    vault.note_failure(ADDRESS, at(seconds)).await.unwrap()
}

async fn blocked(vault: &Vault, seconds: i64) -> Option<DateTime<Utc>> {
    vault
        .throttle(ADDRESS, at(seconds))
        .await
        .unwrap()
        .blocked_until
}

on_both! {
    async fn the_fifth_failure_blocks_and_each_further_one_for_twice_as_long(place: Place) {
        let (vault, other) = (place.open().await, place.open().await);
        assert_eq!(blocked(&vault, 0).await, None);
        for failures in 1..=4 {
            let free = Failure { failures, blocked_until: None, episode_began: false };
            assert_eq!(fail(&vault, 0).await, free);
            assert_eq!(blocked(&other, 0).await, None);
        }
        let mut now = 0;
        for (failures, pause) in [(5, 10), (6, 20), (7, 40), (8, 80), (9, 160), (10, 300), (11, 300)] {
            let until = Some(at(now + pause));
            let block = Failure { failures, blocked_until: until, episode_began: failures == 5 };
            assert_eq!(fail(&vault, now).await, block);
            assert_eq!(blocked(&other, now + pause - 1).await, until);
            now += pause;
            assert_eq!(blocked(&other, now).await, None);
        }
        assert_eq!(vault.throttle([6; 32], at(now)).await.unwrap().blocked_until, None, "another address");
    }

    async fn success_or_a_day_without_failures_forgets_them(place: Place) {
        let vault = place.open().await;
        for _ in 0..6 {
            fail(&vault, 0).await;
        }
        assert_eq!(fail(&vault, DAY - 1).await.failures, 7);
        let anew = Failure { failures: 1, blocked_until: None, episode_began: false };
        assert_eq!(fail(&vault, 2 * DAY - 1).await, anew);
        for _ in 0..5 {
            fail(&vault, 2 * DAY).await;
        }
        vault.note_success(ADDRESS).await.unwrap();
        assert_eq!(blocked(&vault, 2 * DAY).await, None);
        assert_eq!(fail(&vault, 2 * DAY).await, anew);
    }

    async fn failures_at_once_are_all_counted_and_one_begins_the_episode(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let mut tasks = JoinSet::new();
        for index in 0..20 {
            let vault = if index % 2 == 0 { one.clone() } else { other.clone() };
            tasks.spawn(async move { fail(&vault, 0).await });
        }
        let failures = tasks.join_all().await;
        assert_eq!(failures.iter().filter(|failure| failure.episode_began).count(), 1);
        let mut counts: Vec<_> = failures.iter().map(|failure| failure.failures).collect();
        counts.sort_unstable();
        assert_eq!(counts, (1..=20).collect::<Vec<_>>());
    }

    async fn a_rate_is_counted_by_all_processes_and_begins_anew(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let key = one.keys().rate_key("log in", "192.0.2.1");
        let minute = Duration::from_mins(1);
        let mut tasks = JoinSet::new();
        for index in 0..20 {
            let vault = if index % 2 == 0 { one.clone() } else { other.clone() };
            tasks.spawn(async move { vault.count_rate(key, minute, at(0)).await.unwrap() });
        }
        let rates = tasks.join_all().await;
        let mut counts: Vec<_> = rates.iter().map(|rate| rate.count).collect();
        counts.sort_unstable();
        assert_eq!(counts, (1..=20).collect::<Vec<_>>());
        assert!(rates.iter().all(|rate| rate.resets_at == at(60)));
        assert_eq!(one.count_rate(key, minute, at(59)).await.unwrap(), Rate { count: 21, resets_at: at(60) });
        assert_eq!(one.count_rate(key, minute, at(60)).await.unwrap(), Rate { count: 1, resets_at: at(120) });
        for (label, text) in [("log in", "192.0.2.2"), ("register", "192.0.2.1")] {
            let another = one.keys().rate_key(label, text);
            assert_eq!(one.count_rate(another, minute, at(0)).await.unwrap().count, 1);
        }
    }

    async fn a_window_without_end_is_a_fault(place: Place) {
        let vault = place.open().await;
        assert!(vault.count_rate([1; 32], Duration::MAX, at(0)).await.is_err());
        assert!(vault.count_rate([1; 32], Duration::from_secs(10_u64.pow(13)), at(0)).await.is_err());
    }
}
