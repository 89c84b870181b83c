//! Two installations on one bucket that do not know each other.

use std::time::Duration;

use keyrotate_devstack::model::{Action, BucketSettings, Mode, Rule};
use keyrotate_proto::id::JobId;
use keyrotate_proto::state::{JobState, PassKind, PauseReason, StopReason};

use super::world::World;
use super::{reason, there, until_pass};

const LEASE: &str = ".keyrotate/lease.json";

/// A job is killed when it has begun to rotate, and has not come far.
async fn killed_at_work(world: &World, n: u8) -> JobId {
    for key in ["a", "b"] {
        let hangs = Action::Delay(Duration::from_secs(3600));
        world.store.faults().add(Rule::on("UpdateObjectEncryption", hangs).of_key(key));
    }
    let job = world.begin(n, "").await;
    until_pass(world, &job, PassKind::Walk).await;
    world.store.faults().clear();
    job
}

/// Why a job was refused.
async fn refused(world: &World, job: &JobId) -> String {
    match world.run(job).await.state {
        JobState::Failed { reason: StopReason::Refused, detail } => detail,
        other => panic!("it was not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_is_refused_and_begins_when_the_first_has_ended() {
    for (mode, settings) in [
        (Mode::aws(), BucketSettings::plain()),
        (Mode::minio(), BucketSettings::versioned()),
        (Mode::rgw(), BucketSettings::plain()),
    ] {
        let world = World::new(mode, settings).await;
        let other = world.another();
        world.put_old(&["a/1", "b/1"]).await;
        let transit = ", options: {bodyTransit: any}";
        let first = world.begin(1, transit).await;
        until_pass(&world, &first, PassKind::Walk).await;
        let written = world.store.store().calls().get("PutObject").copied();
        let second = other.begin(2, &format!(", prefix: a/{transit}")).await;
        let detail = refused(&other, &second).await;
        assert!(detail.contains(&format!("another keyrotate works on this bucket: job {first}")), "{detail}");
        assert_eq!(world.store.store().calls().get("PutObject").copied(), written, "not even a probe is written");
        assert!(there(&world, LEASE), "the first one's lease is as it was");
        assert_eq!(world.run(&first).await.state, JobState::Completed);
        assert!(!there(&world, LEASE), "a lease is left");
        let third = other.begin(3, transit).await;
        assert_eq!(other.run(&third).await.state, JobState::Completed);
        assert!(!there(&world, LEASE), "a lease is left");
    }
}

#[tokio::test(start_paused = true)]
async fn on_disjoint_prefixes_both_work() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    let other = world.another();
    world.put_old(&["a/1", "b/1"]).await;
    let (first, second) = (world.begin(1, ", prefix: a/").await, other.begin(2, ", prefix: b/").await);
    until_pass(&world, &first, PassKind::Walk).await;
    assert_eq!(other.run(&second).await.state, JobState::Completed);
    assert!(there(&world, LEASE), "the first one still works");
    assert_eq!(world.run(&first).await.state, JobState::Completed);
    assert!(!there(&world, LEASE), "a lease is left");
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_one_held_runs_out_and_when_it_comes_back_it_waits() {
    let world = World::new(Mode::aws(), BucketSettings::versioned()).await;
    let other = world.another();
    world.put_old(&["a", "b"]).await;
    let first = killed_at_work(&world, 1).await;
    tokio::time::sleep(Duration::from_secs(29 * 60)).await;
    let early = other.begin(2, "").await;
    refused(&other, &early).await;
    tokio::time::sleep(Duration::from_secs(2 * 60)).await;
    let second = other.begin(3, "").await;
    other.store.faults().add(Rule::on("UpdateObjectEncryption", Action::Delay(Duration::from_secs(600))).of_key("b"));
    let waits = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.work(Some(&first), async || reason(&world.job(&first).await).is_some()).await;
        let job = world.job(&first).await;
        let JobState::Paused { reason, detail, .. } = &job.state else { panic!("{:?}", job.state) };
        assert_eq!(*reason, PauseReason::OtherJob);
        assert!(detail.contains(second.as_str()), "{detail}");
        world.run(&first).await
    };
    let (second, first) = tokio::join!(other.run(&second), waits);
    assert_eq!((second.state.clone(), first.state.clone()), (JobState::Completed, JobState::Completed));
    let ended = |job: &keyrotate_checkpoint::record::JobRecord| job.result.as_ref().unwrap().ended;
    assert!(ended(&second) < ended(&first), "they did not wait for each other");
    assert!(!there(&world, LEASE), "a lease is left");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_cancelled_or_fails_takes_its_entry_away() {
    let world = World::new(Mode::aws(), BucketSettings::versioned()).await;
    world.put_old(&["a", "b"]).await;
    let first = killed_at_work(&world, 1).await;
    assert!(there(&world, LEASE));
    world.ledger.update_job(&first, keyrotate_checkpoint::transition::job::cancel).await.unwrap();
    assert_eq!(world.run(&first).await.state, JobState::Cancelled);
    assert!(!there(&world, LEASE), "a lease is left by a cancelled job");
    let failed = Action::FailBefore(keyrotate_store::ErrorKind::Server);
    world.store.faults().add(Rule::on("UpdateObjectEncryption", failed).of_key("a"));
    let second = world.begin(2, ", flags: {retry: {attempts: 1, delay: 1s}}").await;
    assert!(matches!(world.run(&second).await.state, JobState::Failed { .. }));
    assert!(!there(&world, LEASE), "a lease is left by a failed job");
    // Resumed, it holds one again.
    world.store.faults().clear();
    world.ledger.resume_job(&second).await.unwrap();
    assert_eq!(world.run(&second).await.state, JobState::Completed);
    assert!(!there(&world, LEASE), "a lease is left");
}
