//! What a job would do and cost, from what was found. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyrotate_plan::share::{Interval, Sample};
use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::forecast::{Basis, FORECAST_VERSION, Fated, Forecast, Pace, Range, Share, UnderKey, Way};
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::row::Seal;
use keyrotate_rewrap::{Fate, PART};
use keyrotate_store::BucketFacts;

use super::worlds::World;
use super::{Kind, Question, Speed};

/// Keys on one page of a listing.
const PAGE: f64 = 1000.0;

/// A listing page takes as long as so many looks at objects, and slots read so many pages side by side.
const PAGE_WORTH: f64 = 4.0;

/// A write takes as long as so many looks at objects: measured on the embedded store, as docs/benchmarks.md says.
const WRITE_WORTH: f64 = 1.8;

/// Calls of a job's `prepare` pass, most of them one after the other.
const PREPARE: f64 = 460.0;

/// What was found, and how fast.
pub(super) struct Found<'a> {
    pub(super) sample: &'a Sample<Kind>,
    pub(super) worlds: &'a [World],
    pub(super) facts: &'a BucketFacts,
    pub(super) looked: u64,
    pub(super) pages: u64,
    pub(super) seconds: f64,
    pub(super) speed: Speed,
}

/// Puts it together.
pub(super) fn forecast(
    found: &Found<'_>,
    question: &Question,
    target: Option<&FrozenTarget>,
    store: &str,
    now: Timestamp,
) -> Forecast {
    let sample = found.sample;
    let ways = match target {
        Some(_) => found.worlds.iter().enumerate().map(|(n, world)| way(found, n, world, question.rate, now)).collect(),
        None => Vec::new(),
    };
    Forecast {
        version: FORECAST_VERSION,
        store: store.to_owned(),
        bucket: question.spec.bucket.clone(),
        prefix: question.spec.prefix.clone(),
        taken: now,
        complete: sample.whole,
        looked: found.looked,
        pages: found.pages,
        seconds: found.seconds,
        reads_per_second: found.speed.per_second,
        target: target.map(|target| match target {
            FrozenTarget::SseS3 => "sse-s3".to_owned(),
            FrozenTarget::SseKms { .. } => {
                target.all().into_iter().map(|key| key.0.as_str()).collect::<Vec<_>>().join(", ")
            }
        }),
        objects: range(sample.objects()),
        bytes: whole(sample.bytes()),
        keys: keys(sample),
        ways,
        notes: notes(found, target),
    }
}

/// A line for each key, and for each kind of encryption without one.
fn keys(sample: &Sample<Kind>) -> Vec<UnderKey> {
    let seals: BTreeSet<&Seal> = sample.draws.iter().flat_map(|draw| draw.seen.keys()).map(|kind| &kind.seal).collect();
    let mut keys: Vec<UnderKey> = seals
        .into_iter()
        .map(|seal| {
            let of_it = |kind: &Kind| kind.seal == *seal;
            let Interval { low, value, high } = sample.share(of_it);
            UnderKey {
                seal: seal.to_string(),
                objects: range(sample.count(of_it)),
                share: Share { low, value, high },
                bytes: whole(sample.bytes_of(of_it)),
            }
        })
        .collect();
    keys.sort_by(|a, b| b.objects.value.cmp(&a.objects.value).then_with(|| a.seal.cmp(&b.seal)));
    keys
}

/// What a job does in one of the worlds.
fn way(found: &Found<'_>, n: usize, world: &World, rate: Option<f64>, now: Timestamp) -> Way {
    let sample = found.sample;
    let kinds = || sample.draws.iter().flat_map(|draw| draw.seen.keys());
    let all: BTreeSet<Fate> = kinds().map(|kind| kind.fates[n]).collect();
    let mut fates: Vec<Fated> = all.iter().map(|fate| fated(sample, n, *fate)).collect();
    fates.sort_by(|a, b| b.objects.value.cmp(&a.objects.value).then_with(|| a.fate.cmp(&b.fate)));
    let mut work = Work::of(found, world);
    for fate in &all {
        if let Fate::Written(strategy) = fate {
            let of_it = |kind: &Kind| kind.fates[n] == *fate;
            work.add(*strategy, sample.count(of_it).value, sample.bytes_of(of_it), world);
        }
    }
    let versions = world.frozen.versioning.has_versions();
    let from_kms = |kind: &Kind| matches!(kind.fates[n], Fate::Written(_)) && kind.seal.kms_key().is_some();
    let kms = sample.count(from_kms).value + if to_kms(world) { work.written } else { 0.0 };
    let seconds = work.seconds(found);
    Way {
        basis: world.basis,
        proven: world.proven,
        fates,
        written: whole(work.written),
        calls: whole(work.reads + work.writes + work.pages),
        kms_calls: whole(kms),
        transit_bytes: whole(work.transit),
        added_versions: if versions { whole(work.added) } else { 0 },
        added_bytes: if versions { whole(work.added_bytes) } else { 0 },
        added_bytes_at_most: if versions { whole(added_at_most(sample, n)) } else { 0 },
        pace: pace(work.objects, seconds, now),
        at_rate: rate.map(|rate| pace(work.objects, seconds.max(work.objects / rate), now)),
    }
}

