//! What there is one of in a fleet: it cuts the key space into shards, hands out tickets, and takes a job from one
//! state to the next until its report is written. It never touches an object.

pub mod api;
mod dispatch;
mod findings;
mod finish;
mod gauges;
mod lead;
mod lifecycle;
pub mod sealed;
mod totals;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keyrotate_checkpoint::record::{JobRecord, WorkerRecord};
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::id::JobId;
use keyrotate_proto::state::JobState;
use keyrotate_queue::{Queue, QueueError};
use keyrotate_report::{ReportError, ReportRoot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use findings::findings;
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
    /// The answers of `prepare` are not as they should be.
    #[error("the answers about the key space can't be read: {0}")]
    KeySpace(String),
}

type Result<T> = std::result::Result<T, CoordinatorError>;

/// Between a ring and the look at the world.
const MOMENT: Duration = Duration::from_millis(10);

/// Plans, dispatches and finishes.
#[derive(Debug)]
pub struct Coordinator {
    ledger: Ledger,
    queue: Arc<dyn Queue>,
    reports: Arc<dyn ReportRoot>,
    config: CoordinatorConfig,
    probed: HashMap<JobId, Instant>,
    workers: Vec<WorkerRecord>,
    gauges: gauges::Gauges,
}

impl Coordinator {
    /// A coordinator over a checkpoint, a queue and a report store.
    #[must_use]
    pub fn new(ledger: Ledger, queue: Arc<dyn Queue>, reports: Arc<dyn ReportRoot>, config: CoordinatorConfig) -> Self {
        let (probed, workers, gauges) = Default::default();
        Self { ledger, queue, reports, config, probed, workers, gauges }
    }

    /// Works until it is told to stop. What goes wrong is logged and tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        self.run_until(&stop).await;
    }

    pub(crate) async fn run_until(&mut self, stop: &CancellationToken) {
        let mut bell = self.ledger.bell();
        while !stop.is_cancelled() {
            if let Err(error) = self.tick().await {
                if lead::is_lost(&error) {
                    return;
                }
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a step of the coordinator failed; it is tried again"
                );
                tokio::time::sleep(self.config.tick * 10).await;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.config.tick) => {}
                // What rings, rings often: a moment later is soon enough, and one look answers many.
                () = async { bell.rung().await; tokio::time::sleep(MOMENT).await } => {}
            }
        }
    }

    /// Looks at every live job that it may work on once: takes it as far as it goes, then hands out tickets.
    ///
    /// # Errors
    /// When the checkpoint, the queue or the report store fails.
    pub async fn tick(&mut self) -> Result<()> {
        let (mut live, mut failed) = (Vec::new(), None);
        let ours = |job: &JobRecord| {
            let wanted = self.config.only.as_ref().is_none_or(|only| *only == job.id);
            wanted || job.state == JobState::Cancelling
        };
        if self.config.tickets_out == TicketsOut::TwiceTheSlots {
            self.workers = self.ledger.workers().await?;
        }
        let jobs: Vec<_> = self.ledger.live_jobs().await?.into_iter().filter(ours).collect();
        for job in jobs {
            match self.take_on(job).await {
                Ok(job) => live.push(job),
                Err((_, error)) if lead::is_lost(&error) => return Err(error),
                Err((job, error)) => {
                    live.push(job);
                    failed = Some(error);
                }
            }
        }
        self.gauges.begin(&live, &self.workers);
        self.dispatch(&live).await?;
        self.tell_of_jobs(&live).await;
        failed.map_or(Ok(()), Err)
    }

    /// As far as it goes. What goes wrong with one job keeps no other from going on.
    async fn take_on(&mut self, mut job: JobRecord) -> std::result::Result<JobRecord, (JobRecord, CoordinatorError)> {
        loop {
            match self.advance(&job).await {
                Ok(Some(next)) => job = next,
                Ok(None) => return Ok(job),
                Err(error) => return Err((job, error)),
            }
        }
    }
}
