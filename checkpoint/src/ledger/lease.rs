//! Leases: asked for, held, and consumed by whatever ends them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_proto::id::{Epoch, ShardId, ShardRef};
use keyrotate_proto::state::{JobState, PassKind};
use keyrotate_proto::ticket::Ticket;
use keyrotate_telemetry::spans;

use super::transact::{Change, View};
use super::{Commit, Ledger, LedgerError, Prepared};
use crate::backend::RecordKey;
use crate::record::{Asked, JobLimits, JobRecord, ShardRecord, ShardState, job_key, shard_key};
use crate::transition::shard::{self, Cuts, End, Fence, LeaseAsk};
use crate::transition::{self, Refusal, may_lease};

/// The right to work on a shard, until a time. Ended by [`Ledger::finish`], [`Ledger::give_back`],
/// [`Ledger::freeze`] or [`Ledger::abandon`]; dropped without a word it runs out by itself.
#[derive(Debug)]
pub struct HeldLease {
    record: ShardRecord,
    job: JobRecord,
    kind: PassKind,
    fence: Fence,
    ttl: Duration,
    until: Timestamp,
    deadline: Duration,
    got_on: bool,
    taken_from: Option<String>,
}

impl HeldLease {
    /// The shard as the last answer showed it.
    #[must_use]
    pub fn record(&self) -> &ShardRecord {
        &self.record
    }

    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> &ShardRef {
        &self.record.shard
    }

    /// The job as it was when the lease was given.
    #[must_use]
    pub fn job(&self) -> &JobRecord {
        &self.job
    }

    /// What the shard's pass does.
    #[must_use]
    pub fn kind(&self) -> PassKind {
        self.kind
    }

    /// The fencing token.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.fence.epoch
    }

    /// The id of the span under which somebody else held the shard whose lease this one ended, where that was traced.
    #[must_use]
    pub fn taken_from(&self) -> Option<&str> {
        self.taken_from.as_deref()
    }

    /// When it ends, by the back-end's time.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// When it ends by [`keyrotate_env::Env::boottime`], counted from before the request was sent: no write may start
    /// that could land later.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A part of a recorded upload was added: from the next renewal on, the end of this lease charges nothing.
    pub fn note_progress(&mut self) {
        self.got_on = true;
    }

    /// How long each renewal makes it.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
}

/// What the answer to a renewal or commit tells its holder.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Where the job stands.
    pub job_state: JobState,
    /// The job's state does not allow this work any more: commit what is in flight and give back. The lease was not
    /// made longer.
    pub must_stop: bool,
    /// The shard's end, which a split may have brought nearer.
    pub end: Option<String>,
    /// The coordinator wants something of the holder.
    pub asked: Option<Asked>,
    /// How much of the fleet the job may take now.
    pub limits: JobLimits,
}

/// A lease was not given.
#[derive(Debug, thiserror::Error)]
pub enum LeaseRefusal {
    /// The shard, its pass or its job is over: the ticket is done with.
    #[error("nothing is left to do")]
    Over,
    /// Somebody holds it: the ticket is done with, the sweeper sends another when that lease ran out.
    #[error("leased by somebody else until {until}")]
    Held {
        /// Till when.
        until: Timestamp,
    },
    /// Not in the job's present state, or not yet: the ticket is done with, the dispatcher sends another in time.
    #[error("not now")]
    NotNow(#[source] Refusal),
    /// The ticket was made for another spec: it belongs to the dead letters.
    #[error("the ticket is for a spec with hash `{ticket}`, the job's is `{job}`")]
    Foreign {
        /// The ticket's.
        ticket: String,
        /// The job's.
        job: String,
    },
    /// What is read of the job's spec is not what the job was begun with: a newer keyrotate began it, or its record was
    /// changed by something else. Nothing may be done by it.
    #[error(
        "the job's spec has the hash `{job}`, what is read of it `{read}`: a newer keyrotate began the job, or its record was changed"
    )]
    Misread {
        /// The job's.
        job: String,
        /// That of what is read.
        read: String,
    },
    /// The shard has keys that the job does not work on. Nothing may be done by it.
    #[error("the shard has keys outside the job's prefix: its record was changed")]
    OutOfScope,
    /// It is not known.
    #[error(transparent)]
    Failed(#[from] LedgerError),
}

