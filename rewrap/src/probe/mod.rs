//! The `prepare` pass: preflight, the target key, and what this store can do in this bucket, proven on objects of
//! our own.

use std::collections::BTreeSet;

use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::capability::Frozen;
use keyrotate_proto::id::JobId;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::spec::JobSpec;
use keyrotate_proto::state::PauseReason;
use keyrotate_store::{ObjectAt, Store};

use crate::halt::Halt;

/// Where probes live, and what the surroundings say.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// Prefix of our objects, with its `/`; default `.keyrotate/`.
    pub prefix: String,
    /// Another bucket for the probes: proves everything but `update-encryption`.
    pub probe_bucket: Option<String>,
    /// The job.
    pub job: JobId,
    /// Jobs that live now: their probes are not swept.
    pub live: BTreeSet<JobId>,
    /// `MINIO_KMS_KES_KEY_NAME`, compared with the store's default where the file names no key.
    pub default_key: Option<KeyName>,
}

impl ProbeSettings {
    /// The usual ones.
    #[must_use]
    pub fn new(job: JobId) -> Self {
        Self { prefix: ".keyrotate/".into(), probe_bucket: None, live: BTreeSet::new(), default_key: None, job }
    }
}

/// A start is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {mend}")]
pub struct Refusal {
    /// What was found.
    pub what: String,
    /// How to mend it.
    pub mend: String,
    /// Where waiting may mend it: the pause that it would be.
    pub pause: Option<PauseReason>,
}

/// The exact names of the job's probe objects, for [`crate::Rules::own_keys`].
#[must_use]
pub fn names(_settings: &ProbeSettings) -> BTreeSet<String> {
    BTreeSet::new()
}

/// Preflight, target key, canary, proofs.
///
/// # Errors
/// When the job can't be started: what is wrong and how to mend it.
pub async fn prepare(
    _store: &dyn Store,
    _kms: Option<&dyn Kms>,
    _spec: &JobSpec,
    _settings: &ProbeSettings,
    _env: &Env,
) -> Result<Frozen, Refusal> {
    unimplemented!("skeleton")
}

/// Deletes the probes that killed processes left, those of `live` jobs apart; gives how many.
///
/// # Errors
/// When the store can't be asked.
pub async fn sweep(_store: &dyn Store, _bucket: &str, _prefix: &str, _live: &BTreeSet<JobId>) -> Result<u64, Halt> {
    unimplemented!("skeleton")
}

/// Whether the canary made at the job's start still opens.
///
/// # Errors
/// When it does not, or KES can't say.
pub async fn canary(_kms: &dyn Kms, _frozen: &Frozen) -> Result<(), Halt> {
    unimplemented!("skeleton")
}

/// Reads one byte of an object through the store: proves that the store still opens the target key.
///
/// # Errors
/// When it does not.
pub async fn touch(_store: &dyn Store, _at: &ObjectAt) -> Result<(), Halt> {
    unimplemented!("skeleton")
}
