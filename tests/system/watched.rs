//! What is told about a running cluster: one trace from the request to the row, received by a collector; metrics of every
//! role; log lines that name the trace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use test_support::{Postgres, RabbitMq, Showcaller, eventually, free_port};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::client::{Client, registration};
use crate::world::{Cluster, Settings};

const WITHIN: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const ROLES: [&str; 4] = ["command-api", "relay", "projector", "query-api"];

/// What arrived: spans, by the name of the service that sent them.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for sent in request.into_inner().resource_spans {
            let resource = sent.resource.expect("a resource");
            let named = resource.attributes.iter().find(|a| a.key == "service.name");
            let value = named
                .and_then(|a| a.value.clone())
                .expect("a service's name");
            let service = format!("{:?}", value.value).replace(['"', '(', ')'], "");
            let service = service
                .rsplit("StringValue")
                .next()
                .expect("a text")
                .to_owned();
            let spans = sent.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let spans = spans.map(|span| (service.clone(), span));
            self.0.lock().expect("no panic").extend(spans);
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens, and gives its URL.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let service = TraceServiceServer::new(collector.clone());
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(serving);
        (collector, url)
    }

    /// The span of this name in the caller's trace, and who sent it.
    async fn span(&self, name: &str) -> (String, Span) {
        eventually(WITHIN, || async {
            let spans = self.0.lock().expect("no panic");
            let ours = |span: &Span| hex(&span.trace_id) == TRACE && span.name == name;
            let found = spans.iter().find(|(_, span)| ours(span)).cloned();
            found.ok_or_else(|| {
                let names: BTreeSet<_> = spans.iter().map(|(_, span)| &span.name).collect();
                format!("{name:?} is not among {names:?}")
            })
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_up_to_its_rows_and_every_role_shows_its_metrics() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let settings = Settings::new(postgres, &rabbitmq.fresh_vhost().await).await;
    let (collector, url) = Collector::start().await;
    let start = async |role: &'static str| {
        let port = free_port();
        let process = settings
            .role(role)
            .env("SHOWCALLER_OTLP", &url)
            .env("SHOWCALLER_TRACE_SAMPLE", "0")
            .env("SHOWCALLER_LOG_FORMAT", "json")
            .env("SHOWCALLER_LOG", "info,web=debug")
            .env("SHOWCALLER_METRICS_LISTEN", format!("127.0.0.1:{port}"))
            .start()
            .await;
        (process, Client::new(&format!("http://127.0.0.1:{port}")))
    };
    let [command_api, relay, projector, query_api] = ROLES.map(start);
    let (command_api, relay, projector, query_api) =
        tokio::join!(command_api, relay, projector, query_api);
    let pages = [&command_api.1, &relay.1, &projector.1, &query_api.1].map(Clone::clone);
    let cluster = Cluster {
        command_api: command_api.0,
        relay: relay.0,
        projector: projector.0,
        query_api: query_api.0,
    };

    let client = cluster.client();
    client.person("untraced@example.org").await;
    // What comes before its queue is there, is read from the log, and has no span for projecting.
    eventually(WITHIN, || async {
        let page = pages[2].get("/metrics").expect(200).await.text;
        value(&page, "showcaller_projection_subscribed_partitions") == Some(8.0)
    })
    .await;
    client
        .post("/v1/accounts")
        .json(&registration("ada@example.org", "Ada Lovelace"))
        .header("traceparent", &format!("00-{TRACE}-{CALLER}-01"))
        .expect(201)
        .await;
    the_trace_leads_from_the_request_to_the_row(&collector).await;
    log_lines_name_the_trace(&cluster.command_api);
    every_metric_of_the_page_is_shown(&pages, &cluster).await;
    for (role, process) in cluster.processes() {
        assert_eq!(process.terminate().await, 0, "{role}: {}", process.logs());
    }
}

async fn the_trace_leads_from_the_request_to_the_row(collector: &Collector) {
    const CHAIN: [(&str, &str, &str); 4] = [
        ("POST /v1/accounts", "showcaller-command-api", "the caller"),
        (
            "append account",
            "showcaller-command-api",
            "POST /v1/accounts",
        ),
        (
            "publish account.AccountRegistered",
            "showcaller-relay",
            "POST /v1/accounts",
        ),
        (
            "project account.AccountRegistered",
            "showcaller-projector",
            "publish account.AccountRegistered",
        ),
    ];
    let mut ids = BTreeMap::from([("the caller", CALLER.to_owned())]);
    let mut began = 0;
    for (name, service, parent) in CHAIN {
        let (sent_by, span) = collector.span(name).await;
        println!(
            "{name} ({sent_by}): {} under {} ({parent}), {} µs",
            hex(&span.span_id),
            hex(&span.parent_span_id),
            (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000,
        );
        assert_eq!(sent_by, service, "{name}");
        assert_eq!(
            hex(&span.parent_span_id),
            ids[parent],
            "{name} stands under {parent}"
        );
        assert!(
            span.start_time_unix_nano >= began,
            "{name} begins after what it follows from"
        );
        assert!(span.status.is_none(), "{name} did not fail");
        began = span.start_time_unix_nano;
        ids.insert(name, hex(&span.span_id));
    }
    // Batches belong to no request: they are linked with those that they carry, and what nobody samples is not told.
    let spans = collector.0.lock().expect("no panic").clone();
    for (batch, of) in [("publish batch", CHAIN[2].0), ("project batch", CHAIN[3].0)] {
        let linked = spans.iter().any(|(_, span)| {
            span.name == batch
                && hex(&span.trace_id) != TRACE
                && span.links.iter().any(|link| hex(&link.span_id) == ids[of])
        });
        assert!(linked, "a {batch} is linked with {of}");
    }
    let foreign: Vec<_> = spans
        .iter()
        .filter(|(_, span)| hex(&span.trace_id) != TRACE && !span.name.ends_with(" batch"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

fn log_lines_name_the_trace(command_api: &Showcaller) {
    let logs = command_api.stderr();
    let answered = logs.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        (line["span"]["trace_id"] == TRACE).then_some(line)
    });
    let line = answered.expect("a line of the request");
    assert_eq!(line["span"]["route"], "/v1/accounts");
    let span = line["span"]["span_id"].as_str().expect("a span's id");
    assert!(span.len() == 16 && span != CALLER, "{line}");
}

async fn every_metric_of_the_page_is_shown(pages: &[Client; 4], cluster: &Cluster) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/metrics.md")).expect("the page is there");
    let listed: BTreeSet<String> = page
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
        .collect();
    // Followed and confirmed by now, but for what is heard of later.
    let texts = eventually(WITHIN, || async {
        let mut texts = Vec::new();
        for page in pages {
            texts.push(page.get("/metrics").expect(200).await.text);
        }
        let [_, relay, projector, _] = &texts[..] else {
            return Err("four pages".to_owned());
        };
        let settled = value(relay, "showcaller_relay_lag") == Some(0.0)
            && value(
                projector,
                "showcaller_projection_lag_seconds{read_model=\"accounts\"}",
            ) == Some(0.0)
            && value(
                projector,
                "showcaller_projection_events_total{read_model=\"accounts\"}",
            ) > Some(0.0);
        if settled {
            Ok(texts)
        } else {
            Err(projector.clone())
        }
    })
    .await;
    let shown: BTreeSet<String> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned()))
        .collect();
    assert_eq!(shown, listed, "what is shown is what docs/metrics.md lists");
    let [command_api, relay, projector, query_api] = &texts[..] else {
        panic!("four pages");
    };
    let created =
        "showcaller_http_requests_total{method=\"POST\",route=\"/v1/accounts\",status=\"201\"}";
    let following = "showcaller_projection_partitions{read_model=\"accounts\",state=\"following\"}";
    for (text, name, expected) in [
        (command_api, created, 2.0),
        (command_api, "showcaller_log_ins_total{outcome=\"ok\"}", 1.0),
        (
            command_api,
            "showcaller_dependency_up{dependency=\"event-store\"}",
            1.0,
        ),
        (relay, "showcaller_relay_leading", 1.0),
        (relay, "showcaller_relay_unconfirmed", 0.0),
        (projector, following, 8.0),
        (
            projector,
            "showcaller_projection_parked_streams{read_model=\"accounts\"}",
            0.0,
        ),
        (
            projector,
            "showcaller_queue_consumers{partition=\"7\"}",
            1.0,
        ),
        (query_api, "showcaller_live_listeners", 0.0),
    ] {
        assert_eq!(value(text, name), Some(expected), "{name} in\n{text}");
    }
    for (text, name) in [
        (command_api, "showcaller_events_appended_total"),
        (command_api, "showcaller_append_seconds_count"),
        (command_api, "showcaller_password_hash_seconds_count"),
        (relay, "showcaller_relay_published_total"),
        (projector, "showcaller_projection_batch_seconds_count"),
        (query_api, "process_resident_memory_bytes"),
        (query_api, "process_cpu_seconds_total"),
    ] {
        assert!(value(text, name) > Some(0.0), "{name} in\n{text}");
    }
    // Where clients are, nothing is told.
    let public = Client::new(&cluster.command_api.url());
    public.get("/metrics").expect(404).await;
}

/// The value of a sample, by its name with its labels.
fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(sample))?;
    line.strip_prefix(' ')?.parse().ok()
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}
