//! Every row of every table of the job file's rules, and the order of the decision.

use std::collections::BTreeMap;
use std::time::Duration;

use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::spec::{Dialect, Filter, KeyPattern};
use keyrotate_store::{Lock, ObjectAt};
use proptest::prelude::*;

use super::*;
use crate::testing::{BUCKET, NEW, OLD, kms, rules, spec, start};

const DIALECTS: [Dialect; 3] = [Dialect::Minio, Dialect::MinioFlat, Dialect::Aistor];

fn with(dialect: Dialect, target: FrozenTarget, filter: Filter) -> Rules {
    let mut rules = rules(spec());
    rules.spec.dialect = dialect;
    rules.spec.filter = filter;
    rules.frozen.target = target;
    rules
}

fn to_kms() -> FrozenTarget {
    FrozenTarget::key(KeyName(NEW.into()))
}

fn to_context() -> FrozenTarget {
    let context = Some([("a".to_owned(), "b".to_owned())].into());
    FrozenTarget::SseKms { key: KeyName(NEW.into()), context, keys: [].into() }
}

fn facts(sse: Sse) -> Facts {
    let mut facts = Facts::nothing_known(&ObjectAt::current(BUCKET, "k"));
    facts.last_modified = start() - jiff::SignedDuration::from_hours(10);
    facts.shown = Some(Shown { sse, ..Shown::default() });
    facts
}

fn locked(sse: Sse) -> Facts {
    let mut facts = facts(sse);
    if let Some(shown) = &mut facts.shown {
        shown.lock = Lock { retention: None, legal_hold: true };
    }
    facts
}

fn dsse() -> Sse {
    Sse::DualLayer { key: Some(KeyName(OLD.into())) }
}

/// `write`, `current`, or the outcome's word and reason.
fn word(decision: Decision) -> String {
    match decision {
        Decision::Settle(Outcome::Current) => "current".into(),
        Decision::Settle(o) => format!("{}/{}", o.word(), o.reason()),
        Decision::Write(_) => "write".into(),
        Decision::Head => "head".into(),
        Decision::Tags => "tags".into(),
    }
}

#[test]
fn the_table_of_dialect_c() {
    let sources = [Sse::None, Sse::S3, kms(OLD), kms(NEW), Sse::Customer, dsse()];
    let force = Filter { force_encrypt_locked: true, ..Filter::default() };
    let plain = Filter { plaintext_only: true, ..Filter::default() };
    let rows = [
        // plaintext, SSE-S3, SSE-KMS, SSE-KMS target, SSE-C, dual-layer
        (Filter::default(), false, ["write", "write", "write", "current", "skipped/sse-c", "skipped/dual-layer"]),
        (
            Filter::default(),
            true,
            [
                "skipped/locked-plaintext",
                "skipped/locked",
                "skipped/locked",
                "current",
                "skipped/locked",
                "skipped/locked",
            ],
        ),
        (force, true, ["skipped/locked-plaintext", "write", "write", "current", "skipped/sse-c", "skipped/dual-layer"]),
        (
            plain,
            false,
            [
                "write",
                "filtered/plaintext-only",
                "filtered/plaintext-only",
                "current",
                "filtered/plaintext-only",
                "filtered/plaintext-only",
            ],
        ),
    ];
    for (filter, is_locked, wanted) in rows {
        let rules = with(Dialect::Aistor, to_kms(), filter.clone());
        for (sse, wanted) in sources.iter().zip(wanted) {
            let facts = if is_locked { locked(sse.clone()) } else { facts(sse.clone()) };
            assert_eq!(word(decide(&rules, &facts)), wanted, "{sse:?}, locked: {is_locked}, {filter:?}");
        }
    }
}

#[test]
fn the_tables_of_dialects_a_and_b() {
    let sources = [Sse::None, Sse::S3, kms(OLD), kms(NEW), Sse::Customer, dsse()];
    let to_kms_row = ["skipped/plaintext", "write", "write", "current", "skipped/sse-c", "skipped/dual-layer"];
    let to_s3_row =
        ["skipped/plaintext", "write", "skipped/downgrade", "skipped/downgrade", "skipped/sse-c", "skipped/dual-layer"];
    for dialect in [Dialect::Minio, Dialect::MinioFlat] {
        for (target, row) in [(to_kms(), to_kms_row), (FrozenTarget::SseS3, to_s3_row)] {
            let rules = with(dialect, target.clone(), Filter::default());
            for (sse, wanted) in sources.iter().zip(row) {
                assert_eq!(word(decide(&rules, &facts(sse.clone()))), wanted, "{dialect:?} {target:?} {sse:?}");
            }
            // What the file's rules leave out is no exception: a locked plaintext object is plaintext here.
            assert_eq!(word(decide(&rules, &locked(Sse::None))), "skipped/plaintext");
            assert_eq!(word(decide(&rules, &locked(Sse::S3))), "skipped/locked");
        }
    }
}

#[test]
fn with_a_context_nothing_is_current() {
    for dialect in DIALECTS {
        let rules = with(dialect, to_context(), Filter::default());
        assert_eq!(decide(&rules, &facts(kms(NEW))), Decision::Write(SourceKind::SseKms), "{dialect:?}");
    }
}

