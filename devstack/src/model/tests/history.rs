//! Versions and conditions against a naive model: a list of what every key was.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, guard: Expect },
    Delete { key: u8 },
    DeleteVersion { key: u8, place: usize },
    Copy { key: u8 },
    Versioning { suspended: bool },
}

#[derive(Clone, Copy, Debug)]
enum Expect {
    Nothing,
    Current,
    Stale,
    Absent,
}

fn op() -> impl Strategy<Value = Op> {
    let guard = prop_oneof![Just(Expect::Nothing), Just(Expect::Current), Just(Expect::Stale), Just(Expect::Absent)];
    prop_oneof![
        4 => (0..3u8, guard).prop_map(|(key, guard)| Op::Put { key, guard }),
        2 => (0..3u8).prop_map(|key| Op::Delete { key }),
        2 => (0..3u8, 0..4usize).prop_map(|(key, place)| Op::DeleteVersion { key, place }),
        1 => (0..3u8).prop_map(|key| Op::Copy { key }),
        1 => any::<bool>().prop_map(|suspended| Op::Versioning { suspended }),
    ]
}

/// One version as the naive model has it: id, and body or delete marker.
type Naive = (String, Option<String>);

/// Newest last. Ids are those that the store gave.
#[derive(Default)]
struct NaiveStore {
    versioning: Versioning,
    keys: BTreeMap<String, Vec<Naive>>,
}

impl NaiveStore {
    fn add(&mut self, key: &str, id: Option<String>, body: Option<String>) {
        let versions = self.keys.entry(key.to_owned()).or_default();
        let id = id.unwrap_or_else(|| "null".to_owned());
        assert_eq!(id == "null", self.versioning != Versioning::Enabled);
        versions.retain(|(other, _)| *other != id);
        versions.push((id, body));
    }

    fn current(&self, key: &str) -> Option<&str> {
        self.keys.get(key)?.last()?.1.as_deref()
    }
}

async fn step(w: &World, naive: &mut NaiveStore, op: Op, count: usize) {
    match op {
        Op::Put { key: k, guard } => put(w, naive, &format!("k{k}"), guard, count).await,
        Op::Delete { key: k } => {
            let name = format!("k{k}");
            let deleted = w.model.delete_object(&at(&name)).unwrap();
            if naive.versioning == Versioning::Off {
                naive.keys.remove(&name);
            } else {
                assert!(deleted.delete_marker);
                naive.add(&name, deleted.version, None);
            }
        }
        Op::DeleteVersion { key: k, place } => {
            let name = format!("k{k}");
            let versions = naive.keys.entry(name.clone()).or_default();
            let id = versions.get(place).map_or_else(|| "nobody".to_owned(), |(id, _)| id.clone());
            versions.retain(|(other, _)| *other != id);
            w.model.delete(&at(&name).at_version(Some(id))).await.unwrap();
        }
        Op::Copy { key: k } => {
            let name = format!("k{k}");
            let body = naive.current(&name).map(str::to_owned);
            let copied = w.model.copy(w.copy_of(&name, key("new"))).await;
            assert_eq!(copied.is_ok(), body.is_some());
            if let Ok(written) = copied {
                naive.add(&name, written.version, body);
            }
        }
        Op::Versioning { suspended } => {
            naive.versioning = if suspended { Versioning::Suspended } else { Versioning::Enabled };
            w.model.set_versioning("b", naive.versioning).unwrap();
        }
    }
}

async fn put(w: &World, naive: &mut NaiveStore, name: &str, guard: Expect, count: usize) {
    let etag = w.model.head(HeadRequest::of(&at(name))).await.map(|object| object.etag).ok();
    assert_eq!(etag.is_some(), naive.current(name).is_some());
    let (guard, wanted) = match (guard, &etag) {
        (Expect::Nothing, _) => (Guard::None, Ok(())),
        (Expect::Current, Some(etag)) => (if_match(etag), Ok(())),
        (Expect::Stale, Some(_)) => (bad(), Err(412)),
        (Expect::Current | Expect::Stale, None) => (bad(), Err(404)),
        (Expect::Absent, Some(_)) => (Guard::IfAbsent, Err(412)),
        (Expect::Absent, None) => (Guard::IfAbsent, Ok(())),
    };
    let body = format!("body {count}");
    let request = PutRequest { at: at(name), new: under(key("old")), guard, place: InPlace::default() };
    let answer = w.model.put(request, Bytes::from(body.clone()).into()).await;
    assert_eq!(answer.as_ref().map(|_| ()).map_err(|e| e.status.unwrap()), wanted);
    if let Ok(written) = answer {
        naive.add(name, written.version, Some(body));
    }
}

