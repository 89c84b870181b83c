use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{Action, BucketSettings, Call, Faulty, Mode, Rule, StoreModel};
use keyrotate_env::Env;
use keyrotate_manifest::{Input, Limits, Origin, Wanted as WantedRows, bring_in};
use keyrotate_report::MemoryStore;
use keyrotate_store::{Body, Guard, InPlace, NewObject, PutRequest};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;

const BUCKET: &str = "bucket";

type Row = (String, Option<String>);

fn model(settings: BucketSettings) -> Arc<Faulty<StoreModel>> {
    let env = Env::system();
    let model = StoreModel::new(Mode::aws(), Arc::new(KesModel::new(env.clone())), env);
    model.create_bucket(BUCKET, settings).unwrap();
    Arc::new(Faulty::new(model))
}

async fn put(store: &dyn Store, key: &str) -> Option<String> {
    let at = ObjectAt::current(BUCKET, key);
    let request = PutRequest { at, new: NewObject::default(), guard: Guard::None, place: InPlace::default() };
    store.put(request, Body::Bytes(bytes::Bytes::from_static(b"x"))).await.unwrap().version
}

async fn manifest(rows: &[Row]) -> Sorted {
    let mut text = String::new();
    for (key, version) in rows {
        writeln!(text, "{BUCKET},{key},{}", version.as_deref().unwrap_or_default()).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.csv");
    std::fs::write(&path, text).unwrap();
    let wanted = WantedRows { bucket: BUCKET.into(), prefix: String::new() };
    let limits = Limits { run: 4_000, segment: 200, at_a_time: 2 };
    let store = Arc::new(MemoryStore::default());
    bring_in(Input::Csv(Origin::File(path)), &wanted, store, "n-1", &limits).await.unwrap()
}

fn scope(versions: bool) -> Scope {
    Scope { bucket: BUCKET.into(), prefix: String::new(), versions, with_facts: false }
}

fn whole() -> KeyRange {
    KeyRange { start: String::new(), end: None }
}

async fn all(mut picked: Picked) -> Vec<Found> {
    let (mut all, mut empty) = (Vec::new(), 0);
    while let Some(found) = picked.found().await.unwrap() {
        empty = if found.is_empty() { empty + 1 } else { 0 };
        assert!(empty < 100, "it gets on");
        all.extend(found);
    }
    all
}

fn names(found: &[Found]) -> Vec<String> {
    let name = |found: &Found| match found {
        Found::Version(entry) => format!("version {} {}", entry.key, entry.version.as_deref().unwrap_or("-")),
        Found::Current(entry, _) => format!("current {} {}", entry.key, entry.version.as_deref().unwrap_or("-")),
        Found::Missing(key, version) => format!("missing {key} {}", version.as_deref().unwrap_or("-")),
    };
    found.iter().map(name).collect()
}

#[tokio::test]
async fn versions_the_current_one_and_what_is_gone_are_told_apart() {
    let store = model(BucketSettings::versioned());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(put(store.as_ref(), "a").await.unwrap());
    }
    let b = put(store.as_ref(), "b").await.unwrap();
    put(store.as_ref(), "c").await;
    store.delete(&ObjectAt::current(BUCKET, "c")).await.unwrap();
    let row = |key: &str, version: Option<&str>| (key.to_owned(), version.map(str::to_owned));
    let sorted = manifest(&[
        row("a", None),
        row("a", Some(&ids[0])),
        row("a", Some("gone")),
        row("b", None),
        row("b", Some(&b)),
        row("bb", None),
        row("c", None),
        row("z", Some("gone")),
        row("z", None),
    ])
    .await;
    let begin = Position::Before(String::new());
    let picked = |range: &KeyRange, at: &Position, covered: &[&str]| {
        let covered = covered.iter().map(|id| (*id).to_owned()).collect();
        Picked::new(store.clone(), scope(true), &sorted, range, at, covered)
    };
    let found = all(picked(&whole(), &begin, &[])).await;
    assert!(matches!(&found[0], Found::Current(_, named) if named.contains(&ids[0])));
    assert!(matches!(&found[5], Found::Current(entry, _) if entry.delete_marker));
    let found = names(&found);
    let expected = [
        format!("current a {}", ids[2]),
        format!("version a {}", ids[0]),
        "missing a gone".to_owned(),
        format!("version b {b}"),
        "missing bb -".to_owned(),
    ];
    assert_eq!(found[..5], expected);
    assert_eq!(found[6..], ["missing z gone", "missing z -"]);
    let range = KeyRange { start: "b".into(), end: Some("c".into()) };
    assert_eq!(names(&all(picked(&range, &Position::Before("b".into()), &[])).await), expected[3..]);
    let inside = Position::After("a".into(), Some(ids[2].clone()));
    let rest = all(picked(&KeyRange { end: Some("b".into()), ..whole() }, &inside, &[&ids[2], "gone"])).await;
    assert_eq!(names(&rest), expected[1..2]);
    assert_eq!(all(picked(&whole(), &Position::End, &[])).await, []);
    let behind = all(picked(&whole(), &Position::After("c".into(), None), &[])).await;
    assert_eq!(names(&behind).len(), 2);
}

