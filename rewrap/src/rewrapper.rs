//! The one who looks, writes and reads back.

mod added;
mod foretell;
mod intents;
mod look;
mod page;
mod trap;
mod write;

pub use foretell::{Fate, Foretold};
pub use intents::TakenOver;
pub(crate) use write::presumed;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use keyrotate_env::Env;
use keyrotate_proto::capability::{Frozen, FrozenTarget};
use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::row::Row;
use keyrotate_proto::spec::{BucketKey, JobSpec};
use keyrotate_proto::state::StopReason;
use keyrotate_store::{Sse, Store};

use crate::bodies::Sample;
use crate::facts::Facts;
use crate::gate::Gate;
use crate::halt::Halt;
use crate::probe::Ours;

/// What decides about every object of a job.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The job file's meaning.
    pub spec: JobSpec,
    /// The job's start: durations of filters count back from it.
    pub started: Timestamp,
    /// What was proven about the store.
    pub frozen: Frozen,
    /// Our own objects in the bucket: left out.
    pub ours: Ours,
}

/// Rotates objects for one job. Every method takes `&self`, so one is shared by all tasks of a worker.
#[derive(Debug)]
pub struct Rewrapper {
    store: Arc<dyn Store>,
    rules: Rules,
    env: Env,
    first_updates: Gate,
    first_untried: Gate,
    sample: Sample,
    xml: Vec<String>,
    stopped: OnceLock<Halt>,
}

impl Rewrapper {
    /// A rewrapper of one job. Its counters (the first objects that go one at a time, the bodies that were hashed)
    /// live as long as it does, so a worker keeps one per job.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, rules: Rules, env: Env) -> Self {
        let (first_updates, first_untried, sample, stopped) = Default::default();
        let xml = trap::bodies(&rules.frozen);
        Self { store, rules, env, first_updates, first_untried, sample, xml, stopped }
    }

    /// The rules that it works by.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// No write begins any more: all that would still be written now says why instead. For a reason that was found
    /// elsewhere; what a write of its own shows stops it by itself.
    pub fn stop_writes(&self, halt: &Halt) {
        let _first_stands = self.stopped.set(halt.clone());
    }

    /// Something that must stop the job at once, not only whoever saw it.
    fn stop(&self, reason: StopReason, detail: String) -> Halt {
        let halt = Halt::Stop { reason, detail };
        self.stop_writes(&halt);
        halt
    }

    /// Asked right before a write is sent.
    fn may_write(&self) -> Result<(), Halt> {
        self.stopped.get().map_or(Ok(()), |halt| Err(halt.clone()))
    }
}

/// The encryption that a write of this object names: the frozen target's key for it, the job's context or the object's own, the
/// bucket-key flag of the object or the file.
pub(crate) fn wanted(target: &FrozenTarget, facts: &Facts, bucket_key: BucketKey) -> Sse {
    match target {
        FrozenTarget::SseS3 => Sse::S3,
        FrozenTarget::SseKms { key, context, .. } => {
            let bucket_key = match (bucket_key, facts.shown.as_ref().map(|s| &s.sse)) {
                (BucketKey::On, _) => Some(true),
                (BucketKey::Off, _) => Some(false),
                (BucketKey::Keep, Some(Sse::Kms { bucket_key, .. })) => *bucket_key,
                (BucketKey::Keep, _) => None,
            };
            let context = context.clone().or_else(|| facts.own_context().cloned());
            let old = facts.seal();
            let key = target.new_key(old.kms_key()).unwrap_or(key).clone();
            Sse::Kms { key: Some(key), context, bucket_key }
        }
    }
}

/// A row of a version that was not written.
fn unwritten(facts: &Facts, outcome: Outcome, detail: impl Into<String>) -> Row {
    Row {
        key: facts.at.key.clone(),
        version: facts.at.version.clone(),
        version_after: None,
        size: facts.size,
        outcome,
        strategy: None,
        before: facts.seal(),
        after: facts.seal(),
        etag: facts.etag.clone(),
        last_modified: whole(facts.last_modified),
        detail: detail.into(),
        notes: BTreeSet::new(),
    }
}

/// Whole seconds, as HEAD shows dates.
fn whole(date: Timestamp) -> Timestamp {
    date.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Floor)).unwrap_or(date)
}

#[cfg(test)]
mod tests;
