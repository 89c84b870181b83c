//! One item of a slice, from the look at it to what became of it.

use std::sync::Arc;

use keyrotate_checkpoint::LedgerError;
use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::{Counts, Outcome, Strategy};
use keyrotate_proto::rates::KMS_CALLS;
use keyrotate_proto::row::Row;
use keyrotate_report::ReportError;
use keyrotate_rewrap::{Halt, Interrupted, Look, Plan, Settled, TakenOver};
use keyrotate_store::{Entry, HeadRequest, ObjectAt};

use crate::slice::Tools;
use crate::source::{Task, agrees};
use crate::window::Done;

/// Why an item has no outcome.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// What was seen says nothing about the object but about the job, or the lease is over; and what was written before
    /// that.
    Halted(Halt, Option<Box<Intent>>),
    /// The slice ended while it waited for its turn, so it was not looked at, or not written.
    NotItsTurn,
    /// Its intent could not be put down, so it was not written.
    Report(ReportError),
    /// The checkpoint could not be asked whether it may be written.
    Lost(LedgerError),
}

impl From<Halt> for Unfinished {
    fn from(halt: Halt) -> Self {
        Self::Halted(halt, None)
    }
}

impl From<Interrupted> for Unfinished {
    fn from(end: Interrupted) -> Self {
        Self::Halted(end.halt, end.made)
    }
}

/// Looks, puts the intent down where one is needed, acts. `in_doubt`: an earlier write of it may still be on its way.
pub(crate) async fn work(tools: &Tools, task: Task, in_doubt: bool) -> Result<Done, Unfinished> {
    let replaced = task.replaces();
    let permit = turn(tools, tools.permits.object()).await?;
    let (look, doubt) = match task {
        Task::Look(entry) if of_a_lost_window(tools, &entry).await?.is_some() => {
            return Ok(Done { settled: None, replaced });
        }
        Task::Look(entry) => (look(tools, &entry, in_doubt).await?, None),
        Task::Current(entry, named) => match of_a_lost_window(tools, &entry).await? {
            // The version that it was made of has a row in the manifest, and an item, of its own.
            Some(intent) if intent.version.as_ref().is_some_and(|before| named.contains(before)) => {
                return Ok(Done { settled: None, replaced });
            }
            Some(intent) => (take_over(tools, intent).await?, None),
            None => (look(tools, &entry, in_doubt).await?, None),
        },
        Task::Missing(at) => (look_again(tools, &at).await?, None),
        Task::Again(at, _) => (look_again(tools, &at).await?, None),
        Task::Doubt(at, row) => (look_again(tools, &at).await?, Some(row)),
        Task::Reread(at, row) if is_as_it_was(tools, &at, &row).await => {
            tools.meter.agrees();
            return Ok(Done { settled: None, replaced: Counts::default() });
        }
        Task::Reread(at, row) => (look_again(tools, &at).await?, Some(row)),
        Task::Agrees => return Ok(Done { settled: None, replaced }),
    };
    drop(permit);
    let settled = match look {
        Look::Settled(row) if doubt.is_some_and(|old| says_the_same(&old, &row)) => {
            tools.meter.agrees();
            return Ok(Done { settled: None, replaced: Counts::default() });
        }
        Look::Settled(row) => Settled::Row(row),
        Look::Write(plan) if tools.sets_aside => Settled::Row(tools.rewrapper.set_aside_unwritten(&plan)),
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
    let (Task::Look(entry) | Task::Current(entry, _)) = task else { return None };
    let left = tools.left_intents.of(&entry.key);
    let row = left.is_empty().then(|| tools.rewrapper.settled_by_listing(entry))??;
    tools.meter.outcome(row.outcome, row.size);
    Some(Done { settled: Some(Settled::Row(row)), replaced: Counts::default() })
}

/// The intent of a lost window that this listed version was made by, of another one of its key: that one's row speaks of
/// both.
async fn of_a_lost_window<'a>(tools: &'a Tools, entry: &Entry) -> Result<Option<&'a Intent>, Unfinished> {
    let others = tools.left_intents.of(&entry.key).iter().filter(|intent| intent.version != entry.version);
    for intent in others.filter(|intent| intent.adds_version()) {
        if entry.version.is_some() && tools.rewrapper.made_of(intent).await? == entry.version {
            return Ok(Some(intent));
        }
    }
    Ok(None)
}

/// Whether HEAD shows what a row says. Whatever else it answers, a second look makes sense of.
async fn is_as_it_was(tools: &Tools, at: &ObjectAt, row: &Row) -> bool {
    if !tools.left_intents.of(&at.key).is_empty() {
        return false;
    }
    let shown = tools.store.head(HeadRequest::of(at)).await;
    shown.is_ok_and(|object| agrees(row, &object.etag, object.size, object.last_modified, Some(&object.sse)))
}

/// An entry that a lost window had put down an intent for is asked about first: it may be written already.
async fn look(tools: &Tools, entry: &Entry, in_doubt: bool) -> Result<Look, Unfinished> {
    match tools.left_intents.at(&entry.key, entry.version.as_ref()) {
        Some(intent) => take_over(tools, intent).await,
        None if in_doubt => Ok(tools.rewrapper.look_in_doubt(entry).await?),
        None => Ok(tools.rewrapper.look(entry).await?),
    }
}

/// The same where a row of an earlier pass names the version.
async fn look_again(tools: &Tools, at: &ObjectAt) -> Result<Look, Unfinished> {
    match tools.left_intents.at(&at.key, at.version.as_ref()) {
        Some(intent) => take_over(tools, intent).await,
        None => Ok(tools.rewrapper.look_again(at).await?),
    }
}

async fn take_over(tools: &Tools, intent: &Intent) -> Result<Look, Unfinished> {
    Ok(match tools.rewrapper.take_over(intent).await? {
        TakenOver::Written(row) => Look::Settled(row),
        TakenOver::Look(look) => look,
    })
}

async fn write(tools: &Tools, mut plan: Box<Plan>) -> Result<Settled, Unfinished> {
    let moved = if plan.strategy() == Strategy::UpdateEncryption { 0 } else { plan.size() };
    turn(tools, tools.permits.write(moved, KMS_CALLS)).await?;
    if plan.adds_version() {
        tools.purse.take(plan.size()).await.map_err(Unfinished::Lost)??;
    }
    if let Some(intent) = plan.intent() {
        let before = intent.upload.clone();
        tools.gate.record(intent).await.map_err(Unfinished::Report)?;
        let permit = turn(tools, tools.permits.call()).await?;
        tools.rewrapper.open(&mut plan).await?;
        drop(permit);
        plan.tell_of_parts(Arc::clone(&tools.part_added));
        let says_more = |intent: &Intent| intent.upload != before || plan.has_unheard_upload();
        if let Some(intent) = plan.intent().filter(says_more) {
            tools.gate.record(intent).await.map_err(Unfinished::Report)?;
        }
    }
    let _permit = turn(tools, tools.permits.call()).await?;
    Ok(tools.rewrapper.write(plan).await?)
}

/// Waits for a permit, or a rate, for as long as the slice goes on: what has to wait when it ends is left to the next one.
async fn turn<T>(tools: &Tools, turn: impl Future<Output = T>) -> Result<T, Unfinished> {
    tokio::select! {
        biased;
        () = tools.ending.cancelled() => Err(Unfinished::NotItsTurn),
        turn = turn => Ok(turn),
    }
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
