//! Preflight and proofs on the store model.

use std::fmt::Write as _;

use keyrotate_devstack::kes::{KesModel, Policy};
use keyrotate_devstack::model::{Action, BucketSettings, Mode, Rule};
use keyrotate_kms::{KmsError, KmsErrorKind};
use keyrotate_proto::capability::Versioning;
use keyrotate_proto::spec::{Dialect, Filter, Options, Target};
use keyrotate_store::{ErrorKind, ObjectAt, Sse, StoreError};

use super::*;
use crate::Halt;
use crate::testing::{BUCKET, NEW, OLD, World, job, settings, spec};
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
    for note in &frozen.notes {
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
    let kms = |key: &str| FrozenTarget::SseKms { key: KeyName(key.into()), context: None };
    assert_eq!(default(Mode::minio(), BucketSettings::plain()).await, Ok(kms("minio-default-key")));
    let demanded = default(Mode::rgw(), BucketSettings::plain()).await.unwrap_err();
    assert!(demanded.contains("set `encryption.key`"), "{demanded}");
    let none = default(Mode::aws(), BucketSettings::plain()).await.unwrap_err();
    assert!(none.contains("default encryption has no KMS key"), "{none}");
    let default_sse = Some(Sse::Kms { key: Some(KeyName(NEW.into())), context: None, bucket_key: None });
    let set = default(Mode::aws(), BucketSettings { default_sse, ..BucketSettings::plain() }).await;
    assert_eq!(set, Ok(kms(&format!("arn:aws:kms:us-east-1:111122223333:key/{NEW}"))));
}

/// A refusal leaves no probe either.
async fn refused(world: &World, spec: &JobSpec, settings: &ProbeSettings) -> Refusal {
    let refusal = prepare(&world.store, Some(&world.kes), spec, settings, &world.env).await.unwrap_err();
    let left = world.store.store().raw_version_ids(BUCKET, &objects::Form::Target.key(&settings.prefix, &settings.job));
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

#[tokio::test(start_paused = true)]
async fn a_sweep_takes_what_killed_processes_left_and_nothing_else() {
    for versioning in [Versioning::Off, Versioning::Enabled] {
        let world = World::new(Mode::minio(), versioning).await;
        let ours = names(&settings());
        let dead = ProbeSettings::new(JobId::new(5, [1; 10]));
        let alive = ProbeSettings { job: JobId::new(6, [2; 10]), ..dead.clone() };
        for name in ours.iter().chain(&names(&dead)).chain(&names(&alive)) {
            world.put(name, Sse::S3, b"probe").await;
        }
        world.put(".keyrotate/notes", Sse::S3, b"somebody's").await;
        world.put(&format!(".keyrotate/probe-{}-mine", job()), Sse::S3, b"somebody's").await;
        let live = [alive.job.clone()].into();
        assert_eq!(sweep(&world.store, BUCKET, ".keyrotate/", &live).await.unwrap(), 14);
        let mut left: Vec<_> = names(&alive).into_iter().collect();
        left.extend([".keyrotate/notes".to_owned(), format!(".keyrotate/probe-{}-mine", job())]);
        left.sort();
        let frozen = Frozen { versioning, ..crate::testing::frozen() };
        let listed: Vec<_> = world.list(&frozen).await.into_iter().map(|e| e.key).collect();
        assert_eq!(listed, left);
    }
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
