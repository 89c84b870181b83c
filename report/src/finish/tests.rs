use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::{Evidence, FailReason, FilterReason, Outcome, SkipReason, Strategy};
use keyrotate_proto::row::{Row, Seal};
use keyrotate_proto::spec;

use super::*;
use crate::testing::{input, range, row, shard};
use crate::{FolderStore, MemoryStore};

fn with(mut row: Row, change: impl FnOnce(&mut Row)) -> Row {
    change(&mut row);
    row
}

fn under(key: &str) -> Seal {
    Seal::SseKms(KeyName(key.into()))
}

async fn two_passes(store: &dyn ReportStore) -> Vec<(PassId, Vec<ShardParts>)> {
    let rotated = Outcome::Rotated(Evidence::Key);
    let walk = [
        with(row("a", Some("1"), rotated), |r| {
            (r.strategy, r.version_after) = (Some(Strategy::Copy), Some("2".into()))
        }),
        row("b", None, Outcome::Failed(FailReason::Store)),
        with(row("c", None, Outcome::Current), |r| r.after = under("new")),
        row("d", None, Outcome::Conflict),
        with(row("e", None, rotated), |r| (r.before, r.strategy) = (under("older"), Some(Strategy::Rewrite))),
        row("f", None, Outcome::Skipped(SkipReason::Locked)),
        with(row("g", None, Outcome::Skipped(SkipReason::SseC)), |r| r.after = Seal::SseC),
    ];
    let retry = [with(row("b", None, rotated), |r| r.strategy = Some(Strategy::Rewrite))];
    let first = shard(store, 1, 0, range("", Some("d")), &walk[..3], 2).await;
    let second = shard(store, 1, 1, range("d", None), &walk[3..], 2).await;
    let again = shard(store, 2, 0, range("", None), &retry, 2).await;
    vec![(PassId(1), vec![first, second]), (PassId(2), vec![again])]
}

#[tokio::test]
async fn what_minio_seals_by_its_default_key_leaves_no_other_key_unneeded() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn ReportStore> = Arc::new(FolderStore::open(dir.path()).unwrap());
    let rotated = Outcome::Rotated(Evidence::Key);
    let rows = [
        with(row("a", None, rotated), |r| (r.before, r.strategy) = (under("older"), Some(Strategy::Rewrite))),
        with(row("b", None, Outcome::Filtered(FilterReason::KmsKey)), |r| {
            (r.before, r.after) = (Seal::SseS3, Seal::SseS3)
        }),
    ];
    for (is_minio, needed) in [(true, "not known"), (false, "not needed")] {
        let parts = shard(&*store, 1, u32::from(is_minio), range("", None), &rows, 2).await;
        let input = FinishInput { is_minio, ..input(vec![(PassId(1), vec![parts])]) };
        let verdict = format!("{:?}", old(&finish(&store, input).await.unwrap(), "older").verdict);
        assert_eq!(verdict.starts_with("NotKnown"), needed == "not known", "{verdict}");
    }
}

fn old<'a>(summary: &'a Summary, key: &str) -> &'a OldKey {
    summary.old_keys.iter().find(|old| old.key == key).unwrap()
}

#[tokio::test]
async fn the_report_is_the_last_rows_with_what_still_needs_the_old_keys() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn ReportStore> = Arc::new(FolderStore::open(dir.path()).unwrap());
    let input = input(two_passes(&*store).await);
    let summary = finish(&store, input.clone()).await.unwrap();
    assert_eq!((summary.scanned, summary.counts.of("rotated"), summary.counts.of("failed")), (7, 3, 0));
    assert_eq!(summary.checkpoint_counts, Some(Counts::default()), "the checkpoint counted otherwise: said so");
    assert_eq!(summary.exceptions, [("sse-c".to_owned(), 1), ("superseded".to_owned(), 1)].into());
    assert_eq!(summary.exceptions.values().sum::<u64>(), summary.counts.exceptions());
    assert_eq!(summary.failed.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["d"]);
    assert_eq!(summary.strategies[&Strategy::Rewrite], StrategyCount { versions: 2, bytes: 20 });
    let still = [("conflict", 1), ("skipped/locked", 1), ("superseded", 1)].map(|(k, n)| (k.to_owned(), n)).into();
    assert_eq!((old(&summary, "old").left, &old(&summary, "old").still), (2, &Left { versions: 3, by_reason: still }));
    assert_eq!(old(&summary, "old").verdict, Verdict::Needed);
    let clean = Verdict::NotNeeded { checked_at: Timestamp::from_second(50).unwrap(), versions_listed: 7 };
    assert_eq!(old(&summary, "older").verdict, clean);
    assert_eq!(summary.scope_notes.len(), 2);
    let command = r"aws --endpoint-url 'https://s:9000' s3api abort-multipart-upload --bucket 'b' --key='it'\''s' --upload-id='-u'";
    assert_eq!(summary.leftover_uploads[0].command, command);

    let text = store.get("summary.json").await.unwrap();
    assert!(!String::from_utf8_lossy(&text).contains("s3cr3t"));
    assert_eq!(serde_json::from_slice::<Summary>(&text).unwrap(), summary);
    let checked = check_folder(dir.path()).await.unwrap();
    assert_eq!(checked, Checked { rows: 7, files: 1, parts: 5 });

    let names = store.list("").await.unwrap();
    let mut before = Vec::new();
    for name in &names {
        before.push(store.get(name).await.unwrap());
    }
    finish(&store, input).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), names);
    for (name, bytes) in names.iter().zip(before) {
        assert_eq!(store.get(name).await.unwrap(), bytes, "{name}");
    }
}

