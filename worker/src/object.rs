//! One item of a slice, from the look at it to what became of it.

use keyrotate_proto::outcome::{Counts, Outcome};
use keyrotate_proto::row::Row;
use keyrotate_report::ReportError;
use keyrotate_rewrap::{Halt, Look, Plan, Settled, TakenOver};
use keyrotate_store::Entry;

use crate::slice::Tools;
use crate::source::Task;
use crate::window::Done;

/// Why an item has no outcome.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// What was seen says nothing about the object but about the job.
    Halted(Halt),
    /// Its intent could not be put down, so it was not written.
    Report(ReportError),
    /// The lease is nearly over, so it was not written.
    LeaseOver,
}

impl From<Halt> for Unfinished {
    fn from(halt: Halt) -> Self {
        Self::Halted(halt)
    }
}

/// Looks, puts the intent down where one is needed, acts.
pub(crate) async fn work(tools: &Tools, task: Task) -> Result<Done, Unfinished> {
    let replaced = task.replaces();
    let permit = tools.permits.object().await;
    let (look, doubt) = match task {
        Task::Look(entry) => (look(tools, &entry).await?, None),
        Task::Again(at, _) => (tools.rewrapper.look_again(&at).await?, None),
        Task::Doubt(at, row) => (tools.rewrapper.look_again(&at).await?, Some(row)),
        Task::Agrees => return Ok(Done { settled: None, replaced }),
    };
    drop(permit);
    let settled = match look {
        Look::Settled(row) if doubt.is_some_and(|old| says_the_same(&old, &row)) => {
            tools.meter.agrees();
            return Ok(Done { settled: None, replaced: Counts::default() });
        }
        Look::Settled(row) => Settled::Row(row),
        // Boxed: the way of a write is long, and most tasks never go it.
        Look::Write(plan) => Box::pin(write(tools, plan)).await?,
    };
    if let Settled::Row(row) = &settled {
        tools.meter.outcome(row.outcome, row.size);
    }
    Ok(Done { settled: Some(settled), replaced })
}

/// The same for what the listing alone decides, without a task, a permit or a word to the store.
pub(crate) fn settle_listed(tools: &Tools, task: &Task) -> Option<Done> {
    let Task::Look(entry) = task else { return None };
    let row = tools.left_intents.is_empty().then(|| tools.rewrapper.settled_by_listing(entry))??;
    tools.meter.outcome(row.outcome, row.size);
    Some(Done { settled: Some(Settled::Row(row)), replaced: Counts::default() })
}

/// An entry that a lost window had put down an intent for is asked about first: it may be written already.
async fn look(tools: &Tools, entry: &Entry) -> Result<Look, Unfinished> {
    match tools.left_intents.get(&(entry.key.clone(), entry.version.clone())) {
        None => Ok(tools.rewrapper.look(entry).await?),
        Some(intent) => Ok(match tools.rewrapper.take_over(intent).await? {
            TakenOver::Written(row) => Look::Settled(row),
            TakenOver::Look(look) => look,
        }),
    }
}

async fn write(tools: &Tools, mut plan: Box<Plan>) -> Result<Settled, Unfinished> {
    if let Some(intent) = plan.intent() {
        let before = intent.upload.clone();
        tools.gate.record(intent).await.map_err(Unfinished::Report)?;
        tools.rewrapper.open(&mut plan).await?;
        if let Some(intent) = plan.intent().filter(|intent| intent.upload != before) {
            tools.gate.record(intent).await.map_err(Unfinished::Report)?;
        }
    }
    let _permit = tools.permits.call().await;
    if !tools.deadline.allows_write(&tools.env) {
        return Err(Unfinished::LeaseOver);
    }
    Ok(tools.rewrapper.write(plan).await?)
}

/// Whether a second look, by HEAD, found what the row says: then the listing was the odd one, and the row stands.
fn says_the_same(old: &Row, new: &Row) -> bool {
    let same_place = old.version_after.as_ref().or(old.version.as_ref()) == new.version.as_ref();
    let same_content =
        old.etag == new.etag && old.size == new.size && old.last_modified.as_second() == new.last_modified.as_second();
    let same_verdict = match old.outcome {
        Outcome::Rotated(_) => new.outcome == Outcome::Current,
        outcome => new.outcome == outcome,
    };
    same_place && same_content && same_verdict
}
