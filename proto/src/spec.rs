//! What a job file means, once read: immutable, hashed, the same for every dialect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::JobId;
use crate::key::KeyName;
use crate::rates::{RateWindow, Rates, rates_at};

/// Version of [`JobSpec`] that this code writes.
pub const SPEC_VERSION: u32 = 1;

/// One rotation as its job file asks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// [`SPEC_VERSION`] of the writer.
    pub version: u32,
    /// Whose rules hold.
    pub dialect: Dialect,
    /// The bucket.
    pub bucket: String,
    /// Only keys that begin with it; empty: all.
    pub prefix: String,
    /// Which new key the objects under each old one get, instead of one for all; no new key is an old one as well. Left
    /// out of the hash where the file has none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keys: BTreeMap<KeyName, KeyName>,
    /// What the objects shall be encrypted with.
    pub target: Target,
    /// Which objects are left out.
    pub filter: Filter,
    /// Whom to tell about the end.
    pub notify: Option<Notify>,
    /// Further passes over what failed.
    pub retry: Retry,
    /// keyrotate's own additions.
    pub options: Options,
    /// The objects, where they are named one by one; else all that the rest of the file lets pass. Left out of the hash
    /// where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
}

impl JobSpec {
    /// Whether it says itself what to rotate to; else the store's default decides.
    #[must_use]
    pub fn names_target(&self) -> bool {
        !self.keys.is_empty() || matches!(&self.target, Target::SseKms { key: Some(_), .. } | Target::SseS3)
    }

    /// Lower-case hex SHA-256 of the spec as JSON, the notify token left out: two files that mean the same job have
    /// the same hash.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut visible = self.clone();
        if let Some(notify) = &mut visible.notify {
            notify.token = None;
        }
        #[expect(clippy::expect_used, reason = "names, numbers and text are always JSON")]
        let bytes = serde_json::to_vec(&visible).expect("a spec is JSON");
        hex::encode(Sha256::digest(bytes))
    }
}

/// Whose rules a job file follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// MinIO since 2023: `keyrotate:` with `encryption.type`.
    Minio,
    /// The flat form of the 2023 announcement, MinIO's rules.
    MinioFlat,
    /// AIStor: always SSE-KMS, plaintext too.
    Aistor,
}

impl Dialect {
    /// Whether plaintext objects get encrypted (AIStor) or left alone (MinIO).
    #[must_use]
    pub fn encrypts_plaintext(self) -> bool {
        matches!(self, Self::Aistor)
    }
}

/// What the objects shall be encrypted with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Target {
    /// The store's own key.
    SseS3,
    /// A key of the store's KMS.
    SseKms {
        /// The key; `None`: the store's default, resolved by the `prepare` pass.
        key: Option<KeyName>,
        /// Encryption context that every object gets.
        context: Option<BTreeMap<String, String>>,
    },
}

impl Target {
    /// The encryption context, if the file gives one.
    #[must_use]
    pub fn context(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::SseKms { context, .. } => context.as_ref(),
            Self::SseS3 => None,
        }
    }
}

/// Objects that are named one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "kebab-case")]
pub enum Manifest {
    /// A list, `bucket,key[,version]` in each row.
    Csv {
        /// Where it lies.
        location: Location,
    },
    /// `manifest.json` of S3 Inventory, and what it names.
    Inventory {
        /// Where it lies.
        location: Location,
    },
    /// What a former job could not do.
    FailedOf {
        /// That job.
        job: JobId,
    },
}

impl Manifest {
    /// Where it lies, where it is a file.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::Csv { location } | Self::Inventory { location } => Some(location),
            Self::FailedOf { .. } => None,
        }
    }
}

/// Where a file of the user's lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// On the machine that works, or starts; as a path.
    File(String),
    /// In a bucket of the job's store.
    Object {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Object { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

/// Which objects are left out. Categories are ANDed; entries inside `tags`, and inside `metadata`, are ORed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Only objects younger than this, counted back from the job's start.
    pub newer_than: Option<Duration>,
    /// Only objects older than this, counted back from the job's start.
    pub older_than: Option<Duration>,
    /// Only objects last modified after this moment (exclusive).
    pub created_after: Option<Timestamp>,
    /// Only objects last modified before this moment (exclusive).
    pub created_before: Option<Timestamp>,
    /// Only objects with one of these tags.
    pub tags: Vec<KeyPattern>,
    /// Only objects with one of these metadata entries or headers.
    pub metadata: Vec<KeyPattern>,
    /// Only SSE-KMS objects under this key.
    pub kms_key: Option<KeyName>,
    /// Only objects without encryption.
    pub plaintext_only: bool,
    /// Also encrypted objects under object lock or legal hold.
    pub force_encrypt_locked: bool,
}

/// A name, compared without case, and a wildcard pattern for its value (`*` any run, `?` one character), compared
/// with case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPattern {
    /// The name, as given.
    pub key: String,
    /// The pattern.
    pub value: String,
}

