//! What there is one of in a fleet: it cuts the key space into shards, hands out tickets, and takes a job from one
//! state to the next until its report is written. It never touches an object.

pub mod api;
mod at_work;
mod audit;
mod dispatch;
mod findings;
mod finish;
mod gauges;
mod history;
mod lead;
mod lifecycle;
pub mod notify;
mod rebuild;
mod reseal;
pub mod sealed;
mod settle;
mod share;
mod totals;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keyrotate_checkpoint::record::{JobRecord, ShardRecord, WorkerRecord};
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::id::{Epoch, JobId};
use keyrotate_proto::state::JobState;
use keyrotate_queue::{Queue, QueueError};
use keyrotate_report::{ReportError, ReportRoot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use at_work::AtWork;
pub use findings::findings;
use notify::Notifier;
pub use totals::{Totals, totals};

/// How a coordinator works.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// Tickets that wait in the queue at most, over all jobs: twice the slots of the live workers.
    pub tickets_out: TicketsOut,
    /// Shards that a walk is cut into, where the key space gives that many.
    pub shards: usize,
    /// A ticket whose shard is not leased by then is taken for lost.
    pub ticket_lost_after: Duration,
    /// How often the world is looked at where no bell rings.
    pub tick: Duration,
    /// How often a paused job is probed.
    pub probe_every: Duration,
    /// The one job to work on, cancelled ones apart, which are always ended; `None`: all. A process that was started for
    /// one job must not go on with another that was interrupted.
    pub only: Option<JobId>,
    /// How long the `clean` pass of a cancelled or failing job may take; what is left then is listed.
    pub clean_limit: Duration,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            tickets_out: TicketsOut::AtMost(16),
            shards: 64,
            ticket_lost_after: Duration::from_secs(60),
            tick: Duration::from_millis(500),
            probe_every: Duration::from_secs(60),
            only: None,
            clean_limit: Duration::from_secs(60),
        }
    }
}

/// How many tickets may wait to be leased, over all jobs of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketsOut {
    /// So many.
    AtMost(usize),
    /// Twice the slots of the workers that live and serve the store. A job whose store no worker serves is paused until
    /// one does.
    TwiceTheSlots,
}

