//! The state folder of this machine: each bucket's folder is asked through whoever holds it, else opened here. Either
//! way the words are those of the coordinator's API.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use keyrotate_checkpoint::Ledger;
use keyrotate_config::Config;
use keyrotate_coordinator::api::{Api, Site};
use keyrotate_env::Env;
use keyrotate_proto::api::{JobBrief, JobList, JobStatus, LimitsChange};
use keyrotate_proto::id::JobId;
use keyrotate_report::root::FolderRoot;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Ask, Client, Jobs, Reply, list_path, read};
use crate::args::StateArgs;
use crate::failure::Failure;
use crate::local::{self, LOOK_EVERY};
use crate::state::{self, BucketFolder, Holder};
use crate::{cancel, control};

/// How long whoever holds a folder may be deaf: it is about to begin, or to leave.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a job is looked at that somebody watches.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The API over one bucket's folder: it begins no jobs, which `run` does.
pub(crate) fn router(folder: &BucketFolder, ledger: &Ledger, env: &Env) -> Router {
    let site = Site {
        ledger: ledger.clone(),
        reports: std::sync::Arc::new(FolderRoot::new(folder.path().join("jobs"))),
        reports_at: None,
        dead: None,
        sealer: None,
        allow_private_notify: false,
        stores: Vec::new(),
        env: env.clone(),
    };
    let limits = keyrotate_config::Limits { rate: 1_000_000, ..Default::default() };
    Api::new(site, Vec::new(), true, &limits).router(64 << 10)
}

/// Whether it changes limits that only hold for a process at work.
fn bounds_nothing(ask: &Ask) -> bool {
    let change = ask.body.as_ref().map(|(_, body)| serde_json::from_slice::<LimitsChange>(body));
    ask.method == "PATCH" && !matches!(change, Some(Ok(LimitsChange { max_added_bytes: Some(_), .. })))
}

/// The state folder.
pub(crate) struct Folder {
    root: PathBuf,
    /// What stores are called by.
    config: Config,
    env: Env,
}

impl Folder {
    /// As asked for, or this user's.
    pub(crate) fn open(args: &StateArgs, config: Config) -> Result<Self, Failure> {
        Ok(Self { root: state::root(args)?, config, env: Env::system() })
    }

    /// Asks one bucket's folder.
    async fn ask_folder(&self, folder: &BucketFolder, ask: &Ask) -> Result<Reply, Failure> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Ok(reply) = control::ask(folder.path(), ask).await {
                return Ok(reply);
            }
            let holder = Holder { pid: std::process::id(), what: "keyrotate".into(), since: self.env.now() };
            match folder.lock(&holder) {
                Ok(_lock) if bounds_nothing(ask) => {
                    let mend = "`keyrotate run` takes `--rate` and `--permits` when it goes on with the job";
                    return Err(Failure::usage("nothing works on the job, so that limits would bound nothing", mend));
                }
                Ok(_lock) => {
                    let ledger = local::open_ledger(folder, &self.env).await?;
                    return Ok(control::ask_here(router(folder, &ledger, &self.env), ask).await);
                }
                Err(held) if Instant::now() > give_up => return Err(held),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    fn no_job(&self, job: &JobId) -> Failure {
        let place = self.root.display();
        let mend =
            format!("jobs of this machine are below `{place}`; `--state DIR` names another folder, `--url` a fleet");
        Failure::usage(format!("there is no job {job}"), mend)
    }
}

#[async_trait]
impl Jobs for Folder {
    fn place(&self) -> String {
        format!("state folder {}", self.root.display())
    }

    async fn ask(&self, job: &JobId, ask: Ask) -> Result<Reply, Failure> {
        for folder in BucketFolder::all(&self.root) {
            let reply = self.ask_folder(&folder, &ask).await?;
            // A report that is not there yet is another thing than a job that is not.
            if reply.status != 404 || folder.job(job).exists() {
                return Ok(reply);
            }
        }
        Err(self.no_job(job))
    }

    async fn submit(&self, _ask: Ask) -> Result<Reply, Failure> {
        let mend = "`keyrotate run JOB_FILE` runs it here; name a fleet as `--url`, KEYROTATE_URL or `url:`";
        Err(Failure::usage("no fleet is named, and nothing on this machine would work on the job", mend))
    }

    async fn list(&self, state: Option<&str>) -> Result<Vec<JobBrief>, Failure> {
        let mut all = Vec::new();
        for folder in BucketFolder::all(&self.root) {
            let mut page: Option<JobList> = None;
            loop {
                let next: JobList =
                    read(self.ask_folder(&folder, &Ask::get(list_path(state, page.as_ref()))).await?, "")?;
                all.extend(next.jobs.iter().cloned());
                if next.next.is_none() {
                    break;
                }
                page = Some(next);
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    async fn watch(&self, job: &JobId, heard: mpsc::Sender<JobStatus>) -> Result<(), Failure> {
        loop {
            let status = Client(self).status(job).await?;
            let ended = status.is_ended();
            if heard.send(status).await.is_err() || ended {
                return Ok(());
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }

    async fn cancel(&self, job: &JobId) -> Result<(), Failure> {
        if cancel::cancel(&self.root, &self.config, job).await? { Ok(()) } else { Err(self.no_job(job)) }
    }
}
