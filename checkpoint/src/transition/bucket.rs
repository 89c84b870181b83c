//! Which jobs may work on a bucket: one per key at a time.

use keyrotate_proto::id::JobId;

use super::Refusal;
use crate::record::{BucketRecord, JobRecord, ScopeEntry};

/// A job begins: its keys must be free of live jobs; failed ones that it meets lose their place. A dry run takes none.
///
/// # Errors
/// Names the live job that works on some of the same keys.
pub fn begin(bucket: &BucketRecord, job: &JobRecord) -> Result<BucketRecord, Refusal> {
    if job.dry_run {
        return Ok(bucket.clone());
    }
    let range = job.scope();
    let meets = |entry: &&ScopeEntry| entry.job != job.id && entry.range.overlaps(&range);
    if let Some(holder) = bucket.entries.iter().filter(meets).find(|e| !e.failed) {
        return Err(Refusal::Overlap { job: holder.job.clone(), range: holder.range.clone() });
    }
    let mut next = bucket.clone();
    next.entries.retain(|entry| entry.job != job.id && !meets(&entry));
    next.entries.push(ScopeEntry { job: job.id.clone(), range, failed: false });
    Ok(next)
}

/// A job ended: its place is free, or kept for a resume when it failed.
#[must_use]
pub fn end(bucket: &BucketRecord, job: &JobId, failed: bool) -> BucketRecord {
    let mut next = bucket.clone();
    if failed {
        next.entries.iter_mut().filter(|e| e.job == *job).for_each(|e| e.failed = true);
    } else {
        next.entries.retain(|e| e.job != *job);
    }
    next
}

/// A failed job goes on: its place must still be there.
///
/// # Errors
/// When another job began on its keys since.
pub fn resume(bucket: &BucketRecord, job: &JobId) -> Result<BucketRecord, Refusal> {
    let mut next = bucket.clone();
    let entry = next.entries.iter_mut().find(|e| e.job == *job).ok_or(Refusal::PlaceTaken)?;
    entry.failed = false;
    Ok(next)
}
