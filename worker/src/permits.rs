//! How many store calls of a worker are in flight, and how much per second is begun with.
//!
//! A call needs a permit of each pool that bounds it: its slice's share of what the job may take, what its store takes
//! at present, and the process's; in this order, so that nobody who holds a wide one waits for a narrow one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyrotate_proto::rates::Rates;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Nothing waits longer for its turn, whatever the rate: a timer takes no longer one.
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 365);

/// More calls than any process makes.
const UNBOUNDED: usize = 1 << 20;

/// So many at a time at most, where nobody says how many.
const MOST: usize = 512;

/// A pace may make up for so much lost time: timers are no finer than this.
const CATCH_UP: Duration = Duration::from_millis(20);

/// Store calls in flight, shared by all slots of a worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Permits {
    process: Arc<Pool>,
    auto: bool,
    /// So many there were in the beginning.
    own: usize,
    /// Whoever made them sees to the limits of the one job that is worked on.
    one_job: bool,
    store: Option<Arc<Pool>>,
    share: Option<Arc<Share>>,
    pace: Option<Arc<Paces>>,
}

/// The right to one store call at a time, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    _share: Option<Taken>,
    _store: Option<Taken>,
    _process: Taken,
}

impl Permits {
    /// `count` store calls at a time; at most `rate` objects per second where given.
    #[must_use]
    pub fn new(count: usize, rate: Option<f64>) -> Self {
        let pace = rate.map(|_| Arc::new(Paces::new(Rates { objects: rate, ..Rates::default() })));
        let process = Arc::new(Pool::new(count));
        Self { process, auto: false, own: count, one_job: false, store: None, share: None, pace }
    }

    /// As many store calls at a time as do good: more, while more come back for it and none takes much longer.
    #[must_use]
    pub fn auto(rate: Option<f64>) -> Self {
        Self { auto: true, ..Self::new(MOST, rate) }
    }

    /// The same, of a worker that works alone and on one job: whoever made them applies that job's limits by
    /// [`Self::limit`], and its slices do not divide them.
    #[must_use]
    pub fn of_one_job(self) -> Self {
        let pace = self.pace.or_else(|| Some(Arc::new(Paces::new(Rates::default()))));
        Self { one_job: true, pace, ..self }
    }

    /// From now on so many store calls at a time, without a number as many as in the beginning; and so much per second,
    /// without a rate as much as can be. Calls under way are not disturbed.
    pub fn limit(&self, calls: Option<usize>, rates: Rates) {
        let calls = calls.unwrap_or(self.own).max(1);
        if calls != self.process.size() {
            self.process.resize(calls);
        }
        if let Some(pace) = &self.pace {
            pace.set(rates);
        }
    }

    /// Whether the slices of a job leave its limits to whoever made these permits.
    pub(crate) fn is_of_one_job(&self) -> bool {
        self.one_job
    }

    /// The pool that bounds all calls of the process.
    pub(crate) fn process(&self) -> Arc<Pool> {
        Arc::clone(&self.process)
    }

    /// Whether nobody said how many.
    pub(crate) fn is_auto(&self) -> bool {
        self.auto
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.process.size()
    }

    /// So many objects at work keep the calls busy; what waits beyond that could be somebody else's. As many while the store asks
    /// for less: most of them wait then before they ask again, and hold nothing.
    pub(crate) fn enough_tasks(&self) -> usize {
        if self.auto { usize::MAX } else { self.own.max(self.count()).saturating_mul(8) }
    }

    /// Calls to one store, of which `pool` bounds how many it gets at a time.
    pub(crate) fn of_store(&self, pool: Arc<Pool>) -> Self {
        Self { store: Some(pool), ..self.clone() }
    }

    /// Calls of one slice.
    pub(crate) fn of_slice(&self, share: Arc<Share>) -> Self {
        Self { share: Some(share), ..self.clone() }
    }

