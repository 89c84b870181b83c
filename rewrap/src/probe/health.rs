//! What is asked while a job runs: does the canary still open, does the store still open the target key; and what
//! killed processes left.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use keyrotate_env::Env;
use keyrotate_kms::{Kms, KmsErrorKind};
use keyrotate_proto::capability::{Frozen, FrozenTarget};
use keyrotate_proto::id::JobId;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::state::{PauseReason, StopReason};
use keyrotate_store::{ErrorKind, GetRequest, ObjectAt, Sse, Store, StoreError};

use super::ProbeSettings;
use super::objects::{Form, Yard, job_of, list, remove};
use super::target::{CANARY_CONTEXT, kes_name};
use crate::classify::halt;
use crate::halt::Halt;

/// A probe of a job that we know nothing of is left alone for so long: another installation may be at it.
const MAY_BE_AT_WORK: SignedDuration = SignedDuration::from_mins(15);

/// An upload shows no date of its own, so its job's name, made at most a pause's length before, stands for it.
const JOB_MAY_PREPARE: SignedDuration = SignedDuration::from_hours(25);

/// Deletes the probes that killed processes left, and aborts their uploads; gives how many. Only what has a name of
/// ours, to the letter: of the jobs `gone`, of which nobody makes probes any more, at once; of other installations' jobs
/// what has grown old.
///
/// # Errors
/// When the store can't be asked, or refuses.
pub async fn sweep(
    store: &dyn Store,
    bucket: &str,
    prefix: &str,
    gone: &BTreeSet<JobId>,
    env: &Env,
) -> Result<u64, StoreError> {
    let stem = format!("{prefix}probe-");
    let facts = store.bucket(bucket).await?;
    // Dates are the store's, so its clock judges them.
    let now = facts.server_date.unwrap_or_else(|| env.now());
    let left = |key: &str, date: Option<Timestamp>| {
        job_of(prefix, key).is_some_and(|job| {
            let made = || Timestamp::from_millisecond(i64::try_from(job.unix_ms()).unwrap_or(i64::MAX)).ok();
            let (date, bound) = date.map_or((made(), JOB_MAY_PREPARE), |date| (Some(date), MAY_BE_AT_WORK));
            gone.contains(&job) || date.is_some_and(|date| now.duration_since(date) > bound)
        })
    };
    let mut entries = list(store, bucket, &stem, facts.versioning.has_versions()).await?;
    entries.retain(|e| left(&e.key, Some(e.last_modified)));
    remove(store, bucket, &entries).await?;
    let mut count = entries.len() as u64;
    // A store that does not list uploads has none that could be found.
    for upload in store.uploads(bucket, &stem).await.unwrap_or_default() {
        if left(&upload.key, None) {
            store.abort_upload(&upload).await?;
            count += 1;
        }
    }
    Ok(count)
}

/// Whether the canaries made at the job's start still open. Without one (no KES, or SSE-S3) there is nothing to ask.
///
/// # Errors
/// When it does not open, or KES can't say.
pub async fn canary(kms: &dyn Kms, frozen: &Frozen) -> Result<(), Halt> {
    let FrozenTarget::SseKms { key, .. } = &frozen.target else { return Ok(()) };
    for (key, canary) in frozen.canary.iter().map(|canary| (key, canary)).chain(&frozen.canaries) {
        opens(kms, key, canary).await?;
    }
    Ok(())
}

async fn opens(kms: &dyn Kms, key: &KeyName, canary: &str) -> Result<(), Halt> {
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
/// object that is gone, empty or in an archive, or that somebody has put again under a key of his own, shows nothing.
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
        Err(error) if shows_nothing(error.kind) => Ok(()),
        Err(error) => Err(unopened(at, halt(&error))),
    }
}

fn shows_nothing(kind: ErrorKind) -> bool {
    use ErrorKind::{Archived, CustomerKey, NotFound, Precondition, Refused};
    matches!(kind, NotFound | Refused | Precondition | Archived | CustomerKey)
}

/// What it may mean that the store does not open what is under the target key. Nobody can tell the causes apart.
fn unopened(at: &ObjectAt, halt: Halt) -> Halt {
    match halt {
        Halt::Pause { reason: reason @ (PauseReason::KmsDown | PauseReason::TargetKeyGone), detail } => {
            let causes = "the key was deleted, or deleted and made anew under its name, or the store may not use it or asks \
                          another KMS, or the object's encryption context is not what it was written with";
            Halt::Pause {
                reason,
                detail: format!("{detail}; {}/{} is under the target key: {causes}", at.bucket, at.key),
            }
        }
        other => other,
    }
}

/// Writes one probe under the target key, reads it and removes it: shows that a job which could not write may be able
/// to now.
///
/// # Errors
/// When the store does not take it, or does not give it back.
pub async fn writes(
    store: &dyn Store,
    bucket: &str,
    settings: &ProbeSettings,
    target: &FrozenTarget,
) -> Result<(), Halt> {
    let facts = store.bucket(bucket).await.map_err(|e| halt(&e))?;
    // A default retention would keep one of each try.
    if facts.default_retention.is_some() {
        return Ok(());
    }
    let sse = match target {
        FrozenTarget::SseS3 => Sse::S3,
        FrozenTarget::SseKms { key, context, .. } => {
            Sse::Kms { key: Some(key.clone()), context: context.clone(), bucket_key: None }
        }
    };
    let yard = Yard { store, bucket, settings, has_versions: facts.versioning.has_versions() };
    let opened = match yard.make(Form::Target, &sse).await {
        Ok(made) => touch(store, &made.at).await,
        Err(error) => Err(halt(&error)),
    };
    let wiped = yard.wipe(&yard.at(Form::Target).key).await;
    opened.and(wiped.map_err(|e| halt(&e)))
}
