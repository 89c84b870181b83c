//! What a job adds to a bucket with versions: how much that will be is looked at before it begins, and no slice adds more
//! than the job's record grants it.
//!
//! A slice asks for a share of what is left of the bound and writes from it without asking again; what it has not used it
//! gives back. So all slices together never add more than was confirmed, whatever happens to them.

use std::sync::Arc;

use keyrotate_checkpoint::record::{Growth, JobRecord};
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_checkpoint::{Ledger, LedgerError, Refusal};
use keyrotate_manifest::Sorted;
use keyrotate_plan::KeySpace;
use keyrotate_proto::capability::Frozen;
use keyrotate_proto::id::JobId;
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::say::bytes;
use keyrotate_proto::spec::JobSpec;
use keyrotate_proto::state::PauseReason;
use keyrotate_rewrap::Halt;
use tokio::sync::Mutex;

use crate::census::{Census, CensusError, Question};
use crate::desk::Desk;

/// Objects that are looked at to say how much a job adds.
const SAMPLE: usize = 2_000;

/// A slice asks for one of so many parts of what is left: few enough that the job's record does not change with every
/// object, and so many that what others hold unused does not stop it long before the bound.
const PARTS: u64 = 256;

/// An estimate that is too low by so much pauses nothing.
const SLACK: u64 = 64 << 20;

/// Whether what a job adds is bounded: in a bucket with versions, where `update-encryption` is not what rotates, or where
/// the file says so.
pub(crate) fn is_bounded(frozen: &Frozen, spec: &JobSpec) -> bool {
    let updates = frozen.proofs.iter().any(|proof| proof.strategy == Strategy::UpdateEncryption);
    frozen.versioning.has_versions() && (!updates || spec.options.max_added_bytes.is_some())
}

impl Desk {
    /// What a job adds under what was proven, where that is bounded.
    pub(crate) async fn growth(
        &self,
        job: &JobRecord,
        frozen: &Frozen,
        space: &KeySpace,
        manifest: Option<&Sorted>,
    ) -> Result<Option<Growth>, CensusError> {
        if !is_bounded(frozen, &job.spec) {
            return Ok(None);
        }
        let proven = Some((frozen.clone(), self.env.now()));
        let question =
            Question { spec: job.spec.clone(), rate: None, proven, default_key: None, manifest: manifest.cloned() };
        let census = Census::begin(Arc::clone(&self.store), self.permits.clone(), question, self.env.clone()).await?;
        let added = census.sample_of(space, SAMPLE).await?.ways.into_iter().next();
        let (versions, high, estimate) =
            added.map_or((0, 0, 0), |way| (way.added_versions, way.added_bytes_at_most, way.added_bytes));
        let bound = job.spec.options.max_added_bytes.unwrap_or(high.saturating_add(SLACK));
        Ok(Some(Growth { versions, bytes: estimate, bound, granted: 0 }))
    }
}

/// What one slice may add.
#[derive(Debug)]
pub(crate) struct Purse {
    ledger: Ledger,
    job: JobId,
    /// `None`: nothing bounds it.
    left: Option<Mutex<u64>>,
}

impl Purse {
    /// An empty one.
    pub(crate) fn new(ledger: &Ledger, job: &JobRecord) -> Self {
        let left = job.growth.as_ref().map(|_| Mutex::new(0));
        Self { ledger: ledger.clone(), job: job.id.clone(), left }
    }

    /// Takes so many bytes out, and asks for more where it has too few. A halt where the job may not add them.
    pub(crate) async fn take(&self, wanted: u64) -> Result<Result<(), Halt>, LedgerError> {
        let Some(left) = &self.left else { return Ok(Ok(())) };
        let mut left = left.lock().await;
        if *left < wanted {
            let missing = wanted - *left;
            match self.ask(missing).await? {
                Ok(granted) => *left += granted,
                Err(halt) => return Ok(Err(halt)),
            }
        }
        *left -= wanted;
        Ok(Ok(()))
    }

    /// Asks for `missing` bytes, or for a part of what is left where that is more.
    async fn ask(&self, missing: u64) -> Result<Result<u64, Halt>, LedgerError> {
        let granted = std::sync::atomic::AtomicU64::new(0);
        let change = |job: &JobRecord, now| {
            let free = job.growth.as_ref().map_or(0, |growth| growth.bound.saturating_sub(growth.granted));
            let ask = missing.max(free / PARTS);
            granted.store(ask, std::sync::atomic::Ordering::Relaxed);
            transition::grow(job, ask, now)
        };
        match self.ledger.update_job(&self.job, change).await {
            Ok(_) => Ok(Ok(granted.into_inner())),
            Err(LedgerError::Refused(Refusal::Bound { left })) => {
                let detail = format!(
                    "the next object would add a version of {}, and {} are left of what was confirmed",
                    bytes(missing),
                    bytes(left)
                );
                Ok(Err(Halt::Pause { reason: PauseReason::Growth, detail }))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives back what was not used.
    pub(crate) async fn give_back(&self) -> Result<(), LedgerError> {
        let Some(left) = &self.left else { return Ok(()) };
        let unused = std::mem::take(&mut *left.lock().await);
        if unused == 0 {
            return Ok(());
        }
        self.ledger.update_job(&self.job, |job, now| Ok(transition::grew_less(job, unused, now))).await.map(drop)
    }
}
