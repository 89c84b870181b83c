//! Brings a manifest into a report store: rows are read on a thread of their own, sorted run by run, the runs merged.
//!
//! Whoever does it again, since whoever did it before was lost, stores under other names and reads everything anew; the
//! first index that is written counts. Only then is emptied what it does not name: a report store deletes nothing, and its
//! credentials need no right to.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;

use keyrotate_proto::outcome::Outcome;
use keyrotate_report::rows::LastRows;
use keyrotate_report::{ReportError, ReportStore};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::error::{ManifestError, Result};
use crate::merge::{Run, Shelf, merge};
use crate::origin::Origin;
use crate::read::{Columns, Sink, Wanted};
use crate::sorted::{FOLDER, INDEX, INDEX_VERSION, Index, Left, Packed, Packer, Sorted};
use crate::{Named, csv_file, inventory};

/// Rows that are handed on at a time.
const BATCH: usize = 4096;

/// What a row takes in memory besides its text.
const ROW: usize = size_of::<Named>() + 32;

/// What a manifest is read from.
#[derive(Debug)]
pub enum Input {
    /// `bucket,key[,version]` in each row.
    Csv(Origin),
    /// `manifest.json` of S3 Inventory.
    Inventory(Origin),
    /// The last rows of a former job: of them, what could not be done.
    FailedOf(LastRows),
}

/// What bounds the memory that it takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of rows that are sorted at a time.
    pub run: usize,
    /// Bytes of rows in a segment, not packed.
    pub segment: usize,
    /// Runs that are merged at a time; a segment of each is in memory.
    pub at_a_time: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { run: 64 << 20, segment: 2 << 20, at_a_time: 16 }
    }
}

