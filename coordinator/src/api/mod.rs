//! The coordinator's HTTP API: jobs from whoever has a token, for any number of coordinators beside each other. It stands
//! on the checkpoint and the report store alone.

mod dead;
mod door;
mod events;
mod jobs;
mod operation;
mod problem;
mod reports;
pub mod server;
mod submit;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use keyrotate_checkpoint::record::{JobRecord, ProbePlace};
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_config::Limits;
use keyrotate_config::token::{Role, TokenEntry};
use keyrotate_env::Env;
use keyrotate_proto::api as body;
use keyrotate_proto::forecast::Forecast;
use keyrotate_proto::id::JobId;
use keyrotate_queue::DeadLetters;
use keyrotate_report::ReportRoot;
use serde_json::{Value, json};

use crate::sealed::Sealer;
use crate::{history, reseal};
use door::{Caller, Door};
use operation::{Operation, Table};
use problem::{Kind, Problem};

/// How long whoever asks whether we are ready waits for the checkpoint.
const READY_WITHIN: Duration = Duration::from_secs(2);

type Answer<T> = Result<T, Problem>;

/// What the API stands on.
#[derive(Debug)]
pub struct Site {
    /// The checkpoint.
    pub ledger: Ledger,
    /// The reports.
    pub reports: Arc<dyn ReportRoot>,
    /// Where the reports lie, where that is a bucket: no job may work on it.
    pub reports_at: Option<ReportsAt>,
    /// What no worker could work on, where a broker keeps that.
    pub dead: Option<Arc<dyn DeadLetters>>,
    /// Seals notify tokens; without it job files with one are refused.
    pub sealer: Option<Sealer>,
    /// Whether job files may name private addresses to be told at.
    pub allow_private_notify: bool,
    /// The stores of the fleet.
    pub stores: Vec<NamedStore>,
    /// Clock and randomness.
    pub env: Env,
}

/// A store of the fleet.
#[derive(Clone, Debug)]
pub struct NamedStore {
    /// Its name.
    pub name: String,
    /// How it names itself; `None`: its workers say it.
    pub identity: Option<String>,
    /// Where its probe objects live.
    pub probes: ProbePlace,
}

/// A place in a bucket.
#[derive(Clone, Debug)]
pub struct ReportsAt {
    /// How the store names itself.
    pub store: String,
    /// The bucket.
    pub bucket: String,
    /// What all names begin with.
    pub prefix: String,
}

/// The API: a router for a server, its document, and its tokens, which may change.
#[derive(Debug)]
pub struct Api {
    site: Site,
    door: Arc<Door>,
    feeds: events::Feeds,
    open_jobs: usize,
}

impl Api {
    /// Over a site, for the holders of tokens; `open`: for everybody while there is no token.
    #[must_use]
    pub fn new(site: Site, tokens: Vec<TokenEntry>, open: bool, limits: &Limits) -> Arc<Self> {
        let door = Arc::new(Door::new(tokens, open, limits.rate, site.env.clone()));
        let open_jobs = usize::try_from(limits.open_jobs).unwrap_or(usize::MAX);
        Arc::new(Self { site, door, feeds: events::Feeds::default(), open_jobs })
    }

    /// Other tokens from now on.
    pub fn set_tokens(&self, tokens: Vec<TokenEntry>) {
        self.door.set_tokens(tokens);
    }

    /// The router, with bodies of at most `limit` bytes.
    pub fn router(self: &Arc<Self>, limit: usize) -> Router {
        let (router, document) = operations(self);
        let document: Arc<str> = format!("{document:#}\n").into();
        let serve = move || async move { ([("content-type", "application/json")], document.to_string()) };
        let router = router.route("/v1/openapi.json", get(serve));
        let router = router.fallback(no_route).method_not_allowed_fallback(no_method);
        router.layer(DefaultBodyLimit::max(limit)).with_state(Arc::clone(self))
    }

    /// The OpenAPI document of exactly the router's routes.
    #[must_use]
    pub fn document(self: &Arc<Self>) -> Value {
        operations(self).1
    }

    /// A job that the caller may know of; from the report store, where the checkpoint has forgotten it.
    async fn job(&self, caller: &Caller, id: &str) -> Answer<JobRecord> {
        let name: JobId = id.parse().map_err(|_| Problem::no_job(id))?;
        let found = match self.site.ledger.job(&name).await {
            Err(LedgerError::Lost(_)) => history::find(self.site.reports.as_ref(), &name).await?,
            found => Some(found?),
        };
        found.filter(|job| caller.sees(job)).ok_or_else(|| Problem::no_job(id))
    }
}

async fn no_route() -> Problem {
    Problem::new(Kind::NotFound, "there is nothing under this path", "`GET /v1/openapi.json` lists what there is")
}

async fn no_method() -> Problem {
    Problem::new(Kind::NotAllowed, "the path has no such method", "`GET /v1/openapi.json` lists what there is")
}

/// `GET /healthz`
async fn healthy() -> &'static str {
    "ok\n"
}

/// `GET /metrics`
async fn measured() -> impl axum::response::IntoResponse {
    ([("content-type", keyrotate_telemetry::metrics::CONTENT_TYPE)], keyrotate_telemetry::metrics().text())
}

