//! The `prepare` pass: preflight, the target key, and what this store can do in this bucket, proven on objects of
//! our own.

pub mod effects;
mod health;
mod objects;
mod preflight;
mod refusal;
mod target;
mod transit;
mod trial;

use std::collections::BTreeSet;
use std::time::Duration;

use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::capability::{FROZEN_VERSION, Frozen, FrozenTarget, LeasePlace, Proof, Property, SourceKind};
use keyrotate_proto::id::JobId;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::spec::{JobSpec, Loss};
use keyrotate_store::{BucketFacts, ErrorKind, Sse, Store, StoreError};

pub use health::{canary, sweep, touch, writes};
pub use objects::{Ours, is_probe};
pub use preflight::bucket as look;
pub use refusal::Refusal;
pub use target::default_encryption;
pub use transit::{must_pass, only_rewrite};

use objects::{Form, Made, Yard};
use trial::Unproven;

/// Where probes live, and what the surroundings say.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// Prefix of our objects, with its `/`; default `.keyrotate/`.
    pub prefix: String,
    /// Another bucket for the probes: proves everything but `update-encryption`.
    pub probe_bucket: Option<String>,
    /// The job.
    pub job: JobId,
    /// Eight hexadecimal digits that no other attempt to prepare the job has: a process that was given up may be at it still.
    pub attempt: String,
    /// Jobs of this installation that have ended: what they left is swept at once, whatever its age.
    pub gone: BTreeSet<JobId>,
    /// `MINIO_KMS_KES_KEY_NAME`, compared with the store's default where the file names no key.
    pub default_key: Option<KeyName>,
    /// Bytes of the first of two parts: the least that the store takes; default 5 MiB.
    pub part: usize,
}

impl ProbeSettings {
    /// The usual ones.
    #[must_use]
    pub fn new(job: JobId) -> Self {
        let prefix = objects::PREFIX.into();
        let attempt = "00000000".to_owned();
        Self { prefix, probe_bucket: None, job, attempt, gone: BTreeSet::new(), default_key: None, part: 5 << 20 }
    }
}

/// Preflight, target key, canary, proofs. Leaves no probe behind, also when it fails.
///
/// # Errors
/// When the job can't be started: what is wrong and how to mend it.
pub async fn prepare(
    store: &dyn Store,
    kms: Option<&dyn Kms>,
    spec: &JobSpec,
    settings: &ProbeSettings,
    env: &Env,
) -> Result<Frozen, Refusal> {
    let facts = preflight::bucket(store, &spec.bucket, &spec.prefix, env).await?;
    let probe_bucket = settings.probe_bucket.as_deref().unwrap_or(&spec.bucket);
    let probe_facts = match &settings.probe_bucket {
        Some(bucket) => preflight::bucket(store, bucket, &settings.prefix, env).await?,
        None => facts.clone(),
    };
    preflight::retention(&probe_facts, probe_bucket, spec)?;
    let mut gone = settings.gone.clone();
    gone.insert(settings.job.clone());
    let swept = sweep(store, probe_bucket, &settings.prefix, &gone, env).await;
    swept.map_err(|e| Refusal::store("removing probes of an earlier start", &e))?;
    let has_versions = probe_facts.versioning.has_versions();
    let yard = Yard { store, bucket: probe_bucket, settings, has_versions };
    let found = prove(&yard, kms, spec, &facts, &probe_facts).await;
    let left = yard.wipe_all().await;
    let mut frozen = found?;
    if !left.is_empty() && !spec.options.retained_probes {
        return Err(Refusal::new(
            left.join("; "),
            "grant s3:DeleteObject and s3:DeleteObjectVersion, or set `retainedProbes: true`",
        ));
    }
    frozen.notes.extend(left);
    preflight::usable(&frozen, spec)?;
    Ok(frozen)
}

