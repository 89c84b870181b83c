//! The report store: parts, intents, and what is read back from them.
//!
//! Parts are the truth of a job: whatever the checkpoint forgets can be found again here. Readers go through
//! [`chain`] (which parts of a shard count), [`rows`] (all rows of passes, in key order, a part at a time) and
//! [`finish`] (the report that a person gets).

pub mod chain;
pub mod error;
pub mod finish;
pub mod intents;
pub mod leftovers;
pub mod page;
pub mod rebuild;
pub mod root;
pub mod rows;
pub mod sheet;
pub mod store;
#[cfg(test)]
mod testing;

pub use error::ReportError;
pub use root::ReportRoot;
pub use store::{FolderStore, MemoryStore, ReportStore};
