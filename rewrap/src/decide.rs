//! The decision about one object version, as a pure function of the job's rules and what is known of the version.
//!
//! The order is fixed: what the listing decides · HEAD · already right is `current`, whatever the other filters say
//! · `kmskey`, tags, metadata, `plaintextOnly`, locks · the dialects' tables. In jobs
//! with a context, with `reseal` or with SSE-S3 as the target no store shows whether an object is already right, so there
//! nothing is `current`: whether this job wrote it is a question to its rows and intents.

use keyrotate_proto::capability::{FrozenTarget, SourceKind};
use keyrotate_proto::job;
use keyrotate_proto::outcome::{FilterReason, Outcome, SkipReason};
use keyrotate_proto::spec::VersionPolicy;
use keyrotate_store::{Headers, Sse};

use crate::facts::{Facts, Shown};
use crate::rewrapper::Rules;

/// What to do about one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is written.
    Settle(Outcome),
    /// Ask HEAD, then decide again.
    Head,
    /// Ask for the tags, then decide again.
    Tags,
    /// It is to be written.
    Write(SourceKind),
}

/// Decides about one version.
#[must_use]
pub fn decide(rules: &Rules, facts: &Facts) -> Decision {
    if let Some(outcome) = by_listing(rules, facts) {
        return Decision::Settle(outcome);
    }
    let Some(shown) = &facts.shown else { return Decision::Head };
    if is_current(rules, &shown.sse) {
        return Decision::Settle(Outcome::Current);
    }
    if let Some(decision) = by_filters(rules, facts, shown) {
        return decision;
    }
    let kind = match by_tables(rules, shown) {
        Ok(kind) => kind,
        Err(reason) => return Decision::Settle(Outcome::Skipped(reason)),
    };
    Decision::Write(kind)
}

/// Whether an object with that encryption needs no write. Never so where the store can't show it, and with `reseal`.
#[must_use]
pub fn is_current(rules: &Rules, sse: &Sse) -> bool {
    let shows = !rules.spec.options.reseal && rules.frozen.target.context().is_none();
    shows && is_under_target(&rules.frozen.target, sse)
}

/// Whether the store shows the key that the job is to bring everything under.
pub(crate) fn is_under_target(target: &FrozenTarget, sse: &Sse) -> bool {
    match (target, sse) {
        (FrozenTarget::SseKms { .. }, Sse::Kms { key: Some(shown), .. }) => target.has(shown),
        _ => false,
    }
}

/// What the listing alone decides: our own objects, delete markers, versions that the file leaves out, dates.
fn by_listing(rules: &Rules, facts: &Facts) -> Option<Outcome> {
    if rules.ours.has(&facts.at.key) {
        return Some(Outcome::Skipped(SkipReason::Own));
    }
    if facts.delete_marker {
        return Some(Outcome::Skipped(SkipReason::DeleteMarker));
    }
    if !facts.latest && rules.spec.options.versions == VersionPolicy::Current {
        return Some(Outcome::Filtered(FilterReason::Noncurrent));
    }
    by_dates(rules, facts).map(Outcome::Filtered)
}

/// Dates compare in whole seconds, so that it does not matter whether a listing or HEAD showed them.
fn by_dates(rules: &Rules, facts: &Facts) -> Option<FilterReason> {
    let filter = &rules.spec.filter;
    let modified = facts.last_modified.as_second();
    let age = i128::from(rules.started.as_second() - modified);
    let longest = |d: std::time::Duration| i128::from(d.as_secs());
    if filter.newer_than.is_some_and(|d| age >= longest(d)) {
        return Some(FilterReason::NewerThan);
    }
    if filter.older_than.is_some_and(|d| age <= longest(d)) {
        return Some(FilterReason::OlderThan);
    }
    if filter.created_after.is_some_and(|t| modified <= t.as_second()) {
        return Some(FilterReason::CreatedAfter);
    }
    if filter.created_before.is_some_and(|t| modified >= t.as_second()) {
        return Some(FilterReason::CreatedBefore);
    }
    None
}

