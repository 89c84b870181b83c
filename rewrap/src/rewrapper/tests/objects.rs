//! Every kind of object on every kind of store: what comes out, as a table, and that nothing of anybody's is harmed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use keyrotate_devstack::model::BucketSettings;
use keyrotate_proto::spec::VersionPolicy;

use super::*;
use crate::testing::start;

/// What lies in the bucket, and how the bucket and the job are made. Sizes and names are chosen for nothing else.
const ROWS: &[(&str, Versioning)] = &[
    ("plaintext", Versioning::Off),
    ("plaintext, MinIO's rules", Versioning::Off),
    ("sse-s3", Versioning::Off),
    ("sse-kms", Versioning::Off),
    ("sse-kms, target is sse-s3", Versioning::Off),
    ("under the target key", Versioning::Off),
    ("under the target key, reseal", Versioning::Off),
    ("sse-c", Versioning::Off),
    ("dual-layer", Versioning::Off),
    ("no bytes", Versioning::Off),
    ("directory marker", Versioning::Off),
    ("odd key", Versioning::Off),
    ("in two parts", Versioning::Off),
    ("in two parts, acceptLoss: [parts]", Versioning::Off),
    ("in two parts, with a checksum", Versioning::Off),
    ("in two parts, with a checksum, acceptLoss: [checksum]", Versioning::Off),
    ("website redirect", Versioning::Off),
    ("checksum", Versioning::Off),
    ("STANDARD_IA", Versioning::Off),
    ("GLACIER", Versioning::Off),
    ("remote tier", Versioning::Off),
    ("others may read it", Versioning::Off),
    ("three versions", Versioning::Enabled),
    ("three versions, versions: current", Versioning::Enabled),
    ("version of before versioning, below another", Versioning::Enabled),
    ("versions in two parts", Versioning::Enabled),
    ("noncurrent in two parts", Versioning::Enabled),
    ("versions within 2 ms", Versioning::Enabled),
    ("deleted", Versioning::Enabled),
    ("governance", Versioning::Enabled),
    ("compliance", Versioning::Enabled),
    ("legal hold", Versioning::Enabled),
    ("locked plaintext", Versioning::Enabled),
    ("governance, forceEncryptLocked", Versioning::Enabled),
    ("compliance, forceEncryptLocked", Versioning::Enabled),
    ("legal hold, forceEncryptLocked", Versioning::Enabled),
    ("suspended: null", Versioning::Suspended),
    ("suspended: null above a version", Versioning::Suspended),
    ("suspended: a version of before", Versioning::Suspended),
    ("suspended: a version above null", Versioning::Suspended),
];

fn modes() -> Vec<Mode> {
    let acls = |mode: Mode| Mode { acls: matches!(mode.name, "aws" | "rgw"), ..mode };
    Mode::all().into_iter().map(acls).collect()
}

fn job(name: &str) -> JobSpec {
    let mut spec = any_size(spec());
    spec.filter.force_encrypt_locked = name.contains("forceEncryptLocked");
    if name.contains("versions: current") {
        spec.options.versions = VersionPolicy::Current;
    }
    spec.options.accept_loss.extend(name.contains("[parts]").then_some(Loss::Parts));
    spec.options.accept_loss.extend(name.contains("[checksum]").then_some(Loss::Checksum));
    spec.options.reseal = name.contains("reseal");
    if name.contains("MinIO's rules") {
        spec.dialect = Dialect::Minio;
    }
    if name.contains("target is sse-s3") {
        (spec.dialect, spec.target) = (Dialect::Minio, Target::SseS3);
    }
    spec
}

async fn world(mode: &Mode, name: &str, versioning: Versioning) -> World {
    let world = World::new(mode.clone(), Versioning::Off).await;
    let locks = ["governance", "compliance", "legal hold", "locked"].iter().any(|word| name.contains(word));
    let settings = |versioning| BucketSettings { versioning, lock_enabled: locks, ..BucketSettings::plain() };
    let set = |versioning| world.store.store().configure(BUCKET, settings(versioning)).unwrap();
    if name.starts_with("version of before") || name.ends_with("above null") {
        put(&world, "k", sse(SourceKind::SseKms), "of before").await;
        world.later().await;
    }
    if versioning != Versioning::Off {
        set(Versioning::Enabled);
    }
    if name.starts_with("suspended:") && name.contains("version") {
        put(&world, "k", sse(SourceKind::SseKms), "a version").await;
        world.later().await;
    }
    set(versioning);
    fill(&world, name).await;
    world.later().await;
    world
}

fn new(sse: Sse) -> NewObject {
    NewObject { checksum: None, ..new_object(sse, b"") }
}

async fn put_new(world: &World, key: &str, new: NewObject, body: &str) {
    let at = ObjectAt::current(BUCKET, key);
    let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
    world.store.store().put(request, Bytes::copy_from_slice(body.as_bytes()).into()).await.unwrap();
}

async fn put(world: &World, key: &str, sse: Sse, body: &str) {
    put_new(world, key, new(sse), body).await;
}

