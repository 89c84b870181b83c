//! Two jobs that do not know each other: an object of one fixed name in the bucket says who works there, so that two
//! installations (two `run`s, two fleets, a fleet and a `run`) never rotate the same keys at once.
//!
//! A job puts down that it works before its first object, and anew every few minutes, at the beginning of a slice; a slice
//! begins no write that could come later than what was put down. Where such an object can't be, the report store keeps
//! it, and the job's notes say what is not protected then.

mod leases;
mod place;

use std::sync::PoisonError;
use std::time::Duration;

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_proto::capability::{Frozen, LeasePlace};
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::state::{JobState, PassKind, Phase};
use keyrotate_rewrap::Halt;
use keyrotate_store::ErrorKind;
use keyrotate_telemetry::{Instrument as _, spans};

use crate::desk::Desk;
use leases::{Claim, LENGTH, Leases, Leave, RENEWED_AT};
use place::Place;
pub(crate) use place::{LEASE_KEY, Trouble};

/// Clocks of a store's machines differ, and its dates are whole seconds: so much earlier a holder takes its time for over.
const MARGIN: Duration = Duration::from_secs(30);

/// How often somebody tries who meets others.
const TRIES: u32 = 20;
/// Between two tries, at most.
const MOMENT: Duration = Duration::from_secs(1);
/// How often a job that is through tries to take its entry away; then it runs out.
const LEAVE_TRIES: u32 = 3;

/// Until when, on [`keyrotate_env::Env::boottime`], this process may write for a job, and under which nonce of it.
pub(crate) type Known = std::collections::HashMap<JobId, (Nonce, Duration)>;

impl Desk {
    /// Refuses a job before anything is written where another installation works on its keys.
    pub(crate) async fn look_for_others(&self, job: &JobRecord) -> Result<(), Trouble> {
        let seen = self.lease_in_bucket(job, false).read().await;
        let Ok(seen) = seen else {
            // Whether it can be read at all is found out later, and what follows then.
            return match seen {
                Err(foreign @ Trouble::Foreign(_)) => Err(foreign),
                _ => Ok(()),
            };
        };
        match seen.leases.hold(&self.claim(job), seen.now) {
            Err(other) if !other.leaving && !self.has_ended_here(&other.job).await => Err(Trouble::Busy(other)),
            _ => Ok(()),
        }
    }

    /// Puts down that a job begins, and where that stands.
    pub(crate) async fn take_lease(&self, job: &JobRecord, frozen: &mut Frozen) -> Result<(), Trouble> {
        let kept = "versions that are deleted stay (`retainedProbes`), and a lease is written anew every few minutes";
        let why = frozen.no_lease_in_bucket().or(job.spec.options.retained_probes.then_some(kept));
        let why = match why {
            Some(why) => why.to_owned(),
            None => {
                frozen.lease = LeasePlace::Bucket;
                match self.hold(job, &self.lease_in_bucket(job, frozen.versioning.has_versions()), true).await {
                    Err(trouble) if is_no_place(&trouble) => format!("{trouble} (at {LEASE_KEY})"),
                    held => return held,
                }
            }
        };
        frozen.lease = LeasePlace::Reports;
        frozen.notes.push(format!("jobs of other installations on this bucket are not kept away: {why}"));
        self.hold(job, &self.lease_place(job, frozen)?, true).await
    }

    /// Whether too little is left for another slice of a job.
    pub(crate) fn must_renew(&self, job: &JobRecord) -> bool {
        self.bucket_left(job) <= Duration::try_from(RENEWED_AT).unwrap_or_default() - MARGIN
    }

    /// Puts down anew that a job works, where that is due.
    ///
    /// # Errors
    /// What it means for the job where that can't be done.
    pub(crate) async fn keep_bucket(&self, job: &JobRecord) -> Result<(), Halt> {
        let Some(frozen) = &job.frozen else { return Ok(()) };
        // One at a time: the others find it done.
        let _renewing = self.renewing.lock().await;
        if !self.must_renew(job) {
            return Ok(());
        }
        let renew = async { self.hold(job, &self.lease_place(job, frozen)?, false).await };
        match renew.instrument(spans::part_of_slice("bucket lease")).await {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.passes() && self.bucket_left(job) > self.config.limits.slice_time => {
                let error = &trouble as &dyn std::error::Error;
                tracing::warn!(job = %job.id, error, "the bucket's lease could not be renewed; tried again soon");
                Ok(())
            }
            Err(trouble) => {
                self.forget_lease(&job.id);
                Err(trouble.halt())
            }
        }
    }

    /// Takes a job's entry away, at its end. What can't be taken away runs out.
    pub(crate) async fn leave_bucket(&self, job: &JobRecord) {
        self.forget_lease(&job.id);
        for again in (0..LEAVE_TRIES).rev() {
            match self.try_to_leave(job).await {
                Ok(true) => return,
                Err(trouble) if again == 0 || !trouble.passes() => {
                    let error = &trouble as &dyn std::error::Error;
                    tracing::warn!(job = %job.id, error, "its entry in the bucket's lease is left, and runs out");
                    return;
                }
                _ => tokio::time::sleep(MOMENT).await,
            }
        }
    }

