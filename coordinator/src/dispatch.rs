//! Tickets out: few at a time, spread over the key space, and again for whatever waits without one.

use jiff::Timestamp;
use keyrotate_checkpoint::record::{JobRecord, ShardRecord, ShardState};
use keyrotate_checkpoint::transition::may_lease;
use keyrotate_proto::state::JobState;
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};
use keyrotate_queue::{DEFAULT_STORE, Route};
use tokio::time::Instant;

use crate::{Coordinator, Result};

impl Coordinator {
    /// Publishes tickets for waiting shards, so that never more than [`crate::CoordinatorConfig::tickets_out`] wait.
    /// This is the sweeper, too: a shard whose lease ran out, or whose ticket was lost, is a waiting shard.
    pub(crate) async fn dispatch(&mut self, jobs: &[JobRecord]) -> Result<()> {
        let now = self.ledger.now().await?;
        let mut out = 0;
        let mut waiting = Vec::new();
        for job in jobs {
            for shard in self.leasable(job, now).await? {
                if shard.wants_ticket(job, now) {
                    waiting.push((job, shard));
                } else if shard.state == ShardState::Waiting {
                    out += 1;
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

    /// Shards of passes that the job's state lets work on now, leases that ran out taken back.
    async fn leasable(&self, job: &JobRecord, now: Timestamp) -> Result<Vec<ShardRecord>> {
        let mut shards = Vec::new();
        if !self.may_probe(job) {
            return Ok(shards);
        }
        for pass in &job.passes {
            if !pass.open
                || !may_lease(&job.state, pass.kind)
                || pass.not_before.is_some_and(|not_before| not_before > now)
            {
                continue;
            }
            for shard in self.ledger.shards(&job.id, pass.id).await? {
                let ran_out = matches!(&shard.state, ShardState::Leased { until, .. } if *until < now);
                shards.push(if ran_out { self.ledger.expire(&shard.shard).await? } else { shard });
            }
        }
        Ok(shards)
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
        self.queue.publish(&ticket, &Route::to(DEFAULT_STORE)).await?;
        self.ledger.ticket_published(&ticket, self.config.ticket_lost_after).await?;
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
