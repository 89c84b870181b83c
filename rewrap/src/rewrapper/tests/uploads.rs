//! Multipart uploads and what a lost window leaves.

use super::bucket::{new, put_parts};
use super::faults::somebody_writes;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_lost_windows_intents_are_taken_over() {
    let world = World::new(Mode::moto(), Versioning::Enabled).await;
    let rewrapper = world.rewrapper(spec()).await;
    world.put("k", kms(OLD), b"1").await;
    world.later().await;
    let entry = world.list(&rewrapper.rules().frozen).await.remove(0);
    let Look::Write(plan) = rewrapper.look(&entry).await.unwrap() else { panic!("settled") };
    let intent = plan.intent().unwrap();
    // Nothing was written yet: it is looked at as usual.
    let TakenOver::Look(Look::Write(_)) = rewrapper.take_over(&intent).await.unwrap() else {
        panic!("taken for written")
    };
    let Settled::Row(row) = rewrapper.write(plan).await.unwrap() else { panic!("unread") };
    let TakenOver::Written(again) = rewrapper.take_over(&intent).await.unwrap() else { panic!("not found") };
    assert_eq!((again.version, again.version_after), (row.version, row.version_after));
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_where_it_was_and_a_recorded_one_is_left_to_the_clean_pass() {
    let (world, rewrapper) = for_multipart(kms(OLD)).await;
    let at = ObjectAt::current(BUCKET, "k");
    let Look::Write(mut plan) = rewrapper.look_again(&at).await.unwrap() else { panic!("settled") };
    rewrapper.open(&mut plan).await.unwrap();
    let intent = plan.intent().unwrap();
    assert!(intent.upload.is_some());
    world.store.faults().add(Rule::on("CompleteMultipartUpload", Action::FailBefore(ErrorKind::Credentials)).nth(1));
    rewrapper.write(plan).await.unwrap_err();
    assert_eq!(world.store.uploads(BUCKET, "").await.unwrap().len(), 1);
    let TakenOver::Look(Look::Write(plan)) = rewrapper.take_over(&intent).await.unwrap() else { panic!("settled") };
    let before = world.store.store().calls();
    let mut rows = match rewrapper.write(plan).await.unwrap() {
        Settled::Row(row) => vec![row],
        Settled::Unread(unread) => read_back(&rewrapper, vec![*unread]).await.unwrap(),
    };
    assert!(matches!(rows.remove(0).outcome, Outcome::Rotated(_)));
    assert_eq!(world.calls_since(&before).get("CreateMultipartUpload"), None);
    assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty());
}

/// A worker that took over an upload that is gone, and ended before the one that it made in its place was complete.
#[tokio::test(start_paused = true)]
async fn an_upload_in_the_place_of_one_that_is_gone_can_be_put_down() {
    let (world, rewrapper) = for_multipart(kms(OLD)).await;
    let intent = lost_upload(&world, &rewrapper).await;
    let recorded = world.store.uploads(BUCKET, "").await.unwrap().remove(0);
    world.store.abort_upload(&recorded).await.unwrap();
    let TakenOver::Look(Look::Write(mut plan)) = rewrapper.take_over(&intent).await.unwrap() else { panic!("settled") };
    rewrapper.open(&mut plan).await.unwrap();
    let open = world.store.uploads(BUCKET, "").await.unwrap().remove(0);
    assert_eq!(plan.intent().unwrap().upload, Some(open.id));
}

/// An object without a checksum on a store that takes it by the multipart form only.
async fn for_multipart(sse: Sse) -> (World, Rewrapper) {
    let world = World::new(Mode::minio(), Versioning::Off).await;
    let rewrapper = only(&world, Strategy::CopyMultipart, any_size(spec())).await.unwrap();
    put_without_checksum(world.store.store(), sse, &[]).await;
    world.later().await;
    (world, rewrapper)
}

