//! Jobs: listed, looked at, and told what to do.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use jiff::Timestamp;
use keyrotate_checkpoint::record::{JobLimits, JobRecord, WorkerRecord};
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_checkpoint::{LedgerError, Refusal};
use keyrotate_proto::api::{AuditRecord, JobDescription, JobList, JobStatus, LimitsChange, Worker, WorkerList};
use keyrotate_proto::id::JobId;
use keyrotate_proto::job::describe;
use keyrotate_proto::spec::Rank;
use keyrotate_proto::state::{JobState, PauseReason, StopReason};
use serde::Deserialize;

use super::door::Caller;
use super::problem::{Kind, Problem};
use super::{Answer, Api, view};
use crate::{audit, history};

/// Jobs of a page.
const PAGE: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ListQuery {
    state: Option<String>,
    after: Option<JobId>,
    limit: Option<usize>,
}

/// `GET /v1/jobs`
pub(crate) async fn list(State(api): State<Arc<Api>>, caller: Extension<Caller>, uri: Uri) -> Answer<Json<JobList>> {
    let query: ListQuery = query(&uri)?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, 10 * PAGE);
    let wanted = |job: &JobRecord| {
        let in_state = query.state.as_ref().is_none_or(|state| state == job.state.word());
        in_state && caller.sees(job) && query.after.as_ref().is_none_or(|after| job.id > *after)
    };
    let mut jobs = api.site.ledger.jobs().await?;
    match history::others(api.site.reports.as_ref(), &jobs, api.site.env.now()).await {
        Ok(others) => jobs.extend(others),
        // What is at work is worth more than what was.
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "jobs of the past can't be listed"),
    }
    jobs.retain(wanted);
    jobs.sort_by(|a, b| a.id.cmp(&b.id));
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().filter(|_| more).map(|job| job.id.clone());
    Ok(Json(JobList { jobs: jobs.iter().map(view::brief).collect(), next }))
}

/// `GET /v1/workers`
pub(crate) async fn workers(State(api): State<Arc<Api>>) -> Answer<Json<WorkerList>> {
    let shown = |worker: WorkerRecord| Worker {
        name: worker.owner,
        stores: worker.stores.into_keys().collect(),
        slots: worker.slots,
        objects: worker.done.objects,
        bytes: worker.done.bytes,
        seen: worker.seen,
    };
    Ok(Json(WorkerList { workers: api.site.ledger.workers().await?.into_iter().map(shown).collect() }))
}

