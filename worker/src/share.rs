//! What one slice may take of what its job may take of the fleet.

use std::sync::Arc;

use keyrotate_checkpoint::record::{JobLimits, JobRecord, ShardState};
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::id::ShardRef;

use crate::WorkerConfig;
use crate::permits::Share;

/// A job's limits are shared evenly by all slots that may work on it, so that all its slices together never take more.
/// A worker that comes while a slice is at work is heard of with the slice's next renewal.
#[derive(Debug)]
pub(crate) struct Allotment {
    ledger: Ledger,
    shard: ShardRef,
    store_name: String,
    /// The job file's rate, which holds where no other was set.
    rate: Option<f64>,
    /// Slots of this worker, which count where nobody says that he lives.
    slots: usize,
    /// Whoever runs this worker applies the job's limits himself.
    is_alone: bool,
    share: Arc<Share>,
}

impl Allotment {
    /// Of the slice that works on `shard`, by a worker of that configuration; without limits until the first
    /// [`Self::renew`].
    pub(crate) fn new(ledger: &Ledger, job: &JobRecord, shard: &ShardRef, worker: &WorkerConfig) -> Self {
        let (store_name, rate) = (job.store_name.clone(), job.spec.options.rate);
        Self {
            ledger: ledger.clone(),
            shard: shard.clone(),
            store_name,
            rate,
            slots: worker.slots,
            is_alone: worker.permits.is_of_one_job(),
            share: Arc::new(Share::unlimited()),
        }
    }

    /// What the slice's permits are bound by.
    pub(crate) fn share(&self) -> Arc<Share> {
        Arc::clone(&self.share)
    }

    /// Takes the job's limits as they are now. `false`: the job has more slices than permits, and this is one too many.
    pub(crate) async fn renew(&self, limits: &JobLimits) -> Result<bool, LedgerError> {
        let rate = limits.rate.or(self.rate);
        if self.is_alone || rate.is_none() && limits.permits.is_none() {
            self.share.set(None, None);
            return Ok(true);
        }
        let workers = self.ledger.workers().await?;
        let serving = workers.iter().filter(|worker| worker.stores.contains_key(&self.store_name));
        let slots = serving.map(|worker| worker.slots as usize).sum::<usize>().max(self.slots);
        #[expect(clippy::cast_precision_loss, reason = "nobody has that many slots")]
        let rate = rate.map(|rate| rate / slots as f64);
        self.share.set(limits.permits.map(|permits| calls(permits as usize, slots)), rate);
        match limits.permits {
            Some(permits) if (permits as usize) < slots => self.is_among_the_first(permits as usize).await,
            _ => Ok(true),
        }
    }

    /// Whether fewer than `permits` shards before this one are worked on.
    async fn is_among_the_first(&self, permits: usize) -> Result<bool, LedgerError> {
        let shards = self.ledger.shards(&self.shard.job, self.shard.pass).await?;
        let before = shards.iter().filter(|shard| shard.shard.shard < self.shard.shard);
        Ok(before.filter(|shard| matches!(shard.state, ShardState::Leased { .. })).count() < permits)
    }
}

/// Of so many permits the share of one slice. A job has no more slices at a time than permits: that is the dispatcher's
/// to see to.
fn calls(permits: usize, slots: usize) -> usize {
    (permits / permits.min(slots).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_slices_together_never_take_more_than_the_job_may() {
        for permits in 1..70 {
            for slots in 1..20 {
                let slices = slots.min(permits);
                let share = calls(permits, slots);
                assert!(share >= 1 && slices * share <= permits, "{permits} over {slots}: {share}");
                assert!(slices * (share + 1) > permits, "{permits} over {slots}: {share} is less than need be");
            }
        }
    }
}
