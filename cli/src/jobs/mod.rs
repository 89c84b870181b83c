//! Jobs, wherever they are: in a fleet behind its coordinator's API, or in the state folder of this machine, which is
//! asked in the very words of that API.

pub(crate) mod failed;
pub(crate) mod fleet;
pub(crate) mod folder;
pub(crate) mod follow;
pub(crate) mod report;
pub(crate) mod show;
pub(crate) mod verbs;

use async_trait::async_trait;
use keyrotate_proto::api::{
    AuditRecord, FailedPage, JobBrief, JobDescription, JobList, JobStatus, LimitsChange, Problem, ReportFiles,
    Submitted,
};
use keyrotate_proto::forecast::Forecast;
use keyrotate_proto::id::JobId;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::args::WhereArgs;
use crate::failure::Failure;

/// A request to the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    /// The path with its query.
    pub(crate) path: String,
    /// Media type and bytes.
    pub(crate) body: Option<(&'static str, Vec<u8>)>,
    /// For a submit.
    pub(crate) idempotency_key: Option<String>,
}

impl Ask {
    pub(crate) fn get(path: String) -> Self {
        Self { method: "GET", path, ..Self::default() }
    }

    fn post(path: String) -> Self {
        Self { method: "POST", path, ..Self::default() }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Where jobs are.
#[async_trait]
pub(crate) trait Jobs: Send + Sync {
    /// Its name for the first line.
    fn place(&self) -> String;

    /// Asks something about one job.
    async fn ask(&self, job: &JobId, ask: Ask) -> Result<Reply, Failure>;

    /// Begins a job.
    async fn submit(&self, ask: Ask) -> Result<Reply, Failure>;

    /// Asks for all jobs in that state.
    async fn list(&self, state: Option<&str>) -> Result<Vec<JobBrief>, Failure>;

    /// Tells how a job stands, until it has ended or nobody listens.
    async fn watch(&self, job: &JobId, heard: mpsc::Sender<JobStatus>) -> Result<(), Failure>;

    /// Cancels a job; in a fleet it is marked, on this machine it is ended as well.
    async fn cancel(&self, job: &JobId) -> Result<(), Failure>;
}

/// The fleet where one is named, else the state folder.
pub(crate) fn open(place: &WhereArgs) -> Result<Box<dyn Jobs>, Failure> {
    let config = crate::config::load(place.config.clone(), place.flags())?;
    let jobs: Box<dyn Jobs> = match &config.url {
        Some(url) if !place.local => Box::new(fleet::Fleet::new(url, &config)?),
        _ => Box::new(folder::Folder::open(&place.state, config.clone())?),
    };
    crate::say(&jobs.place());
    Ok(jobs)
}

/// The API in types.
pub(crate) struct Client<'a>(pub(crate) &'a dyn Jobs);

impl Client<'_> {
    pub(crate) async fn submit(&self, ask: Ask, file: &str) -> Result<Submitted, Failure> {
        read(self.0.submit(ask).await?, file)
    }

    pub(crate) async fn status(&self, job: &JobId) -> Result<JobStatus, Failure> {
        self.get(job, "").await
    }

    pub(crate) async fn describe(&self, job: &JobId) -> Result<JobDescription, Failure> {
        self.get(job, "/describe").await
    }

    pub(crate) async fn audit(&self, job: &JobId) -> Result<AuditRecord, Failure> {
        self.get(job, "/audit").await
    }

    /// `pause`, `resume` or `confirm`.
    pub(crate) async fn tell(&self, job: &JobId, verb: &str) -> Result<JobStatus, Failure> {
        read(self.0.ask(job, Ask::post(format!("/v1/jobs/{job}/{verb}"))).await?, "")
    }

    pub(crate) async fn limit(&self, job: &JobId, change: &LimitsChange) -> Result<JobStatus, Failure> {
        let body = serde_json::to_vec(change).unwrap_or_default();
        let path = format!("/v1/jobs/{job}/limits");
        let ask = Ask { method: "PATCH", path, body: Some(("application/json", body)), ..Ask::default() };
        read(self.0.ask(job, ask).await?, "")
    }

    pub(crate) async fn failed(&self, job: &JobId, after: Option<&str>) -> Result<FailedPage, Failure> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        self.get(job, &format!("/failed?limit=1000{after}")).await
    }

    /// As `json`, `text` or `html`.
    pub(crate) async fn report(&self, job: &JobId, format: &str) -> Result<Vec<u8>, Failure> {
        good(self.0.ask(job, Ask::get(format!("/v1/jobs/{job}/report?format={format}"))).await?, "")
    }

    /// What a dry run says.
    pub(crate) async fn forecast(&self, job: &JobId) -> Result<Forecast, Failure> {
        self.get(job, "/forecast").await
    }

    pub(crate) async fn files(&self, job: &JobId) -> Result<ReportFiles, Failure> {
        self.get(job, "/report/files").await
    }

    pub(crate) async fn file(&self, job: &JobId, name: &str) -> Result<Vec<u8>, Failure> {
        good(self.0.ask(job, Ask::get(format!("/v1/jobs/{job}/report/files/{name}"))).await?, "")
    }

    async fn get<T: DeserializeOwned>(&self, job: &JobId, what: &str) -> Result<T, Failure> {
        read(self.0.ask(job, Ask::get(format!("/v1/jobs/{job}{what}"))).await?, "")
    }
}

/// All pages of a list, by whatever asks for one.
pub(crate) fn list_path(state: Option<&str>, page: Option<&JobList>) -> String {
    let state = state.map(|state| format!("&state={state}")).unwrap_or_default();
    let after = page.and_then(|page| page.next.as_ref()).map(|next| format!("&after={next}")).unwrap_or_default();
    format!("/v1/jobs?limit=1000{state}{after}")
}

/// A good answer's body; `file` is the name of what was sent.
pub(crate) fn good(reply: Reply, file: &str) -> Result<Vec<u8>, Failure> {
    if (200..300).contains(&reply.status) { Ok(reply.body) } else { Err(failure(&reply, file)) }
}

/// A good answer.
pub(crate) fn read<T: DeserializeOwned>(reply: Reply, file: &str) -> Result<T, Failure> {
    let strange = |e| Failure::broke("the answer can't be read", &e, "are keyrotate here and there of one version?");
    serde_json::from_slice(&good(reply, file)?).map_err(strange)
}

/// What a bad answer means for whoever typed the command.
pub(crate) fn failure(reply: &Reply, file: &str) -> Failure {
    let Ok(problem) = serde_json::from_slice::<Problem>(&reply.body) else {
        let what = format!("the answer was HTTP {}, and none of keyrotate's", reply.status);
        return Failure::refused(what, "is the URL that of a coordinator, and no proxy in the way?");
    };
    if !problem.errors.is_empty() {
        let lines: Vec<_> = problem.errors.iter().map(|error| error.of_file(file).to_string()).collect();
        let mend = "`keyrotate generate` prints a file to fill in, `keyrotate validate` checks one";
        return Failure::usage(format!("`{file}` is no job file:\n{}", lines.join("\n")), mend);
    }
    let mend = problem.hint.unwrap_or_default();
    match problem.status {
        400 | 404 | 413 | 415 | 422 => Failure::usage(problem.detail, mend),
        _ => Failure::refused(problem.detail, mend),
    }
}

#[cfg(test)]
mod tests;
