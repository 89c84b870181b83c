//! The ways to change one object's key, each sending everything that the object has, none of them deciding anything.

mod copy;
mod multipart;
mod rewrite;
mod update_encryption;

use jiff::{SignedDuration, Timestamp};
use keyrotate_env::Safeguard;
use keyrotate_proto::capability::{Frozen, Versioning};
use keyrotate_proto::outcome::Strategy;
use keyrotate_store::{Guard, InPlace, NewObject, ObjectAt, Sse, Store, StoreError, Written};

use crate::facts::Facts;
use crate::plan::Plan;
use crate::readback::Expected;

pub use multipart::PART;
pub(crate) use multipart::{new_object, open};
pub(crate) use rewrite::Digest;

/// Why a strategy did not get to its end.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A read failed; nothing was written.
    Reading(StoreError),
    /// The call that writes failed; it may have happened.
    Writing(StoreError),
    /// The object is not what it was when it was looked at; nothing was written.
    Changed(String),
}

impl Trouble {
    pub(crate) fn reading(error: StoreError) -> Self {
        Self::Reading(error)
    }
}

/// A write that the store acknowledged.
#[derive(Debug)]
pub(crate) struct Sent {
    /// What the object must show now.
    pub(crate) expected: Expected,
    /// SHA-256 of the body that went through us, where one did.
    pub(crate) digest: Option<Digest>,
}

/// Runs the plan's strategy, guarded by `guard` on the destination. `guard` is the plan's own ETag, except where a
/// probe shows that a wrong one is refused.
pub(crate) async fn run(
    store: &dyn Store,
    frozen: &Frozen,
    plan: &mut Plan,
    guard: Option<&str>,
) -> Result<Sent, Trouble> {
    match plan.strategy {
        Strategy::UpdateEncryption => update_encryption::run(store, plan).await,
        Strategy::Copy => copy::run(store, plan, guard).await,
        _ if plan.strategy.uploads() => multipart::run(store, frozen, plan, guard).await,
        _ => rewrite::run(store, frozen, plan, guard).await,
    }
}

/// What the object must show if a write that was never answered took effect, told from the facts it was based on.
pub(crate) fn expected_unanswered(plan: &Plan) -> Expected {
    let mut expected = expected(plan);
    expected.etag = match plan.strategy {
        Strategy::UpdateEncryption => Some(plan.facts.etag.clone()),
        _ => None,
    };
    if plan.strategy.is_in_place() {
        expected.date = next_date(plan);
        expected.version.clone_from(&plan.facts.at.version);
    }
    expected
}

/// What the plan's facts say that it must show.
fn expected(plan: &Plan) -> Expected {
    let facts = &plan.facts;
    let shown = facts.shown.clone().unwrap_or_default();
    Expected {
        sse: plan.wanted.clone(),
        size: facts.size,
        headers: shown.headers,
        tags: None,
        tag_count: shown.tag_count,
        storage_class: facts.storage_class.clone(),
        checksums: shown.checksums.filter(|_| !plan.loses_checksum),
        etag: None,
        version: None,
        date: None,
        lock: plan.lock.clone(),
    }
}

/// What a write of everything must show: what was sent, under the version and at the date that it has now.
fn written_as(plan: &Plan, new: NewObject, written: Written, place: &InPlace) -> Expected {
    let in_place = plan.strategy.is_in_place();
    Expected {
        headers: new.headers,
        storage_class: new.storage_class,
        tag_count: u32::try_from(new.tags.len()).ok(),
        tags: Some(new.tags),
        etag: written.etag,
        version: if in_place { plan.facts.at.version.clone() } else { written.version },
        date: place.source_mtime,
        ..expected(plan)
    }
}

/// The condition of a write: that the object still has the ETag that it was looked at with. A probe gives another one, which
/// must be refused.
fn condition(etag: &str, probe: Option<&str>) -> Guard {
    match probe {
        None if !Safeguard::Etag.stands() => Guard::None,
        probe => Guard::IfMatch(probe.unwrap_or(etag).to_owned()),
    }
}

/// Where to write, and which date and ETag to keep.
fn place(frozen: &Frozen, plan: &Plan) -> Result<(ObjectAt, InPlace), Trouble> {
    let facts = &plan.facts;
    if !plan.strategy.is_in_place() {
        return Ok((facts.at.at_version(None), InPlace::default()));
    }
    let Some(date) = next_date(plan) else {
        return Err(Trouble::Changed("its date is not known to the millisecond".into()));
    };
    // With a version id, the same id and ETag would be taken for "already there". A suspended bucket's `null` is
    // replaced by a plain PUT.
    let versioned = frozen.versioning == Versioning::Enabled;
    let at = if versioned { facts.at.clone() } else { facts.at.at_version(None) };
    // Under SSE-KMS the store shows only the last 32 characters of one that is brought along: that of an upload in
    // parts, `….-2`, would come out cut. It gets a new one.
    let whole = facts.etag.len() <= 32 || plan.wanted == Sse::S3;
    // An earlier write of ours would pass its condition for ever if the ETag stayed.
    let puts = plan.strategy.puts();
    let keeps_etag = puts && frozen.versioning == Versioning::Off && whole && !plan.is_in_doubt();
    let source_etag = keeps_etag.then(|| facts.etag.clone());
    let version = at.version.clone();
    Ok((at, InPlace { source_mtime: Some(date), source_etag, version }))
}

/// The listed date + 1 ms: the stored one has more digits than any listing shows, and a date that is not strictly
/// later can cost the object. A write that follows one of ours which may still be on its way goes one further: it must
/// be the later one if it comes second; if it comes first, its new ETag refuses the other.
pub(crate) fn next_date(plan: &Plan) -> Option<Timestamp> {
    let step = SignedDuration::from_millis(1 + i64::from(plan.facts.in_doubt) + i64::from(plan.unanswered));
    plan.facts.listed.and_then(|date| date.checked_add(step).ok())
}

/// Whether the plan's strategy asks for the object's tags, to send them along.
pub(crate) fn reads_tags(frozen: &Frozen, plan: &Plan) -> bool {
    let resends = !matches!(plan.strategy, Strategy::UpdateEncryption | Strategy::Copy);
    resends && asks_tags(frozen, plan.facts.shown.as_ref().and_then(|shown| shown.tag_count))
}

/// Whether tags must be asked for, to be sent along.
fn asks_tags(frozen: &Frozen, tag_count: Option<u32>) -> bool {
    match tag_count {
        Some(count) => count > 0,
        None => !frozen.tags_announced,
    }
}

/// Whether an answer still shows the object that was looked at.
fn unchanged(facts: &Facts, object: &keyrotate_store::Object) -> Result<(), Trouble> {
    let changed = |what: &str| Err(Trouble::Changed(format!("its {what} changed after it was looked at")));
    if object.size != facts.size {
        return changed("size");
    }
    if object.etag != facts.etag && !crate::facts::is_marker(&facts.at.key) {
        return changed("ETag");
    }
    if object.last_modified.as_second() != facts.last_modified.as_second() {
        return changed("date");
    }
    if facts.shown.as_ref().is_some_and(|s| s.sse.seal() != object.sse.seal()) {
        return changed("encryption");
    }
    if facts.shown.as_ref().is_some_and(|shown| shown.lock != object.lock) {
        return changed("lock");
    }
    Ok(())
}
