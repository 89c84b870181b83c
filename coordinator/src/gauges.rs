//! What a leader sees, in gauges. Only it shows them, and takes them out when it leads no more.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_checkpoint::record::{JobRecord, ShardRecord, ShardState, WorkerRecord};
use keyrotate_proto::id::{JobId, ShardRef};
use keyrotate_queue::QueueError;
use keyrotate_telemetry::metrics;
use keyrotate_telemetry::names::OUTCOME_WORDS;
use tokio::time::Instant;

use crate::{Looked, Totals};

/// How often the sums of open jobs are told.
const SUMS_EVERY: Duration = Duration::from_secs(5);

/// What the leader saw at its last look.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// Since when each shard has been seen to wait.
    waiting: HashMap<ShardRef, Timestamp>,
    seen: HashSet<ShardRef>,
    /// By store: shards that wait, shards that are leased, seconds of the one that waits longest.
    stores: HashMap<String, (i64, i64, i64)>,
    jobs: BTreeSet<JobId>,
    summed: Option<Instant>,
}

impl Gauges {
    /// A look begins: jobs by state, workers by store.
    pub(crate) fn begin(&mut self, jobs: &[JobRecord], workers: &[WorkerRecord]) {
        self.seen.clear();
        self.stores.values_mut().for_each(|store| *store = (0, 0, 0));
        metrics().jobs.clear();
        jobs.iter().filter(|job| !job.state.is_ended()).for_each(|job| {
            metrics().jobs.with(&[job.state.word()]).inc();
        });
        metrics().workers.clear();
        metrics().worker_slots.clear();
        for worker in workers {
            for store in worker.stores.keys() {
                metrics().workers.with(&[store]).inc();
                metrics().worker_slots.with(&[store]).inc_by(i64::from(worker.slots));
            }
        }
    }

    /// The shards of a job on that store that may be worked on now.
    pub(crate) fn see(&mut self, store: &str, shards: &[ShardRecord], now: Timestamp) {
        let store = self.stores.entry(store.to_owned()).or_default();
        for shard in shards {
            match shard.state {
                ShardState::Leased { .. } => store.1 += 1,
                ShardState::Waiting => {
                    let since = *self.waiting.entry(shard.shard.clone()).or_insert(now);
                    self.seen.insert(shard.shard.clone());
                    store.0 += 1;
                    store.2 = store.2.max(now.duration_since(since).as_secs());
                }
                ShardState::Done | ShardState::Abandoned => {}
            }
        }
    }

    /// All jobs were seen; `out`: tickets by store.
    pub(crate) fn tell(&mut self, out: &HashMap<&str, usize>) {
        let seen = &self.seen;
        self.waiting.retain(|shard, _| seen.contains(shard));
        for (store, (waiting, leased, oldest)) in &self.stores {
            metrics().shards_waiting.with(&[store]).set(*waiting);
            metrics().shards_leased.with(&[store]).set(*leased);
            metrics().oldest_waiting.with(&[store]).set(*oldest);
            let out = out.get(store.as_str()).copied().unwrap_or_default();
            metrics().tickets_out.with(&[store]).set(i64::try_from(out).unwrap_or(i64::MAX));
        }
    }

    fn tell_sums(&mut self, job: &JobId, totals: &Totals) {
        let (name, number) = (job.to_string(), |n: u64| i64::try_from(n).unwrap_or(i64::MAX));
        for outcome in OUTCOME_WORDS {
            metrics().job_objects.with(&[&name, outcome]).set(number(totals.counts.of(outcome)));
        }
        metrics().job_bytes.with(&[&name]).set(number(totals.counts.rotated_bytes));
        let waiting = totals.shards.saturating_sub(totals.over + totals.leased);
        for (state, shards) in [("waiting", waiting), ("leased", totals.leased), ("over", totals.over)] {
            metrics().job_shards.with(&[&name, state]).set(number(shards as u64));
        }
        self.jobs.insert(job.clone());
    }

