//! `showcaller health`: what a container's health check runs, since its image holds no other program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::exit::Exit;
use super::out::Out;
use crate::config::Settings;

const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES: u64 = 64 * 1024;

/// Whether the server at `--listen` is ready.
pub async fn ready(settings: &Settings) -> Result<bool> {
    answer(settings).await.map(|(ready, _)| ready)
}

async fn answer(settings: &Settings) -> Result<(bool, String)> {
    let mut address = settings.listen;
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        };
        address.set_ip(loopback);
    }
    let certificate = settings.tls.as_ref().map(|(chain, _)| chain.as_path());
    let answer = tokio::time::timeout(PATIENCE, get(address, certificate))
        .await
        .with_context(|| format!("no answer from {address} within {} s", PATIENCE.as_secs()))?
        .with_context(|| format!("no answer from {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let ready = head.split(' ').nth(1) == Some("200");
    Ok((ready, body.to_owned()))
}

/// Asks for `/health/ready` and prints what it says.
pub async fn ask(settings: &Settings) -> Result<Exit> {
    let (ready, body) = answer(settings).await?;
    let mut out = Out::new(settings.output);
    let object = serde_json::from_str(&body).unwrap_or_default();
    out.record(&object, || body)?;
    out.finish()?;
    Ok(if ready { Exit::Done } else { Exit::Wrong })
}

async fn get(address: SocketAddr, certificate: Option<&Path>) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    match certificate {
        Some(chain) => converse(web::tls::connect_to_own(stream, chain).await?, address).await,
        None => converse(stream, address).await,
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    address: SocketAddr,
) -> std::io::Result<String> {
    stream
        .write_all(format!("GET /health/ready HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES)
        .read_to_string(&mut answer)
        .await?;
    Ok(answer)
}