    /// How many of the process's are taken.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.process.size().saturating_sub(self.process.free.available_permits())
    }

    /// The right to one store call at a time, until it is dropped.
    pub async fn call(&self) -> Permit {
        loop {
            let share = taken(self.share.as_ref().map(|share| &share.calls)).await;
            let store = taken(self.store.as_ref()).await;
            let process = self.process.take().await;
            // One that became smaller while a wider one was waited for takes back what it gave.
            if !share.as_ref().is_some_and(Taken::is_owed) && !store.as_ref().is_some_and(Taken::is_owed) {
                return Permit { _share: share, _store: store, _process: process };
            }
        }
    }

    /// The right to begin with one more object: waits for the rate, then for a permit. The process's own rates hold
    /// before those of a job.
    pub async fn object(&self) -> Permit {
        if let Some(paces) = self.paces() {
            paces.objects.wait(1).await;
        }
        self.call().await
    }

    /// Waits until a write of so many bytes, and so many calls to the KMS for it, may begin.
    pub(crate) async fn write(&self, bytes: u64, kms_calls: u32) {
        if let Some(paces) = self.paces() {
            paces.bytes.wait(bytes).await;
            paces.kms.wait(kms_calls.into()).await;
        }
    }

    fn paces(&self) -> Option<&Paces> {
        self.pace.as_deref().or(self.share.as_deref().map(|share| &share.paces))
    }
}

/// What one slice may take of what its job may take; may change at any time.
#[derive(Debug)]
pub(crate) struct Share {
    calls: Arc<Pool>,
    paces: Paces,
}

impl Share {
    /// Without limits.
    pub(crate) fn unlimited() -> Self {
        Self { calls: Arc::new(Pool::new(UNBOUNDED)), paces: Paces::new(Rates::default()) }
    }

    /// From now on so many calls at a time and so much per second; `None`: no limit.
    pub(crate) fn set(&self, calls: Option<usize>, rates: Rates) {
        self.calls.resize(calls.unwrap_or(UNBOUNDED));
        self.paces.set(rates);
    }
}

/// A number of calls at a time that may be changed while they are made.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    now: usize,
    /// So many of those that are taken are not given back, for the pool became smaller.
    owed: usize,
}

/// One of a pool.
#[derive(Debug)]
struct Taken {
    pool: Arc<Pool>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    /// `size` calls at a time, at least one.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.max(1);
        Self { free: Arc::new(Semaphore::new(size)), size: Mutex::new(Size { now: size, owed: 0 }) }
    }

    /// From now on `size` at a time, at least one. Calls under way are not disturbed.
    pub(crate) fn resize(&self, to: usize) {
        let to = to.max(1);
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if to >= size.now {
            let more = to - size.now;
            let forgiven = more.min(size.owed);
            size.owed -= forgiven;
            self.free.add_permits(more - forgiven);
        } else {
            let fewer = size.now - to;
            size.owed += fewer - self.free.forget_permits(fewer);
        }
        size.now = to;
    }

    pub(crate) fn size(&self) -> usize {
        self.size.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    /// Whether nobody would get one at once.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.free.available_permits() == 0
    }

    async fn take(self: &Arc<Self>) -> Taken {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        // Never closed, so there always is one.
        Taken { pool: Arc::clone(self), permit: permit.ok() }
    }
}

async fn taken(pool: Option<&Arc<Pool>>) -> Option<Taken> {
    match pool {
        Some(pool) => Some(pool.take().await),
        None => None,
    }
}

impl Taken {
    /// Whether its pool would not have given it now.
    fn is_owed(&self) -> bool {
        self.pool.size.lock().unwrap_or_else(PoisonError::into_inner).owed > 0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut size = self.pool.size.lock().unwrap_or_else(PoisonError::into_inner);
        if size.owed > 0
            && let Some(permit) = self.permit.take()
        {
            size.owed -= 1;
            permit.forget();
        }
    }
}

