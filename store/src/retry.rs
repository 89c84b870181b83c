//! A store that sends a call again where that is safe: the only layer that retries single calls.
//!
//! Reads are sent again after anything that may pass. Writes are sent again only where the first one had no effect, and
//! their body can be read once more; a write that ended ambiguously is given back, because only who wrote can look at the
//! object and decide. That it never left this machine is certain. That it was throttled is nearly so: between us and a store
//! stand proxies that answer 503 for a connection that broke, and stores that answer it for a write that not all of their
//! drives took. So what is refused after it was throttled is ambiguous too, and a write in place, whose second one destroys
//! the object, is given back. All retries of a store draw on one budget that successes refill, so that an outage costs a
//! little more than the calls themselves and not a multiple of them. What the store asks to send later is sent later, for as
//! long as one call may take: it draws on no budget, for whoever governs how many calls are in flight makes them fewer.
//!
//! The intervals are those of the `backoff` crate, without its jitter and its clock: randomness comes from [`Env`] and
//! time is tokio's, so that a seed replays.

mod heads;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use keyrotate_env::Env;
use keyrotate_telemetry::metrics;
use tokio::time::Instant;

pub use heads::HeadTimes;

use crate::{
    Acl, Body, BucketFacts, CopyRequest, ErrorKind, GetRequest, Guard, HeadRequest, InPlace, ListPage, ListRequest,
    NewObject, Object, ObjectAt, Part, PartCopyRequest, PutRequest, Reactions, Result, Store, StoreError,
    StoreIdentity, Tags, Upload, Written,
};

/// Bounds of the tries of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a call is sent at most, the first time included and those that were throttled left out.
    pub tries: u32,
    /// No new try begins later than this after the first one began.
    pub total: Duration,
    /// About the first wait; each further one is about twice the one before.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// The longest wait after a try that was throttled: what makes room for the store is that fewer calls are in flight.
    pub longest_throttled_wait: Duration,
    /// How many retries the store's budget holds when full; each success gives a tenth of one back.
    pub budget: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 6,
            total: Duration::from_secs(60),
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(10),
            longest_throttled_wait: Duration::from_secs(2),
            budget: 100,
        }
    }
}

/// What became of the calls of a store, for whoever governs how many are in flight. Counts only grow.
#[derive(Debug, Default)]
pub struct Pressure {
    answered: AtomicU64,
    throttled: AtomicU64,
    unreached: AtomicU64,
    retried: AtomicU64,
    heads: heads::Heads,
}

impl Pressure {
    /// Tries that ended well.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Tries that the store asked to send later.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// Tries without a sensible answer: unreachable, timed out, cut, a server error.
    #[must_use]
    pub fn unreached(&self) -> u64 {
        self.unreached.load(Ordering::Relaxed)
    }

    /// Tries beyond the first of their call.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// How long HEADs took that ended well.
    #[must_use]
    pub fn head_times(&self) -> HeadTimes {
        self.heads.read()
    }

    fn note<T>(&self, ended: &Result<T>) {
        let counter = match ended {
            Ok(_) => &self.answered,
            Err(error) if error.kind == ErrorKind::Throttled => &self.throttled,
            Err(error) if error.kind.is_transient() => &self.unreached,
            Err(_) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends calls of the store inside again, where that is safe.
#[derive(Debug)]
pub struct Retrying<S> {
    inner: S,
    policy: RetryPolicy,
    env: Env,
    budget: Budget,
    pressure: Arc<Pressure>,
}

impl<S> Retrying<S> {
    /// With a full budget.
    pub fn new(inner: S, policy: RetryPolicy, env: Env) -> Self {
        let budget = Budget::full(policy.budget);
        Self { inner, policy, env, budget, pressure: Arc::default() }
    }

    /// What became of the calls, which goes on counting.
    #[must_use]
    pub fn pressure(&self) -> Arc<Pressure> {
        Arc::clone(&self.pressure)
    }

    /// Sends what `call` makes until it ends in something that another try would not change, or until the bounds are
    /// reached. `call` gives `None` where the request cannot be made a second time.
    async fn run<'a, T>(&self, effect: Effect, mut call: impl FnMut() -> Option<Call<'a, T>>) -> Result<T> {
        let began = Instant::now();
        let mut waits = self.policy.waits();
        let (mut last, mut tried, mut throttled) = (None, 0, false);
        loop {
            let Some(call) = call() else { break };
            let ended = call.await;
            self.pressure.note(&ended);
            let error = match ended {
                Ok(value) => {
                    self.budget.refill();
                    return Ok(value);
                }
                Err(error) if throttled && effect == Effect::Once => unsure(error),
                Err(error) => error,
            };
            throttled |= error.kind == ErrorKind::Throttled;
            let mut wait = self.wait(&mut waits);
            if error.kind == ErrorKind::Throttled {
                wait = wait.min(self.policy.longest_throttled_wait);
            }
            let late = began.elapsed() + wait > self.policy.total;
            if !effect.allows(error.kind) || late {
                return Err(error);
            }
            if error.kind != ErrorKind::Throttled {
                tried += 1;
                if tried >= self.policy.tries || !self.budget.take() {
                    return Err(error);
                }
            }
            self.pressure.retried.fetch_add(1, Ordering::Relaxed);
            metrics().retries.with(&["store"]).inc();
            last = Some(error);
            tokio::time::sleep(wait).await;
        }
        Err(last.unwrap_or_else(|| StoreError::new("retry", ErrorKind::Refused, "nothing to send")))
    }

    /// The next wait: between half of the interval and all of it.
    fn wait(&self, waits: &mut ExponentialBackoff) -> Duration {
        let interval = waits.next_backoff().unwrap_or(self.policy.longest_wait);
        interval.mul_f64(0.5 + 0.5 * self.env.random_fraction())
    }
}

impl RetryPolicy {
    fn waits(&self) -> ExponentialBackoff {
        ExponentialBackoff {
            current_interval: self.first_wait,
            initial_interval: self.first_wait,
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: self.longest_wait,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        }
    }
}

type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What a call does to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing, or a second time exactly the same as the first.
    Repeatable,
    /// A second one may undo what somebody else did after the first; it is refused where the first was done.
    Once,
    /// A second one may be taken where the first was done, and destroy the object.
    InPlace,
}

impl Effect {
    fn allows(self, kind: ErrorKind) -> bool {
        match self {
            Self::Repeatable => kind.is_transient(),
            Self::Once => kind.is_transient() && !kind.is_ambiguous(),
            Self::InPlace => kind == ErrorKind::Unreachable,
        }
    }

