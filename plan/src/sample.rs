//! Where to look at a key space to know how much of what lies in it, without listing it: a random way down through
//! halves of it.
//!
//! A descent begins at the first page of a stretch. What the pages read so far do not cover is halved, the first page of
//! both halves is read, and one half is gone on with, drawn by a coin. Whatever lies on a page counts as often as the
//! way to it is improbable, twice as often with each coin, so that the sum over all pages of a descent is right on
//! average, wherever the halves were cut: D. E. Knuth, "Estimating the efficiency of backtrack programs", Mathematics
//! of Computation 29 (1975). Good halves only make the sums differ less from each other. A coin, and not chances that
//! follow a guess at the halves' sizes: a guess that is far off costs more than good ones save.
//!
//! Descents through the same stretch draw their first coins so that together they go everywhere: [`Descent::among`].

use keyrotate_proto::position::{KeyRange, right_behind};

use crate::Stretch;
use crate::midpoint::midpoint;

/// Keys that are kept to know the alphabets by.
const KNOWN: usize = 40;

/// A way down through one stretch of a key space.
#[derive(Clone, Debug)]
pub struct Descent {
    at: Stretch,
    weight: f64,
    known: Vec<String>,
    /// The part of 0 to 1 in which its next coins fall, read as the digits of a binary fraction.
    place: (f64, f64),
}

impl Descent {
    /// Begins at the first page of a stretch. `known`: some keys of the whole key space, in any order.
    #[must_use]
    pub fn new(first: Stretch, known: &[String]) -> Self {
        let mut descent = Self { at: first, weight: 1.0, known: Vec::new(), place: (0.0, 1.0) };
        descent.learn(&thinned(known, KNOWN / 2));
        let first = thinned(&descent.at.first, KNOWN / 4);
        descent.learn(&first);
        descent
    }

    /// Makes it one of several through the same stretch, `rank` from 0 to below `of`, that share out the ways among
    /// them: of 16, one goes to each sixteenth of the stretch, where a coin for each would leave out a third of them. The
    /// mean over all ranks is still right on average, as a way is as probable as before for a rank drawn at random
    /// (stratified sampling, W. G. Cochran, "Sampling Techniques", 3rd edition, chapter 5); that of some ranks is not, so all
    /// of them are to be gone. As long as two have drawn the same coins they ask for the same pages.
    #[must_use]
    pub fn among(mut self, rank: usize, of: usize) -> Self {
        let of = of.max(1);
        #[expect(clippy::cast_precision_loss, reason = "few descents")]
        let edge = |rank: usize| rank as f64 / of as f64;
        self.place = (edge(rank % of), edge(rank % of + 1));
        self
    }

    /// How many keys stand for one of the pages that [`Descent::halves`] asks for, 1 or more.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The ranges whose first pages are wanted next: the halves of what is left, or all of it where it can't be halved.
    /// `None` at the end of the way.
    #[must_use]
    pub fn halves(&self) -> Option<Vec<KeyRange>> {
        let last = self.at.first.last().filter(|_| !self.at.whole)?;
        let rest = KeyRange { start: right_behind(last), end: self.at.range.end.clone() };
        let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        let Some(middle) = midpoint(last, rest.end.as_deref(), &known).map(|text| right_behind(&text)) else {
            return Some(vec![rest]);
        };
        if rest.end.as_ref().is_some_and(|end| middle >= *end) {
            return Some(vec![rest]);
        }
        let low = KeyRange { start: rest.start, end: Some(middle.clone()) };
        Some(vec![low, KeyRange { start: middle, end: rest.end }])
    }

