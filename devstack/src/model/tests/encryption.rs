//! Encryption: it is real, and shown as each store shows it.

use super::*;

#[tokio::test(start_paused = true)]
async fn with_the_key_gone_the_body_is_gone_in_every_mode() {
    for mode in Mode::all() {
        let w = world(mode.clone(), BucketSettings::plain()).await;
        w.put("k", key("old"), "secret").await;
        w.put("empty", key("old"), "").await;
        w.put("other", key("new"), "kept").await;
        assert_eq!(w.body(&at("k")).await.unwrap(), "secret");
        w.kms.delete("old");
        let error = w.body(&at("k")).await.unwrap_err();
        let wanted = match mode.name {
            "minio" => (ErrorKind::KmsKeyNotFound, "kms:KeyNotFound"),
            "rgw" => (ErrorKind::Refused, "InvalidArgument"),
            _ => (ErrorKind::KmsKeyNotFound, "KMS.NotFoundException"),
        };
        assert_eq!((error.kind, error.code.as_deref()), (wanted.0, Some(wanted.1)), "{}", mode.name);
        assert_eq!(kind(w.body(&at("empty")).await), wanted.0);
        assert_eq!(w.body(&at("other")).await.unwrap(), "kept");
        w.kms.create_key("old").await.unwrap();
        assert!(w.body(&at("k")).await.is_err(), "a new key of that name opens nothing");
        w.head(&at("k")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_shown_as_each_store_shows_them_and_contexts_never() {
    let context = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    for (mode, shown, bucket_key) in [
        (Mode::aws(), "arn:aws:kms:us-east-1:111122223333:key/old", Some(true)),
        (Mode::minio(), "arn:aws:kms:old", None),
        (Mode::moto(), "old", Some(true)),
        (Mode::rgw(), "old", None),
    ] {
        let w = world(mode, BucketSettings::plain()).await;
        let name = Some(KeyName("old".to_owned()));
        w.put("k", Sse::Kms { key: name, context: context.clone(), bucket_key: Some(true) }, "x").await;
        let wanted = Sse::Kms { key: Some(KeyName(shown.to_owned())), context: None, bucket_key };
        assert_eq!(w.head(&at("k")).await.sse, wanted);
        let facts = w.entries(false).await[0].facts.clone();
        assert_eq!(facts.is_some(), w.model.mode().listing_facts);
        if let Some(facts) = facts {
            assert!(matches!(facts.sse, Sse::Kms { context: shown, .. } if shown == context));
        }
        assert_eq!(w.body(&at("k")).await.unwrap(), "x");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_refused_or_taken_without_a_word() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        let answer = w.try_put(at("k"), under(key("nobody")), Guard::None, InPlace::default(), "x").await;
        assert_eq!(answer.is_ok(), w.model.mode().unknown_keys_accepted);
        assert_eq!(w.entries(false).await.len(), usize::from(answer.is_ok()));
    }
}

#[tokio::test(start_paused = true)]
async fn kms_without_a_key_means_the_default_key_or_400() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        let sse = Sse::Kms { key: None, context: None, bucket_key: None };
        let answer = w.try_put(at("k"), under(sse), Guard::None, InPlace::default(), "x").await;
        if w.model.mode().name == "rgw" {
            assert_eq!(answer.unwrap_err().status, Some(400));
            continue;
        }
        answer.unwrap();
        let shown = w.model.mode().show_key(&w.model.mode().default_key);
        assert_eq!(w.head(&at("k")).await.sse.seal().kms_key(), Some(&shown));
    }
}

#[tokio::test(start_paused = true)]
async fn sse_s3_shows_no_key_and_opens_with_the_default_one() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        w.put("k", Sse::S3, "x").await;
        assert_eq!(w.head(&at("k")).await.sse, Sse::S3);
        w.kms.delete(&w.model.mode().default_key);
        assert!(w.body(&at("k")).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn only_aws_encrypts_what_nobody_asked_for_and_old_plaintext_can_be_seeded() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        w.put("k", Sse::None, "x").await;
        let wanted = if w.model.mode().name == "aws" { Sse::S3 } else { Sse::None };
        assert_eq!(w.head(&at("k")).await.sse, wanted);
        w.model.seed_plaintext(&at("p"), NewObject::default(), Bytes::from("x")).await.unwrap();
        assert_eq!(w.head(&at("p")).await.sse, Sse::None);
        assert_eq!(w.body(&at("p")).await.unwrap(), "x");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_default_is_for_requests_that_say_nothing() {
    let settings = BucketSettings { default_sse: Some(key("old")), ..BucketSettings::plain() };
    let w = world(Mode::minio(), settings).await;
    w.put("k", Sse::None, "x").await;
    assert!(w.head(&at("k")).await.sse.seal().kms_key().unwrap().same_key(&KeyName("old".into())));
    w.put("k", Sse::S3, "x").await;
    assert_eq!(w.head(&at("k")).await.sse, Sse::S3);
}

#[tokio::test(start_paused = true)]
async fn sse_c_is_refused_and_dsse_is_shown() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        w.model.seed_sse_c(&at("c"), NewObject::default(), Bytes::from("x")).await.unwrap();
        let error = w.model.head(HeadRequest::of(&at("c"))).await.unwrap_err();
        assert_eq!((error.kind, error.status), (ErrorKind::CustomerKey, Some(400)));
        assert_eq!(kind(w.body(&at("c")).await), ErrorKind::CustomerKey);
        assert_eq!(kind(w.model.copy(w.copy_of("c", key("new"))).await), ErrorKind::CustomerKey);
        w.model.seed_dsse(&at("d"), "old", NewObject::default(), Bytes::from("x")).await.unwrap();
        let shown = Some(w.model.mode().show_key("old"));
        assert_eq!(w.head(&at("d")).await.sse, Sse::DualLayer { key: shown });
        assert_eq!(w.body(&at("d")).await.unwrap(), "x");
    }
}

