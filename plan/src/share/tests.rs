//! Random buckets, each kept as a list of keys: what is said about them, and what is so.

use keyrotate_proto::position::KeyRange;
use proptest::prelude::*;

use super::*;
use crate::sample::{Descent, Reservoir};
use crate::{Probe, Stretch, next_questions, plan};

/// Small, so that a bucket that is quickly made is large beside a page.
const PAGE: usize = 8;
const STRATA: usize = 4;
const DESCENTS: usize = 64;
const LOOKS: usize = 10;
/// Bytes of each object.
const BODY: u64 = 1000;
const SAMPLES: usize = 10;
const SEEDS: std::ops::RangeInclusive<u64> = 101..=200;

/// xorshift64*, so that every bucket is the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Keys in order, each with its kind.
type Bucket = Vec<(String, u8)>;

fn key(shape: u64, part: u64, n: u64, dice: &mut Dice) -> String {
    match shape {
        0 => format!("logs/{}/{:02}/{:02}/{n:06}.log", 2020 + dice.below(7), 1 + dice.below(12), 1 + dice.below(28)),
        1 => format!("{:016x}", dice.next()),
        2 => format!("p{part}/{:08x}-{:04x}", dice.next() as u32, dice.next() as u16),
        3 => format!("photos/{n:08}.jpg"),
        4 => format!("user={}/{}/{n}", dice.below(500), ["a", "raw", "thumbs"][dice.below(3) as usize]),
        _ => format!("über/{part}/{} & {n}", dice.below(40)),
    }
}

/// A bucket of some prefixes of their own shape and size; a kind may fill a prefix, be strewn about, or be very rare.
fn bucket(dice: &mut Dice) -> Bucket {
    let mut bucket = BTreeMap::new();
    for part in 0..1 + dice.below(5) {
        let (shape, most) = (dice.below(6), 1 << (6 + dice.below(5)));
        let size = 60 + dice.below(most);
        let own_kind = dice.below(4) as u8;
        let pure = dice.below(2) == 0;
        let turns = dice.below(size);
        for n in 0..size {
            let kind = match dice.below(1000) {
                0 => 4,
                _ if pure => own_kind,
                _ if n < turns => own_kind,
                _ => dice.below(3) as u8,
            };
            bucket.insert(key(shape, part, n, dice), kind);
        }
    }
    bucket.into_iter().collect()
}

/// Where the first key lies that is not before a text.
fn place(bucket: &Bucket, text: &str) -> usize {
    bucket.partition_point(|(key, _)| key.as_str() < text)
}

fn page<'a>(bucket: &'a Bucket, range: &KeyRange) -> (Stretch, &'a [(String, u8)]) {
    let end = range.end.as_ref().map_or(bucket.len(), |end| place(bucket, end));
    let rest = &bucket[place(bucket, &range.start)..end];
    let found = &rest[..rest.len().min(PAGE)];
    let first = found.iter().map(|(key, _)| key.clone()).collect();
    (Stretch { range: range.clone(), first, whole: rest.len() <= PAGE }, found)
}

/// Asks for the key space, descends, looks.
fn sample(bucket: &Bucket, dice: &mut Dice) -> Sample<u8> {
    let scope = KeyRange { start: String::new(), end: None };
    let mut probes: Vec<Probe> = Vec::new();
    loop {
        let questions = next_questions(&probes, &scope, 100usize.saturating_sub(probes.len()));
        if questions.is_empty() {
            break;
        }
        probes.extend(questions.into_iter().map(|asked_after| {
            let found = bucket.get(place(bucket, &format!("{asked_after}\0"))).map(|(key, _)| key.clone());
            Probe { asked_after, found }
        }));
    }
    let known: Vec<String> = probes.iter().filter_map(|probe| probe.found.clone()).collect();
    let strata = plan(&scope, &probes, STRATA);
    let each = (DESCENTS / strata.len()).max(2);
    let mut draws = Vec::new();
    for (stratum, range) in strata.iter().enumerate() {
        let (first, found) = page(bucket, range);
        for rank in 0..each {
            let descent = Descent::new(first.clone(), &known).among(rank, each);
            draws.push(descend(bucket, stratum, found, descent, dice));
        }
    }
    Sample { draws, whole: false }
}

fn descend(bucket: &Bucket, stratum: usize, first: &[(String, u8)], mut descent: Descent, dice: &mut Dice) -> Draw<u8> {
    let mut draw = Draw::new(stratum);
    let mut drawn = Reservoir::new(LOOKS);
    let mut read = |weight: f64, found: &[(String, u8)], dice: &mut Dice| {
        draw.page(weight, found.len(), found.len() as u64 * BODY);
        for (_, kind) in found {
            drawn.offer(weight, kind, || dice.fraction());
        }
    };
    read(1.0, first, dice);
    while let Some(halves) = descent.halves() {
        let pages: Vec<_> = halves.iter().map(|half| page(bucket, half)).collect();
        for (_, found) in &pages {
            read(descent.weight(), found, dice);
        }
        descent.choose(pages.into_iter().map(|(stretch, _)| stretch).collect(), dice.fraction());
    }
    for kind in drawn.into_items() {
        draw.look(kind, BODY);
    }
    draw
}

