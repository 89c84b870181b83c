//! A worker of a fleet says that it lives, and what it serves.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_checkpoint::record::{PaceRecord, RECORD_VERSION, WorkDone, WorkerRecord};
use tokio_util::sync::CancellationToken;

use crate::Worker;

/// How often; well below [`keyrotate_checkpoint::WORKER_GONE_AFTER`].
const EVERY: Duration = Duration::from_secs(2);

impl Worker {
    /// Says so until `stop`, then that it is gone.
    pub async fn announce(&self, stop: CancellationToken) {
        let mut heard = None;
        loop {
            let slowed = self.desks.iter().filter(|(_, desk)| desk.governor.must_tell());
            let slowed = slowed.map(|(name, _)| name.clone()).collect();
            match self.site.ledger.worker_lives(&self.presence(), &slowed).await {
                Ok(paces) => self.hear(&mut heard, paces),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the checkpoint does not hear that we live"
                    );
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        if let Err(error) = self.site.ledger.worker_stops(&self.config.owner).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "others learn a little later that we are gone");
        }
    }

    /// What stores asked other workers for since it was last heard of.
    fn hear(&self, heard: &mut Option<BTreeMap<String, u64>>, paces: BTreeMap<String, PaceRecord>) {
        let first = heard.is_none();
        let heard = heard.get_or_insert_default();
        for (store, pace) in paces {
            let before = heard.insert(store.clone(), pace.slowed).unwrap_or(if first { pace.slowed } else { 0 });
            let ours = u64::from(pace.by == self.config.owner && pace.slowed > before);
            if pace.slowed.saturating_sub(before) > ours
                && let Some(desk) = self.desks.get(&store)
            {
                desk.governor.hear();
            }
        }
    }

    fn presence(&self) -> WorkerRecord {
        let stores: BTreeMap<_, _> =
            self.site.stores.iter().map(|(name, served)| (name.clone(), served.store.identity().0.clone())).collect();
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