impl From<Refusal> for LeaseRefusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::ShardOver | Refusal::JobOver(_) | Refusal::NoPass(_) => Self::Over,
            Refusal::Held { until } => Self::Held { until },
            Refusal::WrongState { .. } | Refusal::NotBefore(_) | Refusal::OtherRun => Self::NotNow(refusal),
            Refusal::OutOfScope => Self::OutOfScope,
            other => Self::Failed(other.into()),
        }
    }
}

/// Bytes of a lease's token.
const TOKEN: usize = 6;
/// The same behind the id of a span, which is random as well.
const TOKEN_BESIDE_SPAN: usize = 2;
/// Digits of a span's id.
const SPAN_DIGITS: usize = 16;

/// The span under which somebody else holds a shard.
fn held_under(record: &ShardRecord, ours: &str) -> Option<String> {
    let ShardState::Leased { token, .. } = &record.state else { return None };
    let other = token != ours && token.len() == SPAN_DIGITS + 2 * TOKEN_BESIDE_SPAN;
    other.then(|| token.get(..SPAN_DIGITS).map(str::to_owned))?
}

struct Step {
    job: JobRecord,
    shard: ShardRecord,
}

impl Ledger {
    /// Leases the ticket's shard under the next epoch. `redelivered`: the broker says that this ticket was delivered
    /// before, so its holder's connection is gone.
    ///
    /// # Errors
    /// Why not, and with it what to do with the ticket.
    pub async fn lease(
        &self,
        ticket: &Ticket,
        owner: &str,
        ttl: Duration,
        redelivered: bool,
    ) -> Result<HeldLease, LeaseRefusal> {
        // With the id of the span that works under it, so that whoever takes over can link to that.
        let token = match spans::span_id(&spans::Span::current()) {
            Some(span) => span + &self.env.random_hex(TOKEN_BESIDE_SPAN),
            None => self.env.random_hex(TOKEN),
        };
        let keys = keys(&ticket.shard);
        let job: JobRecord = self.view(&keys[..1]).await?.get(&keys[0])?;
        if job.spec_hash != ticket.spec_hash {
            return Err(LeaseRefusal::Foreign { ticket: ticket.spec_hash.clone(), job: job.spec_hash });
        }
        let read = job.spec.hash();
        if job.spec_hash != read {
            return Err(LeaseRefusal::Misread { job: job.spec_hash, read });
        }
        if job.state.is_ended() {
            // Its shards may be forgotten already.
            return Err(LeaseRefusal::Over);
        }
        let ask = LeaseAsk { owner, token: &token, ticket_epoch: &ticket.epoch, redelivered, ttl };
        let sent = self.env.boottime();
        let before = Mutex::new(None);
        let step = self.step(&keys, |job, record, now| {
            let leased = shard::lease(job, record, &ask, now)?;
            *before.lock().unwrap_or_else(PoisonError::into_inner) = held_under(record, &token);
            Ok(leased)
        });
        let step = step.await;
        let Step { job, shard: record } = match step {
            Ok(step) => step,
            Err(LedgerError::Refused(refusal)) => return Err(refusal.into()),
            Err(error @ LedgerError::Lost(_)) => {
                // The job may have ended, and its shards been forgotten, since it was looked at.
                let job: JobRecord = self.view(&keys[..1]).await?.get(&keys[0])?;
                return Err(if job.state.is_ended() { LeaseRefusal::Over } else { error.into() });
            }
            Err(error) => return Err(error.into()),
        };
        let kind = shard::kind(&job, &record)?;
        let fence = Fence { epoch: record.epoch.clone(), token };
        let until = until(&record).unwrap_or(Timestamp::MIN);
        let taken_from = before.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(HeldLease { record, job, kind, fence, ttl, until, deadline: sent + ttl, got_on: false, taken_from })
    }

