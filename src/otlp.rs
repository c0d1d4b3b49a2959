//! Sends spans to a collector, over OTLP/gRPC. It refuses to hold up anything else: a collector that is down or slow is
//! tried again, and what comes meanwhile is kept within a bound, then dropped and counted.

mod messages;

use std::time::Duration;

use anyhow::{Context, Result};
use axum::http::uri::PathAndQuery;
use instruments::trace::{self, Record};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::codec::ProstCodec;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::config::Role;
use messages::{ExportRequest, ExportResponse, Resource};

const EXPORT: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");
/// How often spans are sent.
const INTERVAL: Duration = Duration::from_secs(1);
/// The most spans sent together.
const BATCH: usize = 512;
/// How long the collector may take to take some.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause after a fault; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the last spans may take when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Sends what [`trace`] collects.
pub struct Exporter {
    channel: Channel,
    resource: Resource,
}

impl Exporter {
    /// To the collector at this URL, with this share of the traces that begin here. Connects when there is something to
    /// send.
    pub fn start(url: &str, share: f64, role: Option<Role>) -> Result<Self> {
        let wrong = || {
            format!("--otlp {url:?} cannot be used; write for example --otlp http://127.0.0.1:4317")
        };
        let mut endpoint = Endpoint::from_shared(url.to_owned()).with_context(wrong)?;
        if url.starts_with("https://") {
            let tls = ClientTlsConfig::new().with_enabled_roots();
            endpoint = endpoint.tls_config(tls).with_context(wrong)?;
        }
        let channel = endpoint
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .connect_lazy();
        trace::collect(share);
        Ok(Self {
            channel,
            resource: Resource::of(role),
        })
    }

    /// Until shutdown, and then what is left.
    pub async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(INTERVAL) => {}
            }
            let ended = trace::take();
            let sent = async {
                for spans in ended.chunks(BATCH) {
                    self.insist(spans).await;
                }
            };
            tokio::select! {
                () = async { shutdown.cancelled().await; sleep(FAREWELL).await } => return,
                () = sent => {}
            }
        }
        // What ended with the last requests.
        let rest = trace::take();
        let sent = async {
            for spans in rest.chunks(BATCH) {
                self.insist(spans).await;
            }
        };
        let _ = timeout(FAREWELL, sent).await;
    }

    /// Sends spans until the collector has taken them.
    async fn insist(&self, spans: &[Record]) {
        let (mut pause, mut told) = (FIRST_PAUSE, false);
        while let Err(error) = self.send(spans).await {
            if !told {
                tracing::warn!(%error, "the collector takes no spans; trying again");
                told = true;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn send(&self, spans: &[Record]) -> Result<(), tonic::Status> {
        let mut client = Grpc::new(self.channel.clone());
        let ready = client.ready().await;
        ready.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
        let request = tonic::Request::new(ExportRequest::of(&self.resource, spans));
        match client.unary(request, EXPORT, codec).await {
            // What it does not want now, it will not want later.
            Err(status) if status.code() == tonic::Code::InvalidArgument => {
                tracing::warn!(%status, "the collector refuses spans");
                Ok(())
            }
            answer => answer.map(drop),
        }
    }
}
