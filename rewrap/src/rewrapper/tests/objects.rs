//! Every kind of object on every kind of store: what comes out, as a table, and that nothing of anybody's is harmed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::SignedDuration;
use keyrotate_devstack::model::BucketSettings;
use keyrotate_proto::spec::VersionPolicy;

use super::bucket::{Version, kept, new, put, put_new, put_parts, seen};
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
    ("noncurrent in two parts, allowUnguarded", Versioning::Enabled),
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
    ("suspended: a version of before, above null", Versioning::Suspended),
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
    spec.options.allow_unguarded = name.contains("allowUnguarded");
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
        put(world.store.store(), "k", sse(SourceKind::SseKms), "of before").await;
        world.later().await;
    }
    if versioning != Versioning::Off {
        set(Versioning::Enabled);
    }
    if name.starts_with("suspended:") && name.contains("version") {
        put(world.store.store(), "k", sse(SourceKind::SseKms), "a version").await;
        world.later().await;
    }
    set(versioning);
    fill(&world, name).await;
    world.later().await;
    world
}

async fn put_k(store: &StoreModel, new: NewObject) {
    put_new(store, "k", new, b"body").await.unwrap();
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
        "sse-s3" => put(store, "k", Sse::S3, "body").await,
        "under the target key" | "under the target key, reseal" => put(store, "k", kms(NEW), "body").await,
        "sse-c" => drop(store.seed_sse_c(&at, new(Sse::Customer), Bytes::from("body")).await.unwrap()),
        "dual-layer" => drop(store.seed_dsse(&at, OLD, new(old()), Bytes::from("body")).await.unwrap()),
        "no bytes" => put(store, "k", old(), "").await,
        "directory marker" => put(store, "dir/", old(), "").await,
        "odd key" => put(store, "a +%?#ü/&=x", old(), "body").await,
        "versions in two parts" => {
            put_parts(store, "k", new(old()), &[7; 2_700]).await.unwrap();
            world.later().await;
            put_parts(store, "k", new(old()), &[7; 2_700]).await.unwrap();
        }
        _ if name.starts_with("in two parts") => {
            let checksum = Checksum { algorithm: "CRC32".into(), value: String::new(), full_object: false };
            let checksum = Some(checksum).filter(|_| name.contains("with a checksum"));
            put_parts(store, "k", NewObject { checksum, ..new(old()) }, &[7; 2_700]).await.unwrap();
        }
        "website redirect" => {
            let mut new = new(old());
            new.headers.website_redirect = Some("/elsewhere".into());
            put_k(store, new).await;
        }
        "checksum" => put_k(store, new_object(old(), b"body")).await,
        "STANDARD_IA" | "GLACIER" | "remote tier" => {
            let class = if name == "remote tier" { "COLD" } else { name };
            put_k(store, NewObject { storage_class: Some(class.into()), ..new(old()) }).await;
        }
        "others may read it" => {
            put(store, "k", old(), "body").await;
            store.let_read(&at, "somebody").unwrap();
        }
        "three versions" | "three versions, versions: current" => {
            for body in ["one", "two", "three"] {
                put(store, "k", old(), body).await;
                world.later().await;
            }
        }
        _ if name.starts_with("noncurrent in two parts") => {
            put_parts(store, "k", new(old()), &[7; 2_700]).await.unwrap();
            world.later().await;
            put(store, "k", old(), "body").await;
        }
        "versions within 2 ms" => {
            put(store, "k", old(), "one").await;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            put(store, "k", old(), "two").await;
        }
        "deleted" => {
            put(store, "k", old(), "body").await;
            world.later().await;
            store.delete(&at).await.unwrap();
        }
        "locked plaintext" => {
            store.seed_plaintext(&at, new(Sse::None), Bytes::from("body")).await.unwrap();
            store.put_lock(&at, Lock { legal_hold: true, retention: None }).unwrap();
        }
        _ if name.starts_with("governance") => {
            put_k(store, locked(Lock { retention: retention("GOVERNANCE"), legal_hold: false })).await;
        }
        _ if name.starts_with("compliance") => {
            put_k(store, locked(Lock { retention: retention("COMPLIANCE"), legal_hold: false })).await;
        }
        _ if name.starts_with("legal hold") => {
            put_k(store, locked(Lock { retention: None, legal_hold: true })).await;
        }
        _ if name.starts_with("suspended: a version of before") => {}
        _ => put(store, "k", old(), "body").await,
    }
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
                assert_eq!(find(&version.id), version, "{about}: `{key}` as it was");
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
            let before = seen(world.store.store(), "").await;
            let rewrapper = world.rewrapper(job(name)).await;
            let rows = world.walk_with_intents(&rewrapper).await.unwrap();
            let after = seen(world.store.store(), "").await;
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

#[test]
fn each_skip_is_told_by_store_in_the_semantics() {
    let table =
        include_str!("snapshots/keyrotate_rewrap__rewrapper__tests__objects__every_kind_of_object_on_every_store.snap");
    let mut seen = BTreeSet::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("    ")) {
        let (store, outcomes) = line.split_once(' ').expect("a store and its outcomes");
        let skipped = outcomes.split(',').filter_map(|outcome| outcome.trim().strip_prefix("skipped/"));
        seen.extend(skipped.map(|reason| (reason, store)));
    }
    let mut told = BTreeSet::new();
    for row in include_str!("../../../../docs/semantics.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, reason, stores, why, _] = cells.as_slice() else { continue };
        let names = Mode::all().map(|mode| mode.name);
        if stores.split(", ").all(|store| names.contains(&store)) {
            assert!(!why.is_empty(), "{row}");
            told.extend(stores.split(", ").map(|store| (reason.trim_matches('`'), store)));
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
    assert_eq!(told, seen);
}
