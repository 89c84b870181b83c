//! Jobs about objects that are named one by one.

use std::collections::BTreeSet;

use keyrotate_tests::prelude::*;

fn changed(before: &Snapshot, after: &Snapshot) -> BTreeSet<String> {
    after.iter().filter(|(at, seen)| before.get(at) != Some(*seen)).map(|((key, _), _)| key.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_on_this_machine_is_all_that_is_looked_at() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 30).await;
    let before = stand.snapshot().await;
    let line = |key: &str| format!("{},{key}\n", stand.bucket);
    let list = ["k%2F0007", "k/none", "k/0003", "k/0007"].map(line).concat();
    std::fs::write(stand.dir().join("list.csv"), list).expect("the folder can be written");
    let job = stand.job().manifest("list.csv", "csv");
    let foretold = stand.run(&job, &["--dry-run"]).await.expect(0);
    assert!(foretold.stdout.contains("2 object versions"), "{}", foretold.stdout);
    assert_eq!(stand.snapshot().await, before, "nothing is written");
    let ended = stand.run(&job, &[]).await.expect_completed();
    assert!(ended.stderr.contains("the manifest names 3 objects; rows left out: 0 outside"), "{}", ended.stderr);
    let report = stand.report(&ended);
    assert_eq!((report.count("rotated"), report.count("skipped")), (2, 1), "{}", report.summary);
    assert_eq!(report.outcome("k/none"), "skipped/gone");
    let wanted: BTreeSet<String> = ["k/0003", "k/0007"].map(str::to_owned).into();
    assert_eq!(changed(&before, &stand.snapshot().await), wanted);
    oracle::nothing_of_ours_is_left(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_file_left_out_another_does_alone() {
    let stand = Stand::embedded(Mode::rgw()).await;
    stand.put_old("k/", 3).await;
    stand.put_all([Put::under(&stand.target.old_key, "big".to_owned(), "x".repeat(2 << 20))]).await;
    let job = JobFile::of(&stand.bucket).key(&stand.target.new_key);
    let first = stand.run(&job.clone().option("bodyTransit: 1MiB"), &[]).await.expect(3);
    let before = stand.snapshot().await;
    let more = ["--failed-of", &first.job()];
    let second = stand.run(&job.option("bodyTransit: any"), &more).await.expect_completed();
    assert_eq!(stand.report(&second).by_outcome().into_values().sum::<u64>(), 1);
    assert_eq!(changed(&before, &stand.snapshot().await), ["big".to_owned()].into());
}