/// A pace for each kind of rate.
#[derive(Debug)]
struct Paces {
    objects: Pace,
    bytes: Pace,
    kms: Pace,
}

impl Paces {
    fn new(rates: Rates) -> Self {
        Self { objects: Pace::new(rates.objects), bytes: Pace::new(rates.bytes), kms: Pace::new(rates.kms) }
    }

    fn set(&self, rates: Rates) {
        self.objects.set(rates.objects);
        self.bytes.set(rates.bytes);
        self.kms.set(rates.kms);
    }
}

/// Units per second, which may change while many wait for their turn.
#[derive(Debug)]
struct Pace {
    /// Seconds that one unit takes.
    gap: watch::Sender<Option<f64>>,
    /// When the last one went, and how many units it was. Whoever holds it has the turn.
    last: tokio::sync::Mutex<Option<(Instant, u64)>>,
}

impl Pace {
    fn new(rate: Option<f64>) -> Self {
        Self { gap: watch::Sender::new(gap_of(rate)), last: tokio::sync::Mutex::new(None) }
    }

    fn set(&self, rate: Option<f64>) {
        self.gap.send_if_modified(|gap| std::mem::replace(gap, gap_of(rate)) != *gap);
    }

    /// Waits until what went before has had its time; `units` are what goes now.
    async fn wait(&self, units: u64) {
        if units == 0 || self.gap.borrow().is_none() {
            return;
        }
        let mut last = self.last.lock().await;
        let mut changed = self.gap.subscribe();
        loop {
            let Some(gap) = *changed.borrow_and_update() else { return };
            let now = Instant::now();
            let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
            let due = last.map_or(now, |(last, units)| (last + time_of(units, gap)).max(earliest));
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(due) => {
                    *last = Some((due, units));
                    return;
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a pace")]
fn time_of(units: u64, gap: f64) -> Duration {
    Duration::from_secs_f64((units as f64 * gap).min(LONGEST_WAIT.as_secs_f64()))
}

/// Seconds that one unit takes.
fn gap_of(rate: Option<f64>) -> Option<f64> {
    rate.filter(|rate| *rate > 0.0).map(|rate| 1.0 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(rate: f64) -> Rates {
        Rates { objects: Some(rate), ..Rates::default() }
    }

    async fn took(permits: &Permits, objects: usize) -> f64 {
        let start = Instant::now();
        let one = || {
            tokio::spawn({
                let permits = permits.clone();
                async move { drop(permits.object().await) }
            })
        };
        for task in (0..objects).map(|_| one()).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_by_many_at_once() {
        for (rate, objects) in [(100.0, 201), (5000.0, 10_001)] {
            let took = took(&Permits::new(8, Some(rate)), objects).await;
            assert!((1.95..2.1).contains(&took), "{objects} objects at {rate}/s took {took} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slices_rate_holds_at_once_when_it_changes() {
        let share = Arc::new(Share::unlimited());
        let permits = Permits::new(8, None).of_slice(Arc::clone(&share));
        assert!(took(&permits, 500).await < 0.1);
        share.set(None, objects(0.01));
        let changed = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            share.set(None, objects(100.0));
        };
        let (took, ()) = tokio::join!(took(&permits, 101), changed);
        assert!((10.9..11.1).contains(&took), "{took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_and_calls_to_the_kms_have_their_own_rates() {
        let share = Arc::new(Share::unlimited());
        let permits = Permits::new(8, None).of_slice(Arc::clone(&share));
        let time = async |sizes: &[u64], kms: u32| {
            let start = Instant::now();
            for size in sizes {
                permits.write(*size, kms).await;
            }
            start.elapsed().as_secs_f64()
        };
        assert!(time(&[5 << 30; 9], 3).await < 0.1);
        share.set(None, Rates { bytes: Some(1000.0), ..Rates::default() });
        let took = time(&[3000, 0, 500, 1], 3).await;
        assert!((3.4..3.6).contains(&took), "the first goes at once, the last waits for both before it: {took} s");
        share.set(None, Rates { kms: Some(6.0), ..Rates::default() });
        let took = time(&[1 << 30; 11], 3).await;
        assert!((4.9..5.1).contains(&took), "{took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn limits_of_one_job_hold_at_once() {
        let permits = Permits::new(8, None).of_one_job();
        let of_slice = permits.of_slice(Arc::new(Share::unlimited()));
        assert!(took(&of_slice, 500).await < 0.1);
        permits.limit(None, objects(100.0));
        let took = took(&of_slice, 101).await;
        assert!((0.9..1.1).contains(&took), "{took} s");
        permits.limit(Some(2), Rates::default());
        let held = (of_slice.call().await, of_slice.call().await);
        assert!(tokio::time::timeout(Duration::from_millis(5), of_slice.call()).await.is_err());
        permits.limit(Some(20), Rates::default());
        drop(of_slice.call().await);
        permits.limit(None, Rates::default());
        assert_eq!(permits.count(), 8, "without a number as in the beginning");
        drop(held);
    }

    #[tokio::test]
    async fn no_more_calls_than_permits() {
        let permits = Permits::new(2, None);
        let held = (permits.call().await, permits.call().await);
        assert!(tokio::time::timeout(Duration::from_millis(5), permits.call()).await.is_err());
        drop(held);
        drop(permits.call().await);
    }

    #[tokio::test]
    async fn the_narrowest_pool_holds() {
        let (pool, share) = (Arc::new(Pool::new(3)), Arc::new(Share::unlimited()));
        let permits = Permits::new(4, None).of_store(Arc::clone(&pool)).of_slice(Arc::clone(&share));
        let most = async || {
            let mut held = Vec::new();
            while let Ok(permit) = tokio::time::timeout(Duration::from_millis(5), permits.call()).await {
                held.push(permit);
            }
            held.len()
        };
        assert_eq!(most().await, 3);
        pool.resize(9);
        assert_eq!(most().await, 4);
        share.set(Some(2), Rates::default());
        assert_eq!(most().await, 2);
        share.set(None, Rates::default());
        assert_eq!(most().await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_becomes_smaller_holds_at_once_for_those_who_wait() {
        let share = Arc::new(Share::unlimited());
        let permits = Permits::new(4, None).of_slice(Arc::clone(&share));
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for _ in 0..100 {
            let (permits, calls) = (permits.clone(), Arc::clone(&calls));
            tokio::spawn(async move {
                let _permit = permits.call().await;
                calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
            });
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        share.set(Some(1), Rates::default());
        let before = calls.load(std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let since = calls.load(std::sync::atomic::Ordering::Relaxed) - before;
        assert!((9..=11).contains(&since), "{since} calls of a second within ten, one at a time");
    }

    /// Whatever is resized and taken in between, as many are taken as the size says, once all that was is given back.
    #[tokio::test]
    async fn a_pool_is_as_large_as_it_was_last_made() {
        let mut rng = fastrand_like(7);
        let pool = Arc::new(Pool::new(5));
        let mut held = Vec::new();
        for _ in 0..2000 {
            match rng() % 3 {
                0 => pool.resize(usize::try_from(rng() % 9).unwrap()),
                1 if !pool.is_exhausted() => held.push(pool.take().await),
                _ => drop(held.pop()),
            }
            let taken = held.len() + pool.free.available_permits();
            assert!(taken >= pool.size(), "{taken} of {}", pool.size());
            assert!(pool.is_exhausted() || taken == pool.size(), "{taken} of {}", pool.size());
        }
        held.clear();
        assert_eq!(pool.free.available_permits(), pool.size());
    }

    fn fastrand_like(seed: u64) -> impl FnMut() -> u64 {
        let env = keyrotate_env::Env::seeded(seed, jiff::Timestamp::UNIX_EPOCH);
        move || env.random_u64()
    }
}