/// Reads, sorts and stores. `attempt` is a name that no other attempt has. Where it is in the store already, nothing is
/// read.
///
/// # Errors
/// When something of it is not as it should be, and when it, or the report store, can't be read or written.
pub async fn bring_in(
    input: Input,
    wanted: &Wanted,
    store: Arc<dyn ReportStore>,
    attempt: &str,
    limits: &Limits,
) -> Result<Sorted> {
    if let Some(sorted) = Sorted::open(Arc::clone(&store)).await? {
        return Ok(sorted);
    }
    let mut sorter = Sorter {
        shelf: Shelf::new(Arc::clone(&store), attempt),
        limits: *limits,
        rows: Vec::new(),
        bytes: 0,
        runs: Vec::new(),
        left: Left::default(),
    };
    match input {
        Input::Csv(origin) => {
            read(&mut sorter, wanted, move |sink| csv_file::read(&origin.open()?, &Columns::LIST, sink)).await?
        }
        Input::Inventory(origin) => read(&mut sorter, wanted, move |sink| inventory::read(&origin, sink)).await?,
        Input::FailedOf(rows) => read_failed(&mut sorter, wanted, rows).await?,
    }
    let index = sorter.end().await?;
    if index.segments.is_empty() {
        let what = format!(
            "the manifest names no object of the bucket `{}` whose key begins with `{}`; rows left out: {}",
            wanted.bucket, wanted.prefix, index.left.outside
        );
        return Err(ManifestError::bad(what, "there is nothing to do"));
    }
    #[expect(clippy::expect_used, reason = "names and numbers are always JSON")]
    let bytes = serde_json::to_vec(&index).expect("an index is JSON");
    match store.put_new(INDEX, bytes).await {
        Ok(()) | Err(ReportError::Exists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let sorted = Sorted::open(Arc::clone(&store)).await?.ok_or_else(|| ReportError::NotFound(INDEX.into()))?;
    empty_others(store.as_ref(), &sorted).await?;
    Ok(sorted)
}

/// Reads on a thread of its own; it ends when nobody takes its rows any more.
async fn read(
    sorter: &mut Sorter,
    wanted: &Wanted,
    work: impl FnOnce(&mut Sink<'_>) -> Result<()> + Send + 'static,
) -> Result<()> {
    let (sender, mut batches) = mpsc::channel::<Vec<Named>>(4);
    let wanted = wanted.clone();
    let reading = spawn_blocking(move || {
        let mut batch = Vec::with_capacity(BATCH);
        let mut take = |named| {
            batch.push(named);
            if batch.len() < BATCH {
                return Ok(());
            }
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            sender.blocking_send(full).map_err(|_| ManifestError::Unwanted)
        };
        let mut sink = Sink { wanted: &wanted, outside: 0, take: &mut take };
        work(&mut sink)?;
        let outside = sink.outside;
        sender.blocking_send(batch).map_err(|_| ManifestError::Unwanted)?;
        Ok::<_, ManifestError>(outside)
    });
    while let Some(batch) = batches.recv().await {
        for named in batch {
            sorter.add(named).await?;
        }
    }
    match reading.await {
        Ok(read) => sorter.left.outside += read?,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => return Err(ManifestError::Unwanted),
    }
    Ok(())
}

/// The version that a row speaks of is the one that was made, where one was.
async fn read_failed(sorter: &mut Sorter, wanted: &Wanted, rows: LastRows) -> Result<()> {
    let mut rows = rows.filtered(Outcome::is_bad);
    while let Some(of_key) = rows.next_key().await? {
        if !of_key.key.starts_with(&wanted.prefix) {
            sorter.left.outside += of_key.rows.len() as u64;
            continue;
        }
        for row in of_key.rows.into_iter().map(|last| last.row) {
            sorter.add(Named { key: row.key, version: row.version_after.or(row.version) }).await?;
        }
    }
    Ok(())
}

/// Gathers rows until a run is full.
struct Sorter {
    shelf: Shelf,
    limits: Limits,
    rows: Vec<Named>,
    bytes: usize,
    runs: Vec<Run>,
    left: Left,
}

impl Sorter {
    async fn add(&mut self, named: Named) -> Result<()> {
        self.bytes += ROW + named.key.len() + named.version.as_ref().map_or(0, String::len);
        self.rows.push(named);
        if self.bytes >= self.limits.run { self.sort().await } else { Ok(()) }
    }

    async fn sort(&mut self) -> Result<()> {
        let (mut rows, segment) = (std::mem::take(&mut self.rows), self.limits.segment);
        self.bytes = 0;
        let before = rows.len();
        let sorted = spawn_blocking(move || {
            rows.sort_unstable();
            rows.dedup();
            let mut packer = Packer::new(segment);
            let mut packed: Vec<Packed> = rows.iter().filter_map(|named| packer.push(named)).collect();
            packed.extend(packer.end());
            (rows.len(), packed)
        });
        let (after, packed) = match sorted.await {
            Ok(sorted) => sorted,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => return Err(ManifestError::Unwanted),
        };
        self.left.duplicates += (before - after) as u64;
        let mut run = Run::with_capacity(packed.len());
        for packed in packed {
            run.push(self.shelf.keep(packed).await?);
        }
        self.runs.push(run);
        Ok(())
    }

    async fn end(mut self) -> Result<Index> {
        if !self.rows.is_empty() {
            self.sort().await?;
        }
        let (at_a_time, segment) = (self.limits.at_a_time, self.limits.segment);
        let (segments, duplicates) = merge(&mut self.shelf, self.runs, at_a_time, segment).await?;
        self.left.duplicates += duplicates;
        Ok(Index { version: INDEX_VERSION, left: self.left, segments })
    }
}

/// Takes the bytes of runs, and of attempts that came to nothing.
async fn empty_others(store: &dyn ReportStore, sorted: &Sorted) -> std::result::Result<(), ReportError> {
    let named: BTreeSet<&str> = sorted.segments().iter().map(|segment| segment.name.as_str()).collect();
    for name in store.list(FOLDER).await? {
        let counts = name == INDEX || named.contains(name.as_str());
        if !counts && !store.get_start(&name, 1).await?.is_empty() {
            store.put(&name, Vec::new()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
