//! Traces over OTLP, by gRPC or HTTP, as the standard `OTEL_*` variables say; without them there are none.
//!
//! Spans wait in a queue of bounded length, and a thread of its own sends them: where the collector is slow or gone, spans
//! are dropped and nothing waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::about::ours;
use crate::metrics::metrics;

/// How long the end of a process waits for the collector.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Traces at work.
#[derive(Debug)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    runtime: tokio::runtime::Runtime,
}

/// Begins to send traces, where they are wanted.
pub(crate) fn start(service: &'static str) -> Result<Option<Traces>, String> {
    let variable = |name: &str| std::env::var(name).ok();
    if !are_wanted(variable) {
        return Ok(None);
    }
    // Connections of gRPC live on it; the thread that sends is the exporter's own.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).thread_name("keyrotate-otlp").enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let exporter = {
        let _within = runtime.enter();
        Otlp::builder().build().map_err(|e| e.to_string())?
    };
    let exporter = Watched { inner: exporter, down: AtomicBool::new(false) };
    let mut resource = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ]);
    if !names_itself(variable) {
        resource = resource.with_service_name(service);
    }
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    crate::spans::traced();
    Ok(Some(Traces { provider, runtime }))
}

/// Whether somebody asked for traces: by naming a collector, or by `OTEL_TRACES_EXPORTER=otlp` for the usual place.
fn are_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return false;
    }
    match set("OTEL_TRACES_EXPORTER") {
        Some(exporters) => exporters.split(',').any(|exporter| exporter.trim() == "otlp"),
        None => set("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")).is_some(),
    }
}

fn names_itself(variable: impl Fn(&str) -> Option<String>) -> bool {
    let named = variable("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
    named || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="))
}

impl Traces {
    /// The layer that makes spans of ours into spans of traces. Of events it hears nothing: their errors may name objects.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("keyrotate"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(ours(true))
    }

    /// Sends what is left.
    pub(crate) fn end(self) {
        // A collector that does not answer by then has had its chance.
        let _late = self.provider.shutdown_with_timeout(LAST_WORD);
        self.runtime.shutdown_background();
    }
}

/// Says once that the collector takes nothing, and counts what it did not take.
#[derive(Debug)]
struct Watched {
    inner: Otlp,
    down: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let ended = self.inner.export(batch).await;
        match &ended {
            Err(error) => {
                metrics().spans_lost.inc_by(spans);
                if !self.down.swap(true, Ordering::Relaxed) {
                    let told = "the collector of traces takes none; the work goes on without them";
                    tracing::warn!(error = error as &dyn std::error::Error, "{told}");
                }
            }
            Ok(()) if self.down.swap(false, Ordering::Relaxed) => tracing::info!("the collector takes traces again"),
            Ok(()) => {}
        }
        ended
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_off_unless_somebody_asks_for_them() {
        let wanted = |set: &[(&str, &str)]| {
            are_wanted(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        assert!(!wanted(&[]));
        assert!(!wanted(&[("OTEL_SERVICE_NAME", "x")]));
        assert!(!wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]));
        assert!(wanted(&[endpoint]));
        assert!(wanted(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/v1/traces")]));
        assert!(wanted(&[("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(!wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
        assert!(!wanted(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]));
    }
}
