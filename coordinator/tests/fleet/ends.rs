//! The end of a job: cancelled with nobody there, kept in the report store, forgotten by the checkpoint.

use keyrotate_checkpoint::LedgerError;
use keyrotate_checkpoint::record::JobResult;
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_proto::id::JobId;
use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::Strategy;
use keyrotate_report::ReportRoot as _;
use keyrotate_report::finish::{Summary, check};
use keyrotate_report::intents::{IntentsHeader, encode};

use super::*;

async fn summary(world: &World, job: &JobRecord) -> Summary {
    let name = job.result.as_ref().unwrap().report.clone().unwrap();
    serde_json::from_slice(&world.reports.of(&job.id).unwrap().get(&name).await.unwrap()).unwrap()
}

/// Whatever the job is at, and whoever held something of it: without a worker a cancel ends it at once.
#[tokio::test(start_paused = true)]
async fn with_every_worker_dead_a_cancel_ends_at_once_from_every_state() {
    type Until = fn(&JobRecord) -> bool;
    let states: [(&str, Until); 5] = [
        ("queued", |_| true),
        ("preparing", |job| job.state.word() == "preparing"),
        ("running", walking),
        ("verifying", |job| job.state.word() == "verifying"),
        ("paused", |job| job.state.word() == "paused"),
    ];
    for (n, (name, until)) in states.into_iter().enumerate() {
        let world = World::new(20 + n as u64, 100).await;
        let coordinator = (name != "queued").then(|| world.coordinator("c1"));
        let workers = ["w1", "w2"].map(|name| world.worker(name));
        // So slow that no state is over before it was seen.
        workers.iter().for_each(|worker| worker.faults.latency(Duration::from_millis(100)));
        let id = world.submit().await;
        if name == "paused" {
            workers.iter().for_each(Process::kill);
        }
        let job = world.until(&id, until).await;
        workers.iter().for_each(Process::kill);
        if name == "running" {
            // Somebody's lease stands, with an upload that he began.
            tokio::time::sleep(Duration::from_millis(300)).await;
            put_down_an_upload(&world, &job).await;
        }
        // They are missed, and nobody else is there.
        tokio::time::sleep(Duration::from_secs(11)).await;
        let job = world.ledger.update_job(&id, transition::cancel).await.unwrap();
        assert_eq!(job.state, JobState::Cancelling, "{name}");
        let began = world.env.now();
        let _coordinator = coordinator.unwrap_or_else(|| world.coordinator("c1"));
        let job = world.until(&id, |job| job.state.is_ended()).await;
        let took = world.env.now().duration_since(began).as_secs();
        assert!(took <= 2, "{name}: it took {took} s");
        assert_eq!(job.state, JobState::Cancelled, "{name}");
        let summary = summary(&world, &job).await;
        assert_eq!(summary.leftover_uploads.len(), usize::from(name == "running"), "{name}: {summary:?}");
        // Nothing brings it back.
        let worker = world.worker("w3");
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(world.job(&id).await.state, JobState::Cancelled);
        let again = world.ledger.update_job(&id, transition::cancel).await.unwrap();
        assert_eq!(again.state, JobState::Cancelled);
        let unknown = world.ledger.update_job(&JobId::new(7, [7; 10]), transition::cancel).await;
        assert!(matches!(unknown, Err(LedgerError::Lost(_))), "{unknown:?}");
        worker.kill();
    }
}

async fn put_down_an_upload(world: &World, job: &JobRecord) {
    let pass = job.passes.iter().find(|pass| pass.kind == PassKind::Walk).unwrap().id;
    let shard = world.ledger.shards(&job.id, pass).await.unwrap().remove(0);
    let header = IntentsHeader { version: 1, shard: shard.shard, epoch: shard.epoch, number: 77 };
    let bytes = encode(&header, &[intent("00001")]).unwrap();
    world.reports.of(&job.id).unwrap().put(&header.name(), bytes).await.unwrap();
}

