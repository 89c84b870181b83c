//! What goes into a store's requests and comes out of its answers.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use keyrotate_proto::capability::Versioning;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::row::Seal;

use crate::{ErrorKind, Result, StoreError};

/// Which store a job works on: scheme, host and port of an endpoint, normalised, or AWS with partition and account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreIdentity(pub String);

impl fmt::Display for StoreIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One object, or exactly one version of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectAt {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version; `None`: the current one. The id `null` is the version written while versioning was off.
    pub version: Option<String>,
}

impl ObjectAt {
    /// The current version of a key.
    #[must_use]
    pub fn current(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), key: key.into(), version: None }
    }

    /// The same object, exactly that version.
    #[must_use]
    pub fn at_version(&self, version: Option<String>) -> Self {
        Self { version, ..self.clone() }
    }
}

/// Server-side encryption as a request asks for it or an answer shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sse {
    /// No header: plaintext in an answer; the bucket's default in a request.
    #[default]
    None,
    /// `AES256`.
    S3,
    /// `aws:kms`.
    Kms {
        /// The key; `None` in a request means the store's default.
        key: Option<KeyName>,
        /// Encryption context. Only MinIO's listing with metadata ever shows one.
        context: Option<BTreeMap<String, String>>,
        /// S3 bucket key; `None`: not said.
        bucket_key: Option<bool>,
    },
    /// `aws:kms:dsse`.
    DualLayer {
        /// The key.
        key: Option<KeyName>,
    },
    /// The object needs a key of its owner for any access (SSE-C). Never part of a request of ours.
    Customer,
}

impl Sse {
    /// As a row shows it.
    #[must_use]
    pub fn seal(&self) -> Seal {
        let key = |key: &Option<KeyName>| key.clone().unwrap_or_else(|| KeyName(String::new()));
        match self {
            Self::None => Seal::Plaintext,
            Self::S3 => Seal::SseS3,
            Self::Kms { key: name, .. } => Seal::SseKms(key(name)),
            Self::DualLayer { key: name } => Seal::DualLayer(key(name)),
            Self::Customer => Seal::SseC,
        }
    }
}

/// Headers and user metadata of an object, kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without the `aws-chunked` of a transfer.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, verbatim.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// User metadata, names in lower case without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
}

/// Tags in the order the store gives them.
pub type Tags = Vec<(String, String)>;

/// Object lock of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// `GOVERNANCE` or `COMPLIANCE`, and until when.
    pub retention: Option<(String, Timestamp)>,
    /// Legal hold.
    pub legal_hold: bool,
}

impl Lock {
    /// Whether anything holds the version.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.legal_hold || self.retention.is_some()
    }

    /// What of it still holds at `now`: a retention that has ended holds nothing, and no store takes one.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Self {
        let retention = self.retention.clone().filter(|(_, until)| *until > now);
        Self { retention, legal_hold: self.legal_hold }
    }

    /// Whether it holds at least as much as `other`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let retains = |(mode, until): &(String, Timestamp)| {
            let stricter = |own: &str| own == mode || own == "COMPLIANCE";
            self.retention.as_ref().is_some_and(|(own, own_until)| stricter(own) && own_until >= until)
        };
        (self.legal_hold || !other.legal_hold) && other.retention.as_ref().is_none_or(retains)
    }
}

/// A checksum that the store keeps beside the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1` or `SHA256`.
    pub algorithm: String,
    /// Base64, with `-PARTS` where composite.
    pub value: String,
    /// `true`: over the whole body; `false`: composed of its parts' checksums.
    pub full_object: bool,
}

/// What HEAD or GET shows of one object version.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Bytes of the body.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// Last-Modified, as precise as the answer had it (whole seconds from HEAD and GET).
    pub last_modified: Timestamp,
    /// The version; `None` in a bucket that never had versioning.
    pub version: Option<String>,
    /// Encryption.
    pub sse: Sse,
    /// Headers and user metadata.
    pub headers: Headers,
    /// How many tags there are; `None`: not said, which means none on stores that announce them.
    pub tag_count: Option<u32>,
    /// Storage class; `None` is the standard one.
    pub storage_class: Option<String>,
    /// Object lock, as far as the answer shows it.
    pub lock: Lock,
    /// Checksums, as far as asked for and shown.
    pub checksums: Vec<Checksum>,
    /// `PartsCount`, where a part was asked for.
    pub parts: Option<u32>,
    /// Whether replication brought it from another bucket.
    pub replica: bool,
    /// The server's `Date`.
    pub server_date: Option<Timestamp>,
}

