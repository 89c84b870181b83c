//! What a read-back must see, difference by difference.

use keyrotate_proto::key::KeyName;

use super::*;
use crate::testing::{NEW, OLD, kms, start};

fn pair() -> (Expected, Seen) {
    let checksum = Checksum { algorithm: "SHA256".into(), value: "x".into(), full_object: true };
    let headers = Headers {
        content_type: Some("a/b".into()),
        metadata: [("m".to_owned(), "1".to_owned())].into(),
        ..Headers::default()
    };
    let tags = vec![("t".to_owned(), "1".to_owned()), ("u".to_owned(), "2".to_owned())];
    let expected = Expected {
        sse: kms(NEW),
        size: 3,
        headers: headers.clone(),
        tags: Some(tags.clone()),
        tag_count: Some(2),
        storage_class: None,
        checksums: Some(vec![checksum.clone()]),
        etag: Some("e".into()),
        version: Some("v".into()),
        date: Some(start()),
        lock: held(),
    };
    let seen = Seen {
        sse: kms("arn:aws:kms:new-key"),
        size: 3,
        headers,
        tags: Some(tags.into_iter().rev().collect()),
        tag_count: Some(2),
        storage_class: Some("STANDARD".into()),
        checksums: Some(vec![checksum]),
        etag: "e".into(),
        version: Some("v".into()),
        last_modified: start(),
        lock: Some(held()),
    };
    (expected, seen)
}

fn held() -> Lock {
    Lock { retention: Some(("GOVERNANCE".into(), start())), legal_hold: true }
}

fn word(change: impl FnOnce(&mut Seen)) -> &'static str {
    let (expected, mut seen) = pair();
    change(&mut seen);
    match compare("k", &expected, &seen) {
        Ok(_) => "rotated",
        Err(Mismatch::Replaced(_)) => "replaced",
        Err(Mismatch::Wrong(_)) => "wrong",
        Err(Mismatch::Tags(_)) => "tags",
    }
}

#[test]
fn every_difference_is_seen() {
    assert_eq!(word(|_| ()), "rotated");
    assert_eq!(word(|s| s.size = 4), "replaced");
    assert_eq!(word(|s| s.etag = "f".into()), "replaced");
    assert_eq!(word(|s| s.version = Some("w".into())), "replaced");
    assert_eq!(word(|s| s.last_modified += jiff::SignedDuration::from_secs(1)), "replaced");
    assert_eq!(word(|s| s.sse = kms(OLD)), "wrong");
    assert_eq!(word(|s| s.sse = Sse::S3), "wrong");
    assert_eq!(word(|s| s.headers.content_type = None), "wrong");
    assert_eq!(word(|s| s.headers.cache_control = Some("no-store".into())), "wrong");
    assert_eq!(word(|s| s.headers.metadata.clear()), "wrong");
    assert_eq!(word(|s| drop(s.headers.metadata.insert("n".into(), "1".into()))), "wrong");
    assert_eq!(word(|s| s.storage_class = Some("STANDARD_IA".into())), "wrong");
    assert_eq!(word(|s| s.checksums = Some(Vec::new())), "wrong");
    assert_eq!(word(|s| s.checksums = None), "rotated", "a listing shows none");
    let retained = |mode: &str, seconds| Some((mode.to_owned(), start() + jiff::SignedDuration::from_secs(seconds)));
    assert_eq!(word(|s| s.lock = None), "rotated", "nor that");
    assert_eq!(word(|s| s.lock = Some(Lock { legal_hold: false, ..held() })), "wrong");
    assert_eq!(word(|s| s.lock = Some(Lock { retention: None, ..held() })), "wrong");
    assert_eq!(word(|s| s.lock = Some(Lock { retention: retained("GOVERNANCE", -1), ..held() })), "wrong");
    assert_eq!(word(|s| s.lock = Some(Lock { retention: retained("COMPLIANCE", 1), ..held() })), "rotated");
    assert_eq!(word(|s| s.tags = Some(Vec::new())), "wrong");
    assert_eq!(word(|s| s.tags = Some(vec![("t".into(), "2".into())])), "tags");
    assert_eq!(word(|s| (s.tags, s.tag_count) = (None, Some(3))), "tags");
    assert_eq!(word(|s| (s.tags, s.tag_count) = (None, None)), "wrong");
}

#[test]
fn a_lost_context_or_bucket_key_is_seen() {
    let (mut expected, mut seen) = pair();
    let sse = |context: Option<&str>, bucket_key| Sse::Kms {
        key: Some(KeyName(NEW.into())),
        context: context.map(|c| [("c".to_owned(), c.to_owned())].into()),
        bucket_key,
    };
    expected.sse = sse(Some("1"), Some(true));
    for (shown, right) in [
        (sse(Some("1"), Some(true)), true),
        (sse(None, Some(true)), true),
        (sse(Some("2"), Some(true)), false),
        (sse(Some("1"), None), true),
        (sse(Some("1"), Some(false)), false),
    ] {
        seen.sse = shown.clone();
        assert_eq!(compare("k", &expected, &seen).is_ok(), right, "{shown:?}");
    }
}

#[test]
fn sse_s3_is_evidence_by_the_write() {
    let (mut expected, mut seen) = pair();
    (expected.sse, seen.sse) = (Sse::S3, Sse::S3);
    assert_eq!(compare("k", &expected, &seen).unwrap().outcome(), Outcome::Rotated(Evidence::Write));
    assert_eq!(compare("k", &pair().0, &pair().1).unwrap().outcome(), Outcome::Rotated(Evidence::Key));
}
