//! What a rotation would set off in a bucket, from what its configuration says.

use keyrotate_proto::capability::{Frozen, FrozenTarget, Versioning};
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::Strategy;
use keyrotate_rewrap::probe::default_encryption;
use keyrotate_store::{BucketFacts, LifecycleRule, Reactions, Sse};

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

    /// Whether every rotated object keeps its date and version.
    fn keeps_dates(&self) -> bool {
        self.frozen.is_some_and(|frozen| frozen.proofs.iter().any(|p| p.strategy == Strategy::UpdateEncryption))
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
    findings.extend(lock(seen.facts));
    findings.push(lifecycle(seen));
    findings.push(replication(seen.reactions));
    findings.push(events(seen.reactions));
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

fn lock(facts: &BucketFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match facts.lock_enabled {
        true => Finding::new(
            SECTION,
            Health::Yellow,
            "object lock is on: locked objects are skipped and keep their key",
            "keep that key until the locks have run out, and rotate again then",
        ),
        false => Finding::green(SECTION, "object lock is off"),
    });
    findings.extend(facts.default_retention.as_ref().map(|(mode, days)| {
        let what = format!("each new version is kept for {days} days ({mode}): only `update-encryption` is used here");
        let mend = "take the default retention off while the rotation runs; name another bucket as `--probe-bucket`, since \
                    probe objects would be kept, too";
        Finding::new(SECTION, Health::Yellow, what, mend)
    }));
    findings
}

fn lifecycle(seen: &Seen<'_>) -> Finding {
    let Some(rules) = &seen.reactions.lifecycle else {
        return unseen("lifecycle rules", "s3:GetLifecycleConfiguration");
    };
    let by_age: Vec<String> = rules.iter().filter_map(by_age).collect();
    if by_age.is_empty() {
        return Finding::green(SECTION, "no lifecycle rule goes by the age of objects");
    }
    let what = format!("lifecycle rules go by age: {}", by_age.join("; "));
    if seen.keeps_dates() {
        return Finding::green(SECTION, format!("{what}; dates are kept where `update-encryption` is used"));
    }
    let mend = "nothing, if what is rotated may live that much longer: `copy` and `rewrite` give objects a new date, \
                `rewrite-in-place` keeps it";
    Finding::new(SECTION, Health::Yellow, what, mend)
}

fn by_age(rule: &LifecycleRule) -> Option<String> {
    let days = [
        rule.expires.map(|days| format!("expire after {days} days")),
        rule.moves.map(|days| format!("move to another class after {days} days")),
        rule.noncurrent_expires.map(|days| format!("older versions expire after {days} days")),
    ];
    let days: Vec<String> = days.into_iter().flatten().collect();
    let name = if rule.id.is_empty() { String::new() } else { format!("`{}`: ", rule.id) };
    let prefix = if rule.prefix.is_empty() { String::new() } else { format!(" (`{}`)", rule.prefix) };
    (!days.is_empty()).then(|| format!("{name}{}{prefix}", days.join(", ")))
}

fn replication(reactions: &Reactions) -> Finding {
    match reactions.replication.as_deref() {
        None => unseen("replication", "s3:GetReplicationConfiguration"),
        Some([]) => Finding::green(SECTION, "it is not replicated"),
        Some(to) => {
            let what = format!("it is replicated to {}: each rotated object is replicated again", to.join(", "));
            let mend =
                "plan for that traffic (`--rate` slows the rotation down); replicas elsewhere have keys of their own";
            Finding::new(SECTION, Health::Yellow, what, mend)
        }
    }
}

fn events(reactions: &Reactions) -> Finding {
    match reactions.events.as_deref() {
        None => unseen("event notifications", "s3:GetBucketNotification"),
        Some([]) => Finding::green(SECTION, "nobody is told of events"),
        Some(to) => {
            let what = format!("events go to {}: each rotated object may send one", to.join(", "));
            Finding::new(SECTION, Health::Yellow, what, "tell whoever listens, or slow the rotation down with `--rate`")
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

fn unseen(what: &str, right: &str) -> Finding {
    let mend = format!("grant {right}, or look in another way; some stores do not have them");
    Finding::new(SECTION, Health::Yellow, format!("{what} can't be seen"), mend)
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
