//! The server loop, over real sockets.

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::{ClientAddress, Limits, harden};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

async fn start(router: Router, bounds: Connections) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let router = harden(router, Limits::default());
    let task = tokio::spawn(serve_with(listener, router, shutdown.clone(), bounds));
    Server {
        address,
        shutdown,
        task,
    }
}

async fn connect(server: &Server, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Everything the server sends until it closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is a close too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the server closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn ended(server: Server) {
    tokio::time::timeout(PATIENCE, server.task)
        .await
        .expect("the server ends")
        .unwrap()
        .unwrap();
}

fn address() -> Router {
    Router::new().route(
        "/",
        get(async |ClientAddress(address): ClientAddress| address.to_string()),
    )
}

#[tokio::test]
async fn requests_are_answered_and_know_their_address() {
    let server = start(address(), Connections::default()).await;
    let stream = connect(
        &server,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    let answer = rest(stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"),
        "{answer}"
    );
    server.shutdown.cancel();
    ended(server).await;
}

#[tokio::test]
async fn clients_that_do_not_send_their_headers_are_cut_off() {
    let bounds = Connections {
        header_time: Duration::from_millis(200),
        ..Connections::default()
    };
    let server = start(address(), bounds).await;
    for text in [
        "",
        "G",
        "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        // The last sends one whole request and is then idle.
        let answer = rest(connect(&server, text).await).await;
        assert_eq!(
            answer.starts_with("HTTP/1.1 200"),
            text.ends_with("\r\n\r\n"),
            "{text:?}: {answer}"
        );
    }
    server.shutdown.cancel();
    ended(server).await;
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let server = start(address(), Connections::default()).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "x".repeat(2 * HEADER_BYTES)
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The server may close before all is written.
    let _ = stream.write_all(long.as_bytes()).await;
    let answer = rest(stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    server.shutdown.cancel();
    ended(server).await;
}

#[tokio::test]
async fn shutdown_lets_a_request_end_and_closes_idle_connections() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gates = (Arc::clone(&entered), Arc::clone(&leave));
    let router = Router::new().route(
        "/",
        get(async move || {
            gates.0.notify_one();
            gates.1.notified().await;
            "done"
        }),
    );
    let server = start(router, Connections::default()).await;
    let idle = connect(&server, "").await;
    let busy = connect(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    entered.notified().await;
    server.shutdown.cancel();
    assert_eq!(rest(idle).await, "");
    leave.notify_one();
    let answer = rest(busy).await;
    assert!(answer.ends_with("done"), "{answer}");
    ended(server).await;
}

#[tokio::test]
async fn shutdown_ends_in_bounded_time_whatever_a_handler_does() {
    let entered = Arc::new(Notify::new());
    let gate = Arc::clone(&entered);
    let router = Router::new().route(
        "/",
        get(async move || {
            gate.notify_one();
            std::future::pending::<()>().await;
        }),
    );
    let bounds = Connections {
        shutdown_time: Duration::from_millis(100),
        ..Connections::default()
    };
    let server = start(router, bounds).await;
    let stream = connect(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    entered.notified().await;
    server.shutdown.cancel();
    ended(server).await;
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_room() {
    let bounds = Connections {
        open: 1,
        ..Connections::default()
    };
    let server = start(address(), bounds).await;
    let first = connect(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let second = connect(
        &server,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    let mut byte = [0];
    tokio::time::timeout(PATIENCE, first.peek(&mut byte))
        .await
        .unwrap()
        .unwrap();
    drop(first);
    assert!(rest(second).await.starts_with("HTTP/1.1 200"));
    server.shutdown.cancel();
    ended(server).await;
}
