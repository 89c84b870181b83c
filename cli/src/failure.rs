//! Why a verb did not do what it was asked to: what happened, where, and what to do.

use std::fmt;
use std::io;
use std::path::Path;

use keyrotate_proto::say::chain;

use crate::exit::Exit;

/// What happened and what to do about it, with the exit code that follows.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    mend: String,
}

impl Failure {
    /// Bad usage or a bad job file.
    pub(crate) fn usage(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, what: what.into(), mend: mend.into() }
    }

    /// Nothing was begun.
    pub(crate) fn refused(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, what: what.into(), mend: mend.into() }
    }

    /// Something that was begun could not go on.
    pub(crate) fn failed(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: what.into(), mend: mend.into() }
    }

    /// Something broke on the way.
    pub(crate) fn broke(what: impl Into<String>, error: &dyn std::error::Error, mend: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: format!("{}: {}", what.into(), chain(error)), mend: mend.into() }
    }

    /// A file or folder could not be read or written.
    pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let mend = "check that it is there and that you may read and write it";
        Self { exit: Exit::Refused, what: format!("{what} `{}`: {error}", path.display()), mend: mend.into() }
    }

    /// What happened.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// What to do about it.
    pub(crate) fn mend(&self) -> &str {
        &self.mend
    }

    /// The exit code that follows.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.mend.is_empty() {
            write!(f, "\n  → {}", self.mend)?;
        }
        Ok(())
    }
}
