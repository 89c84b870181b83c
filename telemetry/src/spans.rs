//! Every span that keyrotate makes: its name, kind and attributes. Attributes are ids, words and numbers; a key of an
//! object is never one, nor is text that a store sent, which may repeat one.
//!
//! What a span's level says here is who wants it: `ERROR` spans are always made, since log lines tell their job; `INFO` spans
//! are made where traces are.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
pub use tracing::Span;
use tracing::field::Empty;
use tracing::{error_span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of all of them.
pub(crate) const TARGET: &str = "keyrotate_telemetry::spans";
/// The span around all that is done under one ticket.
const SLICE: &str = "slice";
/// Of so many objects one has a span of its own, and spans of its calls; those that fail have one in any case.
const SAMPLE: u64 = 100;

static TRACED: AtomicBool = AtomicBool::new(false);

/// Traces are sent from now on.
pub(crate) fn traced() {
    TRACED.store(true, Ordering::Relaxed);
}

fn is_traced() -> bool {
    TRACED.load(Ordering::Relaxed)
}

/// A request to the API. It goes on with the caller's trace, where it names one.
#[must_use]
pub fn request(method: &str, route: &'static str, traceparent: &str) -> Span {
    let span = info_span!(
        target: TARGET, "request", otel.name = format!("{method} {route}"), otel.kind = "server", http.request.method = method,
        http.route = route, http.response.status_code = Empty, otel.status_code = Empty, error.type = Empty, job = Empty
    );
    child_of(span, traceparent)
}

/// A job file comes in on this machine.
#[must_use]
pub fn submit() -> Span {
    info_span!(target: TARGET, "submit", otel.kind = "internal", otel.status_code = Empty, error.type = Empty, job = Empty)
}

/// What a coordinator does for a job: `open pass`, `write report`.
#[must_use]
pub fn step(what: &'static str, job: impl Display, traceparent: &str) -> Span {
    let span = info_span!(
        target: TARGET, "step", otel.name = what, job = %job, pass.kind = Empty, otel.status_code = Empty, error.type = Empty
    );
    child_of(span, traceparent)
}

/// A ticket goes out.
#[must_use]
pub fn publish(job: impl Display, shard: impl Display, store: &str, traceparent: &str) -> Span {
    let span = info_span!(
        target: TARGET, "publish ticket", otel.kind = "producer", messaging.operation.type = "send",
        messaging.destination.name = store, job = %job, shard = %shard, otel.status_code = Empty, error.type = Empty
    );
    child_of(span, traceparent)
}

/// Everything under one ticket, as a child of its publishing.
#[must_use]
pub fn slice(job: impl Display, shard: impl Display, redelivered: bool, traceparent: &str) -> Span {
    let span = error_span!(
        target: TARGET, "slice", otel.kind = "consumer", messaging.operation.type = "process", job = %job, shard = %shard,
        redelivered, pass.kind = Empty, epoch = Empty, slice.end = Empty, otel.status_code = Empty, error.type = Empty
    );
    child_of(span, traceparent)
}

/// A part of a slice: `read shard`, `list page`, `close window`, `prepare`, `clean`, `canary`, `bucket lease`.
#[must_use]
pub fn part_of_slice(what: &'static str) -> Span {
    info_span!(
        target: TARGET, "part", otel.name = what, items = Empty, otel.status_code = Empty, error.type = Empty
    )
}

/// An object that is worked on, where it is sampled; `None`: where not, or without traces.
#[must_use]
pub fn object() -> Option<Span> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let sampled = is_traced() && NUMBER.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE);
    sampled.then(|| {
        info_span!(
            target: TARGET, "object", outcome = Empty, reason = Empty, size = Empty, otel.status_code = Empty,
            error.type = Empty
        )
    })
}

/// What became of an object: written to its span where it had one. One that failed is told on the slice's span, the
/// current one, too, and has a span in any case.
pub fn object_ended(span: Option<&Span>, took: Duration, (outcome, reason): (&str, &str), size: u64) {
    if !is_traced() {
        return;
    }
    let bad = matches!(outcome, "failed" | "conflict");
    if let Some(span) = span {
        span.record("outcome", outcome).record("reason", reason).record("size", size);
        if bad {
            failed(span, outcome);
        }
    }
    if !bad {
        return;
    }
    let ended = opentelemetry::time::now();
    let began = ended.checked_sub(took).unwrap_or(ended);
    let told = || vec![KeyValue::new("outcome", outcome.to_owned()), KeyValue::new("reason", reason.to_owned())];
    Span::current().add_event_with_timestamp("object failed", ended, told());
    if span.is_none() {
        let (tracer, parent) = (opentelemetry::global::tracer("keyrotate"), Span::current().context());
        if !parent.span().span_context().is_valid() {
            return;
        }
        let builder = tracer.span_builder("object").with_start_time(began).with_attributes(told());
        let mut span = builder.start_with_context(&tracer, &parent);
        span.set_status(Status::error(outcome.to_owned()));
        span.end_with_timestamp(ended);
    }
}

