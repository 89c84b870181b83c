//! A worker that was frozen until everybody else had finished, and wakes up.

use std::sync::Arc;

use keyrotate_tests::fleet::{Fleet, at_work};
use keyrotate_tests::prelude::*;
use keyrotate_tests::target::WRITES;

const OBJECTS: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn a_woken_worker_moves_nothing() {
    let fleet = Fleet::on(Arc::new(Target::embedded(Mode::aws()).await)).await;
    fleet.stand.put_old("k/", OBJECTS).await;
    let before = fleet.stand.snapshot().await;
    let job = fleet.stand.job().option("rate: 60");
    let coordinator = fleet.coordinator().await;
    let mut workers = fleet.workers(2).await;
    fleet.stand.read_on();
    let id = fleet.submit(&coordinator, &job).await;
    let status = fleet.until_scanned(&coordinator, &id, 60).await;
    let zombie = workers.remove(at_work(&status, &workers).expect("somebody works"));
    zombie.signal("STOP");
    let ended = fleet.end(&coordinator, &id).await.expect_completed();
    let (pictures, written) = (fleet.stand.snapshot().await, fleet.stand.target.requests(&WRITES));

    zombie.signal("CONT");
    let refused = || {
        let said = zombie.stderr();
        said.contains("the lease ran out under the work") || said.contains("ended without its last word")
    };
    until("the woken worker is told that its lease is gone", refused).await;
    assert_eq!(fleet.stand.snapshot().await, pictures, "it wrote after it woke");
    // Each write that was on its way when it froze may arrive at the store now, where its condition fails.
    let arrived = fleet.stand.target.requests(&WRITES) - written;
    assert!(arrived <= 64, "{arrived} writes after it woke");

    // It is as good as any other now.
    for other in workers {
        let _killed = other.kill().await;
    }
    let second = fleet.submit(&coordinator, &fleet.stand.job()).await;
    let second = fleet.end(&coordinator, &second).await.expect_completed();
    assert_eq!(fleet.stand.report(&second).count("current"), OBJECTS as u64);
    let report = oracle::check(&fleet.stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated") + report.count("current"), OBJECTS as u64, "{}", report.summary);
}
