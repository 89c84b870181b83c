//! Kills, signals, cancels: at any moment, and what follows.

use keyrotate_tests::exe::job_id;
use keyrotate_tests::prelude::*;
use keyrotate_tests::target::WRITES;

const OBJECTS: usize = 300;

/// Counts writes to objects whose keys begin so, our probes left out: a delay of nothing changes nothing.
fn count_writes(stand: &Stand, prefix: &str) {
    for operation in WRITES {
        let rule = FaultRule::on(operation, Fault::Delay(std::time::Duration::ZERO));
        stand.target.faults().add(FaultRule { key_prefix: prefix.to_owned(), ..rule });
    }
}

async fn until_written(stand: &Stand, process: &mut Process, count: u64) {
    let faults = stand.target.faults();
    until("so many objects are written, or the process ends", || process.has_ended() || faults.met() >= count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_in_the_walk_it_goes_on_and_does_little_twice() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", OBJECTS).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    count_writes(&stand, "k/");
    let mut ids = Vec::new();
    for kill_at in [1, 60, 150, 240] {
        let mut process = stand.begin(&job, &["--rate", "150", "--permits", "8"]);
        until_written(&stand, &mut process, kill_at).await;
        assert!(!process.has_ended(), "{}", process.stderr());
        ids.push(process.kill().await.job());
    }
    let ended = stand.run(&job, &[]).await.expect_completed();
    ids.push(ended.job());
    ids.dedup();
    assert_eq!(ids.len(), 1, "one job all along");
    // What was under way at a kill may be written again, nothing else: all else is found `current`.
    let written = stand.target.faults().met();
    assert!(written <= (OBJECTS + 4 * 8) as u64, "{written} writes of {OBJECTS} objects");
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated") + report.count("current"), OBJECTS as u64, "{}", report.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_minio_it_goes_on() {
    let stand = Stand::embedded(Mode::minio()).await;
    stand.put_old("k/", OBJECTS).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    count_writes(&stand, "k/");
    for kill_at in [20, 150] {
        let mut process = stand.begin(&job, &["--rate", "150"]);
        until_written(&stand, &mut process, kill_at).await;
        let _dead = process.kill().await;
    }
    let ended = stand.run(&job, &[]).await.expect_completed();
    oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_prepares_it_leaves_no_probe_behind() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 30).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    for probes in [1, 4, 9] {
        let seen = stand.target.requests(&WRITES);
        let mut process = stand.begin(&job, &[]);
        until("probes are written", || process.has_ended() || stand.target.requests(&WRITES) >= seen + probes).await;
        let _dead = process.kill().await;
    }
    let ended = stand.run(&job, &[]).await.expect_completed();
    oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_verifies_it_ends_right() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 50).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    count_writes(&stand, "k/");
    let mut process = stand.begin(&job, &[]);
    until_written(&stand, &mut process, 50).await;
    // So that it is caught.
    let slow = Fault::Delay(std::time::Duration::from_secs(3));
    stand.target.faults().add(FaultRule::on("ListObjectsV2", slow));
    until("it verifies", || process.has_ended() || process.stderr().contains("verifying")).await;
    let killed = process.kill().await;
    assert_eq!(killed.code, None, "it was not killed: {}", killed.stderr);
    stand.target.faults().clear();
    let ended = stand.run(&job, &[]).await.expect_completed();
    assert_eq!(ended.job(), killed.job());
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.number("/oldKeys/0/verdict/versionsListed"), 50, "{}", report.summary["oldKeys"]);
}

