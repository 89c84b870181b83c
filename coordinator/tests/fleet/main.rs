//! A fleet in one process: coordinators and workers that know nothing of each other but checkpoint, queue, reports.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

mod ends;
mod foretell;
mod lease;
mod limits;
mod many;
mod outages;
mod reseal;
mod slots;
mod stored;
mod world;

use std::time::Duration;

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_proto::state::{JobState, PassKind, PauseReason};

use world::{Process, World};

fn walking(job: &JobRecord) -> bool {
    job.passes.iter().any(|pass| pass.kind == PassKind::Walk)
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_on_over_killed_workers_and_leaders() {
    for seed in 0..4 {
        let world = World::new(seed, 300).await;
        let coordinators = [world.coordinator("c1"), world.coordinator("c2")];
        let workers = [world.worker("w1"), world.worker("w2"), world.worker("w3")];
        let id = world.submit().await;
        world.until(&id, walking).await;
        workers[0].kill();
        let leader = world.ledger.leader().await.unwrap().unwrap().owner;
        coordinators[usize::from(leader == "c2")].kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let added = world.worker("w4");
        world.completed(&id, 300).await;
        assert_ne!(world.ledger.leader().await.unwrap().unwrap().owner, leader);
        added.kill();
        coordinators.iter().chain(&workers).for_each(Process::kill);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_checkpoint_costs_the_windows_in_flight() {
    let world = World::new(11, 300).await;
    let fleet = [world.coordinator("c1"), world.worker("w1"), world.worker("w2")];
    let id = world.submit().await;
    let before = world.until(&id, walking).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    world.backend.restart();
    let after = world.until(&id, |job| job.nonce != before.nonce).await;
    assert_ne!(after.run, before.run);
    world.completed(&id, 300).await;
    fleet.iter().for_each(Process::kill);
}

/// The checkpoint comes back as it was a while ago, while workers work and no coordinator is there to see it.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_rolled_back_costs_a_second_look_and_a_stale_worker_moves_nothing() {
    for seed in [15, 16, 17] {
        let world = World::new(seed, 1500).await;
        let coordinator = world.coordinator("c1");
        let workers = [world.worker("w1"), world.worker("w2")];
        let id = world.submit().await;
        world.until(&id, walking).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (earlier, scanned) = (world.backend.copy(), world.scanned(&id).await);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(world.scanned(&id).await > scanned, "nothing was done since");
        coordinator.kill();
        world.backend.roll_back(earlier);
        let (job, shards) = (world.job(&id).await, world.shards(&id).await);
        // Longer than any lease: what they hold, and what they find in the queue, is of the run that is gone.
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!((world.job(&id).await, world.shards(&id).await), (job, shards), "a stale worker moved something");
        let successor = world.coordinator("c2");
        world.completed(&id, 1500).await;
        let (rows, keys) = world.reported(&id).await;
        assert_eq!((rows, keys.len()), (1500, 1500), "each object once");
        workers.iter().chain([&successor]).for_each(Process::kill);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_nobody_serves_is_paused_and_goes_on_by_itself() {
    let world = World::new(12, 20).await;
    let coordinator = world.coordinator("c1");
    let id = world.submit().await;
    let paused = |job: &JobRecord| matches!(&job.state, JobState::Paused { reason: PauseReason::NoWorker, .. });
    let job = world.until(&id, paused).await;
    let JobState::Paused { detail, .. } = &job.state else { panic!("not paused") };
    assert_eq!(detail, "no worker serves default");
    // For as long as it takes: no probe could end it, so that `pauseLimit` does not count.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(paused(&world.job(&id).await));
    let worker = world.worker("w1");
    world.completed(&id, 20).await;
    worker.stop().await;
    assert_eq!(world.ledger.workers().await.unwrap(), []);
    coordinator.stop().await;
    assert!(world.ledger.lead("c2", Duration::from_secs(1)).await.unwrap().is_some(), "it did not make room");
}

/// A worker whose configuration has another store under the name of the job's touches nothing there.
#[tokio::test(start_paused = true)]
async fn a_worker_with_another_store_under_the_name_touches_nothing() {
    let world = World::new(14, 20).await;
    let (coordinator, worker) = (world.coordinator("c1"), world.worker("w1"));
    let before = world.store.calls();
    let id = world.submit_elsewhere("https://elsewhere.example").await;
    let paused = |job: &JobRecord| matches!(&job.state, JobState::Paused { reason: PauseReason::StoreDown, .. });
    let job = world.until(&id, paused).await;
    let JobState::Paused { detail, .. } = &job.state else { panic!("not paused") };
    assert!(
        detail.starts_with("the job's store `default` is https://elsewhere.example; the worker w1 has "),
        "{detail}"
    );
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(paused(&world.job(&id).await));
    assert_eq!(world.store.calls(), before);
    [coordinator, worker].iter().for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn a_jobs_rate_holds_over_all_workers() {
    let world = World::new(13, 200).await;
    let fleet = ["w1", "w2", "w3"].map(|name| world.worker_at(name, None));
    let coordinator = world.coordinator("c1");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let id = world.submit_with("rate: 20").await;
    world.until(&id, walking).await;
    let began = world.env.now();
    world.completed(&id, 200).await;
    let took = world.env.now().duration_since(began).as_secs();
    // The first of each slice goes at once.
    assert!((8..120).contains(&took), "200 objects at 20 a second took {took} s");
    fleet.iter().chain([&coordinator]).for_each(Process::kill);
}