/// Everything that needs probe objects.
async fn prove(
    yard: &Yard<'_>,
    kms: Option<&dyn Kms>,
    spec: &JobSpec,
    facts: &BucketFacts,
    probe_facts: &BucketFacts,
) -> Result<Frozen, Refusal> {
    let target = target::resolve(yard, facts, spec).await?;
    let mut canaries = target::canaries(kms, &target).await?;
    let canary = match &target {
        FrozenTarget::SseKms { key, .. } => canaries.remove(key),
        FrozenTarget::SseS3 => None,
    };
    let mut frozen = Frozen {
        version: FROZEN_VERSION,
        versioning: facts.versioning,
        listing_facts: false,
        tags_announced: false,
        probed: BTreeSet::new(),
        same_bucket: yard.bucket == spec.bucket,
        proofs: Vec::new(),
        notes: Vec::new(),
        new_objects: None,
        acl_owner: None,
        retains: facts.default_retention.is_some(),
        lease: LeasePlace::Reports,
        canary,
        canaries,
        target,
    };
    let sources = sources(yard, spec, &mut frozen).await?;
    if let Some((_, made)) = sources.first() {
        preflight::versions_without_gaps(yard, made).await?;
        preflight::readable(yard, made).await?;
    }
    // A listing never shows locks, so in a bucket that may have them every object gets a HEAD.
    let filters_by_expires = spec.filter.metadata.iter().any(|pattern| pattern.key.eq_ignore_ascii_case("expires"));
    frozen.listing_facts = !facts.lock_enabled
        && !filters_by_expires
        && !sources.is_empty()
        && sources.iter().all(|(_, made)| listing_shows(made));
    frozen.tags_announced = !sources.is_empty() && sources.iter().all(|(_, made)| made.object.tag_count == Some(2));
    if let Some((_, made)) = sources.first().filter(|_| !frozen.listing_facts && !probe_facts.acls_off) {
        acl_owner(yard, made, &mut frozen).await?;
    }
    for (sse, _) in &sources {
        for strategy in tried(spec, &frozen, sse) {
            attempt(yard, (spec, &mut frozen), strategy, sse, false).await?;
        }
    }
    for (sse, _) in &sources {
        parts(yard, spec, &mut frozen, sse).await?;
    }
    if !target::new_objects_get(yard, facts, &spec.bucket, &frozen.target).await {
        let alias_and_bucket = format!("ALIAS/{}", spec.bucket);
        frozen.new_objects = Some(default_encryption(frozen.shows_minio(), &frozen.target, &alias_and_bucket));
    }
    if probe_facts.versioning != facts.versioning {
        frozen.notes.push("in place is not used: the probe bucket's versioning is another one".into());
        frozen.proofs.retain(|p| !p.strategy.is_in_place());
    }
    Ok(frozen)
}

/// Makes one probe of each kind of source that the job may write.
async fn sources(yard: &Yard<'_>, spec: &JobSpec, frozen: &mut Frozen) -> Result<Vec<(Sse, Made)>, Refusal> {
    let mut wanted = Vec::new();
    if spec.dialect.encrypts_plaintext() {
        wanted.push(Sse::None);
    }
    wanted.push(Sse::S3);
    if frozen.target != FrozenTarget::SseS3 {
        match preflight::other_key(yard.store, spec, &frozen.target).await {
            Some(other) => wanted.push(Sse::Kms { key: Some(other), context: None, bucket_key: None }),
            None => {
                frozen.notes.push("no other KMS key was seen yet: the first SSE-KMS objects go one at a time".into())
            }
        }
    }
    let mut sources = Vec::new();
    for sse in wanted {
        let Some(kind) = crate::facts::kind_of(&sse) else { continue };
        let (doing, mut unanswered) = (format!("making a probe {}", sse.seal()), Unanswered::default());
        let made = loop {
            let made = yard.make(Form::Single(kind), &sse).await.map_err(Unproven::from);
            if let Some(made) = unanswered.heard(&doing, made).await? {
                break made;
            }
        };
        match made {
            Ok(made) if crate::facts::kind_of(&made.object.sse) == Some(kind) => {
                frozen.probed.insert(kind);
                sources.push((sse, made));
            }
            Ok(made) => frozen.notes.push(format!(
                "no probe {} could be made: it became {}",
                sse.seal(),
                made.object.sse.seal()
            )),
            Err(why) => frozen.notes.push(format!("no probe {} could be made: {why}", sse.seal())),
        }
    }
    Ok(sources)
}

/// How often more is asked what is not answered, and the first wait between; each further one is twice as long.
const MORE_TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What was not answered so far: a network that fails for a moment must not decide what a whole job does.
#[derive(Default)]
struct Unanswered(Vec<StoreError>);

impl Unanswered {
    /// What came of asking: the inner `Err` says what the store showed, `None` that it is to be asked again.
    ///
    /// # Errors
    /// When it does not answer. Where the same call fails in the same way each time, that is an answer.
    async fn heard<T>(
        &mut self,
        doing: &str,
        answer: Result<T, Unproven>,
    ) -> Result<Option<Result<T, String>>, Refusal> {
        let error = match answer {
            Ok(answer) => return Ok(Some(Ok(answer))),
            Err(Unproven::Shown(why)) => return Ok(Some(Err(why))),
            Err(Unproven::Unanswered(error)) => error,
        };
        let times = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if times < MORE_TRIES {
            self.0.push(error);
            tokio::time::sleep(FIRST_WAIT * (1 << times)).await;
            return Ok(None);
        }
        let shows = matches!(error.kind, ErrorKind::Server | ErrorKind::NotFound);
        let same = |one: &StoreError| shows && (one.kind, one.operation) == (error.kind, error.operation);
        if shows && self.0.iter().all(same) {
            Ok(Some(Err(error.to_string())))
        } else {
            Err(Refusal::store(doing, &error))
        }
    }
}