/// The filters that need facts, in the order `kmskey`, tags, metadata, `plaintextOnly`, locks.
fn by_filters(rules: &Rules, facts: &Facts, shown: &Shown) -> Option<Decision> {
    let filter = &rules.spec.filter;
    let out = |reason| Some(Decision::Settle(Outcome::Filtered(reason)));
    if let Some(wanted) = &filter.kms_key
        && !shown.sse.seal().kms_key().is_some_and(|key| key.same_key(wanted))
    {
        return out(FilterReason::KmsKey);
    }
    if !filter.tags.is_empty() {
        match known_tags(rules, facts, shown) {
            None => return Some(Decision::Tags),
            Some(tags) => {
                if !job::any_tag_matches(&filter.tags, tags.iter().map(|(k, v)| (k.as_str(), v.as_str()))) {
                    return out(FilterReason::Tags);
                }
            }
        }
    }
    // Nobody but the owner of its key sees the metadata of an SSE-C object: the tables name it.
    if !filter.metadata.is_empty() && shown.sse != Sse::Customer && !metadata_matches(rules, &shown.headers) {
        return out(FilterReason::Metadata);
    }
    let plain = shown.sse == Sse::None;
    if filter.plaintext_only && !plain {
        return out(FilterReason::PlaintextOnly);
    }
    if is_locked(rules, shown) {
        let skip = |reason| Some(Decision::Settle(Outcome::Skipped(reason)));
        if plain && rules.spec.dialect.encrypts_plaintext() {
            return skip(SkipReason::LockedPlaintext);
        }
        if !plain && !filter.force_encrypt_locked {
            return skip(SkipReason::Locked);
        }
    }
    None
}

/// The tags, as far as they can be known without asking.
fn known_tags<'a>(rules: &Rules, facts: &'a Facts, shown: &Shown) -> Option<&'a [(String, String)]> {
    match &facts.tags {
        Some(tags) => Some(tags),
        None if has_no_tags(rules, shown) => Some(&[]),
        None => None,
    }
}

/// Whether the answer that was seen proves that there are no tags.
#[must_use]
pub(crate) fn has_no_tags(rules: &Rules, shown: &Shown) -> bool {
    let announced = rules.frozen.tags_announced && shown.sse != Sse::Customer;
    shown.tag_count == Some(0) || (announced && shown.tag_count.is_none())
}

/// Whether a lock holds the version, as far as that was so at the job's start.
#[must_use]
pub(crate) fn is_locked(rules: &Rules, shown: &Shown) -> bool {
    shown.lock.standing(rules.started).is_locked()
}

fn metadata_matches(rules: &Rules, headers: &Headers) -> bool {
    let named = [
        ("content-type", &headers.content_type),
        ("content-encoding", &headers.content_encoding),
        ("content-language", &headers.content_language),
        ("content-disposition", &headers.content_disposition),
        ("cache-control", &headers.cache_control),
        ("expires", &headers.expires),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let user = headers.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    job::any_metadata_matches(&rules.spec.filter.metadata, user, named)
}

/// The tables of the dialects: what happens to which kind of source.
fn by_tables(rules: &Rules, shown: &Shown) -> Result<SourceKind, SkipReason> {
    let target = &rules.frozen.target;
    let to_kms = matches!(target, FrozenTarget::SseKms { .. });
    match &shown.sse {
        // A map of keys says nothing about objects that are under none.
        Sse::None if rules.spec.dialect.encrypts_plaintext() && !target.is_map() => Ok(SourceKind::Plaintext),
        Sse::None => Err(SkipReason::Plaintext),
        Sse::S3 if target.is_map() => Err(SkipReason::UnmappedKey),
        Sse::S3 => Ok(SourceKind::SseS3),
        Sse::Kms { key, .. } if target.is_map() && target.new_key(key.as_ref()).is_none() => {
            Err(SkipReason::UnmappedKey)
        }
        Sse::Kms { .. } if to_kms => Ok(SourceKind::SseKms),
        Sse::Kms { .. } => Err(SkipReason::Downgrade),
        Sse::DualLayer { .. } => Err(SkipReason::DualLayer),
        Sse::Customer => Err(SkipReason::SseC),
    }
}

#[cfg(test)]
mod tests;