/// Whom to tell about the end of a job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// Where to POST.
    pub endpoint: String,
    /// Sent as it is in the `Authorization` header. Only ever stored sealed; see [`JobSpec::hash`].
    pub token: Option<String>,
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notify").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Further passes over what failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// How many.
    pub attempts: u32,
    /// The least wait before each.
    pub delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, delay: Duration::from_millis(25) }
    }
}

/// How large a body may pass through a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyTransit {
    /// The file does not say: up to [`BodyTransit::UNSAID`]. Where there is no other way than through a worker, it is
    /// asked to say.
    Unsaid,
    /// Up to so many bytes; 0 forbids it.
    UpTo(u64),
    /// Any body.
    Any,
}

impl BodyTransit {
    /// Bytes that pass without a word about it.
    pub const UNSAID: u64 = 1024 * 1024;

    /// Whether a body of `size` bytes may pass.
    #[must_use]
    pub fn allows(self, size: u64) -> bool {
        match self {
            Self::Unsaid => size <= Self::UNSAID,
            Self::UpTo(0) => false,
            Self::UpTo(limit) => size <= limit,
            Self::Any => true,
        }
    }
}

/// Which versions of an object are in scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionPolicy {
    /// Every one. Where the store can't write a noncurrent version in its place, those are skipped and listed.
    #[default]
    All,
    /// The current one of each key.
    Current,
}

/// What becomes of the version that a rotated one replaces, in a bucket that keeps versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Superseded {
    /// It stays, under its old key, and is listed.
    #[default]
    Keep,
    /// It is deleted by its id, once the new one was seen to have the same content. A locked one stays.
    Expire,
}

/// Whether objects under SSE-KMS get an S3 bucket key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BucketKey {
    /// As each had it.
    #[default]
    Keep,
    /// All that are written.
    On,
    /// None that is written.
    Off,
}

/// keyrotate's own additions to a job file. A file without them means exactly what it means to MinIO or AIStor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// How large a body may pass through a worker. Default: 1 MiB, and a question where that is the only way.
    pub body_transit: BodyTransit,
    /// Whether MinIO's in-place form may be used where it is proven. Default: yes.
    pub in_place: bool,
    /// Whether to work on a store that guards no write against a concurrent one. Default: no.
    pub allow_unguarded: bool,
    /// Share of the bodies that are hashed before and after, 0 to 1; at least 100 per strategy unless 0.
    /// Default: 0.001.
    pub verify_bodies: f64,
    /// How long a job may stay paused before it fails. Default: 24 h.
    pub pause_limit: Duration,
    /// Whether probe objects may be left behind where the bucket's default retention keeps them. Default: no.
    pub retained_probes: bool,
    /// Objects per second for the whole job; `None`: no limit.
    pub rate: Option<f64>,
    /// Bytes per second that it writes; `None`: no limit. Left out of the hash where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub byte_rate: Option<f64>,
    /// Calls to the KMS per second that it causes; `None`: no limit. Left out of the hash where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_rate: Option<f64>,
    /// Hours in which other rates hold. Left out of the hash where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<RateWindow>,
    /// Bytes that the versions which the job adds may have in all; `None`: what is confirmed at its start. Left out of
    /// the hash where it is not given: jobs of before it was known have the hash they had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_added_bytes: Option<u64>,
    /// Which versions are in scope. Default: all. Left out of the hash where it is the default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub versions: VersionPolicy,
    /// What objects may lose, where no strategy keeps it. Default: nothing. Left out of the hash where it is the default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub accept_loss: BTreeSet<Loss>,
    /// What becomes of the version that a rotated one replaces. Default: it is kept. Left out of the hash where it is the
    /// default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub superseded: Superseded,
    /// Whether objects get an S3 bucket key. Default: as each had it. Left out of the hash where it is the default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bucket_key: BucketKey,
    /// Whether what is under the target key already is written again, once. Default: no. Left out of the hash where it is
    /// the default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reseal: bool,
    /// How many versions may fail before the job waits for a person. Left out of the hash where it is the default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure_threshold: FailureThreshold,
    /// Whether somebody else than who began it must confirm it. Default: no. Left out of the hash where it is the default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approval: bool,
    /// Which of the fleet's slots the job gets, to begin with. Left out of the hash where it is the default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rank: Rank,
}

