//! Jobs as the report store knows them: what they were begun with and how they ended, for the time when the checkpoint
//! has forgotten them, or has lost them.

use jiff::{SignedDuration, Timestamp};
use keyrotate_checkpoint::record::{JobRecord, RECORD_VERSION};
use keyrotate_proto::id::JobId;
use keyrotate_proto::state::{JobState, StopReason};
use keyrotate_report::{ReportError, ReportRoot};

/// How long an ended job is listed.
pub(crate) const LISTED: SignedDuration = SignedDuration::from_hours(90 * 24);
/// No job is at work for longer: those that were made before this and [`LISTED`] are not looked at for a list.
const LONGEST_WORK: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Files of the same name as the job's id, among those that belong to no job: which jobs there are.
const INDEX: &str = "index/";
/// The job's record when it began.
const SPEC: &str = "spec.json";
/// The job's record when it had ended.
const JOB: &str = "job.json";

/// Writes down that a job begins.
pub(crate) async fn begins(reports: &dyn ReportRoot, job: &JobRecord) -> Result<(), ReportError> {
    put(reports, SPEC, job).await?;
    reports.own()?.put(&format!("{INDEX}{}", job.id), job.id.as_str().into()).await
}

/// Writes down how a job ended.
pub(crate) async fn ended(reports: &dyn ReportRoot, job: &JobRecord) -> Result<(), ReportError> {
    put(reports, JOB, job).await
}

async fn put(reports: &dyn ReportRoot, name: &str, job: &JobRecord) -> Result<(), ReportError> {
    // Not even sealed: others read reports than read checkpoints.
    let job = JobRecord { sealed_token: None, ..job.clone() };
    let bytes = serde_json::to_vec_pretty(&job).map_err(|e| ReportError::damaged(name, e))?;
    reports.of(&job.id)?.put(name, bytes).await
}

/// A job that the checkpoint does not know; `None` where the report store knows of none either. One that had not ended
/// is shown as failed: nobody works on it any more.
pub(crate) async fn find(reports: &dyn ReportRoot, id: &JobId) -> Result<Option<JobRecord>, ReportError> {
    match reports.own()?.get(&format!("{INDEX}{id}")).await {
        // Only now: a job's place is made where it is asked for.
        Ok(_) => read(reports, id).await.map(Some),
        Err(ReportError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read(reports: &dyn ReportRoot, id: &JobId) -> Result<JobRecord, ReportError> {
    let files = reports.of(id)?;
    match files.get(JOB).await {
        Ok(bytes) => return decode(JOB, &bytes),
        Err(ReportError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let job = decode(SPEC, &files.get(SPEC).await?)?;
    let detail = "the checkpoint lost it; resumed, it begins anew, and what is done is found so".to_owned();
    Ok(JobRecord { state: JobState::Failed { reason: StopReason::Lost, detail }, ..job })
}

fn decode(name: &str, bytes: &[u8]) -> Result<JobRecord, ReportError> {
    match serde_json::from_slice::<JobRecord>(bytes) {
        Ok(job) if job.version > RECORD_VERSION => {
            Err(ReportError::damaged(name, format!("it is of version {}, newer than this keyrotate", job.version)))
        }
        Ok(job) => Ok(job),
        Err(error) => Err(ReportError::damaged(name, error)),
    }
}

/// Jobs to be listed that are none of `known`, which the checkpoint knows.
pub(crate) async fn others(
    reports: &dyn ReportRoot,
    known: &[JobRecord],
    now: Timestamp,
) -> Result<Vec<JobRecord>, ReportError> {
    let before = |age: SignedDuration| now.checked_sub(age).unwrap_or(Timestamp::MIN);
    let oldest = u64::try_from(before(LISTED + LONGEST_WORK).as_millisecond()).unwrap_or(0);
    let mut others = Vec::new();
    for name in reports.own()?.list(INDEX).await? {
        let id = name.strip_prefix(INDEX).and_then(|id| id.parse::<JobId>().ok());
        let Some(id) = id.filter(|id| id.unix_ms() >= oldest && known.iter().all(|job| job.id != *id)) else {
            continue;
        };
        let job = read(reports, &id).await?;
        if job.result.as_ref().is_none_or(|result| result.ended >= before(LISTED)) {
            others.push(job);
        }
    }
    Ok(others)
}
