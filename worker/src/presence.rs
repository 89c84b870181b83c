//! A worker of a fleet says that it lives, and what it serves.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_checkpoint::record::{RECORD_VERSION, WorkDone, WorkerRecord};
use tokio_util::sync::CancellationToken;

use crate::Worker;

/// How often; well below [`keyrotate_checkpoint::WORKER_GONE_AFTER`].
const EVERY: Duration = Duration::from_secs(2);

impl Worker {
    /// Says so until `stop`, then that it is gone.
    pub async fn announce(&self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.site.ledger.worker_lives(&self.presence()).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the checkpoint does not hear that we live");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        if let Err(error) = self.site.ledger.worker_stops(&self.config.owner).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "others learn a little later that we are gone");
        }
    }

    fn presence(&self) -> WorkerRecord {
        let stores: BTreeMap<_, _> =
            self.site.stores.iter().map(|(name, store)| (name.clone(), store.identity().0.clone())).collect();
        let seen = self.meter.read();
        WorkerRecord {
            version: RECORD_VERSION,
            owner: self.config.owner.clone(),
            stores,
            slots: u32::try_from(self.config.slots).unwrap_or(u32::MAX),
            // The back-end's own time takes its place.
            seen: Timestamp::UNIX_EPOCH,
            done: WorkDone { objects: seen.outcomes.values().sum::<u64>() + seen.agree, bytes: seen.bytes },
        }
    }
}
