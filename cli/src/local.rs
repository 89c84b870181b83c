//! A job on this machine: one checkpoint file, a queue in this process, a coordinator and a worker beside each
//! other. The same code as the fleet's, without sockets between.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyrotate_checkpoint::record::{JobLimits, JobRecord, ProbePlace};
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_checkpoint::{BackendError, FileBackend, Ledger, LedgerError};
use keyrotate_config::Calls;
use keyrotate_coordinator::notify::Notifier;
use keyrotate_coordinator::{Coordinator, CoordinatorConfig, TicketsOut, Totals, totals};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::id::JobId;
use keyrotate_proto::say::chain;
use keyrotate_proto::state::{JobState, Phase};
use keyrotate_queue::MemoryQueue;
use keyrotate_report::root::FolderRoot;
use keyrotate_worker::{Meter, Permits, Served, Site, SliceLimits, Worker, WorkerConfig};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::state::BucketFolder;

/// Slices at a time. Listings are what a slot does one after the other, so that many are needed to read fast.
const SLOTS: usize = 8;

/// How a local job works.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalConfig {
    /// Store calls at a time.
    pub(crate) permits: Calls,
    /// Objects per second at most, in place of the job file's.
    pub(crate) rate: Option<f64>,
    /// Whether the target is taken without asking.
    pub(crate) confirmed: bool,
    /// Where a job that begins makes its probe objects.
    pub(crate) probes: ProbePlace,
    /// The environment's name of the default key.
    pub(crate) default_key: Option<String>,
}

/// How long a process stays for the news of its job's end.
const TELL_WITHIN: Duration = Duration::from_secs(15);

/// What a local job reaches, and how it works.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The store.
    pub(crate) store: Served,
    /// The KES.
    pub(crate) kms: Option<Arc<dyn Kms>>,
    /// The folder of the jobs' folders.
    pub(crate) jobs: PathBuf,
    /// Tells of the ends of jobs.
    pub(crate) notifier: Option<Notifier>,
    /// How to work.
    pub(crate) config: LocalConfig,
}

/// Coordinator and worker at work in this process.
pub(crate) struct Local {
    ledger: Ledger,
    meter: Arc<Meter>,
    permits: Permits,
    job: JobId,
    stop_worker: CancellationToken,
    stop_coordinator: CancellationToken,
    worker: JoinHandle<()>,
    coordinator: JoinHandle<()>,
}

/// So many permits, and a bound of objects per second.
pub(crate) fn permits(calls: Calls, rate: Option<f64>) -> Permits {
    match calls {
        Calls::AtMost(calls) => Permits::new(usize::from(calls), rate),
        Calls::Auto => Permits::auto(rate),
    }
}

/// The job's limits at this hour.
fn limit(permits: &Permits, job: &JobRecord, env: &Env) {
    permits.limit(job.limits.permits.map(|permits| permits as usize), job.rates_at(env.now()));
}

/// A job's limits in the beginning: those that its command line gives.
pub(crate) fn limits(config: &LocalConfig) -> JobLimits {
    let permits = match config.permits {
        Calls::AtMost(calls) => Some(u32::from(calls)),
        Calls::Auto => None,
    };
    JobLimits { rate: config.rate, permits, ..JobLimits::default() }
}

/// Opens the checkpoint of a bucket's folder, whose lock the caller holds.
pub(crate) async fn open_ledger(folder: &BucketFolder, env: &Env) -> Result<Ledger, Failure> {
    let path = folder.checkpoint();
    let give_up = Instant::now() + LEAVES_WITHIN;
    let mut opened = FileBackend::open(&path, env.clone()).await;
    while matches!(opened, Err(BackendError::InUse(_))) && Instant::now() < give_up {
        tokio::time::sleep(LOOK_EVERY).await;
        opened = FileBackend::open(&path, env.clone()).await;
    }
    let mend = "if another process holds it, wait; if it is damaged, move it away: a new start finds what is done as `current`";
    let backend =
        opened.map_err(|e| Failure::broke(format!("can't open the checkpoint `{}`", path.display()), &e, mend))?;
    Ok(Ledger::new(Arc::new(backend), env.clone()))
}

impl Local {
    /// Sets a coordinator and a worker to work on a job; on others only to end them where they are cancelled.
    pub(crate) fn start(ledger: Ledger, job: &JobRecord, place: &Place, env: &Env) -> Self {
        let queue = Arc::new(MemoryQueue::new(4 * SLOTS));
        let reports = Arc::new(FolderRoot::new(&place.jobs));
        let site = Site {
            stores: Site::one_store(place.store.clone()),
            kms: place.kms.clone(),
            reports: reports.clone(),
            ledger: ledger.clone(),
            queue: queue.clone(),
        };
        let config = place.config.clone();
        let permits = permits(config.permits, None).of_one_job();
        limit(&permits, job, env);
        let job = job.id.clone();
        let worker_config = WorkerConfig {
            owner: crate::fleet::owner("run", env),
            slots: SLOTS,
            permits: permits.clone(),
            limits: SliceLimits::default(),
            probe_part: 5 << 20,
            default_key: config.default_key,
            confirmed: config.confirmed,
            local_files: true,
        };
        let worker = Worker::new(site, worker_config, env.clone());
        let meter = worker.meter();
        let coordinator_config = CoordinatorConfig {
            tickets_out: TicketsOut::AtMost(2 * SLOTS),
            only: Some(job.clone()),
            ..CoordinatorConfig::default()
        };
        let mut coordinator = Coordinator::new(ledger.clone(), queue, reports, coordinator_config);
        if let Some(notifier) = &place.notifier {
            coordinator = coordinator.with_notifier(notifier.clone());
        }
        let (stop_worker, stop_coordinator) = (CancellationToken::new(), CancellationToken::new());
        let stop = stop_worker.clone();
        let worker = tokio::spawn(async move {
            if let Err(error) = worker.run(stop).await {
                tracing::error!(error = &error as &dyn std::error::Error, "the worker stopped");
            }
        });
        let coordinator = tokio::spawn(coordinator.run(stop_coordinator.clone()));
        Self { ledger, meter, permits, job, stop_worker, stop_coordinator, worker, coordinator }
    }