/// `GET /readyz`
async fn ready(State(api): State<Arc<Api>>) -> Answer<&'static str> {
    let late = |_| Problem::new(Kind::Unavailable, "the checkpoint does not answer in time", "see to Redis");
    tokio::time::timeout(READY_WITHIN, api.site.ledger.now()).await.map_err(late)??;
    Ok("ready\n")
}

const NOTHING: Operation = Operation {
    method: "get",
    path: "",
    id: "",
    summary: "",
    role: Some(Role::View),
    query: &[],
    headers: &[],
    problems: &[],
};

const ON_JOB: &[Kind] = &[Kind::NotFound];
const ON_CHANGE: &[Kind] = &[Kind::NotFound, Kind::WrongState];

/// All operations but the document itself.
fn operations(api: &Arc<Api>) -> (Router<Arc<Api>>, Value) {
    let table = looking(submitting(Table::new(Arc::clone(api))));
    reading(changing(table)).finish()
}

fn submitting(mut table: Table) -> Table {
    let file = keyrotate_proto::job::schema();
    let body = json!({
        "application/yaml": { "schema": { "type": "string", "description": "A job file." } },
        "application/json": { "schema": { "type": "object", "description": file["title"] } },
    });
    let answer = json!({ "application/json": { "schema": table.schema::<body::Submitted>() } });
    let submit = Operation {
        method: "post",
        path: "/v1/jobs",
        id: "submitJob",
        summary: "Begins a job; answers once the file is checked. The same `Idempotency-Key` begins one job.",
        role: Some(Role::Operate),
        query: &[
            ("store", "string", "The fleet's name of the store; optional where there is one."),
            (
                "confirm",
                "boolean",
                "Take the target that the store names, and the versions that are added, without asking.",
            ),
            ("dryRun", "boolean", "Only say what would be done: see `getForecast`."),
            ("full", "boolean", "A dry run looks at every object, not at a sample."),
            ("failedOf", "string", "A job that has ended: only what it could not do, see `listFailed`."),
            ("bucket", "string", "Of a file with `buckets`: on which of them; each is a job of its own."),
            ("prefix", "string", "And on which keys, as the entry of `buckets` says."),
            ("group", "string", "The first job of that file, for whoever lists the jobs that belong together."),
            ("priority", "integer", "In place of the job file's, from -100 to 100: jobs of a higher one go first."),
            ("weight", "integer", "In place of the job file's, from 1 to 1000: what it gets beside equals."),
        ],
        headers: &[("Idempotency-Key", "Any word of yours; remembered for a day.")],
        problems: &[Kind::BadRequest, Kind::NotFound, Kind::Overlap, Kind::TooLarge, Kind::MediaType, Kind::JobFile],
    };
    table.add(&submit, Some(body), (201, answer), post(submit::submit))
}

fn looking(table: Table) -> Table {
    let list = Operation {
        path: "/v1/jobs",
        id: "listJobs",
        summary: "Jobs in the order of their making.",
        query: &[
            ("state", "string", "Only those in this state."),
            ("after", "string", "Only those behind this one."),
            ("limit", "integer", "How many at most; 100 unless given, 1000 at most."),
        ],
        problems: &[Kind::BadRequest],
        ..NOTHING
    };
    let status =
        Operation { path: "/v1/jobs/{id}", id: "getJob", summary: "How a job stands.", problems: ON_JOB, ..NOTHING };
    let description = Operation {
        path: "/v1/jobs/{id}/describe",
        id: "describeJob",
        summary: "What a job was asked to do, and what it does to which objects.",
        problems: ON_JOB,
        ..NOTHING
    };
    let open = |path, id, summary| Operation { path, id, summary, role: None, ..NOTHING };
    let text = || json!({ "text/plain": { "schema": { "type": "string" } } });
    let workers = Operation {
        path: "/v1/workers",
        id: "listWorkers",
        summary: "The workers that live.",
        role: Some(Role::Admin),
        ..NOTHING
    };
    let shown = Operation {
        path: "/metrics",
        id: "metrics",
        summary: "What this coordinator counts, in the OpenMetrics text format.",
        ..NOTHING
    };
    let dead = Operation {
        path: "/v1/dlq",
        id: "listDeadLetters",
        summary: "Messages that no worker could work on.",
        role: Some(Role::Admin),
        query: &[("limit", "integer", "How many at most; 100 unless given, 1000 at most.")],
        problems: &[Kind::BadRequest],
        ..NOTHING
    };
    let ready_or_not =
        Operation { problems: &[Kind::Unavailable], ..open("/readyz", "ready", "Whether the checkpoint answers.") };
    table
        .json::<body::JobList>(&list, 200, get(jobs::list))
        .json::<body::JobStatus>(&status, 200, get(jobs::status))
        .json::<body::JobDescription>(&description, 200, get(jobs::description))
        .json::<body::WorkerList>(&workers, 200, get(jobs::workers))
        .add(&shown, None, (200, text()), get(measured))
        .json::<body::DeadLetterList>(&dead, 200, get(dead::list))
        .add(&open("/healthz", "healthy", "Whether the process lives."), None, (200, text()), get(healthy))
        .add(&ready_or_not, None, (200, text()), get(ready))
}

