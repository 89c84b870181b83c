//! Random histories of a shard: several workers, leases that run out, zombies, splits, lost answers, against a model
//! that knows each object.

use keyrotate_proto::id::{JobId, Nonce, PassId};
use keyrotate_proto::outcome::{Evidence, Outcome};
use keyrotate_proto::spec::{Dialect, Filter, JobSpec, Options, Retry, SPEC_VERSION, Target};
use keyrotate_proto::state::{JobState, Phase};
use proptest::prelude::*;

use super::*;
use crate::transition::job;

pub(crate) const TTL: Duration = Duration::from_secs(30);

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(crate) fn job(phase: Phase) -> JobRecord {
    let spec = JobSpec {
        version: SPEC_VERSION,
        dialect: Dialect::Aistor,
        bucket: "b".into(),
        prefix: String::new(),
        keys: [].into(),
        target: Target::SseS3,
        filter: Filter::default(),
        notify: None,
        retry: Retry::default(),
        options: Options::default(),
        manifest: None,
    };
    let id = JobId::new(1, [1; 10]);
    let mut job = JobRecord::new(id, spec, "https://s".into(), Nonce("c0ffee".into()), "me".into(), at(0));
    job.state = JobState::Live { phase };
    job
}

fn walking() -> (JobRecord, ShardRecord) {
    let job = job::open_pass(&job(Phase::Running), PassKind::Walk, 1, None, at(0)).unwrap();
    let id = ShardRef { job: job.id.clone(), pass: PassId(0), shard: ShardId(0) };
    let shard = ShardRecord::new(id, KeyRange { start: String::new(), end: None }, job.nonce.clone());
    (job, shard)
}

fn take(
    job: &JobRecord,
    shard: &ShardRecord,
    token: &str,
    redelivered: bool,
    epoch: &Epoch,
    now: i64,
) -> Result<ShardRecord, Refusal> {
    lease(job, shard, &LeaseAsk { owner: "w", token, ticket_epoch: epoch, redelivered, ttl: TTL }, at(now))
}

#[test]
fn a_shard_outside_the_jobs_prefix_is_leased_to_nobody() {
    let (mut job, mut shard) = walking();
    job.spec.prefix = "a/".into();
    assert_eq!(take(&job, &shard, "t", false, &shard.epoch, 1), Err(Refusal::OutOfScope));
    shard.range = KeyRange::of_prefix("a/b");
    shard.cursor = Position::Before("a/b".into());
    assert!(take(&job, &shard, "t", false, &shard.epoch, 1).is_ok());
}

fn fence(shard: &ShardRecord) -> Fence {
    let ShardState::Leased { token, .. } = &shard.state else { panic!("not leased") };
    Fence { epoch: shard.epoch.clone(), token: token.clone() }
}

fn rotated(n: u64) -> Counts {
    Counts { by_outcome: [(Outcome::Rotated(Evidence::Key), n)].into(), ..Counts::default() }
}

fn window(shard: &ShardRecord, to: Position, rows: u64) -> Commit {
    let mut commit = Commit::of(shard);
    commit.cursor = to;
    commit.counts = rotated(shard.counts.scanned() + rows);
    commit.listed += rows;
    commit.parts += 1;
    commit.last_part = Some(format!("{}-{}", shard.epoch, commit.parts));
    commit
}

fn after(n: u32) -> Position {
    Position::After(key(n), None)
}

fn key(n: u32) -> String {
    format!("{n:04}")
}

#[test]
fn each_lease_has_the_next_epoch_and_only_the_newest_may_commit() {
    let (job, shard) = walking();
    let first = take(&job, &shard, "a", false, &shard.epoch, 0).unwrap();
    assert_eq!(take(&job, &first, "b", false, &shard.epoch, 30), Err(Refusal::Held { until: at(30) }));
    let second = take(&job, &first, "b", false, &shard.epoch, 31).unwrap();
    assert_eq!((first.epoch.counter, second.epoch.counter), (1, 2));
    let zombie = window(&first, after(1), 1);
    assert_eq!(commit(&job, &second, &fence(&first), &zombie, TTL, at(31)), Err(Refusal::Stale));
    assert!(commit(&job, &second, &fence(&second), &zombie, TTL, at(31)).is_ok());
    assert_eq!(commit(&job, &second, &fence(&second), &zombie, TTL, at(62)), Err(Refusal::Expired));
}