    /// What the worker has done so far.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The job and its sums now.
    pub(crate) async fn look(&self) -> Result<(JobRecord, Totals), LedgerError> {
        let job = self.ledger.job(&self.job).await?;
        let totals = totals(&self.ledger, &job).await?;
        Ok((job, totals))
    }

    /// Works within the job's limits as they are now.
    pub(crate) fn limit(&self, job: &JobRecord, env: &Env) {
        limit(&self.permits, job, env);
    }

    /// Confirms what `prepare` found.
    pub(crate) async fn confirm(&self) -> Result<(), LedgerError> {
        self.ledger.update_job(&self.job, |job, now| transition::confirm(job, "local", now)).await.map(drop)
    }

    /// Comes back when nobody has to confirm the job's target any more: somebody may have cancelled it.
    pub(crate) async fn until_decided(&self) -> Result<(), LedgerError> {
        while awaits_confirmation(&self.ledger.job(&self.job).await?) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Comes back when the job has ended.
    async fn until_ended(&self) -> Result<(), LedgerError> {
        while !self.ledger.job(&self.job).await?.state.is_ended() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until whoever wants to hear of the job's end was told, but not for long; whether that is so.
    pub(crate) async fn until_told(&self) -> Result<bool, LedgerError> {
        let until = Instant::now() + TELL_WITHIN;
        while self.ledger.is_settling(&self.job).await? {
            if Instant::now() > until {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(true)
    }

    /// Whether worker or coordinator ended on their own, which they never should.
    pub(crate) fn has_died(&self) -> bool {
        self.worker.is_finished() || self.coordinator.is_finished()
    }

    /// Stops taking, finishes what is in flight, commits.
    pub(crate) async fn stop(&mut self) {
        self.stop_worker.cancel();
        let _ended = (&mut self.worker).await;
        self.stop_coordinator.cancel();
        let _ended = (&mut self.coordinator).await;
    }
}

/// Takes a job that nobody works on to `cancelled`: what it left in its bucket is cleaned up, its report is written.
pub(crate) async fn cancel_dead(ledger: &Ledger, job: &JobId, place: &Place, env: &Env) -> Result<(), Failure> {
    let record = mark_cancelled(ledger, job).await?;
    let mut local = Local::start(ledger.clone(), &record, place, env);
    let ended = local.until_ended().await;
    local.stop().await;
    ended.map_err(not_cancelled)
}

/// The same where its store can't be reached: the report lists the uploads that are perhaps still open.
pub(crate) async fn cancel_unreached(ledger: &Ledger, job: &JobId, jobs: &Path) -> Result<(), Failure> {
    let record = mark_cancelled(ledger, job).await?;
    if record.state.is_ended() {
        return Ok(());
    }
    let broke = |e: &dyn std::error::Error| Failure::broke("the job could not be ended", e, "try again");
    let root = FolderRoot::new(jobs);
    // Nobody takes the tickets of its `clean` pass, which ends at once: what it would have ended is listed.
    let config = CoordinatorConfig { only: Some(job.clone()), clean_limit: Duration::ZERO, ..Default::default() };
    let mut coordinator = Coordinator::new(ledger.clone(), Arc::new(MemoryQueue::new(SLOTS)), Arc::new(root), config);
    while !ledger.job(job).await.map_err(not_cancelled)?.state.is_ended() {
        coordinator.tick().await.map_err(|e| broke(&e))?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Marks it. Leases of whoever held it are void: the folder's lock is ours.
async fn mark_cancelled(ledger: &Ledger, job: &JobId) -> Result<JobRecord, Failure> {
    let record = ledger.update_job(job, transition::cancel).await.map_err(not_cancelled)?;
    ledger.void_leases(job).await.map_err(not_cancelled)?;
    Ok(record)
}

fn not_cancelled(error: LedgerError) -> Failure {
    Failure::refused(
        chain(&error),
        "`keyrotate cancel` takes the id of a job that has not ended; an end stands in its report",
    )
}

/// Whether a job waits for a person to confirm its target.
pub(crate) fn awaits_confirmation(job: &JobRecord) -> bool {
    matches!(job.state, JobState::Live { phase: Phase::AwaitingConfirmation })
}

/// How often the screen looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Whoever has let go of a folder's lock may have its file open for a moment longer.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);
