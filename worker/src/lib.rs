//! Takes tickets, leases shards and works on them. Stateless: whatever it knows can be read again from the
//! checkpoint, the report store and the objects.

mod auto;
mod books;
mod bucket_lease;
pub mod census;
mod clean;
mod desk;
mod governor;
mod growth;
mod held;
mod intents;
mod keyspace;
mod listed;
mod low_water;
pub mod manifest;
mod meter;
mod object;
mod pass;
mod permits;
mod prepare;
mod presence;
mod quarantine;
mod share;
mod slice;
mod source;
mod split;
mod trace;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use keyrotate_checkpoint::{HeldLease, LeaseRefusal, Ledger, LedgerError};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::rates::Rates;
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};
use keyrotate_queue::{DEFAULT_STORE, Delivery, Queue, QueueError};
use keyrotate_report::ReportRoot;
use keyrotate_store::retry::{Pressure, Retrying};
use keyrotate_store::{Store, for_job};
use keyrotate_telemetry::Instrument as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;

pub use meter::{Meter, Seen};
pub use pass::SliceError;
pub use permits::{Permit, Permits};
pub use slice::SliceLimits;

/// What a worker reaches.
#[derive(Clone, Debug)]
pub struct Site {
    /// The stores whose objects are rotated, by the fleet's names of them: it gets only their tickets.
    pub stores: BTreeMap<String, Served>,
    /// The KES, where one is configured; else the store's own KMS alone proves the key.
    pub kms: Option<Arc<dyn Kms>>,
    /// Where parts and intents go.
    pub reports: Arc<dyn ReportRoot>,
    /// The checkpoint.
    pub ledger: Ledger,
    /// Where tickets come from.
    pub queue: Arc<dyn Queue>,
}

impl Site {
    /// One store, where no configuration gives it a name.
    #[must_use]
    pub fn one_store(store: impl Into<Served>) -> BTreeMap<String, Served> {
        BTreeMap::from([(DEFAULT_STORE.to_owned(), store.into())])
    }
}

/// A store, and what becomes of the calls to it: where it asks for less it gets less.
#[derive(Clone, Debug)]
pub struct Served {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What becomes of the calls.
    pub pressure: Arc<Pressure>,
    /// What all jobs and workers together may take of it.
    pub limits: StoreLimits,
}

/// What all jobs and workers together may take of a store; the same for all its workers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StoreLimits {
    /// Per second.
    pub rates: Rates,
    /// Calls at a time, but one for each slot.
    pub permits: Option<u32>,
}

impl<S: Store + 'static> From<Retrying<S>> for Served {
    fn from(store: Retrying<S>) -> Self {
        Self { pressure: store.pressure(), store: Arc::new(store), limits: StoreLimits::default() }
    }
}

/// One of which nothing is known.
impl<S: Store + 'static> From<Arc<S>> for Served {
    fn from(store: Arc<S>) -> Self {
        Self { store, pressure: Arc::default(), limits: StoreLimits::default() }
    }
}

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its name in leases.
    pub owner: String,
    /// Slices at a time, over all stores.
    pub slots: usize,
    /// Store calls at a time, over all slots.
    pub permits: Permits,
    /// Windows, slices and leases.
    pub limits: SliceLimits,
    /// Bytes of the first of a probe's two parts: the least that the store takes (5 MiB on all known ones).
    pub probe_part: usize,
    /// The default key that the environment names (`MINIO_KMS_KES_KEY_NAME`), to be compared with the store's.
    pub default_key: Option<String>,
    /// Whether a target key that the file does not name is taken without asking.
    pub confirmed: bool,
    /// Whether manifests are read that lie on this machine: where it is the only worker.
    pub local_files: bool,
}

/// How long a worker waits before it asks a checkpoint again that did not answer.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Takes tickets and works.
#[derive(Clone, Debug)]
pub struct Worker {
    site: Site,
    config: Arc<WorkerConfig>,
    meter: Arc<Meter>,
    desks: Arc<BTreeMap<String, Desk>>,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(site: Site, config: WorkerConfig, env: Env) -> Self {
        let (config, meter) = (Arc::new(config), Arc::<Meter>::default());
        let desk = |(name, served): (&String, &Served)| {
            let (site, config, meter) = (site.clone(), Arc::clone(&config), Arc::clone(&meter));
            (name.clone(), Desk::new(served, site, config, env.clone(), meter))
        };
        let desks = Arc::new(site.stores.iter().map(desk).collect());
        Self { site, config, meter, desks }
    }

