//! Multipart uploads.

use super::*;

/// An object of the parts `one` and `two`.
pub(super) async fn two_parts(w: &World, name: &str, new: NewObject) -> Written {
    let id = w.model.create_upload(&at(name), &new, &InPlace::default()).await.unwrap();
    let upload = Upload { bucket: "b".into(), key: name.into(), id };
    let one = w.model.upload_part(&upload, 1, Bytes::from("one").into(), None).await.unwrap();
    let two = w.model.upload_part(&upload, 2, Bytes::from("two").into(), None).await.unwrap();
    w.model.complete_upload(&upload, &[one, two], &Guard::None, &InPlace::default()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn layout_metadata_and_tags_are_those_of_the_create() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        let headers = Headers { content_type: Some("text/plain".into()), ..Headers::default() };
        let tags = vec![("t".to_owned(), "1".to_owned())];
        let new = NewObject { headers: headers.clone(), tags: tags.clone(), ..under(key("old")) };
        let etag = two_parts(&w, "k", new).await.etag.unwrap();
        assert!(etag.ends_with("-2"));
        let head = w.model.head(HeadRequest { at: at("k"), part: Some(2) }).await.unwrap();
        assert_eq!((head.parts, head.size, head.etag, head.headers), (Some(2), 3, etag, headers));
        assert_eq!(w.model.tags(&at("k")).await.unwrap(), tags);
        assert_eq!(w.body(&at("k")).await.unwrap(), "onetwo");
        let beyond = HeadRequest { at: at("k"), part: Some(3) };
        assert_eq!(kind(w.model.head(beyond).await), ErrorKind::Refused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_makes_one_part_of_many() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    two_parts(&w, "k", under(key("old"))).await;
    w.model.copy(w.copy_of("k", key("new"))).await.unwrap();
    let head = w.model.head(HeadRequest { at: at("k"), part: Some(1) }).await.unwrap();
    assert_eq!((head.parts, head.size), (None, 6));
    assert!(!head.etag.contains('-'));
}

#[tokio::test(start_paused = true)]
async fn a_part_copy_into_an_upload_with_a_checksum_is_refused_by_minio() {
    let checksum = Checksum { algorithm: "CRC32".into(), value: String::new(), full_object: true };
    let new = NewObject { checksum: Some(checksum), ..under(key("new")) };
    for (mode, refused) in [(Mode::minio(), true), (Mode::aws(), false)] {
        let w = world(mode, BucketSettings::plain()).await;
        w.put("k", key("old"), "123456789").await;
        let id = w.model.create_upload(&at("k"), &new, &InPlace::default()).await.unwrap();
        let upload = Upload { bucket: "b".into(), key: "k".into(), id };
        let source_if_match = None;
        let copy = PartCopyRequest { upload: upload.clone(), number: 1, source: at("k"), source_if_match, range: None };
        let part = w.model.upload_part_copy(copy).await;
        assert_eq!(part.as_ref().is_err_and(|e| e.status == Some(400)), refused);
        if let Ok(part) = part {
            w.model.complete_upload(&upload, &[part], &Guard::None, &InPlace::default()).await.unwrap();
            assert_eq!(w.head(&at("k")).await.checksums[0].value, "y/Q5Jg==");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn checksums_of_parts_are_composed() {
    let checksum = Checksum { algorithm: "SHA256".into(), value: String::new(), full_object: false };
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    two_parts(&w, "k", NewObject { checksum: Some(checksum), ..under(key("old")) }).await;
    let shown = w.head(&at("k")).await.checksums;
    assert!(shown[0].value.ends_with("-2") && !shown[0].full_object);
}

#[tokio::test(start_paused = true)]
async fn uploads_are_listed_gone_on_with_and_aborted() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    let mut uploads = Vec::new();
    for name in ["p/b", "p/a", "q"] {
        let id = w.model.create_upload(&at(name), &under(key("old")), &InPlace::default()).await.unwrap();
        uploads.push(Upload { bucket: "b".into(), key: name.into(), id });
    }
    assert_eq!(w.model.uploads("b", "p/").await.unwrap(), [uploads[1].clone(), uploads[0].clone()]);
    let part = w.model.upload_part(&uploads[0], 7, Bytes::from("x").into(), None).await.unwrap();
    assert_eq!(w.model.parts(&uploads[0]).await.unwrap(), std::slice::from_ref(&part));
    w.model.abort_upload(&uploads[0]).await.unwrap();
    w.model.abort_upload(&uploads[0]).await.unwrap();
    assert_eq!(kind(w.model.parts(&uploads[0]).await), ErrorKind::NotFound);
    let late = w.model.complete_upload(&uploads[0], &[part], &Guard::None, &InPlace::default()).await;
    assert_eq!(late.unwrap_err().code.as_deref(), Some("NoSuchUpload"));
    assert_eq!(kind(w.body(&at("p/b")).await), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn wrong_completions_are_refused() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    let mode = Mode { min_part: 4, ..Mode::minio() };
    let strict = StoreModel::new(mode, w.kms.clone(), w.env.clone());
    strict.create_bucket("b", BucketSettings::plain()).unwrap();
    let id = strict.create_upload(&at("k"), &under(key("old")), &InPlace::default()).await.unwrap();
    let upload = Upload { bucket: "b".into(), key: "k".into(), id };
    let one = strict.upload_part(&upload, 1, Bytes::from("one").into(), None).await.unwrap();
    let two = strict.upload_part(&upload, 2, Bytes::from("two").into(), None).await.unwrap();
    let code = async |parts: &[Part]| {
        let answer = strict.complete_upload(&upload, parts, &Guard::None, &InPlace::default()).await;
        answer.unwrap_err().code.unwrap()
    };
    assert_eq!(code(&[]).await, "MalformedXML");
    assert_eq!(code(&[two.clone(), one.clone()]).await, "InvalidPartOrder");
    assert_eq!(code(&[Part { etag: "bad".into(), ..one.clone() }]).await, "InvalidPart");
    assert_eq!(code(&[one, two.clone()]).await, "EntityTooSmall");
    strict.complete_upload(&upload, &[two], &Guard::None, &InPlace::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_empty_object_can_be_copied_as_a_part() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    w.put("k", key("old"), "").await;
    let id = w.model.create_upload(&at("k"), &under(key("new")), &InPlace::default()).await.unwrap();
    let upload = Upload { bucket: "b".into(), key: "k".into(), id };
    let (source, source_if_match) = (at("k"), None);
    let copy = PartCopyRequest { upload: upload.clone(), number: 1, source, source_if_match, range: None };
    let part = w.model.upload_part_copy(copy).await.unwrap();
    w.model.complete_upload(&upload, &[part], &Guard::None, &InPlace::default()).await.unwrap();
    assert_eq!(w.body(&at("k")).await.unwrap(), "");
}
