//! Tickets out: few at a time, spread over the key space, and again for whatever waits without one.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;
use keyrotate_checkpoint::record::{JobRecord, PassRecord, ShardRecord, ShardState};
use keyrotate_checkpoint::transition::{job as transition, may_lease};
use keyrotate_proto::id::JobId;
use keyrotate_proto::state::{JobState, PauseReason, Phase};
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};
use keyrotate_queue::{QueueError, Route};
use keyrotate_telemetry::{Instrument as _, metrics, spans};
use tokio::time::Instant;

use crate::{Coordinator, CoordinatorError, Crew, Looked, Result, TicketsOut, gauges};

impl Coordinator {
    /// Publishes tickets for waiting shards, so that never more than [`crate::CoordinatorConfig::tickets_out`] wait.
    /// This is the sweeper, too: a shard whose lease ran out, or whose ticket was lost, is a waiting shard.
    pub(crate) async fn dispatch(&mut self, looked: &[Looked]) -> Result<()> {
        let now = self.crew.ledger.now().await?;
        let mut out: HashMap<&str, usize> = HashMap::new();
        // Shards that are worked on or soon will be.
        let mut busy: HashMap<&JobId, usize> = HashMap::new();
        let mut waiting = Vec::new();
        for Looked { job, shards, .. } in looked {
            let shards = self.leasable(job, shards, now).await?;
            self.gauges.see(&job.store_name, &shards, now);
            for shard in shards {
                if shard.wants_ticket(job, now) {
                    waiting.push((job, shard));
                    continue;
                }
                if shard.state == ShardState::Waiting {
                    *out.entry(job.store_name.as_str()).or_default() += 1;
                }
                if !shard.state.is_over() {
                    *busy.entry(&job.id).or_default() += 1;
                }
            }
        }
        self.gauges.tell(&out);
        waiting.sort_by_key(|(job, shard)| (Reverse(job.limits.priority), spread(shard)));
        for (job, shard) in waiting {
            let out = out.entry(job.store_name.as_str()).or_default();
            let busy = busy.entry(&job.id).or_default();
            // Each slice takes one permit of its job at least.
            let may_more = job.limits.permits.is_none_or(|permits| *busy < permits as usize);
            if may_more && *out < self.crew.most_out(&job.store_name) {
                *out += 1;
                *busy += 1;
                metrics().tickets_out.with(&[&job.store_name]).inc();
                match self.publish(job, &shard).await {
                    // As many wait there as may: there is no hurry.
                    Err(CoordinatorError::Queue(QueueError::Full)) => *out = usize::MAX,
                    published => published?,
                }
            }
        }
        Ok(())
    }

    /// Shards of passes that the job's state lets work on now, leases that ran out taken back.
    async fn leasable(&self, job: &JobRecord, shards: &[ShardRecord], now: Timestamp) -> Result<Vec<ShardRecord>> {
        let mut leasable = Vec::new();
        if !self.may_probe(job) {
            return Ok(leasable);
        }
        let ready = |pass: &&PassRecord| {
            pass.open && may_lease(&job.state, pass.kind) && pass.not_before.is_none_or(|not_before| not_before <= now)
        };
        for pass in job.passes.iter().filter(ready) {
            for shard in shards.iter().filter(|shard| shard.shard.pass == pass.id) {
                let ran_out = matches!(&shard.state, ShardState::Leased { until, .. } if *until < now);
                leasable.push(if ran_out { self.crew.ledger.expire(&shard.shard).await? } else { shard.clone() });
            }
        }
        Ok(leasable)
    }

    async fn publish(&mut self, job: &JobRecord, shard: &ShardRecord) -> Result<()> {
        if matches!(job.state, JobState::Paused { .. }) {
            self.probed.insert(job.id.clone(), Instant::now());
        }
        let route = Route::to(&job.store_name);
        let span = spans::publish(&job.id, &shard.shard, &job.store_name, &job.traceparent);
        let ticket = Ticket {
            version: TICKET_VERSION,
            shard: shard.shard.clone(),
            spec_hash: job.spec_hash.clone(),
            epoch: shard.epoch.clone(),
            traceparent: spans::traceparent(&span),
        };
        let published = self.queue.publish(&ticket, &route).instrument(span.clone()).await;
        let result = gauges::word(&published);
        metrics().tickets_published.with(&[result]).inc();
        if published.is_err() {
            spans::failed(&span, result);
        }
        published?;
        self.crew.ledger.ticket_published(&ticket, self.crew.config.ticket_lost_after).await?;
        Ok(())
    }

    /// A paused job gets one probe in a while, others all they can use.
    fn may_probe(&self, job: &JobRecord) -> bool {
        let paused = matches!(job.state, JobState::Paused { .. });
        !paused || self.probed.get(&job.id).is_none_or(|last| last.elapsed() >= self.crew.config.probe_every)
    }
}

impl Crew {
    /// How many tickets for a store may be out.
    fn most_out(&self, store: &str) -> usize {
        match self.config.tickets_out {
            TicketsOut::AtMost(tickets) => tickets,
            TicketsOut::TwiceTheSlots => {
                let serving = self.workers.iter().filter(|worker| worker.stores.contains_key(store));
                2 * serving.map(|worker| worker.slots as usize).sum::<usize>()
            }
        }
    }

    /// Pauses a job that no worker serves; what was paused so goes on when one comes.
    pub(crate) async fn pause_unserved(&self, job: &JobRecord) -> Result<Option<JobRecord>> {
        let unserved = self.is_unserved(job);
        match &job.state {
            JobState::Paused { reason: PauseReason::NoWorker, .. } if !unserved => {
                self.update(job, |job, now| transition::resume(job, false, now)).await
            }
            JobState::Live { phase } if unserved && !matches!(phase, Phase::Queued | Phase::AwaitingConfirmation) => {
                let detail = format!("no worker serves {}", job.store_name);
                self.update(job, |job, now| transition::pause(job, PauseReason::NoWorker, &detail, now)).await
            }
            _ => Ok(None),
        }
    }
}

/// Neighbours in the key space go out far from each other: by the reversed bits of the shard's number.
fn spread(shard: &ShardRecord) -> u32 {
    shard.shard.shard.0.reverse_bits()
}