async fn put_parts(world: &World, key: &str, new: NewObject) {
    let (store, at) = (world.store.store(), ObjectAt::current(BUCKET, key));
    let id = store.create_upload(&at, &new, &InPlace::default()).await.unwrap();
    let upload = Upload { bucket: BUCKET.into(), key: key.into(), id };
    let mut parts = Vec::new();
    for (number, size) in [(1, 2_000), (2, 700)] {
        parts.push(store.upload_part(&upload, number, Bytes::from(vec![7; size]).into(), None).await.unwrap());
    }
    store.complete_upload(&upload, &parts, &Guard::None, &InPlace::default()).await.unwrap();
}

async fn fill(world: &World, name: &str) {
    let (store, at) = (world.store.store(), ObjectAt::current(BUCKET, "k"));
    let old = || sse(SourceKind::SseKms);
    let retention = |mode: &str| Some((mode.to_owned(), start().checked_add(SignedDuration::from_hours(24)).unwrap()));
    let locked = |lock| NewObject { lock, ..new(old()) };
    match name {
        "plaintext" | "plaintext, MinIO's rules" => {
            store.seed_plaintext(&at, new(Sse::None), Bytes::from("body")).await.unwrap();
        }
        "sse-s3" => put(world, "k", Sse::S3, "body").await,
        "under the target key" | "under the target key, reseal" => put(world, "k", kms(NEW), "body").await,
        "sse-c" => drop(store.seed_sse_c(&at, new(Sse::Customer), Bytes::from("body")).await.unwrap()),
        "dual-layer" => drop(store.seed_dsse(&at, OLD, new(old()), Bytes::from("body")).await.unwrap()),
        "no bytes" => put(world, "k", old(), "").await,
        "directory marker" => put(world, "dir/", old(), "").await,
        "odd key" => put(world, "a +%?#ü/&=x", old(), "body").await,
        "versions in two parts" => {
            put_parts(world, "k", new(old())).await;
            world.later().await;
            put_parts(world, "k", new(old())).await;
        }
        _ if name.starts_with("in two parts") => {
            let checksum = Checksum { algorithm: "CRC32".into(), value: String::new(), full_object: false };
            let checksum = Some(checksum).filter(|_| name.contains("with a checksum"));
            put_parts(world, "k", NewObject { checksum, ..new(old()) }).await;
        }
        "website redirect" => {
            let mut new = new(old());
            new.headers.website_redirect = Some("/elsewhere".into());
            put_new(world, "k", new, "body").await;
        }
        "checksum" => put_new(world, "k", new_object(old(), b"body"), "body").await,
        "STANDARD_IA" | "GLACIER" | "remote tier" => {
            let class = if name == "remote tier" { "COLD" } else { name };
            put_new(world, "k", NewObject { storage_class: Some(class.into()), ..new(old()) }, "body").await;
        }
        "others may read it" => {
            put(world, "k", old(), "body").await;
            store.let_read(&at, "somebody").unwrap();
        }
        "three versions" | "three versions, versions: current" => {
            for body in ["one", "two", "three"] {
                put(world, "k", old(), body).await;
                world.later().await;
            }
        }
        "noncurrent in two parts" => {
            put_parts(world, "k", new(old())).await;
            world.later().await;
            put(world, "k", old(), "body").await;
        }
        "versions within 2 ms" => {
            put(world, "k", old(), "one").await;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            put(world, "k", old(), "two").await;
        }
        "deleted" => {
            put(world, "k", old(), "body").await;
            world.later().await;
            store.delete(&at).await.unwrap();
        }
        "locked plaintext" => {
            store.seed_plaintext(&at, new(Sse::None), Bytes::from("body")).await.unwrap();
            store.put_lock(&at, Lock { legal_hold: true, retention: None }).unwrap();
        }
        _ if name.starts_with("governance") => {
            put_new(world, "k", locked(Lock { retention: retention("GOVERNANCE"), legal_hold: false }), "body").await;
        }
        _ if name.starts_with("compliance") => {
            put_new(world, "k", locked(Lock { retention: retention("COMPLIANCE"), legal_hold: false }), "body").await;
        }
        _ if name.starts_with("legal hold") => {
            put_new(world, "k", locked(Lock { retention: None, legal_hold: true }), "body").await;
        }
        "suspended: a version of before" | "suspended: a version above null" => {}
        _ => put(world, "k", old(), "body").await,
    }
}

/// All that can be seen of one version.
#[derive(Clone, Debug, PartialEq)]
struct Version {
    id: Option<String>,
    date: Timestamp,
    etag: String,
    marker: bool,
    /// Key, ETag and dates apart; `None` where only its owner sees it.
    object: Option<Object>,
    body: Option<Bytes>,
    /// Its first part's bytes and how many there are.
    parts: Option<(u64, Option<u32>)>,
    tags: Tags,
    grants: BTreeSet<(String, String)>,
}

