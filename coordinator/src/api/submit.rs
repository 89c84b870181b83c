//! A job file comes in: checked, sealed, begun once.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use keyrotate_checkpoint::Submit;
use keyrotate_checkpoint::record::{JobLimits, JobRecord};
use keyrotate_proto::api::{FileProblem, Submitted};
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::job::{ParseOptions, Parsed, Scope, parse_with};
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::spec::{JobSpec, Location, Manifest};
use keyrotate_telemetry::spans;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::door::Caller;
use super::jobs::{Deed, bad, check_rank, query, whole};
use super::problem::{Kind, Problem};
use super::{Answer, Api, NamedStore};
use crate::sealed::Sealer;

/// How long an idempotency key is remembered.
const REMEMBER: Duration = Duration::from_secs(24 * 3600);
/// Longest idempotency key.
const LONGEST_KEY: usize = 200;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SubmitQuery {
    store: Option<String>,
    confirm: bool,
    dry_run: bool,
    full: bool,
    failed_of: Option<String>,
    bucket: Option<String>,
    prefix: Option<String>,
    group: Option<String>,
    priority: Option<i32>,
    weight: Option<u32>,
}

impl SubmitQuery {
    /// Which job of a file with `buckets` is meant.
    fn scope(&self) -> Answer<Option<Scope>> {
        match (&self.bucket, &self.prefix) {
            (Some(bucket), prefix) => {
                Ok(Some(Scope { bucket: bucket.clone(), prefix: prefix.clone().unwrap_or_default() }))
            }
            (None, Some(_)) => Err(bad("`prefix` without `bucket`: both say which of the file's `buckets` is meant")),
            (None, None) => Ok(None),
        }
    }
}

/// `POST /v1/jobs`
pub(crate) async fn submit(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let asked: SubmitQuery = query(&uri)?;
    check_rank(asked.priority, asked.weight)?;
    if asked.full && !asked.dry_run {
        return Err(bad("`full=true` without `dryRun=true`: only a dry run looks at a sample"));
    }
    check_type(&headers)?;
    let body = whole(body)?;
    let scope = asked.scope()?;
    let again = submit_key(&headers, &caller, scope.as_ref(), &uri, &body)?;
    let options = ParseOptions { allow_private_notify: api.site.allow_private_notify, scope: scope.as_ref() };
    let mut parsed = parse_with(&body, "job file", options).map_err(|errors| Problem::job_file(&errors.0))?;
    if scope.is_none() && !parsed.buckets.is_empty() {
        return Err(bad(
            "the file has `buckets`, each of which is a job of its own: name one as `bucket` and `prefix`",
        ));
    }
    if let Some(former) = &asked.failed_of {
        if parsed.spec.manifest.is_some() {
            return Err(bad("the job file has a `manifest`, and so has `failedOf`: leave one of them out"));
        }
        parsed.spec.manifest = Some(Manifest::FailedOf { job: api.job(&caller, former).await?.id });
    }
    if !caller.reaches(&parsed.spec.bucket, &parsed.spec.prefix) {
        let what = format!(
            "bucket `{}`, prefix `{}` is outside of the token's scopes",
            parsed.spec.bucket, parsed.spec.prefix
        );
        return Err(Problem::new(Kind::Forbidden, what, "narrow the job file, or use a token that reaches it"));
    }
    may_be_read(parsed.spec.manifest.as_ref(), &caller)?;
    if let Some(again) = &again
        && let Some(id) = api.site.ledger.submitted(again).await?
    {
        return Ok(answer(StatusCode::OK, id, &parsed));
    }
    let problems = parsed.at_start(api.site.env.now());
    if !problems.is_empty() {
        return Err(Problem::job_file(&problems));
    }
    let group = match &asked.group {
        Some(first) => Some(api.job(&caller, first).await?.id),
        None => None,
    };
    if parsed.spec.options.approval && !caller.is_known() {
        let what = "the job file says `approval: required`, and without tokens nobody knows who is who";
        return Err(Problem::new(Kind::Refused, what, "`keyrotate token new` makes a token for each person"));
    }
    let job = JobRecord { group, ..api.record(&asked, &caller, &parsed).await? };
    let (id, begins) = (job.id.clone(), job.clone());
    spans::Span::current().record("job", tracing::field::display(&id));
    let begun = match again {
        Some(again) => api.site.ledger.begin_job_once(job, &again).await?,
        None => api.site.ledger.begin_job(job).await.map(|()| id.clone())?,
    };
    if begun == id {
        // It is at work already.
        let detail = format!("spec {}{}", begins.spec_hash, if asked.confirm { ", confirmed" } else { "" });
        api.note(&caller, &begins, &Deed::done("submit", &detail)).await?;
    }
    let status = if begun == id { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, begun, &parsed))
}

