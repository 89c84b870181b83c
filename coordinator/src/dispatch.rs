//! Tickets out: few at a time, spread over the key space, and again for whatever waits without one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use keyrotate_checkpoint::record::{Asked, JobLimits, JobRecord, PassRecord, ShardRecord, ShardState, WorkerRecord};
use keyrotate_checkpoint::transition::{job as transition, may_lease};
use keyrotate_proto::id::ShardRef;
use keyrotate_proto::state::{JobState, PauseReason, Phase};
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};
use keyrotate_queue::{QueueError, Route};
use keyrotate_telemetry::{Instrument as _, metrics, spans};
use tokio::time::Instant;

use crate::share::{Claim, is_behind, shares};
use crate::{Coordinator, CoordinatorError, Crew, Looked, Result, TicketsOut, gauges};

/// A pass of so many shards is cut no further: each costs a record of up to a kilobyte.
const MOST_SHARDS: u32 = 4096;

/// Pieces that a shard is cut into at once, its holder's not among them.
const MOST_PIECES: u32 = 31;

/// What one job has of the fleet's slots, and could use of them.
#[derive(Debug)]
struct Work<'a> {
    job: &'a JobRecord,
    /// Shards that want a ticket, the next one last.
    waiting: Vec<ShardRecord>,
    /// Shards whose tickets are under way.
    out: usize,
    leased: Vec<ShardRecord>,
}

impl Work<'_> {
    /// The name of its store.
    fn at(&self) -> &str {
        &self.job.store_name
    }

    /// Shards that are worked on or soon will be.
    fn busy(&self) -> usize {
        self.out + self.leased.len()
    }

    /// Each slice takes one permit of its job at least.
    fn permits(&self) -> usize {
        self.job.limits.permits.map_or(usize::MAX, |permits| permits as usize)
    }

    fn may_more(&self) -> bool {
        !self.waiting.is_empty() && self.busy() < self.permits()
    }

    fn claim(&self, slots: usize) -> Claim {
        let JobLimits { priority, weight, .. } = self.job.limits;
        Claim { priority, weight, most: (self.busy() + self.waiting.len()).min(self.permits()).min(slots) }
    }

    /// Whether it may have its share before the other's turn is over.
    fn may_displace(&self, other: &Work<'_>, crowded: bool) -> bool {
        !crowded || self.job.limits.priority > other.job.limits.priority
    }

    /// Its slices that can be asked for something: those that hear of it.
    fn slices(&self) -> impl Iterator<Item = (&ShardRecord, &str)> {
        self.leased.iter().filter_map(|shard| match &shard.state {
            ShardState::Leased { owner, .. } if self.job.pass(shard.shard.pass)?.kind.has_rows() => {
                Some((shard, owner.as_str()))
            }
            _ => None,
        })
    }
}

impl Coordinator {
    /// Publishes tickets for waiting shards, so that never more than [`crate::CoordinatorConfig::tickets_out`] wait, and asks
    /// slices for what others have more right to. This is the sweeper, too: a shard whose lease ran out, or whose ticket
    /// was lost, is a waiting shard.
    pub(crate) async fn dispatch(&mut self, looked: &[Looked]) -> Result<()> {
        let now = self.crew.ledger.now().await?;
        let mut works = Vec::new();
        for Looked { job, shards, .. } in looked {
            let shards = self.leasable(job, shards, now).await?;
            self.gauges.see(&job.store_name, &shards, now);
            let mut work = Work { job, waiting: Vec::new(), out: 0, leased: Vec::new() };
            for shard in shards {
                match shard.state {
                    _ if shard.wants_ticket(job, now) => work.waiting.push(shard),
                    ShardState::Waiting => work.out += 1,
                    ShardState::Leased { .. } => work.leased.push(shard),
                    ShardState::Done | ShardState::Abandoned => {}
                }
            }
            work.waiting.sort_by_key(|shard| Reverse(spread(shard)));
            works.push(work);
        }
        let mut out: HashMap<&str, usize> = HashMap::new();
        works.iter().for_each(|work| *out.entry(&work.job.store_name).or_default() += work.out);
        self.gauges.tell(&out);
        let claims: Vec<_> = works.iter().map(|work| work.claim(self.crew.slots_of(work.at()))).collect();
        let shares = shares(self.crew.slots(), &claims);
        // Equals of which there are more than slots wait in one line, so that each has its turn.
        let crowded = claims.iter().filter(|claim| claim.most > 0).count() > self.crew.slots();
        self.publish_shares(&mut works, &shares, crowded).await?;
        self.publish_more(&mut works).await?;
        if self.crew.config.tickets_out == TicketsOut::TwiceTheSlots {
            self.ask_to_yield(&works, &shares, crowded).await?;
            self.ask_to_split(&works).await?;
        }
        Ok(())
    }

