//! A case: what lies in the bucket, the job, and what happens at which call. All of it follows from one number.

use std::fmt;

use keyrotate_env::Env;
use keyrotate_proto::spec::{KeyPattern, Superseded, VersionPolicy};

use super::super::*;
use crate::testing::start;

/// Names that objects have here.
pub(super) const KEYS: [&str; 5] = ["a", "b/c", "dir/", "odd +%?#ü/&=x", "z"];

/// Everything that a run follows from.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) mode: Mode,
    pub(super) versioning: Versioning,
    pub(super) locks: bool,
    pub(super) job: Job,
    /// How many objects lie there beside the ones below, all alike: enough that a page reads them back.
    pub(super) crowd: usize,
    /// Entries in one commit.
    pub(super) window: usize,
    pub(super) steps: Vec<Step>,
    pub(super) ops: Vec<Op>,
}

/// What a job file says.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) goal: Goal,
    pub(super) dialect: Dialect,
    pub(super) in_place: bool,
    pub(super) unguarded: bool,
    pub(super) transit: BodyTransit,
    pub(super) versions: VersionPolicy,
    pub(super) loses: Vec<Loss>,
    pub(super) force_locked: bool,
    pub(super) expire: bool,
    pub(super) verify: bool,
    pub(super) sieve: Option<Sieve>,
    pub(super) prefix: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Kms,
    Context,
    SseS3,
}

/// A filter of the job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sieve {
    OldKey,
    Newer,
    Older,
    Tags,
    Metadata,
    PlaintextOnly,
}

/// One step that fills the bucket, so many milliseconds after the one before.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) gap: u64,
    pub(super) what: Fill,
}

#[derive(Clone, Debug)]
pub(super) enum Fill {
    Put(&'static str, Thing),
    Delete(&'static str),
    Versioning(Versioning),
    /// An upload of a user's that goes on for ever.
    Open(&'static str),
}

/// An object as somebody puts it.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    /// No two have the same.
    pub(super) n: u64,
    pub(super) kind: Kind,
    pub(super) body: Size,
    pub(super) tags: usize,
    pub(super) sum: bool,
    pub(super) class: Option<&'static str>,
    pub(super) redirect: bool,
    pub(super) lock: Option<Held>,
    pub(super) shared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    SseS3,
    Old,
    OldWithContext,
    OldWithBucketKey,
    New,
    Customer,
    DualLayer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Empty,
    Small,
    Parts,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Held {
    Governance,
    Compliance,
    Hold,
}

/// Something that happens at a call.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) at: At,
    pub(super) what: What,
}

/// Which call: the nth of all, or the nth of those that write an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Call(u64),
    Write(u64),
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// Somebody else does something.
    Theirs(When, Whose, Deed),
    /// The call fails, before its effect or behind it.
    Fails(Side, ErrorKind),
    /// The worker is gone, before the call's effect or behind it.
    Dies(Side),
    /// It is frozen, the next one takes over, and the call arrives behind so many others.
    Freezes(u64),
    /// Its lease ends: no write begins any more.
    LeaseEnds,
    /// The call takes three seconds.
    Slow,
    /// The store loses a part of what the next write brings, and says nothing.
    Forgets(Lost),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    Behind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Before,
    /// Within a copy, between what it reads and what it writes; else right behind the call.
    Within,
    Behind,
}

/// Whose object it is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    /// That of the call.
    AtWork,
    Named(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Tags,
    Metadata,
}

#[derive(Clone, Debug)]
pub(super) enum Deed {
    Put(Thing),
    /// The body that is there, with other metadata and tags.
    Again(u64),
    /// Another body before the call, and within it the one that was there again.
    Swap(u64),
    Tags(u64),
    /// Of the version in that place below the newest.
    TagsOf(usize, u64),
    Hold(bool),
    LetRead(u64),
    Delete,
    DeleteVersion(usize),
}

/// Draws.
pub(super) struct Dice(Env);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Env::seeded(seed, start()))
    }

    fn below(&self, n: u64) -> u64 {
        self.0.random_u64() % n
    }

    /// One time in `n`.
    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of several, each as likely as its weight.
    fn weighed<T: Clone>(&self, of: &[(u64, T)]) -> T {
        let mut left = self.below(of.iter().map(|(weight, _)| weight).sum());
        for (weight, one) in of {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return one.clone(),
            }
        }
        unreachable!("the draw is below the sum of the weights")
    }

    fn pick<T: Clone>(&self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()].clone()
    }
}

impl Case {
    /// The case of a number: the store that it plays is `seed` modulo four.
    pub(super) fn of(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let mode = modes()[usize::try_from(seed % 4).unwrap()].clone();
        let versioning = dice.pick(&VERSIONINGS);
        let locks = versioning == Versioning::Enabled && dice.one_in(3);
        let job = Job::draw(&dice, locks);
        let crowd = if dice.one_in(100) { 22 } else { 0 };
        let window = dice.pick(&[1, 2, 100]);
        let steps = steps(&dice, versioning, locks);
        let ops = (0..=dice.below(6)).map(|n| Op::draw(&dice, 1_000 + n, locks)).collect();
        Self { seed, mode, versioning, locks, job, crowd, window, steps, ops }
    }

