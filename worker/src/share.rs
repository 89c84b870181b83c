//! What one slice may take of what its job may take of the fleet.

use std::sync::Arc;

use keyrotate_checkpoint::record::{JobLimits, JobRecord, ShardState};
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_env::Env;
use keyrotate_proto::id::ShardRef;
use keyrotate_proto::rates::Rates;
use keyrotate_proto::spec::Options;

use crate::StoreLimits;
use crate::desk::Desk;
use crate::permits::Share;

/// A job's limits, and those of its store, are shared evenly by all slots that may work on it, so that all its slices
/// together never take more. A worker that comes while a slice is at work is heard of with the slice's next renewal, and
/// so is an hour at which other rates hold.
#[derive(Debug)]
pub(crate) struct Allotment {
    ledger: Ledger,
    env: Env,
    shard: ShardRef,
    store_name: String,
    /// The job file's rates hold where no others were set.
    options: Options,
    /// What all jobs together may take.
    of_store: StoreLimits,
    /// Slots of this worker, which count where nobody says that he lives.
    slots: usize,
    /// Whoever runs this worker applies the job's limits himself.
    is_alone: bool,
    share: Arc<Share>,
}

impl Desk {
    /// What a slice that works on `shard` may take; without limits until the first [`Allotment::renew`].
    pub(crate) fn allotment(&self, job: &JobRecord, shard: &ShardRef) -> Allotment {
        Allotment {
            ledger: self.site.ledger.clone(),
            env: self.env.clone(),
            shard: shard.clone(),
            store_name: job.store_name.clone(),
            options: job.spec.options.clone(),
            of_store: self.store_limits,
            slots: self.config.slots,
            is_alone: self.config.permits.is_of_one_job(),
            share: Arc::new(Share::unlimited()),
        }
    }
}

impl Allotment {
    /// What the slice's permits are bound by.
    pub(crate) fn share(&self) -> Arc<Share> {
        Arc::clone(&self.share)
    }

    /// Takes the job's limits as they are now. `false`: the job has more slices than permits, and this is one too many.
    pub(crate) async fn renew(&self, limits: &JobLimits) -> Result<bool, LedgerError> {
        let rates = limits.rates_at(&self.options, self.env.now()).within(self.of_store.rates);
        let permits = [limits.permits, self.of_store.permits].into_iter().flatten().min();
        if self.is_alone || rates.are_unlimited() && permits.is_none() {
            self.share.set(None, Rates::default());
            return Ok(true);
        }
        let workers = self.ledger.workers().await?;
        let serving = workers.iter().filter(|worker| worker.stores.contains_key(&self.store_name));
        let slots = serving.map(|worker| worker.slots as usize).sum::<usize>().max(self.slots);
        self.share.set(permits.map(|permits| calls(permits as usize, slots)), rates.shared_by(slots));
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
