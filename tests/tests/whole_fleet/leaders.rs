//! Several coordinators, of which the leader is lost in each phase of a job.

use std::sync::Arc;
use std::time::Duration;

use keyrotate_tests::fleet::{Coordinator, Fleet, kill_the_leader};
use keyrotate_tests::prelude::*;

const OBJECTS: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_lost_while_it_prepares_plans_and_verifies() {
    let fleet = Fleet::on(Arc::new(Target::embedded(Mode::aws()).await)).await;
    fleet.stand.put_old("k/", OBJECTS).await;
    let before = fleet.stand.snapshot().await;
    let slowly = FaultRule::every(Fault::Delay(Duration::from_millis(30)));
    fleet.stand.target.faults().add(slowly);
    let mut coordinators = vec![fleet.coordinator().await, fleet.coordinator().await];
    let _workers = fleet.workers(2).await;
    fleet.stand.read_on();
    let id = fleet.submit(&coordinators[0], &fleet.stand.job()).await;
    // A plan is made in the moment between the last probe and the first look at an object.
    for (what, state, scanned) in [
        ("it prepares", "preparing", false),
        ("it has just planned", "running", false),
        ("it verifies", "verifying", true),
    ] {
        let so = |status: &serde_json::Value| status["state"] == state && (status["scanned"] != 0) == scanned;
        fleet.until(&coordinators[0], &id, what, so).await;
        lose_the_leader(&fleet, &mut coordinators).await;
    }
    let ended = fleet.end(&coordinators[0], &id).await.expect_completed();
    fleet.stand.target.faults().clear();
    let report = oracle::check(&fleet.stand, &fleet.stand.job(), &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated"), OBJECTS as u64, "{}", report.summary);
}

/// Kills whoever leads; another one is started in its place.
async fn lose_the_leader(fleet: &Fleet, coordinators: &mut Vec<Coordinator>) {
    until("one leads", || coordinators.iter().any(Coordinator::leads)).await;
    kill_the_leader(coordinators).await;
    coordinators.push(fleet.coordinator().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_at_any_coordinator_with_every_worker_dead() {
    let fleet = Fleet::on(Arc::new(Target::embedded(Mode::aws()).await)).await;
    fleet.stand.put_old("k/", OBJECTS).await;
    let coordinators = [fleet.coordinator().await, fleet.coordinator().await];
    let workers = fleet.workers(2).await;
    let id = fleet.submit(&coordinators[0], &fleet.stand.job().option("rate: 40")).await;
    fleet.until_scanned(&coordinators[0], &id, 20).await;
    for worker in workers {
        let _killed = worker.kill().await;
    }
    let other = coordinators.iter().find(|one| !one.leads()).expect("one does not lead");
    fleet.tell(other, &id, "cancel").await;
    let ended = fleet.end(&coordinators[0], &id).await;
    assert_eq!(ended.code, Some(6), "{}", ended.stdout);
    assert_eq!(fleet.stand.report(&ended).summary.pointer("/result/state"), Some(&"cancelled".into()));
}
