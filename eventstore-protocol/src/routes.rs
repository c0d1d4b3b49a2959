//! The methods that are served, by their paths. Every other answers UNIMPLEMENTED.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use prost::Message;
use tonic::Status;
use tonic::codec::ProstCodec;
use tonic::server::Grpc;
use tower::service_fn;

use crate::messages::Id;
use crate::messages::append::{AppendAnswer, AppendRequest};
use crate::messages::batch::{BatchAnswer, BatchRequest};
use crate::messages::node::{
    ClusterInfo, EndPoint, Member, NodeState, SupportedMethod, SupportedMethods,
};
use crate::messages::read::{ReadAnswer, ReadRequest};
use crate::node::Node;
use crate::{appending, batching, reading};

const STREAMS: &str = "event_store.client.streams.Streams";
const FEATURES: &str = "event_store.client.server_features.ServerFeatures";
const GOSSIP: &str = "event_store.client.gossip.Gossip";

/// The version that clients are told, which decides what they try: the newest long-term release of EventStoreDB.
const VERSION: &str = "24.10.0";
/// The largest message taken: an append with its envelopes.
const MESSAGE_BYTES: usize = 2 * event_store::MAX_BYTES + (1 << 20);

/// The methods of a served log.
pub(crate) fn routes(node: Arc<Node>) -> Router {
    Router::new()
        .route(&format!("/{STREAMS}/Read"), post(read))
        .route(&format!("/{STREAMS}/Append"), post(append))
        .route(&format!("/{STREAMS}/BatchAppend"), post(batch_append))
        .route(
            &format!("/{FEATURES}/GetSupportedMethods"),
            post(supported_methods),
        )
        .route(&format!("/{GOSSIP}/Read"), post(gossip))
        .fallback(unimplemented)
        .with_state(node)
}

fn grpc<A, R>() -> Grpc<ProstCodec<A, R>>
where
    A: Message + Default + Send + 'static,
    R: Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(usize::MAX)
}

async fn read(State(node): State<Arc<Node>>, request: Request) -> Response {
    let service = service_fn(move |request| reading::read(Arc::clone(&node), request));
    grpc::<ReadAnswer, ReadRequest>()
        .server_streaming(service, request)
        .await
        .map(axum::body::Body::new)
}

async fn append(State(node): State<Arc<Node>>, request: Request) -> Response {
    let service = service_fn(move |request| {
        let node = Arc::clone(&node);
        async move { appending::append(&node, request).await }
    });
    grpc::<AppendAnswer, AppendRequest>()
        .client_streaming(service, request)
        .await
        .map(axum::body::Body::new)
}

async fn batch_append(State(node): State<Arc<Node>>, request: Request) -> Response {
    let service = service_fn(move |request| {
        let node = Arc::clone(&node);
        async move { Ok(batching::batch_append(node, request)) }
    });
    grpc::<BatchAnswer, BatchRequest>()
        .streaming(service, request)
        .await
        .map(axum::body::Body::new)
}

async fn supported_methods(request: Request) -> Response {
    let method = |service: &str, method: &str, features: &[&str]| SupportedMethod {
        method: method.to_owned(),
        service: service.to_lowercase(),
        features: features.iter().map(|&feature| feature.to_owned()).collect(),
    };
    let methods = SupportedMethods {
        methods: vec![
            method(STREAMS, "read", &["position", "events"]),
            method(STREAMS, "append", &[]),
            method(STREAMS, "batchappend", &["deadline_duration"]),
            method(FEATURES, "getsupportedmethods", &[]),
            method(GOSSIP, "read", &[]),
        ],
        version: VERSION.to_owned(),
    };
    let service = service_fn(move |_: tonic::Request<()>| {
        let methods = methods.clone();
        async move { Ok(tonic::Response::new(methods)) }
    });
    grpc::<SupportedMethods, ()>()
        .unary(service, request)
        .await
        .map(axum::body::Body::new)
}

/// A cluster of one, under the name by which the client reached it.
async fn gossip(State(node): State<Arc<Node>>, request: Request) -> Response {
    let end_point = request.uri().authority().map(|authority| EndPoint {
        address: authority.host().to_owned(),
        port: u32::from(authority.port_u16().unwrap_or(2113)),
    });
    let cluster = ClusterInfo {
        members: vec![Member {
            instance: Some(Id::text(node.store.identity().log)),
            time_stamp: (node.clock)().timestamp(),
            state: NodeState::Leader as i32,
            alive: true,
            end_point,
        }],
    };
    let service = service_fn(move |_: tonic::Request<()>| {
        let cluster = cluster.clone();
        async move { Ok(tonic::Response::new(cluster)) }
    });
    grpc::<ClusterInfo, ()>()
        .unary(service, request)
        .await
        .map(axum::body::Body::new)
}

async fn unimplemented(request: Request) -> Response {
    let method = request.uri().path().trim_start_matches('/');
    Status::unimplemented(format!(
        "Showcaller's log does not serve {method}; docs/eventstore-protocol.md says what it serves"
    ))
    .into_http()
}
