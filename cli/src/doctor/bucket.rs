//! What a rotation would set off in a bucket, from what its configuration says.

use keyrotate_proto::capability::{Frozen, FrozenTarget, Versioning};
use keyrotate_proto::key::KeyName;
use keyrotate_rewrap::probe::default_encryption;
use keyrotate_rewrap::probe::effects::{self, Effect};
use keyrotate_store::{BucketFacts, Reactions, Sse};

use super::{Finding, Health};
use crate::scope::ScopeArg;

const SECTION: &str = "bucket";

/// What was seen of a bucket.
pub(super) struct Seen<'a> {
    pub(super) scope: &'a ScopeArg,
    pub(super) facts: &'a BucketFacts,
    pub(super) reactions: &'a Reactions,
    /// What was proven there, if it was tried.
    pub(super) frozen: Option<&'a Frozen>,
    /// The target as far as it is known without a probe.
    pub(super) key: Option<&'a KeyName>,
}

impl Seen<'_> {
    fn is_minio(&self) -> bool {
        let said = self.reactions.server.as_deref().is_some_and(|name| name.starts_with("MinIO"));
        said || self.frozen.is_some_and(Frozen::shows_minio)
    }

    fn target(&self) -> Option<&KeyName> {
        match self.frozen.map(|frozen| &frozen.target) {
            Some(FrozenTarget::SseKms { key, .. }) => Some(key),
            _ => self.key,
        }
    }
}

/// All of it.
pub(super) fn judged(seen: &Seen<'_>) -> Vec<Finding> {
    let mut findings = vec![versioning(seen)];
    findings.push(lock(seen.facts));
    let effects = effects::judge(seen.facts.default_retention.as_ref(), seen.reactions, seen.frozen);
    findings.extend(effects.into_iter().map(finding));
    if seen.is_minio() {
        let what = format!("a quota is not visible through S3: `mc quota info {}`", at(seen.scope));
        findings.push(Finding::green(SECTION, what));
    }
    findings.push(new_writes(seen));
    findings.extend(seen.frozen.map(kept_apart));
    findings
}

fn at(scope: &ScopeArg) -> String {
    format!("{}/{}", scope.store.as_deref().unwrap_or("ALIAS"), scope.bucket)
}

fn versioning(seen: &Seen<'_>) -> Finding {
    let what = match seen.facts.versioning {
        Versioning::Off => return Finding::green(SECTION, "versioning is off"),
        Versioning::Enabled => "versioning is on",
        Versioning::Suspended => "versioning is suspended",
    };
    let what = format!("{what}: versions that are no longer current stay under their keys, which are still needed");
    let mend = "let them expire, or keep their keys; a strategy other than `update-encryption` and `rewrite-in-place` \
                adds one version for each object, which takes space";
    Finding::new(SECTION, Health::Yellow, what, mend)
}

fn lock(facts: &BucketFacts) -> Finding {
    match facts.lock_enabled {
        true => Finding::new(
            SECTION,
            Health::Yellow,
            "object lock is on: locked objects are skipped and keep their key",
            "keep that key until the locks have run out, and rotate again then",
        ),
        false => Finding::green(SECTION, "object lock is off"),
    }
}

/// As a finding.
fn finding(effect: Effect) -> Finding {
    match effect {
        Effect::None(what) => Finding::green(SECTION, what),
        Effect::Some { what, mend } => Finding::new(SECTION, Health::Yellow, what, mend),
        Effect::Unseen { what, right } => {
            let mend = format!("grant {right}, or look in another way; some stores do not have them");
            Finding::new(SECTION, Health::Yellow, format!("{what} can't be seen"), mend)
        }
    }
}

/// Whether jobs that do not know each other are kept from rotating the same objects at once.
fn kept_apart(frozen: &Frozen) -> Finding {
    let Some(why) = frozen.no_lease_in_bucket() else {
        let what = "two installations of keyrotate are kept apart here, by `.keyrotate/lease.json`";
        return Finding::green(SECTION, what);
    };
    let what =
        format!("two installations of keyrotate are not kept apart here: {why}; the report store says who works");
    let mend = "see to it that no other fleet, and no `run` elsewhere, works on this bucket meanwhile";
    Finding::new(SECTION, Health::Yellow, what, mend)
}

