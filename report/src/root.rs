//! Where the reports of all jobs lie.

use std::path::PathBuf;
use std::sync::Arc;

use keyrotate_proto::id::JobId;

use keyrotate_store::Store;

use crate::store::BucketStore;
use crate::{FolderStore, ReportError, ReportStore};

/// Gives each job its own report store.
pub trait ReportRoot: Send + Sync + std::fmt::Debug {
    /// The report store of a job; made if it is not there.
    ///
    /// # Errors
    /// When it can't be opened.
    fn of(&self, job: &JobId) -> Result<Arc<dyn ReportStore>, ReportError>;

    /// The files that belong to no job.
    ///
    /// # Errors
    /// When it can't be opened.
    fn own(&self) -> Result<Arc<dyn ReportStore>, ReportError>;
}

/// A folder with one folder per job.
#[derive(Clone, Debug)]
pub struct FolderRoot(PathBuf);

impl FolderRoot {
    /// Reports below `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }
}

impl ReportRoot for FolderRoot {
    fn of(&self, job: &JobId) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(Arc::new(FolderStore::open(self.0.join(job.as_str()))?))
    }

    fn own(&self) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(Arc::new(FolderStore::open(&self.0)?))
    }
}

/// A bucket with one prefix per job, below one of its own.
#[derive(Clone, Debug)]
pub struct BucketRoot {
    store: Arc<dyn Store>,
    bucket: String,
    prefix: String,
}

impl BucketRoot {
    /// Reports in `bucket` below `prefix`, which is empty or ends in a slash.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { store, bucket: bucket.into(), prefix: prefix.into() }
    }
}

impl ReportRoot for BucketRoot {
    fn of(&self, job: &JobId) -> Result<Arc<dyn ReportStore>, ReportError> {
        let prefix = format!("{}{job}/", self.prefix);
        Ok(Arc::new(BucketStore::new(Arc::clone(&self.store), &self.bucket, prefix)))
    }

    fn own(&self) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(Arc::new(BucketStore::new(Arc::clone(&self.store), &self.bucket, &self.prefix)))
    }
}
