//! What may happen to a job.

use jiff::Timestamp;
use keyrotate_env::Safeguard;
use keyrotate_proto::capability::Frozen;
use keyrotate_proto::id::{Nonce, PassId};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::state::{JobState, PassKind, PauseReason, Phase, StopReason};

use super::{Refusal, may_lease};
use crate::record::{Growth, JobLimits, JobRecord, JobResult, PassRecord};

type Next = Result<JobRecord, Refusal>;

/// What a `prepare` pass hands over with its last commit.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What was proven, and the target.
    pub frozen: Frozen,
    /// Whether a person must confirm before anything is written.
    pub must_confirm: bool,
    /// What the job adds to a bucket with versions, where that is bounded.
    pub growth: Option<Growth>,
}

/// `queued -> preparing`.
///
/// # Errors
/// In any other state but `preparing`.
pub fn begin(job: &JobRecord, now: Timestamp) -> Next {
    match job.state {
        JobState::Live { phase: Phase::Preparing } => Ok(job.clone()),
        JobState::Live { phase: Phase::Queued } => Ok(in_phase(job, Phase::Preparing, now)),
        _ => refuse(job, "begin"),
    }
}

/// The first `prepare` pass is through: the target is frozen, never to change.
///
/// # Errors
/// When the job is not preparing, or was frozen otherwise.
pub fn prepared(job: &JobRecord, prepared: &Prepared, now: Timestamp) -> Next {
    let Prepared { frozen, must_confirm, growth } = prepared;
    let again = job.frozen.as_ref() == Some(frozen);
    let phase = if *must_confirm { Phase::AwaitingConfirmation } else { Phase::Running };
    match &job.state {
        JobState::Live { phase: Phase::Preparing } if again || job.frozen.is_none() => {
            let mut next = in_phase(job, phase, now);
            next.frozen = Some(frozen.clone());
            next.growth.clone_from(growth);
            Ok(next)
        }
        JobState::Live { phase: Phase::AwaitingConfirmation | Phase::Running } if again => Ok(job.clone()),
        _ => refuse(job, "freeze"),
    }
}

/// `by` confirmed what `prepare` found.
///
/// # Errors
/// When nothing waits for that, or it takes somebody else to.
pub fn confirm(job: &JobRecord, by: &str, now: Timestamp) -> Next {
    approved(job, by)?;
    match job.state {
        JobState::Live { phase: Phase::AwaitingConfirmation } => Ok(in_phase(job, Phase::Running, now)),
        JobState::Live { phase: Phase::Running } => Ok(job.clone()),
        _ => refuse(job, "confirm"),
    }
}

/// Walk and retry passes are through: the scope is listed again.
///
/// # Errors
/// When the job is not running, or a walk or retry pass is open.
pub fn verify(job: &JobRecord, now: Timestamp) -> Next {
    match job.state {
        JobState::Live { phase: Phase::Verifying } => Ok(job.clone()),
        JobState::Live { phase: Phase::Running } => {
            let work = |p: &&PassRecord| p.open && matches!(p.kind, PassKind::Walk | PassKind::Retry);
            match job.passes.iter().find(work) {
                Some(pass) => Err(Refusal::OpenShards(pass.id)),
                None => Ok(in_phase(job, Phase::Verifying, now)),
            }
        }
        _ => refuse(job, "verify"),
    }
}

/// Something outside must be mended first, or an operator says so. An operator's pause stands over any other.
///
/// # Errors
/// When the job is not live.
pub fn pause(job: &JobRecord, reason: PauseReason, detail: &str, now: Timestamp) -> Next {
    let phase = match &job.state {
        JobState::Live { phase } => *phase,
        JobState::Paused { reason: PauseReason::Operator, .. } => return Ok(job.clone()),
        // The time of the first reason counts on.
        JobState::Paused { .. } if reason != PauseReason::Operator => return Ok(job.clone()),
        JobState::Paused { phase, .. } => *phase,
        _ => return refuse(job, "pause"),
    };
    let mut next = with_pause_counted(job, now);
    next.state = JobState::Paused { phase, reason, detail: detail.to_owned(), since: now };
    Ok(next)
}