    /// Takes out the series of a job that has ended.
    fn forget_job(&mut self, job: &JobId) {
        let name = job.to_string();
        OUTCOME_WORDS.iter().for_each(|outcome| metrics().job_objects.remove(&[&name, outcome]));
        metrics().job_bytes.remove(&[&name]);
        ["waiting", "leased", "over"].iter().for_each(|state| metrics().job_shards.remove(&[&name, state]));
        self.jobs.remove(job);
    }

    /// Another leads now, and says all this.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
        let metrics = metrics();
        metrics.leader.set(0);
        let all = [
            &metrics.jobs,
            &metrics.workers,
            &metrics.worker_slots,
            &metrics.tickets_out,
            &metrics.shards_leased,
            &metrics.shards_waiting,
            &metrics.oldest_waiting,
            &metrics.job_objects,
            &metrics.job_bytes,
            &metrics.job_shards,
        ];
        all.into_iter().for_each(keyrotate_telemetry::metrics::Many::clear);
    }
}

impl Gauges {
    /// The sums of open jobs, now and then; those of ended ones go.
    pub(crate) fn tell_of_jobs(&mut self, jobs: &[JobRecord], looked: &[Looked]) {
        let open = |id: &JobId| jobs.iter().any(|job| job.id == *id && !job.state.is_ended());
        let over: Vec<_> = self.jobs.iter().filter(|id| !open(id)).cloned().collect();
        over.iter().for_each(|id| self.forget_job(id));
        if self.summed.is_some_and(|last| last.elapsed() < SUMS_EVERY) {
            return;
        }
        self.summed = Some(Instant::now());
        for Looked { job, shards, .. } in looked.iter().filter(|looked| !looked.job.state.is_ended()) {
            self.tell_sums(&job.id, &Totals::of(job, shards));
        }
    }
}

/// The word for what became of a ticket.
pub(crate) fn word(published: &Result<(), QueueError>) -> &'static str {
    match published {
        Ok(()) => "confirmed",
        Err(QueueError::Full) => "full",
        Err(QueueError::Unroutable | QueueError::StoreName(_)) => "unroutable",
        Err(QueueError::Unavailable(_) | QueueError::Gone) => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrotate_proto::id::{Nonce, PassId, ShardId};
    use keyrotate_proto::position::KeyRange;

    fn shard(number: u32) -> ShardRecord {
        let shard = ShardRef { job: JobId::new(1, [7; 10]), pass: PassId(1), shard: ShardId(number) };
        ShardRecord::new(shard, KeyRange { start: String::new(), end: None }, Nonce("n".into()))
    }

    #[test]
    fn the_shard_that_waits_longest_is_told_until_somebody_takes_it() {
        let mut gauges = Gauges::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut look = |shards: &[ShardRecord], second| {
            gauges.begin(&[], &[]);
            gauges.see("gauge-test", shards, at(second));
            gauges.tell(&HashMap::from([("gauge-test", 3)]));
            let of = |many: &keyrotate_telemetry::metrics::Many<keyrotate_telemetry::metrics::Gauge>| {
                many.with(&["gauge-test"]).get()
            };
            let metrics = metrics();
            (
                of(&metrics.shards_waiting),
                of(&metrics.shards_leased),
                of(&metrics.oldest_waiting),
                of(&metrics.tickets_out),
            )
        };
        assert_eq!(look(&[shard(0), shard(1)], 100), (2, 0, 0, 3));
        assert_eq!(look(&[shard(0), shard(1)], 130), (2, 0, 30, 3));
        let mut leased = shard(0);
        leased.state = ShardState::Leased { owner: "w".into(), token: "t".into(), until: at(200), progressed: false };
        assert_eq!(look(&[leased, shard(2)], 140), (1, 1, 0, 3));
        // It waits anew, from now on.
        assert_eq!(look(&[shard(0)], 150), (1, 0, 0, 3));
        gauges.forget();
        assert!(!metrics().text().contains("gauge-test"));
    }
}
