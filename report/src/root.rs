//! Where the reports of all jobs lie.

use std::path::PathBuf;
use std::sync::Arc;

use keyrotate_proto::id::JobId;

use crate::{FolderStore, ReportError, ReportStore};

/// Gives each job its own report store.
pub trait ReportRoot: Send + Sync + std::fmt::Debug {
    /// The report store of a job; made if it is not there.
    ///
    /// # Errors
    /// When it can't be opened.
    fn of(&self, job: &JobId) -> Result<Arc<dyn ReportStore>, ReportError>;
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
}