async fn stopped_by(signal: &str) {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", OBJECTS).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    count_writes(&stand, "k/");
    let mut process = stand.begin(&job, &["--rate", "100"]);
    until_written(&stand, &mut process, 40).await;
    process.signal(signal);
    let stopped = process.end().await.expect(6);
    assert!(stopped.stderr.contains("the same command goes on with it"), "{}", stopped.stderr);
    let written = stand.target.faults().met();
    assert!(written < OBJECTS as u64, "it stopped before it was done");
    let ended = stand.run(&job, &[]).await.expect_completed();
    assert_eq!(ended.job(), stopped.job());
    assert_eq!(stand.target.faults().met(), OBJECTS as u64, "what was in flight was finished and committed");
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated"), OBJECTS as u64, "{}", report.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_the_same_command_goes_on() {
    stopped_by("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_drains_and_the_same_command_goes_on() {
    stopped_by("INT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 40).await;
    count_writes(&stand, "k/");
    let mut process = stand.begin(&stand.job(), &["--rate", "5"]);
    until_written(&stand, &mut process, 1).await;
    // What is in flight now can't be finished soon.
    stand.target.faults().add(FaultRule::every(Fault::Delay(std::time::Duration::from_secs(600))));
    process.signal("TERM");
    until("it heard the first", || process.has_ended() || process.stderr().contains("stopping")).await;
    process.signal("TERM");
    let _at_once = process.end().await.expect(6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_cancelled_from_elsewhere() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", OBJECTS).await;
    let before = stand.snapshot().await;
    count_writes(&stand, "k/");
    let mut process = stand.begin(&stand.job(), &["--rate", "50"]);
    until_written(&stand, &mut process, 20).await;
    let job = job_id(&process.stderr()).expect("the first line names the job");
    let said = stand.start(&["cancel", &job]).end().await.expect(0);
    assert!(said.stdout.contains("is cancelled"), "{}", said.stdout);
    let ended = process.end().await.expect(6);
    let report = stand.report(&ended);
    assert_eq!(report.summary.pointer("/result/state"), Some(&"cancelled".into()), "{}", report.summary);
    oracle::nothing_of_ours_is_left(&stand).await;
    let again = stand.run(&stand.job(), &["--rate", "1000"]).await.expect_completed();
    assert_ne!(again.job(), job, "a cancelled job never runs again");
    oracle::check(&stand, &stand.job(), &before, &again, &Expect::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_cancelled_and_cleans_up() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 100).await;
    let before = stand.snapshot().await;
    count_writes(&stand, "k/");
    let mut process = stand.begin(&stand.job(), &["--rate", "50"]);
    until_written(&stand, &mut process, 10).await;
    let dead = process.kill().await;
    let said = stand.start(&["cancel", &dead.job()]).end().await.expect(0);
    assert!(said.stdout.contains("is cancelled"), "{}", said.stdout);
    oracle::nothing_of_ours_is_left(&stand).await;
    let twice = stand.start(&["cancel", &dead.job()]).end().await;
    assert_ne!(twice.code, Some(101), "{}", twice.stderr);
    let ended = stand.run(&stand.job(), &[]).await.expect_completed();
    assert_ne!(ended.job(), dead.job(), "a cancelled job never runs again");
    oracle::check(&stand, &stand.job(), &before, &ended, &Expect::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_cancelled_without_its_store_and_says_so() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 100).await;
    count_writes(&stand, "k/");
    let mut process = stand.begin(&stand.job(), &["--rate", "50"]);
    until_written(&stand, &mut process, 10).await;
    let dead = process.kill().await;
    let mut elsewhere = stand.target.variables().clone();
    elsewhere.insert("AWS_ENDPOINT_URL".to_owned(), "http://127.0.0.1:9".to_owned());
    let said = stand.start_with(&["cancel", &dead.job()], &elsewhere).end().await.expect(0);
    assert!(said.stdout.contains("is cancelled"), "{}", said.stdout);
    assert!(said.stderr.contains("can't be reached"), "{}", said.stderr);
    let report = stand.report(&dead);
    assert_eq!(report.summary.pointer("/result/state"), Some(&"cancelled".into()), "{}", report.summary);
    let ended = stand.run(&stand.job(), &[]).await.expect_completed();
    assert_ne!(ended.job(), dead.job(), "a cancelled job never runs again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_job_cannot_be_cancelled() {
    let stand = Stand::embedded(Mode::aws()).await;
    let said = stand.start(&["cancel", "01m7z8qvcykt7n92857erd1je0"]).end().await.expect(2);
    assert!(said.stderr.contains("there is no job 01m7z8qvcykt7n92857erd1je0"), "{}", said.stderr);
    let said = stand.start(&["cancel", "nonsense"]).end().await.expect(2);
    assert!(said.stderr.contains("the id stands in its first line") || said.stderr.contains("id"), "{}", said.stderr);
}
