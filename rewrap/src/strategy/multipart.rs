//! The multipart forms of a self-copy: headers, tags and lock at create, the object's own part layout, `If-Match` at
//! complete. Parts come by UploadPartCopy with a guarded source (on MinIO the only copy that loses no write of others), or,
//! where a store copies nothing, through us: ranged GET with `If-Match`, then UploadPart.
//!
//! In place (MinIO) the version and its date (+ 1 ms) stay. At complete MinIO compares the ETag with the current version,
//! whichever is replaced: so nothing guards a noncurrent one, which is written with `allowUnguarded` only, and looked at
//! right before.

use std::time::Duration;

use keyrotate_proto::capability::Frozen;
use keyrotate_store::{
    ErrorKind, GetRequest, Guard, HeadRequest, NewObject, Part, PartCopyRequest, Sse, Store, Upload,
};
use tokio::time::Instant;

use super::{Sent, Trouble, asks_tags, condition, place, unchanged, written_as};
use crate::choose::LARGEST;
use crate::facts::Shown;
use crate::plan::{OpenUpload, Plan};
use crate::readback::same_tags;

/// Bytes per part where the object was not uploaded in parts: small enough for one request's time-out, large enough for
/// 10,000 parts of anything.
pub const PART: u64 = 256 << 20;

/// No upload has more.
const MOST_PARTS: u64 = 10_000;

/// After so long, what was read may be another thing by now.
const A_WHILE: Duration = Duration::from_secs(1);

/// What the upload is to be created with: everything that the source had when HEAD last showed it, and its tags.
pub(crate) async fn new_object(store: &dyn Store, frozen: &Frozen, plan: &mut Plan) -> Result<NewObject, Trouble> {
    let headed = plan.facts.shown.as_ref().is_some_and(Shown::by_head);
    if !headed || plan.looked.elapsed() > A_WHILE {
        let source = store.head(HeadRequest::of(&plan.facts.at)).await.map_err(Trouble::reading)?;
        unchanged(&plan.facts, &source)?;
        plan.facts.add(&source);
        plan.looked = Instant::now();
    }
    let shown = plan.facts.shown.clone().unwrap_or_default();
    let tags = match asks_tags(frozen, shown.tag_count) {
        true => store.tags(&plan.facts.at).await.map_err(Trouble::reading)?,
        false => Vec::new(),
    };
    // Parts that are copied bring none along, and a PUT's checksum is another than that of an upload in parts.
    let sends = plan.strategy.moves_bodies() && plan.facts.is_multipart() && !plan.loses_checksum;
    let checksum = shown.checksums.and_then(|checksums| checksums.into_iter().next()).filter(|_| sends);
    Ok(NewObject {
        sse: plan.wanted.clone(),
        headers: shown.headers,
        tags,
        storage_class: plan.facts.storage_class.clone(),
        lock: plan.lock.clone(),
        checksum,
    })
}

/// Creates the upload, and notes it in the plan.
pub(crate) async fn open(store: &dyn Store, frozen: &Frozen, plan: &mut Plan) -> Result<(), Trouble> {
    let new = new_object(store, frozen, plan).await?;
    let (at, place) = place(frozen, plan)?;
    let id = store.create_upload(&at, &new, &place).await.map_err(Trouble::Writing)?;
    plan.upload = Some(OpenUpload { id, new, recorded: false, fresh: true });
    Ok(())
}