    /// What it has done so far, for a progress bar.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// How many calls each store gets at a time, at present.
    #[must_use]
    pub fn calls_at_a_time(&self) -> BTreeMap<String, usize> {
        self.desks.iter().map(|(name, desk)| (name.clone(), desk.governor.level())).collect()
    }

    /// Works until `stop`: then it takes no more tickets, finishes what is in flight, commits, and comes back.
    ///
    /// # Errors
    /// When the queue can't be consumed from.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), QueueError> {
        let stores: Vec<_> = self.desks.keys().cloned().collect();
        let mut consumer = self.site.queue.consume(self.config.slots, &stores).await?;
        let slots = Arc::new(Semaphore::new(self.config.slots));
        let mut slices = JoinSet::new();
        // It works for as long as this does.
        let mut governing = JoinSet::new();
        governing.spawn(self.clone().govern());
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
            let span = trace::slice(&delivery);
            let serve = async move {
                worker.serve(delivery, stop).await;
                drop(slot);
            };
            slices.spawn(serve.instrument(span));
        }
        for delivery in consumer.close().await {
            let (worker, stop, span) = (self.clone(), stop.clone(), trace::slice(&delivery));
            slices.spawn(async move { worker.serve(delivery, stop).await }.instrument(span));
        }
        while let Some(joined) = slices.join_next().await {
            settle(joined);
        }
        Ok(())
    }

    /// Sees to it that each store gets as many calls at a time as it can do with.
    async fn govern(self) {
        let mut seconds = tokio::time::interval(governor::EVERY);
        loop {
            seconds.tick().await;
            self.desks.values().for_each(|desk| desk.governor.look());
        }
    }

    /// One ticket, from the lease to the acknowledgement.
    async fn serve(&self, delivery: Delivery, stop: CancellationToken) {
        let ticket = delivery.ticket().clone();
        if ticket.version > TICKET_VERSION {
            let reason = format!("ticket version {}, this worker knows {TICKET_VERSION}", ticket.version);
            acknowledge(delivery.reject(&reason).await);
            return;
        }
        let leased = self.lease(&ticket, delivery.redelivered(), &stop).await;
        let _counted = trace::leased(&ticket, &leased);
        match leased {
            Ok(lease) => {
                tracing::debug!(shard = %lease.shard(), epoch = %lease.epoch(), "leased");
                let Some(desk) = self.desks.get(&lease.job().store_name) else {
                    let reason =
                        format!("its job is on the store `{}`, which is not served here", lease.job().store_name);
                    forget(self.site.ledger.give_back(lease).await);
                    acknowledge(delivery.reject(&reason).await);
                    return;
                };
                if stop.is_cancelled() {
                    // It came with the signal to stop: a fresh ticket goes out at once, to another worker.
                    forget(self.site.ledger.give_back(lease).await);
                } else {
                    let job = lease.job().id.to_string();
                    for_job(job, desk.work_on(lease, stop)).await;
                }
                acknowledge(delivery.ack().await);
            }
            Err(LeaseRefusal::Failed(LedgerError::Lost(record))) => {
                acknowledge(delivery.reject(&format!("the checkpoint has no record `{record}`")).await);
            }
            Err(LeaseRefusal::Failed(LedgerError::Backend(error))) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a ticket goes back");
                acknowledge(delivery.give_back().await);
            }
            Err(LeaseRefusal::Failed(error @ (LedgerError::Corrupt { .. } | LedgerError::Newer { .. }))) => {
                let told = "a job is left to others: a newer keyrotate is at work; upgrade this worker";
                tracing::error!(shard = %ticket.shard, error = &error as &dyn std::error::Error, "{told}");
                acknowledge(delivery.ack().await);
            }
            Err(refusal @ (LeaseRefusal::Foreign { .. } | LeaseRefusal::Misread { .. } | LeaseRefusal::OutOfScope)) => {
                tracing::error!(shard = %ticket.shard, %refusal, "a ticket is refused");
                acknowledge(delivery.reject(&refusal.to_string()).await);
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
                        biased;
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(ASK_AGAIN) => {}
                    }
                }
                other => return other,
            }
        }
    }
}

/// An acknowledgement that does not arrive means a duplicate ticket, which is harmless.
fn acknowledge(answer: Result<(), QueueError>) {
    if let Err(error) = answer {
        tracing::debug!(error = &error as &dyn std::error::Error, "a ticket could not be acknowledged");
    }
}

/// A lease that could not be given back runs out.
fn forget(answer: Result<(), LedgerError>) {
    if let Err(error) = answer {
        tracing::debug!(error = &error as &dyn std::error::Error, "a lease could not be given back");
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
