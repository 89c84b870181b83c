//! A store on which every body must pass through keyrotate: the operator is asked once.

use keyrotate_tests::prelude::*;

/// A bucket on such a store.
async fn stand() -> Stand {
    let stand = Stand::embedded(Mode::rgw()).await;
    stand.put_old("k/", 3).await;
    let old = stand.target.old_key.clone();
    stand.put_all([Put::under(&old, "big".to_owned(), "x".repeat(2 << 20))]).await;
    stand
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_say_whether_bodies_may_pass_is_refused_with_an_estimate() {
    let stand = stand().await;
    let before = stand.snapshot().await;
    let job = JobFile::of(&stand.bucket).key(&stand.target.new_key);
    let ended = stand.run(&job, &["--no-wait"]).await.expect(5);
    let text = format!("{}{}", ended.stdout, ended.stderr);
    for part in ["only GET + PUT", "~4 objects with ~2.0 MiB in scope", "set `bodyTransit: any`"] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    assert_eq!(stand.snapshot().await, before, "nothing was touched");
    oracle::nothing_of_ours_is_left(&stand).await;
    // The answer in the file is all that it takes.
    let ended = stand.run(&job.option("bodyTransit: any"), &["--replace"]).await.expect(0);
    assert!(ended.stderr.contains("~4 objects with ~2.0 MiB in scope"), "{}", ended.stderr);
    let after = stand.snapshot().await;
    assert!(after.values().all(|seen| seen.seal.contains(&stand.target.new_key)), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_in_the_file_is_an_answer_and_what_is_larger_is_listed() {
    let stand = stand().await;
    let job = JobFile::of(&stand.bucket).key(&stand.target.new_key).option("bodyTransit: 1MiB");
    let ended = stand.run(&job, &[]).await.expect(3);
    assert!(
        ended.stderr.contains("those over 1048576 bytes (`bodyTransit`) are skipped and listed"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.contains("body-transit"), "{}", ended.stdout);
}