#[test]
fn readers_and_the_finisher_may_move_between_threads() {
    fn moves(_: impl Send) {}
    let store: Arc<dyn ReportStore> = Arc::new(MemoryStore::new());
    let mut rows = LastRows::open(Arc::clone(&store), Vec::new(), range("", None));
    moves(rows.next_key());
    moves(finish(&store, input(Vec::new())));
    moves(check(&store, ""));
}

#[tokio::test]
async fn no_key_is_called_unneeded_unless_everything_was_seen() {
    let store: Arc<dyn ReportStore> = Arc::new(MemoryStore::new());
    let rotated = row("a", None, Outcome::Rotated(Evidence::Key));
    let unseen = with(row("b", None, Outcome::Filtered(FilterReason::OlderThan)), |r| r.after = Seal::Unknown);
    let one = shard(&*store, 1, 0, range("", None), std::slice::from_ref(&rotated), 2).await;
    let both = shard(&*store, 2, 0, range("", None), &[rotated, unseen], 2).await;
    let verdict = async |parts: ShardParts, checked| {
        let input = FinishInput { checked, ..input(vec![(PassId(1), vec![parts])]) };
        old(&finish(&store, input).await.unwrap(), "old").verdict.clone()
    };
    let checked = Some((Timestamp::UNIX_EPOCH, 2));
    assert!(matches!(verdict(one.clone(), checked).await, Verdict::NotNeeded { versions_listed: 2, .. }));
    assert!(matches!(verdict(one.clone(), None).await, Verdict::NotKnown { .. }));
    assert!(matches!(verdict(both, checked).await, Verdict::NotKnown { .. }));
    let mut named = FinishInput { checked: None, ..input(vec![(PassId(1), vec![one])]) };
    named.spec.manifest = Some(spec::Manifest::Csv { location: spec::Location::File("list.csv".into()) });
    let verdict = old(&finish(&store, named).await.unwrap(), "old").verdict.clone();
    assert!(matches!(verdict, Verdict::NotKnown { why } if why.contains("its manifest names")));
}

#[tokio::test]
async fn every_damaged_or_missing_file_is_found() {
    let memory = Arc::new(MemoryStore::new());
    let store: Arc<dyn ReportStore> = Arc::clone(&memory) as _;
    finish(&store, input(two_passes(&*store).await)).await.unwrap();
    check(&store, "").await.unwrap();
    for name in store.list("").await.unwrap() {
        let good = store.get(&name).await.unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        store.put(&name, bad).await.unwrap();
        assert!(name == "manifest.json" || check(&store, "").await.is_err(), "{name} damaged");
        memory.remove(&name);
        assert!(matches!(check(&store, "").await, Err(ReportError::NotFound(n)) if n == name));
        store.put(&name, good).await.unwrap();
    }
    check(&store, "").await.unwrap();
}

