//! A job on this machine: one checkpoint file, a queue in this process, a coordinator and a worker beside each
//! other. The same code as the fleet's, without sockets between.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_checkpoint::{FileBackend, Ledger, LedgerError};
use keyrotate_coordinator::{Coordinator, CoordinatorConfig, Totals, totals};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::id::JobId;
use keyrotate_proto::say::chain;
use keyrotate_proto::state::{JobState, Phase};
use keyrotate_queue::MemoryQueue;
use keyrotate_report::root::FolderRoot;
use keyrotate_store::Store;
use keyrotate_worker::{Meter, Site, SliceLimits, Worker, WorkerConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::state::BucketFolder;

/// Slices at a time. Listings are what a slot does one after the other, so that many are needed to read fast.
const SLOTS: usize = 8;

/// How a local job works.
#[derive(Clone, Debug)]
pub(crate) struct LocalConfig {
    /// Store calls at a time.
    pub(crate) permits: usize,
    /// Objects per second at most.
    pub(crate) rate: Option<f64>,
    /// Whether the target is taken without asking.
    pub(crate) confirmed: bool,
    /// Key prefix of probe objects.
    pub(crate) probe_prefix: String,
    /// Another bucket for probe objects.
    pub(crate) probe_bucket: Option<String>,
    /// The environment's name of the default key.
    pub(crate) default_key: Option<String>,
}

/// Coordinator and worker at work in this process.
pub(crate) struct Local {
    ledger: Ledger,
    meter: Arc<Meter>,
    job: JobId,
    stop_worker: CancellationToken,
    stop_coordinator: CancellationToken,
    worker: JoinHandle<()>,
    coordinator: JoinHandle<()>,
}

/// Opens the checkpoint of a bucket's folder, whose lock the caller holds.
pub(crate) async fn open_ledger(folder: &BucketFolder, env: &Env) -> Result<Ledger, Failure> {
    let path = folder.checkpoint();
    let opened = FileBackend::open(&path, env.clone()).await;
    let mend = "if another process holds it, wait; if it is damaged, move it away: a new start finds what is done as `current`";
    let backend =
        opened.map_err(|e| Failure::broke(format!("can't open the checkpoint `{}`", path.display()), &e, mend))?;
    Ok(Ledger::new(Arc::new(backend), env.clone()))
}

impl Local {
    /// Sets a coordinator and a worker to work on a job; on others only to end them where they are cancelled.
    pub(crate) fn start(
        ledger: Ledger,
        job: JobId,
        store: Arc<dyn Store>,
        kms: Option<Arc<dyn Kms>>,
        jobs_folder: PathBuf,
        config: LocalConfig,
        env: &Env,
    ) -> Self {
        let queue = Arc::new(MemoryQueue::new(4 * SLOTS));
        let reports = Arc::new(FolderRoot::new(jobs_folder));
        let site = Site { store, kms, reports: reports.clone(), ledger: ledger.clone(), queue: queue.clone() };
        let worker_config = WorkerConfig {
            owner: format!("process {}", std::process::id()),
            slots: SLOTS,
            permits: config.permits,
            rate: config.rate,
            limits: SliceLimits::default(),
            probe_prefix: config.probe_prefix,
            probe_bucket: config.probe_bucket,
            probe_part: 5 << 20,
            default_key: config.default_key,
            confirmed: config.confirmed,
        };
        let worker = Worker::new(site, worker_config, env.clone());
        let meter = worker.meter();
        let coordinator_config = CoordinatorConfig { tickets_out: 2 * SLOTS, only: Some(job.clone()), ..CoordinatorConfig::default() };
        let coordinator = Coordinator::new(ledger.clone(), queue, reports, coordinator_config);
        let (stop_worker, stop_coordinator) = (CancellationToken::new(), CancellationToken::new());
        let stop = stop_worker.clone();
        let worker = tokio::spawn(async move {
            if let Err(error) = worker.run(stop).await {
                tracing::error!(error = &error as &dyn std::error::Error, "the worker stopped");
            }
        });
        let coordinator = tokio::spawn(coordinator.run(stop_coordinator.clone()));
        Self { ledger, meter, job, stop_worker, stop_coordinator, worker, coordinator }
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

    /// Confirms what `prepare` found.
    pub(crate) async fn confirm(&self) -> Result<(), LedgerError> {
        self.ledger.update_job(&self.job, transition::confirm).await.map(drop)
    }

    /// Cancels a job of this checkpoint.
    pub(crate) async fn cancel(&self, job: &JobId) -> Result<(), LedgerError> {
        self.ledger.update_job(job, transition::cancel).await.map(drop)
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

/// Takes a job that nobody works on to `cancelled`. Its open uploads are named in the report of its `clean` pass when
/// its store can be reached; here nothing is reached, so it is only marked and left to the next start.
pub(crate) async fn cancel_dead(ledger: &Ledger, job: &JobId) -> Result<(), Failure> {
    let broke =
        |e: LedgerError| Failure::refused(chain(&e), "`keyrotate cancel` takes the id of a job that has not ended");
    let record = ledger.update_job(job, transition::cancel).await.map_err(broke)?;
    if record.state == JobState::Cancelling {
        let counts = totals(ledger, &record).await.map_err(broke)?.counts;
        let ended = ledger.now().await.map_err(broke)?;
        let result = keyrotate_checkpoint::record::JobResult { counts, ended, report: None };
        ledger.end_job(job, &result).await.map_err(broke)?;
    }
    Ok(())
}

/// Whether a job waits for a person to confirm its target.
pub(crate) fn awaits_confirmation(job: &JobRecord) -> bool {
    matches!(job.state, JobState::Live { phase: Phase::AwaitingConfirmation })
}

/// How often the screen looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);