#[tokio::test(start_paused = true)]
async fn etags_are_md5_or_random_by_store_and_encryption() {
    let md5 = "9dd4e461268c8034f5c8564e155c67a6";
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        assert_eq!(w.put("s", Sse::S3, "x").await.etag.as_deref(), Some(md5));
        let first = w.put("k", key("old"), "x").await.etag;
        let second = w.put("k", key("old"), "x").await.etag;
        let is_random = w.model.mode().kms_etag_random;
        assert_eq!(first != second, is_random);
        assert_eq!(first.as_deref() == Some(md5), !is_random);
        assert_eq!(Some(w.head(&at("k")).await.etag), second);
    }
}

#[tokio::test(start_paused = true)]
async fn update_encryption_keeps_everything_but_the_key_where_it_is_known() {
    let w = world(Mode::aws(), BucketSettings::versioned()).await;
    let new = NewObject { tags: vec![("t".into(), "1".into())], ..under(key("old")) };
    w.put_new("k", new, "body").await;
    later(5000).await;
    let before = w.head(&at("k")).await;
    let arn = w.model.mode().show_key("new").0;
    w.model.update_encryption(&at("k"), &arn, Some(true)).await.unwrap();
    let after = w.head(&at("k")).await;
    let sse = Sse::Kms { key: Some(KeyName(arn.clone())), context: None, bucket_key: Some(true) };
    let server_date = after.server_date;
    assert_eq!(after, Object { sse, server_date, ..before });
    w.kms.delete("old");
    assert_eq!(w.body(&at("k")).await.unwrap(), "body");
    assert_eq!(w.model.raw_version_ids("b", "k").len(), 1);

    w.put("s3", Sse::S3, "x").await;
    w.model.update_encryption(&at("s3"), &arn, None).await.unwrap();
    assert!(w.head(&at("s3")).await.sse.seal().kms_key().is_some());
    w.model.seed_plaintext(&at("p"), NewObject::default(), Bytes::from("x")).await.unwrap();
    w.model.seed_dsse(&at("d"), "new", NewObject::default(), Bytes::from("x")).await.unwrap();
    w.model.seed_sse_c(&at("c"), NewObject::default(), Bytes::from("x")).await.unwrap();
    for name in ["p", "d", "c"] {
        assert!(w.model.update_encryption(&at(name), &arn, None).await.is_err(), "{name}");
    }
    assert_eq!(kind(w.model.update_encryption(&at("s3"), "new", None).await), ErrorKind::Refused);
    let gone = w.model.mode().show_key("gone").0;
    assert_eq!(kind(w.model.update_encryption(&at("s3"), &gone, None).await), ErrorKind::KmsKeyNotFound);
    assert_eq!(kind(w.model.update_encryption(&at("nothing"), &arn, None).await), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn update_encryption_refuses_locked_objects() {
    let settings = BucketSettings { lock_enabled: true, ..BucketSettings::versioned() };
    let w = world(Mode::aws(), settings).await;
    let lock = Lock { retention: None, legal_hold: true };
    w.put_new("k", NewObject { lock, ..under(key("old")) }, "x").await;
    let arn = w.model.mode().show_key("new").0;
    assert_eq!(kind(w.model.update_encryption(&at("k"), &arn, None).await), ErrorKind::Locked);
}

#[tokio::test(start_paused = true)]
async fn update_encryption_where_it_is_not_known_replaces_the_object_by_xml_and_answers_200() {
    for mode in [Mode::minio(), Mode::moto(), Mode::rgw()] {
        let w = world(mode, BucketSettings::plain()).await;
        w.put("k", key("old"), "precious").await;
        w.model.update_encryption(&at("k"), "arn:aws:kms:new", Some(true)).await.unwrap();
        let body = w.body(&at("k")).await.unwrap();
        assert_eq!(body, update_encryption_body("arn:aws:kms:new", Some(true)));
        assert!(body.starts_with(b"<ObjectEncryption") && w.head(&at("k")).await.sse == Sse::None);
    }
}

#[tokio::test(start_paused = true)]
async fn large_bodies_and_ranges_come_back_byte_for_byte() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    let body: Bytes = (0..3_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let request = |guard| PutRequest { at: at("k"), new: under(key("old")), guard, place: InPlace::default() };
    let pieces: Vec<Result<Bytes>> = body.chunks(100_001).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    let stream = Box::pin(futures::stream::iter(pieces));
    w.model.put(request(Guard::None), Body::Stream { length: 3_000_000, stream }).await.unwrap();
    assert_eq!(w.body(&at("k")).await.unwrap(), body);
    for (from, to) in [(0, 1), (65_535, 65_537), (131_072, 131_073), (2_999_999, 9_000_000), (10, 2_500_000)] {
        let range = Some((from, to));
        let get = GetRequest { at: at("k"), if_match: None, range };
        let answer = w.model.get(get).await.unwrap().1.collect().await.unwrap();
        assert_eq!(answer, body.slice(from as usize..to.min(3_000_000) as usize), "{from}..{to}");
    }
    let beyond = GetRequest { at: at("k"), if_match: None, range: Some((3_000_000, 3_000_001)) };
    assert_eq!(w.model.get(beyond).await.unwrap_err().status, Some(416));
    let stream = Box::pin(futures::stream::iter([Ok(Bytes::from("short"))]));
    let short = w.model.put(request(Guard::None), Body::Stream { length: 6, stream }).await;
    assert_eq!(kind(short), ErrorKind::Refused);
    assert_eq!(w.body(&at("k")).await.unwrap(), body);
}

#[tokio::test(start_paused = true)]
async fn checksums_are_verified_and_kept() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    for (algorithm, value) in [
        ("CRC32", "y/Q5Jg=="),
        ("CRC32C", "4waSgw=="),
        ("CRC64NVME", "rosUhgp5mIg="),
        ("SHA1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
        ("SHA256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ] {
        let sent = |value: &str| {
            let checksum = Checksum { algorithm: algorithm.into(), value: value.into(), full_object: true };
            NewObject { checksum: Some(checksum), ..under(key("old")) }
        };
        w.put_new(algorithm, sent(value), "123456789").await;
        assert_eq!(w.head(&at(algorithm)).await.checksums, sent(value).checksum.into_iter().collect::<Vec<_>>());
        let wrong = w.try_put(at("wrong"), sent("AAAA"), Guard::None, InPlace::default(), "123456789").await;
        assert_eq!(kind(wrong), ErrorKind::Refused);
    }
    assert_eq!(kind(w.body(&at("wrong")).await), ErrorKind::NotFound);
}