#[test]
fn a_redelivered_ticket_takes_over_only_its_own_lease_and_only_where_writes_are_guarded() {
    let (mut job, shard) = walking();
    let held = take(&job, &shard, "a", false, &shard.epoch, 0).unwrap();
    assert!(take(&job, &held, "b", true, &shard.epoch, 1).is_ok());
    let other = Epoch { counter: 5, ..shard.epoch.clone() };
    assert!(take(&job, &held, "b", true, &other, 1).is_err());
    let foreign = Epoch { nonce: Nonce("other".into()), counter: 0 };
    assert!(take(&job, &held, "b", true, &foreign, 1).is_err());
    job.spec.options.allow_unguarded = true;
    assert!(take(&job, &held, "b", true, &shard.epoch, 1).is_err());
}

#[test]
fn a_new_nonce_fences_off_everything_leased_before() {
    let (mut job, shard) = walking();
    let held = take(&job, &shard, "a", false, &shard.epoch, 0).unwrap();
    job.nonce = Nonce("new".into());
    assert_eq!(renew(&job, &held, &fence(&held), false, TTL, at(1)), Err(Refusal::Stale));
    assert_eq!(take(&job, &held, "b", false, &shard.epoch, 40).unwrap().epoch.nonce, job.nonce);
}

#[test]
fn what_a_lost_holder_had_in_hand_is_in_doubt_until_others_are_past_it() {
    let (job, shard) = walking();
    assert_eq!(shard.doubted(PassKind::Walk), 0);
    let held = take(&job, &shard, "a", false, &shard.epoch, 0).unwrap();
    let given_back = give_back(&job, &held, &fence(&held), End::GivenBack).unwrap();
    assert_eq!(given_back.doubted(PassKind::Walk), 0, "its last word says that nothing is under way");
    let mut lost = void(&held, None);
    assert_eq!(lost.doubted(PassKind::Walk), MAX_AHEAD);
    lost.listed += 1_000;
    assert_eq!(lost.doubted(PassKind::Walk), MAX_AHEAD - 1_000);
    lost.listed += MAX_AHEAD;
    assert_eq!(lost.doubted(PassKind::Walk), 0);
    assert_eq!(lost.doubted(PassKind::Retry), u64::MAX, "a retry writes what may have been written before");
    let fenced = JobRecord { nonce: Nonce("new".into()), ..job };
    let taken = take(&fenced, &held, "b", false, &held.epoch, 0).unwrap();
    assert_eq!(taken.doubted(PassKind::Walk), MAX_AHEAD);
}

#[test]
fn three_leases_without_progress_ask_for_a_split_and_progress_forgives() {
    let (job, mut shard) = walking();
    for n in 0..3 {
        assert!(!shard.needs_split());
        shard = void(&take(&job, &shard, &n.to_string(), false, &shard.epoch, 0).unwrap(), None);
    }
    assert!(shard.needs_split());
    let back = take(&job, &shard, "x", false, &shard.epoch, 0).unwrap();
    let back = give_back(&job, &back, &fence(&back), End::GivenBack).unwrap();
    assert_eq!(back.charges, 3, "what is given back charges nothing");
    let held = take(&job, &back, "y", false, &shard.epoch, 0).unwrap();
    let got_on = commit(&job, &held, &fence(&held), &window(&held, after(3), 1), TTL, at(1)).unwrap();
    assert_eq!(void(&got_on, None).charges, 0);
}

#[test]
fn an_upload_that_grows_is_progress_although_the_cursor_stands() {
    let (job, mut shard) = walking();
    for n in 0..2 {
        shard = void(&take(&job, &shard, &n.to_string(), false, &shard.epoch, 0).unwrap(), None);
    }
    let held = take(&job, &shard, "a", false, &shard.epoch, 0).unwrap();
    let alive = renew(&job, &held, &fence(&held), false, TTL, at(1)).unwrap();
    assert_eq!(void(&alive, None).charges, 3, "to be alive is no progress");
    let grown = renew(&job, &held, &fence(&held), true, TTL, at(1)).unwrap();
    assert_eq!((void(&grown, None).charges, &grown.cursor), (0, &shard.cursor));
    let later = renew(&job, &grown, &fence(&held), false, TTL, at(2)).unwrap();
    assert_eq!(void(&later, None).charges, 0, "what was gained under a lease counts to its end");
    let next = take(&job, &void(&later, None), "b", false, &shard.epoch, 2).unwrap();
    assert_eq!(void(&next, None).charges, 1, "and no longer");
}

