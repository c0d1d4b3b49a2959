//! Serves the document, and a page to read it in. The page is three files of our own: it asks no other host for anything,
//! and its policy lets the browser run nothing that is not from here.

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::routing::get;

use super::{Answer, Description, FAULTS, JSON, Method, Operation, Security};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

const HTML: &str = "text/html; charset=utf-8";
/// What the page may do: load its own script and style, and ask this server.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";
/// Kept, but asked for each time: a new version has another document.
const CACHED: &str = "no-cache";

const DOCUMENT_PATH: &str = "/openapi.json";
const MESSAGES_PATH: &str = "/asyncapi.json";
const PAGE_PATH: &str = "/docs";
const SCRIPT_PATH: &str = "/docs/page.js";
const STYLE_PATH: &str = "/docs/page.css";

impl Description {
    /// `GET /openapi.json`, `GET /asyncapi.json`, and `GET /docs` with its files: for everybody.
    pub fn routes(&self) -> Router {
        let document = Bytes::from(self.document().to_string());
        let messages = Bytes::from(self.messages.to_string());
        let file = |media: &'static str, policy: Option<&'static str>, body: Bytes| {
            let named = [(CONTENT_TYPE, media), (CACHE_CONTROL, CACHED)];
            let headers: HeaderMap = named
                .into_iter()
                .chain(policy.map(|policy| (CONTENT_SECURITY_POLICY, policy)))
                .map(|(name, value)| (name, HeaderValue::from_static(value)))
                .collect();
            get(async move || (headers, body))
        };
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        Router::new()
            .route(DOCUMENT_PATH, file(JSON, None, document))
            .route(MESSAGES_PATH, file(JSON, None, messages))
            .route(PAGE_PATH, file(HTML, Some(PAGE_POLICY), text(PAGE)))
            .route(
                SCRIPT_PATH,
                file("text/javascript; charset=utf-8", None, text(SCRIPT)),
            )
            .route(
                STYLE_PATH,
                file("text/css; charset=utf-8", None, text(STYLE)),
            )
    }
}

/// What these routes say of themselves.
pub(super) fn operations() -> Vec<Operation> {
    let served = |path: &str, id: &str, summary: &str, media, schema| Operation {
        method: Method::Get,
        path: path.to_owned(),
        tag: "description".to_owned(),
        id: format!("description.{id}"),
        summary: summary.to_owned(),
        description: String::new(),
        security: Security::Open,
        parameters: Vec::new(),
        body: None,
        answers: vec![Answer {
            status: 200,
            meaning: summary.to_owned(),
            headers: Vec::new(),
            content: vec![(media, schema)],
        }],
        problems: FAULTS.to_vec(),
    };
    let any = |kind: &str| serde_json::json!({ "type": kind });
    vec![
        served(
            DOCUMENT_PATH,
            "document",
            "This document.",
            JSON,
            any("object"),
        ),
        served(
            MESSAGES_PATH,
            "messages",
            "What goes over RabbitMQ, as an AsyncAPI 3.0 document.",
            JSON,
            any("object"),
        ),
        served(
            PAGE_PATH,
            "page",
            "A page to read this document in.",
            "text/html",
            any("string"),
        ),
        served(
            SCRIPT_PATH,
            "script",
            "The page's script.",
            "text/javascript",
            any("string"),
        ),
        served(
            STYLE_PATH,
            "style",
            "The page's style.",
            "text/css",
            any("string"),
        ),
    ]
}
