//! Which workers live: each says so every few seconds.

use std::time::Duration;

use super::transact::Change;
use super::{Ledger, LedgerError};
use crate::record::{WORKERS, WorkerRecord, worker_key};

/// A worker that has not said so for this long is taken for gone.
pub const WORKER_GONE_AFTER: Duration = Duration::from_secs(10);

impl Ledger {
    /// Says that a worker lives; the time is the back-end's. A coordinator hears of one that is new or serves otherwise.
    ///
    /// # Errors
    /// When the back-end does not answer.
    pub async fn worker_lives(&self, worker: &WorkerRecord) -> Result<(), LedgerError> {
        let key = worker_key(&worker.owner);
        self.transact(std::slice::from_ref(&key), |view| {
            let next = WorkerRecord { seen: view.now, ..worker.clone() };
            let there = view.find::<WorkerRecord>(&key)?.filter(|there| there.lives(view.now, WORKER_GONE_AFTER));
            let same = there.is_some_and(|there| there.stores == next.stores && there.slots == next.slots);
            let change = Change::none(()).write(&key, &next)?;
            Ok(if same { change.quiet() } else { change })
        })
        .await
    }

    /// A worker that stops says so, so that nobody counts on it.
    ///
    /// # Errors
    /// When the back-end does not answer: it is taken for gone a little later then.
    pub async fn worker_stops(&self, owner: &str) -> Result<(), LedgerError> {
        let key = worker_key(owner);
        self.transact(std::slice::from_ref(&key), |view| {
            let there = view.find::<WorkerRecord>(&key)?;
            Ok(if there.is_some() { Change::none(()).remove(&key) } else { Change::none(()) })
        })
        .await
    }

    /// The workers that live.
    ///
    /// # Errors
    /// When the back-end does not answer, or a record can't be read.
    pub async fn workers(&self) -> Result<Vec<WorkerRecord>, LedgerError> {
        let now = self.now().await?;
        let all: Vec<WorkerRecord> = self.scan_all(WORKERS).await?;
        Ok(all.into_iter().filter(|worker| worker.lives(now, WORKER_GONE_AFTER)).collect())
    }

    /// Strikes workers that have been gone for a day.
    ///
    /// # Errors
    /// When the back-end does not answer, or a record can't be read.
    pub async fn forget_workers(&self) -> Result<(), LedgerError> {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let now = self.now().await?;
        let all: Vec<WorkerRecord> = self.scan_all(WORKERS).await?;
        for gone in all.into_iter().filter(|worker| !worker.lives(now, DAY)) {
            self.worker_stops(&gone.owner).await?;
        }
        Ok(())
    }
}