/// So many versions have failed by now: more than its threshold, counted from where it was resumed, pause it.
///
/// # Errors
/// When it can't be paused.
pub fn failures(job: &JobRecord, failed: u64, scanned: u64, now: Timestamp) -> Next {
    let fresh = failed.saturating_sub(job.failures_known);
    let running = matches!(job.state, JobState::Live { phase: Phase::Running });
    if !running || !job.spec.options.failure_threshold.is_passed(fresh, scanned) {
        return Ok(job.clone());
    }
    let detail = format!("{failed} of {scanned} versions failed so far");
    let paused = pause(job, PauseReason::FailureThreshold, &detail, now)?;
    Ok(JobRecord { failures_known: failed, ..paused })
}

/// It goes on where it was. A probe does not end an operator's pause.
///
/// # Errors
/// When it is not live.
pub fn resume(job: &JobRecord, by_operator: bool, now: Timestamp) -> Next {
    match &job.state {
        JobState::Live { .. } => Ok(job.clone()),
        JobState::Paused { reason, .. } if reason.is_a_persons() && !by_operator => refuse(job, "resume by a probe"),
        JobState::Paused { phase, .. } => Ok(in_phase(&with_pause_counted(job, now), *phase, now)),
        _ => refuse(job, "resume"),
    }
}

/// How much of the fleet it may take from now on.
///
/// # Errors
/// When it has ended.
pub fn limit(job: &JobRecord, limits: &JobLimits, now: Timestamp) -> Next {
    if job.state.is_ended() {
        return Err(Refusal::JobOver(job.state.word()));
    }
    let mut next = touched(job, now);
    next.limits = limits.clone();
    Ok(next)
}

/// A slice may add versions with so many bytes more.
///
/// # Errors
/// When that is more than was confirmed, or the job has ended.
pub fn grow(job: &JobRecord, bytes: u64, now: Timestamp) -> Next {
    if job.state.is_ended() {
        return Err(Refusal::JobOver(job.state.word()));
    }
    let Some(growth) = &job.growth else { return Ok(job.clone()) };
    let granted = growth.granted.saturating_add(bytes);
    if granted > growth.bound {
        return Err(Refusal::Bound { left: growth.bound.saturating_sub(growth.granted) });
    }
    let growth = Some(Growth { granted, ..growth.clone() });
    Ok(JobRecord { growth, ..touched(job, now) })
}

/// A slice has not used so many of the bytes that it might have added.
#[must_use]
pub fn grew_less(job: &JobRecord, bytes: u64, now: Timestamp) -> JobRecord {
    let back = |growth: &Growth| Growth { granted: growth.granted.saturating_sub(bytes), ..growth.clone() };
    JobRecord { growth: job.growth.as_ref().map(back), ..touched(job, now) }
}

/// Two persons: who began the job gives no word that the job file wants from somebody else.
fn approved(job: &JobRecord, by: &str) -> Result<(), Refusal> {
    let own = job.spec.options.approval && job.user == by;
    if own { Err(Refusal::OwnApproval(by.to_owned())) } else { Ok(()) }
}

/// `by` changes how many bytes the versions that it adds may have. A job that waited for that goes on.
///
/// # Errors
/// When it has ended, or nothing bounds what it adds, or it takes somebody else to allow more.
pub fn bound(job: &JobRecord, bytes: u64, by: &str, now: Timestamp) -> Next {
    match &job.growth {
        _ if job.state.is_ended() => Err(Refusal::JobOver(job.state.word())),
        Some(growth) if bytes > growth.bound => approved(job, by).and_then(|()| bounded(job, growth, bytes, now)),
        Some(growth) => bounded(job, growth, bytes, now),
        None => refuse(job, "bound what it adds: it adds no versions"),
    }
}

