//! Which strategy, as a pure function of what was proven and what the object has; with the reason.
//!
//! The order of preference: `update-encryption`, which touches no content; `copy`, where its destination is
//! guarded, since the server takes metadata and tags along; then, where it is not, what writes in place, as far as the
//! body may pass by one PUT, else part by part; then the same as a new version. What loses something that the object has
//! is ruled out, unless the file accepts that by name. What is not guarded comes last, and only with `allowUnguarded`. A
//! noncurrent version is only ever written in its place: any other write would make it the current one.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use keyrotate_proto::capability::{Frozen, FrozenTarget, Proof, Property, SourceKind, Versioning};
use keyrotate_proto::outcome::{SkipReason, Strategy};
use keyrotate_proto::spec::Loss;
use keyrotate_store::Checksum;

use crate::facts::{Facts, Shown, is_marker, kind_of};
use crate::rewrapper::Rules;

/// In place a version becomes a millisecond younger, and its stored date has more digits than any listing shows.
const CLOSE: SignedDuration = SignedDuration::from_millis(2);

/// CopyObject, PutObject and a part's copy end here.
pub(crate) const LARGEST: u64 = 5 << 30;

const ORDER: [Strategy; 8] = [
    Strategy::UpdateEncryption,
    Strategy::Copy,
    Strategy::RewriteInPlace,
    Strategy::CopyMultipartInPlace,
    Strategy::RewriteMultipartInPlace,
    Strategy::Rewrite,
    Strategy::CopyMultipart,
    Strategy::RewriteMultipart,
];

/// Storage classes of S3 itself. Any other names a tier of MinIO's: the object lies on another store and a write
/// would pull it back.
const CLASSES: [&str; 9] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
    "OUTPOSTS",
    "SNOW",
];

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This strategy.
    Use {
        /// Which.
        strategy: Strategy,
        /// Whether a wrong guard was proven to be refused.
        guarded: bool,
        /// Whether the proof is borrowed from another kind of source.
        borrowed: bool,
        /// Why, and why not a better one.
        why: String,
    },
    /// It depends on what only HEAD shows.
    Head,
    /// It depends on the object's ACL.
    Acl,
    /// It depends on which versions lie below it.
    Below,
    /// None.
    Skip {
        /// Why.
        reason: SkipReason,
        /// What rules out each.
        why: String,
    },
}

/// Why a strategy is ruled out.
enum Out {
    /// For this reason.
    Because(SkipReason, String),
    /// Only HEAD can tell.
    Head,
    /// Only its ACL can tell.
    Acl,
    /// Only the versions below it can tell.
    Below,
}

/// Chooses a strategy for a version that is to be written. What the file lets an object lose is lost only where nothing
/// keeps it.
#[must_use]
pub fn choose(rules: &Rules, facts: &Facts, kind: SourceKind) -> Choice {
    let accepted = &rules.spec.options.accept_loss;
    match losing(rules, facts, kind, &BTreeSet::new()) {
        Choice::Skip { .. } if !accepted.is_empty() => losing(rules, facts, kind, accepted),
        choice => choice,
    }
}

/// The same where an object may lose no more than that.
fn losing(rules: &Rules, facts: &Facts, kind: SourceKind, accepted: &BTreeSet<Loss>) -> Choice {
    let Some(shown) = &facts.shown else { return Choice::Head };
    let mut against: Vec<(Strategy, SkipReason, String)> = Vec::new();
    let mut unguarded = None;
    for strategy in ORDER {
        match fits(rules, facts, (shown, kind), strategy, accepted) {
            Ok((proof, borrowed)) if proof.guarded && guards(facts, strategy) => {
                return used(strategy, true, borrowed, &against);
            }
            Ok((_, borrowed)) => {
                unguarded.get_or_insert((strategy, borrowed));
                against.push((strategy, SkipReason::Unguarded, "nothing guards it here".into()));
            }
            Err(Out::Head) => return Choice::Head,
            Err(Out::Acl) => return Choice::Acl,
            Err(Out::Below) => return Choice::Below,
            Err(Out::Because(reason, why)) => against.push((strategy, reason, why)),
        }
    }
    match unguarded {
        Some((strategy, borrowed)) if rules.spec.options.allow_unguarded => {
            against.retain(|(s, ..)| *s != strategy);
            used(strategy, false, borrowed, &against)
        }
        _ => Choice::Skip { reason: reason_of(rules, facts, shown, &against), why: list(&against) },
    }
}

