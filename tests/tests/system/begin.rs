//! Which job a start means, when there are some already.

use keyrotate_tests::prelude::*;

/// A job on objects under `k/` that was killed after it had begun to write.
async fn interrupted(stand: &Stand, job: &JobFile) -> Ended {
    stand.put_old("k/", 120).await;
    let seen = stand.target.requests(&["UpdateObjectEncryption", "CopyObject"]);
    let mut process = stand.begin(job, &["--rate", "60"]);
    let requests = || stand.target.requests(&["UpdateObjectEncryption", "CopyObject"]);
    until("it writes", || process.has_ended() || requests() >= seen + 30).await;
    assert!(!process.has_ended(), "{}", process.stderr());
    process.kill().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_and_told_who_holds_the_bucket() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 100).await;
    let mut first = stand.begin(&stand.job(), &["--rate", "20"]);
    until("the first has begun", || first.has_ended() || first.stderr().contains("begins")).await;
    let second = stand.run(&stand.job(), &[]).await.expect(5);
    let holder = format!("process {}", first.id());
    assert!(second.stderr.contains(&holder) && second.stderr.contains("job.yaml"), "{}", second.stderr);
    let other = stand.job().prefix("k/00");
    let third = stand.run(&other, &[]).await.expect(5);
    assert!(third.stderr.contains(&holder), "{}", third.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_told_apart_and_resume_goes_on_with_the_old_one() {
    let stand = Stand::embedded(Mode::aws()).await;
    let old = stand.job();
    let dead = interrupted(&stand, &old).await;
    let changed = stand.job().prefix("k/00");
    let blocked = stand.run(&changed, &[]).await.expect(5);
    assert!(blocked.stderr.contains("prefix") && blocked.stderr.contains("k/00"), "{}", blocked.stderr);
    assert!(blocked.stderr.contains("--replace") && blocked.stderr.contains(&dead.job()), "{}", blocked.stderr);
    let before = stand.snapshot().await;
    let ended = stand.run(&changed, &["--resume", &dead.job()]).await.expect_completed();
    let report = oracle::check(&stand, &old, &before, &ended, &Expect::default()).await;
    assert_eq!(report.number("/scanned"), 120, "the job goes on as it was begun: {}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_can_replace_the_interrupted_job() {
    let stand = Stand::embedded(Mode::aws()).await;
    let dead = interrupted(&stand, &stand.job()).await;
    let before = stand.snapshot().await;
    let changed = stand.job().prefix("k/00");
    let ended = stand.run(&changed, &["--replace"]).await.expect_completed();
    assert_ne!(ended.job(), dead.job());
    let expect = Expect { prefix: "k/00".into(), ..Expect::default() };
    let report = oracle::check(&stand, &changed, &before, &ended, &expect).await;
    assert_eq!(report.number("/scanned"), 100);
    let gone = stand.run(&stand.job(), &["--resume", &dead.job()]).await.expect(2);
    assert!(gone.stderr.contains("can be resumed"), "{}", gone.stderr);
}

/// A job whose objects all fail, because the store refuses every write to them.
async fn failed(stand: &Stand, job: &JobFile) -> Ended {
    stand.put_old("k/", 10).await;
    for operation in ["UpdateObjectEncryption", "CopyObject", "PutObject", "CompleteMultipartUpload"] {
        let rule = FaultRule { key_prefix: "k/".into(), ..FaultRule::on(operation, Fault::InternalError) };
        stand.target.faults().add(rule);
    }
    let ended = stand.run(job, &[]).await.expect(4);
    stand.target.faults().clear();
    ended
}

fn few_tries(stand: &Stand) -> JobFile {
    stand.job().retry("attempts: 1").retry("delay: 100ms")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_names_what_failed_and_is_resumed_by_the_same_file() {
    let stand = Stand::embedded(Mode::aws()).await;
    let job = few_tries(&stand);
    let dead = failed(&stand, &job).await;
    let report = stand.report(&dead);
    assert_eq!(report.count("failed"), 10, "{}", report.summary);
    let before = stand.snapshot().await;
    let ended = stand.run(&job, &[]).await.expect_completed();
    assert_eq!(ended.job(), dead.job());
    assert!(ended.stderr.contains("had failed and is resumed"), "{}", ended.stderr);
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated"), 10, "{}", report.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_begins_afresh_after_a_failed_job() {
    let stand = Stand::embedded(Mode::aws()).await;
    let job = few_tries(&stand);
    let dead = failed(&stand, &job).await;
    let before = stand.snapshot().await;
    let ended = stand.run(&job, &["--new"]).await.expect_completed();
    assert_ne!(ended.job(), dead.job());
    oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_current_nothing_is_written() {
    let stand = Stand::embedded(Mode::minio()).await;
    let new = stand.target.new_key.clone();
    stand.put_all((0..200).map(|i| Put::under(&new, format!("k/{i}"), "body"))).await;
    let before = stand.snapshot().await;
    for operation in ["PutObject", "CopyObject", "UpdateObjectEncryption", "CreateMultipartUpload", "DeleteObject"] {
        let rule = FaultRule { key_prefix: "k/".into(), ..FaultRule::on(operation, Fault::InternalError) };
        stand.target.faults().add(rule);
    }
    let ended = stand.run(&stand.job(), &[]).await.expect(0);
    assert_eq!(stand.target.faults().met(), 0, "no write to anybody's object");
    let report = stand.report(&ended);
    assert_eq!(report.by_outcome(), [("current".to_owned(), 200)].into());
    assert_eq!(stand.snapshot().await, before);
    oracle::check(&stand, &stand.job(), &before, &ended, &Expect::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_checkpoint_a_job_finds_what_is_done_as_current() {
    let stand = Stand::embedded(Mode::aws()).await;
    let _dead = interrupted(&stand, &stand.job()).await;
    let before = stand.snapshot().await;
    let done = Stand::keys_under(&before, "sse-kms:key-b").len() as u64;
    assert!(done > 0);
    std::fs::remove_dir_all(stand.state()).expect("the state is ours");
    // Nobody knows any more that the one is dead who is named in the bucket, but the person who killed it.
    let blocked = stand.run(&stand.job(), &[]).await.expect(5);
    assert!(blocked.stderr.contains("if it is dead, others may begin at"), "{}", blocked.stderr);
    keyrotate_tests::bucket::delete(stand.client(), &stand.bucket, keyrotate_tests::bucket::LEASE_KEY).await;
    let ended = stand.run(&stand.job(), &[]).await.expect_completed();
    let report = oracle::check(&stand, &stand.job(), &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("current"), done, "{}", report.summary);
    assert_eq!(report.count("rotated"), 120 - done, "{}", report.summary);
}
