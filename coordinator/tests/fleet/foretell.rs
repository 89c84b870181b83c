//! A dry run in a fleet writes nothing and stands in nobody's way; what a job adds to a bucket with versions is bounded,
//! however many work on it.

use keyrotate_checkpoint::transition::job as transition;
use keyrotate_proto::capability::Versioning;
use keyrotate_proto::forecast::{FORECAST, Forecast};
use keyrotate_proto::state::{JobState, PauseReason, Phase};
use keyrotate_report::ReportRoot as _;
use keyrotate_store::{ListFrom, ListRequest, Store as _};

use crate::world::{Process, World};

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_be_done_while_another_job_works_there() {
    let world = World::new(31, 120).await;
    let coordinator = world.coordinator("c1");
    let id = world.submit().await;
    let dry = world.submit_dry().await;
    let worker = world.worker_at("w1", None);
    let ended = world.until(&dry, |job| job.state.is_ended()).await;
    assert_eq!((ended.state, ended.frozen), (JobState::Completed, None));
    let bytes = world.reports.of(&dry).unwrap().get(FORECAST).await.unwrap();
    let forecast: Forecast = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(forecast.target.as_deref(), Some("key-b"));
    assert_eq!(forecast.objects.value, 120, "the other job's probes are not counted: {forecast:?}");
    world.completed(&id, 120).await;
    [coordinator, worker].iter().for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_alone_writes_nothing() {
    let world = World::new(32, 60).await;
    let fleet = [world.coordinator("c1"), world.worker_at("w1", None)];
    let before = world.store.calls();
    let dry = world.submit_dry().await;
    world.until(&dry, |job| job.state.is_ended()).await;
    let after = world.store.calls();
    let wrote = after.iter().filter(|(name, n)| {
        let writes = ["PutObject", "CopyObject", "UpdateObjectEncryption", "CreateMultipartUpload", "DeleteObject"];
        writes.contains(name) && before.get(*name).copied().unwrap_or(0) < **n
    });
    assert_eq!(wrote.count(), 0, "{after:?}");
    fleet.iter().for_each(Process::kill);
}

/// The worker that counts is killed halfway: the next one goes on where the count was.
#[tokio::test(start_paused = true)]
async fn a_dry_run_of_every_object_outlives_its_worker() {
    let world = World::new(33, 20_000).await;
    let coordinator = world.coordinator("c1");
    let dry = world.submit_full("rate: 100").await;
    let killed = world.worker_at("w1", None);
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    killed.kill();
    let looked = |world: &World| world.store.calls().get("HeadObject").copied().unwrap_or(0);
    let before = looked(&world);
    assert!((8_000..14_000).contains(&before), "{before}: as fast as it may");
    let worker = world.worker_at("w2", None);
    let ended = world.until(&dry, |job| job.state.is_ended()).await;
    assert_eq!(ended.state, JobState::Completed);
    let bytes = world.reports.of(&dry).unwrap().get(FORECAST).await.unwrap();
    let forecast: Forecast = serde_json::from_slice(&bytes).unwrap();
    assert!(forecast.complete && forecast.objects.value == 20_000, "{forecast:?}");
    let twice = looked(&world) - 20_000;
    assert!(twice < 12_000, "{twice} looks twice");
    [coordinator, worker].iter().for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn all_workers_together_add_no_more_than_was_confirmed() {
    for seed in 0..3 {
        let world = World::without_update_encryption(40 + seed, 200).await;
        world.store.set_versioning("bucket", Versioning::Enabled).unwrap();
        let coordinator = world.coordinator("c1");
        let workers = [world.worker("w1"), world.worker("w2"), world.worker("w3")];
        // Six bytes each.
        let id = world.submit_with("maxAddedBytes: 600").await;
        let paused =
            world.until(&id, |job| matches!(job.state, JobState::Paused { reason: PauseReason::Growth, .. })).await;
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        let added = world.versions().await - 200;
        assert!(added <= 100, "seed {seed}: {added} versions of 6 bytes");
        assert!(added >= 60, "seed {seed}: {added}: it stopped far too early");
        assert!(matches!(paused.state, JobState::Paused { phase: Phase::Running, .. }));
        world.ledger.update_job(&id, |job, now| transition::bound(job, 10_000, "me", now)).await.unwrap();
        let ended = world.until(&id, |job| job.state.is_ended()).await;
        assert_eq!(ended.state, JobState::Completed);
        assert_eq!(world.versions().await, 400);
        workers.iter().chain([&coordinator]).for_each(Process::kill);
    }
}

impl World {
    /// Versions in the bucket.
    async fn versions(&self) -> usize {
        let request = ListRequest {
            bucket: "bucket".into(),
            prefix: "0".into(),
            versions: true,
            from: ListFrom::Start,
            limit: 1_000,
            with_facts: false,
        };
        self.store.list(request).await.unwrap().entries.len()
    }
}
