//! Leases that end without progress charge their shard, and those that got on do not; where one object is left under
//! three charges, it is set aside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyrotate_checkpoint::record::PassRecord;
use keyrotate_devstack::model::{Action, BucketSettings, Call, Mode, Rule};
use keyrotate_proto::id::{JobId, PassId};
use keyrotate_proto::outcome::{Evidence, FailReason, Outcome};
use keyrotate_proto::state::JobState;
use keyrotate_store::Store;

use super::world::{BUCKET, World};

/// Works until a call on the key hangs; there the process is killed, and its leases are voided.
async fn die_at(world: &World, job: &JobId, operation: &'static str, key: &'static str) {
    die(world, job, operation, key, Action::Delay(Duration::from_secs(3600))).await;
}

/// The same when the call has had its effect.
async fn die_after(world: &World, job: &JobId, operation: &'static str, key: &'static str) {
    let hangs = || Box::pin(tokio::time::sleep(Duration::from_secs(3600))) as _;
    die(world, job, operation, key, Action::After(Arc::new(hangs))).await;
}

async fn die(world: &World, job: &JobId, operation: &'static str, key: &'static str, action: Action) {
    let called = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&called);
    let hangs = move |call: &Call<'_>| {
        let meets = call.operation == operation && call.key == key;
        note.fetch_or(meets, Ordering::Relaxed);
        meets
    };
    world.store.faults().add(Rule::when(hangs, action));
    world.work(Some(job), async || called.load(Ordering::Relaxed)).await;
    assert!(called.load(Ordering::Relaxed), "it never came to {operation} of `{key}`");
    world.store.faults().clear();
    world.ledger.void_leases(job).await.unwrap();
}

/// Charges of the walk's shards.
async fn charges(world: &World, job: &JobId) -> u32 {
    world.ledger.shards(job, PassId(1)).await.unwrap().iter().map(|shard| shard.charges).sum()
}

async fn walk(world: &World, job: &JobId) -> PassRecord {
    world.job(job).await.pass(PassId(1)).unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_lease_under_which_an_upload_grew_charges_nothing() {
    let world = World::new(Mode::minio(), BucketSettings::plain()).await;
    world.put_old(&["a"]).await;
    let id = world.begin(1, ", options: {bodyTransit: 0}").await;
    die_at(&world, &id, "UploadPartCopy", "a").await;
    assert_eq!(charges(&world, &id).await, 1, "the upload was opened, and nothing came into it");
    die_at(&world, &id, "CompleteMultipartUpload", "a").await;
    assert_eq!(charges(&world, &id).await, 0, "a part was added");
    die_at(&world, &id, "CompleteMultipartUpload", "a").await;
    assert_eq!(charges(&world, &id).await, 1, "the part was there already");
    assert_eq!(world.run(&id).await.state, JobState::Completed);
    assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_object_over_which_three_workers_died_is_set_aside_untouched_and_gets_its_retry() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a"]).await;
    let id = world.begin(1, ", flags: {retry: {attempts: 1, delay: 1s}}").await;
    for _ in 0..3 {
        die_at(&world, &id, "UpdateObjectEncryption", "a").await;
    }
    assert_eq!(charges(&world, &id).await, 3);
    world.store.faults().add(Rule::on("*", Action::Delay(Duration::from_secs(3600))).of_key("a"));
    world.work(Some(&id), async || !walk(&world, &id).await.open).await;
    let quarantined = Outcome::Failed(FailReason::Quarantined);
    assert_eq!(walk(&world, &id).await.counts.by_outcome, [(quarantined, 1)].into());
    world.store.faults().clear();
    world.ledger.void_leases(&id).await.unwrap();
    assert_eq!(world.run(&id).await.state, JobState::Completed);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_the_third_death_is_not_set_aside() {
    let world = World::new(Mode::minio(), BucketSettings::versioned()).await;
    world.put_old(&["a"]).await;
    let id = world.begin(1, ", options: {inPlace: false}").await;
    die_at(&world, &id, "PutObject", "a").await;
    die_at(&world, &id, "PutObject", "a").await;
    die_after(&world, &id, "PutObject", "a").await;
    assert_eq!(charges(&world, &id).await, 3);
    assert_eq!(world.run(&id).await.state, JobState::Completed);
    assert_eq!(walk(&world, &id).await.counts.by_outcome, [(Outcome::Rotated(Evidence::Key), 1)].into());
}

#[tokio::test(start_paused = true)]
async fn a_shard_over_which_workers_die_is_cut_down_to_the_one_object_and_all_others_are_rotated() {
    // Where a write adds a version, only what was put down before it says whose it is.
    let world = World::new(Mode::minio(), BucketSettings::versioned()).await;
    let keys: Vec<String> = (0..600).map(|n| format!("{n:03}")).collect();
    world.put_old(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let id = world.begin(1, ", flags: {retry: {attempts: 0}}, options: {inPlace: false}").await;
    let mut deaths = 0;
    let over = async || world.job(&id).await.pass(PassId(1)).is_some_and(|pass| !pass.open);
    loop {
        let called = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&called);
        let kills = move |call: &Call<'_>| {
            let meets = call.key == "333" && call.operation == "PutObject";
            note.fetch_or(meets, Ordering::Relaxed);
            meets
        };
        world.store.faults().add(Rule::when(kills, Action::Delay(Duration::from_secs(3600))));
        world.work(Some(&id), async || called.load(Ordering::Relaxed) || over().await).await;
        world.store.faults().clear();
        world.ledger.void_leases(&id).await.unwrap();
        if !called.load(Ordering::Relaxed) {
            break;
        }
        deaths += 1;
        assert!(deaths < 20, "it still dies");
    }
    assert!((3..=12).contains(&deaths), "{deaths} deaths");
    let counts = walk(&world, &id).await.counts;
    let (quarantined, rotated) = (Outcome::Failed(FailReason::Quarantined), Outcome::Rotated(Evidence::Key));
    assert_eq!(counts.by_outcome.get(&quarantined), Some(&1), "{counts:?}");
    assert_eq!(
        counts.by_outcome.get(&rotated),
        Some(&599),
        "what was written before a death is known as ours: {counts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn while_more_than_one_object_is_left_none_is_set_aside() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a", "b", "c"]).await;
    let id = world.begin(1, "").await;
    for _ in 0..3 {
        die_at(&world, &id, "UpdateObjectEncryption", "b").await;
    }
    assert_eq!(charges(&world, &id).await, 3);
    assert_eq!(world.run(&id).await.state, JobState::Completed);
    assert_eq!(walk(&world, &id).await.counts.of("failed"), 0);
}
