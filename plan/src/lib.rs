//! Cuts a key space into shards from a few answers of the store, without listing it. Pure: whoever drives it asks
//! the questions and brings the answers.
//!
//! A question is a listing with `start-after` that wants one key. Each answer bisects what is still unknown: nothing
//! lies between the question and the key found. Where to ask next is chosen inside the alphabet that the keys found
//! so far use at each place, so that date-like keys or hex names are halved by their own digits; and breadth first,
//! so that every part of the key space that has keys at all gets its share of the questions. The idea is that of
//! work-stealing range listing in Google's dataflux client. What the answers guessed wrong, splitting mends later.

mod gallop;
mod midpoint;
pub mod sample;
pub mod share;

use keyrotate_proto::position::KeyRange;
use serde::{Deserialize, Serialize};

pub use gallop::{STRIDES, behind_folder, gallop};
use midpoint::{midpoint, share_below};

/// Questions that are given out at once, at most.
const BATCH: usize = 32;

/// Name of the file in the report store that holds a [`KeySpace`].
pub const KEY_SPACE: &str = "key-space.json";

/// Version of [`KeySpace`] that this code writes.
pub const KEY_SPACE_VERSION: u32 = 1;

/// What a `prepare` pass learnt of the key space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySpace {
    /// [`KEY_SPACE_VERSION`] of the writer.
    pub version: u32,
    /// All answers, in the order of the questions.
    pub probes: Vec<Probe>,
}

impl KeySpace {
    /// All answers there are.
    #[must_use]
    pub fn of(probes: Vec<Probe>) -> Self {
        Self { version: KEY_SPACE_VERSION, probes }
    }

    /// A key space that nobody needs to ask about: one shard is enough.
    #[must_use]
    pub fn small() -> Self {
        Self::of(Vec::new())
    }
}

/// One question to the key space, answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The listing began behind this text, which need not be a key.
    pub asked_after: String,
    /// The first key behind it; `None` where there is none.
    pub found: Option<String>,
}

/// A stretch of the key space between two known places: `low` is a key (or where the scope begins), and whatever
/// else lies here is behind it and before `up`.
#[derive(Clone, Debug, PartialEq)]
struct Region {
    low: String,
    up: Option<String>,
    /// Guessed share of all keys.
    weight: f64,
    /// Whether nothing but `low` can lie here.
    closed: bool,
}

/// The questions to ask next, at most `budget`, to be asked in any order or all at once; none when nothing is left to
/// learn. `probes` are all answers so far, in the order of the questions.
#[must_use]
pub fn next_questions(probes: &[Probe], scope: &KeyRange, budget: usize) -> Vec<String> {
    let left = budget.min(BATCH);
    if left == 0 || is_empty(scope) {
        return Vec::new();
    }
    if probes.is_empty() {
        return vec![scope.start.clone()];
    }
    let regions = regions(probes, scope);
    let mut keys = found_in(probes);
    keys.extend(regions.iter().map(|region| region.low.as_str()));
    keys.sort_unstable();
    keys.dedup();
    let mut open: Vec<&Region> = regions.iter().filter(|region| !region.closed).collect();
    open.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.low.cmp(&b.low)));
    let heaviest = open.first().map_or(0.0, |region| region.weight);
    let worth_it = open.into_iter().take_while(|region| region.weight * 4.0 > heaviest).take(left);
    worth_it.map(|r| midpoint(&r.low, r.up.as_deref(), &keys).unwrap_or_else(|| r.low.clone())).collect()
}

