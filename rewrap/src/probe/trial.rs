//! One strategy on one probe object: does it work, is a wrong ETag refused, what does the object still have.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use keyrotate_proto::capability::{Frozen, Proof, Property, SourceKind, Versioning};
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::spec::{BucketKey, JobSpec};
use keyrotate_store::{
    Entry, ErrorKind, GetRequest, HeadRequest, Object, ObjectAt, PartCopyRequest, Sse, Store, StoreError, Upload,
};

use super::objects::{Form, Made, SECOND_PART, Yard};
use crate::facts::Facts;
use crate::plan::Plan;
use crate::readback::same_tags;
use crate::rewrapper::wanted;
use crate::strategy::{self, Trouble};

/// An ETag that no object has.
const WRONG: &str = "00000000000000000000000000000000";

/// A part that no probe has: one that is not refused as it should be replaces none of those that count.
const OUT_OF_THE_WAY: u32 = 9;

/// Between a version and the one above it.
const APART: Duration = Duration::from_millis(20);

/// In place, a probe gets a date this far ahead: a store that ignores it can't hit it by being fast.
const AHEAD: SignedDuration = SignedDuration::from_secs(61);

/// Why a strategy is not proven.
#[derive(Debug)]
pub(super) enum Unproven {
    /// The store showed that it does not do here.
    Shown(String),
    /// A call of the trial was not answered, or not now: nothing is known.
    Unanswered(StoreError),
}

impl From<StoreError> for Unproven {
    fn from(error: StoreError) -> Self {
        match error.kind {
            // That it answers nonsense is what such a store shows.
            ErrorKind::Nonsense => Self::Shown(error.to_string()),
            // Whoever takes a dead process's probes away may take one of ours along.
            kind if kind.is_transient() || kind == ErrorKind::NotFound => Self::Unanswered(error),
            _ => Self::Shown(error.to_string()),
        }
    }
}

impl From<Trouble> for Unproven {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Reading(error) | Trouble::Writing(error) => error.into(),
            Trouble::Changed(what) => Self::Shown(what),
        }
    }
}

fn shown<T>(what: impl Into<String>) -> Result<T, Unproven> {
    Err(Unproven::Shown(what.into()))
}

/// Tries one strategy on a fresh probe; `Err` says why it is not proven, the second value why it is not for noncurrent
/// versions, where it may have been.
pub(super) async fn trial(
    yard: &Yard<'_>,
    (spec, frozen): (&JobSpec, &Frozen),
    strategy: Strategy,
    form: Form,
    sse: &Sse,
) -> Result<(Proof, Option<String>), Unproven> {
    let kind = crate::facts::kind_of(sse).unwrap_or(SourceKind::Plaintext);
    let mut made = make(yard, form, sse).await?;
    let mut plan = ahead(plan(frozen, strategy, &made));
    let mut guarded = true;
    if strategy != Strategy::UpdateEncryption {
        guarded = refuses(yard, frozen, &mut plan, &made).await?;
        // What was refused left the probe as it was, and its upload open.
        if !guarded {
            made = make(yard, form, sse).await?;
            plan = ahead(self::plan(frozen, strategy, &made));
        }
    }
    strategy::run(yard.store, frozen, &mut plan, None).await?;
    let keeps = after(yard, &plan, &made, form.has_parts()).await?;
    let single = matches!(strategy, Strategy::UpdateEncryption | Strategy::RewriteInPlace) && !form.has_parts();
    let in_parts = strategy.uploads() && strategy.is_in_place() && form.has_parts();
    let below = frozen.versioning == Versioning::Enabled && (single || in_parts && spec.options.allow_unguarded);
    let tried = if below { Some(Box::pin(noncurrent(yard, frozen, strategy, form, sse)).await) } else { None };
    let why = match tried {
        Some(Err(Unproven::Shown(why))) => Some(why),
        Some(Err(unanswered)) => return Err(unanswered),
        Some(Ok(())) | None => None,
    };
    let noncurrent = below && why.is_none();
    let proof = Proof { strategy, source: kind, multipart: form.has_parts(), guarded, keeps, noncurrent };
    Ok((proof, why))
}

