//! What the log cannot hold is refused, and what is not served says so.

use bytes::Bytes;
use events::{StreamId, Version};
use eventstore::{
    BatchAppendOptions, DeleteStreamOptions, Error, EventData, ReadStreamOptions, StreamState,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::{Served, append, event, now};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_cannot_hold_is_refused() {
    let served = Served::open().await;
    let client = served.client();
    let reserved = json!({"showcaller": {"hash": "mine"}});
    for (stream, event) in [
        (
            "seats-1",
            EventData::binary("SeatTaken", Bytes::from_static(b"\x00\x01")),
        ),
        ("seats-1", event("Seat.Taken")),
        ("seats-1", event("$metadata")),
        (
            "seats-1",
            event("SeatTaken").metadata(Bytes::from_static(b"not json")),
        ),
        (
            "seats-1",
            event("SeatTaken").metadata_as_json(&json!([1])).unwrap(),
        ),
        (
            "seats-1",
            event("SeatTaken").metadata_as_json(&reserved).unwrap(),
        ),
        ("seats", event("SeatTaken")),
        ("$$seats-1", event("SeatTaken")),
        ("seats-", event("SeatTaken")),
    ] {
        let refused = append(&client, stream, StreamState::Any, vec![event]).await;
        assert!(
            matches!(refused, Err(Error::Grpc { .. })),
            "{stream}: {refused:?}"
        );
    }
    let nothing = append(&client, "seats-1", StreamState::Any, vec![]).await;
    assert!(matches!(nothing, Err(Error::Grpc { .. })), "{nothing:?}");
    assert_eq!(served.store.head().await.unwrap().get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_answers_unimplemented() {
    let served = Served::open().await;
    let client = served.client();
    append(
        &client,
        "seats-1",
        StreamState::NoStream,
        vec![event("SeatTaken")],
    )
    .await
    .unwrap();
    let deleted = client
        .delete_stream("seats-1", &DeleteStreamOptions::default())
        .await;
    assert!(
        matches!(deleted, Err(Error::UnsupportedFeature)),
        "{deleted:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_event_gets_an_envelope() {
    let served = Served::open().await;
    let client = served.client();
    let correlation = Uuid::from_u128(5);
    let metadata = json!({"$correlationId": correlation, "tenant": "grand"});
    let proposed = event("SeatTaken").metadata_as_json(&metadata).unwrap();
    append(&client, "seats-1", StreamState::NoStream, vec![proposed])
        .await
        .unwrap();
    let stream = StreamId::parse("seats-1").unwrap();
    let stored = served.store.read_stream(&stream, Version::ZERO, 10).await;
    let stored = stored.unwrap().remove(0);
    let envelope = stored.parse_metadata().unwrap();
    assert_eq!(
        (envelope.correlation_id, envelope.recorded_at),
        (correlation, now())
    );
    assert_eq!(envelope.actor.to_string(), "system:eventstore-protocol");
    assert_eq!(stored.hash, stored.expected_hash(&events::Hash::ZERO));

    let mut read = client
        .read_stream("seats-1", &ReadStreamOptions::default())
        .await
        .unwrap();
    let seen = read.next().await.unwrap().unwrap();
    let seen = seen.get_original_event();
    assert_eq!(
        (seen.revision, seen.created.timestamp()),
        (0, now().timestamp())
    );
    let shown: Value = serde_json::from_slice(&seen.custom_metadata).unwrap();
    assert_eq!(shown["tenant"], "grand");
    assert_eq!(shown["showcaller"]["hash"], stored.hash.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_appended_again_are_found_and_others_in_their_place_are_a_conflict() {
    let served = Served::open().await;
    let client = served.client();
    let ids = [1, 2, 3].map(Uuid::from_u128);
    let some = |ids: &[Uuid]| -> Vec<EventData> {
        ids.iter().map(|id| event("SeatTaken").id(*id)).collect()
    };
    let first = append(&client, "seats-1", StreamState::NoStream, some(&ids[..2]))
        .await
        .unwrap();
    for state in [
        StreamState::NoStream,
        StreamState::Any,
        StreamState::StreamRevision(1),
    ] {
        let again = append(&client, "seats-1", state, some(&ids[..2]))
            .await
            .unwrap();
        assert_eq!(again.position, first.position);
    }
    for other in [&ids[..1], &ids[..], &[ids[0], ids[2]][..]] {
        let conflict = append(&client, "seats-1", StreamState::Any, some(other)).await;
        assert!(
            matches!(conflict, Err(Error::WrongExpectedVersion { .. })),
            "{conflict:?}"
        );
    }
    // The same ids on another stream are other events.
    append(&client, "seats-2", StreamState::NoStream, some(&ids))
        .await
        .unwrap();
    assert_eq!(served.store.head().await.unwrap().get(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_in_a_batch_leaves_the_others_alone() {
    let served = Served::open().await;
    let client = served.client();
    append(
        &client,
        "seats-0",
        StreamState::NoStream,
        vec![event("SeatTaken")],
    )
    .await
    .unwrap();
    let session = client
        .batch_append(&BatchAppendOptions::default())
        .await
        .unwrap();
    let appends = (0..20).map(|n| {
        let session = &session;
        async move {
            let stream = format!("seats-{n}");
            session
                .append_to_stream(stream, StreamState::NoStream, vec![event("SeatTaken")])
                .await
        }
    });
    let answers = futures::future::join_all(appends).await;
    assert!(answers[0].is_err(), "it existed");
    // The client gives up its session with the first conflict; the server carries out what had arrived.
    for n in 1..20 {
        let stream = StreamId::parse(&format!("seats-{n}")).unwrap();
        test_support::eventually(std::time::Duration::from_secs(10), || async {
            let version = served.store.stream_version(&stream).await.unwrap();
            (version == Version::new(1)).then_some(())
        })
        .await;
    }
}