    /// Makes the lease longer.
    ///
    /// # Errors
    /// [`Refusal::Stale`] or [`Refusal::Expired`]: drop the shard at once.
    pub async fn renew(&self, held: &mut HeldLease) -> Result<Signal, LedgerError> {
        let sent = self.env.boottime();
        let change = |job: &JobRecord, record: &ShardRecord, now| {
            shard::renew(job, record, &held.fence, held.got_on, held.ttl, now)
        };
        let step = self.fenced(held.shard(), false, change).await?;
        Ok(held.learn(step, sent))
    }

    /// Records a window, and makes the lease longer.
    ///
    /// # Errors
    /// [`Refusal::Stale`] or [`Refusal::Expired`]: drop the shard at once.
    pub async fn commit(&self, held: &mut HeldLease, commit: Commit) -> Result<Signal, LedgerError> {
        let sent = self.env.boottime();
        let (fence, ttl) = (held.fence.clone(), held.ttl);
        let change = |job: &JobRecord, record: &ShardRecord, now| shard::commit(job, record, &fence, &commit, ttl, now);
        let step = self.fenced(held.shard(), false, change).await?;
        Ok(held.learn(step, sent))
    }

    /// Splits the shard: it ends at the first cut from now on.
    ///
    /// # Errors
    /// [`Refusal::Stale`] or [`Refusal::Expired`]: drop the shard at once. [`Refusal::BadSplit`]: not there.
    pub async fn split(&self, held: &mut HeldLease, cuts: Cuts<'_>) -> Result<Signal, LedgerError> {
        let sent = self.env.boottime();
        let keys = keys(held.shard());
        let step = self.transact(&keys, |view| {
            let (mut job, record) = read(view, &keys)?;
            let pass = record.shard.pass;
            let open = job.passes.iter().position(|one| one.id == pass).ok_or(Refusal::NoPass(pass))?;
            let first = ShardId(job.passes[open].shards);
            let (kept, new) = shard::split(&job, &record, &held.fence, cuts, first, view.now)?;
            job.passes[open].shards = first.0.saturating_add(u32::try_from(new.len()).unwrap_or(u32::MAX));
            let mut change = Change::none(()).not_after(until(&record).unwrap_or(view.now));
            change = change.write(&keys[0], &job)?.write(&keys[1], &kept)?;
            for shard in &new {
                change = change.write(&shard_key(&shard.shard), shard)?;
            }
            change.with(Step { job, shard: kept })
        });
        let step = step.await?;
        Ok(held.learn(step, sent))
    }

    /// Ends a shard whose cursor is at its end.
    ///
    /// # Errors
    /// When the lease is gone or the cursor is elsewhere: the shard is leased again then, and nothing is lost.
    pub async fn finish(&self, held: HeldLease) -> Result<(), LedgerError> {
        let change = |job: &JobRecord, record: &ShardRecord, now| shard::finish(job, record, &held.fence, now);
        self.fenced(held.shard(), true, change).await.map(drop)
    }

    /// The last commit of a `prepare` pass: ends the shard and freezes in the job what was found, at once.
    ///
    /// # Errors
    /// When the lease is gone, or the job was frozen otherwise.
    pub async fn freeze(&self, held: HeldLease, prepared: &Prepared) -> Result<JobRecord, LedgerError> {
        let keys = keys(held.shard());
        self.transact(&keys, |view| {
            let (job, mut record) = read(view, &keys)?;
            let change = Change::none(()).not_after(until(&record).unwrap_or(view.now));
            record.cursor = record.range.end_position();
            let done = shard::finish(&job, &record, &held.fence, view.now)?;
            let next = transition::job::prepared(&job, prepared, view.now)?;
            change.write(&keys[0], &next)?.write(&keys[1], &done)?.with(next)
        })
        .await
    }

    /// Ends the lease so that the shard waits again; charges nothing. That another took it over meanwhile is no error.
    ///
    /// # Errors
    /// When the back-end does not answer: the lease then runs out by itself.
    pub async fn give_back(&self, held: HeldLease) -> Result<(), LedgerError> {
        self.end_lease(&held, End::GivenBack).await.map(drop)
    }

