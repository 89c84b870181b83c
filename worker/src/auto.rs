//! How many calls at a time do good, where nobody said how many: more, while more come back for it and a HEAD does not
//! take twice as long as it did at first.

use std::time::Duration;

use keyrotate_store::retry::{HeadTimes, Pressure};

/// Where it begins, and never goes below.
const FIRST: usize = 8;
/// Seconds of one measurement.
const SECONDS: u32 = 3;
/// After so many seconds at one level it is tried again whether more do good.
const AGAIN: u32 = 60;
/// So much more must come back for a fourth more calls at a time.
const GAIN: f64 = 1.05;
/// So few HEADs say nothing about how long they take.
const FEW: u64 = 20;

/// One second of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Calls at a time.
    pub(crate) level: usize,
    /// Good answers.
    pub(crate) answered: u64,
    /// Whether more calls would have been made.
    pub(crate) exhausted: bool,
}

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measured {
    level: usize,
    per_second: f64,
    /// The time within which 95 % of the HEADs were answered, where there were enough.
    p95: Option<Duration>,
}

/// Looks for the number of calls at a time that does most good.
#[derive(Debug)]
pub(crate) struct Auto {
    search: Search,
    seconds: u32,
    answered: u64,
    heads: HeadTimes,
}

impl Auto {
    pub(crate) fn new(most: usize, pressure: &Pressure) -> Self {
        Self { search: Search::new(most), seconds: 0, answered: 0, heads: pressure.head_times() }
    }

    pub(crate) fn level(&self) -> usize {
        self.search.level
    }

    /// Takes a second in; gives how many calls there may be at a time from now on.
    pub(crate) fn look(&mut self, sample: Sample, pressure: &Pressure) -> usize {
        // Slowed down, on the way up, or without enough to do: nothing can be learnt.
        if sample.level != self.search.level || !sample.exhausted {
            self.begin(pressure);
            return self.search.level;
        }
        self.seconds += 1;
        self.answered += sample.answered;
        if self.seconds == SECONDS {
            let heads = pressure.head_times();
            let p95 = heads.since(&self.heads).within(0.95, FEW);
            #[expect(clippy::cast_precision_loss, reason = "nobody answers that much")]
            let per_second = self.answered as f64 / f64::from(SECONDS);
            self.search.step(Measured { level: sample.level, per_second, p95 });
            self.begin(pressure);
        }
        self.search.level
    }

    fn begin(&mut self, pressure: &Pressure) {
        (self.seconds, self.answered, self.heads) = (0, 0, pressure.head_times());
    }
}

/// Which level is measured next: a pure function of what was measured.
#[derive(Clone, Debug)]
struct Search {
    most: usize,
    level: usize,
    /// How long a HEAD takes at the first level.
    first: Option<Duration>,
    /// What the level below gave, while it is not decided whether this one does more good.
    below: Option<Measured>,
    /// Measurements until more are tried again.
    rest: u32,
}

impl Search {
    fn new(most: usize) -> Self {
        Self { most, level: FIRST.min(most), first: None, below: None, rest: 0 }
    }

    fn step(&mut self, now: Measured) {
        if now.level <= FIRST {
            self.first = now.p95.or(self.first);
        }
        let slow = self.is_slow(now);
        match self.below.take() {
            Some(below) if slow || now.per_second < below.per_second * GAIN => self.stay_at(below.level),
            None if slow => self.stay_at((now.level - now.level / 5).max(FIRST.min(self.most))),
            None if self.rest > 0 => self.rest -= 1,
            _ => self.try_more(now),
        }
    }

    fn is_slow(&self, now: Measured) -> bool {
        let both = now.p95.zip(self.first).filter(|_| now.level > FIRST);
        both.is_some_and(|(now, first)| now >= 2 * first)
    }

    fn try_more(&mut self, now: Measured) {
        let level = (now.level + (now.level / 4).max(1)).min(self.most);
        if level == now.level {
            return self.stay_at(level);
        }
        (self.level, self.below) = (level, Some(now));
    }

    fn stay_at(&mut self, level: usize) {
        (self.level, self.rest) = (level, AGAIN / SECONDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A store that answers in 20 ms, so many calls at a time; all others wait for their turn.
    #[derive(Clone, Copy, Debug)]
    struct Knee(usize);

    impl Knee {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        fn measured(self, level: usize) -> Measured {
            let (level_, knee) = (level as f64, self.0 as f64);
            let p95 = Duration::from_secs_f64(0.02 * (level_ / knee).max(1.0));
            Measured { level, per_second: level_.min(knee) / 0.02, p95: Some(p95) }
        }

        /// The levels of so many measurements.
        fn levels(self, search: &mut Search, count: usize) -> Vec<usize> {
            let step = |_| {
                search.step(self.measured(search.level));
                search.level
            };
            (0..count).map(step).collect()
        }
    }

    #[test]
    fn it_climbs_to_the_knee_and_stays() {
        let mut search = Search::new(512);
        assert_eq!(Knee(40).levels(&mut search, 12), [10, 12, 15, 18, 22, 27, 33, 41, 51, 41, 41, 41]);
        // Once in a while it is tried whether more do good now.
        assert!(Knee(40).levels(&mut search, 100).iter().all(|level| [41, 51].contains(level)));
        Knee(100).levels(&mut search, 100);
        assert!((80..=125).contains(&search.level), "{}", search.level);
        // A store that became slower is given fewer.
        Knee(20).levels(&mut search, 60);
        assert!(search.level < 40, "{}", search.level);
    }

    #[test]
    fn without_heads_the_throughput_alone_decides() {
        let mut search = Search::new(512);
        for _ in 0..40 {
            search.step(Measured { p95: None, ..Knee(60).measured(search.level) });
        }
        assert!((48..=80).contains(&search.level), "{}", search.level);
    }

    proptest! {
        #[test]
        fn wherever_the_knee_is_it_ends_near_it_and_heads_do_not_take_twice_as_long(knee in 1usize..400, most in 1usize..600) {
            let mut search = Search::new(most);
            let levels = Knee(knee).levels(&mut search, 200);
            let least = FIRST.min(most);
            prop_assert!(levels.iter().all(|level| (least..=most).contains(level)));
            let last = search.below.map_or(search.level, |below| below.level);
            prop_assert!(last <= least.max(knee * 2), "{last}");
            // The last step up may be too small to show.
            prop_assert!(last * 5 / 4 + 1 >= most.min(knee * 3 / 4), "{last}");
        }
    }
}
