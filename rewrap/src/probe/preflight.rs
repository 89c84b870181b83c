//! What must hold before anything is written, and what must have come out before a job may start.

use jiff::SignedDuration;
use keyrotate_env::Env;
use keyrotate_proto::capability::{Frozen, FrozenTarget};
use keyrotate_proto::key::KeyName;
use keyrotate_proto::spec::JobSpec;
use keyrotate_proto::state::PauseReason;
use keyrotate_store::{BucketFacts, ErrorKind, GetRequest, HeadRequest, ListFrom, ListRequest, ObjectAt, Store};

use super::Refusal;
use super::objects::{Made, Yard};

/// Signatures of S3 hold for 15 minutes; what is measured here in whole seconds must be far from it.
const MOST_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Entries of the first page that are looked at for another key, and HEADs for it where the listing shows none.
const SAMPLE: u32 = 200;
const SAMPLE_HEADS: usize = 25;

/// The bucket can be reached and listed below what we need of it, and the clocks agree. Writes nothing.
///
/// # Errors
/// What is wrong and how to mend it.
pub async fn bucket(store: &dyn Store, bucket: &str, prefix: &str, env: &Env) -> Result<BucketFacts, Refusal> {
    let doing = |what: &str| format!("{what} the bucket `{bucket}`");
    let facts = store.bucket(bucket).await.map_err(|e| Refusal::store(&doing("asking for"), &e))?;
    if let Some(theirs) = facts.server_date {
        let ours = env.now();
        if ours.duration_since(theirs).abs() > MOST_SKEW {
            let what = format!("the clocks differ: this machine says {ours}, the store {theirs}");
            let mend = "set the one that is wrong (the store refuses requests that are 15 minutes off)".into();
            return Err(Refusal { what, mend, pause: Some(PauseReason::ClockSkew) });
        }
    }
    let request = ListRequest {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        versions: facts.versioning.has_versions(),
        from: ListFrom::Start,
        limit: 1,
        with_facts: false,
    };
    store.list(request).await.map_err(|e| Refusal::store(&doing("listing"), &e))?;
    Ok(facts)
}

/// Probes must not be kept by a default retention, unless the file says so.
pub(super) fn retention(facts: &BucketFacts, bucket: &str, spec: &JobSpec) -> Result<(), Refusal> {
    match &facts.default_retention {
        Some((mode, days)) if !spec.options.retained_probes => Err(Refusal::new(
            format!("the bucket `{bucket}` keeps every new object for {days} days ({mode}), our probes too"),
            "set `retainedProbes: true`, or name another bucket for the probes",
        )),
        _ => Ok(()),
    }
}

/// A listing of versions that begins right before a key shows that key. Every shard begins so, and what the store
/// leaves out there nobody would ever see, `verifying` neither.
pub(super) async fn versions_without_gaps(yard: &Yard<'_>, probe: &Made) -> Result<(), Refusal> {
    if !yard.has_versions {
        return Ok(());
    }
    let key = &probe.at.key;
    let mut marker = key.clone();
    marker.pop();
    let request = ListRequest {
        bucket: yard.bucket.to_owned(),
        // MinIO answers 501 to a marker that does not begin with the prefix.
        prefix: yard.settings.prefix.clone(),
        versions: true,
        from: ListFrom::AfterKey(marker.clone()),
        limit: 1,
        with_facts: false,
    };
    let page = yard.store.list(request).await.map_err(|e| Refusal::store("listing our probe", &e))?;
    if page.entries.iter().any(|entry| entry.key == *key) {
        return Ok(());
    }
    Err(Refusal::new(
        format!(
            "the store's listing of versions leaves out `{key}` when it begins behind `{marker}`: objects would be missed"
        ),
        "see whether a newer release of the store lists rightly; buckets without versions are listed by another call",
    ))
}

/// Bodies may be read: without that right nothing can be proven, and every trial would say so in its own words.
pub(super) async fn readable(yard: &Yard<'_>, probe: &Made) -> Result<(), Refusal> {
    let request = GetRequest { range: Some((0, 1)), ..GetRequest::of(&probe.at) };
    match yard.store.get(request).await {
        Err(error) if error.kind == ErrorKind::Denied => Err(Refusal::store("reading a probe object of ours", &error)),
        _ => Ok(()),
    }
}

/// A key other than the target, to make an SSE-KMS source with: the file's `kmskey`, else the first that is seen.
/// Without one the first objects of a job go one at a time, so that nothing is lost where the store does not answer.
pub(super) async fn other_key(store: &dyn Store, spec: &JobSpec, target: &FrozenTarget) -> Option<KeyName> {
    if let Some(key) = spec.filter.kms_key.as_ref().filter(|key| !target.has(key)) {
        return Some(key.clone());
    }
    let request = ListRequest {
        bucket: spec.bucket.clone(),
        prefix: spec.prefix.clone(),
        versions: false,
        from: ListFrom::Start,
        limit: SAMPLE,
        with_facts: true,
    };
    let page = store.list(request).await.ok()?;
    let other =
        |seal: keyrotate_proto::row::Seal| seal.kms_key().filter(|key| !key.0.is_empty() && !target.has(key)).cloned();
    let listed = page.entries.iter().filter_map(|e| e.facts.as_deref());
    if let Some(key) = listed.map(|facts| facts.sse.seal()).find_map(other) {
        return Some(key);
    }
    for entry in page.entries.iter().filter(|e| e.facts.is_none()).take(SAMPLE_HEADS) {
        let at = ObjectAt::current(&spec.bucket, &entry.key);
        if let Ok(object) = store.head(HeadRequest::of(&at)).await
            && let Some(key) = other(object.sse.seal())
        {
            return Some(key);
        }
    }
    None
}

/// Whether what was proven is enough for any object at all.
pub(super) fn usable(frozen: &Frozen, spec: &JobSpec) -> Result<(), Refusal> {
    if frozen.proofs.is_empty() {
        let what = format!("nothing that changes an object's key works on this store: {}", frozen.notes.join("; "));
        return Err(Refusal::new(what, "see which rights or features are missing"));
    }
    if !spec.options.allow_unguarded && !frozen.proofs.iter().any(|p| p.guarded) {
        return Err(Refusal::new(
            "this store guards no write against a concurrent one: what others write meanwhile may be lost",
            "set `allowUnguarded: true` if nobody else writes to the bucket",
        ));
    }
    Ok(())
}
