//! One line of the report: the outcome of one object version.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::KeyName;
use crate::outcome::{Counts, Note, Outcome, Strategy};

/// How an object version is encrypted, as far as the store shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Seal {
    /// Not at all.
    Plaintext,
    /// With the store's own key, which no store names.
    SseS3,
    /// Under a KMS key.
    SseKms(KeyName),
    /// In two layers under a KMS key.
    DualLayer(KeyName),
    /// With a key that only its owner has.
    SseC,
    /// Nobody looked: the listing alone decided.
    Unknown,
}

impl Seal {
    /// The KMS key, where there is one.
    #[must_use]
    pub fn kms_key(&self) -> Option<&KeyName> {
        match self {
            Self::SseKms(key) | Self::DualLayer(key) => Some(key),
            _ => None,
        }
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext => f.write_str("plaintext"),
            Self::SseS3 => f.write_str("sse-s3"),
            Self::SseKms(key) => write!(f, "sse-kms:{}", key.bare()),
            Self::DualLayer(key) => write!(f, "dsse:{}", key.bare()),
            Self::SseC => f.write_str("sse-c"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl From<Seal> for String {
    fn from(seal: Seal) -> Self {
        seal.to_string()
    }
}

impl TryFrom<String> for Seal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match text.as_str() {
            "plaintext" => Self::Plaintext,
            "sse-s3" => Self::SseS3,
            "sse-c" => Self::SseC,
            "unknown" => Self::Unknown,
            other => match other.split_once(':') {
                Some(("sse-kms", key)) => Self::SseKms(KeyName(key.to_owned())),
                Some(("dsse", key)) => Self::DualLayer(KeyName(key.to_owned())),
                _ => return Err(format!("`{text}` names no encryption")),
            },
        })
    }
}

/// The outcome of one object version. Later passes may write another row for the same key and version; the last one
/// counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The object key.
    pub key: String,
    /// The version that was looked at; `None` in a bucket that never had versioning.
    pub version: Option<String>,
    /// The version after the write where that is another one.
    pub version_after: Option<String>,
    /// Bytes of the body.
    pub size: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// How it was written, where it was.
    pub strategy: Option<Strategy>,
    /// Encryption before.
    pub before: Seal,
    /// Encryption after; equal to `before` where nothing was written.
    pub after: Seal,
    /// ETag after, without quotes.
    pub etag: String,
    /// Last-Modified after, whole seconds.
    pub last_modified: Timestamp,
    /// What the store said, for `failed` and `conflict`; why, where the outcome alone does not say it; else empty.
    pub detail: String,
    /// What else is to be known about it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub notes: BTreeSet<Note>,
}

impl Row {
    /// Adds this row to `counts`.
    pub fn count_into(&self, counts: &mut Counts) {
        *counts.by_outcome.entry(self.outcome).or_default() += 1;
        for note in &self.notes {
            *counts.notes.entry(*note).or_default() += 1;
        }
        if matches!(self.outcome, Outcome::Rotated(_)) {
            counts.rotated_bytes += self.size;
            counts.superseded += u64::from(self.supersedes());
        }
    }

    /// Whether writing it left the old version behind, under its old key.
    #[must_use]
    pub fn supersedes(&self) -> bool {
        let replaced = matches!((&self.version, &self.version_after), (Some(before), Some(after)) if before != after);
        replaced && !self.notes.contains(&Note::SupersededDeleted)
    }
}