#[tokio::test(start_paused = true)]
async fn the_multipart_form_adds_a_version_where_in_place_is_off() {
    for versioning in VERSIONINGS {
        let world = World::new(Mode::minio(), versioning).await;
        let options = Options { body_transit: BodyTransit::UpTo(3), in_place: false, ..spec().options };
        let spec = JobSpec { options, ..spec() };
        let rewrapper = world.rewrapper(spec).await;
        put_without_checksum(world.store.store(), kms(OLD), &[]).await;
        world.later().await;
        let before = world.get("k").await.0;
        let row = world.walk_with_intents(&rewrapper).await.unwrap().remove(0);
        assert_eq!((row.outcome, row.strategy), (Outcome::Rotated(Evidence::Key), Some(Strategy::CopyMultipart)));
        let after = world.get("k").await.0;
        assert!(after.last_modified > before.last_modified, "{versioning:?}");
        let versions = world.store.store().raw_version_ids(BUCKET, "k");
        if versioning == Versioning::Enabled {
            assert_eq!((versions.len(), row.version_after), (2, after.version), "{versioning:?}");
            assert!(versions.contains(&before.version.unwrap()), "the version that was read stays");
        } else {
            assert_eq!(versions.len(), 1, "{versioning:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_that_changes_while_a_copy_takes_long_is_not_lost() {
    for kind in [SourceKind::Plaintext, SourceKind::SseS3, SourceKind::SseKms] {
        let (world, rewrapper) = for_multipart(sse(kind)).await;
        let model = world.store.store().clone();
        // The ETag of plaintext and of SSE-S3 is the body's: no guard sees this.
        let deed = Action::Before(Arc::new(move || {
            let model = model.clone();
            async move {
                tokio::time::sleep(std::time::Duration::from_secs(3)).await;
                put_without_checksum(&model, sse(kind), &[("theirs", "1")]).await;
            }
            .boxed()
        }));
        world.store.faults().add(Rule::on("UploadPartCopy", deed).nth(1));
        world.walk_with_intents(&rewrapper).await.unwrap();
        let (object, ..) = world.get("k").await;
        assert_eq!(object.headers.metadata.get("theirs").map(String::as_str), Some("1"), "{kind:?}");
        assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nor_are_other_values_of_as_many_tags() {
    let (world, rewrapper) = for_multipart(kms(OLD)).await;
    let model = world.store.store().clone();
    let deed = Action::Before(Arc::new(move || {
        let model = model.clone();
        async move {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            let theirs = vec![("t".into(), "2".into()), ("u".into(), "a b".into())];
            model.put_tags(&ObjectAt::current(BUCKET, "k"), theirs).unwrap();
        }
        .boxed()
    }));
    world.store.faults().add(Rule::on("UploadPartCopy", deed).nth(1));
    world.walk_with_intents(&rewrapper).await.unwrap();
    assert_eq!(world.get("k").await.2[0].1, "2");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_comes_while_a_copy_takes_long_stays_the_current_one() {
    for sse in [Sse::S3, kms(OLD)] {
        let world = World::new(Mode::minio(), Versioning::Enabled).await;
        let rewrapper = only(&world, Strategy::CopyMultipart, any_size(spec())).await.unwrap();
        put_without_checksum(world.store.store(), sse.clone(), &[]).await;
        world.later().await;
        for deleted in [false, true] {
            let (model, sse) = (world.store.store().clone(), sse.clone());
            let deed = Action::Before(Arc::new(move || {
                let (model, sse) = (model.clone(), sse.clone());
                async move {
                    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
                    match deleted {
                        true => drop(model.delete_object(&ObjectAt::current(BUCKET, "k")).unwrap()),
                        false => put_without_checksum(&model, sse, &[("theirs", "1")]).await,
                    }
                }
                .boxed()
            }));
            world.store.faults().add(Rule::on("UploadPartCopy", deed).nth(1));
            let rows = world.walk_with_intents(&rewrapper).await.unwrap();
            assert!(rows.iter().all(|row| !matches!(row.outcome, Outcome::Rotated(_))), "{rows:?}");
            assert!(rows.iter().all(|row| row.outcome != Outcome::Skipped(SkipReason::Gone)), "{rows:?}");
            let newest = world.list(&rewrapper.rules().frozen).await.remove(0);
            assert_eq!(newest.delete_marker, deleted);
            if !deleted {
                assert!(world.get("k").await.0.headers.metadata.contains_key("theirs"));
            }
            assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty());
        }
    }
}

/// MinIO loses an object that is written in place at an older date than it has.
#[tokio::test(start_paused = true)]
async fn the_same_body_put_again_during_an_upload_in_place_does_not_cost_the_object() {
    for kind in [SourceKind::Plaintext, SourceKind::SseS3] {
        let world = World::new(Mode::minio(), Versioning::Off).await;
        let rewrapper = only(&world, Strategy::CopyMultipartInPlace, any_size(spec())).await.unwrap();
        put_without_checksum(world.store.store(), sse(kind), &[]).await;
        world.later().await;
        let model = world.store.store().clone();
        let deed = Action::Before(Arc::new(move || {
            let model = model.clone();
            async move { put_without_checksum(&model, sse(kind), &[("theirs", "1")]).await }.boxed()
        }));
        world.store.faults().add(Rule::on("UploadPartCopy", deed).nth(1));
        world.walk_with_intents(&rewrapper).await.unwrap();
        assert!(world.get("k").await.0.headers.metadata.contains_key("theirs"), "{kind:?}");
    }
}

/// What was asked first is as old as the slowest answer behind it.
#[tokio::test(start_paused = true)]
async fn metadata_that_changes_while_another_look_takes_long_is_not_lost() {
    let world = World::new(Mode { acls: true, ..Mode::rgw() }, Versioning::Off).await;
    let rewrapper = only(&world, Strategy::RewriteMultipart, any_size(spec())).await.unwrap();
    let body: Vec<u8> = vec![7; PART + 700];
    put_parts(world.store.store(), "k", new(kms(OLD)), &body).await.unwrap();
    world.later().await;
    let model = world.store.store().clone();
    let deed = Action::Before(Arc::new(move || {
        let (model, body, mut new) = (model.clone(), body.clone(), new(kms(OLD)));
        new.headers.metadata.insert("theirs".into(), "1".into());
        async move {
            put_parts(&model, "k", new, &body).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        }
        .boxed()
    }));
    world.store.faults().add(Rule::on("GetObjectAcl", deed).nth(1));
    world.walk_with_intents(&rewrapper).await.unwrap();
    assert!(world.get("k").await.0.headers.metadata.contains_key("theirs"));
}

/// Another object for a moment, and then the one of before again, of the same ETag.
#[tokio::test(start_paused = true)]
async fn parts_are_those_of_the_object_that_was_looked_at() {
    let world = World::new(Mode::rgw(), Versioning::Off).await;
    let rewrapper = only(&world, Strategy::RewriteMultipart, any_size(spec())).await.unwrap();
    let body: Vec<u8> = vec![7; PART + 700];
    put_parts(world.store.store(), "k", new(kms(OLD)), &body).await.unwrap();
    world.later().await;
    let parts = HeadRequest { part: Some(1), ..HeadRequest::of(&ObjectAt::current(BUCKET, "k")) };
    let before = world.store.store().head(parts.clone()).await.unwrap();
    let model = world.store.store().clone();
    let back = Action::After(Arc::new(move || {
        let (model, body) = (model.clone(), body.clone());
        let put = async move { put_parts(&model, "k", new(kms(OLD)), &body).await };
        async move { drop(put.await.unwrap()) }.boxed()
    }));
    // The first HEAD looks at the object, the second at its first part.
    world.store.faults().add(Rule::on("HeadObject", somebody_writes(world.store.store(), "k")).nth(2));
    world.store.faults().add(Rule::on("HeadObject", back).nth(2));
    world.walk_with_intents(&rewrapper).await.unwrap();
    let after = world.store.store().head(parts).await.unwrap();
    assert_eq!((after.size, after.parts), (before.size, before.parts));
}

/// A window that was lost after its upload was put down; gives its intent.
async fn lost_upload(world: &World, rewrapper: &Rewrapper) -> keyrotate_proto::intent::Intent {
    let Look::Write(mut plan) = rewrapper.look_again(&ObjectAt::current(BUCKET, "k")).await.unwrap() else {
        panic!("settled")
    };
    rewrapper.open(&mut plan).await.unwrap();
    assert_eq!(world.store.uploads(BUCKET, "").await.unwrap().len(), 1);
    plan.intent().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_upload_of_a_lost_window_ends_where_its_object_changed() {
    for (sse, metadata) in [(Sse::S3, &[("theirs", "1")][..]), (kms(OLD), &[]), (kms(NEW), &[])] {
        let (world, rewrapper) = for_multipart(sse.clone()).await;
        if sse == kms(NEW) {
            // Right already when the next holder looks.
            put_without_checksum(world.store.store(), kms(OLD), &[]).await;
        }
        let intent = lost_upload(&world, &rewrapper).await;
        put_without_checksum(world.store.store(), sse.clone(), metadata).await;
        let TakenOver::Look(look) = rewrapper.take_over(&intent).await.unwrap() else { panic!("taken for written") };
        assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{sse:?}");
        let Look::Write(plan) = look else { continue };
        let rows = match rewrapper.write(plan).await.unwrap() {
            Settled::Row(row) => vec![row],
            Settled::Unread(unread) => read_back(&rewrapper, vec![*unread]).await.unwrap(),
        };
        assert!(matches!(rows[0].outcome, Outcome::Rotated(_)), "{:?}", rows[0]);
        let (object, ..) = world.get("k").await;
        assert_eq!(object.headers.metadata.contains_key("theirs"), !metadata.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn no_upload_stays_that_nobody_goes_on_with() {
    // One that was put down, and whose object is in conflict now.
    let (world, rewrapper) = for_multipart(kms(OLD)).await;
    let deed = somebody_writes(world.store.store(), "k");
    world.store.faults().add(Rule::on("CompleteMultipartUpload", deed));
    world.walk_with_intents(&rewrapper).await.unwrap();
    assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty());
    // One whose object changes before its body is hashed, or can't be read.
    for gone in [false, true] {
        let options = Options { verify_bodies: 0.001, ..any_size(spec()).options };
        let spec = JobSpec { options, ..spec() };
        let (world, _) = for_multipart(kms(OLD)).await;
        let rewrapper = only(&world, Strategy::CopyMultipart, spec).await.unwrap();
        let deed = if gone { Action::FailBefore(ErrorKind::Denied) } else { somebody_writes(world.store.store(), "k") };
        world.store.faults().add(Rule::on("GetObject", deed).nth(1));
        world.walk_with_intents(&rewrapper).await.unwrap();
        assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{gone}");
    }
    // One in the place of a recorded one that is gone, which no intent names.
    let (world, rewrapper) = for_multipart(kms(OLD)).await;
    let intent = lost_upload(&world, &rewrapper).await;
    let TakenOver::Look(Look::Write(plan)) = rewrapper.take_over(&intent).await.unwrap() else { panic!("settled") };
    let recorded = world.store.uploads(BUCKET, "").await.unwrap().remove(0);
    world.store.abort_upload(&recorded).await.unwrap();
    world.store.faults().add(Rule::on("CompleteMultipartUpload", Action::FailBefore(ErrorKind::Credentials)).nth(1));
    rewrapper.write(plan).await.unwrap_err();
    assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty());
}

/// Of 64 parts, by copies and through us, each worker adds one and is killed, before or behind the next call.
#[tokio::test(start_paused = true)]
async fn of_an_object_in_64_parts_none_is_copied_more_than_twice_however_many_workers_die() {
    const PARTS: u64 = 64;
    let hour = std::time::Duration::from_secs(3_600);
    for strategy in [Strategy::CopyMultipart, Strategy::RewriteMultipart] {
        let world = World::new(Mode { update_encryption: false, ..Mode::aws() }, Versioning::Off).await;
        let rewrapper = only(&world, strategy, any_size(spec())).await.unwrap();
        let (store, at) = (world.store.store().clone(), ObjectAt::current(BUCKET, "k"));
        let id = store.create_upload(&at, &new(kms(OLD)), &InPlace::default()).await.unwrap();
        let upload = Upload { bucket: BUCKET.into(), key: "k".into(), id };
        let mut parts = Vec::new();
        for number in 1..=u32::try_from(PARTS).unwrap() {
            let body = vec![number as u8; PART + number as usize];
            parts.push(store.upload_part(&upload, number, Bytes::from(body).into(), None).await.unwrap());
        }
        store.complete_upload(&upload, &parts, &Guard::None, &InPlace::default()).await.unwrap();
        world.later().await;
        let body = world.get("k").await.1;

        let part = if strategy.moves_bodies() { "UploadPart" } else { "UploadPartCopy" };
        let before = store.calls();
        let mut intent = None;
        let mut workers = 0;
        let row = loop {
            workers += 1;
            assert!(workers <= 2 * PARTS, "{strategy}: it never ends");
            let next = world.with(rewrapper.rules().spec.clone(), rewrapper.rules().frozen.clone());
            let look = match &intent {
                None => next.look_again(&at).await.unwrap(),
                Some(intent) => match next.take_over(intent).await.unwrap() {
                    TakenOver::Look(look) => look,
                    TakenOver::Written(row) => break row,
                },
            };
            let Look::Write(mut plan) = look else { panic!("{strategy}: {look:?}") };
            next.open(&mut plan).await.unwrap();
            intent = plan.intent();
            world.store.faults().clear();
            let dies = match workers % 2 {
                0 => Rule::on(part, Action::Delay(hour)).behind(1),
                _ => Rule::on(part, Action::After(Arc::new(move || tokio::time::sleep(hour).boxed()))),
            };
            world.store.faults().add(dies);
            // What takes so long is a worker that is gone.
            match tokio::time::timeout(hour / 60, next.write(plan)).await {
                Err(_) => {}
                Ok(Ok(Settled::Row(row))) => break row,
                Ok(other) => panic!("{strategy}: {other:?}"),
            }
        };
        assert!(matches!(row.outcome, Outcome::Rotated(_)), "{strategy}: {row:?}");
        let copied = world.calls_since(&before)[part];
        assert!((PARTS..=2 * PARTS).contains(&copied), "{strategy}: {copied} parts, by {workers} workers");
        let (object, now, _) = world.get("k").await;
        assert!(now == body && object.etag.ends_with("-64"), "{strategy}: {}", object.etag);
        assert!(store.uploads(BUCKET, "").await.unwrap().is_empty(), "{strategy}: an upload is left");
    }
}
