//! A job's sums: each (key, version)'s last row once.

use std::collections::BTreeMap;

use keyrotate_checkpoint::record::{JobRecord, ShardRecord, ShardState};
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::outcome::Counts;

/// Sums of a job, and how far its open passes are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Each version's last row once.
    pub counts: Counts,
    /// Shards of the open pass.
    pub shards: usize,
    /// Of those, how many are over.
    pub over: usize,
    /// Of those, how many are leased.
    pub leased: usize,
    /// Who holds how many of those.
    pub holders: BTreeMap<String, u64>,
}

/// Adds up what was committed so far.
///
/// # Errors
/// When the checkpoint can't be read.
pub async fn totals(ledger: &Ledger, job: &JobRecord) -> Result<Totals, LedgerError> {
    let mut shards = Vec::new();
    for pass in job.passes.iter().filter(|pass| pass.open) {
        shards.extend(ledger.shards(&job.id, pass.id).await?);
    }
    Ok(Totals::of(job, &shards))
}

impl Totals {
    /// From the shards of all open passes.
    pub(crate) fn of(job: &JobRecord, shards: &[ShardRecord]) -> Self {
        let mut totals = Self::default();
        // All of it is added first: what later rows replace may stand in any pass before.
        let closed = || job.passes.iter().filter(|pass| !pass.open);
        closed().for_each(|pass| totals.counts.add(&pass.counts));
        shards.iter().for_each(|shard| totals.counts.add(&shard.counts));
        closed().for_each(|pass| totals.counts.subtract(&pass.replaced));
        shards.iter().for_each(|shard| totals.counts.subtract(&shard.replaced));
        totals.count_shards(shards);
        totals
    }

    fn count_shards(&mut self, shards: &[ShardRecord]) {
        self.shards += shards.len();
        self.over += shards.iter().filter(|shard| shard.state.is_over()).count();
        for shard in shards {
            if let ShardState::Leased { owner, .. } = &shard.state {
                self.leased += 1;
                *self.holders.entry(owner.clone()).or_default() += 1;
            }
        }
    }
}
