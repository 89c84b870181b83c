//! A collector of traces, as OpenTelemetry's protocol speaks to one over gRPC: it keeps what it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// It listens as long as the runtime lives.
#[derive(Clone, Debug)]
pub struct Collector {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A span, and who made it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The service that sent it.
    pub service: String,
    /// What it sent.
    pub span: Span,
}

impl Seen {
    /// An attribute as text; empty where there is none.
    #[must_use]
    pub fn attribute(&self, name: &str) -> String {
        let found = self.span.attributes.iter().find(|attribute| attribute.key == name);
        found.map(text).unwrap_or_default()
    }

    /// Whether it says that it failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == 2)
    }
}

impl Collector {
    /// Begins to listen.
    ///
    /// # Panics
    /// When there is no port to be had.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port can be had");
        let url = format!("http://{}", listener.local_addr().expect("it has an address"));
        let collector = Self { url, seen: Arc::default() };
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        collector
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to say.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All that came so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that came so far, by trace.
    #[must_use]
    pub fn traces(&self) -> BTreeMap<Vec<u8>, Vec<Seen>> {
        let mut traces: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for seen in self.seen() {
            traces.entry(seen.span.trace_id.clone()).or_default().push(seen);
        }
        traces
    }
}

/// Spans whose parent is none of them.
#[must_use]
pub fn without_parent(spans: &[Seen]) -> Vec<&Seen> {
    let ids: BTreeSet<&[u8]> = spans.iter().map(|seen| seen.span.span_id.as_slice()).collect();
    spans.iter().filter(|seen| !ids.contains(seen.span.parent_span_id.as_slice())).collect()
}

/// All text of a span: its name, its attributes, its events, its status.
#[must_use]
pub fn all_text(span: &Span) -> String {
    let mut all = vec![span.name.clone(), span.trace_state.clone()];
    all.extend(span.attributes.iter().map(text));
    for event in &span.events {
        all.push(event.name.clone());
        all.extend(event.attributes.iter().map(text));
    }
    all.extend(span.links.iter().flat_map(|link| link.attributes.iter().map(text)));
    all.extend(span.status.iter().map(|status| status.message.clone()));
    all.join("\n")
}

fn text(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|AnyValue { value }| value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.iter().flat_map(|resource| &resource.attributes);
            let service = attributes.clone().find(|one| one.key == "service.name").map(text).unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            seen.extend(spans.map(|span| Seen { service: service.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
