//! Takes tickets, leases shards and works on them. Stateless: whatever it knows can be read again from the
//! checkpoint, the report store and the objects.

mod books;
mod clean;
mod deadline;
mod held;
mod intents;
mod keyspace;
mod listed;
mod low_water;
mod meter;
mod object;
mod pass;
mod permits;
mod prepare;
mod presence;
mod quarantine;
mod slice;
mod source;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{HeldLease, LeaseRefusal, Ledger, LedgerError};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};
use keyrotate_queue::{Delivery, Queue, QueueError};
use keyrotate_report::ReportRoot;
use keyrotate_rewrap::{Halt, Rewrapper};
use keyrotate_store::Store;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use clean::{Unended, unended};
pub use meter::{Meter, Seen};
pub use pass::SliceError;
pub use permits::Permits;
pub use slice::SliceLimits;

/// What a worker reaches.
#[derive(Clone, Debug)]
pub struct Site {
    /// The store whose objects are rotated.
    pub store: Arc<dyn Store>,
    /// The KES, where one is configured; else the store's own KMS alone proves the key.
    pub kms: Option<Arc<dyn Kms>>,
    /// Where parts and intents go.
    pub reports: Arc<dyn ReportRoot>,
    /// The checkpoint.
    pub ledger: Ledger,
    /// Where tickets come from.
    pub queue: Arc<dyn Queue>,
}

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its name in leases.
    pub owner: String,
    /// Names of the stores that it serves: it gets only their tickets.
    pub stores: Vec<String>,
    /// Slices at a time.
    pub slots: usize,
    /// Store calls at a time, over all slots; several workers of one process share them.
    pub permits: Permits,
    /// Windows, slices and leases.
    pub limits: SliceLimits,
    /// Bytes of the first of a probe's two parts: the least that the store takes (5 MiB on all known ones).
    pub probe_part: usize,
    /// The default key that the environment names (`MINIO_KMS_KES_KEY_NAME`), to be compared with the store's.
    pub default_key: Option<String>,
    /// Whether a target key that the file does not name is taken without asking.
    pub confirmed: bool,
}

/// How long a worker waits before it asks a checkpoint again that did not answer.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// One for each job, and for each nonce of it.
type Rewrappers = HashMap<JobId, (Nonce, Arc<Rewrapper>)>;

/// Takes tickets and works.
#[derive(Clone, Debug)]
pub struct Worker {
    site: Site,
    config: Arc<WorkerConfig>,
    env: Env,
    permits: Permits,
    meter: Arc<Meter>,
    rewrappers: Arc<Mutex<Rewrappers>>,
    sang: Arc<Mutex<HashMap<JobId, Instant>>>,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(site: Site, config: WorkerConfig, env: Env) -> Self {
        let permits = config.permits.clone();
        let (rewrappers, sang) = Default::default();
        Self { site, config: Arc::new(config), env, permits, meter: Arc::default(), rewrappers, sang }
    }

