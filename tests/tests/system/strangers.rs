//! Two `run`s with state folders of their own on one bucket: neither knows of the other.

use std::sync::Arc;

use keyrotate_tests::bucket;
use keyrotate_tests::exe::job_id;
use keyrotate_tests::prelude::*;

/// The same job file, run from another state folder.
fn elsewhere(stand: &Stand, job: &JobFile) -> Process {
    let (file, state) = (stand.write(job).display().to_string(), stand.dir().join("elsewhere").display().to_string());
    stand.start(&["run", &file, "--no-wait", "--state", &state])
}

async fn the_second_waits_for_the_first(stand: &Stand) {
    stand.put_old("k/", 100).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    let mut first = stand.begin(&job, &["--rate", "20"]);
    until("the first rotates", || first.has_ended() || first.stderr().contains("running")).await;
    assert!(!first.has_ended(), "{}", first.stderr());
    let id = job_id(&first.stderr()).expect("its first line names the job");
    let second = elsewhere(stand, &job).end().await.expect(5);
    let said = format!("{}{}", second.stdout, second.stderr);
    for part in ["another keyrotate works on this bucket", &id, "others may begin at"] {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }
    let ended = first.end().await.expect_completed();
    assert_eq!(stand.report(&ended).count("rotated"), 100);
    let listed = bucket::list_with_markers(stand.client(), &stand.bucket).await;
    let ours: Vec<_> = listed.iter().filter(|one| one.key.starts_with(".keyrotate/")).collect();
    assert!(ours.is_empty(), "left in the bucket: {ours:?}");
    let third = elsewhere(stand, &job).end().await.expect_completed();
    assert_ne!(third.job(), id);
    oracle::check(stand, &job, &before, &ended, &Expect::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_do_not_know_each_other_never_work_at_once() {
    the_second_waits_for_the_first(&Stand::embedded(Mode::aws()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_in_a_bucket_with_versions_on_minio() {
    the_second_waits_for_the_first(&Stand::on(Arc::new(Target::embedded(Mode::minio()).await), true).await).await;
}
