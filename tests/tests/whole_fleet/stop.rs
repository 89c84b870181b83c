//! Workers that are told to stop.

use std::sync::Arc;
use std::time::Duration;

use keyrotate_tests::fleet::Fleet;
use keyrotate_tests::prelude::*;
use tokio::time::Instant;

const OBJECTS: usize = 600;

/// How often RabbitMQ delivered a ticket that it had delivered before.
async fn redelivered(fleet: &Fleet) -> u64 {
    // It counts every five seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let url = format!("{}/api/overview", fleet.rabbitmq.management_url());
    let answer = fleet.client.get(url).send().await;
    let answer = answer.expect("RabbitMQ's management answers").bytes().await.expect("an answer has a body");
    let stats: serde_json::Value = serde_json::from_slice(&answer).expect("it is JSON");
    let stats = &stats["message_stats"];
    assert!(stats["ack"].as_u64().expect("tickets were acknowledged") > 0, "{stats}");
    stats["redeliver"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_commits_all_and_nothing_is_delivered_again() {
    let fleet = Fleet::on(Arc::new(Target::embedded(Mode::aws()).await)).await;
    fleet.stand.put_old("k/", OBJECTS).await;
    let before = fleet.stand.snapshot().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    fleet.stand.target.faults().add(FaultRule::every(Fault::Delay(Duration::from_millis(100))));
    let job = fleet.stand.job();
    let id = fleet.submit(&coordinator, &job).await;
    // Behind the first twenty, which go one at a time.
    fleet.until_scanned(&coordinator, &id, 60).await;
    let told = Instant::now();
    worker.signal("TERM");
    let said = worker.end().await.expect(0).stderr;
    assert!(told.elapsed() < Duration::from_secs(25), "{:?}", told.elapsed());
    assert!(!said.contains("did not end in time"), "{said}");
    let _other = fleet.worker().await;
    fleet.stand.target.faults().clear();
    let ended = fleet.end(&coordinator, &id).await.expect_completed();
    let report = oracle::check(&fleet.stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated"), OBJECTS as u64, "each write was counted: {}", report.summary);
    assert_eq!(redelivered(&fleet).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_worker_at_once() {
    let fleet = Fleet::on(Arc::new(Target::embedded(Mode::aws()).await)).await;
    fleet.stand.put_old("k/", 40).await;
    let coordinator = fleet.coordinator().await;
    let mut worker = fleet.worker().await;
    let never = FaultRule::on("UpdateObjectEncryption", Fault::Delay(Duration::from_secs(600)));
    fleet.stand.target.faults().add(FaultRule { key_prefix: "k/".to_owned(), ..never });
    let id = fleet.submit(&coordinator, &fleet.stand.job()).await;
    fleet.until(&coordinator, &id, "it runs", |status| status["state"] == "running").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    worker.signal("TERM");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!worker.has_ended(), "a write is in flight:\n{}", worker.stderr());
    let told = Instant::now();
    worker.signal("TERM");
    let ended = worker.end().await;
    assert_eq!(ended.code, Some(6), "{}", ended.stderr);
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
}
