//! A dry run, asked of a fleet by the command line.

use std::sync::Arc;

use keyrotate_tests::bucket;
use keyrotate_tests::fleet::Fleet;
use keyrotate_tests::prelude::*;
use keyrotate_tests::target::WRITES;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_says_what_it_would_do_and_writes_nothing() {
    let fleet = Fleet::on(Arc::new(Target::embedded(Mode::minio()).await)).await;
    fleet.stand.put_mixed(100).await;
    let before = fleet.stand.snapshot().await;
    let coordinator = fleet.coordinator().await;
    let _worker = fleet.worker().await;
    let file = fleet.stand.write(&fleet.stand.job()).display().to_string();
    let written = fleet.stand.target.requests(&WRITES);
    let args = ["start", &file, "--dry-run", "--url", &coordinator.url, "--output", "json"];
    let dry = fleet.stand.start(&args).end().await.expect(0);
    let forecast: Value = serde_json::from_str(&dry.stdout).expect("a forecast is JSON");
    assert_eq!((&forecast["objects"]["value"], &forecast["complete"]), (&100.into(), &true.into()), "{forecast}");
    assert_eq!(fleet.stand.snapshot().await, before);
    // Parts of reports lie in the same store; a dry run has none.
    let made = fleet.stand.target.requests(&WRITES) - written;
    assert!(made < 12, "{made} writes: only the record of the job and its forecast are stored");
    let list = fleet.stand.start(&["list", "--url", &coordinator.url]).end().await.expect(0);
    assert!(list.stdout.contains("census") && list.stdout.contains("completed"), "{}", list.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_one_file_are_listed_and_cancelled_together() {
    let fleet = Fleet::on(Arc::new(Target::embedded(Mode::minio()).await)).await;
    let old = &fleet.stand.target.old_key;
    for name in ["logs-a", "logs-b", "logs-c"] {
        bucket::create(fleet.stand.client(), name, false).await;
        let all = ["1", "2", "3"].map(|key| Put::under(old, key, "body"));
        bucket::put_all(fleet.stand.client(), name, all).await;
    }
    let coordinator = fleet.coordinator().await;
    let _worker = fleet.worker().await;
    let file = fleet.stand.dir().join("several.yaml").display().to_string();
    let key = &fleet.stand.target.new_key;
    let write = |options: &str| {
        let text = format!(
            "keyrotate: {{apiVersion: v1, buckets: ['logs-?'], encryption: {{key: {key}}}, options: {{{options}}}}}\n"
        );
        std::fs::write(&file, text).expect("the folder can be written");
    };
    write("");
    let verb = |args: &[&str]| {
        let args: Vec<_> = args.iter().copied().chain(["--url", &coordinator.url]).collect();
        fleet.stand.start(&args).end()
    };
    let ended = verb(&["start", &file, "--wait"]).await.expect(0);
    assert!(ended.stderr.contains("3 of 3 completed"), "{}", ended.stderr);
    let (first, count) = (ended.job(), ended.stdout.lines().count());
    assert_eq!(count, 3, "an id on each line: {}", ended.stdout);
    let list = verb(&["list", "--group", &first]).await.expect(0);
    assert_eq!(list.stdout.matches("completed").count(), 3, "{}", list.stdout);

    // Three objects, one each ten seconds.
    write("reseal: true, rate: 0.1");
    let first = verb(&["start", &file]).await.expect(0).job();
    let paused = verb(&["pause", &first, "--group"]).await.expect(0);
    assert_eq!(paused.stdout.matches("paused  (operator").count(), 3, "{}", paused.stdout);
    let cancelled = verb(&["cancel", &first, "--group"]).await.expect(0);
    assert_eq!(cancelled.stdout.lines().count(), 3, "{}", cancelled.stdout);
    let list = verb(&["list", "--group", &first]).await.expect(0);
    assert_eq!(list.stdout.matches("cancel").count(), 3, "{}", list.stdout);
}