/// A worker reads a manifest with rights of its own: its place must be one that the caller reaches, too, and no file, which
/// other workers have not. The data files that an inventory names may lie anywhere in its bucket.
fn may_be_read(manifest: Option<&Manifest>, caller: &Caller) -> Answer<()> {
    let Some((manifest, location)) = manifest.and_then(|manifest| Some((manifest, manifest.location()?))) else {
        return Ok(());
    };
    let (bucket, prefix) = match (location, manifest) {
        (Location::File(path), _) => {
            let what = format!("the manifest `{}` lies on one machine", path.escape_debug());
            let mend = "put it into a bucket of the job's store and name it as `s3://BUCKET/KEY`";
            return Err(Problem::new(Kind::Refused, what, mend));
        }
        (Location::Object { bucket, .. }, Manifest::Inventory { .. }) => (bucket, ""),
        (Location::Object { bucket, key }, _) => (bucket, key.as_str()),
    };
    if caller.reaches(bucket, prefix) {
        return Ok(());
    }
    let what = format!("the manifest in the bucket `{bucket}`, prefix `{prefix}` is outside of the token's scopes");
    Err(Problem::new(Kind::Forbidden, what, "put it where the token reaches, or use a token that reaches it"))
}

fn answer(status: StatusCode, id: JobId, parsed: &Parsed) -> Response {
    let place = [(header::LOCATION, format!("/v1/jobs/{id}"))];
    let warnings = parsed.warnings.iter().map(FileProblem::from).collect();
    (status, place, Json(Submitted { id, warnings })).into_response()
}

impl Api {
    /// The record of a job that has not begun.
    async fn record(&self, asked: &SubmitQuery, caller: &Caller, parsed: &Parsed) -> Answer<JobRecord> {
        let (site, spec) = (&self.site, &parsed.spec);
        let store = self.store(asked.store.as_deref())?;
        let Some(identity) = &self.identity(store).await? else {
            let what = format!("the account of the store `{}` is not known while no worker serves it", store.name);
            return Err(Problem::new(Kind::NoWorker, what, "start a worker for it, then submit again"));
        };
        self.not_over_reports(identity, &spec.bucket, &spec.prefix)?;
        let live = site.ledger.live_jobs().await?.len();
        if live >= self.open_jobs {
            let what = format!("{live} jobs have not ended, and no more are allowed");
            return Err(Problem::new(Kind::TooMany, what, "wait for one, cancel one, or raise `limits.openJobs`"));
        }
        let sealed_token = match spec.notify.as_ref().and_then(|notify| notify.token.as_deref()) {
            Some(token) if !asked.dry_run => Some(self.sealer()?.seal(token).await?),
            _ => None,
        };
        let now = site.ledger.now().await?;
        let mut random = [0; 10];
        site.env.fill(&mut random);
        let id = JobId::new(u64::try_from(now.as_millisecond()).unwrap_or(0), random);
        let nonce = Nonce(site.env.random_hex(4));
        // Whoever asked for a dry run waits for it.
        let notify = spec.notify.clone().filter(|_| !asked.dry_run);
        let spec = JobSpec { notify, ..spec.clone() };
        let priority = asked.priority.unwrap_or(spec.options.rank.priority);
        let weight = asked.weight.unwrap_or(spec.options.rank.weight);
        let job = JobRecord::new(id, spec, identity.clone(), nonce, caller.name.clone(), now);
        Ok(JobRecord {
            sealed_token,
            store_name: store.name.clone(),
            probes: store.probes.clone(),
            confirmed: asked.confirm,
            dry_run: asked.dry_run,
            full: asked.full,
            traceparent: spans::traceparent(&spans::Span::current()),
            limits: JobLimits { priority, weight, ..JobLimits::default() },
            ..job
        })
    }