    /// Cases that differ by having one thing less.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for n in 0..self.ops.len() {
            let mut less = self.clone();
            less.ops.remove(n);
            all.push(less);
        }
        for n in 0..self.steps.len() {
            let mut less = self.clone();
            less.steps.remove(n);
            all.push(less);
        }
        all.push(Self { crowd: 0, ..self.clone() });
        all.push(Self { window: 100, ..self.clone() });
        all.retain(|less| (less.crowd, less.window) != (self.crowd, self.window) || less.len() < self.len());
        all
    }

    fn len(&self) -> usize {
        self.ops.len() + self.steps.len()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, mode, versioning, locks, job, crowd, window, steps, ops } = self;
        writeln!(f, "KEYROTATE_OPS_SEED={seed}: {}, versioning {versioning:?}, locks {locks}", mode.name)?;
        writeln!(f, "{job:?}\ncrowd {crowd}, window {window}")?;
        steps.iter().try_for_each(|row| writeln!(f, "    + {} ms {:?}", row.gap, row.what))?;
        ops.iter().try_for_each(|op| writeln!(f, "    at {:?}: {:?}", op.at, op.what))
    }
}

/// The stores, with ACLs where there are some.
pub(super) fn modes() -> [Mode; 4] {
    Mode::all().map(|mode| Mode { acls: matches!(mode.name, "aws" | "rgw"), ..mode })
}

impl Job {
    fn draw(dice: &Dice, locks: bool) -> Self {
        let mut loses = Vec::new();
        loses.extend(dice.one_in(4).then_some(Loss::Parts));
        loses.extend(dice.one_in(5).then_some(Loss::Checksum));
        let sieves = [Sieve::OldKey, Sieve::Newer, Sieve::Older, Sieve::Tags, Sieve::Metadata, Sieve::PlaintextOnly];
        Self {
            goal: dice.weighed(&[(8, Goal::Kms), (1, Goal::Context), (2, Goal::SseS3)]),
            dialect: dice.weighed(&[(4, Dialect::Aistor), (1, Dialect::Minio)]),
            in_place: !dice.one_in(4),
            unguarded: dice.one_in(8),
            transit: dice.weighed(&[(5, BodyTransit::Any), (1, BodyTransit::Unsaid), (2, BodyTransit::UpTo(3))]),
            versions: dice.weighed(&[(5, VersionPolicy::All), (1, VersionPolicy::Current)]),
            loses,
            force_locked: locks && !dice.one_in(3),
            expire: dice.one_in(4),
            verify: dice.one_in(4),
            sieve: dice.one_in(10).then(|| dice.pick(&sieves)),
            prefix: if dice.one_in(12) { "b/" } else { "" },
        }
    }

    pub(super) fn spec(&self) -> JobSpec {
        let mut spec = spec();
        spec.dialect = self.dialect;
        spec.prefix = self.prefix.to_owned();
        let context = (self.goal == Goal::Context).then(|| [("of".to_owned(), "the job".to_owned())].into());
        spec.target = match self.goal {
            Goal::SseS3 => Target::SseS3,
            Goal::Kms | Goal::Context => Target::SseKms { key: Some(KeyName(NEW.into())), context },
        };
        spec.options = Options {
            body_transit: self.transit,
            in_place: self.in_place,
            allow_unguarded: self.unguarded,
            verify_bodies: if self.verify { 0.5 } else { 0.0 },
            versions: self.versions,
            accept_loss: self.loses.iter().copied().collect(),
            superseded: if self.expire { Superseded::Expire } else { Superseded::Keep },
            ..spec.options
        };
        let filter = &mut spec.filter;
        filter.force_encrypt_locked = self.force_locked;
        let pattern = |key: &str| vec![KeyPattern { key: key.into(), value: "*1*".into() }];
        let some = Some(std::time::Duration::from_secs(3));
        match self.sieve {
            None => {}
            Some(Sieve::OldKey) => filter.kms_key = Some(KeyName(OLD.into())),
            Some(Sieve::Newer) => filter.newer_than = some,
            Some(Sieve::Older) => filter.older_than = some,
            Some(Sieve::Tags) => filter.tags = pattern("t"),
            Some(Sieve::Metadata) => filter.metadata = pattern("n"),
            Some(Sieve::PlaintextOnly) => filter.plaintext_only = true,
        }
        spec
    }
}