/// Tries the strategy on a version that is not the newest: a wrong ETag must be refused, ids, order and the newer version
/// must stay as they were. `Err` says why it is not proven.
async fn noncurrent(
    yard: &Yard<'_>,
    frozen: &Frozen,
    strategy: Strategy,
    form: Form,
    sse: &Sse,
) -> Result<(), Unproven> {
    let order = || shown("afterwards there are other versions than before");
    let mut made = make(yard, form, sse).await?;
    // Far enough apart for what only has room between two versions.
    tokio::time::sleep(APART).await;
    yard.cover(form, sse).await?;
    let before = yard.entries(&made.at.key).await?;
    let [newer, this] = before.as_slice() else { return shown("its probe could not be covered") };
    made.entry = this.clone();
    let mut plan = plan(frozen, strategy, &made);
    if strategy == Strategy::RewriteInPlace && !refuses(yard, frozen, &mut plan, &made).await? {
        return shown("a wrong ETag is not refused");
    }
    strategy::run(yard.store, frozen, &mut plan, None).await?;
    let after = yard.entries(&made.at.key).await?;
    let [still, done] = after.as_slice() else { return order() };
    let object = yard.store.head(HeadRequest::of(&made.at)).await?;
    let (_, stream) = yard.store.get(GetRequest::of(&made.at)).await?;
    let same_body = stream.collect().await? == yard.body(form.has_parts());
    let same = |a: &Entry, b: &Entry| {
        (&a.version, &a.etag, a.size, a.last_modified) == (&b.version, &b.etag, b.size, b.last_modified)
    };
    if !same(newer, still) || done.version != this.version {
        return order();
    }
    match same_body && is_wanted(&plan.wanted, &object.sse) {
        true => Ok(()),
        false => shown(format!("afterwards it shows {}, or another body", object.sse.seal())),
    }
}

async fn make(yard: &Yard<'_>, form: Form, sse: &Sse) -> Result<Made, Unproven> {
    yard.make(form, sse).await.map_err(|error| match error.into() {
        Unproven::Shown(why) => Unproven::Shown(format!("its probe could not be made: {why}")),
        unanswered => unanswered,
    })
}

fn plan(frozen: &Frozen, strategy: Strategy, made: &Made) -> Plan {
    let mut facts = Facts::listed(&made.at.bucket, &made.entry);
    facts.add(&made.object);
    let wanted = wanted(&frozen.target, &facts, BucketKey::Keep);
    let now = made.object.last_modified;
    let plan = Plan::new(facts, strategy, wanted, "a probe".into(), now);
    // Whether it is lost is what the trial shows, of a strategy that can't send it along, too.
    let in_parts = plan.facts.is_multipart();
    let loses_checksum =
        strategy != Strategy::UpdateEncryption && (in_parts != (strategy.uploads() && strategy.moves_bodies()));
    Plan { loses_checksum, ..plan }
}

/// In place with a date that no store hits by being fast.
fn ahead(mut plan: Plan) -> Plan {
    if plan.strategy.is_in_place() {
        plan.facts.listed = plan.facts.listed.and_then(|date| date.checked_add(AHEAD).ok());
    }
    plan
}

/// Whether the plan with a wrong ETag is refused and leaves the object as it was.
async fn refuses(yard: &Yard<'_>, frozen: &Frozen, plan: &mut Plan, made: &Made) -> Result<bool, Unproven> {
    let strategy = plan.strategy;
    let ended = strategy::run(yard.store, frozen, plan, Some(WRONG)).await;
    let refused = match ended {
        Ok(_) => false,
        Err(Trouble::Writing(error)) if error.kind == ErrorKind::Precondition => {
            let at = if made.entry.latest { made.at.at_version(None) } else { made.at.clone() };
            let now = yard.store.head(HeadRequest::of(&at)).await?;
            if !same_object(&made.object, &now) {
                return shown("with a wrong ETag it was refused and changed the object all the same");
            }
            true
        }
        Err(trouble) => return Err(trouble.into()),
    };
    if !strategy.uploads() || !refused {
        return Ok(refused);
    }
    // A part copied from another body than the one that was looked at must be refused too.
    let Some(open) = plan.upload.clone() else { return Ok(false) };
    if strategy.moves_bodies() {
        let request = GetRequest { if_match: Some(WRONG.into()), range: Some((0, 1)), ..GetRequest::of(&made.at) };
        return was_refused(yard.store.get(request).await);
    }
    let upload = Upload { bucket: made.at.bucket.clone(), key: made.at.key.clone(), id: open.id };
    let request = PartCopyRequest {
        upload,
        number: OUT_OF_THE_WAY,
        source: made.at.clone(),
        source_if_match: Some(WRONG.into()),
        range: None,
    };
    was_refused(yard.store.upload_part_copy(request).await)
}