#[test]
fn what_the_listing_decides_asks_nothing() {
    let hours = |h: u64| Some(Duration::from_secs(h * 3_600));
    let at = |h: i64| Some(start() - jiff::SignedDuration::from_hours(h));
    // The object is ten hours old.
    let rows = [
        (Filter { newer_than: hours(11), ..Filter::default() }, "head"),
        (Filter { newer_than: hours(10), ..Filter::default() }, "filtered/newer-than"),
        (Filter { newer_than: hours(9), ..Filter::default() }, "filtered/newer-than"),
        (Filter { older_than: hours(9), ..Filter::default() }, "head"),
        (Filter { older_than: hours(10), ..Filter::default() }, "filtered/older-than"),
        (Filter { older_than: hours(11), ..Filter::default() }, "filtered/older-than"),
        (Filter { created_after: at(11), ..Filter::default() }, "head"),
        (Filter { created_after: at(10), ..Filter::default() }, "filtered/created-after"),
        (Filter { created_after: at(9), ..Filter::default() }, "filtered/created-after"),
        (Filter { created_before: at(9), ..Filter::default() }, "head"),
        (Filter { created_before: at(10), ..Filter::default() }, "filtered/created-before"),
        (Filter { created_before: at(11), ..Filter::default() }, "filtered/created-before"),
    ];
    for (filter, wanted) in rows {
        let rules = with(Dialect::Aistor, to_kms(), filter.clone());
        let mut listed = facts(Sse::None);
        listed.shown = None;
        assert_eq!(word(decide(&rules, &listed)), wanted, "{filter:?}");
        // In whole seconds, so that HEAD and a listing with milliseconds decide alike.
        listed.last_modified += jiff::SignedDuration::from_millis(800);
        assert_eq!(word(decide(&rules, &listed)), wanted, "{filter:?}");
    }
    let mut marker = facts(Sse::None);
    (marker.shown, marker.delete_marker) = (None, true);
    assert_eq!(word(decide(&rules(spec()), &marker)), "skipped/delete-marker");
    let mut own = rules(spec());
    own.ours = crate::probe::Ours::exactly("k");
    assert_eq!(word(decide(&own, &marker)), "skipped/own");
}

#[test]
fn current_comes_before_the_other_filters() {
    let filter = Filter {
        kms_key: Some(KeyName(OLD.into())),
        tags: vec![KeyPattern { key: "t".into(), value: "*".into() }],
        metadata: vec![KeyPattern { key: "m".into(), value: "*".into() }],
        plaintext_only: true,
        ..Filter::default()
    };
    let rules = with(Dialect::Aistor, to_kms(), filter);
    assert_eq!(word(decide(&rules, &locked(kms(NEW)))), "current");
    let mut noncurrent = facts(kms(NEW));
    noncurrent.latest = false;
    assert_eq!(word(decide(&rules, &noncurrent)), "current");
}

#[test]
fn kmskey_matches_names_normalised_and_never_an_object_without_one() {
    let filter = |key: &str| Filter { kms_key: Some(KeyName(key.into())), ..Filter::default() };
    let rows = [
        (OLD, kms(OLD), "write"),
        ("arn:aws:kms:old-key", kms(OLD), "write"),
        (OLD, kms("arn:aws:kms:old-key"), "write"),
        ("other", kms(OLD), "filtered/kms-key"),
        (OLD, Sse::S3, "filtered/kms-key"),
        (OLD, Sse::None, "filtered/kms-key"),
        (OLD, Sse::Customer, "filtered/kms-key"),
        (OLD, dsse(), "skipped/dual-layer"),
    ];
    for (key, sse, wanted) in rows {
        let rules = with(Dialect::Aistor, to_kms(), filter(key));
        assert_eq!(word(decide(&rules, &facts(sse.clone()))), wanted, "{key} {sse:?}");
    }
}

#[test]
fn tags_are_asked_for_only_where_a_filter_needs_them_and_head_announces_any() {
    let pattern = KeyPattern { key: "Name".into(), value: "pick*".into() };
    let rules = with(Dialect::Aistor, to_kms(), Filter { tags: vec![pattern], ..Filter::default() });
    let mut facts = facts(Sse::S3);
    assert_eq!(word(decide(&rules, &facts)), "filtered/tags", "none are announced");
    facts.shown.as_mut().unwrap().tag_count = Some(1);
    assert_eq!(word(decide(&rules, &facts)), "tags");
    assert_eq!(word(decide(&with(Dialect::Aistor, to_kms(), Filter::default()), &facts)), "write");
    facts.tags = Some(vec![("name".into(), "picked".into())]);
    assert_eq!(word(decide(&rules, &facts)), "write");
    facts.tags = Some(vec![("name".into(), "Picked".into())]);
    assert_eq!(word(decide(&rules, &facts)), "filtered/tags");
    // A store that announces nothing must be asked.
    let mut silent = rules;
    silent.frozen.tags_announced = false;
    facts.tags = None;
    facts.shown.as_mut().unwrap().tag_count = None;
    assert_eq!(word(decide(&silent, &facts)), "tags");
}