/// Learns whether objects have ACLs here. MinIO, whose listing shows everything else, answers for all the same.
async fn acl_owner(yard: &Yard<'_>, made: &Made, frozen: &mut Frozen) -> Result<(), Refusal> {
    match yard.store.acl(&made.at).await {
        Ok(acl) => frozen.acl_owner = Some(acl.owner),
        Err(error) if matches!(error.kind, ErrorKind::NotImplemented | ErrorKind::NotFound | ErrorKind::Refused) => {}
        Err(error) if error.kind.is_transient() => return Err(Refusal::store("asking for a probe's ACL", &error)),
        Err(error) => {
            frozen.notes.push(format!("ACLs can't be seen, and objects may have some: {error}; grant s3:GetObjectAcl"));
            frozen.acl_owner = Some(String::new());
        }
    }
    Ok(())
}

/// Whether the listing showed of a probe what HEAD and its tags show.
fn listing_shows(made: &Made) -> bool {
    let mut headers = made.object.headers.clone();
    made.entry.facts.as_deref().is_some_and(|facts| {
        let mut listed = facts.headers.clone();
        // MinIO's listing leaves `Expires` out, and not every listing shows a redirect; where they matter, HEAD is asked.
        (headers.website_redirect, listed.website_redirect) = (None, None);
        (headers.expires, listed.expires) = (None, None);
        facts.sse.seal() == made.object.sse.seal()
            && headers == listed
            && crate::readback::same_tags(&facts.tags, &made.tags)
            && made.entry.size == made.object.size
            && made.entry.etag == made.object.etag
    })
}

/// The strategies worth a try on a kind of source.
fn tried(spec: &JobSpec, frozen: &Frozen, sse: &Sse) -> Vec<Strategy> {
    let updates =
        frozen.same_bucket && *sse != Sse::None && matches!(&frozen.target, FrozenTarget::SseKms { context: None, .. });
    let all = [
        (Strategy::UpdateEncryption, updates),
        (Strategy::Copy, true),
        (Strategy::CopyMultipart, true),
        (Strategy::Rewrite, true),
        (Strategy::RewriteInPlace, spec.options.in_place),
        (Strategy::CopyMultipartInPlace, spec.options.in_place),
        (Strategy::RewriteMultipartInPlace, spec.options.in_place),
        (Strategy::RewriteMultipart, true),
    ];
    all.into_iter().filter_map(|(strategy, try_it)| try_it.then_some(strategy)).collect()
}

async fn attempt(
    yard: &Yard<'_>,
    (spec, frozen): (&JobSpec, &mut Frozen),
    strategy: Strategy,
    sse: &Sse,
    parts: bool,
) -> Result<(), Refusal> {
    let kind = crate::facts::kind_of(sse).unwrap_or(SourceKind::Plaintext);
    let form = if parts { Form::Parts(kind) } else { Form::Single(kind) };
    let (doing, mut unanswered) = (format!("trying {strategy} on a probe {}", sse.seal()), Unanswered::default());
    let tried = loop {
        // Each trial holds several writes: on the heap, a debug build has stack enough for what calls this.
        let tried = Box::pin(trial::trial(yard, (spec, frozen), strategy, form, sse)).await;
        if let Some(tried) = unanswered.heard(&doing, tried).await? {
            break tried;
        }
    };
    match tried {
        Ok((proof, why)) => {
            frozen.proofs.push(proof);
            frozen.notes.extend(
                why.map(|why| format!("{strategy} is not proven for noncurrent versions ({}): {why}", sse.seal())),
            );
        }
        Err(why) => {
            let parts = if parts { ", two parts" } else { "" };
            frozen.notes.push(format!("{strategy} is not proven ({}{parts}): {why}", sse.seal()));
        }
    }
    Ok(())
}

/// What is proven on a kind of source in one part, tried on one in two parts. A probe in parts has megabytes: what loses
/// them is only tried where the file lets an object lose its parts.
async fn parts(yard: &Yard<'_>, spec: &JobSpec, frozen: &mut Frozen, sse: &Sse) -> Result<(), Refusal> {
    let kind = crate::facts::kind_of(sse);
    for strategy in Strategy::ALL.iter().filter(|strategy| is_for_parts(**strategy, spec)) {
        let of = |p: &&Proof| p.strategy == *strategy && Some(p.source) == kind;
        let Some(single) = frozen.proofs.iter().find(of).cloned() else { continue };
        attempt(yard, (spec, frozen), *strategy, sse, true).await?;
        let Some(proof) = frozen.proofs.iter_mut().find(|p| of(&&**p) && p.multipart) else { continue };
        // What is sent along with a PUT does not depend on how the source was uploaded.
        if strategy.puts() {
            proof.keeps.extend(single.keeps.get(&Property::Checksum));
        }
        // Nor does a version's place on what is in it, where nobody writes that.
        proof.noncurrent |= *strategy == Strategy::UpdateEncryption && single.noncurrent;
    }
    Ok(())
}

/// Whether a strategy may be used on an object in parts.
#[must_use]
pub fn is_for_parts(strategy: Strategy, spec: &JobSpec) -> bool {
    let keeps = strategy.uploads() || strategy == Strategy::UpdateEncryption;
    keeps || spec.options.accept_loss.contains(&Loss::Parts)
}

#[cfg(test)]
mod tests;
