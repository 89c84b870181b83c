//! What bringing in a manifest, or reading it again, can end with.

use keyrotate_report::ReportError;
use keyrotate_store::StoreError;

/// A manifest can't be worked on.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not what it should be: only whoever wrote it can mend it.
    #[error("{what}")]
    Bad {
        /// What is wrong, and in which file.
        what: String,
        /// What to do.
        mend: String,
    },
    /// The store that it lies in does not give it.
    #[error("`{name}` of the manifest can't be read from its bucket")]
    Store {
        /// The object.
        name: String,
        /// What the store says.
        #[source]
        source: Box<StoreError>,
    },
    /// The report store can't be read or written.
    #[error("the report store can't be read or written")]
    Report(#[from] ReportError),
    /// Whoever wanted it does not listen any more.
    #[error("nobody waits for the manifest any more")]
    Unwanted,
}

impl ManifestError {
    /// It is not what it should be.
    pub(crate) fn bad(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::Bad { what: what.into(), mend: mend.into() }
    }
}

/// What a step of it gives.
pub(crate) type Result<T> = std::result::Result<T, ManifestError>;
