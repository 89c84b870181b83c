//! What a report says of keys, held against what two snapshots of the bucket show: how many versions left each key, how
//! many still need it, and what follows for whoever wants to delete it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::bucket::{self, Snapshot, bare};
use crate::oracle::Expect;
use crate::report::{Report, Row, plain};
use crate::stand::Stand;

/// Versions that left a key and versions that are still under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    left: u64,
    still: u64,
}

/// Checks section `oldKeys`. Of keys that the test itself touched meanwhile nobody knows when the job saw which state of
/// them: each of their rows may be in a figure or not, and nothing else may.
///
/// # Panics
/// With what does not hold.
pub(crate) async fn check(stand: &Stand, before: &Snapshot, after: &Snapshot, report: &Report, expect: &Expect) {
    let truth = Truth::of(before, after, report, expect, expect.wanted(stand));
    let said = said(report, &truth.wanted);
    let unsure = report.rows.iter().filter(|row| expect.touched.contains(&row["key"])).count() as u64;
    let none = Figures::default();
    for key in truth.of.keys().chain(said.keys()).collect::<BTreeSet<_>>() {
        let (is, says) = (truth.of.get(key).unwrap_or(&none), said.get(key).map_or(&none, |(figures, _)| figures));
        assert!((is.left..=is.left + unsure).contains(&says.left), "{key}: {is:?} of old, the report says {says:?}");
        assert!((is.still..=is.still + unsure).contains(&says.still), "{key}: {is:?} still, the report says {says:?}");
    }
    let listed = Listed::of(stand, before, expect).await;
    let unseen = report.summary["unknownKeys"].as_object().is_some_and(|keys| !keys.is_empty());
    assert!(unseen == (truth.unseen > 0) || unseen && unsure > 0, "{}", report.summary["unknownKeys"]);
    for (key, (figures, verdict)) in &said {
        let wanted = match (figures.still, unseen) {
            (1.., _) => "needed",
            (0, true) => "not known",
            (0, false) => "not needed in this scope",
        };
        assert_eq!(verdict["verdict"], wanted, "{key}: {figures:?}");
        if wanted == "not needed in this scope" {
            let count = verdict["versionsListed"].as_u64().expect("a verdict says how much was listed");
            assert!((listed.least..=listed.most).contains(&count), "{key}: {verdict}, where {listed:?} are there");
            assert!(verdict["checkedAt"].is_string(), "{key}: {verdict}");
        }
    }
}

/// What the report says of each key, by the encryption as [`bucket::Seen::seal`] has it, and its verdict.
fn said<'a>(report: &'a Report, wanted: &str) -> BTreeMap<String, (Figures, &'a Value)> {
    let keys = report.summary["oldKeys"].as_array().expect("the report has a section `oldKeys`");
    let number = |one: &Value, pointer: &str| one.pointer(pointer).and_then(Value::as_u64).expect("a count");
    let mut said = BTreeMap::new();
    for one in keys {
        let name = one["key"].as_str().expect("a key has a name");
        let seal = if name == "sse-s3" { name.to_owned() } else { format!("sse-kms:{}", bare(name)) };
        assert_ne!(seal, wanted, "the target is no old key");
        let figures = Figures { left: number(one, "/left"), still: number(one, "/still/versions") };
        let reasons = one.pointer("/still/byReason").and_then(Value::as_object).expect("reasons");
        assert_eq!(reasons.values().filter_map(Value::as_u64).sum::<u64>(), figures.still, "reasons of {name}");
        assert_eq!(said.insert(seal, (figures, &one["verdict"])), None, "{name} stands there twice");
    }
    said
}

/// What the snapshots show, touched keys left out.
struct Truth {
    wanted: String,
    of: BTreeMap<String, Figures>,
    /// Versions whose key the job did not look at.
    unseen: u64,
}

impl Truth {
    fn of(before: &Snapshot, after: &Snapshot, report: &Report, expect: &Expect, wanted: String) -> Self {
        let calm = |key: &str| key.starts_with(&expect.prefix) && !expect.touched.contains(key);
        let rows: BTreeMap<(&str, &str), &Row> =
            report.rows.iter().map(|row| ((row["key"].as_str(), plain(&row["version"])), row)).collect();
        let mut truth = Self { wanted, of: BTreeMap::new(), unseen: 0 };
        for ((key, version), was) in before.iter().filter(|((key, _), _)| calm(key)) {
            let Some(old) = key_of(&was.seal) else { continue };
            let stayed = after.get(&(key.clone(), version.clone())).is_some_and(|now| now.seal == was.seal);
            let renewed = was.latest && after.iter().any(|((k, v), now)| k == key && v != version && now.latest);
            // What a killed process wrote and could not put down any more is found `current`.
            let found = rows.get(&(key.as_str(), version.as_str())).is_some_and(|row| row["outcome"] == "current");
            if was.seal != truth.wanted && (!stayed || renewed) && !found {
                truth.of.entry(old).or_default().left += 1;
            }
        }
        for ((key, version), now) in after.iter().filter(|((key, _), _)| calm(key)) {
            if rows.get(&(key.as_str(), version.as_str())).is_some_and(|row| row["after"] == "unknown") {
                truth.unseen += 1;
            } else if let Some(old) = key_of(&now.seal).filter(|_| now.seal != truth.wanted) {
                truth.of.entry(old).or_default().still += 1;
            }
        }
        truth
    }
}

/// The key that a version needs, as [`said`] names it: of two layers it is the same key.
fn key_of(seal: &str) -> Option<String> {
    match seal.split_once(':') {
        None => (seal == "sse-s3").then(|| seal.to_owned()),
        Some((_, key)) => Some(format!("sse-kms:{key}")),
    }
}

/// How many versions, delete markers with them, the last listing of the job can have had.
#[derive(Debug)]
struct Listed {
    least: u64,
    most: u64,
}

impl Listed {
    async fn of(stand: &Stand, before: &Snapshot, expect: &Expect) -> Self {
        let there = bucket::list_with_markers(stand.client(), &stand.bucket).await;
        let there = there.iter().filter(|one| one.key.starts_with(&expect.prefix));
        let (touched, calm): (Vec<_>, Vec<_>) = there.partition(|one| expect.touched.contains(&one.key));
        // A key that was touched had any of its states, before its deletion too.
        let deleted = before.keys().filter(|(key, _)| expect.touched.contains(key)).count();
        Self { least: calm.len() as u64, most: (calm.len() + touched.len().max(deleted)) as u64 }
    }
}