/// A step of the coordinator could not be done. It is tried again at the next tick.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The checkpoint.
    #[error("the checkpoint refused or could not be reached")]
    Ledger(#[from] LedgerError),
    /// The queue.
    #[error("a ticket could not be published")]
    Queue(#[from] QueueError),
    /// The report store.
    #[error("the report could not be read or written")]
    Report(#[from] ReportError),
    /// Somebody wants to hear of a job's end, and could not be told.
    #[error("the end of the job could not be told")]
    Notify(#[from] notify::NotifyError),
    /// The answers of `prepare` are not as they should be.
    #[error("the answers about the key space can't be read: {0}")]
    KeySpace(String),
}

type Result<T> = std::result::Result<T, CoordinatorError>;

/// Between a ring and the look at the world.
const MOMENT: Duration = Duration::from_millis(10);

/// What every step of a job stands on. Cheap to clone: the steps of each job are a task of their own.
#[derive(Clone, Debug)]
pub(crate) struct Crew {
    ledger: Ledger,
    reports: Arc<dyn ReportRoot>,
    config: Arc<CoordinatorConfig>,
    workers: Arc<Vec<WorkerRecord>>,
    notifier: Option<Arc<Notifier>>,
    /// The epoch of the lead that all this happens under; `None` on one machine, where nobody else could lead.
    led: Option<Epoch>,
}

/// A job, the shards of its open passes as they were read, and what kept it from going on.
#[derive(Debug)]
pub(crate) struct Looked {
    job: JobRecord,
    shards: Vec<ShardRecord>,
    error: Option<CoordinatorError>,
}

/// Plans, dispatches and finishes.
#[derive(Debug)]
pub struct Coordinator {
    crew: Crew,
    queue: Arc<dyn Queue>,
    at_work: AtWork,
    probed: HashMap<JobId, Instant>,
    swept: Option<Instant>,
    gauges: gauges::Gauges,
}

impl Coordinator {
    /// A coordinator over a checkpoint, a queue and a report store.
    #[must_use]
    pub fn new(ledger: Ledger, queue: Arc<dyn Queue>, reports: Arc<dyn ReportRoot>, config: CoordinatorConfig) -> Self {
        let (workers, config) = (Arc::default(), Arc::new(config));
        let crew = Crew { ledger, reports, config, workers, notifier: None, led: None };
        Self {
            crew,
            queue,
            at_work: AtWork::default(),
            probed: HashMap::new(),
            swept: None,
            gauges: gauges::Gauges::default(),
        }
    }

    /// Tells of the ends of jobs, too; without it that is left to another one.
    #[must_use]
    pub fn with_notifier(mut self, notifier: Notifier) -> Self {
        self.crew.notifier = Some(Arc::new(notifier));
        self
    }

    /// Works until it is told to stop. What goes wrong is logged and tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        self.run_until(&stop).await;
    }

    pub(crate) async fn run_until(&mut self, stop: &CancellationToken) {
        let mut bell = self.crew.ledger.bell();
        while !stop.is_cancelled() {
            let began = Instant::now();
            if let Err(error) = self.look().await {
                if lead::is_lost(&error) {
                    return;
                }
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a step of the coordinator failed; it is tried again"
                );
                tokio::time::sleep(self.crew.config.tick * 10).await;
            }
            // What rings, rings often: a moment later is soon enough, and one look answers many. A look at many shards
            // takes its time, and shall leave others theirs.
            let moment = MOMENT.max(began.elapsed());
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.at_work.one_ends() => {}
                () = async { bell.rung().await; tokio::time::sleep(moment).await } => {}
                () = tokio::time::sleep(self.crew.config.tick) => {}
            }
        }
    }

    /// Looks at every live job that it may work on once: takes it as far as it goes, then hands out tickets. What takes
    /// long, such as the report of a large job, goes on by itself meanwhile.
    ///
    /// # Errors
    /// When the checkpoint, the queue or the report store fails.
    pub async fn tick(&mut self) -> Result<()> {
        self.look().await?.into_iter().next().map_or(Ok(()), Err)
    }

    /// Gives what kept single jobs from going on, which keeps no other from it.
    async fn look(&mut self) -> Result<Vec<CoordinatorError>> {
        if self.crew.config.tickets_out == TicketsOut::TwiceTheSlots {
            self.crew.workers = Arc::new(self.crew.ledger.workers().await?);
        }
        let only = self.crew.config.only.clone();
        let ours = |job: &JobRecord| {
            let wanted = only.as_ref().is_none_or(|only| *only == job.id);
            wanted || job.state == JobState::Cancelling
        };
        self.at_work.note_ended();
        let mut jobs = self.crew.ledger.live_jobs().await?;
        jobs.retain(ours);
        jobs.extend(self.crew.ledger.settling_jobs().await?);
        self.probed.retain(|id, _| jobs.iter().any(|job| job.id == *id));
        let looked = self.at_work.look(&self.crew, jobs.clone()).await?;
        self.gauges.begin(&jobs, &self.crew.workers);
        self.dispatch(&looked).await?;
        self.gauges.tell_of_jobs(&jobs, &looked);
        self.sweep().await;
        Ok(looked.into_iter().filter_map(|looked| looked.error).collect())
    }
}

impl Crew {
    /// A job as far as it goes, where it may go on at all; then how it stands.
    pub(crate) async fn take_on(&self, mut job: JobRecord, goes_on: bool) -> Looked {
        let mut shards = Vec::new();
        loop {
            let step = async {
                shards = self.open_shards(&job).await?;
                if goes_on { self.advance(&job, &shards).await } else { Ok(None) }
            };
            match step.await {
                Ok(Some(next)) => job = next,
                Ok(None) => return Looked { job, shards, error: None },
                Err(error) => return Looked { job, shards, error: Some(error) },
            }
        }
    }

    /// The shards of all open passes.
    async fn open_shards(&self, job: &JobRecord) -> Result<Vec<ShardRecord>> {
        let mut shards = Vec::new();
        for pass in job.passes.iter().filter(|pass| pass.open && !job.state.is_ended()) {
            shards.extend(self.ledger.shards(&job.id, pass.id).await?);
        }
        Ok(shards)
    }
}
