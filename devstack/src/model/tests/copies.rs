//! What a self-copy keeps and loses.

use super::*;

fn full() -> NewObject {
    let headers = Headers {
        content_type: Some("text/plain".into()),
        cache_control: Some("no-cache".into()),
        website_redirect: Some("/there".into()),
        metadata: BTreeMap::from([("m".to_owned(), "1".to_owned())]),
        ..Headers::default()
    };
    let checksum = Checksum {
        algorithm: "SHA256".into(),
        value: "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=".into(),
        full_object: true,
    };
    let lock =
        Lock { retention: Some(("GOVERNANCE".into(), "2030-01-01T00:00:00Z".parse().unwrap())), legal_hold: true };
    let tags = vec![("t".into(), "1".into())];
    NewObject { sse: key("old"), headers, tags, storage_class: None, lock, checksum: Some(checksum) }
}

#[tokio::test(start_paused = true)]
async fn a_copy_with_directive_copy_keeps_what_the_table_says() {
    let settings = BucketSettings { lock_enabled: true, ..BucketSettings::versioned() };
    for mode in [Mode::aws(), Mode::minio(), Mode::moto()] {
        let w = world(mode.clone(), settings.clone()).await;
        w.put_new("k", full(), "123456789").await;
        let before = w.head(&at("k")).await;
        later(3000).await;
        w.model.copy(w.copy_of("k", key("new"))).await.unwrap();
        let after = w.head(&at("k")).await;
        let website = before.headers.website_redirect.clone().filter(|_| mode.name == "moto");
        assert_eq!(after.headers, Headers { website_redirect: website, ..before.headers.clone() });
        assert_eq!((after.tag_count, &after.checksums), (Some(1), &before.checksums));
        assert_eq!(after.lock, Lock::default(), "locks are lost on the new version");
        assert_eq!(after.etag == before.etag, mode.name == "moto");
        assert!(after.last_modified > before.last_modified && after.version != before.version);
        assert_eq!(w.model.raw_version_ids("b", "k").len(), 2);
        assert_eq!(w.body(&at("k")).await.unwrap(), "123456789");
        let old = at("k").at_version(before.version.clone());
        assert!(w.head(&old).await.lock.legal_hold);
        assert_eq!(w.head(&old).await.sse, before.sse);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_noncurrent_version_brings_old_content_back() {
    for mode in [Mode::aws(), Mode::minio(), Mode::moto()] {
        let w = world(mode, BucketSettings::versioned()).await;
        let old = w.put("k", key("old"), "one").await.version;
        w.put("k", key("old"), "two").await;
        let source = at("k").at_version(old);
        w.model.copy(CopyRequest { source, ..w.copy_of("k", key("new")) }).await.unwrap();
        assert_eq!(w.body(&at("k")).await.unwrap(), "one");
    }
}

#[tokio::test(start_paused = true)]
async fn rgw_copies_no_encrypted_objects() {
    let w = world(Mode::rgw(), BucketSettings::plain()).await;
    w.put("k", key("old"), "x").await;
    assert_eq!(w.model.copy(w.copy_of("k", Sse::None)).await.unwrap_err().status, Some(501));
    w.put("p", Sse::None, "x").await;
    assert_eq!(kind(w.model.copy(w.copy_of("p", key("new"))).await), ErrorKind::NotImplemented);
    w.model.copy(CopyRequest { to: "q".into(), ..w.copy_of("p", Sse::None) }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_self_copy_that_changes_nothing_is_refused_by_aws_and_rgw() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        w.model.seed_plaintext(&at("k"), NewObject::default(), Bytes::from("x")).await.unwrap();
        let answer = w.model.copy(w.copy_of("k", Sse::None)).await;
        assert_eq!(answer.is_err(), w.model.mode().refuses_unchanged_self_copy, "{}", w.model.mode().name);
    }
}

#[tokio::test(start_paused = true)]
async fn archived_and_too_large_sources_are_refused() {
    let mode = Mode { copy_limit: 4, ..Mode::aws() };
    let w = world(mode, BucketSettings::plain()).await;
    let storage_class = Some("GLACIER".to_owned());
    w.put_new("a", NewObject { storage_class, ..under(key("old")) }, "x").await;
    assert_eq!(kind(w.model.copy(w.copy_of("a", key("new"))).await), ErrorKind::Archived);
    assert_eq!(kind(w.body(&at("a")).await), ErrorKind::Archived);
    assert_eq!(w.head(&at("a")).await.storage_class.as_deref(), Some("GLACIER"));
    w.put("l", key("old"), "12345").await;
    assert_eq!(kind(w.model.copy(w.copy_of("l", key("new"))).await), ErrorKind::Refused);
}

/// Somebody writes between a copy's read and its write: lost with the source guard alone, kept where the destination
/// is guarded.
#[tokio::test(start_paused = true)]
async fn a_guard_on_the_source_alone_loses_the_writes_of_others() {
    for mode in [Mode::aws(), Mode::minio(), Mode::moto()] {
        let w = world(mode, BucketSettings::plain()).await;
        let etag = w.put("k", key("old"), "one").await.etag.unwrap();
        let copy =
            CopyRequest { source_if_match: Some(etag.clone()), guard: if_match(&etag), ..w.copy_of("k", key("new")) };
        let (copied, _) = tokio::join!(w.model.copy(copy), w.put("k", key("old"), "two"));
        let survives = w.body(&at("k")).await.unwrap() == "two";
        assert_eq!(survives, w.model.mode().copy_if_match);
        assert_eq!(copied.is_ok(), !survives);
    }
}

#[tokio::test(start_paused = true)]
async fn a_metadata_only_copy_on_minio_puts_old_metadata_on_a_new_body() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    let meta = |value: &str| Headers {
        metadata: BTreeMap::from([("envelope".to_owned(), value.to_owned())]),
        ..Headers::default()
    };
    let etag = w.put_new("k", NewObject { headers: meta("of one"), ..NewObject::default() }, "one").await.etag;
    let directive = Directive::Replace(Box::new((meta("of one, rewrapped"), Vec::new())));
    let copy = CopyRequest { source_if_match: etag, directive, ..w.copy_of("k", Sse::None) };
    let theirs = NewObject { headers: meta("of two"), ..NewObject::default() };
    let (copied, _) = tokio::join!(w.model.copy(copy), w.put_new("k", theirs, "two"));
    copied.unwrap();
    assert_eq!(w.body(&at("k")).await.unwrap(), "two");
    assert_eq!(w.head(&at("k")).await.headers, meta("of one, rewrapped"));
}
