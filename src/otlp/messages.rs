//! OTLP's messages for traces (opentelemetry-proto 1, `trace.proto`), as far as spans here fill them. It refuses fields that
//! nothing here knows.

use instruments::trace::{Context, Record, Value};
use prost::{Message, Oneof};

use crate::config::Role;

/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;
/// `SPAN_FLAGS` of a sampled span.
const SAMPLED: u32 = 1;

#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

/// What was not taken is not looked at.
#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

/// Who sends.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
#[expect(clippy::struct_field_names, reason = "the standard's names")]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(fixed32, tag = "6")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 3")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

impl ExportRequest {
    /// These spans.
    pub fn of(resource: &Resource, spans: &[Record]) -> Self {
        let scope = Scope {
            name: "showcaller".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let spans = ScopeSpans {
            scope: Some(scope),
            spans: spans.iter().map(span).collect(),
        };
        Self {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource.clone()),
                scope_spans: vec![spans],
            }],
        }
    }
}

impl Resource {
    /// A process with this role, or with all.
    pub fn of(role: Option<Role>) -> Self {
        let name = role.map_or_else(|| "showcaller".into(), |role| format!("showcaller-{role}"));
        let text = |key, text: &str| key_value(key, &Value::from(text));
        Self {
            attributes: vec![
                text("service.namespace", "showcaller"),
                text("service.name", &name),
                text("service.version", env!("CARGO_PKG_VERSION")),
            ],
        }
    }
}

fn span(record: &Record) -> Span {
    let (trace_id, span_id) = ids(&record.context);
    let parent = record.parent.map(|parent| parent.to_be_bytes().to_vec());
    let attributes = record.attributes.iter();
    Span {
        trace_id,
        span_id,
        parent_span_id: parent.unwrap_or_default(),
        name: record.name.clone().into_owned(),
        kind: record.kind as i32,
        start_time_unix_nano: record.began,
        end_time_unix_nano: record.ended,
        attributes: attributes
            .map(|(key, value)| key_value(key, value))
            .collect(),
        links: record.links.iter().map(link).collect(),
        status: record.failed.then_some(Status { code: ERROR }),
        flags: SAMPLED,
    }
}

fn link(context: &Context) -> Link {
    let (trace_id, span_id) = ids(context);
    Link {
        trace_id,
        span_id,
        flags: SAMPLED,
    }
}

fn ids(context: &Context) -> (Vec<u8>, Vec<u8>) {
    (
        context.trace.to_be_bytes().to_vec(),
        context.span.to_be_bytes().to_vec(),
    )
}

fn key_value(key: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => Any::Text(text.clone()),
        Value::Number(number) => Any::Number(*number),
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}
