//! What must hold after every job, whatever it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyrotate_report::finish::check as check_report;
use keyrotate_report::store::{FolderStore, ReportStore};
use sha2::{Digest, Sha256};

use crate::bucket::{self, Snapshot, bare};
use crate::exe::Ended;
use crate::job::JobFile;
use crate::old_keys;
use crate::report::{self, Report, Row, outcome, plain};
use crate::stand::Stand;

/// What a test did meanwhile, and what it wants.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// Keys that the test itself wrote or deleted during the job.
    pub touched: BTreeSet<String>,
    /// The encryption that was wanted; `None`: SSE-KMS under the target's new key.
    pub seal: Option<String>,
    /// Only keys that begin with it are in scope.
    pub prefix: String,
    /// Whether a second run writes again by its nature: SSE-S3 shows no key that could be compared.
    pub writes_again: bool,
}

impl Expect {
    /// The encryption that was wanted.
    pub(crate) fn wanted(&self, stand: &Stand) -> String {
        self.seal.clone().unwrap_or_else(|| format!("sse-kms:{}", bare(&stand.target.new_key)))
    }
}

/// Checks a job that completed: its report, content, sums, rows, old keys, leftovers, then a second run, what somebody read all the while,
/// and at last, where the KES is ours, what is readable without the old key. The old key is gone afterwards.
///
/// # Panics
/// With what does not hold.
pub async fn check(stand: &Stand, job: &JobFile, before: &Snapshot, ended: &Ended, expect: &Expect) -> Report {
    let report = stand.report(ended);
    let after = stand.snapshot().await;
    is_whole(stand, ended, &report).await;
    content_is_as_before(before, &after, &report, expect);
    sums_add_up(&report);
    rows_are_the_listing(before, &report, expect);
    rotated_is_under_the_key(stand, &after, &report, expect);
    old_keys::check(stand, before, &after, &report, expect).await;
    nothing_of_ours_is_left(stand).await;
    if !expect.writes_again {
        a_second_run_writes_nothing(stand, job, &after).await;
    }
    every_read_was_right(stand, before, expect).await;
    // Elsewhere the key that HEAD shows stands for it, which was looked at above.
    if stand.target.stack().is_some() {
        without_the_old_key(stand, &after).await;
    }
    report
}

/// The report's folder by keyrotate's own check, which needs neither store nor checkpoint: hashes, sums, chains.
///
/// # Panics
/// With what does not hold.
pub async fn is_whole(stand: &Stand, ended: &Ended, report: &Report) {
    let folder = report::find(&stand.state(), &ended.job()).expect("the job has a folder");
    let store: Arc<dyn ReportStore> = Arc::new(FolderStore::open(&folder).expect("it can be opened"));
    let checked =
        check_report(&store, &report::under(&folder)).await.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    assert_eq!(checked.rows, report.rows.len() as u64, "rows of the report's files");
    assert!(checked.parts > 0 || report.rows.is_empty(), "rows come from parts");
}

/// Body, headers, metadata, tags of every version that was there are the same, under its own id or, for the current
/// one, under the id that its row names.
fn content_is_as_before(before: &Snapshot, after: &Snapshot, report: &Report, expect: &Expect) {
    let moved: BTreeMap<(&str, &str), &str> = report
        .rows
        .iter()
        .filter(|row| !row["version_after"].is_empty())
        .map(|row| ((row["key"].as_str(), plain(&row["version"])), plain(&row["version_after"])))
        .collect();
    for ((key, version), was) in before.iter().filter(|((key, _), _)| !expect.touched.contains(key)) {
        let kept = after.get(&(key.clone(), version.clone()));
        let kept = kept.unwrap_or_else(|| {
            let there: Vec<_> = after.keys().filter(|(other, _)| other == key).collect();
            let rows: Vec<_> = report.of(key).collect();
            panic!("{key} ({version}) is gone; there is {there:?}; the report says {rows:#?}")
        });
        assert_eq!(kept.content, was.content, "{key} ({version})");
        if let Some(id) = moved.get(&(key.as_str(), version.as_str())) {
            let new = after.get(&(key.clone(), (*id).to_owned()));
            let new = new.unwrap_or_else(|| panic!("{key}: version {id}, which the report names, is not there"));
            assert_eq!(new.content, was.content, "{key} ({version} became {id})");
            assert!(new.latest || !was.latest, "{key}: {id} should be the current version");
        }
    }
}

/// `scanned` is the sum of the outcomes, which are the sums of the rows.
fn sums_add_up(report: &Report) {
    let mut counted = BTreeMap::new();
    for row in &report.rows {
        *counted.entry(outcome(row)).or_insert(0_u64) += 1;
    }
    assert_eq!(report.by_outcome(), counted, "summary and rows");
    assert_eq!(report.number("/scanned"), report.rows.len() as u64, "scanned");
    assert!(report.summary.get("checkpointCounts").is_none(), "the checkpoint counted otherwise: {}", report.summary);
}