async fn compare(w: &World, naive: &NaiveStore) {
    let listed = w.entries(true).await;
    let wanted: Vec<(String, String, bool, bool)> = naive
        .keys
        .iter()
        .flat_map(|(key, versions)| {
            let newest_first = versions.iter().rev().enumerate();
            newest_first.map(move |(place, (id, body))| (key.clone(), id.clone(), place == 0, body.is_none()))
        })
        .collect();
    let shown: Vec<_> = listed.into_iter().map(|e| (e.key, e.version.unwrap(), e.latest, e.delete_marker)).collect();
    assert_eq!(shown, wanted);
    for (key, versions) in &naive.keys {
        for (id, body) in versions {
            let answer = w.body(&at(key).at_version(Some(id.clone()))).await;
            match body {
                Some(body) => assert_eq!(answer.unwrap(), body.as_str()),
                None => assert_eq!(answer.unwrap_err().status, Some(405)),
            }
        }
        let current = w.body(&at(key)).await.ok();
        assert_eq!(current.as_deref(), naive.current(key).map(str::as_bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn versions_and_conditions_are_those_of_a_naive_model(
        ops in prop::collection::vec(op(), 1..30),
        mode in 0..3usize,
        moves in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mode = [Mode::aws(), Mode::minio(), Mode::moto()][mode].clone();
            let w = world(mode, BucketSettings::plain()).await;
            let mut naive = NaiveStore::default();
            for (count, op) in ops.into_iter().enumerate() {
                step(&w, &mut naive, op, count).await;
                compare(&w, &naive).await;
                if moves {
                    later(7).await;
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_bucket_replaces_its_null_version_only() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::versioned()).await;
        let first = w.put("k", key("old"), "one").await;
        later(10).await;
        w.model.set_versioning("b", Versioning::Suspended).unwrap();
        let etag = w.put("k", key("old"), "two").await.etag.unwrap();
        let written = w.try_put(at("k"), under(key("new")), if_match(&etag), InPlace::default(), "two").await.unwrap();
        assert_eq!(written.version.as_deref(), Some("null"));
        assert_eq!(w.model.raw_version_ids("b", "k"), ["null".to_owned(), first.version.unwrap()]);
        assert_eq!(w.head(&at("k")).await.version.as_deref(), Some("null"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_never_had_versions_shows_none_in_head() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    assert_eq!(w.put("k", key("old"), "x").await.version, None);
    assert_eq!(w.head(&at("k")).await.version, None);
    assert_eq!(w.entries(true).await[0].version.as_deref(), Some("null"));
}

#[tokio::test(start_paused = true)]
async fn locks_hold_versions_and_the_bucket_default_gives_them() {
    let settings = BucketSettings {
        lock_enabled: true,
        default_retention: Some(("COMPLIANCE".into(), 1)),
        ..BucketSettings::versioned()
    };
    let w = world(Mode::aws(), settings).await;
    let version = w.put("k", key("old"), "x").await.version;
    let this = at("k").at_version(version);
    assert!(w.head(&this).await.lock.retention.is_some());
    assert_eq!(kind(w.model.delete(&this).await), ErrorKind::Locked);
    assert_eq!(kind(w.model.put_lock(&this, Lock::default())), ErrorKind::Locked);
    w.model.delete(&at("k")).await.unwrap();
    later(25 * 3600 * 1000).await;
    w.model.delete(&this).await.unwrap();
    let plain = world(Mode::aws(), BucketSettings::versioned()).await;
    let lock = Lock { retention: None, legal_hold: true };
    let new = NewObject { lock, ..under(key("old")) };
    let answer = plain.try_put(at("k"), new, Guard::None, InPlace::default(), "x").await;
    assert_eq!(answer.unwrap_err().status, Some(400));
}

#[tokio::test(start_paused = true)]
async fn buckets_are_made_configured_and_removed() {
    let w = world(Mode::aws(), BucketSettings::versioned()).await;
    assert_eq!(w.model.create_bucket("b", BucketSettings::plain()).unwrap_err().status, Some(409));
    assert_eq!(w.model.buckets(), ["b"]);
    let facts = w.model.bucket("b").await.unwrap();
    assert_eq!((facts.versioning, facts.default_sse), (Versioning::Enabled, Some(Sse::S3)));
    assert!(w.model.set_versioning("b", Versioning::Off).is_err());
    let locked = BucketSettings { lock_enabled: true, ..BucketSettings::plain() };
    assert!(w.model.create_bucket("c", locked).is_err());
    w.put("k", key("old"), "x").await;
    assert_eq!(w.model.delete_bucket("b").unwrap_err().code.as_deref(), Some("BucketNotEmpty"));
    let id = w.model.raw_version_ids("b", "k").remove(0);
    w.model.delete(&at("k").at_version(Some(id))).await.unwrap();
    w.model.delete_bucket("b").unwrap();
    assert_eq!(kind(w.body(&at("k")).await), ErrorKind::NoSuchBucket);
}