fn changing(table: Table) -> Table {
    let change = |path, id, summary| Operation {
        method: "post",
        path,
        id,
        summary,
        role: Some(Role::Operate),
        problems: ON_CHANGE,
        ..NOTHING
    };
    let limits = Operation {
        method: "patch",
        problems: &[Kind::BadRequest, Kind::NotFound, Kind::WrongState, Kind::TooLarge],
        ..change("/v1/jobs/{id}/limits", "limitJob", "Changes how much of the fleet a job may take.")
    };
    let requeue = Operation {
        role: Some(Role::Admin),
        problems: &[Kind::BadRequest, Kind::TooLarge],
        ..change("/v1/dlq/requeue", "requeueDeadLetters", "Has fresh tickets sent in the place of dead letters.")
    };
    let reseal = Operation {
        role: Some(Role::Admin),
        problems: &[Kind::Refused],
        ..change("/v1/reseal", "reseal", "Seals the secrets in the records of all jobs anew.")
    };
    let cancel = change("/v1/jobs/{id}/cancel", "cancelJob", "Cancels a job; what it left open is cleaned up.");
    let pause = change("/v1/jobs/{id}/pause", "pauseJob", "Pauses a job until somebody resumes it.");
    let resume = change("/v1/jobs/{id}/resume", "resumeJob", "Lets a paused or failed job go on.");
    let confirm = change("/v1/jobs/{id}/confirm", "confirmJob", "Takes the target that `prepare` found.");
    table
        .json::<body::JobStatus>(&cancel, 200, post(jobs::cancel))
        .json::<body::JobStatus>(&pause, 200, post(jobs::pause))
        .json::<body::JobStatus>(&resume, 200, post(jobs::resume))
        .json::<body::JobStatus>(&confirm, 200, post(jobs::confirm))
        .taking_json::<body::RequeueRequest, body::Requeued>(&requeue, 200, post(dead::requeue))
        .json::<body::Resealed>(&reseal, 200, post(resealed))
        .taking_json::<body::LimitsChange, body::JobStatus>(&limits, 200, patch(jobs::limit))
}

/// `POST /v1/reseal`
async fn resealed(api: State<Arc<Api>>) -> Answer<Json<body::Resealed>> {
    let Some(sealer) = &api.site.sealer else {
        let what = "the coordinator seals nothing: no record holds a secret";
        return Err(Problem::new(
            Kind::Refused,
            what,
            "set `secrets.kesKey` or `secrets.keyFile` there, if any should",
        ));
    };
    Ok(Json(reseal::reseal(&api.site.ledger, sealer, reseal::Which::All).await?))
}

fn reading(mut table: Table) -> Table {
    let on_job = |path, id, summary| Operation { path, id, summary, problems: ON_JOB, ..NOTHING };
    let failed = Operation {
        query: &[("after", "string", "`next` of the page before."), ("limit", "integer", "How many at most.")],
        problems: &[Kind::BadRequest, Kind::NotFound],
        ..on_job("/v1/jobs/{id}/failed", "listFailed", "Versions that failed, are in conflict, or could not be done.")
    };
    let report = Operation {
        query: &[(
            "format",
            "string",
            "`json` (the summary; so without it), `text` or `html` (a page), `csv` (all rows).",
        )],
        problems: &[Kind::BadRequest, Kind::NotFound],
        ..on_job("/v1/jobs/{id}/report", "getReport", "What the job came to.")
    };
    let files = on_job("/v1/jobs/{id}/report/files", "listReportFiles", "The files of the report.");
    let file = on_job(
        "/v1/jobs/{id}/report/files/{name}",
        "getReportFile",
        "The report's manifest, a file that it names, or a part.",
    );
    let audited = on_job("/v1/jobs/{id}/audit", "getAudit", "Who did what to a job, and whether that record is whole.");
    let forecast = on_job("/v1/jobs/{id}/forecast", "getForecast", "What a dry run says that a job would do.");
    let events = on_job("/v1/jobs/{id}/events", "watchJob", "How a job stands, each second, until it ends.");
    let status = table.schema::<body::JobStatus>();
    let stream = json!({ "text/event-stream": { "schema": status } });
    let text = json!({ "schema": { "type": "string" } });
    let shown = json!({
        "application/json": { "schema": { "type": "object" } },
        "text/plain": text, "text/html": text, "text/csv": text,
    });
    let bytes = json!({ "application/gzip": {}, "application/json": {} });
    table
        .json::<body::FailedPage>(&failed, 200, get(reports::failed))
        .add(&report, None, (200, shown), get(reports::report))
        .json::<body::AuditRecord>(&audited, 200, get(jobs::audited))
        .json::<Forecast>(&forecast, 200, get(reports::forecast))
        .json::<body::ReportFiles>(&files, 200, get(reports::files))
        .add(&file, None, (200, bytes), get(reports::file))
        .add(&events, None, (200, stream), get(events::events))
}

#[cfg(test)]
mod tests;
