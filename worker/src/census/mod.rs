//! A census: what lies in a bucket, under which keys, and what a job would do about it. Nothing is written, probes
//! included: the store that it is given to can only be read.
//!
//! By default a sample of the objects is looked at, spread over the key space ([`keyrotate_plan::sample`]); a full census
//! looks at each, and can be interrupted. Which strategy fits hangs on what only probes show. Where the doctor has proven
//! it, that holds; else each object is decided about under several guesses at what would be proven.

mod forecast;
mod full;
mod sample;
mod worlds;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use keyrotate_env::Env;
use keyrotate_manifest::Sorted;
use keyrotate_plan::share::Sample;
use keyrotate_proto::capability::{Frozen, FrozenTarget};
use keyrotate_proto::forecast::Forecast;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::position::{KeyRange, right_behind};
use keyrotate_proto::row::Seal;
use keyrotate_proto::spec::{JobSpec, Target};
use keyrotate_report::ReportError;
use keyrotate_rewrap::probe::{self, Refusal};
use keyrotate_rewrap::{Fate, Foretold, Halt, Rewrapper, Rules};
use keyrotate_store::wrap::reading::Reading;
use keyrotate_store::{BucketFacts, Entry, HeadRequest, ListRequest, ObjectAt, Sse, Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Permits;
use crate::bucket_lease::LEASE_KEY;
use crate::keyspace::{PAGE, Survey};
use crate::source::{SourceError, from_key};
use worlds::World;

pub use full::Count;

/// Objects that a sample looks at, where nobody says how many.
pub const SAMPLE: usize = 10_000;

/// Calls in flight are bounded by permits; this many tasks wait for them at most.
const AT_ONCE: usize = 256;

/// So many looks one after the other, and so many at a time, tell how fast looking is; the first at a time only make
/// connections.
const ALONE: usize = 10;
const WARM: usize = 128;
const TIMED: usize = 1_000;

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Question {
    /// The job that would be begun.
    pub spec: JobSpec,
    /// Objects per second at most, where there is a limit.
    pub rate: Option<f64>,
    /// What the doctor proved in this bucket, and when.
    pub proven: Option<(Frozen, Timestamp)>,
    /// The store's default key, where that was proven, too.
    pub default_key: Option<KeyName>,
    /// The job's manifest, where it has one.
    pub manifest: Option<Sorted>,
}

/// Why there is no census.
#[derive(Debug, thiserror::Error)]
pub enum CensusError {
    /// The bucket can't be looked at.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something outside must be mended first.
    #[error("looking at objects")]
    Halted(#[from] Halt),
    /// A listing failed.
    #[error("listing the bucket")]
    Listing(#[from] StoreError),
    /// The manifest can't be read.
    #[error("reading the manifest")]
    Report(#[from] ReportError),
    /// The listing can't be held against the manifest.
    #[error("looking for what the manifest names")]
    Reading(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<SourceError> for CensusError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Store(error) => Self::Listing(error),
            SourceError::Rows(error) => Self::Report(error),
            other => Self::Reading(other.into()),
        }
    }
}

/// What is known of an object, as far as it makes a difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Kind {
    seal: Seal,
    /// Under each of the guesses.
    fates: Vec<Fate>,
}

/// How far a census is. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    looked: AtomicU64,
    pages: AtomicU64,
}

impl Progress {
    /// Object versions that were looked at.
    pub fn looked(&self) -> u64 {
        self.looked.load(Ordering::Relaxed)
    }

    /// Listing pages that were read.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }
}

/// How fast a store answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Speed {
    /// Seconds that one look takes where nothing else is asked.
    pub(crate) one: f64,
    /// Looks per second, as many at a time as there are permits.
    pub(crate) per_second: f64,
}

/// A census of one scope.
#[derive(Debug)]
pub struct Census {
    store: Arc<dyn Store>,
    permits: Permits,
    env: Env,
    question: Question,
    facts: BucketFacts,
    target: Option<FrozenTarget>,
    worlds: Vec<World>,
    rewrapper: Rewrapper,
    others: Vec<Rules>,
    progress: Arc<Progress>,
    began: Instant,
}

