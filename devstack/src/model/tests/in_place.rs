//! MinIO's in-place form, its trap, and the stores that ignore it.

use jiff::SignedDuration;

use super::*;

/// A later date, as a rotation takes it from a listing.
fn plus_ms(entry: &Entry) -> InPlace {
    let date = entry.last_modified.checked_add(SignedDuration::from_millis(1)).unwrap();
    InPlace { source_mtime: Some(date), ..InPlace::default() }
}

async fn entry(w: &World, name: &str, version: &str) -> Entry {
    let all = w.entries(true).await;
    all.into_iter().find(|e| e.key == name && e.version.as_deref() == Some(version)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn unversioned_date_and_etag_stay() {
    for sse in [Sse::None, Sse::S3, key("old")] {
        let w = world(Mode::minio(), BucketSettings::plain()).await;
        let etag = w.put("k", sse, "x").await.etag.unwrap();
        let before = entry(&w, "k", "null").await;
        later(5000).await;
        let place = InPlace { source_etag: Some(etag.clone()), ..plus_ms(&before) };
        w.try_put(at("k"), under(key("new")), if_match(&etag), place, "x").await.unwrap();
        let after = w.head(&at("k")).await;
        assert_eq!((&after.etag, after.last_modified), (&etag, start()));
        assert!(after.sse.seal().kms_key().unwrap().same_key(&KeyName("new".into())));
        assert_eq!(entry(&w, "k", "null").await.last_modified, plus_ms(&before).source_mtime.unwrap());
        let place = InPlace { source_etag: Some(etag), ..plus_ms(&before) };
        let wrong = w.try_put(at("k"), under(key("new")), bad(), place, "y").await;
        assert_eq!(wrong.unwrap_err().status, Some(412));
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_is_replaced_under_its_id_and_order_stays() {
    let w = world(Mode::minio(), BucketSettings::versioned()).await;
    for body in ["one", "two", "three"] {
        w.put("k", key("old"), body).await;
        later(10).await;
    }
    w.model.delete(&at("k")).await.unwrap();
    let ids = w.model.raw_version_ids("b", "k");
    later(1000).await;
    for (id, body) in ids[1..].iter().zip(["three", "two", "one"]) {
        let listed = entry(&w, "k", id).await;
        let this = at("k").at_version(Some(id.clone()));
        w.try_put(this.clone(), under(key("new")), if_match(&listed.etag), plus_ms(&listed), body).await.unwrap();
        assert_eq!(w.body(&this).await.unwrap(), body);
        assert_ne!(w.head(&this).await.etag, listed.etag);
    }
    assert_eq!(w.model.raw_version_ids("b", "k"), ids);
    assert_eq!(kind(w.body(&at("k")).await), ErrorKind::NotFound, "a deleted object stays deleted");
    w.kms.delete("old");
    assert_eq!(w.body(&at("k").at_version(Some(ids[3].clone()))).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn a_date_that_is_not_strictly_later_loses_the_object() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    w.put("k", key("old"), "x").await;
    let listed = entry(&w, "k", "null").await;
    let place = InPlace { source_mtime: Some(listed.last_modified), ..InPlace::default() };
    w.try_put(at("k"), under(key("new")), if_match(&listed.etag), place, "x").await.unwrap();
    assert_eq!(kind(w.body(&at("k")).await), ErrorKind::NotFound);
    let safe = Mode { date_trap: false, ..Mode::minio() };
    let w = world(safe, BucketSettings::plain()).await;
    w.put("k", key("old"), "x").await;
    let place = InPlace { source_mtime: Some(start()), ..InPlace::default() };
    w.try_put(at("k"), under(key("new")), Guard::None, place, "x").await.unwrap();
    assert_eq!(w.body(&at("k")).await.unwrap(), "x");
}

#[tokio::test(start_paused = true)]
async fn without_a_date_an_old_version_becomes_the_newest() {
    let w = world(Mode::minio(), BucketSettings::versioned()).await;
    let old = w.put("k", key("old"), "one").await;
    later(10).await;
    w.put("k", key("old"), "two").await;
    let this = at("k").at_version(old.version);
    w.try_put(this, under(key("new")), if_match(&old.etag.unwrap()), InPlace::default(), "one").await.unwrap();
    assert_eq!(w.body(&at("k")).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn versions_that_are_too_close_change_their_order() {
    let w = world(Mode::minio(), BucketSettings::versioned()).await;
    let old = w.put("k", key("old"), "one").await;
    w.put("k", key("old"), "two").await;
    let listed = entry(&w, "k", old.version.as_deref().unwrap()).await;
    w.try_put(at("k").at_version(old.version), under(key("new")), Guard::None, plus_ms(&listed), "one").await.unwrap();
    assert_eq!(w.body(&at("k")).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_is_not_resurrected_with_a_guard_and_is_without() {
    let w = world(Mode::minio(), BucketSettings::versioned()).await;
    let written = w.put("k", key("old"), "one").await;
    let listed = entry(&w, "k", written.version.as_deref().unwrap()).await;
    let this = at("k").at_version(written.version);
    let wrong = w.try_put(this.clone(), under(key("new")), bad(), plus_ms(&listed), "x").await;
    assert_eq!(kind(wrong), ErrorKind::Precondition);
    w.model.delete(&this).await.unwrap();
    let put = |guard| w.try_put(this.clone(), under(key("new")), guard, plus_ms(&listed), "one");
    assert_eq!(put(if_match(&listed.etag)).await.unwrap_err().code.as_deref(), Some("NoSuchVersion"));
    put(Guard::None).await.unwrap();
    assert_eq!(w.body(&this).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn the_same_id_with_the_same_source_etag_is_taken_for_already_there() {
    let w = world(Mode::minio(), BucketSettings::versioned()).await;
    let written = w.put("k", key("old"), "one").await;
    let listed = entry(&w, "k", written.version.as_deref().unwrap()).await;
    let place = InPlace { source_etag: written.etag, ..plus_ms(&listed) };
    let answer = w.try_put(at("k").at_version(written.version), under(key("new")), Guard::None, place, "one").await;
    assert_eq!(answer.unwrap_err().status, Some(412));
}

#[tokio::test(start_paused = true)]
async fn compliance_and_legal_hold_are_refused_governance_is_replaced() {
    let settings = BucketSettings { lock_enabled: true, ..BucketSettings::versioned() };
    let w = world(Mode::minio(), settings).await;
    let until: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let retention = |mode: &str| Lock { retention: Some((mode.into(), until)), legal_hold: false };
    let hold = Lock { retention: None, legal_hold: true };
    for (lock, refused) in [(retention("COMPLIANCE"), true), (hold, true), (retention("GOVERNANCE"), false)] {
        let written = w.put_new("k", NewObject { lock, ..under(key("old")) }, "x").await;
        let listed = entry(&w, "k", written.version.as_deref().unwrap()).await;
        let this = at("k").at_version(written.version);
        let answer = w.try_put(this.clone(), under(key("new")), Guard::None, plus_ms(&listed), "x").await;
        assert_eq!(answer.as_ref().is_err_and(|e| e.kind == ErrorKind::Locked && e.status == Some(400)), refused);
        assert_eq!(w.head(&this).await.lock.is_locked(), refused, "locks must be resent");
        assert_eq!(w.model.delete(&this).await.is_err(), refused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_noncurrent_null_version_is_compared_with_the_current_one() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    let null = w.put("k", key("old"), "null").await.etag.unwrap();
    later(10).await;
    w.model.set_versioning("b", Versioning::Enabled).unwrap();
    w.put("k", key("old"), "newer").await;
    let listed = entry(&w, "k", "null").await;
    let this = at("k").at_version(Some("null".into()));
    let answer = w.try_put(this, under(key("new")), if_match(&null), plus_ms(&listed), "null").await;
    assert_eq!(answer.unwrap_err().status, Some(412));
}

#[tokio::test(start_paused = true)]
async fn other_stores_ignore_the_headers() {
    for mode in [Mode::aws(), Mode::moto(), Mode::rgw()] {
        let w = world(mode, BucketSettings::versioned()).await;
        let old = w.put("k", key("old"), "one").await;
        later(5000).await;
        let listed = entry(&w, "k", old.version.as_deref().unwrap()).await;
        let this = at("k").at_version(old.version.clone());
        let place = InPlace { source_etag: old.etag, ..plus_ms(&listed) };
        w.try_put(this, under(key("new")), Guard::None, place, "two").await.unwrap();
        assert_eq!(w.model.raw_version_ids("b", "k").len(), 2);
        assert_ne!(w.head(&at("k")).await.last_modified, start());
    }
}

#[tokio::test(start_paused = true)]
async fn a_multipart_version_keeps_its_id_order_and_layout() {
    let w = world(Mode::minio(), BucketSettings::versioned()).await;
    let old = multipart::two_parts(&w, "k", under(key("old"))).await;
    later(10).await;
    let current = w.put("k", key("old"), "current").await;
    let ids = w.model.raw_version_ids("b", "k");
    let this = at("k").at_version(old.version.clone());
    let listed = entry(&w, "k", old.version.as_deref().unwrap()).await;
    let place = plus_ms(&listed);
    let complete = async |guard: Guard| {
        let id = w.model.create_upload(&this, &under(key("new")), &place).await.unwrap();
        let upload = Upload { bucket: "b".into(), key: "k".into(), id };
        let mut parts = Vec::new();
        for (number, range) in [(1, (0, 3)), (2, (3, 6))] {
            let (source, source_if_match) = (this.clone(), Some(listed.etag.clone()));
            let copy = PartCopyRequest { upload: upload.clone(), number, source, source_if_match, range: Some(range) };
            parts.push(w.model.upload_part_copy(copy).await.unwrap());
        }
        w.model.complete_upload(&upload, &parts, &guard, &place).await
    };
    assert_eq!(complete(if_match(&listed.etag)).await.unwrap_err().status, Some(412), "compared with the current one");
    complete(if_match(&current.etag.unwrap())).await.unwrap();
    assert_eq!(w.model.raw_version_ids("b", "k"), ids);
    let after = w.model.head(HeadRequest { at: this.clone(), part: Some(1) }).await.unwrap();
    assert_eq!((after.parts, after.size), (Some(2), 3));
    assert_eq!(w.body(&this).await.unwrap(), "onetwo");
    w.model.delete(&this).await.unwrap();
    let id = w.model.create_upload(&this, &under(key("new")), &place).await;
    assert!(id.is_ok(), "no guard for a noncurrent one: what was deleted meanwhile would come back");
}
