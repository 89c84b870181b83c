//! Preflight and proofs on the store model.

use std::fmt::Write as _;

use bytes::Bytes;
use keyrotate_devstack::kes::{KesModel, Policy};
use keyrotate_devstack::model::{Action, BucketSettings, Call, Mode, Rule};
use keyrotate_kms::{KmsError, KmsErrorKind};
use keyrotate_proto::capability::Versioning;
use keyrotate_proto::spec::{Dialect, Filter, Options, Target};
use keyrotate_store::{ErrorKind, Guard, InPlace, NewObject, ObjectAt, PutRequest, Sse, StoreError};

use super::*;
use crate::Halt;
use crate::testing::{BUCKET, NEW, OLD, World, job, new_object, settings, spec};
use keyrotate_proto::state::{PauseReason, StopReason};

fn shown(frozen: &Frozen) -> String {
    let mut text = format!(
        "target: {:?}\nlisting facts: {}, tags announced: {}, probed: {:?}\n",
        frozen.target, frozen.listing_facts, frozen.tags_announced, frozen.probed
    );
    let mut proofs = frozen.proofs.clone();
    proofs.sort_by_key(|p| (p.source, p.multipart, p.strategy));
    for p in proofs {
        let parts = if p.multipart { "parts" } else { "single" };
        let guard = if p.guarded { "guarded" } else { "UNGUARDED" };
        writeln!(text, "{:?} {parts} {}: {guard}, keeps {:?}", p.source, p.strategy, p.keeps).unwrap();
    }
    for note in frozen.said() {
        writeln!(text, "note: {note}").unwrap();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn what_each_store_proves() {
    for mode in Mode::all() {
        let name = mode.name;
        for versioning in [Versioning::Off, Versioning::Enabled, Versioning::Suspended] {
            let world = World::new(mode.clone(), versioning).await;
            let frozen = world.prepare(&spec()).await;
            assert!(world.list(&frozen).await.is_empty(), "{name} {versioning:?}: probes are left");
            assert!(
                world.store.uploads(BUCKET, "").await.unwrap().is_empty(),
                "{name} {versioning:?}: uploads are left"
            );
            insta::assert_snapshot!(format!("{name}_{versioning:?}"), shown(&frozen));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_in_the_file_each_store_has_its_own_default() {
    let default = |mode: Mode, bucket: BucketSettings| async move {
        let world = World::new(mode.clone(), Versioning::Off).await;
        world.store.store().configure(BUCKET, bucket).unwrap();
        let spec = JobSpec { target: Target::SseKms { key: None, context: None }, ..spec() };
        let frozen = prepare(&world.store, Some(&world.kes), &spec, &settings(), &world.env).await;
        frozen.map(|f| f.target).map_err(|r| r.to_string())
    };
    let kms = |key: &str| FrozenTarget::key(KeyName(key.into()));
    assert_eq!(default(Mode::minio(), BucketSettings::plain()).await, Ok(kms("minio-default-key")));
    let demanded = default(Mode::rgw(), BucketSettings::plain()).await.unwrap_err();
    assert!(demanded.contains("set `encryption.key`"), "{demanded}");
    let none = default(Mode::aws(), BucketSettings::plain()).await.unwrap_err();
    assert!(none.contains("default encryption has no KMS key"), "{none}");
    let default_sse = Some(Sse::Kms { key: Some(KeyName(NEW.into())), context: None, bucket_key: None });
    let set = default(Mode::aws(), BucketSettings { default_sse, ..BucketSettings::plain() }).await;
    assert_eq!(set, Ok(kms(&format!("arn:aws:kms:us-east-1:111122223333:key/{NEW}"))));
}

/// An account may be denied `aws/s3`: it is not touched where the bucket's setting says what the default is.
#[tokio::test(start_paused = true)]
async fn on_aws_the_default_is_read_and_not_tried() {
    let world = World::new(Mode::aws(), Versioning::Off).await;
    world.put("makes the key", Sse::S3, b"1").await;
    world.kes.delete_key(&Mode::aws().default_key).unwrap();
    let full = format!("arn:aws:kms:us-east-1:111122223333:key/{NEW}");
    for (set, named) in [(full.as_str(), NEW), (NEW, full.as_str())] {
        let default_sse = Some(Sse::Kms { key: Some(KeyName(set.into())), context: None, bucket_key: None });
        world.store.store().configure(BUCKET, BucketSettings { default_sse, ..BucketSettings::plain() }).unwrap();
        let resolve = async |variable: &str| {
            let settings = ProbeSettings { default_key: Some(KeyName(variable.into())), ..settings() };
            let yard = objects::Yard { store: &world.store, bucket: BUCKET, settings: &settings, has_versions: false };
            let facts = world.store.bucket(BUCKET).await.unwrap();
            target::resolve(&yard, &facts, &JobSpec { target: Target::SseKms { key: None, context: None }, ..spec() })
                .await
        };
        let expected = FrozenTarget::key(KeyName(full.clone()));
        assert_eq!(resolve(named).await.unwrap(), expected);
        let refusal = resolve("another").await.unwrap_err();
        assert!(refusal.what.contains("MINIO_KMS_KES_KEY_NAME says `another`"), "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_new_objects_get_is_seen_and_not_guessed_from_names() {
    let differ = |mode: Mode, gets: Option<Sse>, target: Target| async move {
        let world = World::new(mode, Versioning::Off).await;
        let bucket = BucketSettings { default_sse: gets, ..BucketSettings::plain() };
        world.store.store().configure(BUCKET, bucket).unwrap();
        let spec = JobSpec { target, ..spec() };
        let frozen = prepare(&world.store, None, &spec, &settings(), &world.env).await.unwrap();
        frozen.new_objects.is_some()
    };
    let kms = |key: Option<&str>| Sse::Kms { key: key.map(|k| KeyName(k.into())), context: None, bucket_key: None };
    let to = |key: Option<&str>| Target::SseKms { key: key.map(|k| KeyName(k.into())), context: None };
    // The bucket names no key, so it gives the store's default, and that is the target, named or not.
    assert!(!differ(Mode::minio(), Some(kms(None)), to(None)).await);
    assert!(!differ(Mode::minio(), Some(kms(None)), to(Some("minio-default-key"))).await);
    assert!(differ(Mode::minio(), Some(kms(None)), to(Some(NEW))).await);
    assert!(!differ(Mode::minio(), Some(kms(Some(NEW))), to(Some(NEW))).await);
    assert!(differ(Mode::minio(), Some(kms(Some(OLD))), to(Some(NEW))).await);
    assert!(differ(Mode::minio(), None, to(Some(NEW))).await);
    assert!(!differ(Mode::minio(), Some(Sse::S3), Target::SseS3).await);
    assert!(differ(Mode::minio(), None, Target::SseS3).await);
}

/// Each right that is missing is named alone.
#[tokio::test(start_paused = true)]
async fn a_missing_right_is_named() {
    for (operation, right) in [
        ("HeadBucket", "s3:ListBucket "),
        ("ListObjectsV2", "s3:ListBucket "),
        ("ListObjectVersions", "s3:ListBucketVersions"),
        ("PutObject", "s3:PutObject "),
        ("HeadObject", "s3:GetObject "),
        ("GetObjectTagging", "s3:GetObjectTagging"),
        ("DeleteObject", "s3:DeleteObject "),
    ] {
        let world = World::new(Mode::minio(), Versioning::Enabled).await;
        world.put(&objects::Form::Target.key(&settings()), Sse::S3, b"left by a killed process").await;
        world.store.faults().add(Rule::on(operation, Action::FailBefore(ErrorKind::Denied)));
        let asked = prepare(&world.store, None, &spec(), &settings(), &world.env).await;
        if operation == "ListObjectsV2" {
            assert!(asked.is_ok(), "a bucket with versions is listed by versions: {asked:?}");
            continue;
        }
        let refusal = asked.unwrap_err();
        assert!(refusal.mend.contains(right), "{operation}: {refusal}");
        assert_eq!(refusal.mend.contains("s3:PutObject"), operation == "PutObject", "{operation}: {refusal}");
    }
}

/// What works on one kind of source in two parts says nothing about another.
#[tokio::test(start_paused = true)]
async fn each_kind_of_source_is_proven_in_two_parts_for_itself() {
    for broken in [SourceKind::Plaintext, SourceKind::SseS3, SourceKind::SseKms] {
        let world = World::new(Mode::minio(), Versioning::Off).await;
        let key = objects::Form::Parts(broken).key(&settings());
        world.store.faults().add(Rule::on("UploadPartCopy", Action::FailBefore(ErrorKind::Refused)).of_key(key));
        let frozen = world.prepare(&spec()).await;
        let proven =
            |strategy, kind| frozen.proofs.iter().any(|p| p.strategy == strategy && p.source == kind && p.multipart);
        for kind in [SourceKind::Plaintext, SourceKind::SseS3, SourceKind::SseKms] {
            assert_eq!(proven(Strategy::CopyMultipart, kind), kind != broken, "{kind:?}");
            assert!(proven(Strategy::RewriteMultipart, kind), "{kind:?}");
        }
    }
}

/// A policy may let us list below the scope and below our own prefix only.
#[tokio::test(start_paused = true)]
async fn nothing_is_listed_outside_the_scope_and_our_own_prefix() {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    let outside = |call: &Call<'_>| {
        call.operation == "ListObjectsV2" && !["scope/", ".keyrotate/"].iter().any(|ours| call.key.starts_with(ours))
    };
    world.store.faults().add(Rule::when(outside, Action::FailBefore(ErrorKind::Denied)));
    let spec = JobSpec { prefix: "scope/".into(), ..spec() };
    prepare(&world.store, None, &spec, &settings(), &world.env).await.unwrap();
}

/// A refusal leaves no probe either.
async fn refused(world: &World, spec: &JobSpec, settings: &ProbeSettings) -> Refusal {
    let refusal = prepare(&world.store, Some(&world.kes), spec, settings, &world.env).await.unwrap_err();
    let left = world.store.store().raw_version_ids(BUCKET, &objects::Form::Target.key(settings));
    assert!(left.is_empty(), "a probe is left after: {refusal}");
    refusal
}

#[tokio::test(start_paused = true)]
async fn every_refusal_says_what_and_how_to_mend_it() {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    let missing = JobSpec { bucket: "nowhere".into(), ..spec() };
    let refusal = refused(&world, &missing, &settings()).await;
    assert_eq!(refusal.pause, Some(PauseReason::BucketGone), "{refusal}");

    let unknown =
        JobSpec { target: Target::SseKms { key: Some(KeyName("no-such-key".into())), context: None }, ..spec() };
    let refusal = refused(&world, &unknown, &settings()).await;
    assert!(refusal.mend.contains("create `no-such-key`"), "{refusal}");

    let other = ProbeSettings { default_key: Some(KeyName("another".into())), ..settings() };
    let unnamed = JobSpec { target: Target::SseKms { key: None, context: None }, ..spec() };
    let refusal = refused(&world, &unnamed, &other).await;
    assert!(refusal.what.contains("`minio-default-key`") && refusal.what.contains("`another`"), "{refusal}");

    world.store.faults().add(Rule::on("PutObject", Action::FailBefore(ErrorKind::Denied)));
    let refusal = refused(&world, &spec(), &settings()).await;
    assert!(refusal.mend.contains("s3:PutObject"), "{refusal}");
    world.store.faults().clear();

    let ahead = Env::seeded(1, world.env.now() + jiff::SignedDuration::from_mins(6));
    let refusal = prepare(&world.store, None, &spec(), &settings(), &ahead).await.unwrap_err();
    assert_eq!(refusal.pause, Some(PauseReason::ClockSkew), "{refusal}");
    assert!(
        refusal.what.contains(&ahead.now().to_string()) && refusal.what.contains(&world.env.now().to_string()[..16]),
        "{refusal}"
    );

    let elsewhere = KesModel::new(world.env.clone());
    let refusal = prepare(&world.store, Some(&elsewhere), &spec(), &settings(), &world.env).await.unwrap_err();
    assert!(refusal.mend.contains("kes key create new-key"), "{refusal}");

    let moto = World::new(Mode { put_if_match: false, ..Mode::moto() }, Versioning::Off).await;
    let refusal = refused(&moto, &spec(), &settings()).await;
    assert!(refusal.mend.contains("allowUnguarded"), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn what_only_a_person_mends_at_kes_is_no_reason_to_wait() {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    for (allowed, missing) in [("/v1/key/decrypt/*", "generate"), ("/v1/key/generate/*", "decrypt")] {
        let limited = world.kes.with_policy(Policy::allow([allowed]));
        let refusal = prepare(&world.store, Some(&limited), &spec(), &settings(), &world.env).await.unwrap_err();
        assert!(refusal.mend.contains(&format!("`allow: /v1/key/{missing}/{NEW}`")), "{refusal}");
        assert_eq!(refusal.pause, None, "{refusal}");
    }
    let pause = |kind| Refusal::kms(&KmsError::new("generate", NEW, kind, "a test")).pause;
    for waits in [KmsErrorKind::Server, KmsErrorKind::Timeout, KmsErrorKind::Unreachable, KmsErrorKind::BreakerOpen] {
        assert_eq!(pause(waits), Some(PauseReason::KmsDown), "{waits:?}");
    }
    use KmsErrorKind as K;
    for never in [K::NoCertificate, K::Untrusted, K::NotImplemented, K::Refused, K::NotAllowed, K::NotAuthentic] {
        assert_eq!(pause(never), None, "{never:?}");
    }
    let store = |status| StoreError { status, ..StoreError::new("PutObject", ErrorKind::Kms, "a test") };
    let pause = |status| Refusal::store("writing", &store(status)).pause;
    assert_eq!((pause(Some(500)), pause(None)), (Some(PauseReason::KmsDown), Some(PauseReason::KmsDown)));
    assert_eq!((pause(Some(400)), pause(Some(403)), pause(Some(501))), (None, None, None));
}

#[tokio::test(start_paused = true)]
async fn a_listing_of_versions_with_gaps_is_refused() {
    let gaps = Mode { skips_at_key_marker: true, ..Mode::minio() };
    for versioning in [Versioning::Enabled, Versioning::Suspended] {
        let refusal = refused(&World::as_it_is(gaps.clone(), versioning).await, &spec(), &settings()).await;
        assert!(refusal.what.contains("leaves out") && refusal.pause.is_none(), "{refusal}");
    }
    // Without versions another call lists, which has no gaps.
    let world = World::as_it_is(gaps, Versioning::Off).await;
    prepare(&world.store, Some(&world.kes), &spec(), &settings(), &world.env).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn default_retention_is_refused_unless_the_file_allows_it() {
    let world = World::new(Mode::minio(), Versioning::Enabled).await;
    let retention = Some(("GOVERNANCE".to_owned(), 1));
    let bucket = BucketSettings { lock_enabled: true, default_retention: retention, ..BucketSettings::versioned() };
    world.store.store().create_bucket("locked", bucket).unwrap();
    let locked = JobSpec { bucket: "locked".into(), ..spec() };
    let refusal = refused(&world, &locked, &settings()).await;
    assert!(refusal.mend.contains("retainedProbes"), "{refusal}");
    let elsewhere = ProbeSettings { probe_bucket: Some(BUCKET.into()), ..settings() };
    let frozen = prepare(&world.store, None, &locked, &elsewhere, &world.env).await.unwrap();
    assert!(!frozen.same_bucket && !frozen.listing_facts);
    assert_eq!(frozen.proofs.iter().filter(|p| p.strategy == Strategy::UpdateEncryption).count(), 0);
}

/// A second start of our own finds what was left at once; what another installation may be at work on is left alone.
#[tokio::test(start_paused = true)]
async fn a_sweep_takes_what_killed_processes_left_and_nothing_else() {
    for versioning in [Versioning::Off, Versioning::Enabled] {
        let world = World::new(Mode::minio(), versioning).await;
        let dead = ProbeSettings::new(JobId::new(5, [1; 10]));
        let theirs = ProbeSettings { job: JobId::new(6, [2; 10]), ..dead.clone() };
        let ms = u64::try_from(world.env.now().as_millisecond()).unwrap();
        let fresh = ProbeSettings { job: JobId::new(ms, [3; 10]), ..dead.clone() };
        for name in [&dead, &theirs, &fresh].into_iter().flat_map(objects::names) {
            world.put(&name, Sse::S3, b"probe").await;
        }
        for of in [&dead, &theirs, &fresh] {
            let at = ObjectAt::current(BUCKET, objects::Form::Target.key(of));
            world.store.create_upload(&at, &NewObject::default(), &InPlace::default()).await.unwrap();
        }
        let foreign = [".keyrotate/notes".to_owned(), format!(".keyrotate/probe-{}-mine", job())];
        for name in &foreign {
            world.put(name, Sse::S3, b"somebody's").await;
        }
        let listed = async || -> Vec<_> {
            let frozen = Frozen { versioning, ..crate::testing::frozen() };
            world.list(&frozen).await.into_iter().map(|e| e.key).collect()
        };
        let expected = |of: &[&ProbeSettings]| -> Vec<_> {
            let mut all: Vec<_> = of.iter().flat_map(|s| objects::names(s)).chain(foreign.clone()).collect();
            all.sort();
            all
        };
        let gone = [dead.job.clone()].into();
        let swept = async || sweep(&world.store, BUCKET, ".keyrotate/", &gone, &world.env).await.unwrap();
        // Theirs were written just now; their upload is of a job made long ago.
        assert_eq!(swept().await, 7 + 1 + 1);
        assert_eq!(listed().await, expected(&[&theirs, &fresh]));
        tokio::time::sleep(std::time::Duration::from_secs(14 * 60)).await;
        assert_eq!(swept().await, 0);
        tokio::time::sleep(std::time::Duration::from_secs(61)).await;
        assert_eq!(swept().await, 14);
        assert_eq!(listed().await, expected(&[]));
        assert_eq!(world.store.uploads(BUCKET, "").await.unwrap().len(), 1, "a young job's upload stays");
    }
}

#[tokio::test(start_paused = true)]
async fn another_installations_probes_survive_a_start_beside_them() {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    let theirs = ProbeSettings { job: JobId::new(6, [2; 10]), ..settings() };
    for name in objects::names(&theirs) {
        world.put(&name, Sse::S3, b"probe").await;
    }
    let frozen = world.prepare(&spec()).await;
    let listed: Vec<_> = world.list(&frozen).await.into_iter().map(|e| e.key).collect();
    assert_eq!(listed, objects::names(&theirs).into_iter().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn dialects_of_minio_and_sse_s3_targets_prove_only_what_they_need() {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    let minio = JobSpec { dialect: Dialect::Minio, ..spec() };
    assert!(!world.prepare(&minio).await.probed.contains(&SourceKind::Plaintext));
    let sealed = JobSpec { dialect: Dialect::Minio, target: Target::SseS3, ..spec() };
    let frozen = prepare(&world.store, None, &sealed, &settings(), &world.env).await.unwrap();
    assert_eq!(frozen.target, FrozenTarget::SseS3);
    assert_eq!(frozen.probed, [SourceKind::SseS3].into());
    assert!(frozen.canary.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_source_key_is_the_first_other_one_that_is_seen() {
    for mode in [Mode::aws(), Mode::minio()] {
        let world = World::new(mode, Versioning::Off).await;
        let none = prepare(&world.store, None, &spec(), &settings(), &world.env).await.unwrap();
        assert!(!none.probed.contains(&SourceKind::SseKms));
        world.put("a", Sse::S3, b"1").await;
        world.put("b", crate::testing::kms(NEW), b"1").await;
        world.put("c", crate::testing::kms(OLD), b"1").await;
        let seen = prepare(&world.store, None, &spec(), &settings(), &world.env).await.unwrap();
        assert!(seen.probed.contains(&SourceKind::SseKms), "{:?}", seen.notes);
    }
}

#[tokio::test(start_paused = true)]
async fn the_canary_sees_a_key_that_was_made_anew() {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    let frozen = world.prepare(&spec()).await;
    canary(&world.kes, &frozen).await.unwrap();
    world.kes.recreate(NEW).unwrap();
    assert!(matches!(canary(&world.kes, &frozen).await, Err(Halt::Stop { reason: StopReason::Canary, .. })));
    world.kes.delete_key(NEW).unwrap();
    assert!(matches!(canary(&world.kes, &frozen).await, Err(Halt::Pause { reason: PauseReason::TargetKeyGone, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_touch_sees_that_the_store_lost_the_key() {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    world.put("a", crate::testing::kms(OLD), b"body").await;
    let at = ObjectAt::current(BUCKET, "a");
    touch(&world.store, &at).await.unwrap();
    touch(&world.store, &ObjectAt::current(BUCKET, "gone")).await.unwrap();
    world.kes.delete_key(OLD).unwrap();
    assert!(matches!(touch(&world.store, &at).await, Err(Halt::Pause { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_touch_of_what_nobody_can_read_shows_nothing() {
    let world = World::new(Mode::aws(), Versioning::Off).await;
    let at = |key| ObjectAt::current(BUCKET, key);
    let new = NewObject { storage_class: Some("GLACIER".into()), ..new_object(crate::testing::kms(OLD), b"body") };
    let request = PutRequest { at: at("archived"), new, guard: Guard::None, place: InPlace::default() };
    world.store.put(request, Bytes::from_static(b"body").into()).await.unwrap();
    let new = new_object(Sse::Customer, b"body");
    world.store.store().seed_sse_c(&at("theirs"), new, Bytes::from_static(b"body")).await.unwrap();
    for key in ["archived", "theirs"] {
        touch(&world.store, &at(key)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn no_probe_stays_wherever_prepare_breaks_off() {
    let spec = JobSpec { filter: Filter { kms_key: Some(KeyName(OLD.into())), ..Filter::default() }, ..spec() };
    let spec = JobSpec { options: Options { in_place: true, ..spec.options.clone() }, ..spec };
    for operation in [
        "PutObject",
        "HeadObject",
        "GetObject",
        "CopyObject",
        "CompleteMultipartUpload",
        "UploadPartCopy",
        "UploadPart",
    ] {
        for nth in [1, 2, 5] {
            let world = World::new(Mode::minio(), Versioning::Enabled).await;
            world.store.faults().add(Rule::on(operation, Action::FailAfter(ErrorKind::Timeout)).nth(nth));
            let _ = prepare(&world.store, Some(&world.kes), &spec, &settings(), &world.env).await;
            let frozen = Frozen { versioning: Versioning::Enabled, ..crate::testing::frozen() };
            assert!(world.list(&frozen).await.is_empty(), "{operation} {nth}");
            assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{operation} {nth}");
        }
    }
}

/// A call that fails for a moment says nothing about the store.
#[tokio::test(start_paused = true)]
async fn what_was_not_answered_for_a_moment_is_proven_all_the_same() {
    for mode in [Mode::aws(), Mode::minio()] {
        let world = World::new(mode.clone(), Versioning::Off).await;
        let calm = prepare(&world.store, None, &spec(), &settings(), &world.env).await.unwrap().proofs;
        for kind in [ErrorKind::Cut, ErrorKind::Server, ErrorKind::Timeout] {
            for nth in [2, 5, 9] {
                for operation in ["PutObject", "HeadObject", "CopyObject", "UpdateObjectEncryption"] {
                    let world = World::new(mode.clone(), Versioning::Off).await;
                    world.store.faults().add(Rule::on(operation, Action::FailAfter(kind)).nth(nth));
                    let frozen = prepare(&world.store, None, &spec(), &settings(), &world.env).await;
                    // Before the trials it is a refusal, which is waited for.
                    if let Ok(frozen) = frozen {
                        assert_eq!(frozen.proofs, calm, "{} {operation} {nth} {kind:?}", mode.name);
                    }
                }
            }
        }
    }
}
