//! Where parts, intents and the report of one job lie: a folder, a bucket with a prefix, or memory for tests.

pub mod bucket;
pub mod conformance;
mod folder;
mod memory;

use async_trait::async_trait;

pub use crate::error::ReportError;
pub use bucket::BucketStore;
pub use folder::FolderStore;
pub use memory::MemoryStore;

/// The files of one job. Names are relative to the job's folder, their pieces parted by `/`.
///
/// What a method answered with success survives a loss of power. A file is there whole or not at all.
#[async_trait]
pub trait ReportStore: Send + Sync + std::fmt::Debug {
    /// Writes a file that must not be there yet (`If-None-Match: *`).
    ///
    /// # Errors
    /// [`ReportError::Exists`] when it is there; it stays as it was.
    async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError>;

    /// Writes a file, in place of what was there under its name.
    async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError>;

    /// Writes a file that is still as it was read, or, for `None`, still not there; `false`: it is not, and stays as it is.
    /// In a bucket whose store ignores `If-Match`, two that write at the same moment may both be told that they did.
    async fn swap(&self, name: &str, seen: Option<&[u8]>, bytes: Vec<u8>) -> Result<bool, ReportError>;

    /// Reads a whole file.
    ///
    /// # Errors
    /// [`ReportError::NotFound`] when it is not there.
    async fn get(&self, name: &str) -> Result<Vec<u8>, ReportError>;

    /// Reads at most the first `limit` bytes of a file; enough for the header of a part.
    ///
    /// # Errors
    /// [`ReportError::NotFound`] when it is not there.
    async fn get_start(&self, name: &str, limit: usize) -> Result<Vec<u8>, ReportError>;

    /// All names that begin with `prefix`, in the order of their bytes.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, ReportError>;
}

/// Refuses names that could lead out of the job's folder, or that a file system or bucket would take for another:
/// empty ones, more than 512 bytes, pieces that are empty or begin with a dot, and anything but ASCII letters,
/// digits and `-_.~=` in a piece.
///
/// # Errors
/// [`ReportError::BadName`].
pub fn check_name(name: &str) -> Result<(), ReportError> {
    let plain = |piece: &str| {
        !piece.is_empty()
            && !piece.starts_with('.')
            && piece.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~=".contains(&b))
    };
    if name.len() <= 512 && name.split('/').all(plain) { Ok(()) } else { Err(ReportError::BadName(name.to_owned())) }
}
