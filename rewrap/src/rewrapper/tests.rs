//! One object from the listing to its row, on the store model in every mode.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use keyrotate_devstack::model::{Action, Call, Mode, Rule, StoreModel};
use keyrotate_proto::capability::{FrozenTarget, SourceKind, Versioning};
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::{Evidence, FailReason, Outcome, SkipReason, Strategy};
use keyrotate_proto::row::{Row, Seal};
use keyrotate_proto::spec::{BodyTransit, Dialect, Filter, JobSpec, Loss, Options, Target};
use keyrotate_proto::state::{PauseReason, StopReason};
use keyrotate_store::*;
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::{Rewrapper, TakenOver};
use crate::testing::{BUCKET, NEW, OLD, PART, World, kms, new_object, read_back, spec, sse};
use crate::{Halt, Look, Settled};

mod added;
mod bucket;
mod doubt;
mod faults;
mod objects;
mod ops;
mod uploads;

const KINDS: [SourceKind; 3] = [SourceKind::Plaintext, SourceKind::SseS3, SourceKind::SseKms];
const VERSIONINGS: [Versioning; 3] = [Versioning::Off, Versioning::Enabled, Versioning::Suspended];

fn any_size(spec: JobSpec) -> JobSpec {
    JobSpec { options: Options { body_transit: BodyTransit::Any, ..spec.options.clone() }, ..spec }
}

/// A rewrapper that has only this strategy.
async fn only(world: &World, strategy: Strategy, spec: JobSpec) -> Option<Rewrapper> {
    let mut frozen = world.prepare(&spec).await;
    frozen.proofs.retain(|p| p.strategy == strategy && p.guarded);
    if frozen.proofs.is_empty() {
        return None;
    }
    Some(world.with(spec, frozen))
}

/// The call that writes.
fn writing(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::UpdateEncryption => "UpdateObjectEncryption",
        Strategy::Copy => "CopyObject",
        _ if strategy.uploads() => "CompleteMultipartUpload",
        _ => "PutObject",
    }
}

/// Every mode, versioning and guarded strategy that is proven there.
async fn everywhere() -> Vec<(World, Rewrapper, Strategy)> {
    let mut all = Vec::new();
    for mode in Mode::all() {
        for versioning in VERSIONINGS {
            for strategy in Strategy::ALL {
                let world = World::new(mode.clone(), versioning).await;
                if let Some(rewrapper) = only(&world, *strategy, any_size(spec())).await {
                    all.push((world, rewrapper, *strategy));
                }
            }
        }
    }
    all
}

fn name(world: &World, rewrapper: &Rewrapper, strategy: Strategy) -> String {
    format!("{} {:?} {strategy}", world.store.store().mode().name, rewrapper.rules().frozen.versioning)
}

/// The row of the object that was current before.
fn row_of<'a>(rows: &'a [Row], key: &str) -> &'a Row {
    rows.iter().find(|r| r.key == key && r.outcome != Outcome::Skipped(SkipReason::Noncurrent)).unwrap()
}

