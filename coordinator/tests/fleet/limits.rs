//! How many slices and calls there are at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use keyrotate_checkpoint::record::{JobLimits, JobRecord, ShardState};
use keyrotate_devstack::model::{Action, Call, Rule};
use keyrotate_proto::id::JobId;
use keyrotate_queue::DEFAULT_STORE;
use keyrotate_store::ErrorKind;
use keyrotate_worker::Permits;

use crate::walking;
use crate::world::{Process, World};

/// Calls about users' objects that are under way, and how many there were at most.
#[derive(Clone, Default)]
struct InFlight {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl InFlight {
    /// Watches the calls of a worker, each of which takes so long.
    fn watch(&self, worker: &Process, takes: Duration) {
        let users = |call: &Call<'_>| call.operation == "UpdateObjectEncryption" && !call.key.starts_with('.');
        let deed = |deed: fn(&InFlight)| {
            let watch = self.clone();
            Arc::new(move || -> BoxFuture<'static, ()> {
                deed(&watch);
                Box::pin(async {})
            })
        };
        let began = deed(|watch| {
            let now = watch.now.fetch_add(1, Ordering::Relaxed) + 1;
            watch.most.fetch_max(now, Ordering::Relaxed);
        });
        let ended = deed(|watch| {
            watch.now.fetch_sub(1, Ordering::Relaxed);
        });
        worker.faults.add(Rule::when(users, Action::Before(began)));
        worker.faults.add(Rule::when(users, Action::Delay(takes)));
        worker.faults.add(Rule::when(users, Action::After(ended)));
    }

    /// How many there were at most since it was last asked.
    fn most(&self) -> usize {
        self.most.swap(0, Ordering::Relaxed)
    }
}

async fn slices(world: &World, job: &JobId) -> usize {
    let shards = world.shards(job).await;
    shards.iter().filter(|(_, shard)| matches!(shard.state, ShardState::Leased { .. })).count()
}

