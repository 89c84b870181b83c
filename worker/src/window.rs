//! The end of a window: what is still unread is read back, the rows become a part, one commit names it.

use std::collections::HashMap;
use std::sync::Arc;

use keyrotate_checkpoint::{HeldLease, Signal};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::position::Position;
use keyrotate_proto::row::Row;
use keyrotate_rewrap::{Halt, Settled};
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

/// Closes a window that ends at `to`.
pub(crate) async fn close(
    tools: Arc<Tools>,
    lease: Arc<Mutex<HeldLease>>,
    mut books: Books,
    to: Position,
    done: Vec<Done>,
    last: bool,
) -> Result<Closed, SliceEnd> {
    let mut replaced = Counts::default();
    done.iter().for_each(|done| replaced.add(&done.replaced));
    let rows = read_back(&tools, done).await.map_err(SliceEnd::Halted)?;
    let commit = books.enter(to, &rows, &replaced, last).await.map_err(SliceEnd::Report)?;
    let mut lease = lease.lock().await;
    let signal = tools.ledger.commit(&mut lease, commit).await.map_err(SliceEnd::Lost)?;
    tools.deadline.extend(lease.deadline());
    Ok(Closed { books, signal })
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
        let permit = tools.permits.call().await;
        let read = tools.rewrapper.read_back(unread).await?;
        drop(permit);
        for row in read {
            tools.meter.outcome(row.outcome, row.size);
            let place = places.remove(&(row.key.clone(), row.version.clone()));
            if let Some(slot) = place.and_then(|place| rows.get_mut(place)) {
                *slot = Some(row);
            }
        }
    }
    Ok(rows.into_iter().flatten().collect())
}
