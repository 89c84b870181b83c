//! Object versions as they are kept, and where their bytes lie.

use bytes::Bytes;
use jiff::Timestamp;
use keyrotate_store::{Checksum, Headers, Lock, Object, Sse, Tags};
use serde::{Deserialize, Serialize};

use super::crypto::{Seal, base64_bytes};

/// The id of versions written while versioning is not enabled.
pub(super) const NULL: &str = "null";

/// One version of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) id: String,
    /// To the nanosecond; what answers show is coarser.
    pub(super) date: Timestamp,
    /// Order of versions with equal dates: later ones have more.
    pub(super) seq: u64,
    /// `None`: a delete marker.
    pub(super) content: Option<Content>,
}

/// What a version that is no delete marker has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) etag: String,
    /// MinIO's other ETag of keys that end in `/`: shown by HEAD, and the only one that guards.
    pub(super) head_etag: Option<String>,
    /// As answers show it, context included.
    pub(super) sse: Sse,
    /// `None`: the bytes lie in clear.
    pub(super) seal: Option<Seal>,
    pub(super) headers: Headers,
    pub(super) tags: Tags,
    /// Whom its ACL lets read, beside its owner.
    #[serde(default)]
    pub(super) readers: Vec<String>,
    /// Whether replication brought it.
    #[serde(default)]
    pub(super) replica: bool,
    pub(super) storage_class: Option<String>,
    pub(super) lock: Lock,
    pub(super) checksums: Vec<Checksum>,
    /// Whether it came from a multipart upload.
    pub(super) multipart: bool,
    /// One per part.
    pub(super) segments: Vec<Segment>,
}

/// The bytes of one part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Segment {
    /// Plaintext bytes.
    pub(super) size: u64,
    #[serde(with = "base64_bytes")]
    pub(super) salt: Vec<u8>,
    pub(super) blob: Blob,
}

/// Where stored bytes lie.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Blob {
    /// In memory, and in the journal.
    Memory(#[serde(with = "base64_bytes")] Bytes),
    /// In a file of the store's folder.
    File(String),
    /// Nowhere: computed from a seed.
    Generated(u64),
}

impl Version {
    /// Whether its order in the key's history is before (newer than) `other`'s.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        (self.date, self.seq) > (other.date, other.seq)
    }

    /// Names of the files that hold its bytes.
    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        self.content.iter().flat_map(|content| files_of(&content.segments))
    }
}

/// Names of the files that hold the bytes of these parts.
pub(super) fn files_of(segments: &[Segment]) -> impl Iterator<Item = &String> {
    segments.iter().filter_map(|segment| match &segment.blob {
        Blob::File(name) => Some(name),
        Blob::Memory(_) | Blob::Generated(_) => None,
    })
}

impl Content {
    /// The ETag that conditions are compared with.
    pub(super) fn guard_etag(&self) -> &str {
        self.head_etag.as_deref().unwrap_or(&self.etag)
    }

    /// Whether the standard calls can't reach the body.
    pub(super) fn is_archived(&self) -> bool {
        matches!(self.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
    }

    /// Encryption as HEAD and GET show it: never the context.
    pub(super) fn shown_sse(&self) -> Sse {
        match &self.sse {
            Sse::Kms { key, bucket_key, .. } => Sse::Kms { key: key.clone(), context: None, bucket_key: *bucket_key },
            other => other.clone(),
        }
    }

    /// What HEAD and GET answer.
    pub(super) fn shown(&self, version: &Version, shows_version: bool, now: Timestamp) -> Object {
        Object {
            size: self.size,
            etag: self.etag.clone(),
            last_modified: whole_seconds(version.date),
            version: shows_version.then(|| version.id.clone()),
            sse: self.shown_sse(),
            headers: self.headers.clone(),
            tag_count: u32::try_from(self.tags.len()).ok().filter(|&count| count > 0),
            storage_class: self.storage_class.clone(),
            lock: self.lock.clone(),
            checksums: self.checksums.clone(),
            parts: None,
            replica: self.replica,
            server_date: Some(whole_seconds(now)),
        }
    }
}

/// As HTTP dates have it.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// As listings have it.
pub(super) fn whole_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