fn used(strategy: Strategy, guarded: bool, borrowed: bool, against: &[(Strategy, SkipReason, String)]) -> Choice {
    let proven = match (guarded, borrowed) {
        (true, false) => "proven and guarded here",
        (true, true) => "guarded here, proven on another kind of source",
        (false, _) => "the first that works; nothing guards it and allowUnguarded is set",
    };
    let before: Vec<_> = against.iter().take_while(|(s, ..)| guarded_before(*s, strategy, guarded)).cloned().collect();
    let why = if before.is_empty() { proven.to_owned() } else { format!("{proven}; {}", list(&before)) };
    Choice::Use { strategy, guarded, borrowed, why }
}

/// Whether the guard is compared with the very version that is written: at the end of an upload it is the current one.
fn guards(facts: &Facts, strategy: Strategy) -> bool {
    facts.latest || !strategy.uploads()
}

/// Whether `other` would have been preferred to `strategy`.
fn guarded_before(other: Strategy, strategy: Strategy, guarded: bool) -> bool {
    let place = |s| ORDER.iter().position(|o| *o == s);
    !guarded || place(other) < place(strategy)
}

fn list(against: &[(Strategy, SkipReason, String)]) -> String {
    let lines: Vec<_> = against.iter().map(|(s, _, why)| format!("{s}: {why}")).collect();
    lines.join("; ")
}

/// The one reason of several that its reader can do most about.
fn reason_of(rules: &Rules, facts: &Facts, shown: &Shown, against: &[(Strategy, SkipReason, String)]) -> SkipReason {
    if is_archived(facts) {
        return SkipReason::Archived;
    }
    if !facts.latest {
        let close = against.iter().any(|(_, reason, _)| *reason == SkipReason::VersionsTooClose);
        return if close { SkipReason::VersionsTooClose } else { SkipReason::Noncurrent };
    }
    if crate::decide::is_locked(rules, shown) {
        return SkipReason::LockUnsupported;
    }
    let order = [SkipReason::BodyTransit, SkipReason::Unguarded, SkipReason::KeepsNot, SkipReason::TooLarge];
    let named = order.into_iter().find(|r| against.iter().any(|(_, reason, _)| reason == r));
    named.unwrap_or(SkipReason::NoStrategy)
}

/// Whether a strategy is proven for such a version and loses nothing that it has.
fn fits<'a>(
    rules: &'a Rules,
    facts: &Facts,
    (shown, kind): (&Shown, SourceKind),
    strategy: Strategy,
    accepted: &BTreeSet<Loss>,
) -> Result<(&'a Proof, bool), Out> {
    let no = |reason, why: &str| Err(Out::Because(reason, why.to_owned()));
    if let Some(why) = never(rules, facts, (shown, kind), strategy) {
        return no(SkipReason::NoStrategy, why);
    }
    let Some((proof, borrowed)) = proof(&rules.frozen, strategy, kind, facts.is_multipart()) else {
        return no(SkipReason::NoStrategy, "not proven on this store");
    };
    if !facts.latest {
        in_its_place(rules, facts, proof)?;
    }
    if strategy == Strategy::UpdateEncryption {
        return Ok((proof, borrowed));
    }
    if facts.size > LARGEST && !strategy.uploads() {
        return no(SkipReason::TooLarge, "the object is over 5 GiB");
    }
    if rules.frozen.retains && shown.lock.standing(rules.started).retention.is_none() {
        return no(SkipReason::KeepsNot, "it would get the bucket's default retention");
    }
    if takes_the_place_of_null(rules, facts, strategy)? {
        return no(SkipReason::KeepsNot, "it would take the place of the version `null` below it");
    }
    if let Some(what) = loses(rules, facts, shown, proof, accepted)?.or(acl(rules, facts)?) {
        return Err(Out::Because(SkipReason::KeepsNot, format!("it would lose the {what}")));
    }
    if strategy.moves_bodies() && !rules.spec.options.body_transit.allows(facts.size) {
        return no(SkipReason::BodyTransit, "its body is over bodyTransit");
    }
    Ok((proof, borrowed))
}

