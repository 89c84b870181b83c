use std::collections::BTreeMap;

use keyrotate_proto::outcome::{Evidence, FailReason};
use proptest::prelude::*;

use super::*;
use crate::testing::{range, row, shard, store};

const OUTCOMES: [Outcome; 4] =
    [Outcome::Rotated(Evidence::Key), Outcome::Current, Outcome::Conflict, Outcome::Failed(FailReason::Store)];

/// Rows of one pass: per key a few versions, in the order of a listing.
fn pass_rows() -> impl Strategy<Value = Vec<Row>> {
    let versions = proptest::collection::vec((0usize..5, 0usize..4), 1..4);
    proptest::collection::btree_map("[a-f]{1,2}", versions, 0..12).prop_map(|keys| {
        let mut rows = Vec::new();
        for (key, versions) in keys {
            let mut seen = std::collections::BTreeSet::new();
            for (version, outcome) in versions {
                if seen.insert(version) {
                    rows.push(row(&key, Some(&format!("v{version}")), OUTCOMES[outcome]));
                }
            }
        }
        rows
    })
}

/// What [`LastRows`] must give, the plain way.
fn model(passes: &[Vec<Row>]) -> Vec<LastRow> {
    let mut keys: BTreeMap<String, Vec<LastRow>> = BTreeMap::new();
    for (i, rows) in passes.iter().enumerate() {
        let pass = PassId(u32::try_from(i).unwrap());
        for row in rows {
            let of_key = keys.entry(row.key.clone()).or_default();
            match of_key.iter_mut().find(|last| last.row.version == row.version) {
                Some(last) => *last = LastRow { pass, row: row.clone() },
                None => of_key.push(LastRow { pass, row: row.clone() }),
            }
        }
    }
    keys.into_values().flatten().collect()
}

async fn write(
    store: &Arc<dyn ReportStore>,
    passes: &[Vec<Row>],
    cut: &str,
    size: usize,
) -> Vec<(PassId, Vec<ShardParts>)> {
    let mut written = Vec::new();
    for (i, rows) in (0..).zip(passes) {
        let at = rows.partition_point(|row| row.key.as_str() < cut);
        let second = shard(&**store, i, 1, range(cut, None), &rows[at..], size).await;
        let first = shard(&**store, i, 0, range("", Some(cut)), &rows[..at], size).await;
        written.push((PassId(i), vec![second, first]));
    }
    written.reverse();
    written
}

async fn all(mut rows: LastRows) -> Vec<LastRow> {
    let mut found = Vec::new();
    while let Some(key) = rows.next_key().await.unwrap() {
        assert!(key.rows.iter().all(|last| last.row.key == key.key));
        found.extend(key.rows);
    }
    found
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #[test]
    fn last_rows_are_those_of_the_model(
        passes in proptest::collection::vec(pass_rows(), 0..4),
        cut in "[b-e]",
        size in 1usize..5,
        start in "[a-f]{0,2}",
        end in proptest::option::of("[a-f]{1,2}"),
    ) {
        run(async {
            let store = store();
            let written = write(&store, &passes, &cut, size).await;
            let wanted = range(&start, end.as_deref());
            let expected: Vec<LastRow> = model(&passes).into_iter().filter(|last| wanted.contains(&last.row.key)).collect();
            let open = || LastRows::open(Arc::clone(&store), written.clone(), wanted.clone());
            prop_assert_eq!(&all(open()).await, &expected);
            let again: Vec<LastRow> = expected.iter().filter(|last| last.row.outcome.wants_retry()).cloned().collect();
            prop_assert_eq!(all(open().filtered(Outcome::wants_retry)).await, again);
            for (i, last) in expected.iter().enumerate() {
                let mut rows = open();
                rows.seek(&Position::After(last.row.key.clone(), last.row.version.clone()));
                prop_assert_eq!(&all(rows).await, &expected[i + 1..]);
                let mut rows = open();
                rows.seek(&Position::After(last.row.key.clone(), Some("gone".into())));
                let first = expected.iter().position(|other| other.row.key == last.row.key).unwrap();
                prop_assert_eq!(&all(rows).await, &expected[first..], "a version that is gone: the whole key again");
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_pass_gives_all_its_rows_in_order(rows in pass_rows(), cut in "[b-e]", size in 1usize..5, start in "[a-f]{0,2}") {
        run(async {
            let store = store();
            let (_, shards) = write(&store, std::slice::from_ref(&rows), &cut, size).await.remove(0);
            let mut found = Vec::new();
            let mut reader = PassRows::open(Arc::clone(&store), shards, range(&start, None));
            while let Some(row) = reader.next().await.unwrap() {
                found.push(row);
            }
            let expected: Vec<Row> = rows.iter().filter(|row| row.key >= start).cloned().collect();
            prop_assert_eq!(found, expected);
            Ok(())
        })?;
    }
}

#[test]
fn parts_before_the_start_are_not_unpacked() {
    run(async {
        let memory = Arc::new(crate::MemoryStore::new());
        let store: Arc<dyn ReportStore> = Arc::clone(&memory) as _;
        let rows: Vec<Row> = (0..10).map(|n| row(&format!("k{n}"), None, Outcome::Current)).collect();
        let parts = shard(&*store, 0, 0, range("", None), &rows, 2).await;
        let first = chain(&*store, parts.last_part.as_deref()).await.unwrap().remove(0).name;
        // Its header can still be read, its rows not.
        let mut bytes = store.get(&first).await.unwrap();
        bytes.truncate(bytes.len() - 12);
        store.put(&first, bytes).await.unwrap();
        let mut late = PassRows::open(Arc::clone(&store), vec![parts.clone()], range("k5", None));
        assert_eq!(late.next().await.unwrap().unwrap().key, "k5");
        let mut whole = PassRows::open(store, vec![parts], range("", None));
        assert!(matches!(whole.next().await, Err(ReportError::Part { name, .. }) if name == first));
    });
}
