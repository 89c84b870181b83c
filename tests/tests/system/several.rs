//! One file about several buckets.

use keyrotate_tests::bucket;
use keyrotate_tests::prelude::*;

/// A file of the stand's target on these entries, written into its folder.
fn file(stand: &Stand, entries: &str) -> String {
    let path = stand.dir().join("several.yaml");
    let key = &stand.target.new_key;
    let text = format!("keyrotate:\n  apiVersion: v1\n  buckets: [{entries}]\n  encryption: {{key: {key}}}\n");
    std::fs::write(&path, text).expect("the folder can be written");
    path.display().to_string()
}

/// Under what the objects of a bucket are, one after the other.
async fn keys_of(stand: &Stand, name: &str) -> Vec<String> {
    let all = bucket::snapshot(stand.client(), name).await;
    let mut seals: Vec<_> = all.into_values().map(|seen| seen.seal.replace("sse-kms:", "")).collect();
    seals.dedup();
    seals
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bucket_that_a_file_names_is_rotated_by_a_job_of_its_own() {
    let stand = Stand::embedded(Mode::minio()).await;
    let (old, new) = (stand.target.old_key.clone(), stand.target.new_key.clone());
    for name in ["logs-a", "logs-b", "data", "other"] {
        bucket::create(stand.client(), name, false).await;
        let all = ["x/1", "x/2", "y/1"].map(|key| Put::under(&old, key, format!("body of {key}")));
        bucket::put_all(stand.client(), name, all).await;
    }
    let file = file(&stand, "'logs-*', data/x/");
    let state = stand.state().display().to_string();
    let ended = stand.start(&["run", &file, "--state", &state]).end().await.expect(0);
    for line in ["1 of 3: data/x/", "2 of 3: logs-a", "logs-b   completed", "3 of 3 completed"] {
        assert!(ended.stderr.lines().any(|said| said == line), "{line}: {}", ended.stderr);
    }
    assert_eq!(ended.stdout.matches("completed without exceptions").count(), 3, "{}", ended.stdout);
    assert_eq!(keys_of(&stand, "logs-a").await, std::slice::from_ref(&new));
    assert_eq!(keys_of(&stand, "logs-b").await, std::slice::from_ref(&new));
    assert_eq!(keys_of(&stand, "data").await, [new, old.clone()]);
    assert_eq!(keys_of(&stand, "other").await, [old]);
    let list = stand.start(&["list", "--local", "--state", &state]).end().await.expect(0);
    assert!(["data/x/", "logs-a/", "logs-b/"].iter().all(|scope| list.stdout.contains(scope)), "{}", list.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_bucket_refuses_keeps_no_other_from_its_rotation() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 2).await;
    let state = stand.state().display().to_string();
    let both = file(&stand, &format!("aaa-is-not-there, {}", stand.bucket));
    let ended = stand.start(&["run", &both, "--state", &state]).end().await.expect(5);
    assert!(ended.stderr.contains("1 of 2 completed"), "{}", ended.stderr);
    assert_eq!(keys_of(&stand, &stand.bucket).await, std::slice::from_ref(&stand.target.new_key));
    let before = stand.snapshot().await;
    let idle = file(&stand, "'none-*', 'keyrotate-test-*'");
    let ended = stand.start(&["run", &idle, "--state", &state]).end().await.expect(2);
    assert!(ended.stderr.contains("the store has no bucket that `none-*` names"), "{}", ended.stderr);
    assert_eq!(stand.snapshot().await, before);
}
