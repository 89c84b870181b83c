//! Which workers live: each says so every few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::transact::Change;
use super::{Ledger, LedgerError};
use crate::record::{PaceRecord, RECORD_VERSION, WORKERS, WorkerRecord, pace_key, worker_key};

/// A worker that has not said so for this long is taken for gone.
pub const WORKER_GONE_AFTER: Duration = Duration::from_secs(10);

/// That a store asks for less is written down once in so long.
const SLOWED_ONCE_IN: Duration = Duration::from_secs(1);

impl Ledger {
    /// Says that a worker lives; the time is the back-end's. A coordinator hears of one that is new or serves otherwise.
    /// Says of the stores in `slowed` that they asked it for less; answers what is known of all stores that it serves.
    ///
    /// # Errors
    /// When the back-end does not answer.
    pub async fn worker_lives(
        &self,
        worker: &WorkerRecord,
        slowed: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, PaceRecord>, LedgerError> {
        let key = worker_key(&worker.owner);
        let mut keys = vec![key.clone()];
        keys.extend(worker.stores.keys().map(|store| pace_key(store)));
        self.transact(&keys, |view| {
            let next = WorkerRecord { seen: view.now, ..worker.clone() };
            let there = view.find::<WorkerRecord>(&key)?.filter(|there| there.lives(view.now, WORKER_GONE_AFTER));
            let same = there.is_some_and(|there| there.stores == next.stores && there.slots == next.slots);
            let mut change = Change::none(()).write(&key, &next)?;
            let mut known = BTreeMap::new();
            for store in worker.stores.keys() {
                let (key, owner) = (pace_key(store), worker.owner.as_str());
                let there: Option<PaceRecord> = view.find(&key)?;
                let now = match next_pace(there.as_ref(), owner, view.now).filter(|_| slowed.contains(store)) {
                    Some(next) => {
                        change = change.write(&key, &next)?;
                        Some(next)
                    }
                    None => there,
                };
                known.extend(now.map(|pace| (store.clone(), pace)));
            }
            let change = change.with(known)?;
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
    /// When the back-end does not answer.
    pub async fn workers(&self) -> Result<Vec<WorkerRecord>, LedgerError> {
        let now = self.now().await?;
        let all: Vec<WorkerRecord> = self.scan_readable(WORKERS).await?;
        Ok(all.into_iter().filter(|worker| worker.lives(now, WORKER_GONE_AFTER)).collect())
    }

    /// Strikes workers that have been gone for a day.
    ///
    /// # Errors
    /// When the back-end does not answer, or a record can't be read.
    pub async fn forget_workers(&self) -> Result<(), LedgerError> {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let now = self.now().await?;
        let all: Vec<WorkerRecord> = self.scan_readable(WORKERS).await?;
        for gone in all.into_iter().filter(|worker| !worker.lives(now, DAY)) {
            self.worker_stops(&gone.owner).await?;
        }
        Ok(())
    }
}

/// One more time that a store asked for less, unless somebody has just said so.
fn next_pace(there: Option<&PaceRecord>, owner: &str, now: Timestamp) -> Option<PaceRecord> {
    let just_said = there.is_some_and(|there| there.at.checked_add(SLOWED_ONCE_IN).is_ok_and(|until| now < until));
    let slowed = there.map_or(0, |there| there.slowed) + 1;
    (!just_said).then(|| PaceRecord { version: RECORD_VERSION, slowed, by: owner.to_owned(), at: now })
}
