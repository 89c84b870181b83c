//! Passes and their shards, as the coordinator handles them.

use jiff::Timestamp;
use keyrotate_proto::id::{Epoch, JobId, PassId, ShardId, ShardRef};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::state::PassKind;
use keyrotate_proto::ticket::Ticket;

use super::transact::Change;
use super::{Ledger, LedgerError, encode};
use crate::backend::RecordKey;
use crate::record::{Asked, JobRecord, PassRecord, ShardRecord, ShardState, job_key, shard_key, shards_prefix};
use crate::transition::{self, Refusal, shard};

/// Shard rows per swap.
const BATCH: usize = 200;

impl Ledger {
    /// Opens a pass with a shard per range, because of what stands in `seen`: the rows are written first, then the pass
    /// becomes visible. What a process left that died in between is written over.
    ///
    /// # Errors
    /// When the job's state has no use for the pass, another was opened since, or another process opens one right now.
    pub async fn open_pass(
        &self,
        seen: &JobRecord,
        kind: PassKind,
        ranges: Vec<KeyRange>,
        not_before: Option<Timestamp>,
    ) -> Result<PassId, LedgerError> {
        let shards = seen.new_shards(ranges);
        self.open_pass_with(seen, kind, shards, not_before).await
    }

    /// [`Self::open_pass`] with shards that are made already, as [`JobRecord::new_shards`] makes them, and may stand
    /// somewhere behind their beginning.
    ///
    /// # Errors
    /// As [`Self::open_pass`].
    pub async fn open_pass_with(
        &self,
        seen: &JobRecord,
        kind: PassKind,
        shards: Vec<ShardRecord>,
        not_before: Option<Timestamp>,
    ) -> Result<PassId, LedgerError> {
        let (job, pass, word) = (&seen.id, transition::job::next_pass(seen), self.env.random_hex(8));
        let record = self
            .update_job(job, |job, now| {
                if transition::job::next_pass(job) != pass {
                    return Err(Refusal::Superseded);
                }
                // Asked for its refusals only.
                transition::job::open_pass(job, kind, 0, not_before, now)?;
                Ok(JobRecord { opening: Some(word.clone()), ..job.clone() })
            })
            .await?;
        self.remove_leftovers(job, pass, &word).await?;
        for batch in shards.chunks(BATCH) {
            let mut writes = Vec::with_capacity(batch.len());
            for shard in batch {
                let key = shard_key(&shard.shard);
                let epoch = Epoch { nonce: record.nonce.clone(), counter: 0 };
                writes.push((key.clone(), Some(encode(&key, &ShardRecord { epoch, ..shard.clone() })?)));
            }
            self.while_opening(job, &word, writes).await?;
        }
        let count = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        let visible = |job: &JobRecord, now| {
            if job.passes.iter().any(|p| p.id == pass) && job.opening.is_none() {
                return Ok(job.clone());
            }
            mine(job, &word)?;
            transition::job::open_pass(job, kind, count, not_before, now)
        };
        self.update_job(job, visible).await.map(|_| pass)
    }

    async fn remove_leftovers(&self, job: &JobId, pass: PassId, word: &str) -> Result<(), LedgerError> {
        let prefix = shards_prefix(job, pass);
        loop {
            let page = self.page(&prefix, None).await?;
            if page.is_empty() {
                return Ok(());
            }
            self.while_opening(job, word, page.into_iter().map(|listed| (listed.key, None)).collect()).await?;
        }
    }

    /// Writes rows that nobody sees yet, while the job still carries our word.
    async fn while_opening(
        &self,
        job: &JobId,
        word: &str,
        writes: Vec<(RecordKey, Option<Vec<u8>>)>,
    ) -> Result<(), LedgerError> {
        let mut keys = vec![job_key(job)];
        keys.extend(writes.iter().map(|(key, _)| key.clone()));
        self.transact(&keys, |view| {
            mine(&view.get(&keys[0])?, word)?;
            Ok(Change { writes: writes.clone(), ..Change::none(()).quiet() })
        })
        .await
    }

    /// Closes a pass whose shards are all over and sums them up.
    ///
    /// # Errors
    /// [`Refusal::OpenShards`], or [`LedgerError::Lost`] when a shard's record is missing.
    pub async fn close_pass(&self, job: &JobId, pass: PassId) -> Result<PassRecord, LedgerError> {
        loop {
            let before = self.job(job).await?;
            let record = before.pass(pass).ok_or(Refusal::NoPass(pass))?;
            if !record.open {
                return Ok(record.clone());
            }
            let (expected, shards) = (record.shards, self.shards(job, pass).await?);
            if !shards.iter().map(|s| s.shard.shard).eq((0..expected).map(ShardId)) {
                // Either a split came between the two reads, or records are gone: never close what is not whole.
                if self.job(job).await?.pass(pass).is_some_and(|p| p.shards == expected) {
                    return Err(LedgerError::Lost(RecordKey(shards_prefix(job, pass))));
                }
                continue;
            }
            if shards.iter().any(|s| !s.state.is_over()) {
                return Err(Refusal::OpenShards(pass).into());
            }
            let (mut counts, mut replaced) = (Counts::default(), Counts::default());
            shards.iter().for_each(|s| counts.add(&s.counts));
            shards.iter().for_each(|s| replaced.add(&s.replaced));
            let listed = shards.iter().map(|s| s.listed).sum();
            let abandoned = shards.iter().map(|s| u32::from(s.state == ShardState::Abandoned)).sum();
            // Shards that are all over can't be split any more: the sums stand.
            let close = |job: &JobRecord, now| {
                transition::job::close_pass(job, pass, &counts, &replaced, listed, abandoned, now)
            };
            let closed = self.update_job(job, close).await?;
            return closed.pass(pass).cloned().ok_or(Refusal::NoPass(pass).into());
        }
    }

