//! Which strategy on which store, and why not another.

use keyrotate_proto::key::KeyName;
use keyrotate_proto::spec::BodyTransit;
use keyrotate_store::{Checksum, ObjectAt, Sse};

use super::*;
use crate::testing::{BUCKET, NEW, OLD, kms, rules, spec};

const KINDS: [SourceKind; 3] = [SourceKind::Plaintext, SourceKind::SseS3, SourceKind::SseKms];
const ALL: [Property; 5] =
    [Property::Metadata, Property::WebsiteRedirect, Property::Tags, Property::Checksum, Property::Parts];

/// Rules of a store where these strategies are proven on every kind of source.
fn store(proven: &[(Strategy, bool, &[Property])]) -> Rules {
    let mut rules = rules(spec());
    rules.frozen.probed = KINDS.into();
    for (strategy, guarded, loses) in proven {
        for source in KINDS {
            for multipart in [false, true] {
                let keeps = ALL.into_iter().filter(|p| !loses.contains(p)).collect();
                rules.frozen.proofs.push(Proof {
                    strategy: *strategy,
                    source,
                    multipart,
                    guarded: *guarded,
                    keeps,
                    noncurrent: strategy.keeps_version(),
                });
            }
        }
    }
    rules
}

fn aws() -> Rules {
    store(&[
        (Strategy::UpdateEncryption, true, &[]),
        (Strategy::Copy, true, &[]),
        (Strategy::CopyMultipart, true, &[Property::Checksum]),
        (Strategy::Rewrite, true, &[Property::Parts]),
        (Strategy::RewriteMultipart, true, &[Property::Checksum]),
    ])
}

fn minio() -> Rules {
    store(&[
        (Strategy::Copy, false, &[]),
        (Strategy::CopyMultipart, true, &[Property::Checksum]),
        (Strategy::CopyMultipartInPlace, true, &[Property::Checksum]),
        (Strategy::Rewrite, true, &[Property::Parts]),
        (Strategy::RewriteInPlace, true, &[Property::Parts]),
        (Strategy::RewriteMultipartInPlace, true, &[]),
        (Strategy::RewriteMultipart, true, &[Property::Checksum]),
    ])
}

fn rgw() -> Rules {
    store(&[(Strategy::Rewrite, true, &[Property::Parts]), (Strategy::RewriteMultipart, true, &[Property::Checksum])])
}

fn object(size: u64) -> Facts {
    let mut facts = Facts::nothing_known(&ObjectAt::current(BUCKET, "k"));
    facts.size = size;
    facts.etag = "0123".into();
    facts.listed = Some(facts.last_modified);
    facts.shown = Some(Shown { sse: kms(OLD), checksums: Some(Vec::new()), ..Shown::default() });
    facts
}

fn in_parts(size: u64) -> Facts {
    Facts { etag: "0123-2".into(), ..object(size) }
}

fn with_checksum(size: u64, full_object: bool) -> Facts {
    let mut facts = object(size);
    let checksum = Checksum { algorithm: "CRC32".into(), value: "AAAAAA==".into(), full_object };
    facts.shown.as_mut().unwrap().checksums = Some(vec![checksum]);
    facts
}

fn word(choice: &Choice) -> String {
    match choice {
        Choice::Use { strategy, guarded, borrowed, .. } => {
            let borrowed = if *borrowed { " borrowed" } else { "" };
            format!("{strategy}{}{borrowed}", if *guarded { "" } else { " UNGUARDED" })
        }
        Choice::Head => "head".into(),
        Choice::Acl => "acl".into(),
        Choice::Below => "below".into(),
        Choice::Skip { reason, .. } => format!("skipped({reason})"),
    }
}

fn chosen(rules: &Rules, facts: &Facts, kind: SourceKind) -> String {
    word(&choose(rules, facts, kind))
}

