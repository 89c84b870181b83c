//! What is down, refused or stopped while a job is at work.

use std::time::Duration;

use keyrotate_checkpoint::record::{JobRecord, ShardState};
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_devstack::kes::Failure;
use keyrotate_devstack::model::{Action, Mode, Rule};
use keyrotate_proto::id::JobId;
use keyrotate_proto::state::{JobState, PassKind, PauseReason, StopReason};
use keyrotate_report::{ReportRoot as _, leftovers};
use keyrotate_store::{ErrorKind, Store as _};
use tokio::time::Instant;

use crate::walking;
use crate::world::{Process, World};

async fn is_leased(world: &World, job: &JobId) -> bool {
    for pass in &world.job(job).await.passes {
        let shards = world.ledger.shards(job, pass.id).await.unwrap();
        if shards.iter().any(|shard| matches!(shard.state, ShardState::Leased { .. })) {
            return true;
        }
    }
    false
}

/// Breaks something under a running job, and mends it later.
async fn goes_on_after(world: World, reason: PauseReason, set: impl Fn(&World, &[Process], bool)) {
    let workers = ["w1", "w2"].map(|name| world.worker(name));
    let coordinator = world.coordinator("c1");
    let id = world.submit_with("pauseLimit: 2h, bodyTransit: any").await;
    world.until(&id, walking).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    set(&world, &workers, true);
    let paused = |job: &JobRecord| matches!(&job.state, JobState::Paused { reason: why, .. } if *why == reason);
    let job = world.until(&id, |job| matches!(job.state, JobState::Paused { .. }) || job.state.is_ended()).await;
    assert!(paused(&job), "{:?}", job.state);
    // Whoever else is at work hears of it with the next renewal or commit.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let scanned = |job: &JobRecord| job.passes.iter().map(|pass| pass.counts.scanned()).sum::<u64>();
    let at_rest = scanned(&world.job(&id).await);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(paused(&world.job(&id).await), "{:?}", world.job(&id).await.state);
    assert_eq!(scanned(&world.job(&id).await), at_rest);
    for _ in 0..20 {
        let walk = |pass: &&keyrotate_checkpoint::record::PassRecord| pass.kind == PassKind::Walk;
        let walk = world.job(&id).await.passes.iter().find(walk).unwrap().id;
        let shards = world.ledger.shards(&id, walk).await.unwrap();
        let held = shards.iter().find(|shard| matches!(shard.state, ShardState::Leased { .. }));
        assert!(held.is_none(), "while it is paused nobody works: {held:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    set(&world, &workers, false);
    let mended = Instant::now();
    world.until(&id, |job| !paused(job)).await;
    assert!(mended.elapsed() < Duration::from_secs(75), "a probe each minute: {:?}", mended.elapsed());
    world.completed(&id, 400).await;
    workers.iter().chain([&coordinator]).for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn a_kes_that_is_down_pauses_the_job_until_a_probe_finds_it_up() {
    for (seed, failure) in [(31, Failure::KeyStore), (32, Failure::Unavailable)] {
        let set = |world: &World, _: &[Process], broken| {
            world.kes.set_failure(if broken { failure } else { Failure::None });
        };
        goes_on_after(World::new(seed, 400).await, PauseReason::KmsDown, set).await;
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_pause_the_job_until_a_probe_is_let_in() {
    let set = |_: &World, workers: &[Process], broken| {
        for worker in workers {
            worker.faults.clear();
            if broken {
                worker.faults.add(Rule::on("*", Action::FailBefore(ErrorKind::Credentials)));
            }
        }
    };
    goes_on_after(World::new(33, 400).await, PauseReason::Credentials, set).await;
}

/// The probe asks by the calls that were refused: a pause that is lifted because another call is let in comes back at once.
#[tokio::test(start_paused = true)]
async fn denied_objects_pause_the_job_until_the_call_that_was_denied_is_let_in() {
    let with_acls = Mode { update_encryption: false, acls: true, ..Mode::aws() };
    for (seed, mode, operation) in
        [(37, Mode::aws(), "HeadObject"), (38, Mode::rgw(), "GetObjectTagging"), (39, with_acls, "GetObjectAcl")]
    {
        let set = |_: &World, workers: &[Process], broken| {
            for worker in workers {
                worker.faults.clear();
                if broken {
                    worker.faults.add(Rule::on(operation, Action::FailBefore(ErrorKind::Denied)));
                }
            }
        };
        goes_on_after(World::on(mode, seed, 400).await, PauseReason::Denied, set).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_told_to_stop_lets_go_of_what_is_not_cut_into_windows() {
    let world = World::new(34, 30).await;
    let coordinator = world.coordinator("c1");
    let id = world.submit().await;
    let held = |job: &JobRecord, kind| job.passes.iter().any(|pass| pass.open && pass.kind == kind);
    for (kind, operation) in [(PassKind::Prepare, "PutObject"), (PassKind::Clean, "*")] {
        let worker = world.worker("w1");
        worker.faults.add(Rule::on(operation, Action::Delay(Duration::from_secs(3600))));
        if kind == PassKind::Clean {
            world.ledger.update_job(&id, transition::cancel).await.unwrap();
        }
        world.until(&id, |job| held(job, kind)).await;
        while !is_leased(&world, &id).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let told = Instant::now();
        worker.stop().await;
        assert!(told.elapsed() < Duration::from_secs(1), "{kind:?}: {:?}", told.elapsed());
        assert!(!is_leased(&world, &id).await, "{kind:?} was given back");
    }
    let worker = world.worker("w2");
    let job = world.until(&id, |job| job.state.is_ended()).await;
    assert_eq!(job.state, JobState::Cancelled);
    [worker, coordinator].iter().for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_told_to_stop_commits_what_it_has_begun_and_begins_nothing_more() {
    let world = World::new(35, 400).await;
    let coordinator = world.coordinator("c1");
    let worker = world.worker_at("w1", None);
    worker.faults.latency(Duration::from_millis(200));
    let id = world.submit().await;
    world.until(&id, walking).await;
    // Behind the first twenty, which go one at a time: hundreds wait for one of six permits.
    tokio::time::sleep(Duration::from_secs(25)).await;
    let told = Instant::now();
    worker.stop().await;
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    assert!(!is_leased(&world, &id).await, "all was given back");
    let walk = world.job(&id).await.passes.last().unwrap().id;
    let shards = world.ledger.shards(&id, walk).await.unwrap();
    assert!(shards.iter().map(|shard| shard.counts.scanned()).sum::<u64>() > 20, "it was behind the first ones");
    let worker = world.worker("w2");
    world.completed(&id, 400).await;
    let counts = world.job(&id).await.result.unwrap().counts;
    assert_eq!(counts.of("rotated"), 400, "each write was counted: {counts:?}");
    [worker, coordinator].iter().for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_lasts_longer_than_a_worker_may_is_given_up_and_all_else_committed() {
    let world = World::new(36, 400).await;
    let coordinator = world.coordinator("c1");
    let worker = world.worker_at("w1", Some(50.0));
    let slow = Rule::on("UpdateObjectEncryption", Action::Delay(Duration::from_secs(600))).of_key("00060");
    worker.faults.add(slow);
    let id = world.submit().await;
    world.until(&id, walking).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let told = Instant::now();
    worker.stop().await;
    assert!((15..21).contains(&told.elapsed().as_secs()), "{:?}", told.elapsed());
    assert!(is_leased(&world, &id).await, "what it gave up may still be done: its lease runs out");
    let worker = world.worker("w2");
    world.completed(&id, 400).await;
    let counts = world.job(&id).await.result.unwrap().counts;
    assert_eq!(counts.of("rotated"), 400, "each write was counted: {counts:?}");
    [worker, coordinator].iter().for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_the_checkpoint_lost_goes_on_from_its_parts() {
    let world = World::new(40, 400).await;
    let coordinator = world.coordinator("c1");
    let worker = world.worker("w1");
    let id = world.submit().await;
    world.until(&id, walking).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    worker.stop().await;
    let before = world.scanned(&id).await;
    assert!((20..380).contains(&before), "it is amid its walk: {before}");
    let job = world.job(&id).await;
    world.backend.flush();
    // As it was kept when it began.
    let state = JobState::Failed { reason: StopReason::Lost, detail: String::new() };
    world.ledger.reinstate(&JobRecord { state, frozen: None, passes: Vec::new(), ..job }).await.unwrap();
    world.ledger.resume_job(&id).await.unwrap();
    let worker = world.worker("w2");
    world.until(&id, walking).await;
    assert!(world.scanned(&id).await >= before);
    world.completed(&id, 400).await;
    let counts = world.job(&id).await.result.unwrap().counts;
    assert_eq!(counts.of("rotated"), 400, "what was written before it was lost is known: {counts:?}");
    let (rows, keys) = world.reported(&id).await;
    assert_eq!((rows, keys.len()), (400, 400));
    [worker, coordinator].iter().for_each(Process::kill);
}

/// The store opened it, and the answer was lost; the next one came through.
#[tokio::test(start_paused = true)]
async fn an_upload_of_ours_whose_id_was_never_heard_is_in_the_list() {
    let world = World::on(Mode::minio(), 41, 20).await;
    let (coordinator, worker) = (world.coordinator("c1"), world.worker("w1"));
    world.put_in_parts("00007").await;
    worker
        .faults
        .add(Rule::on("CreateMultipartUpload", Action::FailAfter(ErrorKind::Timeout)).of_key("00007").times(1));
    let id = world.submit().await;
    world.completed(&id, 20).await;
    let open = world.store.uploads("bucket", "").await.unwrap();
    let open: Vec<_> = open.into_iter().map(|upload| (upload.key, upload.id)).collect();
    assert_eq!(open.len(), 1);
    assert_eq!(leftovers::read(world.reports.of(&id).unwrap().as_ref()).await.unwrap(), open);
    [worker, coordinator].iter().for_each(Process::kill);
}