fn bounded(job: &JobRecord, growth: &Growth, bytes: u64, now: Timestamp) -> Next {
    let more = bytes > growth.bound;
    let growth = Some(Growth { bound: bytes, ..growth.clone() });
    let bounded = JobRecord { growth, ..touched(job, now) };
    match &job.state {
        JobState::Paused { reason: PauseReason::Growth, .. } if more => resume(&bounded, true, now),
        _ => Ok(bounded),
    }
}

/// How long it was paused in all for reasons that a probe can end.
#[must_use]
pub fn paused_for(job: &JobRecord, now: Timestamp) -> std::time::Duration {
    std::time::Duration::from_millis(with_pause_counted(job, now).paused_ms)
}

/// A new pass, with so many shards.
///
/// # Errors
/// When the job's state has no use for it.
pub fn open_pass(job: &JobRecord, kind: PassKind, shards: u32, not_before: Option<Timestamp>, now: Timestamp) -> Next {
    if !may_lease(&job.state, kind) {
        return refuse(job, "open a pass");
    }
    let mut next = touched(job, now);
    next.attempts_used += u32::from(kind == PassKind::Retry);
    next.opening = None;
    next.passes.push(PassRecord {
        id: next_pass(job),
        kind,
        shards,
        open: true,
        not_before,
        started: now,
        ended: None,
        next: None,
        counts: Counts::default(),
        replaced: Counts::default(),
        listed: 0,
        abandoned: 0,
    });
    Ok(next)
}

/// The number that the next pass gets.
#[must_use]
pub fn next_pass(job: &JobRecord) -> PassId {
    PassId(job.passes.last().map_or(0, |pass| pass.id.0 + 1))
}

/// A pass whose shards are all over.
///
/// # Errors
/// When there is no such pass, or the job has ended.
pub fn close_pass(
    job: &JobRecord,
    pass: PassId,
    counts: &Counts,
    replaced: &Counts,
    listed: u64,
    abandoned: u32,
    now: Timestamp,
) -> Next {
    if job.state.is_ended() {
        return Err(Refusal::JobOver(job.state.word()));
    }
    let mut next = touched(job, now);
    let record = next.passes.iter_mut().find(|p| p.id == pass).ok_or(Refusal::NoPass(pass))?;
    if !record.open {
        return Ok(job.clone());
    }
    record.open = false;
    record.ended = Some(now);
    record.next = Some(next_pass(job));
    record.counts = counts.clone();
    record.replaced = replaced.clone();
    record.listed = listed;
    record.abandoned = abandoned;
    Ok(next)
}

/// Somebody cancels it, in whatever state it is.
///
/// # Errors
/// When it has ended.
pub fn cancel(job: &JobRecord, now: Timestamp) -> Next {
    match &job.state {
        JobState::Cancelling | JobState::Cancelled => Ok(job.clone()),
        state if state.is_ended() => Err(Refusal::JobOver(state.word())),
        _ => {
            let mut next = with_pause_counted(job, now);
            next.state = JobState::Cancelling;
            Ok(next)
        }
    }
}

/// It can't go on.
///
/// # Errors
/// When it has ended or is being cancelled.
pub fn fail(job: &JobRecord, reason: StopReason, detail: &str, now: Timestamp) -> Next {
    match &job.state {
        // The first reason is the one that people need.
        JobState::Failing { .. } => Ok(job.clone()),
        JobState::Live { .. } | JobState::Paused { .. } => {
            let mut next = with_pause_counted(job, now);
            next.state = JobState::Failing { reason, detail: detail.to_owned() };
            Ok(next)
        }
        state if state.is_ended() => Err(Refusal::JobOver(state.word())),
        _ => refuse(job, "fail"),
    }
}

