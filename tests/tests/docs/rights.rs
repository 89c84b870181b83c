//! `docs/least-privilege.md` held against what keyrotate does: no right is missing there, and none is too much.

use std::collections::{BTreeMap, BTreeSet};

use keyrotate_devstack::kes::Policy;
use keyrotate_devstack::model::BucketSettings;
use keyrotate_devstack::stack::{DevStack, StackConfig};
use keyrotate_tests::prelude::*;
use serde_json::Value;

use crate::pages::{blocks, page, root};

const PAGE: &str = "docs/least-privilege.md";
/// What reading an object asks for: the headers of its answer tell of locks, too.
const READ: &[&str] =
    &["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold", "s3:ListBucket"];
/// A write gives the object its lock again.
const WRITE: &[&str] = &["s3:PutObject", "s3:PutObjectTagging", "s3:PutObjectRetention", "s3:PutObjectLegalHold"];

const COPY: &[&str] = &[
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:PutObject",
    "s3:PutObjectTagging",
    "s3:PutObjectRetention",
    "s3:PutObjectLegalHold",
];

/// The rights that a call of the SDK needs.
struct Rights {
    call: &'static str,
    aws: &'static [&'static str],
    minio: &'static [&'static str],
}

const fn on_both(call: &'static str, rights: &'static [&'static str]) -> Rights {
    Rights { call, aws: rights, minio: rights }
}

/// Of each call. One that stands in no row fails the test: give it a row, and its rights to the page.
const RIGHTS: &[Rights] = &[
    on_both("abort_multipart_upload", &["s3:AbortMultipartUpload"]),
    on_both("complete_multipart_upload", WRITE),
    on_both("copy_object", COPY),
    on_both("create_multipart_upload", WRITE),
    on_both("delete_object", &["s3:DeleteObject", "s3:DeleteObjectVersion"]),
    on_both("get_bucket_encryption", &["s3:GetEncryptionConfiguration"]),
    on_both("get_bucket_lifecycle_configuration", &["s3:GetLifecycleConfiguration"]),
    on_both("get_bucket_location", &["s3:GetBucketLocation"]),
    on_both("get_bucket_notification_configuration", &["s3:GetBucketNotification"]),
    Rights { call: "get_bucket_ownership_controls", aws: &["s3:GetBucketOwnershipControls"], minio: &[] },
    on_both("get_bucket_replication", &["s3:GetReplicationConfiguration"]),
    on_both("get_bucket_versioning", &["s3:GetBucketVersioning"]),
    on_both("get_object", READ),
    Rights {
        call: "get_object_acl",
        aws: &["s3:GetObjectAcl", "s3:GetObjectVersionAcl"],
        minio: &["s3:GetBucketPolicy"],
    },
    on_both("get_object_lock_configuration", &["s3:GetBucketObjectLockConfiguration"]),
    on_both("get_object_tagging", &["s3:GetObjectTagging", "s3:GetObjectVersionTagging"]),
    on_both("head_object", READ),
    // No job makes it: whoever starts a file with patterns in `buckets` does, and the page says so below the policies.
    on_both("list_buckets", &[]),
    on_both("list_multipart_uploads", &["s3:ListBucketMultipartUploads"]),
    on_both("list_object_versions", &["s3:ListBucketVersions"]),
    on_both("list_objects_v2", &["s3:ListBucket"]),
    on_both("list_parts", &["s3:ListMultipartUploadParts"]),
    on_both("put_object", WRITE),
    Rights { call: "update_object_encryption", aws: &["s3:PutObject", "s3:UpdateObjectEncryption"], minio: &[] },
    on_both("upload_part", WRITE),
    on_both("upload_part_copy", COPY),
];

/// The calls of the SDK's client in the store's sources.
fn calls() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("store/src/s3")).expect("the store's sources") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source can be read");
        let text: String = text.split_whitespace().collect();
        for after in text.split("client.").skip(1) {
            let name: String =
                after.chars().take_while(|c| c.is_ascii_lowercase() || matches!(c, '_' | '0'..='9')).collect();
            if after[name.len()..].starts_with("()") {
                found.insert(name);
            }
        }
    }
    found
}

/// The actions of a policy on the page.
fn allowed(kind: &str) -> BTreeSet<String> {
    let blocks = blocks(&page(PAGE));
    let policy = blocks.iter().find(|block| block.kind == kind).unwrap_or_else(|| panic!("no block `{kind}`"));
    let policy: Value = serde_json::from_str(&policy.text).expect("a policy is JSON");
    let statements = policy["Statement"].as_array().expect("statements");
    let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().expect("actions"));
    actions.map(|action| action.as_str().expect("a name").to_owned()).collect()
}

#[test]
fn the_policies_have_the_rights_of_every_call_and_no_more() {
    let known: BTreeSet<_> = RIGHTS.iter().map(|rights| rights.call.to_owned()).collect();
    assert_eq!(calls(), known, "a call without its rights, or rights without their call");
    let all = |of: fn(&Rights) -> &'static [&'static str]| -> BTreeSet<String> {
        RIGHTS.iter().flat_map(of).map(|action| (*action).to_owned()).collect()
    };
    for (kind, needed) in [("json aws", all(|rights| rights.aws)), ("json minio", all(|rights| rights.minio))] {
        let allowed = allowed(kind);
        let (missing, more): (Vec<_>, Vec<_>) =
            (needed.difference(&allowed).collect(), allowed.difference(&needed).collect());
        assert!(
            missing.is_empty() && more.is_empty(),
            "`{kind}` lacks {missing:?}, and has {more:?} which nothing needs"
        );
    }
}