/// Ranges that are disjoint, sorted, not empty, and cover the scope exactly; at most `wanted`, with about the same
/// number of keys each as far as the answers tell.
#[must_use]
pub fn plan(scope: &KeyRange, probes: &[Probe], wanted: usize) -> Vec<KeyRange> {
    if is_empty(scope) {
        return Vec::new();
    }
    let regions = regions(probes, scope);
    let total: f64 = regions.iter().map(|region| region.weight).sum();
    let mut starts = vec![scope.start.clone()];
    let mut before = 0.0;
    for region in &regions {
        #[expect(clippy::cast_precision_loss, reason = "numbers of shards are small")]
        let due = total * starts.len() as f64 / wanted.max(1) as f64;
        // Cut here, unless the middle of this region is still nearer to where the cut is due.
        let is_due = total > 0.0 && before + region.weight / 2.0 >= due;
        if is_due && starts.len() < wanted && starts.last().is_some_and(|last| *last < region.low) {
            starts.push(region.low.clone());
        }
        before += region.weight;
    }
    let ends: Vec<Option<String>> = starts[1..].iter().cloned().map(Some).chain([scope.end.clone()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| KeyRange { start, end }).collect()
}

/// The first keys of a stretch of a key space.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The stretch.
    pub range: KeyRange,
    /// Its first keys, sorted.
    pub first: Vec<String>,
    /// Whether there are no others.
    pub whole: bool,
}

/// A guess at the number of keys in stretches that [`plan`] cut: as if the rest of each were as dense as its first keys
/// are, in the alphabets that they use. As the stretches have about as many keys each, none counts for more than four
/// of them: dates, which never count to 99, make the guess about some of them far too large.
#[must_use]
pub fn guess_count(stretches: &[Stretch]) -> u64 {
    let mut guesses: Vec<u64> = stretches.iter().map(guess).collect();
    guesses.sort_unstable();
    let most = guesses.get(guesses.len() / 2).map_or(0, |median| median.saturating_mul(4));
    let capped = |stretch: &Stretch| guess(stretch).min(most).max(stretch.first.len() as u64);
    stretches.iter().map(capped).sum()
}

fn guess(stretch: &Stretch) -> u64 {
    let count = stretch.first.len() as u64;
    let Some(last) = stretch.first.last().filter(|_| !stretch.whole) else { return count };
    let keys: Vec<&str> = stretch.first.iter().map(String::as_str).collect();
    let share = share_below(&stretch.range.start, stretch.range.end.as_deref(), last, last, &keys);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a guess")]
    let guess = (count as f64 / share.max(f64::EPSILON)) as u64;
    guess.max(count)
}

fn is_empty(scope: &KeyRange) -> bool {
    scope.end.as_ref().is_some_and(|end| *end <= scope.start)
}

/// Replays the answers: what is known of the key space after them, in key order.
fn regions(probes: &[Probe], scope: &KeyRange) -> Vec<Region> {
    let all = Region { low: scope.start.clone(), up: scope.end.clone(), weight: 1.0, closed: false };
    let mut regions = vec![all];
    let keys = found_in(probes);
    for probe in probes {
        let asked = probe.asked_after.as_str();
        let Some(at) = regions.partition_point(|region| region.low.as_str() <= asked).checked_sub(1) else { continue };
        // Behind `up` nothing is left to learn; a bucket that changed meanwhile may say otherwise, and may be ignored.
        if regions[at].up.as_deref().is_some_and(|up| asked >= up) || regions[at].closed {
            continue;
        }
        let found = probe
            .found
            .as_deref()
            .filter(|key| *key > asked && scope.contains(key) && regions[at].up.as_deref().is_none_or(|up| *key < up));
        answer(&mut regions, at, asked, found, &keys);
    }
    regions
}

/// All keys that are known, in order.
fn found_in(probes: &[Probe]) -> Vec<&str> {
    let mut keys: Vec<&str> = probes.iter().filter_map(|probe| probe.found.as_deref()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Divides the region at `at`, in which `asked` lies, by an answer: a key inside it, or none.
fn answer(regions: &mut Vec<Region>, at: usize, asked: &str, found: Option<&str>, keys: &[&str]) {
    let region = &mut regions[at];
    let only_low = asked == region.low;
    let below = match found {
        _ if only_low => 0.0,
        None => 1.0,
        // Half way between what the alphabets say and an even split.
        Some(key) => f64::midpoint(0.5, share_below(&region.low, region.up.as_deref(), asked, key, keys)),
    };
    let (weight, up) = (region.weight, region.up.replace(asked.to_owned()));
    region.weight *= below;
    region.closed = only_low;
    if let Some(key) = found {
        let rest = Region { low: key.to_owned(), up, weight: weight * (1.0 - below), closed: false };
        regions.insert(at + 1, rest);
    }
}

#[cfg(test)]
mod tests;
