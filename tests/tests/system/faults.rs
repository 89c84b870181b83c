//! A store that is slow, busy, cut off or down.

use keyrotate_tests::prelude::*;

fn on(operation: &'static str, fault: Fault) -> FaultRule {
    FaultRule { key_prefix: "k/".into(), ..FaultRule::on(operation, fault) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_store_is_asked_again_and_all_ends_right() {
    for mode in [Mode::aws(), Mode::minio()] {
        let stand = Stand::embedded(mode).await;
        stand.put_old("k/", 150).await;
        let before = stand.snapshot().await;
        for operation in ["UpdateObjectEncryption", "PutObject", "HeadObject", "GetObject"] {
            stand.target.faults().add(on(operation, Fault::SlowDown).after(10).times(8));
        }
        let ended = stand.run(&stand.job(), &[]).await.expect_completed();
        stand.target.faults().clear();
        let report = oracle::check(&stand, &stand.job(), &before, &ended, &Expect::default()).await;
        // A slice that halts keeps what it wrote behind the object that halted it: nothing is `current` that we wrote.
        assert_eq!((report.count("rotated"), report.count("current")), (150, 0), "{}", report.summary);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_are_looked_up_and_all_ends_right() {
    for mode in [Mode::aws(), Mode::minio()] {
        let stand = Stand::embedded(mode).await;
        stand.put_old("k/", 120).await;
        let before = stand.snapshot().await;
        for operation in ["UpdateObjectEncryption", "PutObject", "HeadObject"] {
            stand.target.faults().add(on(operation, Fault::DropReply).after(25).times(6));
            stand.target.faults().add(on(operation, Fault::CutBefore).after(50).times(6));
        }
        let job = stand.job().retry("attempts: 3").retry("delay: 100ms");
        let ended = stand.run(&job, &[]).await.expect_completed();
        stand.target.faults().clear();
        let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
        assert_eq!(report.count("rotated") + report.count("current"), 120, "{}", report.summary);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_pauses_the_job_which_goes_on_later() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 120).await;
    let before = stand.snapshot().await;
    let seen = stand.target.requests(&["UpdateObjectEncryption"]);
    let mut process = stand.begin(&stand.job(), &["--rate", "40", "--no-wait"]);
    let requests = || stand.target.requests(&["UpdateObjectEncryption"]);
    until("it writes", || process.has_ended() || requests() >= seen + 40).await;
    stand.target.faults().add(FaultRule::every(Fault::CutBefore));
    let paused = process.end().await.expect(5);
    assert!(format!("{}{}", paused.stdout, paused.stderr).contains("store-down"), "{}", paused.stderr);
    stand.target.faults().clear();
    let ended = stand.run(&stand.job(), &[]).await.expect_completed();
    assert_eq!(ended.job(), paused.job());
    let report = oracle::check(&stand, &stand.job(), &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated") + report.count("current"), 120, "{}", report.summary);
}