/// What is wrong with the report, in words.
async fn faults(store: &Arc<dyn ReportStore>) -> String {
    let faults = check_all(store, "").await.unwrap_err();
    faults.iter().map(|fault| keyrotate_proto::say::chain(fault)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn every_fault_is_named_not_the_first_alone() {
    let store: Arc<dyn ReportStore> = Arc::new(MemoryStore::new());
    finish(&store, input(two_passes(&*store).await)).await.unwrap();
    let parts: Vec<_> = store.list("parts/").await.unwrap();
    let (one, other) = (store.get(&parts[0]).await.unwrap(), store.get(&parts[1]).await.unwrap());
    store.put(&parts[0], other).await.unwrap();
    store.put(&parts[1], one).await.unwrap();
    let said = faults(&store).await;
    assert!(parts[..2].iter().all(|part| said.contains(&format!("`{part}`: its size or hash"))), "{said}");
}

#[tokio::test]
async fn a_sum_that_was_changed_is_found_though_the_hashes_were_mended() {
    let store: Arc<dyn ReportStore> = Arc::new(MemoryStore::new());
    let good = finish(&store, input(two_passes(&*store).await)).await.unwrap();
    type Change = fn(&mut Summary);
    let changes: [(&str, Change); 6] = [
        ("counts", |s| s.counts.rotated_bytes += 1),
        ("scanned", |s| s.scanned -= 1),
        ("exceptions", |s| s.exceptions.clear()),
        ("oldKeys", |s| s.old_keys[0].still.versions = 0),
        ("keyFlows", |s| s.key_flows[0].versions += 1),
        ("failed", |s| s.failed.clear()),
    ];
    let text = store.get("manifest.json").await.unwrap();
    for (name, change) in changes {
        let mut summary = good.clone();
        change(&mut summary);
        let mut manifest: Manifest = serde_json::from_slice(&text).unwrap();
        manifest.summary = files::put_json(&store, "summary.json", &summary).await.unwrap();
        files::put_json(&store, "manifest.json", &manifest).await.unwrap();
        let said = faults(&store).await;
        assert!(said.contains("`summary.json`") && said.contains(name), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_chain_that_stops_before_its_shards_end_is_found() {
    let store: Arc<dyn ReportStore> = Arc::new(MemoryStore::new());
    let mut passes = two_passes(&*store).await;
    passes[0].1[0].range.end = Some("dd".into());
    finish(&store, input(passes)).await.unwrap();
    let said = faults(&store).await;
    assert!(said.contains("does not cover the range of its shard"), "{said}");
}

#[tokio::test]
async fn pictures_are_of_sums_that_are_bounded() {
    let store: Arc<dyn ReportStore> = Arc::new(MemoryStore::new());
    let summary = finish(&store, input(two_passes(&*store).await)).await.unwrap();
    let line = summary.timeline.unwrap();
    assert_eq!((line.step_ms, line.steps.len()), (1000, 60));
    assert_eq!(line.steps.iter().map(|step| step.rotated).sum::<u64>(), 3);
    assert_eq!((line.steps[0].scanned, line.steps[10].scanned), (5, 3));
    let first = &summary.key_flows[0];
    assert_eq!((first.before.as_str(), first.after.as_str(), first.versions), ("sse-kms:old", "sse-kms:new", 3));
    assert_eq!(summary.key_flows.iter().map(|flow| flow.versions).sum::<u64>(), 7);
    assert_eq!(summary.verified.unwrap().versions_listed, 7);
    let mut flows = flow::Flows::default();
    for n in 0..1_005 {
        flows.add(&with(row("k", None, Outcome::Conflict), |r| r.after = under(&format!("key-{n}"))));
    }
    let flows = flows.ended();
    assert_eq!((flows.len(), flows.last().unwrap().versions), (1_001, 5));
}

#[tokio::test]
async fn tables_are_cut_into_files_of_bounded_size_and_keys_into_a_bounded_list() {
    let store: Arc<dyn ReportStore> = Arc::new(MemoryStore::new());
    let mut table = files::Rolling::new(&store, "t-".into(), &["a"], 3);
    for n in 0..7 {
        table.write(&[n.to_string()]).await.unwrap();
    }
    let files = table.end().await.unwrap();
    assert_eq!(
        files.iter().map(|f| (f.name.as_str(), f.rows)).collect::<Vec<_>>(),
        [("t-00001.csv.gz", 3), ("t-00002.csv.gz", 3), ("t-00003.csv.gz", 1)]
    );
    let mut tally = tally::Tally::new(None);
    for n in 0..10_005 {
        tally.add(&with(row("k", None, Outcome::Conflict), |r| r.after = under(&format!("key-{n}"))));
    }
    assert_eq!(tally.keys.len(), 10_001);
    assert_eq!(tally.keys["(others)"].still["conflict"], 5);
    assert_eq!(tally.failed.len(), 100);
}
