//! How many calls a store gets at a time: half as many when it asks for less, one more with each good second. Whoever
//! is asked for less tells the other workers of the store, who do the same.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyrotate_store::retry::Pressure;

use crate::auto::{Auto, Sample};
use crate::permits::Pool;

/// How often it looks at what came back.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// Governs the calls to one store.
#[derive(Debug)]
pub(crate) struct Governor {
    pool: Arc<Pool>,
    pressure: Arc<Pressure>,
    /// The process's calls: never more than those.
    process: Arc<Pool>,
    /// How many those were at the last look.
    most: AtomicUsize,
    auto: Option<Mutex<Auto>>,
    /// What was seen until the last look: answered, throttled.
    seen: [AtomicU64; 2],
    /// Others were asked for less.
    told: AtomicBool,
    /// The others are to be told that we were.
    tells: AtomicBool,
}

impl Governor {
    /// At most as many calls at a time as the process has; with `auto` as many of them as do good.
    pub(crate) fn new(process: Arc<Pool>, auto: bool, pressure: Arc<Pressure>) -> Self {
        let most = process.size();
        let auto = auto.then(|| Auto::new(most, &pressure));
        let pool = Arc::new(Pool::new(auto.as_ref().map_or(most, Auto::level)));
        let (seen, told, tells) = Default::default();
        let most = AtomicUsize::new(most);
        Self { pool, pressure, process, most, auto: auto.map(Mutex::new), seen, told, tells }
    }

    /// The calls that it governs.
    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }

    /// How many there may be at a time.
    pub(crate) fn level(&self) -> usize {
        self.pool.size()
    }

    /// Other workers were asked for less.
    pub(crate) fn hear(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// Whether the others are to be told, once each time.
    pub(crate) fn must_tell(&self) -> bool {
        self.tells.swap(false, Ordering::Relaxed)
    }

    /// Looks at what came back since the last look.
    pub(crate) fn look(&self) {
        let now = [self.pressure.answered(), self.pressure.throttled()];
        let [answered, throttled] = [0, 1].map(|i| now[i] - self.seen[i].swap(now[i], Ordering::Relaxed));
        let told = self.told.swap(false, Ordering::Relaxed);
        if throttled > 0 {
            self.tells.store(true, Ordering::Relaxed);
        }
        let size = self.process.size();
        let (level, before) = (self.pool.size(), self.most.swap(size, Ordering::Relaxed));
        let most = match &self.auto {
            Some(auto) => {
                let sample = Sample { level, answered, exhausted: self.pool.is_exhausted() };
                auto.lock().unwrap_or_else(PoisonError::into_inner).look(sample, &self.pressure)
            }
            None => size,
        };
        let slowed = throttled > 0 || told;
        // Whoever had all there were, and of whom the store never asked for less, has all there are now.
        let raised = self.auto.is_none() && !slowed && level == before && size > before;
        let next = if raised { size } else { next_level(level, most, Second { answered, slowed }) };
        if next != level {
            tracing::debug!(level, next, throttled, told, "calls to the store at a time");
            self.pool.resize(next);
        }
    }
}

/// What came back within a second.
#[derive(Clone, Copy, Debug)]
struct Second {
    answered: u64,
    /// The store asked for less, us or others.
    slowed: bool,
}

/// The level after a second at `level`.
fn next_level(level: usize, most: usize, second: Second) -> usize {
    match second {
        Second { slowed: true, .. } => (level / 2).max(1).min(most),
        Second { answered: 0, .. } => level.min(most),
        Second { .. } => (level + 1).min(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_halves_when_asked_for_less_and_grows_by_one_with_each_good_second() {
        for (level, most, answered, slowed, next) in [
            (64, 64, 100, false, 64),
            (64, 64, 100, true, 32),
            (5, 64, 0, true, 2),
            (1, 64, 0, true, 1),
            (32, 64, 100, false, 33),
            (32, 64, 0, false, 32),
            (20, 12, 5, false, 12),
        ] {
            assert_eq!(next_level(level, most, Second { answered, slowed }), next, "{level} of {most}");
        }
    }

    proptest! {
        #[test]
        fn never_below_one_never_above_all_and_back_at_the_top_in_time(
            most in 1usize..200,
            seconds in proptest::collection::vec((0u64..3, any::<bool>()), 0..100),
        ) {
            let mut level = most;
            for (answered, slowed) in seconds {
                let next = next_level(level, most, Second { answered, slowed });
                prop_assert!((1..=most).contains(&next));
                prop_assert!(slowed || next >= level);
                prop_assert!(!slowed || next <= level / 2 || next == 1);
                level = next;
            }
            for _ in 0..most {
                level = next_level(level, most, Second { answered: 1, slowed: false });
            }
            prop_assert_eq!(level, most);
        }
    }

    #[test]
    fn a_governor_sees_each_answer_once_and_tells_of_its_own_only() {
        let pressure = Arc::new(Pressure::default());
        let process = Arc::new(Pool::new(16));
        let governor = Governor::new(Arc::clone(&process), false, Arc::clone(&pressure));
        governor.hear();
        governor.look();
        assert_eq!(governor.pool.size(), 8);
        assert!(!governor.must_tell(), "what was heard is not told again");
        governor.look();
        assert_eq!(governor.pool.size(), 8, "no answer, nothing learnt");
        process.resize(4);
        governor.look();
        assert_eq!(governor.pool.size(), 4, "never more than the process has");
        process.resize(40);
        governor.look();
        assert_eq!(governor.pool.size(), 40, "it had all of them");
    }
}
