//! `cancel`: ends a job, whether or not a process works on it.

use keyrotate_env::Env;
use keyrotate_proto::id::JobId;
use keyrotate_proto::state::JobState;

use crate::args::CancelArgs;
use crate::connect;
use crate::control::{self, Request};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::local::{self, LOOK_EVERY, Local, LocalConfig};
use crate::state::{self, BucketFolder, Holder};
use keyrotate_proto::say::chain;

/// Cancels a job: through the process that works on it, else by itself.
#[expect(clippy::print_stdout, reason = "the answer is the output")]
pub(crate) async fn cancel(args: &CancelArgs) -> Result<Exit, Failure> {
    let job: JobId =
        args.job.parse().map_err(|e| Failure::usage(format!("{e}"), "`run` prints the id in its first line"))?;
    let root = state::root(&args.state)?;
    for folder in BucketFolder::all(&root) {
        if !folder.job(&job).exists() && !ask_holder_or_ledger(&folder, &job).await? {
            continue;
        }
        end(&folder, &job).await?;
        println!("job {job} is cancelled");
        return Ok(Exit::Completed);
    }
    let mend = format!("jobs of this machine are below `{}`; `--state DIR` names another folder", root.display());
    Err(Failure::usage(format!("there is no job {job}"), mend))
}

/// Whether the checkpoint of a folder without a process knows the job.
async fn ask_holder_or_ledger(folder: &BucketFolder, job: &JobId) -> Result<bool, Failure> {
    let Ok(_lock) = folder.lock(&holder()) else { return Ok(false) };
    let ledger = local::open_ledger(folder, &Env::system()).await?;
    Ok(ledger.job(job).await.is_ok())
}

async fn end(folder: &BucketFolder, job: &JobId) -> Result<(), Failure> {
    if let Ok(answer) = control::ask(folder.path(), &Request::Cancel { job: job.clone() }).await {
        return answer.error.map_or(Ok(()), |error| Err(Failure::refused(error, "its end stands in its report")));
    }
    let _lock = folder.lock(&holder())?;
    let env = Env::system();
    let ledger = local::open_ledger(folder, &env).await?;
    let refused = |e: keyrotate_checkpoint::LedgerError| Failure::refused(chain(&e), "its end stands in its report");
    let change = keyrotate_checkpoint::transition::job::cancel;
    let record = ledger.update_job(job, change).await.map_err(refused)?;
    if record.state.is_ended() {
        return Ok(());
    }
    match connect::from_environment(&env).await {
        Ok(connected) if connected.store.identity().0 == record.store => {
            let config = LocalConfig {
                permits: 16,
                rate: None,
                confirmed: false,
                probe_prefix: crate::args::PROBE_PREFIX.into(),
                probe_bucket: None,
                default_key: None,
            };
            let jobs = folder.path().join("jobs");
            let mut local = Local::start(ledger, job.clone(), connected.store, connected.kms, jobs, config, &env);
            let ended = wait(&local).await;
            local.stop().await;
            ended.map_err(refused)
        }
        _ => local::cancel_dead(&ledger, job).await,
    }
}

async fn wait(local: &Local) -> Result<(), keyrotate_checkpoint::LedgerError> {
    loop {
        let (job, _) = local.look().await?;
        if matches!(job.state, JobState::Cancelled | JobState::Failed { .. } | JobState::Completed) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn holder() -> Holder {
    Holder { pid: std::process::id(), what: "keyrotate cancel".into(), since: Env::system().now() }
}
