//! What must be finished: handed out when it is due, to one at a time, until it is done.

use std::collections::HashSet;

use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;
use vault::{Intent, Vault};

use super::support::{at, id, on_both};

fn intent(number: u128, seconds: i64) -> Intent {
    Intent {
        created_at: at(seconds),
        ..super::support::intent(number)
    }
}

async fn due(vault: &Vault, seconds: i64) -> Vec<Uuid> {
    let due = vault.due_intents(at(seconds), 10).await.unwrap();
    due.iter().map(|intent| intent.id).collect()
}

on_both! {
    async fn an_intent_comes_due_again_and_again_until_it_is_finished(place: Place) {
        let vault = place.open().await;
        vault.begin_intent(&intent(1, 0)).await.unwrap();
        assert!(due(&vault, 9).await.is_empty(), "whoever began it may finish it first");
        let (mut now, mut pauses) = (10, Vec::new());
        for pause in [20, 40, 80, 160, 300, 300] {
            let taken = place.open().await.due_intents(at(now), 10).await.unwrap();
            assert_eq!(taken, [intent(1, 0)], "as it was stored");
            assert!(due(&vault, now + pause - 1).await.is_empty());
            now += pause;
            pauses.push(pause);
        }
        vault.finish_intent(id(1)).await.unwrap();
        assert!(due(&vault, now).await.is_empty());
        vault.finish_intent(id(1)).await.unwrap();
    }

    async fn beginning_twice_changes_nothing(place: Place) {
        let vault = place.open().await;
        vault.begin_intent(&intent(1, 0)).await.unwrap();
        vault.begin_intent(&Intent { detail: json!("other"), created_at: at(100), ..intent(1, 0) }).await.unwrap();
        assert_eq!(vault.due_intents(at(10), 10).await.unwrap(), [intent(1, 0)]);
    }

    async fn no_more_are_taken_than_asked_for_and_the_oldest_first(place: Place) {
        let vault = place.open().await;
        for (number, seconds) in [(1, 2), (2, 0), (3, 1)] {
            vault.begin_intent(&intent(number, seconds)).await.unwrap();
        }
        let taken = vault.due_intents(at(100), 2).await.unwrap();
        assert_eq!(taken, [intent(2, 0), intent(3, 1)]);
        assert_eq!(due(&vault, 100).await, [id(1)]);
        assert!(due(&vault, 100).await.is_empty());
    }

    async fn two_processes_share_no_intent(place: Place) {
        const INTENTS: u128 = 200;
        let (one, other) = (place.open().await, place.open().await);
        for number in 0..INTENTS {
            one.begin_intent(&intent(number, 0)).await.unwrap();
        }
        let mut tasks = JoinSet::new();
        for index in 0..8 {
            let vault = if index % 2 == 0 { one.clone() } else { other.clone() };
            tasks.spawn(async move {
                let mut taken = Vec::new();
                for _ in 0..25 {
                    taken.extend(vault.due_intents(at(10), 7).await.unwrap().iter().map(|intent| intent.id));
                }
                taken
            });
        }
        let taken: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(taken.len(), INTENTS as usize);
        assert_eq!(taken.into_iter().collect::<HashSet<_>>().len(), INTENTS as usize);
    }
}
