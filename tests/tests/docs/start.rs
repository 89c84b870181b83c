//! The start pages, followed to the letter: their commands in their order, in a shell and a home of their own, on the
//! embedded store as `keyrotate devstack` serves it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use keyrotate_tests::exe::executable;
use keyrotate_tests::prelude::*;
use tokio::process::Command;

use crate::pages::{blocks, page};

/// A page takes some ten seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(300);
const OBJECTS: &str = "60";

/// Starts `devstack` with something in the bucket that all pages name; with what it says to connect.
async fn devstack(mode: &str, dir: &Path) -> (Process, BTreeMap<String, String>) {
    let args = ["devstack", "--mode", mode, "--bucket", "invoices", "--objects", OBJECTS];
    let process = Process::start(args, &BTreeMap::new(), dir);
    let last = "export MINIO_KMS_KES_ENDPOINT=";
    until("devstack says how to connect", || process.stdout().lines().any(|line| line.starts_with(last))).await;
    let said = process.stdout();
    let variables = said.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (process, variables)
}

/// Runs the page's commands and gives all that was printed.
async fn follow(path: &str, variables: &BTreeMap<String, String>, home: &Path) -> String {
    let blocks = blocks(&page(path));
    let typed: String = blocks.iter().filter(|block| block.kind == "sh").map(|block| block.text.as_str()).collect();
    std::fs::write(home.join("page.sh"), format!("exec 2>&1\n{typed}")).expect("the test's folder can be written");
    let folder = executable().parent().expect("it lies in a folder").display().to_string();
    let path_of_all = format!("{folder}:{}", std::env::var("PATH").expect("a PATH"));
    let mut bash = Command::new("bash");
    let bash = bash.args(["-eu", "-o", "pipefail", "page.sh"]).current_dir(home).stdin(Stdio::null());
    let bash = bash.env_clear().envs(variables).env("HOME", home).env("PATH", path_of_all).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, bash.output()).await.expect("the page ends").expect("bash can be run");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{path}: {:?}\n{said}", ended.status.code());
    said
}

/// A line without what differs from run to run: numbers, the job's id, how wide a table is.
fn plain(line: &str) -> String {
    let word = |word: &str| match word {
        word if word.len() == 26 && word.starts_with("01") => "ID".to_owned(),
        word => word.split(|c: char| c.is_ascii_digit() || c == '.').filter(|piece| !piece.is_empty()).collect(),
    };
    line.split_whitespace().map(word).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What the page shows as printed was printed.
fn shows_what_is_said(path: &str, said: &str) {
    let said: Vec<String> = said.lines().map(plain).collect();
    let blocks = blocks(&page(path));
    let shown: Vec<&str> =
        blocks.iter().filter(|block| block.kind == "text").flat_map(|block| block.text.lines()).collect();
    assert!(!shown.is_empty(), "{path} shows nothing");
    for line in shown {
        assert!(said.contains(&plain(line)), "{path} shows `{line}`, which is not said:\n{}", said.join("\n"));
    }
}

async fn is_followed(path: &str, mode: &str, environment: impl Fn(&BTreeMap<String, String>) -> Vec<(String, String)>) {
    let dir = tempfile::tempdir().expect("there is room for a temporary folder");
    let (stack, variables) = devstack(mode, dir.path()).await;
    let home = dir.path().join("home");
    std::fs::create_dir(&home).expect("the test's folder can be written");
    let said = follow(path, &environment(&variables).into_iter().collect(), &home).await;
    for proof in ["Completed without exceptions", "hashes, sums and chains agree"] {
        assert!(said.contains(proof), "{path}: `{proof}` is not said:\n{said}");
    }
    shows_what_is_said(path, &said);
    let _killed = stack.kill().await;
}

/// Only what names the store, as where there is no KES.
fn store_alone(variables: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let of_aws = variables.iter().filter(|(name, _)| name.starts_with("AWS_"));
    let of_aws = of_aws.map(|(name, value)| (name.clone(), value.clone()));
    // Made by a tool of the store.
    of_aws.chain([("NEW_KEY".to_owned(), "key-b".to_owned())]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_is_followed_to_the_end() {
    is_followed("docs/start/minio.md", "minio", |variables| {
        let of = |name: &str| variables[name].as_str();
        let host = of("AWS_ENDPOINT_URL").trim_start_matches("http://");
        let alias = format!("http://{}:{}@{host}", of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY"));
        let kes = variables.iter().filter(|(name, _)| name.starts_with("MINIO_KMS_KES_"));
        let kes = kes.map(|(name, value)| (name.clone(), value.clone()));
        kes.chain([("MC_HOST_minio".to_owned(), alias)]).collect()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_is_followed_to_the_end() {
    is_followed("docs/start/aws.md", "aws", store_alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_is_followed_to_the_end() {
    is_followed("docs/start/ceph.md", "rgw", store_alone).await;
}

#[test]
fn lines_are_compared_without_what_differs() {
    assert_eq!(plain(" rotated   key   340   Done.  "), "rotated key Done");
    assert_eq!(plain("job 01m8k9ce73xnv1k6e1v4sm47x6 took 16.8 s"), "job ID took s");
}