    /// What jobs lack of their shares goes out before all else, and in the queue that is looked at first where others are
    /// at work.
    async fn publish_shares(&mut self, works: &mut [Work<'_>], shares: &[usize], crowded: bool) -> Result<()> {
        for one in 0..works.len() {
            let overtakes = |(other, work): (usize, &Work<'_>)| {
                other != one && work.busy() > 0 && works[one].may_displace(work, crowded)
            };
            let route = Route::to(works[one].at());
            let route = if works.iter().enumerate().any(overtakes) { route.urgent() } else { route };
            while works[one].busy() < shares[one] && works[one].may_more() {
                if !self.publish_next(&mut works[one], &route).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Some more lie ready for whichever slot is free next: of the most urgent jobs, among these of the one that has least
    /// for its weight.
    async fn publish_more(&mut self, works: &mut [Work<'_>]) -> Result<()> {
        let mut full = HashSet::new();
        loop {
            let mut out: HashMap<&str, usize> = HashMap::new();
            works.iter().for_each(|work| *out.entry(work.at()).or_default() += work.out);
            let has_room = |store: &str| out.get(store).is_none_or(|out| *out < self.crew.most_out(store));
            let may = |one: &usize| {
                let work = &works[*one];
                work.may_more() && !full.contains(work.at()) && has_room(work.at())
            };
            let next = (0..works.len()).filter(may).min_by(|a, b| {
                let (a, b) = (&works[*a], &works[*b]);
                let (left, right) = (a.claim(usize::MAX), b.claim(usize::MAX));
                let by_priority = right.priority.cmp(&left.priority);
                by_priority.then_with(|| is_behind((a.busy(), &left), (b.busy(), &right)))
            });
            let Some(next) = next else { return Ok(()) };
            let route = Route::to(works[next].at());
            if !self.publish_next(&mut works[next], &route).await? {
                full.insert(works[next].at().to_owned());
            }
        }
    }

    /// Sends the next ticket of a job; `false` where as many wait as may: there is no hurry.
    async fn publish_next(&mut self, work: &mut Work<'_>, route: &Route) -> Result<bool> {
        let Some(shard) = work.waiting.pop() else { return Ok(false) };
        match self.publish(work.job, &shard, route).await {
            Err(CoordinatorError::Queue(QueueError::Full)) => return Ok(false),
            published => published?,
        }
        work.out += 1;
        metrics().tickets_out.with(&[work.at()]).inc();
        Ok(true)
    }

    /// Where jobs have less than their shares and no slot is free, slices of those that have more end with their next
    /// window: of the least urgent jobs first.
    async fn ask_to_yield(&self, works: &[Work<'_>], shares: &[usize], crowded: bool) -> Result<()> {
        let mut givers: Vec<_> = works.iter().zip(shares).collect();
        givers.sort_by_key(|(work, _)| work.job.limits.priority);
        let mut taken: HashSet<&ShardRef> = HashSet::new();
        let mut free: HashMap<&str, usize> = HashMap::new();
        for (needy, share) in works.iter().zip(shares) {
            let free = free.entry(needy.at()).or_insert_with(|| self.crew.free_slots(needy.at(), works));
            let lacks = share.saturating_sub(needy.leased.len());
            let found = lacks.min(*free);
            *free -= found;
            let mut lacks = lacks - found;
            for (giver, share) in givers.iter().filter(|(giver, _)| needy.may_displace(giver, crowded)) {
                let mut spare = giver.leased.len().saturating_sub(**share);
                for (shard, owner) in giver.slices() {
                    if lacks == 0 || spare == 0 {
                        break;
                    }
                    if taken.contains(&shard.shard) || !self.crew.serves(owner, needy.at()) {
                        continue;
                    }
                    taken.insert(&shard.shard);
                    (lacks, spare) = (lacks - 1, spare - 1);
                    if shard.asked != Some(Asked::Yield) {
                        self.crew.ledger.ask(&shard.shard, Asked::Yield).await?;
                        tracing::debug!(shard = %shard.shard, to = %needy.job.id, "asked to yield");
                    }
                }
            }
        }
        Ok(())
    }

    /// Where slots have nothing to do, whoever is at work on a shard for some time is asked to leave them pieces of it.
    async fn ask_to_split(&self, works: &[Work<'_>]) -> Result<()> {
        let stores: BTreeSet<&str> = works.iter().map(Work::at).collect();
        for store in stores {
            let here = || works.iter().filter(|work| work.at() == store);
            let on_their_way = here().map(|work| work.out + work.waiting.len()).sum();
            let idle = self.crew.free_slots(store, works).saturating_sub(on_their_way);
            if idle == 0 {
                continue;
            }
            let mut long: Vec<(&ShardRecord, usize)> = Vec::new();
            for work in here() {
                let room = work.permits().saturating_sub(work.busy());
                let may = |shard: &ShardRecord| {
                    let progressed = matches!(shard.state, ShardState::Leased { progressed: true, .. });
                    let shards = work.job.pass(shard.shard.pass).map_or(0, |pass| pass.shards);
                    progressed && shard.asked.is_none() && shards < MOST_SHARDS
                };
                long.extend(work.slices().filter(|(shard, _)| may(shard)).map(|(shard, _)| (shard, room)));
            }
            let pieces = idle.div_ceil(long.len().max(1));
            for (shard, room) in long {
                let pieces = u32::try_from(pieces.min(room)).unwrap_or(MOST_PIECES).min(MOST_PIECES);
                if pieces > 0 {
                    self.crew.ledger.ask(&shard.shard, Asked::Split(pieces)).await?;
                    tracing::debug!(shard = %shard.shard, pieces, "asked to split");
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

    async fn publish(&mut self, job: &JobRecord, shard: &ShardRecord, route: &Route) -> Result<()> {
        if matches!(job.state, JobState::Paused { .. }) {
            self.probed.insert(job.id.clone(), Instant::now());
        }
        let span = spans::publish(&job.id, &shard.shard, &job.store_name, &job.traceparent);
        let ticket = Ticket {
            version: TICKET_VERSION,
            shard: shard.shard.clone(),
            spec_hash: job.spec_hash.clone(),
            epoch: shard.epoch.clone(),
            traceparent: spans::traceparent(&span),
        };
        let published = self.queue.publish(&ticket, route).instrument(span.clone()).await;
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
            TicketsOut::TwiceTheSlots => 2 * self.slots_of(store),
        }
    }

    /// Slots of all workers.
    fn slots(&self) -> usize {
        match self.config.tickets_out {
            TicketsOut::AtMost(tickets) => tickets,
            TicketsOut::TwiceTheSlots => self.workers.iter().map(|worker| worker.slots as usize).sum(),
        }
    }

    /// Slots of those that serve a store.
    fn slots_of(&self, store: &str) -> usize {
        match self.config.tickets_out {
            TicketsOut::AtMost(tickets) => tickets,
            TicketsOut::TwiceTheSlots => self.serving(store).map(|worker| worker.slots as usize).sum(),
        }
    }

    fn serving(&self, store: &str) -> impl Iterator<Item = &WorkerRecord> {
        self.workers.iter().filter(move |worker| worker.stores.contains_key(store))
    }

    fn serves(&self, owner: &str, store: &str) -> bool {
        self.serving(store).any(|worker| worker.owner == owner)
    }

    /// Slots of those that serve a store in which nothing is worked on.
    fn free_slots(&self, store: &str, works: &[Work<'_>]) -> usize {
        let mut held: HashMap<&str, usize> = HashMap::new();
        for shard in works.iter().flat_map(|work| &work.leased) {
            if let ShardState::Leased { owner, .. } = &shard.state {
                *held.entry(owner).or_default() += 1;
            }
        }
        let free = |worker: &WorkerRecord| {
            let held = held.get(worker.owner.as_str()).copied().unwrap_or_default();
            (worker.slots as usize).saturating_sub(held)
        };
        self.serving(store).map(free).sum()
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
