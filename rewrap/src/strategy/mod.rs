//! The ways to change one object's key, each sending everything that the object has, none of them deciding anything.

mod copy;
mod multipart;
mod rewrite;
mod update_encryption;

use keyrotate_proto::capability::Frozen;
use keyrotate_proto::outcome::Strategy;
use keyrotate_store::{Store, StoreError};

use crate::facts::Facts;
use crate::plan::Plan;
use crate::readback::Expected;

pub use multipart::PART;
pub(crate) use multipart::{new_object, open};
pub(crate) use rewrite::{Digest, next_date};

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
