//! What somebody types first: the demo as each kind of store, and the verbs that need none.

mod printed;

use std::process::{Command, Output};

use printed::{before_and_after, text};

fn keyrotate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyrotate"));
    command.args(args).env_clear().output().expect("keyrotate can be started")
}

fn the_demo_rotates_as(mode: &str) {
    let ended = keyrotate(&["demo", "--objects", "40", "--mode", mode]);
    let (printed, said) = (text(&ended.stdout), text(&ended.stderr));
    assert_eq!(ended.status.code(), Some(0), "{printed}{said}");
    for gone in ["plaintext", "sse-s3", "key-a"] {
        let (before, after) = before_and_after(&printed, gone);
        assert!(before > 0 && after == 0, "{printed}");
    }
    let (before, after) = before_and_after(&printed, "key-b");
    assert!(before < 37 && after == 37, "{printed}");
    assert_eq!(before_and_after(&printed, "sse-c"), (3, 3), "{printed}");
    assert!(said.contains("target: SSE-KMS under `"), "{said}");
    assert!(!printed.contains("summary.json"), "the folder is gone, so nobody is sent there:\n{printed}");
}

#[test]
fn demo_as_aws() {
    the_demo_rotates_as("aws");
}

#[test]
fn demo_as_minio() {
    the_demo_rotates_as("minio");
}

#[test]
fn demo_as_moto() {
    the_demo_rotates_as("moto");
}

#[test]
fn demo_as_rgw() {
    the_demo_rotates_as("rgw");
}

#[test]
fn a_kept_demo_says_how_to_look_at_it_again() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let keep = dir.path().to_str().expect("a plain path");
    let ended = keyrotate(&["demo", "--objects", "20", "--mode", "minio", "--keep", keep]);
    let printed = text(&ended.stdout);
    assert!(printed.contains(&format!("keyrotate devstack --dir {keep}/stack --mode minio")), "{printed}");
    let report = printed.lines().find_map(|line| line.strip_prefix("report: ")).expect("the report is named");
    assert!(std::path::Path::new(report).exists(), "{report}");
}

#[test]
fn what_generate_prints_can_be_filled_in_and_the_schema_needs_no_file() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    for dialect in ["aistor", "minio"] {
        let file = dir.path().join(format!("{dialect}.yaml"));
        let template = text(&keyrotate(&["generate", "--dialect", dialect]).stdout);
        let filled_in = template.replace(" BUCKET", " my-bucket").replace("<new-kms-key>", "new-key");
        std::fs::write(&file, filled_in).expect("it can be written");
        let ended = keyrotate(&["validate", file.to_str().expect("a plain path")]);
        assert_eq!(ended.status.code(), Some(0), "{}{}", text(&ended.stdout), text(&ended.stderr));
    }
    let schema: serde_json::Value =
        serde_json::from_slice(&keyrotate(&["validate", "--schema"]).stdout).expect("the schema is JSON");
    assert!(schema["$schema"].is_string());
}

#[test]
fn a_rate_of_nothing_is_bad_usage() {
    assert_eq!(keyrotate(&["run", "job.yaml", "--rate", "0"]).status.code(), Some(2));
}
