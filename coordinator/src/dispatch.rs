//! Tickets out: few at a time, spread over the key space, and again for whatever waits without one.

use keyrotate_checkpoint::record::{JobRecord, ShardRecord, ShardState};
use keyrotate_checkpoint::transition::may_lease;
use keyrotate_proto::state::JobState;
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};
use tokio::time::Instant;

use crate::{Coordinator, Result};

impl Coordinator {
    /// Publishes tickets for waiting shards, so that never more than [`crate::CoordinatorConfig::tickets_out`] wait.
    /// This is the sweeper, too: a shard whose lease ran out, or whose ticket was lost, is a waiting shard.
    pub(crate) async fn dispatch(&mut self, jobs: &[JobRecord]) -> Result<()> {
        let now = self.ledger.now().await?;
        let mut out = 0;
        let mut waiting = Vec::new();
        for (job, pass) in jobs.iter().flat_map(|job| job.passes.iter().map(move |pass| (job, pass))) {
            let due = pass.open && may_lease(&job.state, pass.kind) && pass.not_before.is_none_or(|t| t <= now);
            if !due || !self.may_probe(job) {
                continue;
            }
            for mut shard in self.ledger.shards(&job.id, pass.id).await? {
                if matches!(&shard.state, ShardState::Leased { until, .. } if *until < now) {
                    shard = self.ledger.expire(&shard.shard).await?;
                }
                let has_ticket = shard.state == ShardState::Waiting && !shard.wants_ticket(now);
                out += usize::from(has_ticket);
                if shard.wants_ticket(now) {
                    waiting.push((job, shard));
                }
            }
        }
        waiting.sort_by_key(|(_, shard)| spread(shard));
        let room = self.config.tickets_out.saturating_sub(out);
        for (job, shard) in waiting.into_iter().take(room) {
            self.publish(job, &shard).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, job: &JobRecord, shard: &ShardRecord) -> Result<()> {
        if matches!(job.state, JobState::Paused { .. }) {
            self.probed.insert(job.id.clone(), Instant::now());
        }
        let ticket = Ticket {
            version: TICKET_VERSION,
            shard: shard.shard.clone(),
            spec_hash: job.spec_hash.clone(),
            epoch: shard.epoch.clone(),
            traceparent: String::new(),
        };
        self.queue.publish(&ticket, false).await?;
        self.ledger.ticket_published(&shard.shard, self.config.ticket_lost_after).await?;
        Ok(())
    }

    /// A paused job gets one probe in a while, others all they can use.
    fn may_probe(&self, job: &JobRecord) -> bool {
        let paused = matches!(job.state, JobState::Paused { .. });
        !paused || self.probed.get(&job.id).is_none_or(|last| last.elapsed() >= self.config.probe_every)
    }
}

/// Neighbours in the key space go out far from each other: by the reversed bits of the shard's number.
fn spread(shard: &ShardRecord) -> u32 {
    shard.shard.shard.0.reverse_bits()
}