/// Sets of actions by statement.
fn statements(policy: &Value) -> BTreeMap<String, (BTreeSet<String>, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let of = |statement: &Value| {
        let actions = statement["Action"].as_array().expect("actions").iter().map(text).collect();
        (text(&statement["Sid"]), (actions, text(&statement["Resource"])))
    };
    policy["Statement"].as_array().expect("statements").iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_permissions_prints_for_a_whole_bucket() {
    let dir = tempfile::tempdir().expect("there is room for a temporary folder");
    let file = dir.path().join("job.yaml").display().to_string();
    let text = "keyrotate:\n  apiVersion: v1\n  bucket: invoices\n  encryption: {}\n  flags: {filter: {forceEncryptLocked: true}}\n";
    std::fs::write(&file, text).expect("the test's folder can be written");
    for (kind, format) in [("json aws", "aws-policy"), ("json minio", "minio-policy")] {
        let printed = Process::start(["permissions", &file, "--format", format], &BTreeMap::new(), dir.path());
        let printed = printed.end().await.expect(0);
        let printed: Value = serde_json::from_str(&printed.stdout).expect("a policy is JSON");
        let shown = blocks(&page(PAGE)).into_iter().find(|block| block.kind == kind).expect("a policy on the page");
        let shown: Value = serde_json::from_str(&shown.text.replace("BUCKET", "invoices")).expect("a policy is JSON");
        assert_eq!(statements(&shown), statements(&printed), "{kind}");
    }
}

/// The paths of the page's policy for KES.
fn kes_paths() -> Vec<String> {
    let blocks = blocks(&page(PAGE));
    let policy = blocks.iter().find(|block| block.kind == "yaml").expect("a policy for KES");
    let policy: Value = serde_yaml::from_str(&policy.text).expect("YAML");
    let paths = policy["policy"]["keyrotate"]["allow"].as_array().expect("a list").iter();
    paths.map(|path| path.as_str().expect("a path").to_owned()).collect()
}

/// A stack whose KES allows these paths, and what a child needs to use it.
async fn stack_with(paths: Vec<String>) -> (DevStack, BTreeMap<String, String>) {
    let config = StackConfig { kes_policy: Policy::allow(paths), ..StackConfig::new(Mode::minio()) };
    let stack = DevStack::start(config).await.expect("the embedded stack starts");
    stack.model().create_bucket("invoices", BucketSettings::plain()).expect("a bucket can be made");
    keyrotate_devstack::mixed::fill(stack.model(), "invoices", 40, "key-a", "key-b").await.expect("it is filled");
    let variables = stack.variables();
    (stack, variables)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_needs_no_more_of_kes_than_the_page_says() {
    let paths = kes_paths();
    let (needed, convenient): (Vec<_>, Vec<_>) =
        paths.iter().cloned().partition(|path| path.contains("/generate/") || path.contains("/decrypt/"));
    assert_eq!((needed.len(), convenient.len()), (2, 4), "{paths:?}");
    let dir = tempfile::tempdir().expect("there is room for a temporary folder");
    let file = dir.path().join("job.yaml").display().to_string();
    std::fs::write(&file, JobFile::of("invoices").key("key-b").text()).expect("the test's folder can be written");
    let keyrotate = async |args: &[&str], variables: &BTreeMap<String, String>| {
        Process::start(args.iter().copied(), variables, dir.path()).end().await
    };
    let run = ["run", &file, "--no-wait"];

    let (_stack, variables) = stack_with(needed.clone()).await;
    let _ran = keyrotate(&run, &variables).await.expect_completed();
    let refused = keyrotate(&["key", "create", "key-c"], &variables).await;
    assert_ne!(refused.code, Some(0), "{}", refused.stdout);

    let (_stack, variables) = stack_with(paths).await;
    let _made = keyrotate(&["key", "create", "key-c"], &variables).await.expect(0);
    let listed = keyrotate(&["key", "list"], &variables).await.expect(0);
    assert!(listed.stdout.contains("key-c"), "{}", listed.stdout);
    let doctor = keyrotate(&["doctor", "--key", "key-c"], &variables).await.expect(0);
    assert!(!doctor.stdout.contains("not authorized"), "{}", doctor.stdout);

    for missing in &needed {
        let rest = needed.iter().filter(|path| *path != missing).cloned().collect();
        let (_stack, variables) = stack_with(rest).await;
        let stopped = keyrotate(&run, &variables).await;
        assert!(!matches!(stopped.code, Some(0 | 3)), "{missing} is not needed:\n{}", stopped.stdout);
    }
}

#[test]
fn the_page_leads_to_the_files_that_the_fleet_is_tested_with() {
    let page = page(PAGE);
    for path in ["deploy/redis/users.acl", "deploy/rabbitmq/definitions.json"] {
        assert!(page.contains(&format!("(../{path})")) && root().join(path).exists(), "{path}");
    }
}