/// HeadObject.
#[derive(Clone, Debug)]
pub struct HeadRequest {
    /// Which object.
    pub at: ObjectAt,
    /// Ask for this part: shows the number of parts and the part's length.
    pub part: Option<u32>,
}

impl HeadRequest {
    /// Everything but parts.
    #[must_use]
    pub fn of(at: &ObjectAt) -> Self {
        Self { at: at.clone(), part: None }
    }
}

/// GetObject.
#[derive(Clone, Debug)]
pub struct GetRequest {
    /// Which object.
    pub at: ObjectAt,
    /// `If-Match`, without quotes.
    pub if_match: Option<String>,
    /// Bytes `from..to`.
    pub range: Option<(u64, u64)>,
}

impl GetRequest {
    /// The whole body.
    #[must_use]
    pub fn of(at: &ObjectAt) -> Self {
        Self { at: at.clone(), if_match: None, range: None }
    }
}

/// Condition of a write on what is there now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// None.
    #[default]
    None,
    /// `If-Match`, without quotes.
    IfMatch(String),
    /// `If-None-Match: *`.
    IfAbsent,
}

/// MinIO's in-place form: the write keeps this date and, in an unversioned bucket, this ETag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InPlace {
    /// `X-Minio-Source-Mtime`, milliseconds. Must be strictly later than the stored date.
    pub source_mtime: Option<Timestamp>,
    /// `X-Minio-Source-Etag`.
    pub source_etag: Option<String>,
    /// The version that a completed upload replaces; other calls name it in their place.
    pub version: Option<String>,
}

/// Everything that a written object gets, the body apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewObject {
    /// Encryption.
    pub sse: Sse,
    /// Headers and user metadata.
    pub headers: Headers,
    /// Tags; empty: none.
    pub tags: Tags,
    /// Storage class; `None`: the standard one.
    pub storage_class: Option<String>,
    /// Object lock.
    pub lock: Lock,
    /// A checksum for the store to verify and keep; only full-object ones can be sent.
    pub checksum: Option<Checksum>,
}

/// PutObject. A version in `at` is MinIO's in-place form: exactly that version is replaced.
#[derive(Clone, Debug)]
pub struct PutRequest {
    /// Where to.
    pub at: ObjectAt,
    /// What.
    pub new: NewObject,
    /// On which condition.
    pub guard: Guard,
    /// Which date and ETag it keeps.
    pub place: InPlace,
}

/// What a copy does with metadata, headers and tags.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Directive {
    /// The server takes them from the source (`COPY` for both).
    #[default]
    Copy,
    /// They are given here (`REPLACE` for both).
    Replace(Box<(Headers, Tags)>),
}

/// CopyObject in one bucket.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// The source, a version if one is named.
    pub source: ObjectAt,
    /// `x-amz-copy-source-if-match`, without quotes.
    pub source_if_match: Option<String>,
    /// The destination key.
    pub to: String,
    /// Condition on the destination.
    pub guard: Guard,
    /// Encryption of the copy.
    pub sse: Sse,
    /// Metadata, headers, tags.
    pub directive: Directive,
    /// Storage class; `None`: the standard one.
    pub storage_class: Option<String>,
    /// Object lock of the copy.
    pub lock: Lock,
    /// `x-amz-website-redirect-location`, which COPY does not take along.
    pub website_redirect: Option<String>,
}

/// UploadPartCopy.
#[derive(Clone, Debug)]
pub struct PartCopyRequest {
    /// The upload.
    pub upload: Upload,
    /// Part number, from 1.
    pub number: u32,
    /// The source, a version if one is named.
    pub source: ObjectAt,
    /// `x-amz-copy-source-if-match`, without quotes.
    pub source_if_match: Option<String>,
    /// Bytes `from..to` of the source; `None`: all.
    pub range: Option<(u64, u64)>,
}

