//! Versions that we add: what lies below them, what changed meanwhile, and what becomes of the one that they replace.

use keyrotate_devstack::model::BucketSettings;
use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::Note;
use keyrotate_proto::spec::{BucketKey, Superseded};

use super::*;

/// What somebody else does to `k` just before the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Another body.
    Puts,
    /// The same body, with other metadata: stores whose ETag is that of the body do not see it.
    PutsTheSame,
    Deletes,
    Tags,
    Holds,
    Shares,
}

impl Deed {
    fn action(self, model: &StoreModel) -> Action {
        let model = model.clone();
        Action::Before(Arc::new(move || {
            let model = model.clone();
            async move { self.done(&model).await }.boxed()
        }))
    }

    async fn done(self, model: &StoreModel) {
        let at = ObjectAt::current(BUCKET, "k");
        match self {
            Self::Puts | Self::PutsTheSame => {
                let body: &[u8] = if self == Self::Puts { b"theirs" } else { b"body" };
                let mut new = NewObject { checksum: None, ..new_object(kms(OLD), body) };
                new.headers.metadata.insert("by".into(), "them".into());
                let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
                model.put(request, Body::Bytes(Bytes::copy_from_slice(body))).await.unwrap();
            }
            Self::Deletes => model.delete(&at).await.unwrap(),
            Self::Tags => model.put_tags(&at, vec![("t".into(), "theirs".into()), ("u".into(), "a b".into())]).unwrap(),
            Self::Holds => model.put_lock(&at, Lock { legal_hold: true, retention: None }).unwrap(),
            Self::Shares => model.let_read(&at, "somebody").unwrap(),
        }
    }
}

/// A bucket that keeps versions, with one object, and one strategy that adds a version; guarded by nothing, if so asked.
async fn world(mode: Mode, strategy: Strategy, guarded: bool, spec: JobSpec) -> Option<(World, Rewrapper)> {
    let world = World::new(mode, Versioning::Off).await;
    let settings = BucketSettings { versioning: Versioning::Enabled, lock_enabled: true, ..BucketSettings::plain() };
    world.store.store().configure(BUCKET, settings).unwrap();
    let mut spec = any_size(spec);
    spec.options.allow_unguarded = !guarded;
    let mut frozen = world.prepare(&spec).await;
    frozen.proofs.retain(|proof| proof.strategy == strategy && proof.guarded == guarded);
    if frozen.proofs.is_empty() {
        return None;
    }
    put_without_checksum(world.store.store(), kms(OLD), &[]).await;
    world.later().await;
    let rewrapper = world.with(spec, frozen);
    Some((world, rewrapper))
}

/// Every strategy that adds versions, on every store, with and without a guard.
async fn all(spec: impl Fn() -> JobSpec) -> Vec<(String, World, Rewrapper, Strategy)> {
    let with_acls = |mode: Mode| Mode { acls: mode.name == "aws", ..mode };
    let blind = |mode: Mode| Mode {
        name: "blind",
        put_if_match: false,
        copy_if_match: false,
        complete_if_match: false,
        copy_source_if_match: false,
        part_copy_source_if_match: false,
        ..mode
    };
    let mut all = Vec::new();
    for mode in Mode::all().into_iter().map(with_acls).chain([blind(Mode::aws())]) {
        for strategy in Strategy::ALL.iter().filter(|strategy| !strategy.keeps_version()) {
            for guarded in [true, false] {
                if let Some((world, rewrapper)) = world(mode.clone(), *strategy, guarded, spec()).await {
                    let name = format!("{} {strategy} guarded {guarded}", mode.name);
                    all.push((name, world, rewrapper, *strategy));
                }
            }
        }
    }
    all
}

async fn versions(world: &World) -> Vec<Entry> {
    let request = ListRequest {
        bucket: BUCKET.into(),
        prefix: "k".into(),
        versions: true,
        from: ListFrom::Start,
        limit: 100,
        with_facts: false,
    };
    world.store.store().list(request).await.unwrap().entries
}

