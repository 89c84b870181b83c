//! A dry run, asked of a fleet by the command line.

use std::sync::Arc;

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