/// One multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upload {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The store's id of it.
    pub id: String,
}

/// One uploaded part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// ETag without quotes.
    pub etag: String,
    /// Bytes; 0 where the answer does not say.
    pub size: u64,
    /// Its own checksum, where the upload keeps some.
    pub checksum: Option<Checksum>,
}

/// Answer to a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// ETag without quotes, where the answer has one.
    pub etag: Option<String>,
    /// The version made, where the answer names one.
    pub version: Option<String>,
}

/// A listing page is asked for from a place on.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// The bucket.
    pub bucket: String,
    /// Only keys that begin with it.
    pub prefix: String,
    /// All versions and delete markers, or only current versions.
    pub versions: bool,
    /// Where to begin.
    pub from: ListFrom,
    /// Entries wanted, 1 to 1,000.
    pub limit: u32,
    /// Ask for MinIO's listing with metadata; other stores ignore it.
    pub with_facts: bool,
}

/// Where a listing page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListFrom {
    /// At the prefix's first key.
    #[default]
    Start,
    /// Behind a key, all its versions included (`start-after`, `key-marker`).
    AfterKey(String),
    /// Behind one version of a key (`key-marker` + `version-id-marker`).
    AfterVersion(String, String),
    /// Where the page before this one ended.
    Token {
        /// The store's own word for it.
        token: String,
        /// The last key before it, for a store that has forgotten its word; `None` where nothing was listed yet.
        behind: Option<String>,
    },
}

impl ListFrom {
    /// The key that it begins behind, or inside of; `None` at the beginning.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Start => None,
            Self::AfterKey(key) | Self::AfterVersion(key, _) => Some(key),
            Self::Token { behind, .. } => behind.as_deref(),
        }
    }
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Entries in the store's order.
    pub entries: Vec<Entry>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<ListFrom>,
}

impl ListPage {
    /// A page in which each entry knows the date of the one above it.
    #[must_use]
    pub fn of(mut entries: Vec<Entry>, next: Option<ListFrom>) -> Self {
        know_newer(&mut entries);
        Self { entries, next }
    }
}

/// Tells each of these entries, which follow each other in a listing, the date of the version right above it.
pub fn know_newer(entries: &mut [Entry]) {
    for n in 1..entries.len() {
        let (above, this) = (&entries[n - 1], &entries[n]);
        let newer = (above.key == this.key && !this.latest).then_some(above.last_modified);
        entries[n].newer = newer.or(entries[n].newer);
    }
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The version; `None` in a listing of current versions only.
    pub version: Option<String>,
    /// Whether it is the key's newest version.
    pub latest: bool,
    /// Whether it is a delete marker.
    pub delete_marker: bool,
    /// Bytes of the body.
    pub size: u64,
    /// ETag without quotes; empty for a delete marker.
    pub etag: String,
    /// Last-Modified, as precise as the store shows it.
    pub last_modified: Timestamp,
    /// Storage class; `None` is the standard one.
    pub storage_class: Option<String>,
    /// Last-Modified of the version, or delete marker, right above it; `None` for the newest, and for the first of a page.
    pub newer: Option<Timestamp>,
    /// What HEAD would show, where the listing showed it too.
    pub facts: Option<Box<EntryFacts>>,
}

/// What MinIO's listing with metadata shows beside the usual fields.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryFacts {
    /// Encryption, its context included.
    pub sse: Sse,
    /// Headers and user metadata.
    pub headers: Headers,
    /// Tags.
    pub tags: Tags,
}

/// Who may do what with an object, by its own ACL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// Whose object it is; empty where the store does not say.
    pub owner: String,
    /// Who (id, group or address) may do what (`FULL_CONTROL`, `READ`, …).
    pub grants: Vec<(String, String)>,
}