#[tokio::test(start_paused = true)]
async fn a_version_of_ours_never_stays_above_what_somebody_else_did() {
    let mut withdrawn = std::collections::BTreeSet::new();
    for deed in [Deed::Puts, Deed::PutsTheSame, Deed::Deletes, Deed::Tags, Deed::Holds, Deed::Shares] {
        for (name, world, rewrapper, strategy) in all(spec).await {
            let name = format!("{deed:?} {name}");
            if deed == Deed::Shares && rewrapper.rules().frozen.acl_owner.is_none() {
                continue;
            }
            let before = versions(&world).await;
            let rule = Rule::on(writing(strategy), deed.action(world.store.store())).nth(1);
            world.store.faults().add(rule);
            let rows = world.walk_with_intents(&rewrapper).await.unwrap_or_else(|h| panic!("{name}: {h}"));
            let after = versions(&world).await;
            let theirs = usize::from(matches!(deed, Deed::Puts | Deed::PutsTheSame | Deed::Deletes));
            // A copy takes the tags along that it finds.
            let copied = matches!(strategy, Strategy::Copy) && deed == Deed::Tags;
            let Row { outcome, notes, .. } = &rows[0];
            if copied {
                assert_eq!((outcome, after.len()), (&Outcome::Rotated(Evidence::Key), 2), "{name}: {rows:?}");
                assert_eq!(world.get("k").await.2[0].1, "theirs", "{name}");
                continue;
            }
            assert_eq!(after.len(), 1 + theirs, "{name}: {after:?}");
            assert_eq!(after.last().map(|e| &e.version), before.last().map(|e| &e.version), "{name}");
            let stands = matches!(outcome, Outcome::Conflict | Outcome::Skipped(SkipReason::Gone))
                || (theirs > 0 && *outcome == Outcome::Skipped(SkipReason::Noncurrent));
            assert!(stands, "{name}: {rows:?}");
            if notes.contains(&Note::Withdrawn) {
                withdrawn.insert(format!("{deed:?}"));
            }
            match deed {
                Deed::Deletes => assert!(after[0].delete_marker && outcome.word() == "skipped", "{name}: {rows:?}"),
                Deed::Puts | Deed::PutsTheSame => {
                    assert_eq!(world.get("k").await.0.headers.metadata["by"], "them", "{name}");
                }
                Deed::Tags => assert_eq!(world.get("k").await.2[0].1, "theirs", "{name}"),
                Deed::Holds => assert!(world.get("k").await.0.lock.legal_hold, "{name}"),
                Deed::Shares => {}
            }
            assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{name}: an upload is left");
        }
    }
    assert_eq!(withdrawn.len(), 6, "not all of it was ever seen: {withdrawn:?}");
}