/// Whether a noncurrent version may be written in its place.
fn in_its_place(rules: &Rules, facts: &Facts, proof: &Proof) -> Result<(), Out> {
    let no = |reason, why: &str| Err(Out::Because(reason, why.to_owned()));
    // In a suspended bucket a probe can have no noncurrent version: there the probe, which has the id `null`, stands for it.
    let suspended = rules.frozen.versioning == Versioning::Suspended && proof.strategy == Strategy::UpdateEncryption;
    if !proof.noncurrent && !suspended {
        return no(SkipReason::Noncurrent, "not proven for a noncurrent version");
    }
    match (proof.strategy, facts.listed, facts.newer) {
        (strategy, Some(date), Some(newer)) if strategy.is_in_place() && newer.duration_since(date) <= CLOSE => {
            no(SkipReason::VersionsTooClose, "the version above it is not 2 ms younger")
        }
        (strategy, _, None) if strategy.is_in_place() => {
            no(SkipReason::Noncurrent, "the date of the version above it is not known")
        }
        _ => Ok(()),
    }
}

/// Whether a version of somebody's would be gone: while versioning is suspended each new one is `null`, of which there is
/// only one.
fn takes_the_place_of_null(rules: &Rules, facts: &Facts, strategy: Strategy) -> Result<bool, Out> {
    let adds_null = rules.frozen.versioning == Versioning::Suspended
        && !strategy.keeps_version()
        && facts.at.version.as_deref().is_some_and(|version| version != "null");
    if adds_null { facts.covers_null.ok_or(Out::Below) } else { Ok(false) }
}

const MAY_BE_ON_ITS_WAY: &str = "an earlier write of it may be on its way, and would pass its condition";

/// What rules a strategy out whatever was proven.
fn never(
    rules: &Rules,
    facts: &Facts,
    (shown, kind): (&Shown, SourceKind),
    strategy: Strategy,
) -> Option<&'static str> {
    let class = facts.storage_class.as_deref();
    let locked = crate::decide::is_locked(rules, shown);
    match strategy {
        Strategy::UpdateEncryption if locked => Some("it does not take a locked object"),
        Strategy::UpdateEncryption => match &rules.frozen.target {
            FrozenTarget::SseS3 => Some("its target is always SSE-KMS"),
            FrozenTarget::SseKms { context: Some(_), .. } => Some("it can't set a context"),
            target if crate::decide::is_under_target(target, &shown.sse) => {
                Some("it is not proven to seal anew what is under the same key")
            }
            FrozenTarget::SseKms { .. } if kind == SourceKind::Plaintext => Some("it does not take plaintext"),
            FrozenTarget::SseKms { .. } if facts.own_context().is_some() => Some("it would drop the object's context"),
            FrozenTarget::SseKms { .. } => (!rules.frozen.same_bucket).then_some("not proven in this very bucket"),
        },
        _ if is_archived(facts) => Some("its body can't be reached in an archive"),
        _ if class.is_some_and(|c| !CLASSES.contains(&c)) => Some("the object lies in a remote tier"),
        _ if strategy.uploads() && is_marker(&facts.at.key) => Some("keys that end in `/` take no multipart upload"),
        _ if strategy.is_in_place() => never_in_place(rules, facts, strategy, locked),
        _ if !facts.latest => Some("it would make the version the current one"),
        _ if hides_a_write(rules, facts, strategy) => Some(MAY_BE_ON_ITS_WAY),
        _ => None,
    }
}

/// What rules MinIO's in-place form out whatever was proven.
fn never_in_place(rules: &Rules, facts: &Facts, strategy: Strategy, locked: bool) -> Option<&'static str> {
    let versioning = rules.frozen.versioning;
    let version = facts.at.version.as_deref();
    let uploaded = strategy.uploads() || facts.is_multipart();
    match facts.storage_class.as_deref() {
        _ if !rules.spec.options.in_place => Some("inPlace is off"),
        _ if locked => Some("a lock forbids that a version is replaced"),
        _ if !facts.latest && uploaded && !(strategy.uploads() && rules.spec.options.allow_unguarded) => {
            Some("at its end the guard of an upload in parts is compared with the current version")
        }
        _ if hides_a_write(rules, facts, strategy) => Some(MAY_BE_ON_ITS_WAY),
        _ if facts.listed.is_none() => Some("its date is not known to the millisecond"),
        Some(class) if class != "STANDARD" && class != "REDUCED_REDUNDANCY" => Some("not proven for its storage class"),
        // There the write of a version would be one of `null`.
        _ if versioning == Versioning::Suspended && version.is_some_and(|v| v != "null") => {
            Some("not proven for a version with an id of its own while versioning is suspended")
        }
        // Versions that precede versioning, and directory markers, have the id `null`, which is not that of a probe.
        _ if versioning == Versioning::Enabled && version.is_none_or(|v| v == "null") => {
            Some("not proven for a version without an id of its own")
        }
        _ => None,
    }
}

