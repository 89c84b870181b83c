//! Cancelled at a coordinator that does not lead, with nobody left to clean up.

use std::sync::Arc;

use keyrotate_tests::fleet::Fleet;
use keyrotate_tests::prelude::*;

const OBJECTS: usize = 400;

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