/// Every version in scope that was there has one row, and no row is about anything else.
fn rows_are_the_listing(before: &Snapshot, report: &Report, expect: &Expect) {
    let touched = |key: &str| expect.touched.contains(key);
    let listed: BTreeSet<(String, String)> =
        before.keys().filter(|(key, _)| key.starts_with(&expect.prefix) && !touched(key)).cloned().collect();
    let mut seen = BTreeSet::new();
    for row in report.contents().filter(|row| !touched(&row["key"])) {
        let version = (row["key"].clone(), plain(&row["version"]).to_owned());
        assert!(seen.insert(version.clone()), "two rows of {version:?}");
    }
    let superseded = |version: &(String, String)| {
        report
            .of(&version.0)
            .any(|row| plain(&row["version_after"]) == version.1 && row["version"] != row["version_after"])
    };
    let surplus: Vec<_> = seen.difference(&listed).filter(|version| !superseded(version)).collect();
    assert!(surplus.is_empty(), "rows of what was never listed: {surplus:?}");
    let missing: Vec<_> = listed.difference(&seen).collect();
    assert!(missing.is_empty(), "listed and without a row: {missing:?}");
}

/// HEAD shows the wanted key for all that is called `rotated` or `current`, and the report's `after` is true.
fn rotated_is_under_the_key(stand: &Stand, after: &Snapshot, report: &Report, expect: &Expect) {
    let wanted = expect.wanted(stand);
    for row in report.contents().filter(|row| !expect.touched.contains(&row["key"])) {
        let Some(now) = after.get(&now_at(row)) else { panic!("{row:?} is not there any more") };
        if matches!(row["outcome"].as_str(), "rotated" | "current") {
            assert_eq!(now.seal, wanted, "{row:?}");
        }
        if row["after"] != "unknown" {
            let said = row["after"]
                .split_once(':')
                .map_or(row["after"].clone(), |(kind, key)| format!("{kind}:{}", bare(key)));
            assert_eq!(said, now.seal, "{row:?}");
        }
    }
}

/// No probe, no lease, no open upload.
///
/// # Panics
/// With what is left.
pub async fn nothing_of_ours_is_left(stand: &Stand) {
    let listed = bucket::list(stand.client(), &stand.bucket).await;
    let ours: Vec<_> = listed.iter().filter(|one| one.key.starts_with(".keyrotate/")).collect();
    assert!(ours.is_empty(), "left in the bucket: {ours:?}");
    let uploads = bucket::open_uploads(stand.client(), &stand.bucket).await;
    assert!(uploads.is_empty(), "uploads left open: {uploads:?}");
}

/// Starts the same file again: a new job, which finds everything done and writes nothing.
///
/// # Panics
/// When it writes, or does not complete.
pub async fn a_second_run_writes_nothing(stand: &Stand, job: &JobFile, after: &Snapshot) {
    let again = stand.run(job, &[]).await.expect_completed();
    let report = stand.report(&again);
    assert_eq!(report.count("rotated"), 0, "a second run rotates nothing: {}", report.summary);
    sums_add_up(&report);
    is_whole(stand, &again, &report).await;
    let now = stand.snapshot().await;
    nothing_was_written(after, &now, "a second run");
    nothing_of_ours_is_left(stand).await;
}

/// Two pictures of a bucket are the same.
///
/// # Panics
/// With the first version that `whoever` touched.
pub fn nothing_was_written(before: &Snapshot, now: &Snapshot, whoever: &str) {
    for (version, seen) in now {
        assert_eq!(before.get(version), Some(seen), "{version:?} was written by {whoever}");
    }
    assert_eq!(now.len(), before.len(), "{whoever} removed versions");
}

/// All through the job, the runs before it and the second one, no read failed or gave another body.
async fn every_read_was_right(stand: &Stand, before: &Snapshot, expect: &Expect) {
    let reads = stand.reads().await.expect("a job was begun, and with it the reader");
    assert!(reads.count > 0 || before.is_empty(), "nobody read");
    let current = before.iter().filter(|((key, _), was)| was.latest && !expect.touched.contains(key));
    for ((key, _), was) in current {
        let Some(sha256) = &was.content.sha256 else { continue };
        for read in reads.of.get(key).into_iter().flatten() {
            assert_eq!(read.as_ref(), Ok(sha256), "a read of {key} while the job ran");
        }
    }
}

/// Deletes the old key. Every version that HEAD shows under it can't be read any more, so that it was truly sealed by
/// it; every other one comes back byte for byte, so that nothing secretly needs it.
///
/// # Panics
/// When it is otherwise.
pub async fn without_the_old_key(stand: &Stand, after: &Snapshot) {
    let stack = stand.target.stack().expect("an embedded target");
    stack.kes().delete_key(&stand.target.old_key).expect("the old key was there");
    let old = [format!("sse-kms:{}", stand.target.old_key), format!("dsse:{}", stand.target.old_key)];
    for ((key, version), seen) in after {
        let Some(sha256) = &seen.content.sha256 else { continue };
        let got = bucket::get(stand.client(), &stand.bucket, key, bucket::id_of(version, seen.latest)).await;
        match got {
            Ok(_) if old.contains(&seen.seal) => panic!("{key} ({version}) is under the old key, and opens without it"),
            Err(error) if !old.contains(&seen.seal) => panic!("{key} ({version}) needs the old key: {error}"),
            Ok(body) => assert_eq!(hex::encode(Sha256::digest(&body)), *sha256, "{key} ({version})"),
            Err(_) => {}
        }
    }
}

/// Where the content of a row is now.
fn now_at(row: &Row) -> (String, String) {
    let version = if row["version_after"].is_empty() { &row["version"] } else { &row["version_after"] };
    (row["key"].clone(), plain(version).to_owned())
}