/// An upload that was begun.
fn intent(key: &str) -> Intent {
    Intent {
        v: 1,
        key: key.into(),
        version: None,
        etag: "e".into(),
        strategy: Strategy::CopyMultipart,
        upload: Some("upload-1".into()),
        source: None,
        made: None,
    }
}

/// The summary lies under the leader's epoch and is whole; the checkpoint keeps the record, and no shard.
#[tokio::test(start_paused = true)]
async fn a_completed_job_leaves_a_report_under_its_leaders_epoch_and_no_shards() {
    let world = World::new(30, 40).await;
    let fleet = [world.coordinator("c1"), world.worker("w1")];
    let id = world.submit().await;
    world.completed(&id, 40).await;
    let job = world.job(&id).await;
    let epoch = world.ledger.leader().await.unwrap().unwrap().epoch;
    let name = job.result.as_ref().unwrap().report.clone().unwrap();
    assert_eq!(name, format!("ends/{epoch}/summary.json"));
    let reports = world.reports.of(&id).unwrap();
    let checked = check(&reports, &format!("ends/{epoch}/")).await.unwrap();
    assert_eq!(checked.rows, 40);
    let begun: JobRecord = serde_json::from_slice(&reports.get("spec.json").await.unwrap()).unwrap();
    assert_eq!((begun.id.clone(), begun.spec.clone()), (id.clone(), job.spec.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ended: JobRecord = serde_json::from_slice(&reports.get("job.json").await.unwrap()).unwrap();
    assert_eq!(ended.result, job.result);
    for pass in &job.passes {
        assert_eq!(world.ledger.shards(&id, pass.id).await.unwrap(), [], "{}", pass.kind);
    }
    assert!(!world.ledger.is_settling(&id).await.unwrap());
    fleet.iter().for_each(Process::kill);

    // Whoever leads 91 days later forgets the record. The report store still knows the job.
    tokio::time::sleep(Duration::from_secs(89 * 24 * 3600)).await;
    let coordinator = world.coordinator("c2");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.job(&id).await.state, JobState::Completed);
    coordinator.kill();
    tokio::time::sleep(Duration::from_secs(2 * 24 * 3600)).await;
    let coordinator = world.coordinator("c3");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(matches!(world.ledger.job(&id).await, Err(LedgerError::Lost(_))));
    assert!(reports.get("job.json").await.is_ok());
    coordinator.kill();
}

/// One that failed may be resumed: its shards stay for as long as its record.
#[tokio::test(start_paused = true)]
async fn a_failed_job_keeps_its_shards() {
    let world = World::new(31, 40).await;
    let fleet = [world.coordinator("c1"), world.worker("w1")];
    let id = world.submit().await;
    let job = world.until(&id, walking).await;
    let fail = |job: &JobRecord, now| transition::fail(job, keyrotate_proto::state::StopReason::Canary, "", now);
    world.ledger.update_job(&id, fail).await.unwrap();
    world.until(&id, |job| job.state.is_ended()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!world.ledger.is_settling(&id).await.unwrap());
    let walk = job.passes.iter().find(|pass| pass.kind == PassKind::Walk).unwrap();
    assert_eq!(world.ledger.shards(&id, walk.id).await.unwrap().len(), walk.shards as usize);
    world.ledger.resume_job(&id).await.unwrap();
    world.completed(&id, 40).await;
    fleet.iter().for_each(Process::kill);
}

/// Of two ends of one job each has its place, and the record names the one that counts.
#[tokio::test(start_paused = true)]
async fn an_end_is_settled_once_by_whoever_leads_then() {
    let world = World::new(32, 10).await;
    let id = world.submit().await;
    world.ledger.update_job(&id, transition::cancel).await.unwrap();
    let result = JobResult { counts: Default::default(), ended: world.env.now(), report: None };
    // Its leader is gone right behind the last state.
    world.ledger.end_job(&id, &result).await.unwrap();
    assert!(world.ledger.is_settling(&id).await.unwrap());
    let coordinator = world.coordinator("c1");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!world.ledger.is_settling(&id).await.unwrap());
    assert!(world.reports.of(&id).unwrap().get("job.json").await.is_ok());
    coordinator.kill();
}