#[test]
fn a_source_that_can_not_be_listed_three_times_is_abandoned() {
    let (job, mut shard) = walking();
    for n in 0..3 {
        assert_eq!(shard.state, ShardState::Waiting);
        let held = take(&job, &shard, &n.to_string(), false, &shard.epoch, 0).unwrap();
        shard = give_back(&job, &held, &fence(&held), End::Unlisted("it did not answer")).unwrap();
    }
    assert_eq!(shard.state, ShardState::Abandoned);
    assert_eq!(shard.unlisted_why.as_deref(), Some("it did not answer"));
    assert_eq!(take(&job, &shard, "x", false, &shard.epoch, 0), Err(Refusal::ShardOver));
}

#[test]
fn commits_that_do_not_add_up_are_refused() {
    let (job, shard) = walking();
    let held = take(&job, &shard, "a", false, &shard.epoch, 0).unwrap();
    let held = commit(&job, &held, &fence(&held), &window(&held, after(5), 5), TTL, at(1)).unwrap();
    let refuse = |change: &dyn Fn(&mut Commit)| {
        let mut bad = window(&held, after(6), 1);
        change(&mut bad);
        commit(&job, &held, &fence(&held), &bad, TTL, at(1)).unwrap_err()
    };
    assert_eq!(refuse(&|c| c.cursor = after(4)), Refusal::CursorBack);
    assert_eq!(refuse(&|c| c.counts = rotated(4)), Refusal::Counts);
    assert_eq!(refuse(&|c| c.listed = 4), Refusal::Counts);
    assert_eq!(refuse(&|c| c.parts = held.parts), Refusal::Counts);
    assert_eq!(refuse(&|c| c.last_part.clone_from(&held.last_part)), Refusal::Counts);
    assert_eq!(refuse(&|c| c.cursor = held.cursor.clone()), Refusal::Counts);
}

#[test]
fn a_cursor_never_passes_the_end_and_only_the_end_is_done() {
    let (job, mut shard) = walking();
    shard.range.end = Some(key(5));
    let held = take(&job, &shard, "a", false, &shard.epoch, 0).unwrap();
    for outside in [after(5), Position::End, Position::Before(key(6))] {
        let beyond = commit(&job, &held, &fence(&held), &window(&held, outside, 1), TTL, at(1));
        assert_eq!(beyond, Err(Refusal::CursorOutside));
    }
    let inside = commit(&job, &held, &fence(&held), &window(&held, after(4), 1), TTL, at(1)).unwrap();
    assert_eq!(finish(&job, &inside, &fence(&held), at(1)), Err(Refusal::NotAtEnd));
    let whole =
        commit(&job, &inside, &fence(&held), &window(&inside, Position::Before(key(5)), 0), TTL, at(1)).unwrap();
    let done = finish(&job, &whole, &fence(&held), at(1)).unwrap();
    assert_eq!(finish(&job, &done, &fence(&held), at(99)), Ok(done), "asked again after a lost answer");
}

const OBJECTS: u32 = 24;

