//! Who gets the fleet's slots: urgent jobs at once, equals by weight, and where slots idle, pieces of long shards.

use std::time::Duration;

use keyrotate_checkpoint::record::{JobLimits, JobRecord, ShardState};
use keyrotate_coordinator::CoordinatorConfig;
use keyrotate_proto::id::JobId;
use keyrotate_queue::DEFAULT_STORE;

use crate::walking;
use crate::world::{Process, World};

/// Slices of a job's walk at work.
async fn slices(world: &World, job: &JobId) -> usize {
    let shards = world.shards(job).await;
    shards.iter().filter(|(kind, shard)| kind.has_rows() && matches!(shard.state, ShardState::Leased { .. })).count()
}

/// Versions that a job has rotated.
async fn rotated(world: &World, job: &JobId) -> u64 {
    world.shards(job).await.iter().map(|(_, shard)| shard.counts.of("rotated")).sum()
}

async fn rank(world: &World, job: &JobId, priority: i32, weight: u32) {
    let change = |job: &JobRecord, _| {
        Ok(JobRecord { limits: JobLimits { priority, weight, ..job.limits.clone() }, ..job.clone() })
    };
    world.ledger.update_job(job, change).await.unwrap();
}

/// How many slices two jobs have on average over a minute.
async fn over_a_minute(world: &World, jobs: [&JobId; 2]) -> [f64; 2] {
    let mut sums = [0, 0];
    for _ in 0..60 {
        for (sum, job) in sums.iter_mut().zip(jobs) {
            *sum += u32::try_from(slices(world, job).await).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    sums.map(|sum| f64::from(sum) / 60.0)
}

#[tokio::test(start_paused = true)]
async fn an_urgent_jobs_first_object_is_rotated_within_half_a_minute_and_no_other_starves() {
    let world = World::new(31, 5000).await;
    let workers = ["w1", "w2"].map(|name| world.worker_at(name, Some(5.0)));
    let coordinator = world.coordinator("c1");
    let usual = world.submit().await;
    world.until(&usual, walking).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(slices(&world, &usual).await, 4, "the fleet is busy");

    let urgent = world.submit_to("other-bucket", DEFAULT_STORE, "pauseLimit: 10m").await;
    rank(&world, &urgent, 50, 1).await;
    let began = world.env.now();
    world.until(&urgent, walking).await;
    let prepared = world.env.now();
    while rotated(&world, &urgent).await == 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (took, ready) = (world.env.now().duration_since(began).as_secs(), prepared.duration_since(began).as_secs());
    assert!(took <= 30, "its first object after {took} s; prepared after {ready} s");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let [usual_has, urgent_has] = over_a_minute(&world, [&usual, &urgent]).await;
    assert!((0.8..=1.2).contains(&usual_has) && urgent_has > 2.6, "{usual_has} and {urgent_has} slices");
    workers.iter().chain([&coordinator]).for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn jobs_of_one_priority_share_the_slots_by_weight_whoever_came_first() {
    let world = World::new(32, 5000).await;
    let workers = ["w1", "w2", "w3", "w4"].map(|name| world.worker_at(name, Some(5.0)));
    // Enough of them that nobody runs out.
    let coordinator = world.coordinator_with("c1", CoordinatorConfig { shards: 40, ..world.settings() });
    let first = world.submit().await;
    world.until(&first, walking).await;
    let second = world.submit_to("other-bucket", DEFAULT_STORE, "pauseLimit: 10m").await;
    world.until(&second, walking).await;
    for (weights, wanted) in [((1, 1), [4.0, 4.0]), ((3, 1), [6.0, 2.0]), ((1, 3), [2.0, 6.0])] {
        rank(&world, &first, 0, weights.0).await;
        rank(&world, &second, 0, weights.1).await;
        tokio::time::sleep(Duration::from_secs(45)).await;
        let shares = over_a_minute(&world, [&first, &second]).await;
        let near = shares.iter().zip(wanted).all(|(has, wanted): (&f64, f64)| (has - wanted).abs() < 0.6);
        assert!(near, "{weights:?}: {shares:?} slices");
    }
    workers.iter().chain([&coordinator]).for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn of_more_jobs_than_slots_each_has_its_turn() {
    let world = World::new(34, 5000).await;
    let worker = world.worker_at("w1", Some(2.0));
    let coordinator = world.coordinator("c1");
    let mut jobs = Vec::new();
    for (prefix, name) in [("00", 1), ("01", 2), ("02", 3)] {
        jobs.push(world.submit_on(prefix, name).await);
    }
    // Two slices of five minutes each, one behind the other.
    tokio::time::sleep(Duration::from_secs(700)).await;
    let mut all = Vec::new();
    for job in &jobs {
        all.push((rotated(&world, job).await, world.job(job).await.state.is_ended()));
    }
    assert!(all.iter().all(|(rotated, ended)| *rotated > 50 && !ended), "{all:?}");
    [worker, coordinator].iter().for_each(Process::kill);
}

/// A job of one shard with so many objects, by so many workers of so many objects a second each: how long it took, and in how
/// many shards.
async fn shared_by(workers: usize, objects: usize, each: f64) -> (i64, u32) {
    let world = World::new(33, objects).await;
    let coordinator = world.coordinator_with("c1", CoordinatorConfig { shards: 1, ..world.settings() });
    let workers: Vec<_> = (0..workers).map(|n| world.worker_at(&format!("w{n}"), Some(each))).collect();
    let id = world.submit().await;
    let began = world.env.now();
    world.completed(&id, objects as u64).await;
    let job = world.job(&id).await;
    let walk = job.passes.iter().find(|pass| pass.kind.has_rows()).unwrap();
    // Those of a job that has ended are forgotten.
    assert_eq!(world.ledger.shards(&id, walk.id).await.unwrap().len(), 0);
    workers.iter().chain([&coordinator]).for_each(Process::kill);
    (world.env.now().duration_since(began).as_secs(), walk.shards)
}

#[tokio::test(start_paused = true)]
async fn idle_slots_get_pieces_of_the_one_shard_that_is_left() {
    let (alone, _) = shared_by(1, 16_000, 80.0).await;
    let (shared, pieces) = shared_by(4, 16_000, 80.0).await;
    assert!(shared * 3 < alone, "{alone} s alone, {shared} s with three others");
    // Enough for eight slots, and not many more.
    assert!((8..100).contains(&pieces), "{pieces} pieces");
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_and_not_begun_is_left_to_idle_slots_too() {
    let (alone, _) = shared_by(1, 900, 2.0).await;
    let (shared, pieces) = shared_by(4, 900, 2.0).await;
    assert!(shared * 3 < alone, "{alone} s alone, {shared} s with three others");
    assert!((8..100).contains(&pieces), "{pieces} pieces");
}
