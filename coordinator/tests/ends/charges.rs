//! Leases that end without progress charge their shard, and those that got on do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyrotate_devstack::model::{Action, BucketSettings, Call, Mode, Rule};
use keyrotate_proto::id::{JobId, PassId};
use keyrotate_proto::state::JobState;
use keyrotate_store::Store;

use super::world::{BUCKET, World};

/// Works until a call on the key hangs; there the process is killed, and its leases are voided.
async fn die_at(world: &World, job: &JobId, operation: &'static str, key: &'static str) {
    let called = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&called);
    let hangs = move |call: &Call<'_>| {
        let meets = call.operation == operation && call.key == key;
        note.fetch_or(meets, Ordering::Relaxed);
        meets
    };
    world.store.faults().add(Rule::when(hangs, Action::Delay(Duration::from_secs(3600))));
    world.work(Some(job), async || called.load(Ordering::Relaxed)).await;
    assert!(called.load(Ordering::Relaxed), "it never came to {operation} of `{key}`");
    world.store.faults().clear();
    world.ledger.void_leases(job).await.unwrap();
}

/// Charges of the walk's shards.
async fn charges(world: &World, job: &JobId) -> u32 {
    world.ledger.shards(job, PassId(1)).await.unwrap().iter().map(|shard| shard.charges).sum()
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
