//! The walk of a job whose checkpoint was lost goes on where the parts end that were written before.

use std::collections::BTreeSet;

use keyrotate_checkpoint::record::{JobRecord, MAX_AHEAD, ShardRecord};
use keyrotate_checkpoint::transition::job::next_pass;
use keyrotate_checkpoint::transition::order;
use keyrotate_proto::id::ShardId;
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_report::rebuild::{Chain, Remains, remains};

use crate::{Crew, Result};

impl Crew {
    /// The shards of a job's walk: as they are planned, but for what parts say of a walk that the checkpoint has forgotten.
    ///
    /// Where the store chose the target, or a list the objects, either may be another one since: all is walked anew.
    pub(crate) async fn walk_shards(&self, job: &JobRecord, planned: Vec<KeyRange>) -> Result<Vec<ShardRecord>> {
        if !job.spec.names_target() || job.spec.manifest.is_some() {
            return Ok(job.new_shards(planned));
        }
        let remains = remains(self.reports.of(&job.id)?.as_ref(), &job.id, next_pass(job)).await?;
        if !remains.chains.is_empty() {
            let known: u64 = remains.chains.iter().map(|chain| chain.counts.scanned()).sum();
            tracing::warn!(job = %job.id, known, "the checkpoint knows nothing of a walk that parts tell of; it goes on from them");
        }
        Ok(shards(job, planned, &remains))
    }
}

/// A shard for each chain, up to where the next one begins, and for what is planned outside of them.
fn shards(job: &JobRecord, planned: Vec<KeyRange>, remains: &Remains) -> Vec<ShardRecord> {
    let Remains { chains, with_intents } = remains;
    if chains.is_empty() && with_intents.is_empty() {
        return job.new_shards(planned);
    }
    let scope = job.scope();
    let ends_behind = |chain: &Chain, start: &String| {
        order(&Position::Before(start.clone()), &chain.to).is_some_and(|order| order.is_lt())
    };
    let outside = |start: &String| !chains.iter().any(|chain| chain.start <= *start && ends_behind(chain, start));
    let starts: BTreeSet<String> = planned
        .into_iter()
        .map(|range| range.start)
        .chain([scope.start.clone()])
        .filter(outside)
        .chain(chains.iter().map(|chain| chain.start.clone()))
        .filter(|start| scope.contains(start))
        .collect();
    let ends = starts.iter().skip(1).cloned().map(Some).chain([scope.end.clone()]);
    let ranges = starts.iter().cloned().zip(ends).map(|(start, end)| KeyRange { start, end }).collect();
    let placed: BTreeSet<&ShardId> = chains.iter().flat_map(|chain| &chain.shards).collect();
    let mut shards = job.new_shards(ranges);
    for shard in &mut shards {
        // Whoever wrote the last chain before it may have been ahead of that, up to here.
        let before = chains.iter().rfind(|chain| chain.start <= shard.range.start);
        let may_have_written =
            |id: &ShardId| !placed.contains(id) || before.is_some_and(|chain| chain.shards.contains(id));
        shard.cut_from = with_intents.iter().copied().filter(may_have_written).collect();
        if let Some(chain) = before.filter(|chain| chain.start == shard.range.start) {
            stand_behind(shard, chain);
        }
        shard.doubted_to = shard.listed + MAX_AHEAD;
    }
    shards
}

fn stand_behind(shard: &mut ShardRecord, chain: &Chain) {
    shard.cursor = chain.to.clone();
    shard.counts = chain.counts.clone();
    shard.replaced = chain.replaced.clone();
    shard.listed = chain.listed;
    shard.last_part = Some(chain.last_part.clone());
    shard.parts = chain.parts;
}

#[cfg(test)]
mod tests;