    /// Goes on with one of the halves, whose first pages these are, in the order of [`Descent::halves`]. `random` lies
    /// between 0 and 1, evenly, and below 1. A half that its first page covers is not gone on with, so where there is one
    /// the other needs no coin.
    pub fn choose(&mut self, pages: Vec<Stretch>, random: f64) {
        for page in &pages {
            self.learn(&thinned(&page.first, KNOWN / 8));
        }
        let mut open = pages.into_iter().filter(|page| !page.whole && !page.first.is_empty());
        match (open.next(), open.next()) {
            (Some(low), Some(high)) => self.toss(low, high, random),
            (Some(only), None) => self.at = only,
            (None, _) => self.at.whole = true,
        }
    }

    /// A point drawn from its place lies in one half of 0 to 1; the part of the place in that half, drawn out to twice its
    /// length, is the place for the coins to come.
    fn toss(&mut self, low: Stretch, high: Stretch, random: f64) {
        let (from, to) = self.place;
        self.weight *= 2.0;
        if from + (to - from) * random < 0.5 {
            self.at = low;
            self.place = (2.0 * from, (2.0 * to).min(1.0));
        } else {
            self.at = high;
            self.place = ((2.0 * from - 1.0).max(0.0), 2.0 * to - 1.0);
        }
    }

    /// Keeps keys to know the alphabets by, in the place of older ones.
    fn learn(&mut self, keys: &[String]) {
        let excess = (self.known.len() + keys.len()).saturating_sub(2 * KNOWN);
        if excess > 0 {
            self.known = thinned(&self.known, KNOWN);
        }
        self.known.extend_from_slice(keys);
        self.known.sort_unstable();
        self.known.dedup();
    }
}

/// So many items out of a stream, each drawn with chances that follow the weights, whatever the others are: the same
/// item may be drawn several times, and then counts as often.
///
/// With replacement, as then the share of a kind among the items drawn is right on average without more ado. Without it
/// (A-Res of Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97,
/// 2006) heavy items are drawn less often than their weights say, which each would have to be weighed up for.
#[derive(Clone, Debug)]
pub struct Reservoir<T> {
    slots: Vec<Slot<T>>,
    size: usize,
    /// Sum of the weights offered.
    sum: f64,
    /// The least of the slots' thresholds.
    next: f64,
}

/// A reservoir of one item.
#[derive(Clone, Debug)]
struct Slot<T> {
    item: T,
    /// When the sum of the weights exceeds it, the item is replaced. One of weight `w` replaces it with chance `w / sum`,
    /// so that none does while the sum grows from `a` to `b` has the chance `a / b`: that of `a / random > b` (the
    /// exponential jumps of A-ExpJ, same paper, for a reservoir of one).
    until: f64,
}

impl<T: Clone> Reservoir<T> {
    /// An empty one, for so many items.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { slots: Vec::with_capacity(size), size, sum: 0.0, next: 0.0 }
    }

    /// Offers an item, which is cloned where it is drawn. `random` gives numbers between 0 and 1, evenly.
    pub fn offer(&mut self, weight: f64, item: &T, mut random: impl FnMut() -> f64) {
        if weight <= 0.0 {
            return;
        }
        self.sum += weight;
        if self.sum <= self.next {
            return;
        }
        let mut until = || self.sum / random().max(f64::MIN_POSITIVE);
        if self.slots.is_empty() {
            self.slots.extend((0..self.size).map(|_| Slot { item: item.clone(), until: until() }));
        } else {
            for slot in self.slots.iter_mut().filter(|slot| slot.until < self.sum) {
                *slot = Slot { item: item.clone(), until: until() };
            }
        }
        self.next = self.slots.iter().map(|slot| slot.until).fold(f64::INFINITY, f64::min);
    }

    /// The items drawn: as many as were wanted, or none when none was offered.
    #[must_use]
    pub fn into_items(self) -> Vec<T> {
        self.slots.into_iter().map(|slot| slot.item).collect()
    }
}

/// At most about so many of them, evenly spread.
fn thinned(keys: &[String], most: usize) -> Vec<String> {
    let step = keys.len().div_ceil(most.max(1)).max(1);
    keys.iter().step_by(step).cloned().collect()
}

#[cfg(test)]
mod tests;
