//! A real server with certificates made for the test.

use axum::Router;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::generate_simple_self_signed;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::serve_tls;

/// As a PEM file has it.
fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

/// Writes a new pair.
fn write_pair(folder: &TempDir) -> (PathBuf, PathBuf) {
    let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (
        folder.path().join("chain.pem"),
        folder.path().join("key.pem"),
    );
    fs::write(&chain, pem("CERTIFICATE", made.cert.der())).unwrap();
    fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
    (chain, key)
}

async fn ask(address: std::net::SocketAddr, chain: &Path) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = connect_to_own(stream, chain).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn requests_go_over_tls_and_a_renewed_certificate_is_shown_without_a_restart() {
    let folder = TempDir::new().unwrap();
    let (chain, key) = write_pair(&folder);
    let certificate = Certificate::load(&chain, &key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let router = Router::new().route("/", get(async || "over TLS"));
    let server = tokio::spawn(serve_tls(
        listener,
        router,
        stop.clone(),
        Some(Arc::clone(&certificate)),
    ));
    assert!(ask(address, &chain).await.unwrap().ends_with("over TLS"));
    // Plain text gets no answer.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let before = fs::read(&chain).unwrap();
    write_pair(&folder);
    assert!(
        ask(address, &chain).await.is_err(),
        "it is not the one that is shown yet"
    );
    assert!(certificate.look().unwrap());
    assert!(ask(address, &chain).await.unwrap().ends_with("over TLS"));
    // Half of a pair, as while it is being written, changes nothing.
    let renewed = fs::read(&chain).unwrap();
    fs::write(&chain, before).unwrap();
    assert!(certificate.look().is_err());
    fs::write(&chain, renewed).unwrap();
    assert!(ask(address, &chain).await.unwrap().ends_with("over TLS"));
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[test]
fn files_that_make_no_certificate_are_named() {
    let folder = TempDir::new().unwrap();
    let (chain, key) = write_pair(&folder);
    for (chain, key, named) in [
        (&chain, &folder.path().join("missing.pem"), "missing.pem"),
        (&chain, &chain, "chain.pem"),
        (&key, &key, "key.pem"),
    ] {
        let error = Certificate::load(chain, key).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