    /// What it has done so far, for a progress bar.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Works until `stop`: then it takes no more tickets, finishes what is in flight, commits, and comes back.
    ///
    /// # Errors
    /// When the queue can't be consumed from.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), QueueError> {
        let mut consumer = self.site.queue.consume(self.config.slots, &self.config.stores).await?;
        let slots = Arc::new(Semaphore::new(self.config.slots));
        let mut slices = JoinSet::new();
        loop {
            let slot = Arc::clone(&slots).acquire_owned();
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(joined) = slices.join_next() => { settle(joined); continue }
                next = async { let slot = slot.await; consumer.next().await.map(|next| (next, slot)) } => next?,
            };
            let (Some(delivery), slot) = delivery else { break };
            let (worker, stop) = (self.clone(), stop.clone());
            slices.spawn(async move {
                worker.serve(delivery, stop).await;
                drop(slot);
            });
        }
        while let Some(joined) = slices.join_next().await {
            settle(joined);
        }
        Ok(())
    }

    /// One ticket, from the lease to the acknowledgement.
    async fn serve(&self, delivery: Delivery, stop: CancellationToken) {
        let ticket = delivery.ticket().clone();
        if ticket.version > TICKET_VERSION {
            let reason = format!("ticket version {}, this worker knows {TICKET_VERSION}", ticket.version);
            acknowledge(delivery.reject(&reason).await);
            return;
        }
        match self.lease(&ticket, delivery.redelivered(), &stop).await {
            Ok(lease) => {
                tracing::debug!(shard = %lease.shard(), epoch = %lease.epoch(), "leased");
                self.work_on(lease, stop).await;
                acknowledge(delivery.ack().await);
            }
            Err(LeaseRefusal::Failed(LedgerError::Lost(record))) => {
                acknowledge(delivery.reject(&format!("the checkpoint has no record `{record}`")).await);
            }
            Err(LeaseRefusal::Failed(LedgerError::Backend(error))) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a ticket goes back");
                acknowledge(delivery.give_back().await);
            }
            Err(LeaseRefusal::Foreign { ticket, job }) => {
                let reason = format!("spec hash {ticket}, the job's is {job}");
                acknowledge(delivery.reject(&reason).await);
            }
            Err(refusal) => {
                tracing::debug!(shard = %ticket.shard, %refusal, "no lease");
                acknowledge(delivery.ack().await);
            }
        }
    }

    /// Leases a ticket's shard. While the checkpoint does not answer the ticket is kept: whoever else got it would have
    /// to wait as well.
    async fn lease(
        &self,
        ticket: &Ticket,
        redelivered: bool,
        stop: &CancellationToken,
    ) -> Result<HeldLease, LeaseRefusal> {
        let (owner, ttl) = (&self.config.owner, self.config.limits.lease_time);
        loop {
            match self.site.ledger.lease(ticket, owner, ttl, redelivered).await {
                Err(LeaseRefusal::Failed(LedgerError::Backend(error))) if !stop.is_cancelled() => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the checkpoint does not answer");
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(ASK_AGAIN) => {}
                    }
                }
                other => return other,
            }
        }
    }

    /// The rules and gates of a job, one for all its slices: so that "the first twenty one at a time" means the
    /// job's, not each slice's, and that what stops one slice stops the writes of all. A job that was resumed after it
    /// failed has a new nonce, and begins anew with both.
    fn rewrapper(&self, job: &JobRecord) -> Option<Arc<Rewrapper>> {
        let frozen = job.frozen.clone()?;
        let mut known = self.rewrappers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = known.get(&job.id).filter(|(nonce, _)| *nonce == job.nonce) {
            return Some(Arc::clone(made));
        }
        let rules = keyrotate_rewrap::Rules {
            spec: job.spec.clone(),
            started: job.started,
            frozen,
            own_keys: keyrotate_rewrap::probe::names(&self.probe_settings(job)),
        };
        let made = Arc::new(Rewrapper::new(Arc::clone(&self.site.store), rules, self.env.clone()));
        known.insert(job.id.clone(), (job.nonce.clone(), Arc::clone(&made)));
        Some(made)
    }

    /// No write of the job begins in this process any more.
    fn stop_writes(&self, job: &JobId, halt: &Halt) {
        let known = self.rewrappers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rewrapper)) = known.get(job) {
            rewrapper.stop_writes(halt);
        }
    }

    async fn work_on(&self, lease: HeldLease, stop: CancellationToken) {
        use keyrotate_proto::state::PassKind;
        let shard = lease.shard().clone();
        let done = match lease.kind() {
            PassKind::Prepare => self.prepare(lease).await,
            PassKind::Walk | PassKind::Retry | PassKind::Verify => self.slice(lease, stop).await,
            PassKind::Clean => self.clean(lease).await,
        };
        if let Err(error) = done {
            tracing::warn!(%shard, error = &error as &dyn std::error::Error, "a slice ended without its last word");
        }
    }
}

/// An acknowledgement that does not arrive means a duplicate ticket, which is harmless.
fn acknowledge(answer: Result<(), QueueError>) {
    if let Err(error) = answer {
        tracing::debug!(error = &error as &dyn std::error::Error, "a ticket could not be acknowledged");
    }
}

/// A slice that panicked is a bug: it goes on here, so that nobody takes its silence for success.
fn settle(joined: Result<(), tokio::task::JoinError>) {
    if let Err(error) = joined
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