/// `GET /v1/jobs/{id}`
pub(crate) async fn status(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Json<JobStatus>> {
    let job = api.job(&caller, &id).await?;
    Ok(Json(view::status(&api.site.ledger, &job).await?))
}

/// `GET /v1/jobs/{id}/describe`
pub(crate) async fn description(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Json<JobDescription>> {
    let job = api.job(&caller, &id).await?;
    let spec = serde_json::to_value(&job.spec);
    let spec = spec.map_err(|e| Problem::new(Kind::Broken, e.to_string(), "look at the coordinator's log"))?;
    let status = view::status(&api.site.ledger, &job).await?;
    Ok(Json(JobDescription { status, spec, rules: describe(&job.spec), passes: view::passes(&job) }))
}

/// `POST /v1/jobs/{id}/cancel`
pub(crate) async fn cancel(
    api: State<Arc<Api>>,
    caller: Extension<Caller>,
    id: Path<String>,
) -> Answer<Json<JobStatus>> {
    change(&api, &caller, &id, Deed::done("cancel", ""), transition::cancel).await
}

/// `POST /v1/jobs/{id}/pause`
pub(crate) async fn pause(
    api: State<Arc<Api>>,
    caller: Extension<Caller>,
    id: Path<String>,
) -> Answer<Json<JobStatus>> {
    let by = format!("by {}", caller.name);
    let pause = |job: &JobRecord, now| transition::pause(job, PauseReason::Operator, &by, now);
    change(&api, &caller, &id, Deed::done("pause", ""), pause).await
}

/// `POST /v1/jobs/{id}/resume`
pub(crate) async fn resume(
    api: State<Arc<Api>>,
    caller: Extension<Caller>,
    id: Path<String>,
) -> Answer<Json<JobStatus>> {
    let job = api.job(&caller, &id).await?;
    if let JobState::Failed { reason, .. } = &job.state {
        api.note(&caller, &job, &Deed::of("resume", "")).await?;
        let resumed = match reason {
            StopReason::Lost if api.has_newer(&job).await? => Err(Refusal::PlaceTaken.into()),
            StopReason::Lost => api.take_up(&job).await,
            _ => api.site.ledger.resume_job(&job.id).await,
        };
        if let Err(LedgerError::Refused(refusal)) = &resumed {
            // Nobody can say before whether another job has begun on its keys since.
            api.note(&caller, &job, &Deed::done("resume-refused", &refusal.to_string())).await?;
        }
        let job = resumed?;
        return Ok(Json(view::status(&api.site.ledger, &job).await?));
    }
    change(&api, &caller, &id, Deed::of("resume", ""), |job, now| transition::resume(job, true, now)).await
}

/// `POST /v1/jobs/{id}/confirm`
pub(crate) async fn confirm(
    api: State<Arc<Api>>,
    caller: Extension<Caller>,
    id: Path<String>,
) -> Answer<Json<JobStatus>> {
    let confirm = |job: &JobRecord, now| transition::confirm(job, &caller.name, now);
    change(&api, &caller, &id, Deed::of("confirm", ""), confirm).await
}

/// `PATCH /v1/jobs/{id}/limits`
pub(crate) async fn limit(
    api: State<Arc<Api>>,
    caller: Extension<Caller>,
    id: Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<JobStatus>> {
    let asked: LimitsChange = serde_json::from_slice(&whole(body)?).map_err(|e| bad(format!("the body: {e}")))?;
    for (name, rate) in [("rate", asked.rate), ("byteRate", asked.byte_rate), ("kmsRate", asked.kms_rate)] {
        if rate.flatten().is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            return Err(bad(format!("`{name}` must be more than 0; `null` takes the limit away")));
        }
    }
    if asked.permits.flatten() == Some(0) {
        return Err(bad("`permits` must be more than 0; `null` takes the limit away"));
    }
    check_rank(asked.priority, asked.weight)?;
    let limits = |job: &JobRecord| JobLimits {
        rate: asked.rate.unwrap_or(job.limits.rate),
        byte_rate: asked.byte_rate.unwrap_or(job.limits.byte_rate),
        kms_rate: asked.kms_rate.unwrap_or(job.limits.kms_rate),
        permits: asked.permits.unwrap_or(job.limits.permits),
        priority: asked.priority.unwrap_or(job.limits.priority),
        weight: asked.weight.unwrap_or(job.limits.weight),
    };
    let change_all = |job: &JobRecord, now| {
        let job = transition::limit(job, &limits(job), now)?;
        let more = |bytes| transition::bound(&job, bytes, &caller.name, now);
        asked.max_added_bytes.map_or_else(|| Ok(job.clone()), more)
    };
    let detail = serde_json::to_string(&asked).unwrap_or_default();
    change(&api, &caller, &id, Deed::of("limit", &detail), change_all).await
}

pub(crate) fn check_rank(priority: Option<i32>, weight: Option<u32>) -> Result<(), Problem> {
    if priority.is_some_and(|priority| !Rank::is_priority(priority)) {
        return Err(bad("`priority` is from -100 to 100"));
    }
    if weight.is_some_and(|weight| !Rank::is_weight(weight)) {
        return Err(bad("`weight` is from 1 to 1000"));
    }
    Ok(())
}

/// What somebody does to a job, for the audit record.
pub(crate) struct Deed {
    what: &'static str,
    detail: String,
    /// It happens even where it can't be written down: what stops a job waits for nothing, and what is done is done.
    in_any_case: bool,
}

impl Deed {
    pub(crate) fn of(what: &'static str, detail: &str) -> Self {
        Self { what, detail: detail.to_owned(), in_any_case: false }
    }

    pub(crate) fn done(what: &'static str, detail: &str) -> Self {
        Self { in_any_case: true, ..Self::of(what, detail) }
    }
}

impl Api {
    /// Whether another job has begun on the keys of a job since, as far as checkpoint and report store know.
    async fn has_newer(&self, job: &JobRecord) -> Answer<bool> {
        let known = self.site.ledger.jobs().await?;
        let others = history::others(self.site.reports.as_ref(), &known, self.site.env.now()).await?;
        let is_newer = |other: &JobRecord| {
            let there = other.store == job.store && other.spec.bucket == job.spec.bucket;
            other.id > job.id && !other.dry_run && there && other.scope().overlaps(&job.scope())
        };
        Ok(known.iter().chain(&others).any(is_newer))
    }

    /// Puts a job back into the checkpoint, where that has lost it, and lets it go on.
    async fn take_up(&self, job: &JobRecord) -> Result<JobRecord, LedgerError> {
        self.site.ledger.reinstate(job).await?;
        self.site.ledger.resume_job(&job.id).await
    }

    /// Writes down that the caller does something to a job: before he does it.
    pub(crate) async fn note(&self, caller: &Caller, job: &JobRecord, deed: &Deed) -> Answer<()> {
        let (reports, what) = (self.site.reports.as_ref(), (deed.what, deed.detail.as_str()));
        match audit::note(reports, job, &caller.name, what, self.site.env.now()).await {
            Err(error) if deed.in_any_case => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(job = %job.id, who = caller.name, what = deed.what, error, "not in the audit record");
                Ok(())
            }
            noted => Ok(noted?),
        }
    }
}

/// `GET /v1/jobs/{id}/audit`
pub(crate) async fn audited(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Json<AuditRecord>> {
    let job = api.job(&caller, &id).await?;
    let (entries, broken) = audit::read(api.site.reports.as_ref(), &job).await?;
    Ok(Json(AuditRecord { job: job.id, spec_hash: job.spec_hash, entries, broken }))
}

async fn change(
    api: &Api,
    caller: &Caller,
    id: &str,
    deed: Deed,
    change: impl Fn(&JobRecord, Timestamp) -> Result<JobRecord, Refusal> + Send + Sync,
) -> Answer<Json<JobStatus>> {
    let job = api.job(caller, id).await?;
    // What is refused was done to nobody.
    change(&job, api.site.ledger.now().await?).map_err(LedgerError::from)?;
    api.note(caller, &job, &deed).await?;
    let job = api.site.ledger.update_job(&job.id, change).await?;
    Ok(Json(view::status(&api.site.ledger, &job).await?))
}

/// The query's fields.
pub(crate) fn query<T: serde::de::DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    serde_urlencoded::from_str(uri.query().unwrap_or_default()).map_err(|e| bad(format!("the query: {e}")))
}

/// The whole body.
pub(crate) fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Kind::TooLarge, "the body is longer than `limits.body` allows", "a job file has a page or two")
        }
        _ => bad("the body did not come whole"),
    })
}

pub(crate) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail, "see `GET /v1/openapi.json`")
}
