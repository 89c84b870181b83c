use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::{Evidence, FailReason, FilterReason, Outcome, SkipReason, Strategy};
use keyrotate_proto::row::{Row, Seal};
use keyrotate_proto::spec::{Dialect, Filter, Notify, Options, Retry, SPEC_VERSION, Target};

use super::*;
use crate::testing::{range, row, shard};
use crate::{FolderStore, MemoryStore};

fn input(passes: Vec<(PassId, Vec<ShardParts>)>) -> FinishInput {
    let key = KeyName("new".into());
    FinishInput {
        under: String::new(),
        job: JobId::new(1, [0; 10]),
        spec: JobSpec {
            version: SPEC_VERSION,
            dialect: Dialect::Minio,
            bucket: "b".into(),
            prefix: String::new(),
            target: Target::SseKms { key: Some(key.clone()), context: None },
            filter: Filter::default(),
            notify: Some(Notify { endpoint: "https://n.example".into(), token: Some("Bearer s3cr3t".into()) }),
            retry: Retry::default(),
            options: Options::default(),
        },
        store: "https://s:9000".into(),
        endpoint: Some("https://s:9000".into()),
        is_minio: true,
        target: Some(FrozenTarget::SseKms { key, context: None }),
        state: JobState::Completed,
        started: Timestamp::UNIX_EPOCH,
        ended: Timestamp::from_second(60).unwrap(),
        passes,
        counts: Counts::default(),
        checked: Some((Timestamp::from_second(50).unwrap(), 7)),
        leftovers: vec![("it's".into(), "-u".into())],
        notes: vec!["a note".into()],
    }
}

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
    assert!(matches!(verdict(one, None).await, Verdict::NotKnown { .. }));
    assert!(matches!(verdict(both, checked).await, Verdict::NotKnown { .. }));
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