/// A call to a store, where the current span is one that wants to know: not within a whole slice of thousands.
#[must_use]
pub fn store_call(store: &str, operation: &'static str) -> Span {
    if !wants_calls() {
        return Span::none();
    }
    info_span!(
        target: TARGET, "store", otel.name = format!("s3 {operation}"), otel.kind = "client", rpc.system = "aws-api",
        rpc.service = "S3", rpc.method = operation, store, otel.status_code = Empty, error.type = Empty
    )
}

/// A call to KES, with all its tries.
#[must_use]
pub fn kes_call(operation: &'static str) -> Span {
    if !wants_calls() {
        return Span::none();
    }
    info_span!(
        target: TARGET, "kes", otel.name = format!("kes {operation}"), otel.kind = "client", otel.status_code = Empty,
        error.type = Empty
    )
}

/// A call to the checkpoint in Redis, where something is traced at all.
#[must_use]
pub fn redis_call(operation: &'static str) -> Span {
    if !is_traced() || Span::current().is_none() {
        return Span::none();
    }
    info_span!(
        target: TARGET, "redis", otel.name = format!("redis {operation}"), otel.kind = "client", db.system.name = "redis",
        db.operation.name = operation, otel.status_code = Empty, error.type = Empty
    )
}

fn wants_calls() -> bool {
    is_traced() && Span::current().metadata().is_some_and(|span| span.name() != SLICE && span.target() == TARGET)
}

/// Marks a span as failed, with a word for what it was.
pub fn failed(span: &Span, kind: &str) {
    span.record("otel.status_code", "ERROR").record("error.type", kind);
}

/// W3C trace context of a span, for others to go on with; empty without traces.
#[must_use]
pub fn traceparent(span: &Span) -> String {
    if !is_traced() {
        return String::new();
    }
    let context = span.context();
    let span = context.span();
    let ids = span.span_context();
    if !ids.is_valid() {
        return String::new();
    }
    format!("00-{}-{}-{:02x}", ids.trace_id(), ids.span_id(), ids.trace_flags().to_u8())
}

/// The id of a span that is traced.
#[must_use]
pub fn span_id(span: &Span) -> Option<String> {
    let traceparent = traceparent(span);
    traceparent.split('-').nth(2).map(str::to_owned)
}

/// Links a slice to the one that was at work before under the same ticket, or another of the same job.
pub fn link_within(span: &Span, traceparent: &str, span_id: &str) {
    if let Some(trace) = traceparent.split('-').nth(1) {
        link(span, &format!("00-{trace}-{span_id}-01"));
    }
}

/// The span as a child of one elsewhere, where that is one.
fn child_of(span: Span, traceparent: &str) -> Span {
    if let Some(parent) = read(traceparent).filter(|_| is_traced()) {
        // Refused only where the span is not traced.
        let _untraced = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    span
}

/// Links a span to one elsewhere.
fn link(span: &Span, traceparent: &str) {
    if let Some(other) = read(traceparent).filter(|_| is_traced()) {
        span.add_link(other);
    }
}

/// The ids of a `traceparent`. What is none is nothing: it comes from outside.
fn read(traceparent: &str) -> Option<SpanContext> {
    let mut pieces = traceparent.split('-');
    let (version, trace, span, flags) = (pieces.next()?, pieces.next()?, pieces.next()?, pieces.next()?);
    let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
    if !lengths || version == "ff" || (version == "00" && pieces.next().is_some()) {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let ids = SpanContext::new(trace, span, TraceFlags::new(flags & 1), true, TraceState::default());
    ids.is_valid().then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_or_nothing() {
        let good = read("00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01").unwrap();
        assert_eq!(good.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(good.span_id().to_string(), "00f067aa0ba902b7");
        assert!(good.is_sampled() && good.is_remote());
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-zz",
            "00-äaf7651916cd43dd8448eb211c80319-00f067aa0ba902b7-01",
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn without_traces_nothing_is_made() {
        assert!(object().is_none());
        assert!(store_call("default", "list").is_none());
        assert_eq!(traceparent(&slice("j", "s", false, "")), "");
    }
}