pub(super) async fn run(
    store: &dyn Store,
    frozen: &Frozen,
    plan: &mut Plan,
    guard: Option<&str>,
) -> Result<Sent, Trouble> {
    let layout = layout(store, plan).await?;
    let (open, mut parts) = opened(store, frozen, plan).await?;
    let upload = upload(plan, open.id);
    let checksum = open.new.checksum.as_ref().map(|checksum| checksum.algorithm.as_str());
    fill(store, plan, &upload, &layout, checksum, &mut parts).await?;
    // Where the ETag is that of the body, the same body put again passes the condition; in place it then has the later date,
    // which can cost the object.
    let by_body = plan.facts.shown.as_ref().is_some_and(|shown| !matches!(shown.sse, Sse::Kms { .. }));
    let latest = plan.facts.latest;
    if plan.looked.elapsed() > A_WHILE || (plan.strategy.is_in_place() && by_body) || !latest {
        still_the_same(store, frozen, plan, &open.new).await?;
    }
    let guard = match latest {
        true => condition(plan.facts.guard(), guard),
        false => Guard::None,
    };
    let (_, place) = place(frozen, plan)?;
    let written = store.complete_upload(&upload, &parts, &guard, &place).await.map_err(Trouble::Writing)?;
    let expected = written_as(plan, open.new, written, &place);
    Ok(Sent { expected, digest: None })
}

/// The bytes `from..to` of each part: as the object was uploaded, where that was in parts.
async fn layout(store: &dyn Store, plan: &Plan) -> Result<Vec<(u64, u64)>, Trouble> {
    let facts = &plan.facts;
    let Some(count) = facts.parts() else { return Ok(pieces(facts.size)) };
    let mut layout: Vec<(u64, u64)> = Vec::new();
    for part in 1..=count {
        let from = layout.last().map_or(0, |(_, to)| *to);
        // The last one is what is left; of a single one nothing need be asked.
        if part == count {
            layout.push((from, facts.size));
            break;
        }
        let request = HeadRequest { part: Some(part), ..HeadRequest::of(&facts.at) };
        let shown = store.head(request).await.map_err(Trouble::reading)?;
        let changed = || Trouble::Changed("its parts are not those of the object that was looked at".into());
        let to = from.checked_add(shown.size).filter(|to| *to <= facts.size).ok_or_else(changed)?;
        if shown.etag != facts.etag {
            return Err(changed());
        }
        if shown.parts.is_none() {
            // A store that does not show parts answers about the whole.
            return Ok(pieces(facts.size));
        }
        if shown.parts != Some(count) {
            return Err(changed());
        }
        layout.push((from, to));
    }
    Ok(layout)
}

/// The plan's upload and the parts that were put into it before; a new one where it has none, or where its own is gone.
async fn opened(store: &dyn Store, frozen: &Frozen, plan: &mut Plan) -> Result<(OpenUpload, Vec<Part>), Trouble> {
    if let Some(open) = plan.upload.clone().filter(|open| !open.fresh) {
        match store.parts(&upload(plan, open.id.clone())).await {
            Ok(parts) => return Ok((open, parts)),
            Err(error) if error.kind == ErrorKind::NotFound => plan.upload = None,
            Err(error) => return Err(Trouble::Reading(error)),
        }
    }
    if plan.upload.is_none() {
        self::open(store, frozen, plan).await?;
    }
    let gone = || Trouble::Changed("its upload is gone".into());
    let open = plan.upload.as_mut().ok_or_else(gone)?;
    open.fresh = false;
    Ok((open.clone(), Vec::new()))
}

/// Adds the parts that are not there yet; gives all of them in order.
async fn fill(
    store: &dyn Store,
    plan: &Plan,
    upload: &Upload,
    layout: &[(u64, u64)],
    checksum: Option<&str>,
    parts: &mut Vec<Part>,
) -> Result<(), Trouble> {
    parts.retain(|part| usize::try_from(part.number).is_ok_and(|n| n >= 1 && n <= layout.len()));
    for (index, &(from, to)) in layout.iter().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if parts.iter().any(|part| part.number == number && part.size == to - from) {
            continue;
        }
        parts.retain(|part| part.number != number);
        let range = (layout.len() > 1).then_some((from, to));
        let part = match plan.strategy.moves_bodies() {
            true => through_us(store, plan, upload, (number, range), checksum).await?,
            false => copied(store, plan, upload, number, range).await?,
        };
        parts.push(part);
        if plan.upload.as_ref().is_some_and(|upload| upload.recorded) {
            plan.part_added.notify_one();
        }
    }
    parts.sort_by_key(|part| part.number);
    Ok(())
}

