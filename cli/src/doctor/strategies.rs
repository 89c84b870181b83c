//! Which strategy follows for each kind of object, from what was proven.

use jiff::Timestamp;
use keyrotate_proto::capability::{Frozen, SourceKind, Versioning};
use keyrotate_proto::key::KeyName;
use keyrotate_proto::spec::JobSpec;
use keyrotate_rewrap::choose::{Choice, choose};
use keyrotate_rewrap::{Facts, Rules, Shown};
use keyrotate_store::{ObjectAt, Sse};

use super::{Finding, Health};

pub(super) const SECTION: &str = "strategies";

const KINDS: [(SourceKind, &str); 3] = [
    (SourceKind::Plaintext, "without encryption"),
    (SourceKind::SseS3, "SSE-S3"),
    (SourceKind::SseKms, "another KMS key"),
];

/// What each is called, its bytes, and whether it was uploaded in parts.
const FORMS: [(&str, u64, bool); 4] = [
    ("up to 1 MiB", 1 << 10, false),
    ("over 1 MiB", 16 << 20, false),
    ("uploaded in parts", 16 << 20, true),
    ("over 5 GiB", 6 << 30, true),
];

/// Nothing was tried.
pub(super) fn unknown() -> Finding {
    let what = "which strategies work here is not known: no probe objects were written (`--no-probes`)";
    Finding::new(
        SECTION,
        Health::Yellow,
        what,
        "leave `--no-probes` out: probes are objects of our own, and are removed",
    )
}

/// A line for each form of object, kinds that fare alike in one.
pub(super) fn judged(frozen: &Frozen, spec: &JobSpec, now: Timestamp) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        keyrotate_coordinator::findings(frozen).into_iter().take(2).map(|line| Finding::green(SECTION, line)).collect();
    let rules = Rules { spec: spec.clone(), started: now, frozen: frozen.clone(), ours: Default::default() };
    for (form, size, parts) in FORMS {
        let mut alike: Vec<(Vec<&str>, Choice)> = Vec::new();
        for (kind, name) in KINDS {
            let choice = choose(&rules, &object(frozen, spec, kind, size, parts, now), kind);
            match alike.iter_mut().find(|(_, other)| line(form, "", other) == line(form, "", &choice)) {
                Some((names, _)) => names.push(name),
                None => alike.push((vec![name], choice)),
            }
        }
        findings.extend(alike.iter().map(|(names, choice)| line(form, &names.join(", "), choice)));
    }
    findings.extend(frozen.notes.iter().map(|note| Finding::green(SECTION, format!("note: {note}"))));
    findings
}

fn line(form: &str, names: &str, choice: &Choice) -> Finding {
    match choice {
        // Why the others are not taken fills a screen; a job's rows have it for each object.
        Choice::Use { strategy, guarded: true, .. } => Finding::green(SECTION, format!("{form} ({names}): {strategy}")),
        Choice::Use { strategy, .. } => {
            let what = format!("{form} ({names}): {strategy}, not guarded");
            Finding::new(SECTION, Health::Yellow, what, "see to it that nobody else writes meanwhile")
        }
        Choice::Skip { reason, .. } => {
            let what = format!("{form} ({names}): skipped({reason}): {}", reason.explain());
            Finding::new(SECTION, Health::Yellow, what, format!("`keyrotate explain {reason}`"))
        }
        Choice::Head | Choice::Acl | Choice::Below => {
            Finding::green(SECTION, format!("{form} ({names}): decided for each object"))
        }
    }
}

/// An object without anything that could be lost.
fn object(frozen: &Frozen, spec: &JobSpec, kind: SourceKind, size: u64, parts: bool, now: Timestamp) -> Facts {
    let sse = match kind {
        SourceKind::Plaintext => Sse::None,
        SourceKind::SseS3 => Sse::S3,
        SourceKind::SseKms => Sse::Kms { key: Some(KeyName("another".into())), context: None, bucket_key: None },
    };
    let version = (frozen.versioning == Versioning::Enabled).then(|| "version".to_owned());
    let shown = Shown { sse, tag_count: Some(0), checksums: Some(Vec::new()), ..Shown::default() };
    Facts {
        at: ObjectAt { bucket: spec.bucket.clone(), key: "object".into(), version },
        latest: true,
        delete_marker: false,
        size,
        etag: if parts { "etag-2".into() } else { "etag".into() },
        last_modified: now,
        listed: Some(now),
        newer: None,
        storage_class: None,
        shown: Some(shown),
        listed_context: None,
        tags: Some(Default::default()),
        plain_acl: Some(true),
        covers_null: Some(false),
        in_doubt: false,
    }
}
