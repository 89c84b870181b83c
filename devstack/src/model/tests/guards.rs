//! The table of guards: each call, each store.

use super::*;

/// Store, and what it answers to a bad CopyObject source guard, CopyObject destination guard, UploadPartCopy source
/// guard, Complete guard, PutObject `If-Match`, PutObject `If-None-Match: *`: whether it is refused.
const TABLE: [(&str, [bool; 6]); 4] = [
    ("aws", [true, true, true, true, true, true]),
    ("minio", [true, false, true, true, true, true]),
    ("moto", [false, false, false, false, true, true]),
    ("rgw", [true, false, true, true, true, true]),
];

#[tokio::test(start_paused = true)]
async fn bad_conditions_are_refused_or_ignored_as_observed() {
    for (name, wanted) in TABLE {
        let w = world(Mode::named(name).unwrap(), BucketSettings::plain()).await;
        w.model.seed_plaintext(&at("k"), NewObject::default(), Bytes::from("x")).await.unwrap();
        let sse = if name == "rgw" { Sse::None } else { key("new") };
        let directive = Directive::Replace(Box::default());
        let copy = CopyRequest { directive, ..w.copy_of("k", sse.clone()) };
        let source = Some("bad".to_owned());
        let answers = [
            w.model.copy(CopyRequest { source_if_match: source.clone(), ..copy.clone() }).await,
            w.model.copy(CopyRequest { guard: bad(), ..copy }).await,
            part_copy(&w, source, Guard::None, sse.clone()).await,
            part_copy(&w, None, bad(), sse.clone()).await,
            w.try_put(at("k"), under(sse.clone()), bad(), InPlace::default(), "y").await,
            w.try_put(at("k"), under(sse), Guard::IfAbsent, InPlace::default(), "y").await,
        ];
        for (place, (answer, refused)) in answers.into_iter().zip(wanted).enumerate() {
            match answer {
                Err(error) => assert!(refused && error.status == Some(412), "{name} {place}: {error}"),
                Ok(_) => assert!(!refused, "{name} {place}"),
            }
        }
    }
}

async fn part_copy(w: &World, source: Option<String>, guard: Guard, sse: Sse) -> Result<Written> {
    let id = w.model.create_upload(&at("k"), &under(sse), &InPlace::default()).await.unwrap();
    let upload = Upload { bucket: "b".into(), key: "k".into(), id };
    let copy =
        PartCopyRequest { upload: upload.clone(), number: 1, source: at("k"), source_if_match: source, range: None };
    let part = w.model.upload_part_copy(copy).await?;
    w.model.complete_upload(&upload, &[part], &guard, &InPlace::default()).await
}

#[tokio::test(start_paused = true)]
async fn a_write_that_expects_an_object_resurrects_nothing() {
    for settings in [BucketSettings::plain(), BucketSettings::versioned()] {
        for mode in Mode::all() {
            let w = world(mode, settings.clone()).await;
            let etag = w.put("k", Sse::S3, "x").await.etag.unwrap();
            w.model.delete(&at("k")).await.unwrap();
            let put = w.try_put(at("k"), under(Sse::S3), if_match(&etag), InPlace::default(), "x").await;
            assert_eq!(put.unwrap_err().status, Some(404));
            assert_eq!(kind(w.body(&at("k")).await), ErrorKind::NotFound);
            w.try_put(at("k"), under(Sse::S3), Guard::IfAbsent, InPlace::default(), "y").await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn get_is_guarded_everywhere() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        let etag = w.put("k", key("old"), "x").await.etag;
        let get = |if_match| GetRequest { at: at("k"), if_match, range: None };
        assert!(w.model.get(get(etag)).await.is_ok());
        assert_eq!(kind(w.model.get(get(Some("bad".into()))).await), ErrorKind::Precondition);
    }
}

#[tokio::test(start_paused = true)]
async fn an_etag_sees_neither_tags_nor_the_same_body_again() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    let etag = w.put("k", Sse::S3, "x").await.etag.unwrap();
    w.model.put_tags(&at("k"), vec![("t".into(), "1".into())]).unwrap();
    let headers = Headers { content_type: Some("text/plain".into()), ..Headers::default() };
    w.put_new("k", NewObject { headers, ..under(Sse::S3) }, "x").await;
    w.try_put(at("k"), under(Sse::S3), if_match(&etag), InPlace::default(), "x").await.unwrap();
    assert_eq!(w.head(&at("k")).await.headers, Headers::default());
}

#[tokio::test(start_paused = true)]
async fn keys_are_refused_as_each_store_refuses_them() {
    let long = "x".repeat(256);
    let odd = ["a//b", "..", "./a", "a/../b", long.as_str(), "a\u{1}b", "d/", "\u{10FFFF}", "a b+%?#"];
    for (mode, refused) in [
        (Mode::minio(), [true, true, true, true, true, false, false, false, false]),
        (Mode::moto(), [false, false, false, false, false, true, false, false, false]),
        (Mode::aws(), [false; 9]),
        (Mode::rgw(), [false; 9]),
    ] {
        let w = world(mode, BucketSettings::plain()).await;
        for (name, refused) in odd.iter().zip(refused) {
            let answer = w.try_put(at(name), under(Sse::S3), Guard::None, InPlace::default(), "x").await;
            assert_eq!(answer.is_err(), refused, "{} {name:?}", w.model.mode().name);
            if !refused {
                assert_eq!(w.body(&at(name)).await.unwrap(), "x");
            } else if w.model.mode().name == "moto" {
                assert_eq!(answer.unwrap_err().status, Some(404));
            }
        }
        let longest = "k/".repeat(512);
        w.try_put(at(&longest), under(Sse::S3), Guard::None, InPlace::default(), "x").await.unwrap();
        let longer = format!("{longest}k");
        assert!(w.try_put(at(&longer), under(Sse::S3), Guard::None, InPlace::default(), "x").await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn directory_keys_on_minio_are_guarded_by_the_etag_of_head_alone() {
    let w = world(Mode::minio(), BucketSettings::versioned()).await;
    let written = w.put("d/", key("old"), "x").await;
    let (head, short) = (w.head(&at("d/")).await, written.etag.unwrap());
    assert!(head.etag.starts_with("20000f00") && head.etag.len() >= 40 && head.etag != short);
    assert_eq!((head.version, written.version), (None, None));
    assert_eq!(w.entries(true).await[0].version.as_deref(), Some("null"));
    assert_eq!(w.entries(true).await[0].etag, short);
    let (got, _) = w.model.get(GetRequest::of(&at("d/"))).await.unwrap();
    assert_eq!(got.etag, short);
    let put = |guard| w.try_put(at("d/"), under(key("new")), guard, InPlace::default(), "y");
    assert_eq!(kind(put(if_match(&short)).await), ErrorKind::Precondition);
    put(if_match(&head.etag)).await.unwrap();
    assert_eq!(w.model.raw_version_ids("b", "d/").len(), 1);
    let upload = w.model.create_upload(&at("d/"), &under(key("new")), &InPlace::default()).await;
    assert_eq!(upload.unwrap_err().code.as_deref(), Some("XMinioInvalidObjectName"));
    w.put("p/", Sse::None, "x").await;
    assert_eq!(w.head(&at("p/")).await.etag, "9dd4e461268c8034f5c8564e155c67a6");
}