/// Whether a call with a wrong ETag was refused for that.
fn was_refused<T>(ended: Result<T, StoreError>) -> Result<bool, Unproven> {
    match ended.map_err(|error| (error.kind, error.into())) {
        Err((_, unanswered @ Unproven::Unanswered(_))) => Err(unanswered),
        Err((kind, _)) => Ok(kind == ErrorKind::Precondition),
        Ok(_) => Ok(false),
    }
}

fn same_object(a: &Object, b: &Object) -> bool {
    a.etag == b.etag
        && a.size == b.size
        && a.version == b.version
        && a.sse.seal() == b.sse.seal()
        && a.last_modified == b.last_modified
}

/// What the probe still has; `Err` when the strategy did not do what it is for.
async fn after(yard: &Yard<'_>, plan: &Plan, made: &Made, parts: bool) -> Result<BTreeSet<Property>, Unproven> {
    let store = yard.store;
    let current = made.at.at_version(None);
    let object = store.head(HeadRequest::of(&current)).await?;
    let (_, stream) = store.get(GetRequest::of(&current)).await?;
    if stream.collect().await? != yard.body(parts) {
        // What a store does that takes the call for a PutObject.
        let unknown = "the store does not know UpdateObjectEncryption, and overwrote our probe";
        let changed = "GET did not give our probe's bytes back";
        return shown(if plan.strategy == Strategy::UpdateEncryption { unknown } else { changed });
    }
    if !is_wanted(&plan.wanted, &object.sse) {
        return shown(format!("afterwards it shows {}", object.sse.seal()));
    }
    let entries = yard.entries(&made.at.key).await?;
    let (same_version, alone) = (object.version == made.object.version, entries.len() == 1);
    let tags = store.tags(&current).await?;
    let mut keeps = kept(made, &object);
    keeps.extend(same_tags(&tags, &made.tags).then_some(Property::Tags));
    if parts && same_parts(store, made, &current).await? {
        keeps.insert(Property::Parts);
    }
    match plan.strategy {
        Strategy::UpdateEncryption => {
            let untouched = object.etag == made.object.etag && object.size == made.object.size && same_version && alone;
            if !untouched || object.last_modified != made.object.last_modified {
                return shown("it changed more than the key");
            }
        }
        _ if plan.strategy.is_in_place() => {
            let date = entries.first().map(|e| e.last_modified.as_millisecond());
            if date != strategy::next_date(plan).map(|d| d.as_millisecond()) || !same_version || !alone {
                return shown("the store does not keep the date or version that the write names");
            }
        }
        _ => {}
    }
    Ok(keeps)
}

/// Whether the probe in parts still has those that it was uploaded in.
async fn same_parts(store: &dyn Store, made: &Made, now: &ObjectAt) -> Result<bool, StoreError> {
    let count = |etag: &str| etag.rsplit_once('-').map(|(_, count)| count.to_owned());
    let first = store.head(HeadRequest { part: Some(1), ..HeadRequest::of(now) }).await;
    Ok(match first {
        Ok(first) => first.parts == Some(2) && first.size == made.object.size - SECOND_PART as u64,
        // It has no parts any more, or the store shows none.
        Err(error) if matches!(error.kind, ErrorKind::Refused | ErrorKind::NotFound | ErrorKind::NotImplemented) => {
            false
        }
        Err(error) => return Err(error),
    } && count(&made.entry.etag).is_some())
}

fn is_wanted(wanted: &Sse, shown: &Sse) -> bool {
    let (wanted, shown) = (wanted.seal(), shown.seal());
    match (wanted.kms_key(), shown.kms_key()) {
        (Some(wanted), Some(shown)) => wanted.same_key(shown),
        (None, None) => shown == wanted,
        _ => false,
    }
}

/// What HEAD alone shows as kept.
fn kept(made: &Made, object: &Object) -> BTreeSet<Property> {
    let (mut before, mut now) = (made.object.headers.clone(), object.headers.clone());
    let redirect = before.website_redirect.take() == now.website_redirect.take();
    let checksums =
        !made.object.checksums.is_empty() && made.object.checksums.iter().all(|c| object.checksums.contains(c));
    let kept =
        [(before == now, Property::Metadata), (redirect, Property::WebsiteRedirect), (checksums, Property::Checksum)];
    kept.into_iter().filter_map(|(kept, property)| kept.then_some(property)).collect()
}