#[test]
fn metadata_is_matched_as_header_or_user_metadata() {
    let rules = |key: &str, value: &str| {
        let pattern = KeyPattern { key: key.into(), value: value.into() };
        with(Dialect::Aistor, to_kms(), Filter { metadata: vec![pattern], ..Filter::default() })
    };
    let mut facts = facts(Sse::S3);
    let headers = &mut facts.shown.as_mut().unwrap().headers;
    headers.content_type = Some("image/png".into());
    headers.metadata = BTreeMap::from([("owner".to_owned(), "me".to_owned())]);
    for (key, value, wanted) in [
        ("Content-Type", "image/*", "write"),
        ("content-type", "text/*", "filtered/metadata"),
        ("owner", "m?", "write"),
        ("x-amz-meta-Owner", "me", "write"),
        ("x-amz-meta-content-type", "image/*", "filtered/metadata"),
        ("nobody", "*", "filtered/metadata"),
    ] {
        assert_eq!(word(decide(&rules(key, value), &facts)), wanted, "{key} {value}");
    }
    // Only the owner of its key sees the metadata of an SSE-C object: it is named, not silently left out.
    let customer = super::tests::facts(Sse::Customer);
    assert_eq!(word(decide(&rules("owner", "me"), &customer)), "skipped/sse-c");
}

fn any_sse() -> impl Strategy<Value = Sse> {
    prop_oneof![Just(Sse::None), Just(Sse::S3), Just(kms(OLD)), Just(kms(NEW)), Just(Sse::Customer), Just(dsse())]
}

prop_compose! {
    fn any_facts()(
        sse in proptest::option::of(any_sse()), latest: bool, delete_marker: bool, hold: bool,
        tagged: bool, known in proptest::option::of("[ab]"), hours in 0i64..20, archived: bool,
    ) -> Facts {
        let mut facts = facts(Sse::None);
        facts.shown = sse.map(|sse| Shown {
            sse,
            tag_count: tagged.then_some(1),
            lock: Lock { retention: None, legal_hold: hold },
            ..Shown::default()
        });
        facts.tags = known.filter(|_| tagged).map(|value| vec![("t".to_owned(), value)]);
        facts.last_modified = start() - jiff::SignedDuration::from_hours(hours);
        facts.storage_class = archived.then(|| "GLACIER".to_owned());
        (facts.latest, facts.delete_marker) = (latest, delete_marker);
        facts
    }
}

prop_compose! {
    fn any_rules()(
        dialect in prop_oneof![Just(Dialect::Minio), Just(Dialect::MinioFlat), Just(Dialect::Aistor)],
        target in prop_oneof![Just(to_kms()), Just(to_context()), Just(FrozenTarget::SseS3)],
        newer in proptest::option::of(1u64..20), kms_key in proptest::option::of("(old|new)-key"),
        tag in proptest::option::of("[ab]"), plaintext_only: bool, force_encrypt_locked: bool,
    ) -> Rules {
        let filter = Filter {
            newer_than: newer.map(|h| Duration::from_secs(h * 3_600)),
            kms_key: kms_key.map(KeyName),
            tags: tag.into_iter().map(|value| KeyPattern { key: "t".into(), value }).collect(),
            plaintext_only,
            force_encrypt_locked,
            ..Filter::default()
        };
        with(dialect, target, filter)
    }
}

proptest! {
    /// Total, in order, and blind to what does not matter.
    #[test]
    fn every_decision_respects_the_order(rules in any_rules(), facts in any_facts()) {
        let decision = decide(&rules, &facts);
        // What the listing decides does not depend on facts that only HEAD shows.
        let mut listed = facts.clone();
        (listed.shown, listed.tags) = (None, None);
        match decide(&rules, &listed) {
            Decision::Head => {}
            settled => prop_assert_eq!(decision, settled),
        }
        // HEAD is asked exactly where nothing is known, tags only where a filter needs them.
        prop_assert!(decision != Decision::Head || facts.shown.is_none());
        prop_assert!(decision != Decision::Tags || (!rules.spec.filter.tags.is_empty() && facts.tags.is_none()));
        // What is right already is `current` for every filter that HEAD decides.
        if let Some(shown) = &facts.shown {
            let dated = by_listing(&rules, &facts).is_some();
            let right = is_current(&rules, &shown.sse);
            prop_assert_eq!(decision == Decision::Settle(Outcome::Current), right && !dated);
            if let Decision::Write(kind) = decision {
                prop_assert!(!right && (!shown.lock.is_locked() || rules.spec.filter.force_encrypt_locked));
                prop_assert_eq!(crate::facts::kind_of(&shown.sse), Some(kind));
                prop_assert!(kind != SourceKind::Plaintext || rules.spec.dialect.encrypts_plaintext());
            }
        }
        // Size, ETag and key of an object never matter.
        let mut other = facts.clone();
        (other.size, other.etag, other.at.key) = (99, "e".into(), "other".into());
        prop_assert_eq!(decide(&rules, &other), decision);
    }
}
