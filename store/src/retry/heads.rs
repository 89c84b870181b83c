//! How long HEADs take, as a histogram whose counts only grow.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each bucket ends at 2^(1/8) of the one before it, so that a time is known to 9 %.
const PER_OCTAVE: f64 = 8.0;
/// From a tenth of a millisecond to two minutes.
const BUCKETS: usize = 160;
/// Where the first one ends, in microseconds.
const FIRST_ENDS: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Heads([AtomicU64; BUCKETS]);

impl Default for Heads {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Heads {
    pub(super) fn note(&self, took: Duration) {
        let octaves = (took.as_secs_f64() * 1e6 / FIRST_ENDS).max(1.0).log2();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
        let bucket = ((octaves * PER_OCTAVE).ceil() as usize).min(BUCKETS - 1);
        self.0[bucket].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> HeadTimes {
        HeadTimes(array::from_fn(|i| self.0[i].load(Ordering::Relaxed)))
    }
}

/// How many HEADs took how long.
#[derive(Clone, Debug)]
pub struct HeadTimes([u64; BUCKETS]);

impl HeadTimes {
    /// Those since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(array::from_fn(|i| self.0[i].saturating_sub(earlier.0[i])))
    }

    /// The time within which this `share` of them were answered; `None` where they are `few` or less.
    #[must_use]
    pub fn within(&self, share: f64, few: u64) -> Option<Duration> {
        let all: u64 = self.0.iter().sum();
        if all <= few {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "nobody makes that many")]
        let wanted = all as f64 * share;
        let mut count = 0.0;
        for (bucket, n) in (0u32..).zip(self.0) {
            #[expect(clippy::cast_precision_loss, reason = "nobody makes that many")]
            let n = n as f64;
            count += n;
            if count >= wanted {
                return Some(Duration::from_secs_f64(FIRST_ENDS / 1e6 * (f64::from(bucket) / PER_OCTAVE).exp2()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_known_to_a_tenth() {
        let heads = Heads::default();
        let before = heads.read();
        assert_eq!(before.within(0.95, 0), None);
        (1..=1000).for_each(|ms| heads.note(Duration::from_millis(ms)));
        let read = heads.read().since(&before);
        for (share, ms) in [(0.5, 500.0), (0.95, 950.0), (1.0, 1000.0)] {
            let found = read.within(share, 999).unwrap().as_secs_f64() * 1000.0;
            assert!((ms..ms * 1.1).contains(&found), "{share}: {found} ms");
        }
        assert_eq!(read.within(0.95, 1000).map(|_| ()), None, "they are too few");
        heads.note(Duration::ZERO);
        heads.note(Duration::from_secs(3600));
        assert_eq!(heads.read().since(&read).since(&before).within(0.5, 1).unwrap(), Duration::from_micros(100));
    }
}
