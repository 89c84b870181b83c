//! Somebody else writes or deletes meanwhile, answers are lost, a store takes a call for another.

use super::*;

/// Somebody else's write, made whenever the deed runs.
pub(super) fn somebody_writes(model: &StoreModel, key: &str) -> Action {
    let (model, key) = (model.clone(), key.to_owned());
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    Action::Before(Arc::new(move || {
        let (model, key) = (model.clone(), key.clone());
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            let body = format!("somebody's write {n}").into_bytes();
            let request = PutRequest {
                at: ObjectAt::current(BUCKET, key),
                new: new_object(kms(OLD), &body),
                guard: Guard::None,
                place: InPlace::default(),
            };
            model.put(request, Body::Bytes(body.into())).await.unwrap();
        }
        .boxed()
    }))
}

#[tokio::test(start_paused = true)]
async fn a_write_of_somebody_else_is_never_lost() {
    for forever in [false, true] {
        for (world, rewrapper, strategy) in everywhere().await {
            let name = name(&world, &rewrapper, strategy);
            put_without_checksum(world.store.store(), kms(OLD), &[]).await;
            world.later().await;
            let rule = Rule::on(writing(strategy), somebody_writes(world.store.store(), "k"));
            world.store.faults().add(if forever { rule } else { rule.nth(1) });
            let rows = world.walk(&rewrapper).await.unwrap_or_else(|h| panic!("{name}: {h}"));
            world.store.faults().clear();
            let (object, body, _) = world.get("k").await;
            assert!(body.starts_with(b"somebody's write"), "{name}: {body:?}");
            let row = rows.first().unwrap();
            let by_id = matches!(strategy, Strategy::UpdateEncryption | Strategy::RewriteInPlace);
            if by_id && rewrapper.rules().frozen.versioning == Versioning::Enabled {
                // Exactly the version that was listed; theirs lies above it, untouched.
                assert!(matches!(row.outcome, Outcome::Rotated(_)) && row.version != object.version, "{name}: {row:?}");
                continue;
            }
            // `update-encryption` touches no content: it may have met their object, which then is right already.
            if matches!(row.outcome, Outcome::Rotated(_) | Outcome::Current) {
                assert_eq!(row.etag, object.etag, "{name}");
                assert!(object.sse.seal().kms_key().unwrap().same_key(&KeyName(NEW.into())), "{name}");
            } else {
                let versioned = rewrapper.rules().frozen.versioning == Versioning::Enabled;
                let fine = row.outcome == Outcome::Conflict
                    || versioned && row.outcome == Outcome::Skipped(SkipReason::Noncurrent)
                    || strategy.uploads() && row.outcome == Outcome::Skipped(SkipReason::KeepsNot);
                assert!(fine, "{name}: {row:?}");
            }
            assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{name}: an upload is left");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_deleted_is_never_resurrected() {
    for (world, rewrapper, strategy) in everywhere().await {
        let name = name(&world, &rewrapper, strategy);
        put_without_checksum(world.store.store(), kms(OLD), &[]).await;
        world.later().await;
        let model = world.store.store().clone();
        let deed = Action::Before(Arc::new(move || {
            let model = model.clone();
            async move {
                let _ = model.delete_object(&ObjectAt::current(BUCKET, "k"));
            }
            .boxed()
        }));
        world.store.faults().add(Rule::on(writing(strategy), deed).nth(1));
        let rows = world.walk(&rewrapper).await.unwrap_or_else(|h| panic!("{name}: {h}"));
        let gone = world.store.store().get(GetRequest::of(&ObjectAt::current(BUCKET, "k"))).await.is_err();
        assert!(gone, "{name}: it is back, {rows:?}");
        assert!(rows.iter().all(|r| r.outcome != Outcome::Failed(FailReason::Store)), "{name}: {rows:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_never_answered_is_made_exactly_once() {
    made_exactly_once(ErrorKind::Timeout).await;
}

/// Proxies answer 503 for a connection that broke after the write was sent.
#[tokio::test(start_paused = true)]
async fn a_write_that_was_throttled_and_made_all_the_same_is_made_exactly_once() {
    made_exactly_once(ErrorKind::Throttled).await;
}

async fn made_exactly_once(heard: ErrorKind) {
    for (world, rewrapper, strategy) in everywhere().await {
        let name = name(&world, &rewrapper, strategy);
        put_without_checksum(world.store.store(), kms(OLD), &[]).await;
        world.later().await;
        let (_, body, tags) = world.get("k").await;
        world.store.faults().add(Rule::on(writing(strategy), Action::FailAfter(heard)).nth(1));
        let before = world.store.store().calls();
        let rows = world.walk(&rewrapper).await.unwrap();
        let calls = world.calls_since(&before);
        assert_eq!(calls.get(writing(strategy)), Some(&1), "{name}: {calls:?}");
        assert!(matches!(rows[0].outcome, Outcome::Rotated(_)), "{name}: {:?}", rows[0]);
        let (_, now, now_tags) = world.get("k").await;
        assert_eq!((now, now_tags), (body, tags), "{name}");
        assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{name}: an upload is left");
    }
}

/// What asks for less for a while gets the write in the end, and each time it is looked first whether it was made.
#[tokio::test(start_paused = true)]
async fn a_write_that_is_throttled_a_few_times_is_made() {
    for (world, rewrapper, strategy) in everywhere().await {
        let name = name(&world, &rewrapper, strategy);
        put_without_checksum(world.store.store(), kms(OLD), &[]).await;
        world.later().await;
        world.store.faults().add(Rule::on(writing(strategy), Action::FailBefore(ErrorKind::Throttled)).times(4));
        let rows = world.walk(&rewrapper).await.unwrap();
        assert!(matches!(rows[0].outcome, Outcome::Rotated(_)), "{name}: {:?}", rows[0]);
        assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{name}: an upload is left");
    }
}

/// A world with one object, whose body is hashed before and after the write.
async fn hashing(mode: Mode) -> (World, Rewrapper) {
    let world = World::new(mode, Versioning::Off).await;
    let options = Options { verify_bodies: 0.001, ..spec().options };
    let rewrapper = world.rewrapper(JobSpec { options, ..spec() }).await;
    world.put("k", kms(OLD), b"body").await;
    world.later().await;
    (world, rewrapper)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_off_after_the_write_is_read_once_more() {
    for mode in [Mode::aws(), Mode::rgw()] {
        let (world, rewrapper) = hashing(mode).await;
        world.store.faults().add(Rule::on("GetObject", Action::FailBefore(ErrorKind::Cut)).nth(2));
        let before = world.store.store().calls();
        let rows = world.walk(&rewrapper).await.unwrap();
        assert!(matches!(rows[0].outcome, Outcome::Rotated(_)), "{:?}", rows[0]);
        assert_eq!(world.calls_since(&before).get("GetObject"), Some(&2), "one of three did not arrive");
    }
}

/// What was written is known to the halt, and nobody takes the object for broken.
#[tokio::test(start_paused = true)]
async fn a_store_that_goes_down_before_the_body_is_read_again_halts_the_slice() {
    for mode in [Mode::aws(), Mode::rgw()] {
        let (world, rewrapper) = hashing(mode).await;
        // From the second GET on nothing is answered any more.
        let gets = std::sync::atomic::AtomicU32::new(0);
        let down = move |call: &Call<'_>| {
            let more = u32::from(call.operation == "GetObject");
            gets.fetch_add(more, std::sync::atomic::Ordering::Relaxed) + more >= 2
        };
        world.store.faults().add(Rule::when(down, Action::FailBefore(ErrorKind::Cut)));
        let Halt::Pause { reason, .. } = world.walk(&rewrapper).await.unwrap_err() else { panic!("stopped") };
        assert_eq!(reason, PauseReason::StoreDown);
    }
}

/// Where the ETag is that of the body.
#[tokio::test(start_paused = true)]
async fn a_directory_marker_that_is_put_again_with_other_headers_while_it_is_read_keeps_them() {
    for mode in [Mode::moto(), Mode::rgw()] {
        let world = World::new(mode.clone(), Versioning::Off).await;
        let rewrapper = world.rewrapper(spec()).await;
        world.put("dir/", kms(OLD), b"body").await;
        let model = world.store.store().clone();
        let deed = Action::After(Arc::new(move || {
            let mut new = new_object(kms(OLD), b"body");
            new.headers.metadata.insert("theirs".into(), "1".into());
            let at = ObjectAt::current(BUCKET, "dir/");
            let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
            let model = model.clone();
            async move { drop(model.put(request, Bytes::from_static(b"body").into()).await.unwrap()) }.boxed()
        }));
        world.store.faults().add(Rule::on("GetObject", deed).nth(1));
        world.walk(&rewrapper).await.unwrap();
        assert!(world.get("dir/").await.0.headers.metadata.contains_key("theirs"), "{}", mode.name);
    }
}

/// One of the same size, in the same second, and then the one of before again, of the same ETag.
#[tokio::test(start_paused = true)]
async fn what_was_a_directory_marker_for_a_moment_is_not_written_over_it() {
    for mode in Mode::all() {
        let world = World::new(mode.clone(), Versioning::Off).await;
        let rewrapper = only(&world, Strategy::Rewrite, any_size(spec())).await.unwrap();
        world.put("dir/", Sse::S3, b"their body").await;
        let puts = |body: &'static [u8]| {
            let model = world.store.store().clone();
            let deed = move || {
                let new = new_object(Sse::S3, body);
                let request = PutRequest {
                    at: ObjectAt::current(BUCKET, "dir/"),
                    new,
                    guard: Guard::None,
                    place: InPlace::default(),
                };
                let model = model.clone();
                async move { drop(model.put(request, Bytes::from_static(body).into()).await.unwrap()) }.boxed()
            };
            Arc::new(deed)
        };
        let (there, back) = (Action::Before(puts(b"other body")), Action::After(puts(b"their body")));
        world.store.faults().add(Rule::on("GetObject", there).nth(1));
        world.store.faults().add(Rule::on("GetObject", back).nth(1));
        world.walk(&rewrapper).await.unwrap();
        assert_eq!(world.get("dir/").await.1, "their body", "{}", mode.name);
    }
}

/// A GET of a directory marker takes no condition, so what it shows may be somebody's.
#[tokio::test(start_paused = true)]
async fn a_directory_marker_that_changes_before_its_body_is_read_again_does_not_stop_the_job() {
    for mode in Mode::all() {
        let world = World::new(mode.clone(), Versioning::Off).await;
        let options = Options { verify_bodies: 0.001, ..spec().options };
        let rewrapper = world.rewrapper(JobSpec { options, ..spec() }).await;
        world.put("dir/", kms(OLD), b"body").await;
        world.later().await;
        world.store.faults().add(Rule::on("GetObject", somebody_writes(world.store.store(), "dir/")).nth(2));
        let rows = world.walk(&rewrapper).await.unwrap_or_else(|halt| panic!("{}: {halt}", mode.name));
        assert!(matches!(rows[0].outcome, Outcome::Rotated(_)), "{}: {rows:?}", mode.name);
        assert!(world.get("dir/").await.1.starts_with(b"somebody's write"), "{}", mode.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_arrived_is_sent_once_more() {
    for (world, rewrapper, strategy) in everywhere().await {
        let name = name(&world, &rewrapper, strategy);
        put_without_checksum(world.store.store(), kms(OLD), &[]).await;
        world.later().await;
        world.store.faults().add(Rule::on(writing(strategy), Action::FailBefore(ErrorKind::Timeout)).nth(1));
        let rows = world.walk(&rewrapper).await.unwrap();
        assert!(matches!(rows[0].outcome, Outcome::Rotated(_)), "{name}: {:?}", rows[0]);
        world.store.faults().clear();
        world.put("l", kms(OLD), b"x").await;
        world.store.faults().add(Rule::on(writing(strategy), Action::FailBefore(ErrorKind::Timeout)));
        let rows = world.walk(&rewrapper).await.unwrap();
        let row = row_of(&rows, "l");
        if !strategy.uploads() {
            assert_eq!(row.outcome, Outcome::Failed(FailReason::Timeout), "{name}: {row:?}");
        }
        assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{name}: an upload is left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_the_call_for_a_put_stops_the_job() {
    for versioning in VERSIONINGS {
        for answered in [true, false] {
            // Proven on one node of the store; the next request meets one that does not know the call.
            let proven = World::new(Mode::aws(), versioning).await.prepare(&spec()).await;
            let world = World::new(Mode { update_encryption: false, ..Mode::aws() }, versioning).await;
            world.put("k", kms(OLD), b"the body of a user, who would miss it").await;
            if !answered {
                world.store.faults().add(Rule::on("UpdateObjectEncryption", Action::FailAfter(ErrorKind::Timeout)));
            }
            let rewrapper = world.with(spec(), proven);
            let halt = world.walk(&rewrapper).await.unwrap_err();
            let Halt::Stop { reason: StopReason::ObjectReplaced, detail } = halt else { panic!("{halt}") };
            assert!(detail.contains("bucket/k"), "{detail}");
            if versioning == Versioning::Enabled {
                assert_eq!(world.get("k").await.1, "the body of a user, who would miss it");
                assert_eq!(world.store.store().raw_version_ids(BUCKET, "k").len(), 1);
            }
        }
    }
}

/// A process that ended between the request and its read-back left no word of it.
#[tokio::test(start_paused = true)]
async fn whoever_comes_after_a_process_that_fell_into_the_trap_stops_the_job() {
    for versioning in VERSIONINGS {
        for bucket_key in [None, Some(true)] {
            let proven = World::new(Mode::aws(), versioning).await.prepare(&spec()).await;
            let world = World::new(Mode { update_encryption: false, ..Mode::aws() }, versioning).await;
            world.put("k", kms(OLD), b"the body of a user").await;
            let FrozenTarget::SseKms { key, .. } = &proven.target else { panic!("no key") };
            world.put("k", Sse::None, update_encryption_body(&key.0, bucket_key).as_bytes()).await;
            // Filters must not hide it: its date is a new one.
            let created_before = Some("2000-01-01T00:00:00Z".parse().unwrap());
            let filter = Filter { created_before, ..Filter::default() };
            let rewrapper = world.with(JobSpec { filter, ..spec() }, proven.clone());
            let entries = world.list(&proven).await;
            let entry = entries.iter().find(|e| e.latest).unwrap();
            assert!(rewrapper.settled_by_listing(entry).is_none());
            let halt = rewrapper.look(entry).await.unwrap_err();
            let Halt::Stop { reason: StopReason::ObjectReplaced, detail } = halt else { panic!("{halt}") };
            assert!(detail.contains("bucket/k"), "{detail}");
            if versioning == Versioning::Enabled {
                assert_eq!(world.get("k").await.1, "the body of a user");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_differs_and_cannot_be_looked_at_stops_the_job() {
    let proven = World::new(Mode::aws(), Versioning::Off).await.prepare(&spec()).await;
    let blind = [
        ("GetObject", ErrorKind::Timeout),
        ("GetObject", ErrorKind::Throttled),
        ("GetObject", ErrorKind::Denied),
        ("GetObject", ErrorKind::Server),
    ];
    for (call, kind) in blind {
        let world = World::new(Mode { update_encryption: false, ..Mode::aws() }, Versioning::Off).await;
        world.put("k", kms(OLD), b"the body of a user").await;
        let rewrapper = world.with(spec(), proven.clone());
        world.store.faults().add(Rule::on(call, Action::FailBefore(kind)));
        let halt = world.walk(&rewrapper).await.unwrap_err();
        let Halt::Stop { reason: StopReason::ObjectReplaced, detail } = halt else { panic!("{kind:?}: {halt}") };
        assert!(detail.contains("bucket/k"), "{detail}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_back_that_fails_does_not_hide_the_trap() {
    let proven = World::new(Mode::aws(), Versioning::Off).await.prepare(&spec()).await;
    for kind in [ErrorKind::Timeout, ErrorKind::Server, ErrorKind::Denied] {
        let world = World::new(Mode { update_encryption: false, ..Mode::aws() }, Versioning::Off).await;
        world.put("k", kms(OLD), b"the body of a user").await;
        let rewrapper = world.with(spec(), proven.clone());
        // The first HEAD looks, the second reads back.
        world.store.faults().add(Rule::on("HeadObject", Action::FailBefore(kind)).nth(2));
        let halt = world.walk(&rewrapper).await.unwrap_err();
        assert!(matches!(&halt, Halt::Stop { reason: StopReason::ObjectReplaced, .. }), "{kind:?}: {halt}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_deletes_or_replaces_the_object_meanwhile_does_not_stop_the_job() {
    let world = World::new(Mode::aws(), Versioning::Off).await;
    let rewrapper = only(&world, Strategy::UpdateEncryption, spec()).await.unwrap();
    world.put("k", kms(OLD), b"before").await;
    let model = world.store.store().clone();
    let deed = Action::After(Arc::new(move || {
        let model = model.clone();
        async move {
            model.delete_object(&ObjectAt::current(BUCKET, "k")).unwrap();
        }
        .boxed()
    }));
    world.store.faults().add(Rule::on("UpdateObjectEncryption", deed).nth(1));
    let rows = world.walk(&rewrapper).await.unwrap();
    assert_eq!(rows[0].outcome, Outcome::Skipped(SkipReason::Gone));

    world.put("k", kms(OLD), b"before").await;
    let model = world.store.store().clone();
    let deed = Action::After(Arc::new(move || {
        let model = model.clone();
        async move {
            let new = NewObject { storage_class: Some("GLACIER".into()), ..new_object(kms(OLD), b"theirs") };
            let at = ObjectAt::current(BUCKET, "k");
            let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
            model.put(request, Bytes::from_static(b"theirs").into()).await.unwrap();
        }
        .boxed()
    }));
    world.store.faults().add(Rule::on("UpdateObjectEncryption", deed).nth(1));
    let rows = world.walk(&rewrapper).await.unwrap();
    assert_eq!(rows[0].outcome, Outcome::Rotated(Evidence::Key), "theirs, in its turn");
}
