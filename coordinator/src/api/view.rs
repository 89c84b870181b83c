//! Jobs as the API shows them.

use jiff::Timestamp;
use keyrotate_checkpoint::record::{JobRecord, PassRecord};
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::api::{Growth, JobBrief, JobStatus, Limits, PassLine, WorkerLine};
use keyrotate_proto::say::{bytes, grouped};
use keyrotate_proto::state::{JobState, PassKind, Phase};

use crate::{Totals, findings, totals};

/// A job in a list.
pub(crate) fn brief(job: &JobRecord) -> JobBrief {
    JobBrief {
        id: job.id.clone(),
        kind: if job.dry_run { "census".into() } else { "keyrotate".into() },
        user: job.user.clone(),
        started: job.started,
        state: job.state.word().into(),
        store: job.store_name.clone(),
        bucket: job.spec.bucket.clone(),
        prefix: job.spec.prefix.clone(),
        group: job.group.clone(),
    }
}

/// How a job stands, by what was committed.
///
/// # Errors
/// When the checkpoint can't be read.
pub async fn status(ledger: &Ledger, job: &JobRecord) -> Result<JobStatus, LedgerError> {
    // An ended job's sums stand in its record; its shards may be gone.
    let sums = match &job.result {
        Some(result) => Totals { counts: result.counts.clone(), ..Totals::default() },
        None if job.state.is_ended() => Totals::default(),
        None => totals(ledger, job).await?,
    };
    let now = if job.state.is_ended() { job.updated } else { ledger.now().await? };
    Ok(of(job, &sums, now))
}

/// How a job with these sums stands at that time.
#[must_use]
pub fn of(job: &JobRecord, sums: &Totals, now: Timestamp) -> JobStatus {
    let (phase, reason, detail) = match &job.state {
        JobState::Paused { phase, reason, detail, .. } => {
            (Some(JobState::Live { phase: *phase }.word().to_owned()), Some(reason.as_str()), Some(detail.clone()))
        }
        JobState::Failing { reason, detail } | JobState::Failed { reason, detail } => {
            (None, Some(reason.as_str()), Some(detail.clone()))
        }
        _ => (None, None, None),
    };
    let share = share(job, sums);
    JobStatus {
        job: brief(job),
        phase,
        reason: reason.map(str::to_owned),
        detail,
        ended: job.result.as_ref().map(|result| result.ended),
        scanned: sums.counts.scanned(),
        outcomes: sums.counts.by_outcome.iter().map(|(outcome, n)| (outcome.name(), *n)).collect(),
        exceptions: sums.counts.exceptions(),
        superseded: sums.counts.superseded,
        notes: sums.counts.notes.iter().map(|(note, n)| (note.as_str().to_owned(), *n)).collect(),
        rotated_bytes: sums.counts.rotated_bytes,
        share,
        eta_seconds: share.and_then(|share| eta(job, share, now)),
        objects_per_second: None,
        bytes_per_second: None,
        workers: sums.holders.iter().map(|(name, n)| WorkerLine { name: name.clone(), slices: *n }).collect(),
        limits: limits(job, now),
        growth: job.growth.as_ref().map(|of| Growth {
            versions: of.versions,
            bytes: of.bytes,
            bound: of.bound,
            granted: of.granted,
        }),
        findings: found(job),
        report: job.result.as_ref().is_some_and(|result| result.report.is_some()),
        exit_code: exit_code(&job.state, sums.counts.exceptions()),
    }
}

/// What `prepare` found.
fn found(job: &JobRecord) -> Vec<String> {
    let frozen = job.frozen.as_ref().map(findings).unwrap_or_default();
    frozen.into_iter().chain(job.growth.as_ref().map(growth_line)).collect()
}

/// What a job adds, for people.
fn growth_line(growth: &keyrotate_checkpoint::record::Growth) -> String {
    let (versions, bound) = (grouped(growth.versions), bytes(growth.bound));
    format!(
        "growth: about {versions} versions with {} are added, {bound} at most; the old ones stay under their keys",
        bytes(growth.bytes)
    )
}

fn limits(job: &JobRecord, now: Timestamp) -> Limits {
    let (of, rates) = (&job.limits, job.rates_at(now));
    Limits {
        rate: rates.objects,
        byte_rate: rates.bytes,
        kms_rate: rates.kms,
        permits: of.permits,
        priority: of.priority,
        weight: of.weight,
    }
}

/// Shards that are over, of those of the pass that lists the scope; nothing where none does.
fn share(job: &JobRecord, sums: &Totals) -> Option<f64> {
    let lists = |pass: &PassRecord| pass.open && pass.kind.has_rows();
    if sums.shards == 0 || !job.passes.iter().any(lists) {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "for the eye only")]
    Some(sums.over as f64 / sums.shards as f64)
}

/// How long the rest takes, if it takes as long as what is through.
fn eta(job: &JobRecord, share: f64, now: Timestamp) -> Option<u64> {
    let working = matches!(job.state, JobState::Live { phase: Phase::Running | Phase::Verifying });
    let pass = job.passes.iter().rfind(|pass| pass.open && pass.kind != PassKind::Prepare)?;
    let elapsed = now.duration_since(pass.started).as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds, for the eye only")]
    (working && share > 0.02).then(|| (elapsed * (1.0 - share) / share).max(0.0) as u64)
}

/// What whoever waits for the job ends with: the exit codes of the command line.
fn exit_code(state: &JobState, exceptions: u64) -> Option<u8> {
    use keyrotate_proto::state::StopReason;
    match state {
        JobState::Completed if exceptions == 0 => Some(0),
        JobState::Completed => Some(3),
        JobState::Failed { reason: StopReason::Refused, .. } | JobState::Paused { .. } => Some(5),
        JobState::Failed { .. } => Some(4),
        JobState::Cancelled => Some(6),
        JobState::Live { .. } | JobState::Cancelling | JobState::Failing { .. } => None,
    }
}

/// A job's passes.
pub(crate) fn passes(job: &JobRecord) -> Vec<PassLine> {
    let line = |pass: &PassRecord| PassLine {
        number: pass.id.0,
        kind: pass.kind.to_string(),
        started: pass.started,
        ended: pass.ended,
        shards: pass.shards,
        scanned: pass.counts.scanned(),
    };
    job.passes.iter().map(line).collect()
}