#[tokio::test]
async fn a_manifest_of_much_is_listed_page_by_page_and_one_of_little_is_sought() {
    let store = model(BucketSettings::plain());
    let key = |n: usize| format!("k/{n:05}");
    for n in 0..5_000 {
        put(store.as_ref(), &key(n)).await;
    }
    for (each, pages) in [(1, 10), (2, 10), (500, 12)] {
        let rows: Vec<Row> = (0..5_000).step_by(each).map(|n| (key(n), None)).collect();
        let sorted = manifest(&rows).await;
        let listed = Arc::new(AtomicU64::new(0));
        let counts = {
            let listed = Arc::clone(&listed);
            move |_: &Call<'_>| listed.fetch_add(1, Ordering::Relaxed) == u64::MAX
        };
        store.faults().clear();
        store.faults().add(Rule::when(counts, Action::Delay(std::time::Duration::ZERO)));
        let begin = Position::Before(String::new());
        let found = all(Picked::new(store.clone(), scope(false), &sorted, &whole(), &begin, BTreeSet::new())).await;
        assert_eq!(found.len(), rows.len());
        assert!(found.iter().all(|found| matches!(found, Found::Current(..))));
        let listed = listed.load(Ordering::Relaxed);
        assert!(listed <= pages, "{listed} pages for each {each}th key");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever lies there, whatever is named, wherever it begins: each row comes once, as what it names or as missing.
    #[test]
    fn each_row_is_found_or_missing(
        there in proptest::collection::vec(("[a-c]{1,3}", 1usize..4), 0..60),
        named in proptest::collection::vec(("[a-c]{1,3}", proptest::option::of(0usize..4)), 1..60),
        versioned: bool,
        start in "[a-c]{0,2}",
    ) {
        Runtime::new().unwrap().block_on(async {
            let store = model(if versioned { BucketSettings::versioned() } else { BucketSettings::plain() });
            let mut versions: std::collections::BTreeMap<String, Vec<Option<String>>> = Default::default();
            for (key, count) in &there {
                for _ in 0..*count {
                    let made = put(store.as_ref(), key).await;
                    let of_key = versions.entry(key.clone()).or_default();
                    if !versioned {
                        of_key.clear();
                    }
                    of_key.push(made);
                }
            }
            let row = |(key, n): &(String, Option<usize>)| -> Row {
                let id = |n: &usize| {
                    let known = versions.get(key).and_then(|of_key| of_key.get(*n).cloned().flatten());
                    known.unwrap_or_else(|| format!("none{n}"))
                };
                (key.clone(), n.as_ref().map(id))
            };
            let rows: BTreeSet<Row> = named.iter().map(row).collect();
            let sorted = manifest(&rows.iter().cloned().collect::<Vec<_>>()).await;
            let mut expected = BTreeSet::new();
            for (key, version) in rows.iter().filter(|(key, _)| *key >= start) {
                let current = versions.get(key).and_then(|of_key| of_key.last()).cloned();
                expected.insert(match (version, current) {
                    (None, Some(current)) => (key.clone(), current, true),
                    (Some(id), _) if versions.get(key).is_some_and(|of_key| of_key.contains(version)) => {
                        (key.clone(), Some(id.clone()), true)
                    }
                    _ => (key.clone(), version.clone(), false),
                });
            }
            let begin = Position::Before(start.clone());
            let range = KeyRange { start, end: None };
            let picked = Picked::new(store.clone(), scope(versioned), &sorted, &range, &begin, BTreeSet::new());
            let found = all(picked).await;
            let got: Vec<_> = found.into_iter().map(|found| match found {
                Found::Version(entry) | Found::Current(entry, _) => (entry.key, entry.version, true),
                Found::Missing(key, version) => (key, version, false),
            }).collect();
            assert!(got.is_sorted_by_key(|(key, ..)| key.clone()));
            assert_eq!(got.len(), expected.len(), "each once");
            assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), expected);
        });
    }
}
