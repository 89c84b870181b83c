//! Where a worker works on the shards of one store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use keyrotate_checkpoint::HeldLease;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_env::Env;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::state::{PassKind, PauseReason};
use keyrotate_rewrap::{Halt, Rewrapper, Rules, probe};
use keyrotate_store::Store;
use keyrotate_telemetry::{Instrument as _, spans};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bucket_lease::Known;
use crate::governor::Governor;
use crate::pass::SliceError;
use crate::{Meter, Permits, Served, Site, StoreLimits, WorkerConfig, trace};

/// One for each job, and for each nonce of it.
type Rewrappers = HashMap<JobId, (Nonce, Arc<Rewrapper>)>;

/// One store of a worker, and what is known of the jobs on it.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) store_limits: StoreLimits,
    pub(crate) permits: Permits,
    pub(crate) governor: Governor,
    pub(crate) site: Site,
    pub(crate) config: Arc<WorkerConfig>,
    pub(crate) env: Env,
    pub(crate) meter: Arc<Meter>,
    /// When each job's canary was last opened.
    pub(crate) sang: Mutex<HashMap<JobId, Instant>>,
    /// Until when each job may write by the bucket's lease.
    pub(crate) leases: Mutex<Known>,
    /// Whoever renews one holds this.
    pub(crate) renewing: tokio::sync::Mutex<()>,
    rewrappers: Mutex<Rewrappers>,
}

impl Desk {
    /// A desk at which nothing has been worked on.
    pub(crate) fn new(served: &Served, site: Site, config: Arc<WorkerConfig>, env: Env, meter: Arc<Meter>) -> Self {
        let (sang, leases, renewing, rewrappers) = Default::default();
        let (store, pressure) = (Arc::clone(&served.store), Arc::clone(&served.pressure));
        let governor = Governor::new(config.permits.process(), config.permits.is_auto(), pressure);
        let permits = config.permits.of_store(governor.pool());
        let store_limits = served.limits;
        Self { store, store_limits, permits, governor, site, config, env, meter, sang, leases, renewing, rewrappers }
    }

    /// Works on a shard until its lease is to be given back, and gives it back.
    pub(crate) async fn work_on(&self, lease: HeldLease, stop: CancellationToken) {
        let shard = lease.shard().clone();
        let done = match lease.kind() {
            _ if self.store.identity().0 != lease.job().store => self.is_elsewhere(lease).await,
            PassKind::Prepare => self.prepare(lease, &stop).instrument(spans::part_of_slice("prepare")).await,
            PassKind::Walk | PassKind::Retry | PassKind::Verify => self.slice(lease, stop).await,
            PassKind::Clean => self.clean(lease, &stop).instrument(spans::part_of_slice("clean")).await,
        };
        if let Err(error) = done {
            trace::lost(&error);
            tracing::warn!(%shard, error = &error as &dyn std::error::Error, "a slice ended without its last word");
        }
    }

    /// The worker's configuration has another store under the name of the job's: nothing there may be touched. The job is
    /// paused, and told why; a probe by a worker that has the right one resumes it.
    async fn is_elsewhere(&self, lease: HeldLease) -> Result<(), SliceError> {
        let job = lease.job();
        let (name, theirs, ours) = (&job.store_name, &job.store, self.store.identity());
        let detail = format!(
            "the job's store `{name}` is {theirs}; the worker {} has {ours} under that name",
            self.config.owner
        );
        self.halt(&job.id, &Halt::Pause { reason: PauseReason::StoreDown, detail }).await?;
        Ok(self.site.ledger.give_back(lease).await?)
    }

    /// The rules and gates of a job, one for all its slices: so that "the first twenty one at a time" means this
    /// process's, not each slice's, and that what stops one slice stops the writes of all. A job that was resumed after
    /// it failed has a new nonce, and begins anew with both.
    pub(crate) fn rewrapper(&self, job: &JobRecord) -> Option<Arc<Rewrapper>> {
        let frozen = job.frozen.clone()?;
        let mut known = self.rewrappers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = known.get(&job.id).filter(|(nonce, _)| *nonce == job.nonce) {
            return Some(Arc::clone(made));
        }
        let rules = Rules {
            spec: job.spec.clone(),
            started: job.started,
            frozen,
            ours: probe::Ours::probes(&self.probe_settings(job)),
        };
        let made = Arc::new(Rewrapper::new(Arc::clone(&self.store), rules, self.env.clone()));
        known.insert(job.id.clone(), (job.nonce.clone(), Arc::clone(&made)));
        Some(made)
    }

    /// No write of the job begins in this process any more.
    pub(crate) fn stop_writes(&self, job: &JobId, halt: &Halt) {
        let known = self.rewrappers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rewrapper)) = known.get(job) {
            rewrapper.stop_writes(halt);
        }
    }
}