async fn copied(
    store: &dyn Store,
    plan: &Plan,
    upload: &Upload,
    number: u32,
    range: Option<(u64, u64)>,
) -> Result<Part, Trouble> {
    let request = PartCopyRequest {
        upload: upload.clone(),
        number,
        source: plan.facts.at.clone(),
        source_if_match: Some(plan.facts.guard().to_owned()),
        range,
    };
    store.upload_part_copy(request).await.map_err(Trouble::Writing)
}

async fn through_us(
    store: &dyn Store,
    plan: &Plan,
    upload: &Upload,
    (number, range): (u32, Option<(u64, u64)>),
    checksum: Option<&str>,
) -> Result<Part, Trouble> {
    let request = GetRequest { if_match: Some(plan.facts.guard().to_owned()), range, ..GetRequest::of(&plan.facts.at) };
    let (object, body) = store.get(request).await.map_err(Trouble::reading)?;
    if range.is_none() {
        unchanged(&plan.facts, &object)?;
    }
    let (body, _) = super::rewrite::passing(body, false).await?;
    let wanted = range.map_or(plan.facts.size, |(from, to)| to - from);
    if body.len() != wanted {
        return Err(Trouble::Changed("a part of its body has another length than was asked for".into()));
    }
    store.upload_part(upload, number, body, checksum).await.map_err(Trouble::Writing)
}

/// Where copying took a while, the source is looked at once more: the guard sees a body, and neither metadata nor tags
/// that were changed alone, nor a new version of the same body above it.
async fn still_the_same(store: &dyn Store, frozen: &Frozen, plan: &Plan, new: &NewObject) -> Result<(), Trouble> {
    let changed = |what: &str| Trouble::Changed(format!("its {what} changed while it was copied"));
    let at = if plan.facts.latest { plan.facts.at.at_version(None) } else { plan.facts.at.clone() };
    let now = store.head(HeadRequest::of(&at)).await.map_err(|error| match error.kind {
        ErrorKind::NotFound if plan.facts.latest => changed("current version"),
        _ => Trouble::reading(error),
    })?;
    if now.version.is_some() && now.version != plan.facts.at.version {
        return Err(changed("current version"));
    }
    unchanged(&plan.facts, &now)?;
    if now.headers != new.headers || now.storage_class != new.storage_class {
        return Err(changed("metadata"));
    }
    let count = now.tag_count.or(frozen.tags_announced.then_some(0));
    let same_tags = match count {
        Some(0) => new.tags.is_empty(),
        _ => same_tags(&store.tags(&plan.facts.at).await.map_err(Trouble::reading)?, &new.tags),
    };
    if !same_tags {
        return Err(changed("tags"));
    }
    // What is created gets the plain one.
    match &frozen.acl_owner {
        Some(owner) if !store.acl(&plan.facts.at).await.map_err(Trouble::reading)?.is_plain_of(owner) => {
            Err(changed("ACL"))
        }
        _ => Ok(()),
    }
}

fn upload(plan: &Plan, id: String) -> Upload {
    Upload { bucket: plan.facts.at.bucket.clone(), key: plan.facts.at.key.clone(), id }
}

/// The parts of an object that has none: one where that is allowed, and not more than the store takes.
fn pieces(size: u64) -> Vec<(u64, u64)> {
    if size <= PART {
        return vec![(0, size)];
    }
    let least = size.div_ceil(MOST_PARTS).clamp(PART, LARGEST);
    (0..size.div_ceil(least)).map(|n| (n * least, ((n + 1) * least).min(size))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_body_without_gap_or_overlap() {
        assert_eq!(pieces(0), [(0, 0)]);
        assert_eq!(pieces(PART), [(0, PART)]);
        for size in [PART + 1, 2 * PART, 5 << 30, 48 << 40] {
            let pieces = pieces(size);
            assert_eq!((pieces[0].0, pieces[pieces.len() - 1].1), (0, size));
            assert!(pieces.windows(2).all(|w| w[0].1 == w[1].0));
            assert!(pieces.len() as u64 <= MOST_PARTS && pieces.iter().all(|(from, to)| to - from <= LARGEST));
        }
    }
}