impl Census {
    /// Looks at the bucket's settings, so that it is known what to look for.
    ///
    /// # Errors
    /// When the bucket can't be reached or listed.
    pub async fn begin(
        store: Arc<dyn Store>,
        permits: Permits,
        question: Question,
        env: Env,
    ) -> Result<Self, CensusError> {
        let began = Instant::now();
        let store: Arc<dyn Store> = Arc::new(Reading::new(store));
        let spec = &question.spec;
        let facts = probe::look(store.as_ref(), &spec.bucket, &spec.prefix, &env).await?;
        let server = store.reactions(&spec.bucket).await.ok().and_then(|reactions| reactions.server);
        let target = target(&question, &facts, store.identity().0.starts_with("aws:"));
        let worlds = worlds::of(&question, &facts, target.as_ref(), server.as_deref(), &store.identity().0);
        let started = env.now();
        let rules = |world: &World| {
            let frozen = world.frozen.clone();
            Rules { spec: spec.clone(), started, frozen, ours: probe::Ours::exactly(LEASE_KEY) }
        };
        let mut all: Vec<Rules> = worlds.iter().map(rules).collect();
        let others = all.split_off(1);
        let rewrapper = Rewrapper::new(Arc::clone(&store), all.remove(0), env.clone());
        let progress = Arc::default();
        Ok(Self { store, permits, env, question, facts, target, worlds, rewrapper, others, progress, began })
    }

