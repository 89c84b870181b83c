//! What a bucket is told when it is made.

use keyrotate_proto::capability::Versioning;
use keyrotate_store::{LifecycleRule, Sse};
use serde::{Deserialize, Serialize};

/// A bucket's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BucketSettings {
    /// Versioning.
    pub versioning: Versioning,
    /// Object lock; needs versioning to be enabled.
    pub lock_enabled: bool,
    /// Encryption of objects whose request says nothing.
    pub default_sse: Option<Sse>,
    /// Retention of objects whose request says nothing: mode and days.
    pub default_retention: Option<(String, u32)>,
    /// The region that the bucket names.
    pub region: Option<String>,
    /// Lifecycle rules. The model only shows them.
    #[serde(default)]
    pub lifecycle: Vec<LifecycleRule>,
    /// Buckets that it is replicated to. The model only shows them.
    #[serde(default)]
    pub replication: Vec<String>,
    /// Who is told of events. The model only shows them.
    #[serde(default)]
    pub events: Vec<String>,
}

impl BucketSettings {
    /// No versions, no lock, no default encryption.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// With versioning enabled.
    #[must_use]
    pub fn versioned() -> Self {
        Self { versioning: Versioning::Enabled, ..Self::default() }
    }
}
