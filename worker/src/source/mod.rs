//! What a shard reads: a listing, what a manifest names of it, the rows of earlier passes, or listing and rows held against
//! each other. One interface, so that the slice does not know which.

mod listing;
mod picked;
mod retry;
mod verify;

use async_trait::async_trait;

use keyrotate_proto::outcome::Counts;
use keyrotate_proto::position::Position;
use keyrotate_proto::row::Row;
use keyrotate_store::{Entry, ObjectAt, StoreError};

pub(crate) use listing::{Listing, Scope, from_key};
pub(crate) use picked::{Found, Picked};
pub(crate) use retry::{Gap, Retry, gaps};
pub(crate) use verify::{Verify, agrees};

/// One thing that a source found, in the order of the keys.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The position right behind it.
    pub(crate) after: Position,
    /// What it asks for.
    pub(crate) task: Task,
}

/// What an item asks for.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// A listed entry without a row: look at it and do what the job says.
    Look(Box<Entry>),
    /// The same of the current version, which a manifest names by its key alone; and the other versions of that key that it
    /// names.
    Current(Box<Entry>, Vec<String>),
    /// A manifest names it, and the listing does not show it: look by HEAD.
    Missing(ObjectAt),
    /// A row of an earlier pass that wants another try: look by HEAD, replace the row.
    Again(ObjectAt, Box<Row>),
    /// A listed entry that differs from its row: look by HEAD; the row is replaced only if it is really another.
    Doubt(ObjectAt, Box<Row>),
    /// A row that nothing was held against: its object is asked about, and is a doubt where it is not as the row says.
    Reread(ObjectAt, Box<Row>),
    /// Nothing to do: the row and the listing agree.
    Agrees,
}

impl Task {
    /// Sum of the earlier rows that this task's row will replace.
    #[must_use]
    pub(crate) fn replaces(&self) -> Counts {
        let mut counts = Counts::default();
        if let Self::Again(_, row) | Self::Doubt(_, row) | Self::Reread(_, row) = self {
            row.count_into(&mut counts);
        }
        counts
    }
}

/// A source could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The store did not list.
    #[error("the listing failed")]
    Store(#[from] StoreError),
    /// The shards of an earlier pass can't be read.
    #[error("the checkpoint can't be read")]
    Checkpoint(#[source] keyrotate_checkpoint::LedgerError),
    /// Rows of an earlier pass, or of the manifest, can't be read.
    #[error("the rows of an earlier pass, or of the manifest, can't be read")]
    Rows(#[from] keyrotate_report::ReportError),
}

/// Where a slice gets its items from.
#[async_trait]
pub(crate) trait Source: Send {
    /// The next items, in order; `None` at the end. Never an empty page twice in a row for ever.
    async fn page(&mut self) -> Result<Option<Vec<Item>>, SourceError>;
}
