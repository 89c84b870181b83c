//! What a job would find and do, foretold without a write: what `keyrotate census` and the dry runs say.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of [`Forecast`] that this code writes.
pub const FORECAST_VERSION: u32 = 1;

/// Name of the file in the report store that holds what a dry run says.
pub const FORECAST: &str = "forecast.json";

/// What a job would find and do. Of a sample all numbers of objects and bytes are estimates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// [`FORECAST_VERSION`] of the writer.
    pub version: u32,
    /// The store.
    pub store: String,
    /// The bucket.
    pub bucket: String,
    /// Only keys that begin with it; empty: all.
    pub prefix: String,
    /// When it was taken.
    #[schemars(with = "String")]
    pub taken: Timestamp,
    /// Whether every object was looked at; else a sample was.
    pub complete: bool,
    /// Object versions that were looked at.
    pub looked: u64,
    /// Listing pages that were read.
    pub pages: u64,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Looks at objects per second, as many at a time as calls were allowed.
    pub reads_per_second: f64,
    /// The target key, or `sse-s3`; `null` where it is not known without a probe.
    pub target: Option<String>,
    /// Object versions in scope.
    pub objects: Range,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Under which keys they are now, the most first.
    pub keys: Vec<UnderKey>,
    /// What a job would do: one way where it is proven what works here, else one for each that may be. None without a
    /// known target.
    pub ways: Vec<Way>,
    /// What to know about all of it, a line each.
    pub notes: Vec<String>,
}

/// A number of objects, and between what it lies with 95 % confidence; all three are equal where it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    /// The lower end.
    pub low: u64,
    /// The estimate.
    pub value: u64,
    /// The upper end.
    pub high: u64,
}

/// A share of all objects, 0 to 1, and between what it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// The lower end.
    pub low: f64,
    /// The estimate.
    pub value: f64,
    /// The upper end.
    pub high: f64,
}

/// The object versions under one key, or of one kind of encryption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnderKey {
    /// How they are encrypted, as rows of reports say it: `plaintext`, `sse-s3`, `sse-kms:KEY`, `sse-c`; `unknown`
    /// where nobody needs to look.
    pub seal: String,
    /// How many.
    pub objects: Range,
    /// Which share of all.
    pub share: Share,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// On what a way of doing it is founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// `keyrotate doctor` proved it in this bucket.
    Proven,
    /// The store serves UpdateObjectEncryption, as AWS S3 does.
    UpdateEncryption,
    /// The store rewrites objects in place, as MinIO and AIStor do.
    InPlace,
    /// The store guards GET + PUT only, as Ceph RGW does.
    RewriteOnly,
}

/// What a job would do, and what that costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// On what it is founded.
    pub basis: Basis,
    /// When it was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub proven: Option<Timestamp>,
    /// What becomes of the objects, the most first.
    pub fates: Vec<Fated>,
    /// Object versions that are written.
    pub written: u64,
    /// Calls to the store, listings included.
    pub calls: u64,
    /// Calls of the store to its KMS for them, at most: bucket keys save most of them.
    pub kms_calls: u64,
    /// Bytes that pass through workers, once in and once out.
    pub transit_bytes: u64,
    /// Versions that are added, with the old ones kept under their keys.
    pub added_versions: u64,
    /// Bytes of their bodies.
    pub added_bytes: u64,
    /// The same at the upper end of its interval.
    pub added_bytes_at_most: u64,
    /// How long it takes as fast as looking went.
    pub pace: Pace,
    /// How long it takes at the rate that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_rate: Option<Pace>,
}

/// Object versions of one fate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fated {
    /// The strategy that writes them, or the outcome and its reason as in a report: `current`, `skipped/sse-c`.
    pub fate: String,
    /// How many.
    pub objects: Range,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// How long a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pace {
    /// Object versions per second, over the whole job.
    pub objects_per_second: f64,
    /// Seconds.
    pub seconds: f64,
    /// When it ends, if it begins when the census was taken.
    #[schemars(with = "String")]
    pub ends: Timestamp,
}