fn bucket_of(seed: u64) -> (Bucket, Dice) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    dice.next();
    (bucket(&mut dice), dice)
}

fn of_kind(bucket: &Bucket, kind: u8) -> f64 {
    bucket.iter().filter(|(_, seen)| *seen == kind).count() as f64
}

#[test]
fn of_a_hundred_random_buckets_the_truth_lies_in_the_intervals() {
    let (mut shares, mut counts, mut totals, mut missed) = (0, 0, 0, Vec::new());
    for seed in SEEDS {
        let (bucket, mut dice) = bucket_of(seed);
        let all = bucket.len() as f64;
        let sample = sample(&bucket, &mut dice);
        let mut check = |what: &str, truth: f64, said: Interval| {
            let inside = said.contains(truth);
            if !inside {
                missed.push(format!("{what} of bucket {seed}: {truth:.4} not in {said:.4?}"));
            }
            u32::from(inside)
        };
        totals += check("objects", all, sample.objects());
        for kind in 0..5u8 {
            let truth = of_kind(&bucket, kind);
            shares += check("share", truth / all, sample.share(|seen| *seen == kind));
            counts += check("count", truth, sample.count(|seen| *seen == kind));
        }
    }
    let said = format!("shares {shares} of 500, counts {counts} of 500, totals {totals} of 100\n{}", missed.join("\n"));
    assert!(shares >= 465 && counts >= 465 && totals >= 93, "{said}");
}

#[test]
fn totals_and_shares_are_right_on_average() {
    for seed in [3, 14, 22] {
        let (bucket, mut dice) = bucket_of(seed);
        let (all, of_one) = (bucket.len() as f64, of_kind(&bucket, 1));
        let samples: Vec<_> = (0..SAMPLES).map(|_| sample(&bucket, &mut dice)).collect();
        let mean = |value: &dyn Fn(&Sample<u8>) -> f64| samples.iter().map(value).sum::<f64>() / SAMPLES as f64;
        let (objects, bytes) = (mean(&|s| s.objects().value), mean(&|s| s.bytes()));
        let (count, bytes_of) = (mean(&|s| s.count(|kind| *kind == 1).value), mean(&|s| s.bytes_of(|kind| *kind == 1)));
        assert!((objects / all - 1.0).abs() < 0.04, "bucket {seed}: {objects} of {all}");
        assert!((count - of_one).abs() < 0.04 * all, "bucket {seed}: {count} of {of_one} of kind 1");
        assert!((bytes / objects / BODY as f64 - 1.0).abs() < 1e-9, "{bytes} bytes of {objects} objects");
        assert!((bytes_of / count / BODY as f64 - 1.0).abs() < 1e-9 || count == 0.0, "{bytes_of} bytes of {count}");
    }
}

proptest! {
    #[test]
    fn a_whole_one_is_exact(seen in prop::collection::vec((0..3usize, 0..4u8, 0..1_000_000u64), 0..200)) {
        let mut draws: Vec<Draw<u8>> = (0..3).map(Draw::new).collect();
        for (stratum, kind, bytes) in &seen {
            draws[*stratum].page(1.0, 1, *bytes);
            draws[*stratum].look(*kind, *bytes);
        }
        let sample = Sample { draws, whole: true };
        let all = seen.len() as f64;
        let of_one: Vec<u64> = seen.iter().filter(|(_, kind, _)| *kind == 1).map(|(_, _, bytes)| *bytes).collect();
        let is_one = |kind: &u8| *kind == 1;
        prop_assert_eq!(sample.looked(), seen.len() as u64);
        prop_assert_eq!(sample.objects(), Interval::exact(all));
        prop_assert_eq!(sample.count(is_one), Interval::exact(of_one.len() as f64));
        prop_assert_eq!(sample.share(is_one), Interval::exact(of_one.len() as f64 / all.max(1.0)));
        prop_assert_eq!(sample.bytes(), seen.iter().map(|(_, _, bytes)| *bytes).sum::<u64>() as f64);
        prop_assert_eq!(sample.bytes_of(is_one), of_one.iter().sum::<u64>() as f64);
    }
}

#[test]
fn a_kind_that_nobody_saw_may_be_there_a_little() {
    let (bucket, mut dice) = bucket_of(3);
    let share = sample(&bucket, &mut dice).share(|kind| *kind == 9);
    assert!(share.low == 0.0 && share.value == 0.0 && share.high > 0.0 && share.high < 0.05, "{share:?}");
}