/// The object `k`, without a checksum: the multipart form would lose one.
async fn put_without_checksum(store: &StoreModel, sse: Sse, metadata: &[(&str, &str)]) {
    let mut new = NewObject { checksum: None, ..new_object(sse, b"body") };
    new.headers.metadata.extend(metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let at = ObjectAt::current(BUCKET, "k");
    let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
    store.put(request, Body::Bytes(Bytes::from_static(b"body"))).await.unwrap();
}

/// MinIO cuts the ETag of an upload in parts when a write under SSE-KMS brings it along.
#[tokio::test(start_paused = true)]
async fn in_place_an_upload_in_parts_gets_an_etag_of_its_own() {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    let mut spec = any_size(spec());
    spec.options.accept_loss.insert(Loss::Parts);
    let rewrapper = only(&world, Strategy::RewriteInPlace, spec).await.unwrap();
    let at = ObjectAt::current(BUCKET, "k");
    let new = NewObject { checksum: None, ..new_object(kms(OLD), b"x") };
    let id = world.store.create_upload(&at, &new, &InPlace::default()).await.unwrap();
    let upload = Upload { bucket: BUCKET.into(), key: "k".into(), id };
    let parts = [world.store.upload_part(&upload, 1, Body::Bytes(Bytes::from_static(b"x")), None).await.unwrap()];
    world.store.complete_upload(&upload, &parts, &Guard::None, &InPlace::default()).await.unwrap();
    let before = world.get("k").await.0;
    assert!(before.etag.ends_with("-1"), "{}", before.etag);
    let rows = world.walk(&rewrapper).await.unwrap();
    assert_eq!((&rows[0].outcome, rows[0].detail.as_str()), (&Outcome::Rotated(Evidence::Key), ""));
    let (after, body, _) = world.get("k").await;
    assert_eq!((after.etag.len(), after.last_modified), (32, before.last_modified));
    assert_eq!((&rows[0].etag, &body[..]), (&after.etag, &b"x"[..]));
}

#[tokio::test(start_paused = true)]
async fn every_strategy_keeps_everything_everywhere() {
    let all = everywhere().await;
    assert!(all.len() > 20, "only {} strategies are proven", all.len());
    for (world, rewrapper, strategy) in all {
        let name = name(&world, &rewrapper, strategy);
        let keeps_checksum = !strategy.uploads();
        for kind in KINDS {
            if rewrapper.rules().frozen.proof(strategy, kind, false).is_none() {
                continue;
            }
            for (key, size) in [("empty", 0), ("small", 1_000), ("dir/big é+%", 300 << 10)] {
                let key = format!("{kind:?}/{key}");
                let body: Vec<u8> = (0..size).map(|n: usize| (n % 253) as u8).collect();
                let at = ObjectAt::current(BUCKET, &key);
                let mut new = new_object(sse(kind), &body);
                new.checksum = new.checksum.filter(|_| keeps_checksum);
                if kind == SourceKind::Plaintext {
                    world.store.store().seed_plaintext(&at, new, Bytes::from(body)).await.unwrap();
                } else {
                    let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
                    world.store.put(request, Body::Bytes(body.into())).await.unwrap();
                }
            }
        }
        world.later().await;
        let frozen = rewrapper.rules().frozen.clone();
        let mut before = BTreeMap::new();
        for entry in world.list(&frozen).await {
            before.insert(entry.key.clone(), (world.get(&entry.key).await, entry));
        }
        let rows = world.walk(&rewrapper).await.unwrap_or_else(|h| panic!("{name}: {h}"));
        assert_eq!(rows.len(), before.len(), "{name}");
        world.kes.delete_key(OLD).unwrap();
        for (key, ((object, body, tags), entry)) in &before {
            let row = row_of(&rows, key);
            assert_eq!(row.outcome, Outcome::Rotated(Evidence::Key), "{name} {key}: {}", row.detail);
            assert_eq!((row.strategy, row.size), (Some(strategy), body.len() as u64), "{name} {key}");
            let (now, now_body, now_tags) = world.get(key).await;
            assert_eq!(&now_body, body, "{name} {key}");
            assert!(crate::readback::same_tags(&now_tags, tags), "{name} {key}");
            assert_eq!(now.headers, object.headers, "{name} {key}");
            assert_eq!(now.checksums, object.checksums, "{name} {key}");
            assert_eq!(now.etag, row.etag, "{name} {key}");
            assert_eq!(now.last_modified, row.last_modified, "{name} {key}");
            assert!(row.after.kms_key().unwrap().same_key(&KeyName(NEW.into())), "{name} {key}");
            assert_eq!(
                row.version.clone().or(now.version.clone()),
                entry.version.clone().or(now.version.clone()),
                "{name} {key}"
            );
            let adds = frozen.versioning == Versioning::Enabled && !strategy.keeps_version();
            assert_eq!(row.version_after.is_some(), adds, "{name} {key}");
            if strategy.keeps_version() {
                assert_eq!(now.last_modified, object.last_modified, "{name} {key}");
                assert_eq!(now.version, object.version, "{name} {key}");
            }
        }
        let again = world.walk(&rewrapper).await.unwrap();
        for row in again.iter().filter(|r| r.outcome != Outcome::Skipped(SkipReason::Noncurrent)) {
            assert_eq!(row.outcome, Outcome::Current, "{name}: a second run writes nothing");
        }
    }
}

/// Calls about one object whose facts come by HEAD; where the listing shows them there are two fewer.
fn most_calls(strategy: Strategy) -> u64 {
    match strategy {
        Strategy::UpdateEncryption | Strategy::Copy => 3,
        Strategy::Rewrite | Strategy::RewriteInPlace => 4,
        Strategy::CopyMultipart | Strategy::CopyMultipartInPlace => 5 + 1,
        Strategy::RewriteMultipart | Strategy::RewriteMultipartInPlace => 6 + 1,
    }
}

#[tokio::test(start_paused = true)]
async fn calls_per_object() {
    let mut table = String::new();
    for mode in [Mode::aws(), Mode::minio()] {
        for facts in [false, true] {
            for strategy in Strategy::ALL {
                let world = World::new(mode.clone(), Versioning::Off).await;
                let Some(rewrapper) = only(&world, *strategy, any_size(spec())).await else { continue };
                let mut frozen = rewrapper.rules().frozen.clone();
                if facts && !frozen.listing_facts {
                    continue;
                }
                frozen.listing_facts = facts;
                let rewrapper = world.with(any_size(spec()), frozen.clone());
                // Enough of them that the first ones, which go one at a time, are behind.
                for n in 0..40 {
                    let at = ObjectAt::current(BUCKET, format!("k{n:02}"));
                    let new = NewObject { sse: kms(OLD), ..NewObject::default() };
                    let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
                    world.store.put(request, Body::Bytes(Bytes::from_static(b"body"))).await.unwrap();
                }
                let before = world.store.store().calls();
                let rows = world.walk_with_intents(&rewrapper).await.unwrap();
                assert!(rows.iter().all(|r| matches!(r.outcome, Outcome::Rotated(_))));
                let calls: BTreeMap<_, _> = world.calls_since(&before).into_iter().collect();
                let about_objects: u64 = calls.iter().filter(|(op, _)| **op != "ListObjectsV2").map(|(_, n)| n).sum();
                let most = if facts { most_calls(*strategy) - 2 } else { most_calls(*strategy) };
                assert!(about_objects <= 40 * most, "{} {facts} {strategy}: {calls:?}", mode.name);
                table += &format!("{} listing facts: {facts}, {strategy}, 40 objects: {calls:?}\n", mode.name);
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[tokio::test(start_paused = true)]
async fn a_window_is_read_back_by_one_page() {
    for versioning in [Versioning::Off, Versioning::Enabled] {
        let world = World::new(Mode::minio(), versioning).await;
        let rewrapper = world.rewrapper(spec()).await;
        assert!(rewrapper.rules().frozen.listing_facts);
        let dated = 7;
        for n in 0..60 {
            let mut new = new_object(kms(OLD), b"body");
            new.headers.expires = new.headers.expires.filter(|_| n < dated);
            let at = ObjectAt::current(BUCKET, format!("k{n:02}"));
            let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
            world.store.put(request, Body::Bytes(Bytes::from_static(b"body"))).await.unwrap();
        }
        world.later().await;
        let before = world.store.store().calls();
        let rows = world.walk(&rewrapper).await.unwrap();
        assert_eq!(rows.iter().filter(|r| matches!(r.outcome, Outcome::Rotated(_))).count(), 60);
        let calls = world.calls_since(&before);
        // The listing leaves `Expires` out: only objects that have it are asked about.
        assert_eq!(calls.get("HeadObject"), Some(&dated), "{versioning:?} {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_after_ours_is_seen_by_the_page() {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    let rewrapper = world.rewrapper(spec()).await;
    for n in 0..30 {
        world.put(&format!("k{n:02}"), kms(OLD), b"body").await;
    }
    world.later().await;
    let mut unread = Vec::new();
    for entry in world.list(&rewrapper.rules().frozen).await {
        let Look::Write(plan) = rewrapper.look(&entry).await.unwrap() else { panic!("settled") };
        let Settled::Unread(one) = rewrapper.write(plan).await.unwrap() else { panic!("read back") };
        unread.push(*one);
    }
    world.put("k03", kms(OLD), b"theirs").await;
    world.put("k04", kms(NEW), b"theirs").await;
    world.store.store().delete_object(&ObjectAt::current(BUCKET, "k05")).unwrap();
    world.store.store().put_tags(&ObjectAt::current(BUCKET, "k06"), vec![("theirs".into(), "1".into())]).unwrap();
    let mut rows = read_back(&rewrapper, unread).await.unwrap();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let outcome = |key: &str| rows.iter().find(|r| r.key == key).unwrap().outcome;
    assert_eq!(outcome("k03"), Outcome::Conflict);
    assert_eq!(outcome("k04"), Outcome::Current);
    assert_eq!(outcome("k05"), Outcome::Skipped(SkipReason::Gone));
    assert_eq!(outcome("k06"), Outcome::Conflict);
    assert_eq!(rows.iter().filter(|r| matches!(r.outcome, Outcome::Rotated(_))).count(), 26);
}

#[tokio::test(start_paused = true)]
async fn an_object_with_an_acl_of_its_own_is_never_written_by_what_loses_it() {
    for mode in Mode::all() {
        for versioning in VERSIONINGS {
            let world = World::new(Mode { acls: true, listing_facts: false, ..mode.clone() }, versioning).await;
            let rewrapper = world.rewrapper(any_size(spec())).await;
            let name = format!("{} {versioning:?}", mode.name);
            for key in ["plain", "public"] {
                world.put(key, kms(OLD), b"body").await;
            }
            let public = ObjectAt::current(BUCKET, "public");
            world.store.store().let_read(&public, "everybody").unwrap();
            let before = world.store.acl(&public).await.unwrap();
            world.later().await;
            let rows = world.walk(&rewrapper).await.unwrap();
            assert!(matches!(row_of(&rows, "plain").outcome, Outcome::Rotated(_)), "{name}: {rows:?}");
            let row = row_of(&rows, "public");
            match row.strategy {
                Some(Strategy::UpdateEncryption) => assert!(matches!(row.outcome, Outcome::Rotated(_)), "{name}"),
                _ => {
                    assert_eq!(row.outcome, Outcome::Skipped(SkipReason::KeepsNot), "{name}: {row:?}");
                    assert!(row.detail.contains("it would lose the ACL"), "{name}: {row:?}");
                }
            }
            assert_eq!(world.store.acl(&public).await.unwrap(), before, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_gets_the_buckets_default_retention() {
    let world = World::new(Mode::aws(), Versioning::Enabled).await;
    let mut frozen = world.prepare(&spec()).await;
    frozen.retains = true;
    frozen.proofs.retain(|p| p.strategy != Strategy::UpdateEncryption);
    world.put("k", kms(OLD), b"body").await;
    let rows = world.walk(&world.with(any_size(spec()), frozen)).await.unwrap();
    assert_eq!(rows[0].outcome, Outcome::Skipped(SkipReason::KeepsNot), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn directory_markers_are_rotated_everywhere() {
    for mode in Mode::all() {
        for versioning in VERSIONINGS {
            let world = World::new(mode.clone(), versioning).await;
            let rewrapper = world.rewrapper(any_size(spec())).await;
            world.put("dir/", kms(OLD), b"a body").await;
            world.put("s3/", Sse::S3, b"").await;
            world.later().await;
            let rows = world.walk(&rewrapper).await.unwrap();
            for key in ["dir/", "s3/"] {
                let row = row_of(&rows, key);
                assert!(matches!(row.outcome, Outcome::Rotated(_)), "{} {versioning:?} {row:?}", mode.name);
            }
            assert_eq!(world.get("dir/").await.1, "a body");
            let again = world.walk(&rewrapper).await.unwrap();
            assert_eq!(row_of(&again, "dir/").outcome, Outcome::Current, "{} {versioning:?}", mode.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sse_s3_is_sealed_again_and_sse_kms_left() {
    for mode in Mode::all() {
        let world = World::new(mode.clone(), Versioning::Off).await;
        let spec = JobSpec { dialect: Dialect::Minio, target: Target::SseS3, ..spec() };
        let rewrapper = world.rewrapper(spec).await;
        world.put("kms", kms(OLD), b"1").await;
        world.put("s3", Sse::S3, b"2").await;
        world.later().await;
        let rows = world.walk(&rewrapper).await.unwrap();
        assert_eq!(row_of(&rows, "kms").outcome, Outcome::Skipped(SkipReason::Downgrade), "{}", mode.name);
        let row = row_of(&rows, "s3");
        assert_eq!(row.outcome, Outcome::Rotated(Evidence::Write), "{}: {}", mode.name, row.detail);
        assert_eq!((&row.before, &row.after), (&Seal::SseS3, &Seal::SseS3));
        assert_eq!(world.get("s3").await.1, "2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_context_is_set_and_an_objects_own_is_kept() {
    let context: BTreeMap<String, String> = [("team".to_owned(), "a".to_owned())].into();
    let sealed = Sse::Kms { key: Some(KeyName(OLD.into())), context: Some(context.clone()), bucket_key: None };
    let world = World::new(Mode::minio(), Versioning::Off).await;
    let rewrapper = world.rewrapper(spec()).await;
    // The facts of a directory marker come by HEAD, which shows no context.
    for key in ["own", "own/"] {
        world.put(key, sealed.clone(), b"1").await;
    }
    world.later().await;
    let rows = world.walk(&rewrapper).await.unwrap();
    assert!(rows.iter().all(|row| matches!(row.outcome, Outcome::Rotated(_))), "{rows:?}");
    for entry in world.list(&rewrapper.rules().frozen).await {
        let Sse::Kms { context: shown, .. } = entry.facts.unwrap().sse else { panic!("not SSE-KMS") };
        assert_eq!(shown, Some(context.clone()), "{}", entry.key);
    }

    // One that somebody else puts between the listing and the HEAD of a second look.
    let (model, theirs) = (world.store.store().clone(), sealed.clone());
    let deed = Action::Before(Arc::new(move || {
        let (model, new) = (model.clone(), new_object(theirs.clone(), b"another"));
        async move {
            let at = ObjectAt::current(BUCKET, "own");
            let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
            model.put(request, Bytes::from_static(b"another").into()).await.unwrap();
        }
        .boxed()
    }));
    world.store.faults().add(Rule::on("HeadObject", deed).nth(1));
    let Look::Write(plan) = rewrapper.look_again(&ObjectAt::current(BUCKET, "own")).await.unwrap() else {
        panic!("settled")
    };
    assert_eq!((plan.strategy, plan.facts.own_context()), (Strategy::RewriteInPlace, Some(&context)));

    let target = Target::SseKms { key: Some(KeyName(NEW.into())), context: Some(context.clone()) };
    let rewrapper = world.rewrapper(JobSpec { target, ..spec() }).await;
    world.put("already", kms(NEW), b"2").await;
    world.later().await;
    let rows = world.walk(&rewrapper).await.unwrap();
    assert!(matches!(row_of(&rows, "already").outcome, Outcome::Rotated(_)), "{rows:?}");
    for entry in world.list(&rewrapper.rules().frozen).await {
        let Sse::Kms { context: shown, .. } = entry.facts.unwrap().sse else { panic!("not SSE-KMS") };
        assert_eq!(shown, Some(context.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_about_an_object_halts() {
    let rows = [
        ("HeadObject", ErrorKind::Credentials, PauseReason::Credentials),
        ("HeadObject", ErrorKind::NoSuchBucket, PauseReason::BucketGone),
        ("PutObject", ErrorKind::ClockSkew, PauseReason::ClockSkew),
        ("PutObject", ErrorKind::Kms, PauseReason::KmsDown),
        ("PutObject", ErrorKind::KmsKeyNotFound, PauseReason::TargetKeyGone),
        ("PutObject", ErrorKind::Throttled, PauseReason::StoreDown),
    ];
    for (operation, kind, wanted) in rows {
        let world = World::new(Mode::rgw(), Versioning::Off).await;
        let rewrapper = world.rewrapper(spec()).await;
        world.put("k", kms(OLD), b"1").await;
        world.store.faults().add(Rule::on(operation, Action::FailBefore(kind)));
        let halt = world.walk(&rewrapper).await.unwrap_err();
        assert!(matches!(&halt, Halt::Pause { reason, .. } if *reason == wanted), "{operation} {kind:?}: {halt}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_key_that_is_gone_is_the_objects_failure_and_a_target_key_the_jobs() {
    // moto takes any key, and RGW's answer does not say that it is a key that is missing.
    for mode in [Mode::aws(), Mode::minio()] {
        for gone in [OLD, NEW] {
            let world = World::new(mode.clone(), Versioning::Off).await;
            let rewrapper = world.rewrapper(spec()).await;
            world.put("k", kms(OLD), b"1").await;
            world.later().await;
            world.kes.delete_key(gone).unwrap();
            match world.walk(&rewrapper).await {
                Ok(rows) => {
                    assert_eq!(gone, OLD, "{}: {rows:?}", mode.name);
                    assert_eq!(rows[0].outcome, Outcome::Failed(FailReason::KeyGone), "{}: {rows:?}", mode.name);
                }
                Err(halt) => {
                    assert_eq!(gone, NEW, "{}: {halt}", mode.name);
                    assert!(
                        matches!(halt, Halt::Pause { reason: PauseReason::TargetKeyGone, .. }),
                        "{}: {halt}",
                        mode.name
                    );
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_said_and_fails_nothing_else() {
    let world = World::new(Mode::rgw(), Versioning::Enabled).await;
    let rewrapper = world.rewrapper(any_size(spec())).await;
    let model = world.store.store();
    let at = |key: &str| ObjectAt::current(BUCKET, key);
    model.seed_sse_c(&at("customer"), NewObject::default(), Bytes::from_static(b"1")).await.unwrap();
    world.put("old-version", kms(OLD), b"1").await;
    world.put("old-version", kms(OLD), b"2").await;
    world.put("deleted", kms(OLD), b"1").await;
    model.delete_object(&at("deleted")).unwrap();
    world.later().await;
    let rows = world.walk(&rewrapper).await.unwrap();
    let mut outcomes: Vec<_> =
        rows.iter().map(|r| format!("{} {}/{}", r.key, r.outcome.word(), r.outcome.reason())).collect();
    outcomes.sort();
    insta::assert_debug_snapshot!(outcomes, @r#"
    [
        "customer skipped/sse-c",
        "deleted skipped/delete-marker",
        "deleted skipped/noncurrent",
        "old-version rotated/key",
        "old-version skipped/noncurrent",
    ]
    "#);
}

#[tokio::test(start_paused = true)]
async fn bodies_are_hashed_before_and_after() {
    for (mode, gets) in [(Mode::aws(), 2), (Mode::rgw(), 2)] {
        let world = World::new(mode.clone(), Versioning::Off).await;
        let rewrapper =
            world.rewrapper(JobSpec { options: Options { verify_bodies: 0.001, ..spec().options }, ..spec() }).await;
        world.put("k", kms(OLD), b"body").await;
        world.later().await;
        let before = world.store.store().calls();
        let rows = world.walk(&rewrapper).await.unwrap();
        assert!(matches!(rows[0].outcome, Outcome::Rotated(_)));
        assert_eq!(world.calls_since(&before).get("GetObject"), Some(&gets), "{}", mode.name);
        // A body that is always cut is none that differs.
        world.put("l", kms(OLD), b"body").await;
        world.store.faults().add(Rule::on("GetObject", Action::CutBody(2)).of_key("l").nth(2).times(9));
        let rows = world.walk(&rewrapper).await.unwrap();
        assert_eq!(row_of(&rows, "l").outcome, Outcome::Failed(FailReason::ReadBack), "{}: {rows:?}", mode.name);
    }
}

#[tokio::test(start_paused = true)]
async fn what_lies_in_an_archive_gets_its_key_without_a_hash_of_its_body() {
    let world = World::new(Mode::aws(), Versioning::Off).await;
    let options = Options { verify_bodies: 0.001, ..spec().options };
    let rewrapper = world.rewrapper(JobSpec { options, ..spec() }).await;
    let new = NewObject { storage_class: Some("GLACIER".into()), ..new_object(kms(OLD), b"body") };
    let at = ObjectAt::current(BUCKET, "k");
    let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
    world.store.put(request, Bytes::from_static(b"body").into()).await.unwrap();
    world.later().await;
    let rows = world.walk(&rewrapper).await.unwrap();
    assert!(matches!(rows[0].outcome, Outcome::Rotated(_)), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_differs_stops_the_job() {
    let world = World::new(Mode::aws(), Versioning::Off).await;
    let rewrapper = world.rewrapper(spec()).await;
    world.put("k", kms(OLD), b"body").await;
    let Look::Write(mut plan) = rewrapper.look_again(&ObjectAt::current(BUCKET, "k")).await.unwrap() else {
        panic!("settled")
    };
    let frozen = rewrapper.rules().frozen.clone();
    let sent = crate::strategy::run(&world.store, &frozen, &mut plan, None).await.unwrap();
    let Err(halt) = rewrapper.confirm(&plan, &sent.expected, Some([0; 32])).await else { panic!("went on") };
    assert!(
        matches!(&halt, Halt::Stop { reason: StopReason::BodyChanged, detail } if detail.contains("bucket/k")),
        "{halt}"
    );
}

/// An object of the property test.
#[derive(Clone, Debug)]
struct Thing {
    kind: u8,
    size: usize,
    tags: usize,
    multipart: bool,
    redirect: bool,
}

fn things() -> impl proptest::strategy::Strategy<Value = Vec<Thing>> {
    let thing = (0u8..5, 0usize..3_000, 0usize..3, any::<bool>(), any::<bool>()).prop_map(
        |(kind, size, tags, multipart, redirect)| Thing {
            kind,
            size,
            tags,
            multipart: multipart && kind != 0,
            redirect,
        },
    );
    proptest::collection::vec(thing, 1..6)
}

async fn random_job(mode: Mode, versioning: Versioning, things: Vec<Thing>) {
    let world = World::new(mode, versioning).await;
    let rewrapper = world.rewrapper(any_size(spec())).await;
    for (n, thing) in things.iter().enumerate() {
        let at = ObjectAt::current(BUCKET, format!("k{n}"));
        let body: Bytes = vec![n as u8; thing.size].into();
        let sse = match thing.kind {
            0 | 1 => Sse::None,
            2 => Sse::S3,
            3 => kms(OLD),
            _ => kms(NEW),
        };
        let mut new = new_object(sse, &body);
        new.tags.truncate(thing.tags);
        new.headers.website_redirect = thing.redirect.then(|| "/x".to_owned());
        if thing.kind == 0 {
            world.store.store().seed_plaintext(&at, new, body).await.unwrap();
        } else if thing.multipart {
            new.checksum = None;
            let id = world.store.create_upload(&at, &new, &InPlace::default()).await.unwrap();
            let upload = Upload { bucket: at.bucket.clone(), key: at.key.clone(), id };
            let part = world.store.upload_part(&upload, 1, Body::Bytes(body), None).await.unwrap();
            world.store.complete_upload(&upload, &[part], &Guard::None, &InPlace::default()).await.unwrap();
        } else {
            let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
            world.store.put(request, Body::Bytes(body)).await.unwrap();
        }
    }
    world.later().await;
    let mut before = Vec::new();
    for n in 0..things.len() {
        before.push(world.get(&format!("k{n}")).await);
    }
    let rows = world.walk(&rewrapper).await.unwrap();
    for (n, (object, body, tags)) in before.iter().enumerate() {
        let key = format!("k{n}");
        let row = row_of(&rows, &key);
        let (now, now_body, now_tags) = world.get(&key).await;
        assert_eq!((&now_body, &now.headers, &now.checksums), (body, &object.headers, &object.checksums), "{row:?}");
        assert!(crate::readback::same_tags(&now_tags, tags), "{row:?}");
        let right = now.sse.seal().kms_key().is_some_and(|k| k.same_key(&KeyName(NEW.into())));
        let said = matches!(row.outcome, Outcome::Rotated(_) | Outcome::Current);
        assert_eq!(said, right, "{row:?}");
        assert!(said || matches!(row.outcome, Outcome::Skipped(_)), "{row:?}");
        assert!(said || now == *object, "skipped means untouched: {row:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever the object: it has all that it had, and its row says the truth.
    #[test]
    fn rows_say_the_truth_and_nothing_is_harmed(things in things(), mode in 0usize..4, versioning in 0usize..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(random_job(Mode::all()[mode].clone(), VERSIONINGS[versioning], things));
    }
}