    /// How far it is; goes on changing.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn spec(&self) -> &JobSpec {
        &self.question.spec
    }

    fn survey(&self) -> Survey<'_> {
        let (bucket, prefix) = (&self.spec().bucket, &self.spec().prefix);
        Survey { store: &self.store, permits: &self.permits, bucket, prefix, manifest: self.question.manifest.as_ref() }
    }

    /// The versions of a range from its beginning on, one page of them, without what jobs of ours put there; of no key only
    /// some, unless it has more than a page of them. The second value is where the rest begins; `None` where there is none.
    async fn page(&self, range: &KeyRange) -> Result<(Vec<Entry>, Option<String>), CensusError> {
        if self.question.manifest.is_some() {
            let versions = self.facts.versioning.has_versions();
            let (entries, rest, pages) = self.survey().picked_page(range, versions).await?;
            self.progress.pages.fetch_add(pages, Ordering::Relaxed);
            return Ok((entries, rest));
        }
        let request = |from| ListRequest {
            bucket: self.spec().bucket.clone(),
            prefix: self.spec().prefix.clone(),
            versions: self.facts.versioning.has_versions(),
            from,
            limit: PAGE,
            with_facts: self.worlds.iter().any(|world| world.frozen.listing_facts),
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut from = from_key(&self.spec().prefix, &range.start);
        loop {
            let page = {
                let _permit = self.permits.call().await;
                self.store.list(request(from)).await?
            };
            self.progress.pages.fetch_add(1, Ordering::Relaxed);
            let crossed =
                page.entries.last().is_some_and(|last| range.end.as_ref().is_some_and(|end| last.key >= *end));
            let theirs = |key: &str| key != LEASE_KEY && !probe::is_probe(key);
            entries.extend(page.entries.into_iter().filter(|entry| range.contains(&entry.key) && theirs(&entry.key)));
            let Some(next) = page.next.filter(|_| !crossed) else { return Ok((entries, None)) };
            // The last key may have more versions on the next page: it belongs to the rest.
            let last = entries.last().map(|entry| entry.key.clone());
            let keys_end = match (&last, self.facts.versioning.has_versions()) {
                (Some(last), true) => entries.partition_point(|entry| entry.key < *last),
                _ => entries.len(),
            };
            if keys_end > 0 {
                entries.truncate(keys_end);
                let rest = if self.facts.versioning.has_versions() { last } else { last.map(|key| right_behind(&key)) };
                return Ok((entries, rest));
            }
            from = next;
        }
    }

    /// Looks at objects, as many at a time as calls are allowed.
    async fn look<T: Send>(&self, entries: Vec<(T, Entry)>) -> Result<Vec<(T, Kind, u64)>, Halt> {
        let looks = stream::iter(entries.into_iter().map(|(which, entry)| async move {
            let _permit = self.permits.object().await;
            let Foretold { seal, size, fates } = self.rewrapper.foretell(&self.others, &entry).await?;
            self.progress.looked.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Halt>((which, Kind { seal, fates }, size))
        }));
        looks.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// How fast looking is, from a burst of looks that no rate slows down.
    #[expect(clippy::cast_precision_loss, reason = "hundreds of looks")]
    async fn time(&self, entries: &[Entry]) -> Speed {
        let began = Instant::now();
        for entry in entries.iter().take(ALONE) {
            self.head(entry.clone()).await;
        }
        let one = began.elapsed().as_secs_f64() / entries.len().clamp(1, ALONE) as f64;
        self.burst(entries, WARM).await;
        let began = Instant::now();
        let count = self.burst(entries, TIMED).await;
        let per_second = count as f64 / began.elapsed().as_secs_f64().max(1e-6);
        Speed { one, per_second }
    }

    /// So many looks at most, as many at a time as calls are allowed; how many there were. Each is a task of its own, as in a
    /// walk, so that all of the machine is at it.
    async fn burst(&self, entries: &[Entry], most: usize) -> usize {
        let mut looks = JoinSet::new();
        for entry in entries.iter().take(most).cloned() {
            looks.spawn(self.head(entry));
        }
        looks.join_all().await.len()
    }

    /// Whatever it answers, the time counts.
    fn head(&self, entry: Entry) -> impl Future<Output = ()> + Send + 'static {
        let (store, permits) = (Arc::clone(&self.store), self.permits.clone());
        let at = ObjectAt { version: entry.version, ..ObjectAt::current(&self.spec().bucket, &entry.key) };
        async move {
            let _permit = permits.call().await;
            let _answer = store.head(HeadRequest::of(&at)).await;
        }
    }

    fn forecast(&self, sample: &Sample<Kind>, speed: Speed) -> Forecast {
        forecast::forecast(
            &forecast::Found {
                sample,
                worlds: &self.worlds,
                facts: &self.facts,
                looked: self.progress.looked(),
                pages: self.progress.pages(),
                seconds: self.began.elapsed().as_secs_f64(),
                speed,
            },
            &self.question,
            self.target.as_ref(),
            &self.store.identity().0,
            self.env.now(),
        )
    }
}

/// The target as far as it is known without a probe: the file's; on AWS the bucket's setting; what the doctor proved.
fn target(question: &Question, facts: &BucketFacts, is_aws: bool) -> Option<FrozenTarget> {
    let Target::SseKms { key, context } = &question.spec.target else { return Some(FrozenTarget::SseS3) };
    let keys: BTreeMap<_, _> =
        question.spec.keys.iter().map(|(old, new)| (old.clone(), as_shown(new, question))).collect();
    let key = match key.as_ref().or(question.spec.keys.values().next()) {
        Some(key) => Some(as_shown(key, question)),
        None => match &facts.default_sse {
            Some(Sse::Kms { key: Some(set), .. }) if is_aws || set.is_full_arn() => Some(set.clone()),
            _ => question.default_key.clone(),
        },
    };
    key.map(|key| FrozenTarget::SseKms { key, context: context.clone(), keys })
}

/// The key as the store shows it, where that was proven.
fn as_shown(key: &KeyName, question: &Question) -> KeyName {
    let proven = question.proven.iter().flat_map(|(frozen, _)| frozen.target.all());
    let shown = proven.into_iter().find(|shown| shown.same_key(key)).cloned();
    shown.unwrap_or_else(|| KeyName(key.bare().to_owned()))
}

#[cfg(test)]
mod tests;
