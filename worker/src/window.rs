//! The end of a window: what is still unread is read back, the rows become a part, one commit names it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::{self, StreamExt};
use keyrotate_checkpoint::{HeldLease, Signal};
use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::{Counts, Outcome};
use keyrotate_proto::position::Position;
use keyrotate_proto::row::Row;
use keyrotate_rewrap::{Halt, Settled, Unread, probe};
use keyrotate_store::ObjectAt;
use tokio::sync::Mutex;

use crate::books::Books;
use crate::slice::{SliceEnd, Tools};

/// One item that is through: its row, or its write that is yet to be read back, or nothing where its row stands.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) settled: Option<Settled>,
    pub(crate) replaced: Counts,
}

/// A committed window.
pub(crate) struct Closed {
    pub(crate) books: Books,
    pub(crate) signal: Signal,
}

/// A window that was not committed.
pub(crate) struct Broken {
    pub(crate) end: SliceEnd,
    /// What of it was written.
    pub(crate) made: Vec<Intent>,
}

/// What of some items was written, to be put down for whoever works on them next.
pub(crate) fn made(done: &[Done]) -> Vec<Intent> {
    let intent = |done: &Done| match &done.settled {
        Some(Settled::Row(row)) => made_by(row),
        Some(Settled::Unread(unread)) => unread.intent(),
        None => None,
    };
    done.iter().filter_map(intent).collect()
}

fn made_by(row: &Row) -> Option<Intent> {
    row.outcome.is_of_a_write().then(|| Intent::made(row.clone(), true))?
}

/// Closes a window that ends at `to`.
pub(crate) async fn close(
    tools: Arc<Tools>,
    lease: Arc<Mutex<HeldLease>>,
    mut books: Books,
    to: Position,
    done: Vec<(Position, Done)>,
    last: bool,
) -> Result<Closed, Broken> {
    done.iter().for_each(|(entry, _)| books.list(entry));
    let done: Vec<Done> = done.into_iter().map(|(_, done)| done).collect();
    let mut replaced = Counts::default();
    done.iter().for_each(|done| replaced.add(&done.replaced));
    let unread = made(&done);
    let rows = read_back(&tools, done).await.map_err(|halt| Broken { end: halt.into(), made: unread })?;
    let broken = |end: SliceEnd| Broken { end, made: rows.iter().filter_map(made_by).collect() };
    touch_first(&tools, &books, &rows).await.map_err(|halt| broken(halt.into()))?;
    let entered = books.enter(to, &rows, &replaced, last).await;
    let commit = entered.map_err(|error| broken(SliceEnd::Report(error)))?;
    let mut lease = lease.lock().await;
    let signal = tools.ledger.commit(&mut lease, commit).await.map_err(|error| broken(SliceEnd::Lost(error)))?;
    tools.deadline.extend(lease.deadline());
    Ok(Closed { books, signal })
}

/// Of the first rotated object of each slice one byte is read: a target key that was deleted and made anew under its
/// name shows in no HEAD.
async fn touch_first(tools: &Tools, books: &Books, rows: &[Row]) -> Result<(), Halt> {
    let rotated = |row: &&Row| matches!(row.outcome, Outcome::Rotated(_)) && row.size > 0;
    let Some(first) = rows.iter().find(rotated) else { return Ok(()) };
    if tools.touched.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let version = first.version_after.clone().or_else(|| first.version.clone());
    let at = ObjectAt { bucket: books.bucket().to_owned(), key: first.key.clone(), version };
    let _permit = tools.permits.call().await;
    probe::touch(tools.store.as_ref(), &at).await
}

/// The rows of a window in order, those that were unread put back into their places.
async fn read_back(tools: &Tools, done: Vec<Done>) -> Result<Vec<Row>, Halt> {
    let mut rows = Vec::with_capacity(done.len());
    let (mut unread, mut places) = (Vec::new(), HashMap::new());
    for settled in done.into_iter().filter_map(|done| done.settled) {
        match settled {
            Settled::Row(row) => rows.push(Some(row)),
            Settled::Unread(one) => {
                places.insert((one.at().key.clone(), one.at().version.clone()), rows.len());
                rows.push(None);
                unread.push(*one);
            }
        }
    }
    if !unread.is_empty() {
        for row in read_back_unread(tools, unread).await? {
            tools.meter.outcome(row.outcome, row.size);
            let place = places.remove(&(row.key.clone(), row.version.clone()));
            if let Some(slot) = place.and_then(|place| rows.get_mut(place)) {
                *slot = Some(row);
            }
        }
    }
    Ok(rows.into_iter().flatten().collect())
}

/// By pages of a listing, and one by one where those leave a doubt.
async fn read_back_unread(tools: &Tools, unread: Vec<Unread>) -> Result<Vec<Row>, Halt> {
    let permit = tools.permits.call().await;
    let (mut rows, doubtful) = tools.rewrapper.read_back_by_pages(unread).await?;
    drop(permit);
    let by_head = |unread| async {
        let _permit = tools.permits.call().await;
        tools.rewrapper.read_back_by_head(unread).await
    };
    let mut heads = stream::iter(doubtful.into_iter().map(by_head)).buffer_unordered(tools.limits.tasks);
    while let Some(row) = heads.next().await {
        rows.push(row?);
    }
    Ok(rows)
}
