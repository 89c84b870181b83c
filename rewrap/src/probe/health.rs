//! What is asked while a job runs: does the canary still open, does the store still open the target key; and what
//! killed processes left.

use std::collections::BTreeSet;

use keyrotate_kms::{Kms, KmsErrorKind};
use keyrotate_proto::capability::{Frozen, FrozenTarget};
use keyrotate_proto::id::JobId;
use keyrotate_proto::state::{PauseReason, StopReason};
use keyrotate_store::{ErrorKind, GetRequest, ObjectAt, Store, StoreError};

use super::objects::{job_of, list, remove};
use super::target::{CANARY_CONTEXT, kes_name};
use crate::classify::halt;
use crate::halt::Halt;

/// Deletes the probes that killed processes left, and aborts their uploads, those of `live` jobs apart; gives how
/// many. Only what has a name of ours, to the letter.
///
/// # Errors
/// When the store can't be asked, or refuses.
pub async fn sweep(store: &dyn Store, bucket: &str, prefix: &str, live: &BTreeSet<JobId>) -> Result<u64, Halt> {
    let stem = format!("{prefix}probe-");
    let ours = |key: &str| job_of(prefix, key).is_some_and(|job| !live.contains(&job));
    let failed = |e: StoreError| halt(&e);
    let versions = store.bucket(bucket).await.map_err(failed)?.versioning.has_versions();
    let mut entries = list(store, bucket, &stem, versions).await.map_err(failed)?;
    entries.retain(|e| ours(&e.key));
    remove(store, bucket, &entries).await.map_err(failed)?;
    let mut count = entries.len() as u64;
    // A store that does not list uploads has none that could be found.
    for upload in store.uploads(bucket, &stem).await.unwrap_or_default() {
        if ours(&upload.key) {
            store.abort_upload(&upload).await.map_err(failed)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Whether the canary made at the job's start still opens. Without one (no KES, or SSE-S3) there is nothing to ask.
///
/// # Errors
/// When it does not open, or KES can't say.
pub async fn canary(kms: &dyn Kms, frozen: &Frozen) -> Result<(), Halt> {
    let (Some(canary), FrozenTarget::SseKms { key, .. }) = (&frozen.canary, &frozen.target) else { return Ok(()) };
    let stop = |detail: String| Halt::Stop { reason: StopReason::Canary, detail };
    let sealed = hex::decode(canary).map_err(|_| stop("the record of the canary is damaged".into()))?;
    match kms.decrypt(kes_name(key), &sealed, CANARY_CONTEXT).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind {
            KmsErrorKind::KeyNotFound => Halt::Pause { reason: PauseReason::TargetKeyGone, detail: error.to_string() },
            KmsErrorKind::NotAuthentic => stop(format!(
                "{error}: the target key `{key}` was deleted and made anew under its name, or this is another KES, or the \
                 job's record is not the one that was written"
            )),
            _ => Halt::Pause { reason: PauseReason::KmsDown, detail: error.to_string() },
        }),
    }
}

/// Reads one byte of an object through the store: shows that the store still opens the key that it is under. An
/// object that is gone or empty shows nothing.
///
/// # Errors
/// When the store does not open it.
pub async fn touch(store: &dyn Store, at: &ObjectAt) -> Result<(), Halt> {
    let first = GetRequest { range: Some((0, 1)), ..GetRequest::of(at) };
    let read = match store.get(first).await {
        Ok((_, body)) => body.collect().await.map(|_| ()),
        Err(error) => Err(error),
    };
    match read {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Refused | ErrorKind::Precondition) => {
            Ok(())
        }
        Err(error) => Err(halt(&error)),
    }
}