/// Whether it would have to be restored before anybody could read its body.
fn is_archived(facts: &Facts) -> bool {
    matches!(facts.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
}

/// Whether the ETag that the strategy leaves is the one that was there: under SSE-S3 it is that of the body. A write in
/// place that was based on it and comes later would then pass its condition, with an older date, which can cost the
/// object.
fn hides_a_write(rules: &Rules, facts: &Facts, strategy: Strategy) -> bool {
    let in_place = |proof: &Proof| proof.strategy.is_in_place();
    let by_body = strategy.puts() || facts.is_multipart();
    let replaces = strategy.keeps_version() || rules.frozen.versioning != Versioning::Enabled;
    let may_be_there = rules.spec.options.in_place && rules.frozen.proofs.iter().any(in_place);
    facts.in_doubt && by_body && rules.frozen.target == FrozenTarget::SseS3 && may_be_there && replaces
}

/// The proof for a kind of source. A kind of which no probe could be made borrows that of the nearest one that was:
/// the second value says so.
fn proof(frozen: &Frozen, strategy: Strategy, kind: SourceKind, multipart: bool) -> Option<(&Proof, bool)> {
    if frozen.probed.contains(&kind) {
        return frozen.proof(strategy, kind, multipart).map(|p| (p, false));
    }
    let nearest = match kind {
        SourceKind::Plaintext => [SourceKind::SseS3, SourceKind::SseKms],
        SourceKind::SseS3 => [SourceKind::SseKms, SourceKind::Plaintext],
        SourceKind::SseKms => [SourceKind::SseS3, SourceKind::Plaintext],
    };
    let lender = nearest.into_iter().find(|k| frozen.probed.contains(k))?;
    frozen.proof(strategy, lender, multipart).map(|p| (p, true))
}

/// What the object has and the strategy loses.
fn loses(
    rules: &Rules,
    facts: &Facts,
    shown: &Shown,
    proof: &Proof,
    accepted: &BTreeSet<Loss>,
) -> Result<Option<&'static str>, Out> {
    let keeps = |property| proof.keeps.contains(&property);
    if !keeps(Property::Metadata) {
        return Ok(Some("metadata or headers"));
    }
    if !keeps(Property::WebsiteRedirect) && shown.headers.website_redirect.is_some() {
        return Ok(Some("website redirect"));
    }
    if !keeps(Property::Tags) && !crate::decide::has_no_tags(rules, shown) {
        return Ok(Some("tags"));
    }
    if facts.is_multipart() && !keeps(Property::Parts) && !accepted.contains(&Loss::Parts) {
        return Ok(Some("part layout"));
    }
    if accepted.contains(&Loss::Checksum) {
        return Ok(None);
    }
    match &shown.checksums {
        Some(checksums) => Ok(drops(checksums, proof).then_some("checksum")),
        None if keeps(Property::Checksum) => Ok(None),
        None => Err(Out::Head),
    }
}

/// Whether checksums are there and would not be afterwards.
fn drops(checksums: &[Checksum], proof: &Proof) -> bool {
    // What a PUT can send along is one checksum of the whole body.
    let unsendable = checksums.len() > 1 && proof.strategy.moves_bodies()
        || proof.strategy.puts() && checksums.iter().any(|checksum| !checksum.full_object);
    !checksums.is_empty() && (!proof.keeps.contains(&Property::Checksum) || unsendable)
}

/// Whether the file lets an object lose its checksum, and the strategy keeps none.
pub(crate) fn loses_checksum(rules: &Rules, facts: &Facts, strategy: Strategy) -> bool {
    let accepted = rules.spec.options.accept_loss.contains(&Loss::Checksum) && strategy != Strategy::UpdateEncryption;
    let Some(shown) = facts.shown.as_ref().filter(|_| accepted) else { return false };
    let proof = kind_of(&shown.sse).and_then(|kind| proof(&rules.frozen, strategy, kind, facts.is_multipart()));
    // Where nobody looked, what is there afterwards is as good.
    let checksums = shown.checksums.as_deref().unwrap_or_default();
    proof.is_some_and(|(proof, _)| drops(checksums, proof) || !proof.keeps.contains(&Property::Checksum))
}

/// Its ACL, where it has one that a new version would lose.
fn acl(rules: &Rules, facts: &Facts) -> Result<Option<&'static str>, Out> {
    match (&rules.frozen.acl_owner, facts.plain_acl) {
        (None, _) | (Some(_), Some(true)) => Ok(None),
        (Some(_), Some(false)) => Ok(Some("ACL")),
        (Some(_), None) => Err(Out::Acl),
    }
}

#[cfg(test)]
mod tests;