    /// How a store names itself: where its address does not say it, its workers do.
    async fn identity(&self, store: &NamedStore) -> Answer<Option<String>> {
        if store.identity.is_some() {
            return Ok(store.identity.clone());
        }
        let workers = self.site.ledger.workers().await?;
        Ok(workers.into_iter().find_map(|mut worker| worker.stores.remove(&store.name)))
    }

    fn sealer(&self) -> Answer<&Sealer> {
        let what = "the coordinator has nothing to seal the notify token with";
        let mend = "set `secrets.kesKey` or `secrets.keyFile` there, or leave the token out";
        self.site.sealer.as_ref().ok_or_else(|| Problem::new(Kind::Refused, what, mend))
    }

    /// The store of that name; without a name the only one.
    fn store(&self, name: Option<&str>) -> Answer<&NamedStore> {
        let known = || self.site.stores.iter().map(|store| format!("`{}`", store.name)).collect::<Vec<_>>().join(", ");
        let found = match name {
            Some(name) => self.site.stores.iter().find(|store| store.name == name),
            None if self.site.stores.len() == 1 => self.site.stores.first(),
            None => None,
        };
        found.ok_or_else(|| {
            let what = match name {
                Some(name) => format!("there is no store `{}`", name.escape_debug()),
                None => "the fleet has several stores, and none was named".to_owned(),
            };
            Problem::new(Kind::Refused, what, format!("known: {}; name one as `store`", known()))
        })
    }

    /// A job must not work on the reports of jobs.
    fn not_over_reports(&self, identity: &str, bucket: &str, prefix: &str) -> Answer<()> {
        let Some(reports) = &self.site.reports_at else { return Ok(()) };
        let overlap = KeyRange::of_prefix(prefix).overlaps(&KeyRange::of_prefix(&reports.prefix));
        if reports.store == identity && reports.bucket == bucket && overlap {
            let what = "the reports of all jobs lie inside the job's scope";
            return Err(Problem::new(Kind::Refused, what, "keep reports in a bucket of their own"));
        }
        Ok(())
    }
}

fn check_type(headers: &HeaderMap) -> Answer<()> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/yaml" | "application/x-yaml" | "text/yaml" | "application/json" => Ok(()),
        _ => {
            let what = format!("a job file is not `{}`", kind.escape_debug());
            Err(Problem::new(Kind::MediaType, what, "send it as `application/yaml` or `application/json`"))
        }
    }
}

/// One word of the caller's begins one job, of a file with `buckets` one for each of them.
fn submit_key(
    headers: &HeaderMap,
    caller: &Caller,
    scope: Option<&Scope>,
    uri: &Uri,
    body: &[u8],
) -> Answer<Option<Submit>> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
    let key = key.ok_or_else(|| bad(format!("`Idempotency-Key` has 1 to {LONGEST_KEY} ASCII characters")))?;
    let hash = |pieces: &[&[u8]]| {
        let mut hash = Sha256::new();
        for piece in pieces {
            hash.update((piece.len() as u64).to_le_bytes());
            hash.update(piece);
        }
        hex::encode(hash.finalize())
    };
    Ok(Some(Submit {
        key: match scope {
            Some(scope) => {
                let (bucket, prefix) = (scope.bucket.as_bytes(), scope.prefix.as_bytes());
                hash(&[caller.name.as_bytes(), key.as_bytes(), bucket, prefix])
            }
            None => hash(&[caller.name.as_bytes(), key.as_bytes()]),
        },
        asked: hash(&[uri.query().unwrap_or_default().as_bytes(), body]),
        remember: REMEMBER,
    }))
}