/// How a job stands beside others of its fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// Jobs of a higher one go first, -[`Self::MOST_PRIORITY`] to [`Self::MOST_PRIORITY`]. Default: 0.
    pub priority: i32,
    /// Among jobs of one priority: slots in proportion to it, 1 to [`Self::MOST_WEIGHT`]. Default: 1.
    pub weight: u32,
}

impl Rank {
    /// The highest priority.
    pub const MOST_PRIORITY: i32 = 100;
    /// The largest weight.
    pub const MOST_WEIGHT: u32 = 1000;

    /// Whether a job may have that priority.
    #[must_use]
    pub fn is_priority(priority: i32) -> bool {
        (-Self::MOST_PRIORITY..=Self::MOST_PRIORITY).contains(&priority)
    }

    /// Whether a job may have that weight.
    #[must_use]
    pub fn is_weight(weight: u32) -> bool {
        (1..=Self::MOST_WEIGHT).contains(&weight)
    }
}

impl Default for Rank {
    fn default() -> Self {
        Self { priority: 0, weight: 1 }
    }
}

/// How many versions may fail before the job waits for a person. Default: 1,000, or 1 % of 10,000 and more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureThreshold {
    /// So many, at most; `None`: any number.
    pub count: Option<u64>,
    /// This share of what was scanned, 0 to 1, at most, once [`Self::SAMPLE`] versions were; `None`: any.
    pub share: Option<f64>,
}

impl FailureThreshold {
    /// Of fewer versions a share says nothing.
    pub const SAMPLE: u64 = 10_000;

    /// Whether more have failed.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^52")]
    pub fn is_passed(&self, failed: u64, scanned: u64) -> bool {
        let share = || failed as f64 / scanned as f64;
        self.count.is_some_and(|most| failed > most)
            || (scanned >= Self::SAMPLE && self.share.is_some_and(|most| share() > most))
    }
}

impl Default for FailureThreshold {
    fn default() -> Self {
        Self { count: Some(1_000), share: Some(0.01) }
    }
}

/// Something that an object may lose by its rotation, where the job file says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The checksum beside it.
    Checksum,
    /// Number and sizes of its parts.
    Parts,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Options {
    /// What the job may do per second at that time, as far as its file says.
    #[must_use]
    pub fn rates_at(&self, now: Timestamp) -> Rates {
        rates_at(self.rates(), &self.windows, now)
    }

    /// The same where no window holds.
    #[must_use]
    pub fn rates(&self) -> Rates {
        Rates { objects: self.rate, bytes: self.byte_rate, kms: self.kms_rate }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_transit: BodyTransit::Unsaid,
            in_place: true,
            allow_unguarded: false,
            verify_bodies: 0.001,
            pause_limit: Duration::from_secs(24 * 3600),
            retained_probes: false,
            rate: None,
            byte_rate: None,
            kms_rate: None,
            windows: Vec::new(),
            max_added_bytes: None,
            versions: VersionPolicy::All,
            accept_loss: BTreeSet::new(),
            superseded: Superseded::Keep,
            bucket_key: BucketKey::Keep,
            reseal: false,
            failure_threshold: FailureThreshold::default(),
            approval: false,
            rank: Rank::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_passed_by_more_than_it_says_and_a_share_wants_a_sample() {
        let usual = FailureThreshold::default();
        for (failed, scanned, passed) in [
            (1_000, 1_000, false),
            (1_001, 1_000_000, true),
            (99, 9_999, false),
            (100, 10_000, false),
            (101, 10_000, true),
            (0, 0, false),
        ] {
            assert_eq!(usual.is_passed(failed, scanned), passed, "{failed} of {scanned}");
        }
        let none = FailureThreshold { count: None, share: None };
        assert!(!none.is_passed(u64::MAX >> 12, 1));
        assert!(FailureThreshold { count: Some(0), share: None }.is_passed(1, 1));
    }

    #[test]
    fn the_hash_does_not_depend_on_the_token_and_the_token_is_not_shown() {
        let mut spec = JobSpec {
            version: SPEC_VERSION,
            dialect: Dialect::Aistor,
            bucket: "b".into(),
            prefix: String::new(),
            keys: BTreeMap::new(),
            target: Target::SseKms { key: None, context: None },
            filter: Filter::default(),
            notify: Some(Notify { endpoint: "https://n.example".into(), token: Some("Bearer s3cr3t".into()) }),
            retry: Retry::default(),
            options: Options::default(),
            manifest: None,
        };
        let with = spec.hash();
        assert!(!format!("{spec:?}").contains("s3cr3t"));
        spec.notify.as_mut().unwrap().token = None;
        assert_eq!(with, spec.hash());
        spec.prefix.push('a');
        assert_ne!(with, spec.hash());
    }
}