#[test]
fn the_best_that_is_proven_is_taken() {
    const SMALL: u64 = 1_000;
    const BIG: u64 = 2 << 20;
    const HUGE: u64 = (5 << 30) + 1;
    let any = |rules: Rules| {
        let mut rules = rules;
        rules.spec.options.body_transit = BodyTransit::Any;
        rules
    };
    let not_in_place = |rules: Rules| {
        let mut rules = rules;
        rules.spec.options.in_place = false;
        rules
    };
    let rows = [
        (aws(), object(SMALL), SourceKind::SseKms, "update-encryption"),
        (aws(), object(HUGE), SourceKind::SseKms, "update-encryption"),
        (aws(), object(SMALL), SourceKind::Plaintext, "copy"),
        (aws(), object(HUGE), SourceKind::Plaintext, "copy-multipart"),
        (minio(), object(SMALL), SourceKind::SseKms, "rewrite-in-place"),
        (not_in_place(minio()), object(SMALL), SourceKind::SseKms, "rewrite"),
        (minio(), object(BIG), SourceKind::SseKms, "copy-multipart-in-place"),
        (not_in_place(minio()), object(BIG), SourceKind::SseKms, "copy-multipart"),
        (minio(), in_parts(SMALL), SourceKind::SseKms, "copy-multipart-in-place"),
        (not_in_place(minio()), in_parts(SMALL), SourceKind::SseKms, "copy-multipart"),
        (minio(), with_checksum(BIG, true), SourceKind::SseKms, "skipped(body-transit)"),
        (any(minio()), with_checksum(BIG, true), SourceKind::SseKms, "rewrite-in-place"),
        (any(minio()), with_checksum(BIG, false), SourceKind::SseKms, "rewrite-multipart-in-place"),
        (minio(), with_checksum(BIG, false), SourceKind::SseKms, "skipped(body-transit)"),
        (minio(), object(HUGE), SourceKind::SseKms, "copy-multipart-in-place"),
        (rgw(), object(SMALL), SourceKind::SseS3, "rewrite"),
        (rgw(), object(BIG), SourceKind::SseS3, "skipped(body-transit)"),
        (any(rgw()), object(BIG), SourceKind::SseS3, "rewrite"),
        (any(rgw()), object(HUGE), SourceKind::SseS3, "rewrite-multipart"),
        (any(rgw()), in_parts(SMALL), SourceKind::SseS3, "rewrite-multipart"),
        (rgw(), in_parts(HUGE), SourceKind::SseS3, "skipped(body-transit)"),
        (
            store(&[(Strategy::Rewrite, true, &[Property::Parts])]),
            in_parts(SMALL),
            SourceKind::SseS3,
            "skipped(keeps-not)",
        ),
        (store(&[(Strategy::Rewrite, true, &[])]), object(HUGE), SourceKind::SseS3, "skipped(too-large)"),
        (store(&[]), object(SMALL), SourceKind::SseS3, "skipped(no-strategy)"),
    ];
    for (rules, facts, kind, wanted) in rows {
        assert_eq!(chosen(&rules, &facts, kind), wanted, "{} bytes, {kind:?}", facts.size);
    }
}

#[test]
fn nothing_unguarded_without_the_option_and_then_last() {
    let mut rules = store(&[(Strategy::Copy, false, &[]), (Strategy::CopyMultipart, false, &[])]);
    assert_eq!(chosen(&rules, &object(1), SourceKind::SseS3), "skipped(unguarded)");
    rules.spec.options.allow_unguarded = true;
    assert_eq!(chosen(&rules, &object(1), SourceKind::SseS3), "copy UNGUARDED");
    let mut guarded = minio();
    guarded.spec.options.allow_unguarded = true;
    assert_eq!(chosen(&guarded, &object(1), SourceKind::SseS3), "rewrite-in-place");
}

#[test]
fn what_loses_something_that_the_object_has_is_ruled_out() {
    let mut tagged = object(1);
    tagged.shown.as_mut().unwrap().tag_count = Some(1);
    let mut redirected = object(1);
    redirected.shown.as_mut().unwrap().headers.website_redirect = Some("/x".into());
    let rows = [
        (Property::Metadata, object(1), "skipped(keeps-not)"),
        (Property::Tags, object(1), "copy"),
        (Property::Tags, tagged, "skipped(keeps-not)"),
        (Property::Checksum, object(1), "copy"),
        (Property::Checksum, with_checksum(1, true), "skipped(keeps-not)"),
        (Property::WebsiteRedirect, object(1), "copy"),
        (Property::WebsiteRedirect, redirected, "skipped(keeps-not)"),
    ];
    for (lost, facts, wanted) in rows {
        let rules = store(&[(Strategy::Copy, true, &[lost])]);
        assert_eq!(chosen(&rules, &facts, SourceKind::SseS3), wanted, "{lost:?}");
    }
    // Whether there is a checksum only HEAD shows.
    let mut listed = object(1);
    listed.shown.as_mut().unwrap().checksums = None;
    let rules = store(&[(Strategy::Copy, true, &[Property::Checksum])]);
    assert_eq!(chosen(&rules, &listed, SourceKind::SseS3), "head");
    assert_eq!(chosen(&minio(), &listed, SourceKind::SseS3), "rewrite-in-place");
}