    fn of(place: &InPlace) -> Self {
        if *place == InPlace::default() { Self::Once } else { Self::InPlace }
    }
}

/// What ended a call that was throttled before: a refusal may mean that it was done all the same.
fn unsure(error: StoreError) -> StoreError {
    if !matches!(error.kind, ErrorKind::Precondition | ErrorKind::NotFound) {
        return error;
    }
    let message = format!("it was throttled, and then refused ({error}): whether it was done is not known");
    StoreError { kind: ErrorKind::Cut, message, ..error }
}

/// Tenths of retries that may still be made.
#[derive(Debug)]
struct Budget {
    tenths: AtomicU64,
    full: u64,
}

impl Budget {
    fn full(retries: u64) -> Self {
        let full = retries.saturating_mul(10);
        Self { tenths: AtomicU64::new(full), full }
    }

    fn take(&self) -> bool {
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| tenths.checked_sub(10)).is_ok()
    }

    fn refill(&self) {
        // A full budget is the usual case and must not cost a write.
        if self.tenths.load(Ordering::Relaxed) < self.full {
            let more = |tenths: u64| (tenths < self.full).then(|| tenths + 1);
            // An `Err` says that it was full.
            let _ = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }
}

impl<S: Store> Retrying<S> {
    /// One HEAD; how long it takes tells how busy the store is.
    async fn timed_head(&self, request: HeadRequest) -> Result<Object> {
        let began = Instant::now();
        let ended = self.inner.head(request).await;
        if ended.is_ok() {
            self.pressure.heads.note(began.elapsed());
        }
        ended
    }
}

#[async_trait]
impl<S: Store> Store for Retrying<S> {
    fn identity(&self) -> &StoreIdentity {
        self.inner.identity()
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.run(Effect::Repeatable, || Some(self.inner.list(request.clone()))).await
    }

    async fn head(&self, request: HeadRequest) -> Result<Object> {
        self.run(Effect::Repeatable, || Some(Box::pin(self.timed_head(request.clone())))).await
    }

    async fn get(&self, request: GetRequest) -> Result<(Object, Body)> {
        self.run(Effect::Repeatable, || Some(self.inner.get(request.clone()))).await
    }

    async fn tags(&self, at: &ObjectAt) -> Result<Tags> {
        self.run(Effect::Repeatable, || Some(self.inner.tags(at))).await
    }

    async fn acl(&self, at: &ObjectAt) -> Result<Acl> {
        self.run(Effect::Repeatable, || Some(self.inner.acl(at))).await
    }

    async fn put(&self, request: PutRequest, body: Body) -> Result<Written> {
        let mut next = Some(body);
        let effect = Effect::of(&request.place);
        let call = || {
            let body = next.take()?;
            next = body.again();
            Some(self.inner.put(request.clone(), body))
        };
        self.run(effect, call).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Written> {
        self.run(Effect::Once, || Some(self.inner.copy(request.clone()))).await
    }

    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        self.run(Effect::Once, || Some(self.inner.update_encryption(at, key, bucket_key))).await
    }

    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String> {
        self.run(Effect::Once, || Some(self.inner.create_upload(at, new, place))).await
    }

    async fn upload_part_copy(&self, request: PartCopyRequest) -> Result<Part> {
        self.run(Effect::Repeatable, || Some(self.inner.upload_part_copy(request.clone()))).await
    }

    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, checksum: Option<&str>) -> Result<Part> {
        let mut next = Some(body);
        let call = || {
            let body = next.take()?;
            next = body.again();
            Some(self.inner.upload_part(upload, number, body, checksum))
        };
        self.run(Effect::Repeatable, call).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.run(Effect::Repeatable, || Some(self.inner.parts(upload))).await
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        self.run(Effect::of(place), || Some(self.inner.complete_upload(upload, parts, guard, place))).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.run(Effect::Repeatable, || Some(self.inner.abort_upload(upload))).await
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        self.run(Effect::Repeatable, || Some(self.inner.uploads(bucket, prefix))).await
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        // Without a version a second one may delete what somebody wrote after the first.
        let effect = if at.version.is_some() { Effect::Repeatable } else { Effect::Once };
        self.run(effect, || Some(self.inner.delete(at))).await
    }

    async fn bucket(&self, bucket: &str) -> Result<BucketFacts> {
        self.run(Effect::Repeatable, || Some(self.inner.bucket(bucket))).await
    }

    async fn buckets(&self) -> Result<Vec<String>> {
        self.run(Effect::Repeatable, || Some(self.inner.buckets())).await
    }

    async fn reactions(&self, bucket: &str) -> Result<Reactions> {
        self.run(Effect::Repeatable, || Some(self.inner.reactions(bucket))).await
    }
}

#[cfg(test)]
mod tests;