/// Every version of every key, newest first.
async fn seen(world: &World) -> BTreeMap<String, Vec<Version>> {
    let store = world.store.store();
    let versions = store.settings(BUCKET).unwrap().versioning.has_versions();
    let request = ListRequest {
        bucket: BUCKET.into(),
        prefix: String::new(),
        versions,
        from: ListFrom::Start,
        limit: 1_000,
        with_facts: false,
    };
    let mut all: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    for entry in store.list(request).await.unwrap().entries {
        let at = ObjectAt { bucket: BUCKET.into(), key: entry.key.clone(), version: entry.version.clone() };
        let body = match store.get(GetRequest::of(&at)).await {
            Ok((_, body)) => Some(body.collect().await.unwrap()),
            Err(_) => None,
        };
        let first = store.head(HeadRequest { part: Some(1), ..HeadRequest::of(&at) }).await;
        all.entry(entry.key).or_default().push(Version {
            parts: first.ok().map(|first| (first.size, first.parts)),
            id: entry.version,
            date: entry.last_modified,
            etag: entry.etag,
            marker: entry.delete_marker,
            object: store.head(HeadRequest::of(&at)).await.ok(),
            body,
            tags: store.tags(&at).await.unwrap_or_default(),
            grants: store.acl(&at).await.map(|acl| acl.grants.into_iter().collect()).unwrap_or_default(),
        });
    }
    all
}

/// What a rotation must leave as it was, of an object that it wrote.
fn kept(version: &Version) -> Version {
    let object = version.object.clone().map(|object| Object {
        etag: String::new(),
        last_modified: start(),
        server_date: None,
        version: None,
        sse: Sse::None,
        ..object
    });
    Version { id: None, date: start(), etag: String::new(), object, ..version.clone() }
}

/// A version that nobody wrote.
fn untouched(version: &Version) -> Version {
    let object = version.object.clone().map(|object| Object { server_date: None, ..object });
    Version { object, ..version.clone() }
}

/// Panics where anything came to harm.
fn unharmed(
    about: &str,
    before: &BTreeMap<String, Vec<Version>>,
    after: &BTreeMap<String, Vec<Version>>,
    rows: &[Row],
) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{about}: keys");
    for (key, versions) in before {
        let now = &after[key];
        let added: BTreeSet<_> = rows.iter().filter_map(|row| row.version_after.clone()).collect();
        let old_ids = now.iter().map(|v| &v.id).filter(|id| id.as_ref().is_none_or(|id| !added.contains(id)));
        // A suspended bucket's `null` may be new.
        let ids: Vec<_> = versions.iter().map(|v| &v.id).collect();
        assert_eq!(old_ids.collect::<Vec<_>>(), ids, "{about}: ids and order of `{key}`");
        assert_eq!(now[0].marker, versions[0].marker, "{about}: whether `{key}` is deleted");
        for version in versions {
            let row = rows.iter().find(|row| row.key == *key && row.version == version.id);
            let row = row.unwrap_or_else(|| panic!("{about}: `{key}` {:?} has no row", version.id));
            let find = |id: &Option<String>| now.iter().find(|v| v.id == *id).unwrap();
            let rotated = matches!(row.outcome, Outcome::Rotated(_));
            if rotated {
                let written = find(&row.version_after.clone().or_else(|| version.id.clone()));
                let (mut now, mut then) = (kept(written), kept(version));
                if about.contains("[parts]") {
                    (now.parts, then.parts) = (None, None);
                }
                if about.contains("[checksum]") {
                    then.object.iter_mut().for_each(|object| object.checksums.clear());
                    now.object.iter_mut().for_each(|object| object.checksums.clear());
                }
                assert_eq!(now, then, "{about}: `{key}`");
            }
            if !rotated || row.version_after.is_some() {
                assert_eq!(untouched(find(&version.id)), untouched(version), "{about}: `{key}` as it was");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_object_on_every_store() {
    let mut table = String::new();
    for (name, versioning) in ROWS {
        writeln!(table, "{name}").unwrap();
        for mode in modes() {
            let world = world(&mode, name, *versioning).await;
            let about = format!("{name} on {}", mode.name);
            let before = seen(&world).await;
            let rewrapper = world.rewrapper(job(name)).await;
            let rows = world.walk_with_intents(&rewrapper).await.unwrap();
            let after = seen(&world).await;
            unharmed(&about, &before, &after, &rows);
            let order = |row: &Row| before[&row.key].iter().position(|v| v.id == row.version);
            let mut rows = rows;
            rows.sort_by_key(|row| (row.key.clone(), order(row)));
            let words = rows.iter().map(|row| match row.strategy {
                Some(strategy) => {
                    let adds = if row.version_after.is_some() { " as a new version" } else { "" };
                    format!("{} by {strategy}{adds}", row.outcome.word())
                }
                None => row.outcome.name(),
            });
            writeln!(table, "    {:6} {}", mode.name, words.collect::<Vec<_>>().join(", ")).unwrap();
        }
    }
    insta::assert_snapshot!(table);
}
