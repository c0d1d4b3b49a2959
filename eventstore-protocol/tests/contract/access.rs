//! Who may do what, and TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use events::Actor;
use eventstore::{
    BatchAppendOptions, Client, Error, ReadStreamOptions, StreamState, SubscribeToStreamOptions,
    SubscriptionEvent,
};
use eventstore_protocol::{Access, Denied, Gate, Identity, OpenGate};
use uuid::Uuid;

use crate::server::{Served, append, client, event};

/// Knows callers by what they may do; lets nobody in once it is closed.
#[derive(Default)]
struct Names {
    closed: AtomicBool,
}

#[async_trait]
impl Gate for Names {
    async fn admit(&self, authorization: Option<&str>) -> Result<Access, Denied> {
        // Basic, of reader:x, writer:x and appender:x.
        let (read, write, append) = match authorization {
            _ if self.closed.load(Ordering::Relaxed) => (false, false, false),
            Some("Basic cmVhZGVyOng=") => (true, false, false),
            Some("Basic d3JpdGVyOng=") => (false, true, false),
            Some("Basic YXBwZW5kZXI6eA==") => (false, false, true),
            _ => return Err(Denied::Unauthenticated("say who you are".into())),
        };
        Ok(Access {
            actor: Actor::Account(Uuid::from_u128(7)),
            read,
            write,
            append,
        })
    }
}

fn as_user(served: &Served, user: &str) -> Client {
    client(&format!(
        "esdb://{user}:x@127.0.0.1:{}?tls=false",
        served.port
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_may_do_what_the_gate_says() {
    let served = Served::start(Arc::new(Names::default()), None).await;
    let read = async |client: &Client| {
        let mut read = client
            .read_stream("seats-1", &ReadStreamOptions::default())
            .await?;
        read.next().await
    };
    for (user, reads, writes, appends) in [
        ("nobody", false, false, false),
        ("writer", false, true, false),
        ("appender", false, true, true),
        ("reader", true, false, false),
    ] {
        let client = as_user(&served, user);
        let batch = client
            .batch_append(&BatchAppendOptions::default())
            .await
            .unwrap();
        for (stream, may) in [("seats-1", writes), ("account-1", appends)] {
            let one = append(&client, stream, StreamState::Any, vec![event("SeatTaken")]).await;
            assert_eq!(one.is_ok(), may, "{user} appends to {stream}: {one:?}");
            assert!(may || matches!(one, Err(Error::AccessDenied)), "{one:?}");
            if may {
                let many = batch.append_to_stream(stream, StreamState::Any, vec![event("Again")]);
                many.await.unwrap();
            }
        }
        let seen = read(&client).await;
        assert_eq!(seen.is_ok(), reads, "{user} reads: {seen:?}");
        assert!(
            reads || matches!(seen, Err(Error::AccessDenied)),
            "{seen:?}"
        );
    }
    let denied = as_user(&served, "writer")
        .batch_append(&BatchAppendOptions::default())
        .await
        .unwrap()
        .append_to_stream("account-1", StreamState::Any, vec![event("SeatTaken")])
        .await;
    assert!(denied.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_is_believed_only_from_those_who_may_append_everywhere() {
    let served = Served::start(Arc::new(Names::default()), None).await;
    let envelope = serde_json::json!({"showcaller": {
        "id": Uuid::from_u128(2),
        "schema_version": 1,
        "hash": events::Hash::ZERO,
        "command_id": Uuid::from_u128(1),
        "metadata": {"actor": "somebody else"},
    }});
    let forged = || vec![event("SeatTaken").metadata_as_json(&envelope).unwrap()];
    let writer = as_user(&served, "writer");
    let refused = append(&writer, "seats-1", StreamState::Any, forged()).await;
    assert!(matches!(refused, Err(Error::AccessDenied)), "{refused:?}");
    let appender = as_user(&served, "appender");
    append(&appender, "seats-1", StreamState::Any, forged())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_taken_back_ends_its_subscription() {
    let gate = Arc::new(Names::default());
    let served = Served::start(Arc::clone(&gate) as Arc<dyn Gate>, None).await;
    let reader = as_user(&served, "reader");
    let mut subscription = reader
        .subscribe_to_stream("seats-1", &SubscribeToStreamOptions::default())
        .await;
    while !matches!(
        subscription.next_subscription_event().await.unwrap(),
        SubscriptionEvent::CaughtUp(_)
    ) {}
    gate.closed.store(true, Ordering::Relaxed);
    let ended = tokio::time::timeout(
        std::time::Duration::from_secs(5),
        subscription.next_subscription_event(),
    );
    let ended = ended.await.expect("it ends soon");
    assert!(matches!(ended, Err(Error::AccessDenied)), "{ended:?}");
}

/// As a PEM file has it.
fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_and_a_certificate_of_somebody_else_is_refused() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let identity = Identity {
        certificates: pem("CERTIFICATE", made.cert.der()).into_bytes(),
        key: pem("PRIVATE KEY", &made.signing_key.serialize_der()).into_bytes(),
    };
    let served = Served::start(Arc::new(OpenGate), Some(identity)).await;
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    for (name, certificate, trusted) in [
        ("ours.pem", &made.cert, true),
        ("theirs.pem", &other.cert, false),
    ] {
        let file = served.folder.path().join(name);
        std::fs::write(&file, pem("CERTIFICATE", certificate.der())).unwrap();
        let url = format!(
            "esdb://127.0.0.1:{}?tlsCaFile={}&maxDiscoverAttempts=2",
            served.port,
            file.display()
        );
        let client = client(&url);
        let appended = append(
            &client,
            "seats-1",
            StreamState::Any,
            vec![event("SeatTaken")],
        );
        let appended = appended.await;
        assert_eq!(appended.is_ok(), trusted, "{name}: {appended:?}");
    }
}
