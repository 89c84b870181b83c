//! What a worker tells of a slice while it works on it: spans, and the counts that only slices know.

use keyrotate_checkpoint::{HeldLease, LeaseRefusal, LedgerError, Refusal};
use keyrotate_proto::ticket::Ticket;
use keyrotate_queue::Delivery;
use keyrotate_rewrap::Settled;
use keyrotate_telemetry::spans::{self, Span};
use keyrotate_telemetry::{Instrument as _, metrics};
use tokio::time::Instant;

use crate::object::Unfinished;
use crate::pass::SliceError;
use crate::slice::SliceEnd;
use crate::source::{Item, SourceError};
use crate::window::Done;

/// A ticket came: the span of all that is done under it.
pub(crate) fn slice(delivery: &Delivery) -> Span {
    metrics().tickets_taken.inc();
    if delivery.redelivered() {
        metrics().redeliveries.inc();
    }
    let ticket = delivery.ticket();
    spans::slice(&ticket.shard.job, &ticket.shard, delivery.redelivered(), &ticket.traceparent)
}

/// Counts a lease as long as it lives.
pub(crate) struct Counted(());

impl Drop for Counted {
    fn drop(&mut self) {
        metrics().leases.dec();
    }
}

/// A lease was given or refused, under the current span. One that was taken from somebody links to his slice.
pub(crate) fn leased(ticket: &Ticket, leased: &Result<HeldLease, LeaseRefusal>) -> Option<Counted> {
    let span = Span::current();
    match leased {
        Ok(lease) => {
            span.record("pass.kind", tracing::field::display(lease.kind()));
            span.record("epoch", lease.epoch().counter);
            if let Some(before) = lease.taken_from() {
                spans::link_within(&span, &ticket.traceparent, before);
            }
            metrics().leases_given.inc();
            metrics().leases.inc();
            Some(Counted(()))
        }
        Err(refusal) => {
            let why = why(refusal);
            metrics().lease_refusals.with(&[why]).inc();
            span.record("slice.end", why);
            None
        }
    }
}

fn why(refusal: &LeaseRefusal) -> &'static str {
    match refusal {
        LeaseRefusal::Over => "over",
        LeaseRefusal::Held { .. } => "held",
        LeaseRefusal::NotNow(_) => "not-now",
        LeaseRefusal::Foreign { .. } => "foreign",
        LeaseRefusal::Misread { .. } => "misread",
        LeaseRefusal::OutOfScope => "out-of-scope",
        LeaseRefusal::Failed(LedgerError::Backend(_)) => "unreachable",
        LeaseRefusal::Failed(_) => "lost",
    }
}

/// One page of a source.
pub(crate) async fn page(
    read: impl Future<Output = Result<Option<Vec<Item>>, SourceError>>,
) -> Result<Option<Vec<Item>>, SourceError> {
    let span = spans::part_of_slice("list page");
    let page = read.instrument(span.clone()).await;
    match &page {
        Ok(items) => drop(span.record("items", items.as_ref().map_or(0, Vec::len))),
        Err(_) => spans::failed(&span, "source"),
    }
    page
}

/// The end of a window.
pub(crate) fn window(items: usize) -> Span {
    let span = spans::part_of_slice("close window");
    span.record("items", items);
    span
}

/// One object, under a span of its own where it is sampled. What went wrong with it is told on the slice's span.
pub(crate) async fn object(work: impl Future<Output = Result<Done, Unfinished>>) -> Result<Done, Unfinished> {
    let (span, began) = (spans::object(), Instant::now());
    let ended = match &span {
        Some(span) => work.instrument(span.clone()).await,
        None => work.await,
    };
    if let Ok(Done { settled: Some(Settled::Row(row)), .. }) = &ended {
        let outcome = (row.outcome.word(), row.outcome.reason());
        spans::object_ended(span.as_ref(), began.elapsed(), outcome, row.size);
    }
    ended
}

/// How a slice with rows ended.
pub(crate) fn slice_ended(end: &SliceEnd) {
    let (word, good) = match end {
        SliceEnd::Through => ("through", true),
        SliceEnd::Stopped => ("stopped", true),
        SliceEnd::Halted(_) => ("halted", false),
        SliceEnd::Source(_) => ("source", false),
        SliceEnd::Report(_) => ("report", false),
        SliceEnd::LeaseOver => ("lease-over", false),
        SliceEnd::Lost(_) => ("lost", false),
    };
    metrics().slices.with(&[word]).inc();
    let span = Span::current();
    span.record("slice.end", word);
    if !good {
        spans::failed(&span, word);
    }
    if matches!(end, SliceEnd::LeaseOver) {
        metrics().leases_lost.with(&["expired"]).inc();
    }
}

/// A slice ended without its last word.
pub(crate) fn lost(error: &SliceError) {
    let why = match error {
        SliceError::Ledger(LedgerError::Refused(Refusal::Expired)) => "expired",
        SliceError::Ledger(LedgerError::Backend(_)) | SliceError::Report(_) => "unreachable",
        SliceError::Ledger(_) => "fenced",
    };
    metrics().leases_lost.with(&[why]).inc();
    spans::failed(&Span::current(), why);
}