#[tokio::test(start_paused = true)]
async fn one_number_of_slots_holds_over_all_stores_of_a_worker() {
    let world = World::new(21, 150).await;
    let worker = world.worker_of("w1", &[DEFAULT_STORE, "other"], Permits::new(6, Some(50.0)));
    let coordinator = world.coordinator("c1");
    let jobs = [world.submit().await, world.submit_to("other-bucket", "other", "pauseLimit: 10m").await];
    let (mut most, mut both) = (0, false);
    while !(world.job(&jobs[0]).await.state.is_ended() && world.job(&jobs[1]).await.state.is_ended()) {
        let now = [slices(&world, &jobs[0]).await, slices(&world, &jobs[1]).await];
        (most, both) = (most.max(now[0] + now[1]), both || now == [1, 1]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((most, both), (2, true), "slices at a time, and whether it worked on both stores at once");
    for job in &jobs {
        world.completed(job, 150).await;
    }
    assert_eq!(world.ledger.workers().await.unwrap()[0].stores.len(), 2);
    [worker, coordinator].iter().for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn a_jobs_permits_hold_over_all_workers_and_change_while_it_runs() {
    let world = World::new(22, 6000).await;
    let workers = ["w1", "w2", "w3"].map(|name| world.worker_at(name, None));
    let calls = InFlight::default();
    workers.iter().for_each(|worker| calls.watch(worker, Duration::from_secs(1)));
    let coordinator = world.coordinator("c1");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let id = world.submit().await;
    world.until(&id, walking).await;
    // Three workers with two slots and six permits each; the first twenty objects of each go one at a time.
    tokio::time::sleep(Duration::from_secs(100)).await;
    let most = calls.most();
    assert!(most > 12, "nothing bounds it yet: {most}");
    for permits in [8, 4] {
        set_permits(&world, &id, Some(permits)).await;
        // Heard of with the next renewal, and one more where a slice is one too many.
        tokio::time::sleep(Duration::from_secs(45)).await;
        calls.most();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let most = calls.most();
        assert!(most >= 3 && most <= permits as usize, "{most} calls at a time, {permits} permits");
        assert!(slices(&world, &id).await <= permits as usize);
    }
    set_permits(&world, &id, None).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(calls.most() > 12, "the limit is gone");
    world.completed(&id, 6000).await;
    workers.iter().chain([&coordinator]).for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn hours_and_a_stores_own_rate_hold_over_all_workers() {
    // It is eight o'clock and one minute.
    let mut world = World::without_update_encryption(25, 6000).await;
    world.store_limits.rates.objects = Some(20.0);
    let workers = ["w1", "w2", "w3"].map(|name| world.worker_at(name, None));
    let written = Arc::new(AtomicUsize::new(0));
    for worker in &workers {
        let seen = Arc::clone(&written);
        let count = move || -> BoxFuture<'static, ()> {
            seen.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {})
        };
        let users = |call: &Call<'_>| call.operation == "CopyObject" && !call.key.starts_with('.');
        worker.faults.add(Rule::when(users, Action::Before(Arc::new(count))));
    }
    let coordinator = world.coordinator("c1");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let windows = "windows: [{from: '08:00', until: '08:10', zone: UTC, byteRate: 24}]";
    let id = world.submit_with(&format!("pauseLimit: 10m, kmsRate: 20, {windows}")).await;
    world.until(&id, walking).await;
    let within = async |seconds: u64| {
        let before = written.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        written.load(Ordering::Relaxed) - before
    };
    // Rates are shared by slots, and slots idle while a shard is handed over.
    let early = within(300).await;
    assert!((800..=1210).contains(&early), "bodies of six bytes, 24 bytes a second: {early}");
    // Until the window is over, and all have heard of it.
    let _rest = within(270).await;
    let later = within(60).await;
    assert!((400..=610).contains(&later), "20 calls to the KMS a second, two for each object: {later}");
    let free = |job: &JobRecord, _| {
        let limits = JobLimits { kms_rate: Some(3000.0), ..job.limits.clone() };
        Ok(JobRecord { limits, ..job.clone() })
    };
    world.ledger.update_job(&id, free).await.unwrap();
    // All have heard of it, and what waited for the KMS is written.
    let _heard = within(30).await;
    let free = within(60).await;
    assert!((800..=1210).contains(&free), "what the store takes of all: {free}");
    world.completed(&id, 6000).await;
    workers.iter().chain([&coordinator]).for_each(Process::kill);
}

async fn set_permits(world: &World, job: &JobId, permits: Option<u32>) {
    let change = |job: &JobRecord, _| {
        let mut job = job.clone();
        job.limits.permits = permits;
        Ok(job)
    };
    world.ledger.update_job(job, change).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_throttled_worker_slows_the_others_and_all_come_back_by_themselves() {
    const PERMITS: usize = 32;
    let world = World::new(23, 3000).await;
    let workers = ["w1", "w2"].map(|name| world.worker_of(name, &[DEFAULT_STORE], Permits::new(PERMITS, None)));
    workers.iter().for_each(|worker| worker.faults.latency(Duration::from_secs(1)));
    let coordinator = world.coordinator("c1");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let id = world.submit().await;
    world.until(&id, walking).await;
    let levels = || [workers[0].level(), workers[1].level()];
    assert_eq!(levels(), [PERMITS; 2]);
    let throttled = || Rule::on("*", Action::FailBefore(ErrorKind::Throttled));
    workers[0].faults.add(throttled().times(1));
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(levels().iter().all(|level| (PERMITS / 2..PERMITS - 2).contains(level)), "once: {:?}", levels());
    workers[0].faults.add(throttled().times(200));
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(levels().iter().all(|level| *level < PERMITS / 4), "again and again: {:?}", levels());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(levels(), [PERMITS; 2], "they came back {:?}", world.job(&id).await.state);
    assert!(!world.job(&id).await.state.is_ended(), "the job was over before the test was");
    world.completed(&id, 3000).await;
    workers.iter().chain([&coordinator]).for_each(Process::kill);
}

/// A store that answers `knee` calls at a time; the others wait for their turn.
fn with_knee(worker: &Process, knee: usize, takes: Duration) {
    let turns = Arc::new(tokio::sync::Semaphore::new(knee));
    let answer = Arc::new(move || -> BoxFuture<'static, ()> {
        let turns = Arc::clone(&turns);
        Box::pin(async move {
            let _turn = turns.acquire().await.unwrap();
            tokio::time::sleep(takes).await;
        })
    });
    worker.faults.add(Rule::on("*", Action::Before(answer)));
}

#[tokio::test(start_paused = true)]
async fn permits_that_nobody_counted_become_as_many_as_the_store_can_do_with() {
    const KNEE: usize = 24;
    let world = World::new(24, 6000).await;
    let worker = world.worker_of("w1", &[DEFAULT_STORE], Permits::auto(None));
    with_knee(&worker, KNEE, Duration::from_millis(100));
    let coordinator = world.coordinator("c1");
    let id = world.submit().await;
    world.until(&id, walking).await;
    let mut levels = Vec::new();
    while !world.job(&id).await.state.is_ended() && levels.len() < 200 {
        levels.push(worker.level());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(levels[0], 8, "{levels:?}");
    assert!(levels.iter().all(|level| *level <= 2 * KNEE), "{levels:?}");
    let (most, last) = (levels.iter().max().unwrap(), levels.last().unwrap());
    assert!(*most >= KNEE && *last >= KNEE * 3 / 4, "{levels:?}");
    world.completed(&id, 6000).await;
    [worker, coordinator].iter().for_each(Process::kill);
}
