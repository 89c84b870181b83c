//! Manifests: objects that are named one by one, in a CSV file, an S3 Inventory, or the rows of a former job.
//!
//! Whatever order it comes in, a manifest is first brought into the report store of its job, in the order of the keys and
//! without duplicates ([`bring_in`]); from then on [`Sorted`] is what a job reads, from any key on. Memory is bounded by
//! [`Limits`], whatever the number of rows.
//!
//! What is read was written by others: it is checked against its checksums before a row of it counts, and a bad row is an
//! error that names its file and its place.

mod bring_in;
mod content;
mod csv_file;
mod error;
mod inventory;
mod merge;
mod origin;
mod parquet_file;
mod read;
mod sorted;
#[cfg(test)]
mod testing;

use serde::{Deserialize, Serialize};

pub use bring_in::{Input, Limits, bring_in};
pub use error::ManifestError;
pub use origin::Origin;
pub use read::Wanted;
pub use sorted::{Key, Left, Rows, Sorted};

/// An object that a manifest names. Ordered as a manifest is: by the bytes of the key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Named {
    /// The key.
    pub key: String,
    /// Exactly this version; `None`: the current one.
    pub version: Option<String>,
}