/// Whether what is written tomorrow is under the target. A probe that names no key says it best.
fn new_writes(seen: &Seen<'_>) -> Finding {
    let Some(key) = seen.target() else {
        let what = "whether new objects get the target key is not known: no key is named";
        return Finding::new(SECTION, Health::Yellow, what, "name it as `--key KEY`");
    };
    let gets = match (&seen.facts.default_sse, seen.frozen) {
        (_, Some(frozen)) => frozen.new_objects.is_none(),
        (Some(Sse::Kms { key: Some(default), .. }), None) => default.same_key(key),
        _ => false,
    };
    if gets {
        return Finding::green(SECTION, format!("new objects get the target key `{key}`"));
    }
    let what =
        format!("new objects do not get the target key `{key}` by themselves: they would need the next rotation");
    let target = FrozenTarget::key(key.clone());
    let mend = format!("`{}`", default_encryption(seen.is_minio(), &target, &at(seen.scope)));
    Finding::new(SECTION, Health::Yellow, what, mend)
}

#[cfg(test)]
mod tests {
    use keyrotate_store::LifecycleRule;

    use super::*;

    fn judge(facts: &BucketFacts, reactions: &Reactions) -> Vec<Finding> {
        let scope: ScopeArg = "prod/invoices".parse().unwrap();
        let key = KeyName("new".into());
        judged(&Seen { scope: &scope, facts, reactions, frozen: None, key: Some(&key) })
    }

    fn said<'a>(findings: &'a [Finding], part: &str) -> &'a Finding {
        findings.iter().find(|finding| finding.what.contains(part)).unwrap_or_else(|| panic!("{part}: {findings:#?}"))
    }

    #[test]
    fn what_a_rotation_sets_off_is_yellow() {
        let rule = LifecycleRule { id: "old".into(), expires: Some(30), ..LifecycleRule::default() };
        let reactions = Reactions {
            lifecycle: Some(vec![rule]),
            replication: Some(vec!["copies".into()]),
            events: Some(vec!["hook".into()]),
            server: Some("MinIO".into()),
        };
        let default_retention = Some(("GOVERNANCE".to_owned(), 7));
        let facts = BucketFacts {
            versioning: Versioning::Enabled,
            lock_enabled: true,
            default_retention,
            ..BucketFacts::default()
        };
        let found = judge(&facts, &reactions);
        for part in
            ["versioning is on", "`old`: expire after 30 days", "to copies", "to hook", "object lock is on", "7 days"]
        {
            assert_eq!(said(&found, part).health, Health::Yellow, "{part}");
        }
        assert_eq!(said(&found, "do not get the target key").mend, "`mc encrypt set sse-kms new prod/invoices`");
        assert!(said(&found, "a quota").what.contains("mc quota info prod/invoices"));
    }

    #[test]
    fn it_is_said_where_installations_are_not_kept_apart() {
        let judge = |retains: bool, guarded: bool| {
            let text = format!(
                r#"{{"version": 1, "target": {{"type": "sse-s3"}}, "versioning": "off", "listing_facts": false,
                    "same_bucket": true, "notes": [], "retains": {retains}, "proofs": [{{"strategy": "rewrite",
                    "source": "sse-s3", "multipart": false, "guarded": {guarded}, "keeps": []}}]}}"#
            );
            kept_apart(&serde_json::from_str(&text).unwrap())
        };
        assert_eq!(judge(false, true).health, Health::Green);
        for (retains, guarded) in [(true, true), (false, false)] {
            let finding = judge(retains, guarded);
            assert_eq!(finding.health, Health::Yellow);
            assert!(finding.what.contains("are not kept apart here"), "{}", finding.what);
        }
    }

    #[test]
    fn a_quiet_bucket_is_green_and_what_is_hidden_is_said() {
        let none = Reactions {
            lifecycle: Some(Vec::new()),
            replication: Some(Vec::new()),
            events: Some(Vec::new()),
            server: None,
        };
        let sse = Sse::Kms { key: Some(KeyName("arn:aws:kms:new".into())), context: None, bucket_key: None };
        let facts = BucketFacts { default_sse: Some(sse), ..BucketFacts::default() };
        assert!(judge(&facts, &none).iter().all(|finding| finding.health == Health::Green));
        let hidden = judge(&BucketFacts::default(), &Reactions::default());
        assert_eq!(hidden.iter().filter(|finding| finding.what.contains("can't be seen")).count(), 3);
        assert!(said(&hidden, "do not get").mend.contains("put-bucket-encryption --bucket invoices"));
    }
}
