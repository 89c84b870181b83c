//! `cancel`: ends a job, whether or not a process works on it.

use std::path::Path;
use std::time::Duration;

use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_config::Config;
use keyrotate_env::Env;
use keyrotate_proto::api::JobStatus;
use keyrotate_proto::id::JobId;
use keyrotate_proto::say::chain;
use keyrotate_report::ReportRoot;
use keyrotate_report::finish::abort_command;
use keyrotate_report::leftovers;
use keyrotate_report::root::FolderRoot;
use tokio::time::Instant;

use crate::connect;
use crate::control;
use crate::failure::Failure;
use crate::jobs::{self, Ask, Reply};
use crate::local::{self, LOOK_EVERY, LocalConfig, Place};
use crate::say;
use crate::state::{BucketFolder, Holder, Lock};

/// How long the process that works on a job may take to end it: a lease, then the `clean` pass.
const PATIENCE: Duration = Duration::from_secs(150);

/// Cancels a job below `root`: through the process that works on it, else by itself. Whether there is such a job.
pub(crate) async fn cancel(root: &Path, config: &Config, job: &JobId) -> Result<bool, Failure> {
    for folder in BucketFolder::all(root) {
        if end(&folder, config, job).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ends a job of one folder; whether the folder has such a job.
async fn end(folder: &BucketFolder, config: &Config, job: &JobId) -> Result<bool, Failure> {
    let give_up = Instant::now() + PATIENCE;
    let mut known = folder.job(job).exists();
    let ask = Ask { method: "POST", path: format!("/v1/jobs/{job}/cancel"), ..Ask::default() };
    loop {
        match control::ask(folder.path(), &ask).await {
            Ok(Reply { status: 404, .. }) => return Ok(false),
            Ok(reply) => {
                let status: JobStatus = jobs::read(reply, "")?;
                // The process that works on it ends it, sooner or later.
                if status.is_ended() || Instant::now() > give_up {
                    return Ok(true);
                }
                known = true;
            }
            // Nobody is there, or it is about to leave: then the lock says so.
            Err(_) => match folder.lock(&holder()) {
                Ok(lock) => return end_dead(folder, config, job, lock).await,
                Err(_) if !known => return Ok(false),
                Err(held) if Instant::now() > give_up => return Err(held),
                Err(_) => {}
            },
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Ends a job on which no process works.
async fn end_dead(folder: &BucketFolder, config: &Config, job: &JobId, _lock: Lock) -> Result<bool, Failure> {
    let env = Env::system();
    let ledger = local::open_ledger(folder, &env).await?;
    let broke = |e: LedgerError| Failure::refused(chain(&e), "its end stands in its report");
    let record = match ledger.job(job).await {
        Ok(record) => record,
        Err(LedgerError::Lost(_)) => return Ok(false),
        Err(error) => return Err(broke(error)),
    };
    let jobs = folder.path().join("jobs");
    match connect::to(folder.noted_store().as_deref(), config, &env).await {
        Ok(connected) if connected.store.store.identity().0 == record.store => {
            let config = LocalConfig::default();
            let place =
                Place { store: connected.store, kms: connected.kms, jobs: jobs.clone(), notifier: None, config };
            local::cancel_dead(&ledger, job, &place, &env).await?;
        }
        _ => {
            let from = folder.noted_store().map_or("AWS_* say".to_owned(), |name| format!("`{name}` is set"));
            say(&format!("its store can't be reached as {from}: nothing in the bucket was cleaned up"));
            local::cancel_unreached(&ledger, job, &jobs).await?;
        }
    }
    say_what_is_left(&ledger, job, &FolderRoot::new(jobs)).await;
    Ok(true)
}

/// Uploads that may be ours and are still open, each with the command that removes it.
async fn say_what_is_left(ledger: &Ledger, job: &JobId, reports: &FolderRoot) {
    let Ok(record) = ledger.job(job).await else { return };
    let Ok(reports) = reports.of(job) else { return };
    let Ok(left) = leftovers::read(reports.as_ref()).await else { return };
    let endpoint = record.store.starts_with("http").then_some(record.store.as_str());
    if !left.is_empty() {
        say("uploads that may still be open, and what removes each:");
    }
    for (key, id) in left {
        say(&format!("    {}", abort_command(endpoint, &record.spec.bucket, &key, &id)));
    }
}

fn holder() -> Holder {
    Holder { pid: std::process::id(), what: "keyrotate cancel".into(), since: Env::system().now() }
}