/// Somebody who tags the version that is the current one now, ours, keeps what they said.
#[tokio::test(start_paused = true)]
async fn a_version_of_ours_that_somebody_changed_is_not_withdrawn() {
    for (name, world, rewrapper, _) in all(spec).await {
        world.store.faults().add(Rule::on("ListObjectVersions", Deed::Tags.action(world.store.store())).nth(1));
        let rows = world.walk_with_intents(&rewrapper).await.unwrap_or_else(|h| panic!("{name}: {h}"));
        assert!(!rows[0].notes.contains(&Note::Withdrawn), "{name}: {rows:?}");
        assert_eq!((versions(&world).await.len(), world.get("k").await.2[0].1.as_str()), (2, "theirs"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_window_that_knew_its_version_is_finished_by_who_takes_over() {
    for (name, world, rewrapper, strategy) in all(spec).await {
        let Strategy::Rewrite = strategy else { continue };
        if rewrapper.rules().frozen.proofs.iter().any(|proof| proof.guarded) {
            continue;
        }
        let rule = Rule::on("PutObject", Deed::Puts.action(world.store.store())).nth(1);
        world.store.faults().add(rule);
        // The read-back finds the store away, and the slice ends.
        world.store.faults().add(Rule::on("HeadObject", Action::FailBefore(ErrorKind::Unreachable)).behind(1));
        let entry = versions(&world).await.remove(0);
        let Look::Write(plan) = rewrapper.look(&entry).await.unwrap() else { panic!("{name}") };
        let made: Box<Intent> = rewrapper.write(plan).await.unwrap_err().made.unwrap();
        world.store.faults().clear();
        assert_eq!(versions(&world).await.len(), 3, "{name}: ours, theirs, the first");

        let next = world.with(rewrapper.rules().spec.clone(), rewrapper.rules().frozen.clone());
        let taken = next.take_over(&made).await.unwrap();
        let TakenOver::Written(row) = taken else { panic!("{name}: {taken:?}") };
        assert_eq!((row.outcome, row.notes.contains(&Note::Withdrawn)), (Outcome::Conflict, true), "{name}");
        assert_eq!(&world.get("k").await.1[..], b"theirs", "{name}");
        assert_eq!(versions(&world).await.len(), 2, "{name}");
    }
}

fn expire() -> JobSpec {
    let mut spec = spec();
    spec.options.superseded = Superseded::Expire;
    spec
}

#[tokio::test(start_paused = true)]
async fn the_version_that_was_replaced_is_deleted_when_the_file_says_so_and_only_that_one() {
    for (name, world, rewrapper, _) in all(expire).await {
        world.put("k", kms(OLD), b"the second").await;
        world.later().await;
        world.put("gone", kms(OLD), b"x").await;
        world.later().await;
        world.store.store().delete(&ObjectAt::current(BUCKET, "gone")).await.unwrap();
        let before = versions(&world).await;
        let rows = world.walk_with_intents(&rewrapper).await.unwrap_or_else(|h| panic!("{name}: {h}"));
        let after = versions(&world).await;
        let row = rows.iter().find(|row| row.version == before[0].version).unwrap();
        let keeps_checksum = !row.notes.contains(&Note::ChecksumLost);
        if !matches!(row.outcome, Outcome::Rotated(_)) {
            assert_eq!(row.outcome, Outcome::Skipped(SkipReason::KeepsNot), "{name}: {row:?}");
            continue;
        }
        assert!(keeps_checksum && row.notes.contains(&Note::SupersededDeleted) && !row.supersedes(), "{name}: {row:?}");
        assert_eq!(after.len(), 2, "{name}: {after:?}");
        assert_eq!((&after[0].version, &after[1].version), (&row.version_after, &before[1].version), "{name}");
        assert_eq!(&world.get("k").await.1[..], b"the second", "{name}");
        let all = world.list(&rewrapper.rules().frozen).await;
        assert_eq!(all.iter().filter(|entry| entry.key == "gone").count(), 2, "{name}: marker and version stay");
    }
}

#[tokio::test(start_paused = true)]
async fn a_locked_version_or_one_of_unproven_content_is_not_deleted() {
    for (name, world, rewrapper, _) in all(|| {
        let mut spec = expire();
        spec.filter.force_encrypt_locked = true;
        spec
    })
    .await
    {
        world
            .store
            .store()
            .put_lock(&ObjectAt::current(BUCKET, "k"), Lock { legal_hold: true, retention: None })
            .unwrap();
        let rows = world.walk_with_intents(&rewrapper).await.unwrap_or_else(|h| panic!("{name}: {h}"));
        assert!(matches!(rows[0].outcome, Outcome::Rotated(_)) && rows[0].supersedes(), "{name}: {rows:?}");
        assert_eq!(rows[0].detail, "the version that it replaced stays: it is locked", "{name}");
        assert_eq!(versions(&world).await.len(), 2, "{name}");
    }
    let mode = Mode { update_encryption: false, ..Mode::aws() };
    let (world, rewrapper) = world(mode, Strategy::Copy, true, expire()).await.unwrap();
    let mut spec = rewrapper.rules().spec.clone();
    spec.options.body_transit = BodyTransit::UpTo(0);
    let rewrapper = world.with(spec, rewrapper.rules().frozen.clone());
    let rows = world.walk_with_intents(&rewrapper).await.unwrap();
    assert!(rows[0].supersedes() && rows[0].detail.contains("over `bodyTransit`"), "{rows:?}");
    assert_eq!(versions(&world).await.len(), 2);
}

/// In a suspended bucket a new version is `null`, and takes the place of another of that id.
#[tokio::test(start_paused = true)]
async fn in_a_suspended_bucket_no_older_null_version_is_replaced() {
    let mut rotated = 0;
    for mode in Mode::all() {
        let world = World::new(mode.clone(), Versioning::Off).await;
        let set = |versioning| {
            let settings = BucketSettings { versioning, ..BucketSettings::plain() };
            world.store.store().configure(BUCKET, settings).unwrap();
        };
        put_without_checksum(world.store.store(), kms(OLD), &[("a", "null")]).await;
        world.later().await;
        set(Versioning::Enabled);
        put_without_checksum(world.store.store(), kms(OLD), &[("a", "with an id")]).await;
        set(Versioning::Suspended);
        world.later().await;
        let before = versions(&world).await;
        let rewrapper = world.rewrapper(any_size(spec())).await;
        let rows = world.walk_with_intents(&rewrapper).await.unwrap();
        let after = versions(&world).await;
        assert_eq!(
            before.iter().map(|e| &e.version).collect::<Vec<_>>(),
            after.iter().map(|e| &e.version).collect::<Vec<_>>()
        );
        let row = rows.iter().find(|row| row.version == before[0].version).unwrap();
        match row.outcome {
            Outcome::Rotated(_) => rotated += 1,
            outcome => assert_eq!(outcome, Outcome::Skipped(SkipReason::KeepsNot), "{}: {row:?}", mode.name),
        }
    }
    assert_eq!(rotated, 1, "where UpdateObjectEncryption is served");
}

#[tokio::test(start_paused = true)]
async fn with_reseal_what_is_under_the_target_key_is_written_again() {
    let mut spec = any_size(spec());
    spec.options.reseal = true;
    for mode in Mode::all() {
        for versioning in [Versioning::Off, Versioning::Enabled] {
            let world = World::new(mode.clone(), versioning).await;
            put_without_checksum(world.store.store(), kms(NEW), &[]).await;
            world.later().await;
            let rewrapper = world.rewrapper(spec.clone()).await;
            let before = world.store.store().calls();
            let rows = world.walk_with_intents(&rewrapper).await.unwrap();
            assert_eq!(rows[0].outcome, Outcome::Rotated(Evidence::Key), "{} {versioning:?}: {rows:?}", mode.name);
            assert_ne!(rows[0].strategy, Some(Strategy::UpdateEncryption), "{} {versioning:?}", mode.name);
            let calls = world.calls_since(&before);
            let writes: u64 = ["PutObject", "CopyObject", "CompleteMultipartUpload"]
                .iter()
                .map(|op| calls.get(op).copied().unwrap_or_default())
                .sum();
            assert_eq!(writes, 1, "{} {versioning:?}: {calls:?}", mode.name);
            assert_eq!(&world.get("k").await.1[..], b"body", "{} {versioning:?}", mode.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_old_key_gets_its_new_one_and_what_is_under_another_is_left_alone() {
    for mode in Mode::all() {
        for versioning in VERSIONINGS {
            let world = World::new(mode.clone(), versioning).await;
            for key in ["older-key", "unmapped-key", "newer-key"] {
                keyrotate_kms::Kms::create_key(&world.kes, key).await.unwrap();
            }
            let objects = [
                ("a", kms(OLD), Some(NEW)),
                ("b", kms("older-key"), Some("newer-key")),
                ("c", kms("unmapped-key"), None),
                ("d", kms(NEW), Some(NEW)),
                ("e", Sse::S3, None),
            ];
            for (key, sse, _) in &objects {
                world.put(key, sse.clone(), b"body").await;
            }
            world.later().await;
            let mut spec = any_size(spec());
            spec.target = Target::SseKms { key: None, context: None };
            let name = |key: &str| KeyName(key.into());
            spec.keys = [(name(OLD), name(NEW)), (name("older-key"), name("newer-key"))].into();
            let rewrapper = world.rewrapper(spec).await;
            let rows = world.walk_with_intents(&rewrapper).await.unwrap();
            for (key, sse, new) in objects {
                let about = format!("{} {versioning:?} `{key}`: {rows:?}", mode.name);
                let row = rows.iter().find(|row| row.key == key).unwrap();
                let seal = world.get(key).await.0.sse.seal();
                let Some(new) = new else {
                    assert_eq!(row.outcome, Outcome::Skipped(SkipReason::UnmappedKey), "{about}");
                    assert_eq!(seal.to_string().contains("unmapped"), sse != Sse::S3, "{about}");
                    continue;
                };
                assert!(seal.kms_key().unwrap().same_key(&name(new)), "{about}");
                let written = matches!(row.outcome, Outcome::Rotated(Evidence::Key));
                assert!(written != (key == "d") && (written || row.outcome == Outcome::Current), "{about}");
            }
            let frozen = &rewrapper.rules().frozen;
            assert_eq!((frozen.canary.is_some(), frozen.canaries.len()), (true, 1), "{}", mode.name);
            crate::probe::canary(&world.kes, frozen).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_key_is_kept_or_as_the_file_says() {
    let flag = |object: &Object| match object.sse {
        Sse::Kms { bucket_key, .. } => bucket_key == Some(true),
        _ => panic!("no KMS key"),
    };
    for (policy, had, has) in [
        (BucketKey::Keep, true, true),
        (BucketKey::Keep, false, false),
        (BucketKey::On, false, true),
        (BucketKey::Off, true, false),
    ] {
        for mode in [Mode::aws(), Mode { update_encryption: false, ..Mode::aws() }, Mode::moto()] {
            let world = World::new(mode.clone(), Versioning::Off).await;
            let sse = Sse::Kms { key: Some(KeyName(OLD.into())), context: None, bucket_key: Some(had) };
            put_without_checksum(world.store.store(), sse, &[]).await;
            world.later().await;
            assert_eq!(flag(&world.get("k").await.0), had);
            let mut spec = any_size(spec());
            spec.options.bucket_key = policy;
            let rewrapper = world.rewrapper(spec).await;
            let rows = world.walk(&rewrapper).await.unwrap();
            assert_eq!(rows[0].outcome, Outcome::Rotated(Evidence::Key), "{} {policy:?}: {rows:?}", mode.name);
            assert_eq!(flag(&world.get("k").await.0), has, "{} {policy:?}", mode.name);
        }
    }
}
