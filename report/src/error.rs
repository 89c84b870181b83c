//! What reading or writing a report can end with.

use keyrotate_proto::part::PartError;

/// A report, or a file of it, could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Something of that name is there already, and was left as it is.
    #[error("`{0}` is there already")]
    Exists(String),
    /// Nothing of that name is there.
    #[error("`{0}` is not there")]
    NotFound(String),
    /// No name for a file of a report: see [`crate::store::check_name`].
    #[error("`{0}` is no name for a file of a report")]
    BadName(String),
    /// The folder or bucket behind the report failed.
    #[error("can't {action} `{name}` in the report store")]
    Store {
        /// What was tried: `read`, `write`, `list`.
        action: &'static str,
        /// The name, or the prefix that was listed.
        name: String,
        /// What lies below it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A part is damaged, or of a newer version.
    #[error("`{name}` can't be read")]
    Part {
        /// Its name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: PartError,
    },
    /// A part does not fit to the part that it follows, or that follows it.
    #[error("the chain of parts is broken at `{name}`: {what}")]
    BrokenChain {
        /// The part at which it shows.
        name: String,
        /// What does not fit.
        what: String,
    },
    /// Another file of the report is not as it should be.
    #[error("`{name}`: {what}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
}

impl ReportError {
    /// A failure of what lies behind a store.
    pub fn store(
        action: &'static str,
        name: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Store { action, name: name.into(), source: source.into() }
    }

    /// A file of the report that is not as it should be.
    pub fn damaged(name: &str, what: impl std::fmt::Display) -> Self {
        Self::Damaged { name: name.to_owned(), what: what.to_string() }
    }
}
