//! The `clean` pass, at the end of a job: ends the multipart uploads that its intents name and that no row says were
//! completed, exactly those, lists what may be ours or could not be ended, removes what is left of its
//! probes, and takes the job out of the bucket's lease.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Commit, HeldLease, Ledger};
use keyrotate_proto::id::{JobId, ShardRef};
use keyrotate_report::chain::ShardParts;
use keyrotate_report::leftovers::{self, Named, Unended};
use keyrotate_report::{ReportStore, intents};
use keyrotate_rewrap::probe;
use keyrotate_store::Upload;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::held::held;
use crate::pass::{SliceError, parts_of};

/// Uploads that are ended at a time. More than a few come about only where a store fails again and again.
const BATCH: usize = 10_000;

/// Calls at a time.
const CALLS: usize = 16;

impl Desk {
    /// Works on the one shard of a `clean` pass.
    pub(crate) async fn clean(&self, mut lease: HeldLease, stop: &CancellationToken) -> Result<(), SliceError> {
        let job = lease.job().clone();
        let Some(done) = held(&self.site.ledger, &self.env, &mut lease, stop, self.clean_up(&job)).await? else {
            return Ok(self.site.ledger.give_back(lease).await?);
        };
        done?;
        let end = lease.record().range.end_position();
        let commit = Commit { cursor: end, ..Commit::of(lease.record()) };
        self.site.ledger.commit(&mut lease, commit).await?;
        Ok(self.site.ledger.finish(lease).await?)
    }

    async fn clean_up(&self, job: &JobRecord) -> Result<(), SliceError> {
        let reports = self.site.reports.of(&job.id)?;
        let mut left = Left { reports: Arc::clone(&reports), listed: BTreeSet::new() };
        let mut unended = Unended::default();
        for (shard, parts) in shards(&self.site.ledger, reports.as_ref(), job).await? {
            leftovers::collect(&reports, &shard, parts, &mut unended).await?;
            if unended.ours.len() + unended.unnamed.len() >= BATCH {
                self.end(job, std::mem::take(&mut unended), &mut left).await?;
            }
        }
        self.end(job, unended, &mut left).await?;
        // No other start knows that nobody is at this job's probes any more.
        self.sweep_own(job).await;
        self.leave_bucket(job).await;
        Ok(())
    }

    /// Removes the job's own probes, of whichever attempt.
    pub(crate) async fn sweep_own(&self, job: &JobRecord) {
        self.sweep(job.probe_place(), &BTreeSet::from([job.id.clone()])).await;
    }

    /// Removes probes that killed processes of jobs left which are `gone`, from one place: a bucket and a prefix.
    pub(crate) async fn sweep(&self, (bucket, prefix): (&str, &str), gone: &BTreeSet<JobId>) {
        let _permit = self.permits.call().await;
        let swept = probe::sweep(self.store.as_ref(), bucket, prefix, gone, &self.env).await;
        if let Err(error) = swept {
            tracing::warn!(error = &error as &dyn std::error::Error, "probes of ours could not be looked for");
        }
    }

    /// Ends what is ours. All of it stands in the list before the first call: a pass that is cut off has told.
    async fn end(&self, job: &JobRecord, unended: Unended, left: &mut Left) -> Result<(), SliceError> {
        left.listed.extend(unended.ours.iter().cloned());
        left.write().await?;
        let bucket = job.spec.bucket.as_str();
        let calls: Vec<_> = unended.ours.iter().map(|named| self.end_one(bucket, named)).collect();
        let ended: Vec<_> = stream::iter(calls).buffer_unordered(CALLS).collect().await;
        for named in ended.into_iter().flatten() {
            left.listed.remove(named);
        }
        let calls: Vec<_> = unended.unnamed.iter().map(|key| self.open_uploads(bucket, key)).collect();
        let open: Vec<_> = stream::iter(calls).buffer_unordered(CALLS).collect().await;
        left.listed.extend(open.into_iter().flatten().filter(|named| !unended.ours.contains(named)));
        left.write().await
    }

    /// Ends one upload of ours; gives it back where that was done.
    async fn end_one<'a>(&self, bucket: &str, named: &'a Named) -> Option<&'a Named> {
        let upload = Upload { bucket: bucket.to_owned(), key: named.0.clone(), id: named.1.clone() };
        let _permit = self.permits.call().await;
        let ended = self.store.abort_upload(&upload).await;
        if let Err(error) = &ended {
            // The store's own words may name the object.
            tracing::warn!(kind = error.kind.word(), "an upload of ours could not be ended");
            tracing::debug!(error = error as &dyn std::error::Error, "an upload of ours could not be ended");
        }
        ended.is_ok().then_some(named)
    }

    /// Uploads on a key of ours whose id was never put down: perhaps ours, perhaps a user's. They are listed, not ended.
    async fn open_uploads(&self, bucket: &str, key: &str) -> Vec<Named> {
        let _permit = self.permits.call().await;
        let open = self.store.uploads(bucket, key).await.unwrap_or_default();
        open.into_iter().filter(|upload| upload.key == key).map(|upload| (upload.key, upload.id)).collect()
    }
}

/// The list for the report.
struct Left {
    reports: Arc<dyn ReportStore>,
    listed: BTreeSet<Named>,
}

impl Left {
    async fn write(&self) -> Result<(), SliceError> {
        Ok(leftovers::write(self.reports.as_ref(), &self.listed).await?)
    }
}

/// The shards of all passes and their parts; also those that put intents down and that a checkpoint which came back does
/// not know any more.
async fn shards(
    ledger: &Ledger,
    reports: &dyn ReportStore,
    job: &JobRecord,
) -> Result<Vec<(ShardRef, ShardParts)>, SliceError> {
    let mut all = Vec::new();
    for pass in &job.passes {
        let known = ledger.shards(&job.id, pass.id).await?;
        let mut forgotten = intents::shards(reports, pass.id).await?;
        forgotten.retain(|shard| known.iter().all(|known| known.shard.shard != *shard));
        let nothing = ShardParts { range: job.scope(), last_part: None };
        all.extend(forgotten.into_iter().map(|shard| {
            let shard = ShardRef { job: job.id.clone(), pass: pass.id, shard };
            (shard, nothing.clone())
        }));
        all.extend(known.into_iter().map(|shard| (shard.shard.clone(), parts_of(&shard))));
    }
    Ok(all)
}