    /// All shards of a pass, by number.
    ///
    /// # Errors
    /// When the back-end does not answer, or a record can't be read.
    pub async fn shards(&self, job: &JobId, pass: PassId) -> Result<Vec<ShardRecord>, LedgerError> {
        self.scan_all(&shards_prefix(job, pass)).await
    }

    /// One shard.
    ///
    /// # Errors
    /// [`LedgerError::Lost`] when there is none.
    pub async fn shard(&self, shard: &ShardRef) -> Result<ShardRecord, LedgerError> {
        let key = shard_key(shard);
        self.view(std::slice::from_ref(&key)).await?.get(&key)
    }

    /// Writes down that a ticket for the shard was confirmed, and when it is to be taken for lost.
    ///
    /// # Errors
    /// When the record is missing or the back-end does not answer.
    pub async fn ticket_published(&self, ticket: &Ticket, lost_after: std::time::Duration) -> Result<(), LedgerError> {
        let key = shard_key(&ticket.shard);
        self.transact(std::slice::from_ref(&key), |view| {
            let record: ShardRecord = view.get(&key)?;
            let until = view.now.checked_add(lost_after).unwrap_or(Timestamp::MAX);
            let next = shard::ticket_published(&record, &ticket.epoch, until);
            if next == record { Ok(Change::none(())) } else { Change::none(()).quiet().write(&key, &next) }
        })
        .await
    }

    /// Forgets a ticket for the shard that is under way, so that another goes out at once; whether the shard wants one at
    /// all: its job is there and at it, its pass is open, and nobody works on it.
    ///
    /// # Errors
    /// When the back-end does not answer, or a record can't be read.
    pub async fn forget_ticket(&self, shard: &ShardRef) -> Result<bool, LedgerError> {
        let (job_key, key) = (job_key(&shard.job), shard_key(shard));
        self.transact(&[job_key.clone(), key.clone()], |view| {
            let (Some(job), Some(record)) = (view.find::<JobRecord>(&job_key)?, view.find::<ShardRecord>(&key)?) else {
                return Ok(Change::none(false));
            };
            let open = job.pass(shard.pass).is_some_and(|pass| pass.open) && !job.state.is_ended();
            let next = ShardRecord { ticket_out_until: None, ..record.clone() };
            match open && next.wants_ticket(&job, view.now) {
                true if next == record => Ok(Change::none(true)),
                true => Change::none(true).write(&key, &next),
                false => Ok(Change::none(false)),
            }
        })
        .await
    }

    /// Asks something of whoever holds the shard, who hears of it with the answer to his next commit or renewal.
    ///
    /// # Errors
    /// When the record is missing or the back-end does not answer.
    pub async fn ask(&self, shard: &ShardRef, asked: Asked) -> Result<(), LedgerError> {
        self.update_shard(shard, |record, _| Ok(shard::ask(record, asked))).await.map(drop)
    }

    /// Takes a lease that ran out, charging the shard unless it got on. A lease that stands is left alone.
    ///
    /// # Errors
    /// When the record is missing or the back-end does not answer.
    pub async fn expire(&self, shard: &ShardRef) -> Result<ShardRecord, LedgerError> {
        self.update_shard(shard, |record, now| Ok(shard::void(record, Some(now)))).await
    }

    /// Takes every lease of a job's open passes, whether or not it ran out, and forgets tickets under way. Only for
    /// whoever knows that no holder lives: the owner of a local lock. Answers how many there were.
    ///
    /// # Errors
    /// When a record is missing or the back-end does not answer.
    pub async fn void_leases(&self, job: &JobId) -> Result<usize, LedgerError> {
        let mut taken = 0;
        for pass in self.job(job).await?.passes.iter().filter(|pass| pass.open) {
            for record in self.shards(job, pass.id).await? {
                let leased = matches!(record.state, ShardState::Leased { .. });
                if leased || record.ticket_out_until.is_some() {
                    self.update_shard(&record.shard, |record, _| {
                        Ok(ShardRecord { ticket_out_until: None, ..shard::void(record, None) })
                    })
                    .await?;
                    taken += usize::from(leased);
                }
            }
        }
        Ok(taken)
    }

    async fn update_shard(
        &self,
        shard: &ShardRef,
        change: impl Fn(&ShardRecord, Timestamp) -> Result<ShardRecord, Refusal> + Send + Sync,
    ) -> Result<ShardRecord, LedgerError> {
        let key = shard_key(shard);
        self.transact(std::slice::from_ref(&key), |view| {
            let record: ShardRecord = view.get(&key)?;
            let next = change(&record, view.now)?;
            if next == record { Ok(Change::none(next)) } else { Change::none(next.clone()).write(&key, &next) }
        })
        .await
    }
}

fn mine(job: &JobRecord, word: &str) -> Result<(), Refusal> {
    if job.opening.as_deref() == Some(word) { Ok(()) } else { Err(Refusal::Superseded) }
}
