//! Who works on a bucket, as the one lease object says it: what each of them may do with it next. Pure; times are the
//! store's.
//!
//! An object holds an entry for each job, since jobs on disjoint prefixes may run at once. Who writes it writes it over
//! just what it read, so that of two only one gets through.

use jiff::{SignedDuration, Timestamp};
use keyrotate_proto::id::JobId;
use serde::{Deserialize, Serialize};

/// Version of [`Leases`] that this code writes.
pub(crate) const LEASES_VERSION: u32 = 1;

/// For so long a job may write after it has put down that it works.
pub(crate) const LENGTH: SignedDuration = SignedDuration::from_mins(15);

/// With less than this before it, it puts that down anew.
pub(crate) const RENEWED_AT: SignedDuration = SignedDuration::from_mins(10);

/// A store takes a request for so long after it was signed: what a frozen process was about to send may come as late. No
/// condition refuses it then for sure: a rotation may leave the ETag as it was.
pub(crate) const SIGNED: SignedDuration = SignedDuration::from_mins(15);

/// Everything that one lease object says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leases {
    /// [`LEASES_VERSION`] of the writer.
    pub(crate) version: u32,
    /// One for each job.
    pub(crate) entries: Vec<Entry>,
}

impl Default for Leases {
    fn default() -> Self {
        Self { version: LEASES_VERSION, entries: Vec::new() }
    }
}

/// One job that works on the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The job. No two installations give the same name.
    pub(crate) job: JobId,
    /// Who submitted it.
    pub(crate) user: String,
    /// Which process wrote this, and on which machine.
    pub(crate) holder: String,
    /// What the keys begin with that it works on.
    pub(crate) prefix: String,
    /// It begins no write later.
    pub(crate) until: Timestamp,
    /// It is through, and about to remove the object: until that is done nobody else may write into it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) leaving: bool,
}

/// What a job wants to put down.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The job.
    pub(crate) job: JobId,
    /// Who submitted it.
    pub(crate) user: String,
    /// Which process asks.
    pub(crate) holder: String,
    /// What the keys begin with that it works on.
    pub(crate) prefix: String,
}

impl Entry {
    /// From then on nothing of it can come any more, and others may begin.
    pub(crate) fn free(&self) -> Timestamp {
        later(self.until, SIGNED)
    }
}

/// How a job that is through takes its entry away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// There is nothing of it.
    Nothing,
    /// Others are there: without its entry.
    Rest(Leases),
    /// It is the last one: first it says that it removes the object, then it does.
    Last(Leases),
}

impl Leases {
    /// How long the job may still write at `now`.
    pub(crate) fn left(&self, job: &JobId, now: Timestamp) -> Option<SignedDuration> {
        let own = self.entries.iter().find(|entry| entry.job == *job && !entry.leaving)?;
        Some(own.until.duration_since(now)).filter(|left| left.is_positive()).map(|left| left.min(LENGTH))
    }

    /// A job begins, or goes on, for another [`LENGTH`]; what has run out is left away.
    ///
    /// # Errors
    /// The entry of another job that is in its way.
    pub(crate) fn hold(&self, claim: &Claim, now: Timestamp) -> Result<Self, Box<Entry>> {
        let overlaps = |one: &str| one.starts_with(&claim.prefix) || claim.prefix.starts_with(one);
        let mut entries = self.live(&claim.job, now);
        // The removal of its own entry, too, may still come.
        let leaving = self.entries.iter().find(|entry| entry.leaving && entry.free() > now);
        if let Some(other) = leaving.or(entries.iter().find(|entry| overlaps(&entry.prefix))) {
            return Err(Box::new(other.clone()));
        }
        entries.push(Entry {
            job: claim.job.clone(),
            user: claim.user.clone(),
            holder: claim.holder.clone(),
            prefix: claim.prefix.clone(),
            until: later(now, LENGTH),
            leaving: false,
        });
        Ok(Self { version: LEASES_VERSION, entries })
    }

    /// A job is through.
    pub(crate) fn leave(&self, job: &JobId, now: Timestamp) -> Leave {
        let entries = self.live(job, now);
        if !entries.is_empty() {
            let has_own = self.entries.iter().any(|entry| entry.job == *job);
            return if has_own { Leave::Rest(Self { version: LEASES_VERSION, entries }) } else { Leave::Nothing };
        }
        // Whoever it was, it has been here.
        let Some(last) = self.entries.iter().find(|entry| entry.job == *job).or(self.entries.last()) else {
            return Leave::Nothing;
        };
        // The removal, too, is signed until then and may arrive when the entry is free.
        let leaving = Entry { job: job.clone(), until: later(now, LENGTH), leaving: true, ..last.clone() };
        Leave::Last(Self { version: LEASES_VERSION, entries: vec![leaving] })
    }

    /// Without the entry of a job that is known to be dead.
    pub(crate) fn without(mut self, dead: &JobId) -> Self {
        self.entries.retain(|entry| entry.job != *dead);
        self
    }

    /// Entries of others that still count.
    fn live(&self, job: &JobId, now: Timestamp) -> Vec<Entry> {
        self.entries.iter().filter(|entry| entry.job != *job && entry.free() > now).cloned().collect()
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