/// Bytes of the bodies that are written anew, at the upper end of how many they may be: as if those that nobody saw were
/// as large as others are.
fn added_at_most(sample: &Sample<Kind>, n: usize) -> f64 {
    let adds = |kind: &Kind| matches!(kind.fates[n], Fate::Written(strategy) if !strategy.keeps_version());
    let (count, bytes) = (sample.count(adds), sample.bytes_of(adds));
    let each = if count.value > 0.0 { bytes / count.value } else { sample.bytes() / sample.objects().value.max(1.0) };
    count.high * each
}

fn fated(sample: &Sample<Kind>, n: usize, fate: Fate) -> Fated {
    let of_it = |kind: &Kind| kind.fates[n] == fate;
    Fated { fate: word(fate), objects: range(sample.count(of_it)), bytes: whole(sample.bytes_of(of_it)) }
}

fn word(fate: Fate) -> String {
    match fate {
        Fate::Written(strategy) => strategy.to_string(),
        Fate::Settled(outcome) => outcome.name(),
    }
}

/// The calls of a job, and what they carry.
struct Work {
    objects: f64,
    pages: f64,
    reads: f64,
    writes: f64,
    written: f64,
    transit: f64,
    added: f64,
    added_bytes: f64,
}

impl Work {
    /// Walking and verifying: both list everything, and the walk looks at each object where the listing does not show it.
    fn of(found: &Found<'_>, world: &World) -> Self {
        let objects = found.sample.objects().value;
        let unlisted = |kind: &Kind| kind.seal != Seal::Unknown;
        let reads = if world.frozen.listing_facts { 0.0 } else { found.sample.count(unlisted).value };
        let pages = 2.0 * (objects / PAGE).ceil();
        let (writes, written, transit, added, added_bytes) = Default::default();
        Self { objects, pages, reads, writes, written, transit, added, added_bytes }
    }

    /// Objects that are written by one strategy, and read back.
    fn add(&mut self, strategy: Strategy, objects: f64, bytes: f64, world: &World) {
        self.written += objects;
        let by_listing = world.frozen.listing_facts && !strategy.uploads();
        match by_listing {
            true => self.pages += (objects / PAGE).ceil(),
            false => self.reads += objects,
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let parts = objects.max(bytes / PART as f64);
        self.writes += if strategy.uploads() { 2.0 * objects + parts } else { objects };
        if strategy.moves_bodies() {
            self.reads += objects;
            self.transit += bytes;
        }
        if !strategy.keeps_version() {
            self.added += objects;
            self.added_bytes += bytes;
        }
    }

    /// How long it takes, at the measured pace of looks.
    fn seconds(&self, found: &Found<'_>) -> f64 {
        let calls = self.reads + WRITE_WORTH * self.writes + PAGE_WORTH * self.pages;
        // Of an empty bucket nothing was timed.
        PREPARE * found.speed.one + calls / found.speed.per_second.max(1.0)
    }
}

fn to_kms(world: &World) -> bool {
    matches!(world.frozen.target, FrozenTarget::SseKms { .. })
}

fn pace(objects: f64, seconds: f64, now: Timestamp) -> Pace {
    let length = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    let ends = now.saturating_add(length).unwrap_or(Timestamp::MAX);
    Pace { objects_per_second: objects / seconds.max(1e-9), seconds, ends }
}

/// What to know about the numbers.
fn notes(found: &Found<'_>, target: Option<&FrozenTarget>) -> Vec<String> {
    let mut notes = Vec::new();
    if target.is_none() {
        notes.push(
            "target unknown: without a probe nobody can say what the store's default key is; name it by --key, or let \
             `keyrotate doctor ALIAS/BUCKET` prove it"
                .to_owned(),
        );
    }
    // Where it was proven, objects with an ACL are asked about; MinIO has none.
    let guesses_at_acls = |world: &World| world.proven.is_none() && world.basis != Basis::InPlace;
    if !found.facts.acls_off && found.worlds.iter().any(guesses_at_acls) {
        notes.push("ACLs were not asked for: an object with one of its own may be skipped".to_owned());
    }
    notes
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of objects and bytes")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

fn range(interval: Interval) -> Range {
    Range { low: whole(interval.low), value: whole(interval.value), high: whole(interval.high) }
}
