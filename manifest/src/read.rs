//! From files to rows: what is read of a manifest, whatever its format, and what of it a job wants.

use crate::Named;
use crate::error::{ManifestError, Result};

/// Bytes of a key, and of a version's id; no store has longer ones.
const LONGEST: usize = 1024;

/// What a job takes from a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Rows of other buckets are refused.
    pub bucket: String,
    /// Rows of other keys are left out, and counted.
    pub prefix: String,
}

/// A row as it stands in a file.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// Empty: none.
    pub(crate) version: String,
    /// Whether it is the newest version, as far as the file says.
    pub(crate) is_latest: bool,
}

/// Which field of a row is which.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) bucket: usize,
    pub(crate) key: usize,
    pub(crate) version: Option<usize>,
    pub(crate) latest: Option<usize>,
    pub(crate) count: usize,
    pub(crate) least: usize,
}

impl Columns {
    /// Of a list of objects, as S3 Batch Operations reads it: `bucket,key[,version]`.
    pub(crate) const LIST: Self = Self { bucket: 0, key: 1, version: Some(2), latest: None, count: 3, least: 2 };

    pub(crate) fn fits(&self, fields: usize) -> bool {
        (self.least..=self.count).contains(&fields)
    }

    /// What a row looks like.
    pub(crate) fn shape(&self) -> String {
        if self.least < self.count { "bucket,key[,version]".to_owned() } else { format!("{} fields", self.count) }
    }
}

/// Takes what is read, one row after the other.
pub(crate) struct Sink<'a> {
    pub(crate) wanted: &'a Wanted,
    /// Rows outside of the prefix.
    pub(crate) outside: u64,
    pub(crate) take: &'a mut dyn FnMut(Named) -> Result<()>,
}

/// Why a row was not taken.
pub(crate) enum Refused {
    /// What is wrong with it.
    Row(String),
    /// Something else than the row.
    Broken(ManifestError),
}

impl Refused {
    pub(crate) fn at(self, place: impl FnOnce(String) -> ManifestError) -> ManifestError {
        match self {
            Self::Row(what) => place(what),
            Self::Broken(error) => error,
        }
    }
}

impl Sink<'_> {
    pub(crate) fn check_bucket(&self, bucket: &str) -> std::result::Result<(), Refused> {
        if bucket == self.wanted.bucket {
            return Ok(());
        }
        let bucket = bucket.chars().take(100).collect::<String>();
        let what =
            format!("it is of the bucket `{}`, and the job's is `{}`", bucket.escape_debug(), self.wanted.bucket);
        Err(Refused::Row(what))
    }

    pub(crate) fn take(&mut self, found: Found) -> std::result::Result<(), Refused> {
        self.check_bucket(&found.bucket)?;
        for (what, text) in [("key", &found.key), ("version", &found.version)] {
            if text.len() > LONGEST {
                return Err(Refused::Row(format!("its {what} has {} bytes, {LONGEST} are the most", text.len())));
            }
        }
        if found.key.is_empty() {
            return Err(Refused::Row("it has no key".to_owned()));
        }
        if !found.key.starts_with(&self.wanted.prefix) {
            self.outside += 1;
            return Ok(());
        }
        let version = match found.version {
            // What was written while versioning was off has no id in an inventory; noncurrent, it is known by this one.
            none if none.is_empty() => (!found.is_latest).then(|| "null".to_owned()),
            id => Some(id),
        };
        (self.take)(Named { key: found.key, version }).map_err(Refused::Broken)
    }
}
