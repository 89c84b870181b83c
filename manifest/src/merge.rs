//! Sorted runs, merged into one: each is read a segment at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use keyrotate_report::{ReportError, ReportStore};

use crate::Named;
use crate::sorted::{FOLDER, Packed, Packer, Rows, Segment};

/// Segments in the order of their keys.
pub(crate) type Run = Vec<Segment>;

/// Stores segments, each under a name of its own.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) store: Arc<dyn ReportStore>,
    attempt: String,
    stored: u64,
}

impl Shelf {
    /// For one attempt to bring a manifest in: what another one stores has other names.
    pub(crate) fn new(store: Arc<dyn ReportStore>, attempt: &str) -> Self {
        Self { store, attempt: attempt.to_owned(), stored: 0 }
    }

    pub(crate) async fn keep(&mut self, packed: Packed) -> Result<Segment, ReportError> {
        self.stored += 1;
        let name = format!("{FOLDER}{}/{:08}.csv.gz", self.attempt, self.stored);
        self.store.put(&name, packed.bytes).await?;
        Ok(Segment { name, first: packed.first, rows: packed.rows })
    }
}

/// Merges runs, so many at a time, until one is left; and how many rows were there before.
pub(crate) async fn merge(
    shelf: &mut Shelf,
    mut runs: Vec<Run>,
    at_a_time: usize,
    segment: usize,
) -> Result<(Run, u64), ReportError> {
    let mut duplicates = 0;
    while runs.len() > 1 {
        let mut merged = Vec::new();
        while !runs.is_empty() {
            let some: Vec<Run> = runs.drain(..runs.len().min(at_a_time.max(2))).collect();
            let (run, again) = merge_some(shelf, some, segment).await?;
            merged.push(run);
            duplicates += again;
        }
        runs = merged;
    }
    Ok((runs.pop().unwrap_or_default(), duplicates))
}

async fn merge_some(shelf: &mut Shelf, mut runs: Vec<Run>, segment: usize) -> Result<(Run, u64), ReportError> {
    if runs.len() == 1 {
        return Ok((runs.swap_remove(0), 0));
    }
    let mut rows: Vec<Rows> =
        runs.into_iter().map(|run| Rows::of(Arc::clone(&shelf.store), run, String::new())).collect();
    let mut heads = BinaryHeap::new();
    for (n, run) in rows.iter_mut().enumerate() {
        heads.extend(run.next().await?.map(|named| Reverse((named, n))));
    }
    let (mut packer, mut merged, mut duplicates) = (Packer::new(segment), Run::new(), 0);
    let mut last: Option<Named> = None;
    while let Some(Reverse((named, n))) = heads.pop() {
        heads.extend(rows[n].next().await?.map(|next| Reverse((next, n))));
        if last.as_ref() == Some(&named) {
            duplicates += 1;
            continue;
        }
        if let Some(full) = packer.push(&named) {
            merged.push(shelf.keep(full).await?);
        }
        last = Some(named);
    }
    if let Some(rest) = packer.end() {
        merged.push(shelf.keep(rest).await?);
    }
    Ok((merged, duplicates))
}