#[test]
fn update_encryption_only_for_what_it_can_do() {
    let mut context = aws();
    context.frozen.target =
        FrozenTarget::SseKms { key: KeyName(NEW.into()), context: Some([].into()), keys: [].into() };
    assert_eq!(chosen(&context, &object(1), SourceKind::SseKms), "copy");
    let mut s3 = aws();
    s3.frozen.target = FrozenTarget::SseS3;
    assert_eq!(chosen(&s3, &object(1), SourceKind::SseS3), "copy");
    let mut elsewhere = aws();
    elsewhere.frozen.same_bucket = false;
    assert_eq!(chosen(&elsewhere, &object(1), SourceKind::SseKms), "copy");
    let mut own = object(1);
    let context = Some([("a".to_owned(), "b".to_owned())].into());
    own.shown.as_mut().unwrap().sse = Sse::Kms { key: Some(KeyName(OLD.into())), context, bucket_key: None };
    assert_eq!(chosen(&aws(), &own, SourceKind::SseKms), "copy");
}

#[test]
fn in_place_needs_the_date_an_id_and_no_tier() {
    let mut headed = object(1);
    headed.listed = None;
    assert_eq!(chosen(&minio(), &headed, SourceKind::SseKms), "rewrite");
    let mut versioned = minio();
    versioned.frozen.versioning = Versioning::Enabled;
    let mut null = object(1);
    null.at.version = Some("null".into());
    assert_eq!(chosen(&versioned, &null, SourceKind::SseKms), "rewrite");
    null.at.version = Some("v".into());
    assert_eq!(chosen(&versioned, &null, SourceKind::SseKms), "rewrite-in-place");
    let mut tiered = object(1);
    tiered.storage_class = Some("MY-TIER".into());
    assert_eq!(chosen(&minio(), &tiered, SourceKind::SseKms), "skipped(no-strategy)");
    assert_eq!(chosen(&aws(), &tiered, SourceKind::SseKms), "update-encryption");
}

#[test]
fn a_directory_marker_takes_no_multipart_upload() {
    let mut rules = store(&[(Strategy::CopyMultipart, true, &[])]);
    rules.spec.options.body_transit = BodyTransit::UpTo(0);
    let mut marker = object(1);
    marker.at.key = "a/".into();
    assert_eq!(chosen(&rules, &marker, SourceKind::SseS3), "skipped(no-strategy)");
    assert_eq!(chosen(&rules, &object(1), SourceKind::SseS3), "copy-multipart");
}

#[test]
fn a_kind_without_a_probe_borrows_and_one_that_failed_does_not() {
    let mut rules = aws();
    rules.frozen.proofs.retain(|p| p.source == SourceKind::SseS3);
    assert_eq!(chosen(&rules, &object(1), SourceKind::SseKms), "skipped(no-strategy)", "it was probed and failed");
    rules.frozen.probed = [SourceKind::SseS3].into();
    assert_eq!(chosen(&rules, &object(1), SourceKind::SseKms), "update-encryption borrowed");
    assert_eq!(chosen(&rules, &object(1), SourceKind::Plaintext), "copy borrowed");
}

#[test]
fn the_reason_names_what_was_better_and_why_not() {
    let Choice::Use { why, .. } = choose(&minio(), &object(2 << 20), SourceKind::SseKms) else {
        panic!("nothing chosen")
    };
    insta::assert_snapshot!(why, @"proven and guarded here; update-encryption: not proven on this store; copy: nothing guards it here; rewrite-in-place: its body is over bodyTransit");
    let Choice::Skip { why, .. } = choose(&rgw(), &object(2 << 20), SourceKind::SseKms) else {
        panic!("something chosen")
    };
    insta::assert_snapshot!(why, @"update-encryption: not proven on this store; copy: not proven on this store; rewrite-in-place: not proven on this store; copy-multipart-in-place: not proven on this store; rewrite-multipart-in-place: not proven on this store; rewrite: its body is over bodyTransit; copy-multipart: not proven on this store; rewrite-multipart: its body is over bodyTransit");
}
