//! A large bucket, and everything that a fleet consists of lost once. `KEYROTATE_FLEET_OBJECTS` says how large.

use std::sync::Arc;

use keyrotate_tests::bucket;
use keyrotate_tests::fleet::{Coordinator, Fleet, at_work, kill_the_leader};
use keyrotate_tests::prelude::*;

const OBJECTS: u64 = 20_000;
/// A window of a job is some seconds long; the job is so slow that all of it can happen.
const RATE: u64 = 250;

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_lost_once_and_every_sum_is_right() {
    let count = std::env::var("KEYROTATE_FLEET_OBJECTS").ok().map_or(OBJECTS, |n| n.parse().expect("a number"));
    let mut fleet = Fleet::on(Arc::new(Target::embedded(Mode::minio()).await)).await;
    fleet.stand.put_mixed(count).await;
    bucket::put_parts(fleet.stand.client(), &fleet.stand.bucket, in_parts(&fleet), 5 << 20).await;
    let before = fleet.stand.snapshot().await;
    let job = fleet.stand.job().option(&format!("rate: {RATE}"));
    let mut coordinators = vec![fleet.coordinator().await, fleet.coordinator().await];
    let mut workers = fleet.workers(3).await;
    fleet.stand.read_on();
    let id = fleet.submit(&coordinators[0], &job).await;

    let through = |share: u64| count * share / 100;
    let status = fleet.until_scanned(&coordinators[0], &id, through(5)).await;
    let _killed = workers.remove(at_work(&status, &workers).unwrap_or(0)).kill().await;
    workers.push(fleet.worker().await);

    let status = fleet.until_scanned(&coordinators[0], &id, through(10)).await;
    let frozen = at_work(&status, &workers).expect("somebody works");
    workers[frozen].signal("STOP");

    fleet.until_scanned(&coordinators[0], &id, through(15)).await;
    kill_the_leader(&mut coordinators).await;
    let coordinator = &coordinators[0];

    let gone = |status: &serde_json::Value| at_work(status, std::slice::from_ref(&workers[frozen])).is_none();
    fleet.until(coordinator, &id, "the leases of a frozen worker are taken", gone).await;
    workers[frozen].signal("CONT");

    fleet.until_scanned(coordinator, &id, through(50)).await;
    fleet.rabbitmq.kill().expect("RabbitMQ is killed");
    fleet.rabbitmq.restart().await.expect("RabbitMQ starts again");

    fleet.until_scanned(coordinator, &id, through(65)).await;
    fleet.redis.kill().await.expect("Redis is killed");
    fleet.redis.restart().await.expect("Redis starts again");

    fleet.until_scanned(coordinator, &id, through(80)).await;
    let purged = fleet.rabbitmq.ctl(&["purge_queue", "keyrotate.tickets.default"]).await;
    purged.expect("RabbitMQ is emptied");

    let ended = fleet.end(coordinator, &id).await.expect_completed();
    let report = fleet.stand.report(&ended);
    assert_eq!(report.number("/scanned"), before.len() as u64, "{}", report.summary);
    let after = fleet.stand.snapshot().await;
    a_second_job_writes_nothing(&fleet, coordinator, &after).await;
    let expect = Expect { writes_again: true, ..Expect::default() };
    oracle::check(&fleet.stand, &job, &before, &ended, &expect).await;
}

fn in_parts(fleet: &Fleet) -> Put {
    let body: Vec<u8> = (0..6_u32 << 20).map(|i| i.to_le_bytes()[1]).collect();
    Put::under(&fleet.stand.target.old_key, "parts/1", body)
}

async fn a_second_job_writes_nothing(fleet: &Fleet, coordinator: &Coordinator, before: &Snapshot) {
    let id = fleet.submit(coordinator, &fleet.stand.job()).await;
    let ended = fleet.end(coordinator, &id).await.expect_completed();
    let report = fleet.stand.report(&ended);
    assert_eq!(report.count("rotated"), 0, "{}", report.summary);
    let after = fleet.stand.snapshot().await;
    oracle::nothing_was_written(before, &after, "a second job");
}
