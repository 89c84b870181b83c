//! What an event or a span is about: its job, and its place in a trace.

use opentelemetry::trace::TraceContextExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::spans::TARGET;

/// What log lines say besides their own fields.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) job: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) span_id: Option<String>,
}

/// The job that a span is about.
struct JobOf(String);

/// Remembers what spans are about.
struct Remember;

/// Which spans are made: with `traces` all of ours, else those that log lines want to know of.
pub(crate) fn ours(traces: bool) -> Targets {
    Targets::new().with_target(TARGET, if traces { LevelFilter::INFO } else { LevelFilter::ERROR })
}

pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(traces: bool) -> impl Layer<S> {
    Remember.with_filter(ours(traces))
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Remember {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut visit = FindJob(None);
        attributes.record(&mut visit);
        keep(visit, id, &context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut visit = FindJob(None);
        values.record(&mut visit);
        keep(visit, id, &context);
    }
}

fn keep<S: Subscriber + for<'a> LookupSpan<'a>>(found: FindJob, id: &Id, context: &Context<'_, S>) {
    if let (Some(job), Some(span)) = (found.0, context.span(id)) {
        span.extensions_mut().replace(JobOf(job));
    }
}

struct FindJob(Option<String>);

impl Visit for FindJob {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "job" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

impl About {
    /// What an event is about by the spans that it happens in, whether or not the log shows those.
    pub(crate) fn of(event: &Event<'_>) -> Self {
        let says_job = event.metadata().fields().field("job").is_some();
        tracing::dispatcher::get_default(|dispatch| {
            let current = dispatch.current_span();
            let Some(id) = event.parent().or_else(|| current.id()) else { return Self::default() };
            let registry = dispatch.downcast_ref::<Registry>();
            let job = registry.and_then(|registry| registry.span(id)).and_then(|span| {
                span.scope().find_map(|span| span.extensions().get::<JobOf>().map(|job| job.0.clone()))
            });
            let context = tracing_opentelemetry::get_otel_context(id, dispatch);
            let ids = context.map(|context| context.span().span_context().clone()).filter(|ids| ids.is_valid());
            Self {
                job: job.filter(|_| !says_job),
                trace_id: ids.as_ref().map(|ids| ids.trace_id().to_string()),
                span_id: ids.as_ref().map(|ids| ids.span_id().to_string()),
            }
        })
    }

    /// Names and values of what is known.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("job", &self.job), ("trace_id", &self.trace_id), ("span_id", &self.span_id)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}