/// What fills the bucket: objects, versions, delete markers, of before versioning and of while it was suspended.
fn steps(dice: &Dice, versioning: Versioning, locks: bool) -> Vec<Step> {
    let gap = || dice.weighed(&[(2, 0), (1, 1), (1, 2), (1, 700), (3, 2_345)]);
    let keys: Vec<&str> = (0..=dice.below(3)).map(|_| dice.pick(&KEYS)).collect();
    let count = 1 + dice.below(7);
    let mut steps: Vec<Step> = (0..count)
        .map(|n| {
            let key = dice.pick(&keys);
            let what = match dice.below(14) {
                0 => Fill::Delete(key),
                1 => Fill::Open(key),
                _ => Fill::Put(key, Thing::draw(dice, n, locks)),
            };
            Step { gap: gap(), what }
        })
        .collect();
    let mut turn = |to: Versioning, from: u64, below: u64| {
        let place = usize::try_from(from + dice.below(below)).unwrap().min(steps.len());
        steps.insert(place, Step { gap: gap(), what: Fill::Versioning(to) });
        place as u64
    };
    match versioning {
        Versioning::Off => {}
        Versioning::Enabled => {
            turn(Versioning::Enabled, 0, 2);
        }
        Versioning::Suspended => {
            let mut place = turn(Versioning::Enabled, 0, 2);
            place = turn(Versioning::Suspended, place + 1, 4);
            if dice.one_in(3) {
                place = turn(Versioning::Enabled, place + 1, 3);
                turn(Versioning::Suspended, place + 1, 3);
            }
        }
    }
    steps
}

impl Thing {
    fn draw(dice: &Dice, n: u64, locks: bool) -> Self {
        let kinds = [
            (12, Kind::Old),
            (5, Kind::SseS3),
            (4, Kind::Plain),
            (2, Kind::New),
            (1, Kind::OldWithContext),
            (1, Kind::OldWithBucketKey),
            (1, Kind::Customer),
            (1, Kind::DualLayer),
        ];
        let held = [Held::Governance, Held::Compliance, Held::Hold];
        let classes = [(20, None), (1, Some("STANDARD_IA")), (1, Some("GLACIER")), (1, Some("COLD"))];
        let kind = dice.weighed(&kinds);
        let body = dice.weighed(&[(1, Size::Empty), (5, Size::Small), (4, Size::Parts)]);
        Self {
            n,
            kind,
            // No ETag of such an object is that of a body, as the model has it.
            body: if kind == Kind::Customer { Size::Small } else { body },
            tags: usize::try_from(dice.below(3)).unwrap(),
            sum: dice.one_in(4),
            class: dice.weighed(&classes),
            redirect: dice.one_in(10),
            lock: (locks && dice.one_in(3)).then(|| dice.pick(&held)),
            shared: dice.one_in(10),
        }
    }
}

impl Op {
    fn draw(dice: &Dice, n: u64, locks: bool) -> Self {
        let at = if dice.one_in(2) { At::Write(1 + dice.below(4)) } else { At::Call(1 + dice.below(18)) };
        let before = [
            ErrorKind::Timeout,
            ErrorKind::Server,
            ErrorKind::Cut,
            ErrorKind::Throttled,
            ErrorKind::Denied,
            ErrorKind::Credentials,
            ErrorKind::Precondition,
            ErrorKind::Unreachable,
            ErrorKind::Kms,
        ];
        let behind = [ErrorKind::Timeout, ErrorKind::Server, ErrorKind::Cut, ErrorKind::Nonsense];
        let what = match dice.below(22) {
            0 | 1 => What::Fails(Side::Before, dice.pick(&before)),
            2 | 3 => What::Fails(Side::Behind, dice.pick(&behind)),
            4 => What::Dies(Side::Before),
            5 => What::Dies(Side::Behind),
            6 => What::LeaseEnds,
            7 => What::Slow,
            8 => What::Forgets(dice.pick(&[Lost::Tags, Lost::Metadata])),
            9 => What::Freezes(1 + dice.below(12)),
            _ => {
                let when = dice.pick(&[When::Before, When::Within, When::Behind]);
                let whose = if dice.one_in(4) { Whose::Named(dice.pick(&KEYS)) } else { Whose::AtWork };
                What::Theirs(when, whose, Deed::draw(dice, n, locks))
            }
        };
        Self { at, what }
    }
}

impl Deed {
    fn draw(dice: &Dice, n: u64, locks: bool) -> Self {
        let place = || usize::try_from(dice.below(3)).unwrap();
        match dice.below(16) {
            0..=2 => Self::Put(Thing::draw(dice, n, locks)),
            3 | 4 => Self::Again(n),
            5 | 6 => Self::Swap(n),
            7 | 8 => Self::Tags(n),
            9 => Self::TagsOf(place(), n),
            10 | 13 if locks => Self::Hold(!dice.one_in(3)),
            11 => Self::LetRead(n),
            10 | 12 | 13 => Self::Delete,
            _ => Self::DeleteVersion(place()),
        }
    }

    /// Its word in counts.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Put(_) => "put",
            Self::Again(_) => "same body again",
            Self::Swap(_) => "there and back",
            Self::Tags(_) | Self::TagsOf(..) => "tags",
            Self::Hold(_) => "hold",
            Self::LetRead(_) => "acl",
            Self::Delete => "delete",
            Self::DeleteVersion(_) => "delete a version",
        }
    }
}