    /// Ends the lease because the source itself could not be listed, for that reason: charges the shard, the third time it is
    /// abandoned. Says what became of it.
    ///
    /// # Errors
    /// When the back-end does not answer.
    pub async fn abandon(&self, held: HeldLease, why: &str) -> Result<ShardState, LedgerError> {
        self.end_lease(&held, End::Unlisted(why)).await
    }

    async fn end_lease(&self, held: &HeldLease, end: End<'_>) -> Result<ShardState, LedgerError> {
        let change = |job: &JobRecord, record: &ShardRecord, _| match shard::give_back(job, record, &held.fence, end) {
            Err(Refusal::Stale | Refusal::NoPass(_) | Refusal::JobOver(_)) => Ok(record.clone()),
            other => other,
        };
        self.step(&keys(held.shard()), change).await.map(|step| step.shard.state)
    }

    /// Changes a shard under the job's eyes.
    async fn step(
        &self,
        keys: &[RecordKey; 2],
        change: impl Fn(&JobRecord, &ShardRecord, Timestamp) -> Result<ShardRecord, Refusal> + Send + Sync,
    ) -> Result<Step, LedgerError> {
        self.step_until(keys, change, |_| None, true).await
    }

    /// Like [`Self::step`], but nothing happens after the end of the lease that stands.
    async fn fenced(
        &self,
        shard: &ShardRef,
        rings: bool,
        change: impl Fn(&JobRecord, &ShardRecord, Timestamp) -> Result<ShardRecord, Refusal> + Send + Sync,
    ) -> Result<Step, LedgerError> {
        self.step_until(&keys(shard), change, until, rings).await
    }

    async fn step_until(
        &self,
        keys: &[RecordKey; 2],
        change: impl Fn(&JobRecord, &ShardRecord, Timestamp) -> Result<ShardRecord, Refusal> + Send + Sync,
        not_after: impl Fn(&ShardRecord) -> Option<Timestamp> + Send + Sync,
        rings: bool,
    ) -> Result<Step, LedgerError> {
        self.transact(keys, |view| {
            let (job, record) = read(view, keys)?;
            let next = change(&job, &record, view.now)?;
            let mut plan = Change::none(());
            plan.not_after = not_after(&record);
            plan.rings = rings;
            if next != record {
                plan = plan.write(&keys[1], &next)?;
            }
            plan.with(Step { job, shard: next })
        })
        .await
    }
}

impl HeldLease {
    fn learn(&mut self, step: Step, sent: Duration) -> Signal {
        let must_stop = !may_lease(&step.job.state, self.kind);
        if let Some(until) = until(&step.shard) {
            // A lease that was not made longer keeps its old end.
            if until > self.until {
                self.deadline = sent + self.ttl;
            }
            self.until = until;
        }
        let signal = Signal {
            job_state: step.job.state,
            must_stop,
            end: step.shard.range.end.clone(),
            asked: step.shard.asked,
            limits: step.job.limits,
        };
        self.record = step.shard;
        signal
    }
}

impl<T> Change<T> {
    pub(super) fn with<V>(self, value: V) -> Result<Change<V>, LedgerError> {
        let Self { not_after, writes, rereads, rings, .. } = self;
        Ok(Change { value, not_after, writes, rereads, rings })
    }
}

fn read(view: &View, keys: &[RecordKey; 2]) -> Result<(JobRecord, ShardRecord), LedgerError> {
    let job: JobRecord = view.get(&keys[0])?;
    // What was leased or counted may have gone back: nothing moves before the job has a nonce of this run.
    if job.run != view.run {
        return Err(Refusal::OtherRun.into());
    }
    Ok((job, view.get(&keys[1])?))
}

fn keys(shard: &ShardRef) -> [RecordKey; 2] {
    [job_key(&shard.job), shard_key(shard)]
}

fn until(record: &ShardRecord) -> Option<Timestamp> {
    match record.state {
        ShardState::Leased { until, .. } => Some(until),
        _ => None,
    }
}