    async fn try_to_leave(&self, job: &JobRecord) -> Result<bool, Trouble> {
        let place = match &job.frozen {
            Some(frozen) => self.lease_place(job, frozen)?,
            // It may have been killed before it could put down where its lease is.
            None => {
                let facts = self.store.bucket(&job.spec.bucket).await?;
                self.lease_in_bucket(job, facts.versioning.has_versions())
            }
        };
        let seen = place.read().await?;
        match seen.leases.leave(&job.id, seen.now) {
            Leave::Nothing => Ok(true),
            Leave::Rest(rest) => Ok(place.swap(&seen, &rest).await?.is_some()),
            Leave::Last(_) if place.keeps_it() => Ok(place.swap(&seen, &Leases::default()).await?.is_some()),
            Leave::Last(leaving) => match place.swap(&seen, &leaving).await? {
                Some(written) => place.remove(&written).await.map(|()| true),
                None => Ok(false),
            },
        }
    }

    /// Puts an entry down where none is, or where it is nearly over.
    async fn hold(&self, job: &JobRecord, place: &Place<'_>, is_new: bool) -> Result<(), Trouble> {
        let (claim, mut dead, mut met) = (self.claim(job), Vec::new(), Trouble::Contended);
        for _ in 0..TRIES {
            let before = self.env.boottime();
            let seen = place.read().await?;
            if let Some(left) = seen.leases.left(&job.id, seen.now).filter(|left| *left > RENEWED_AT) {
                self.note_lease(job, before, left.try_into().unwrap_or_default());
                return Ok(());
            }
            let leases = dead.iter().fold(seen.leases.clone(), Leases::without);
            match leases.hold(&claim, seen.now) {
                Ok(next) => {
                    if place.swap(&seen, &next).await?.is_some() {
                        if is_new && !seen.is_there() {
                            place.prove(&next).await?;
                        }
                        self.note_lease(job, before, LENGTH.try_into().unwrap_or_default());
                        return Ok(());
                    }
                    met = Trouble::Contended;
                }
                Err(other) if self.has_ended_here(&other.job).await => {
                    dead.push(other.job);
                    continue;
                }
                Err(other) if other.leaving => met = Trouble::Busy(other),
                Err(other) => return Err(Trouble::Busy(other)),
            }
            tokio::time::sleep(MOMENT.mul_f64(self.env.random_fraction())).await;
        }
        Err(met)
    }

    /// Whether it is a job of this installation that has ended: what it left needs not be waited for.
    async fn has_ended_here(&self, job: &JobId) -> bool {
        self.site.ledger.job(job).await.is_ok_and(|job| job.state.is_ended())
    }

    fn claim(&self, job: &JobRecord) -> Claim {
        Claim {
            job: job.id.clone(),
            user: job.user.clone(),
            holder: self.config.owner.clone(),
            prefix: job.spec.prefix.clone(),
        }
    }

    fn lease_place<'a>(&'a self, job: &'a JobRecord, frozen: &Frozen) -> Result<Place<'a>, Trouble> {
        Ok(match frozen.lease {
            LeasePlace::Bucket => self.lease_in_bucket(job, frozen.versioning.has_versions()),
            LeasePlace::Reports => {
                let name = format!("leases/{}/{}.json", file_name(&job.store), file_name(&job.spec.bucket));
                Place::Reports { files: self.site.reports.own()?, name, env: &self.env }
            }
        })
    }

    fn lease_in_bucket<'a>(&'a self, job: &'a JobRecord, versions: bool) -> Place<'a> {
        Place::Bucket { store: self.store.as_ref(), bucket: &job.spec.bucket, versions, env: &self.env }
    }

    /// Counted from before it was asked for, so that it never ends later than others think.
    fn note_lease(&self, job: &JobRecord, before: Duration, left: Duration) {
        let until = before + left.saturating_sub(MARGIN);
        let mut known = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(job.id.clone(), (job.nonce.clone(), until));
    }

    fn forget_lease(&self, job: &JobId) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
    }

    /// How long this process may still write for a job. What was taken away at a job's end says nothing once it is resumed: it
    /// has another nonce then.
    pub(crate) fn bucket_left(&self, job: &JobRecord) -> Duration {
        let known = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let until = known.get(&job.id).filter(|(nonce, _)| *nonce == job.nonce).map(|(_, until)| *until);
        until.unwrap_or_default().saturating_sub(self.env.boottime())
    }
}

/// Whether nothing but the canary is left to do for a job that verifies: no object is written any more.
pub(crate) fn is_through(job: &JobRecord) -> bool {
    let verifies = matches!(
        job.state,
        JobState::Live { phase: Phase::Verifying } | JobState::Paused { phase: Phase::Verifying, .. }
    );
    let verified = job.last_pass(PassKind::Verify).is_some_and(|verify| !verify.open);
    verifies && verified && !job.passes.iter().any(|pass| pass.open && pass.kind != PassKind::Prepare)
}

/// Whether the bucket can't have such an object, so that it has to be elsewhere.
fn is_no_place(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Unguarded => true,
        Trouble::Store(error) => {
            matches!(error.kind, ErrorKind::Denied | ErrorKind::NotImplemented | ErrorKind::Refused | ErrorKind::Locked)
        }
        _ => false,
    }
}

/// A file's name for that of a store or a bucket.
fn file_name(text: &str) -> String {
    let piece = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
        other => format!("={other:02X}"),
    };
    text.bytes().map(piece).collect()
}

#[cfg(test)]
mod tests;