/// Its last step: `cancelling -> cancelled`, `failing -> failed`, `verifying -> completed`; of a dry run, whose `prepare`
/// pass has taken the census, `preparing -> completed`.
///
/// # Errors
/// When it is not that far, or, to be completed, a pass is open.
pub fn end(job: &JobRecord, result: &JobResult, now: Timestamp) -> Next {
    let state = match &job.state {
        JobState::Cancelling => JobState::Cancelled,
        JobState::Failing { reason, detail } => JobState::Failed { reason: *reason, detail: detail.clone() },
        JobState::Live { phase: Phase::Verifying } => match job.passes.iter().find(|p| p.open) {
            Some(pass) => return Err(Refusal::OpenShards(pass.id)),
            None => JobState::Completed,
        },
        JobState::Live { phase: Phase::Preparing } if is_foretold(job) => JobState::Completed,
        state if state.is_ended() && job.result.as_ref() == Some(result) => return Ok(job.clone()),
        state if state.is_ended() => return Err(Refusal::JobOver(state.word())),
        _ => return refuse(job, "end"),
    };
    let mut next = touched(job, now);
    next.state = state;
    next.result = Some(result.clone());
    Ok(next)
}

/// Whether it is a dry run that has said what it would do.
#[must_use]
pub fn is_foretold(job: &JobRecord) -> bool {
    job.dry_run && job.last_pass(PassKind::Prepare).is_some_and(|pass| !pass.open)
}

/// An operator resumes a failed job: it goes on like an interrupted one, under a new nonce that fences off whatever
/// was leased before. What was frozen stays.
///
/// # Errors
/// When it has not failed.
pub fn resume_failed(job: &JobRecord, nonce: Nonce, now: Timestamp) -> Next {
    let JobState::Failed { .. } = job.state else { return refuse(job, "resume") };
    let open = |kind| job.passes.iter().find(|p| p.open && p.kind == kind);
    let phase = match (&job.frozen, open(PassKind::Verify)) {
        (None, _) => Phase::Preparing,
        (Some(_), Some(_)) => Phase::Verifying,
        (Some(_), None) => Phase::Running,
    };
    let mut next = in_phase(job, phase, now);
    next.nonce = nonce;
    next.result = None;
    next.notified = None;
    next.attempts_used = 0;
    next.paused_ms = 0;
    next.resumed_from = open(PassKind::Verify).map_or(next_pass(job), |verify| verify.id);
    // The next end opens one of its own.
    next.passes.iter_mut().filter(|p| p.kind == PassKind::Clean && p.open).for_each(|p| p.open = false);
    Ok(next)
}

/// After another run of the back-end began: a new nonce, which fences off whatever was leased before.
#[must_use]
pub fn adopt(job: &JobRecord, run: &str, nonce: &Nonce, now: Timestamp) -> JobRecord {
    if job.run == run {
        return job.clone();
    }
    let nonce = if Safeguard::Nonce.stands() { nonce } else { &job.nonce };
    JobRecord { run: run.to_owned(), nonce: nonce.clone(), ..touched(job, now) }
}

fn with_pause_counted(job: &JobRecord, now: Timestamp) -> JobRecord {
    let mut next = touched(job, now);
    if let JobState::Paused { reason, since, .. } = &job.state
        && !reason.is_a_persons()
        && *reason != PauseReason::NoWorker
    {
        let millis = now.as_millisecond() - since.as_millisecond();
        next.paused_ms += u64::try_from(millis).unwrap_or(0);
    }
    next
}

fn in_phase(job: &JobRecord, phase: Phase, now: Timestamp) -> JobRecord {
    let mut next = touched(job, now);
    next.state = JobState::Live { phase };
    next
}

fn touched(job: &JobRecord, now: Timestamp) -> JobRecord {
    let mut next = job.clone();
    next.updated = now;
    next
}

fn refuse(job: &JobRecord, what: &'static str) -> Next {
    Err(Refusal::WrongState { state: job.state.word(), what })
}

#[cfg(test)]
pub(crate) mod tests;