#[derive(Clone, Debug)]
enum Op {
    Lease {
        shard: usize,
        worker: usize,
        redelivered: bool,
    },
    /// Work on so many objects and commit; `twice`: the answer was lost, and it is asked again.
    Commit {
        worker: usize,
        objects: u32,
        twice: bool,
    },
    /// `got_on`: a part of an upload was added.
    Renew {
        worker: usize,
        got_on: bool,
    },
    /// Commits what it once had in hand: under an old epoch, or again.
    Replay {
        worker: usize,
    },
    Finish {
        worker: usize,
    },
    GiveBack {
        worker: usize,
    },
    /// Cuts behind what the worker last heard of its shard.
    Split {
        worker: usize,
        at: u32,
        pieces: u32,
    },
    Void {
        shard: usize,
    },
    Wait {
        seconds: i64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (worker, shard) = (|| 0..3_usize, || 0..6_usize);
    prop_oneof![
        4 => (shard(), worker(), any::<bool>()).prop_map(|(shard, worker, redelivered)| Op::Lease { shard, worker, redelivered }),
        6 => (worker(), 0..6_u32, any::<bool>()).prop_map(|(worker, objects, twice)| Op::Commit { worker, objects, twice }),
        2 => (worker(), any::<bool>()).prop_map(|(worker, got_on)| Op::Renew { worker, got_on }),
        2 => worker().prop_map(|worker| Op::Replay { worker }),
        1 => worker().prop_map(|worker| Op::Finish { worker }),
        1 => worker().prop_map(|worker| Op::GiveBack { worker }),
        2 => (worker(), 0..OBJECTS, 1..4_u32).prop_map(|(worker, at, pieces)| Op::Split { worker, at, pieces }),
        1 => shard().prop_map(|shard| Op::Void { shard }),
        2 => (1..40_i64).prop_map(|seconds| Op::Wait { seconds }),
    ]
}

#[derive(Default)]
struct Worker {
    /// Shard number and record as the last answer showed it: what a zombie still believes.
    held: Option<(usize, ShardRecord, Fence)>,
    last: Option<(usize, Fence, Commit)>,
}

struct World {
    job: JobRecord,
    shards: Vec<ShardRecord>,
    /// Per object how often an accepted commit counted it.
    counted: Vec<u32>,
    workers: Vec<Worker>,
    now: i64,
    tokens: u32,
    /// Each epoch's only token, by shard and counter.
    epochs: std::collections::BTreeMap<(usize, u64), String>,
}

impl World {
    fn new() -> Self {
        let (job, shard) = walking();
        let workers = (0..3).map(|_| Worker::default()).collect();
        let counted = vec![0; OBJECTS as usize];
        Self {
            job,
            shards: vec![shard],
            counted,
            workers,
            now: 0,
            tokens: 0,
            epochs: std::collections::BTreeMap::new(),
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Lease { shard, worker, redelivered } => self.lease(shard % self.shards.len(), worker, redelivered),
            Op::Commit { worker, objects, twice } => self.work(worker, objects, twice),
            Op::Renew { worker, got_on } => self.renew(worker, got_on),
            Op::Replay { worker } => {
                if let Some((n, fence, change)) = self.workers[worker].last.clone() {
                    let before = self.shards[n].clone();
                    if let Ok(next) = commit(&self.job, &before, &fence, &change, TTL, at(self.now)) {
                        assert!(change.stands_in(&before), "an old commit was accepted");
                        self.shards[n] = next;
                    }
                }
            }
            Op::Finish { worker } => {
                if let Some((n, _, fence)) = self.workers[worker].held.take()
                    && let Ok(next) = finish(&self.job, &self.shards[n], &fence, at(self.now))
                {
                    self.shards[n] = next;
                }
            }
            Op::GiveBack { worker } => {
                if let Some((n, _, fence)) = self.workers[worker].held.take()
                    && let Ok(next) = give_back(&self.job, &self.shards[n], &fence, End::GivenBack)
                {
                    self.shards[n] = next;
                }
            }
            Op::Split { worker, at, pieces } => self.split(worker, at, pieces),
            Op::Void { shard } => {
                let n = shard % self.shards.len();
                self.shards[n] = void(&self.shards[n], Some(at(self.now)));
            }
            Op::Wait { seconds } => self.now += seconds,
        }
    }

    fn lease(&mut self, n: usize, worker: usize, redelivered: bool) {
        self.tokens += 1;
        let token = self.tokens.to_string();
        let shard = self.shards[n].clone();
        let ticket = Epoch { counter: shard.epoch.counter.saturating_sub(1), ..shard.epoch.clone() };
        if let Ok(next) = take(&self.job, &shard, &token, redelivered, &ticket, self.now) {
            assert_eq!(next.epoch.counter, shard.epoch.counter + 1);
            assert!(self.epochs.insert((n, next.epoch.counter), token).is_none(), "an epoch was given twice");
            self.workers[worker].held = Some((n, next.clone(), fence(&next)));
            self.shards[n] = next;
        }
    }

    fn renew(&mut self, worker: usize, got_on: bool) {
        let Some((n, _, fence)) = self.workers[worker].held.clone() else { return };
        let before = self.shards[n].clone();
        let Ok(next) = renew(&self.job, &before, &fence, got_on, TTL, at(self.now)) else { return };
        assert_eq!(self.epochs[&(n, before.epoch.counter)], fence.token, "a zombie's renewal was accepted");
        assert_eq!(Commit::of(&next), Commit::of(&before), "a renewal moved something");
        let ShardState::Leased { progressed, .. } = before.state else { panic!("renewed and not leased") };
        let charges = if got_on { 0 } else { before.charges + u32::from(!progressed) };
        assert_eq!(void(&next, None).charges, charges);
        self.shards[n] = next;
    }

