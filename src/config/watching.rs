//! Settings of what is told about the process: metrics and traces. It refuses an address or a share that is none.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use clap::Args;

use super::parse::address;

/// Of a hundred traces that begin here, one.
const TRACE_SAMPLE: f64 = 0.01;

#[derive(Debug, Args)]
pub(super) struct Watching {
    /// Where Prometheus reads this process's metrics, without credentials [default: nowhere]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_METRICS_LISTEN",
        value_name = "ADDRESS:PORT"
    )]
    metrics_listen: Option<String>,
    /// The collector that traces are sent to, over OTLP/gRPC: http://HOST:4317 or https://… [default: nowhere]
    #[arg(long, global = true, env = "SHOWCALLER_OTLP", value_name = "URL")]
    otlp: Option<String>,
    /// The share of requests that are traced, 0 to 1; a request whose traceparent says that it is traced always is
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_TRACE_SAMPLE",
        value_name = "SHARE",
        default_value_t = TRACE_SAMPLE
    )]
    trace_sample: f64,
}

/// Where what is told about the process goes.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Where traces are sent, and the share that is.
    pub traces: Option<(String, f64)>,
}

impl Watching {
    pub(super) fn resolve(&self) -> Result<Watched> {
        let metrics = self.metrics_listen.as_deref();
        let metrics = metrics
            .map(|text| address("metrics-listen", text))
            .transpose()?;
        let share = self.trace_sample;
        if !(0.0..=1.0).contains(&share) {
            bail!("--trace-sample {share} is no share; write for example --trace-sample 0.01");
        }
        if let Some(url) = &self.otlp
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            bail!(
                "--otlp {url:?} is no web address; write for example --otlp http://127.0.0.1:4317"
            );
        }
        Ok(Watched {
            metrics,
            traces: self.otlp.clone().map(|url| (url, share)),
        })
    }
}