impl Acl {
    /// Whether it is what `owner`'s write without a word about ACLs makes: full control for the owner alone.
    #[must_use]
    pub fn is_plain_of(&self, owner: &str) -> bool {
        // MinIO, which has no ACLs, answers for each object with one grant to a grantee that has no name.
        let theirs = |who: &str| who == owner || who.is_empty();
        self.owner == owner && matches!(self.grants.as_slice(), [(who, what)] if theirs(who) && what == "FULL_CONTROL")
    }
}

/// A bucket's configuration, as far as it can be seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BucketFacts {
    /// Versioning.
    pub versioning: Versioning,
    /// Default encryption of new objects.
    pub default_sse: Option<Sse>,
    /// Whether object lock is enabled.
    pub lock_enabled: bool,
    /// Default retention: mode and days.
    pub default_retention: Option<(String, u32)>,
    /// Whether ACLs are switched off (`BucketOwnerEnforced`).
    pub acls_off: bool,
    /// The region that the store names.
    pub region: Option<String>,
    /// The server's `Date`.
    pub server_date: Option<Timestamp>,
}

/// What a store does about writes into a bucket. `None`: it does not say, or does not let us see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reactions {
    /// Lifecycle rules that are switched on.
    pub lifecycle: Option<Vec<LifecycleRule>>,
    /// Where the replication rules that are switched on lead to: the names of the buckets.
    pub replication: Option<Vec<String>>,
    /// Who is told of events: names of queues, topics, functions.
    pub events: Option<Vec<String>>,
    /// What the store calls itself in the `Server` header.
    pub server: Option<String>,
}

/// A lifecycle rule, as far as it goes by the age of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleRule {
    /// Its name; empty where it has none.
    pub id: String,
    /// What the keys begin with that it is for; empty for all, or where other conditions are added.
    pub prefix: String,
    /// Days after which current versions expire.
    pub expires: Option<u32>,
    /// Days after which current versions move to another storage class.
    pub moves: Option<u32>,
    /// Days after which versions that are no longer current expire.
    pub noncurrent_expires: Option<u32>,
}

type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send + Sync>>;

/// A body: in memory, or a stream of known length that can be read once.
pub enum Body {
    /// In memory.
    Bytes(Bytes),
    /// A stream of `length` bytes.
    Stream {
        /// How many bytes it gives.
        length: u64,
        /// The bytes.
        stream: ByteStream,
    },
}

impl Body {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream { length, .. } => *length,
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A second body with the same bytes; `None` for a stream, which can be read only once.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Stream { .. } => None,
        }
    }

    /// Its bytes one after the other.
    #[must_use]
    pub fn into_stream(self) -> ByteStream {
        match self {
            Self::Bytes(bytes) => Box::pin(stream::once(async move { Ok(bytes) })),
            Self::Stream { stream, .. } => stream,
        }
    }

    /// All bytes in memory.
    ///
    /// # Errors
    /// When the stream breaks, or gives another number of bytes than it said.
    pub async fn collect(self) -> Result<Bytes> {
        let length = self.len();
        let mut stream = match self {
            Self::Bytes(bytes) => return Ok(bytes),
            Self::Stream { stream, .. } => stream,
        };
        let mut all = Vec::with_capacity(usize::try_from(length.min(1 << 20)).unwrap_or(0));
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk?);
        }
        if all.len() as u64 == length {
            return Ok(all.into());
        }
        let message = format!("the body has {} bytes, the answer promised {length}", all.len());
        Err(StoreError::new("GetObject", ErrorKind::Cut, message))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_is_plain_where_its_owner_alone_may_do_everything() {
        let plain = |owner: &str, grants: &[(&str, &str)]| {
            let grants = grants.iter().map(|(who, what)| ((*who).to_owned(), (*what).to_owned())).collect();
            Acl { owner: owner.to_owned(), grants }.is_plain_of("us")
        };
        assert!(plain("us", &[("us", "FULL_CONTROL")]));
        assert!(plain("us", &[("", "FULL_CONTROL")]), "as MinIO answers");
        assert!(!plain("us", &[("us", "READ")]));
        assert!(!plain("us", &[("us", "FULL_CONTROL"), ("them", "READ")]));
        assert!(!plain("them", &[("them", "FULL_CONTROL")]));
        assert!(!plain("us", &[]));
    }
}
