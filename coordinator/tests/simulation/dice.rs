//! Chance of one seed, shared by whoever throws.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The dice of a seed. Clones throw the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Arc<Mutex<u64>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `from..to`.
    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// An index below `n`.
    pub(crate) fn index(&self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    /// True so many times in a thousand.
    pub(crate) fn per_mille(&self, n: u64) -> bool {
        self.next() % 1000 < n
    }

    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// At most `longest`: half of them evenly, and half of them short.
    pub(crate) fn time(&self, longest: Duration) -> Duration {
        let whole = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).max(1);
        if self.one_in(2) {
            return Duration::from_micros(self.between(0, whole));
        }
        let bits = 64 - whole.leading_zeros();
        let most = whole.min(1 << self.between(1, u64::from(bits) + 1));
        Duration::from_micros(self.between(0, most.max(1)))
    }

    /// Dice of its own for somebody.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.next())
    }
}