    /// A worker goes by what it last heard, as a zombie would.
    fn work(&mut self, worker: usize, objects: u32, twice: bool) {
        let Some((n, known, fence)) = self.workers[worker].held.clone() else { return };
        let first = next_object(&known.cursor);
        let in_range = |o: &u32| *o < OBJECTS && known.range.contains(&key(*o));
        let done: Vec<u32> = (first..first + objects).take_while(in_range).collect();
        let whole = done.len() < objects as usize;
        let cursor =
            if whole { known.range.end_position() } else { done.last().map_or(known.cursor.clone(), |o| after(*o)) };
        let change =
            if cursor == known.cursor { Commit::of(&known) } else { window(&known, cursor, done.len() as u64) };
        self.workers[worker].last = Some((n, fence.clone(), change.clone()));
        for _ in 0..=u32::from(twice) {
            let before = self.shards[n].clone();
            let Ok(next) = commit(&self.job, &before, &fence, &change, TTL, at(self.now)) else { return };
            assert_eq!(self.epochs[&(n, before.epoch.counter)], fence.token, "a zombie's commit was accepted");
            if !change.stands_in(&before) {
                done.iter().for_each(|o| self.counted[*o as usize] += 1);
            }
            self.shards[n] = next.clone();
            self.workers[worker].held = Some((n, next, fence.clone()));
        }
    }

    fn split(&mut self, worker: usize, first: u32, pieces: u32) {
        let Some((n, known, fence)) = self.workers[worker].held.clone() else { return };
        let new = ShardId(u32::try_from(self.shards.len()).unwrap());
        let cuts: Vec<String> = (first..first + pieces).map(key).collect();
        let before = self.shards[n].clone();
        if let Ok((kept, rest)) = split(
            &self.job,
            &before,
            &fence,
            Cuts { at: &cuts, begun_to: &known.cursor, intents: true },
            new,
            at(self.now),
        ) {
            assert_eq!(self.epochs[&(n, before.epoch.counter)], fence.token, "a zombie's split was accepted");
            assert_eq!(rest.len(), cuts.len());
            assert!(rest.iter().all(|new| new.cut_from.ends_with(&[before.shard.shard])));
            self.shards[n] = kept.clone();
            self.shards.extend(rest);
            self.workers[worker].held = Some((n, kept, fence));
        }
    }

    fn check(&self) {
        // The ranges are a disjoint cover of all keys, in whatever order they were made.
        let mut ranges: Vec<&KeyRange> = self.shards.iter().map(|s| &s.range).collect();
        ranges.sort_by(|a, b| a.start.cmp(&b.start));
        assert_eq!(ranges[0].start, "");
        assert_eq!(ranges.last().unwrap().end, None);
        assert!(ranges.windows(2).all(|w| w[0].end.as_ref() == Some(&w[1].start)), "{ranges:?}");
        let total: u64 = self.shards.iter().map(|s| s.counts.scanned()).sum();
        assert_eq!(total, self.counted.iter().map(|n| u64::from(*n)).sum::<u64>());
        for shard in &self.shards {
            assert!(within(&shard.cursor, &shard.range));
            for o in (0..OBJECTS).filter(|o| shard.range.contains(&key(*o))) {
                let passed = order(&after(o), &shard.cursor) != Some(Ordering::Greater);
                assert_eq!(self.counted[o as usize], u32::from(passed), "object {o}, cursor {:?}", shard.cursor);
            }
        }
    }
}

/// The first object behind a cursor.
fn next_object(cursor: &Position) -> u32 {
    (0..OBJECTS).find(|o| order(&after(*o), cursor) == Some(Ordering::Greater)).unwrap_or(OBJECTS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_history_loses_an_object_or_counts_it_twice(ops in proptest::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.check();
        }
        // Whatever happened, honest workers can always finish the rest.
        for n in 0..world.shards.len() {
            world.now += 60;
            if world.shards[n].state.is_over() {
                continue;
            }
            world.lease(n, 0, false);
            world.work(0, OBJECTS + 1, false);
            world.apply(&Op::Finish { worker: 0 });
            prop_assert_eq!(&world.shards[n].state, &ShardState::Done);
        }
        world.check();
        prop_assert!(world.counted.iter().all(|n| *n == 1));
    }
}
