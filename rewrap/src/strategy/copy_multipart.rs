//! The multipart form of a self-copy: metadata and tags at create, parts by UploadPartCopy with a guarded source,
//! `If-Match` at complete. On MinIO the only copy that loses no write of others.
//!
//! It is never in place, not even where the store could do that: at complete MinIO compares the ETag with the current
//! version, not with the one that is replaced, and the ETag changes all the same. A versioned bucket gets a new version.

use std::time::Duration;

use keyrotate_proto::capability::Frozen;
use keyrotate_store::{ErrorKind, Guard, HeadRequest, InPlace, NewObject, Part, PartCopyRequest, Store, Upload};
use tokio::time::Instant;

use super::{Sent, Trouble, asks_tags, expected, unchanged};
use crate::facts::Shown;
use crate::plan::{OpenUpload, Plan};

/// Bytes per part: small enough for one request's time-out, large enough for 10,000 parts of anything.
pub const PART: u64 = 256 << 20;

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
    Ok(NewObject {
        sse: plan.wanted.clone(),
        headers: shown.headers,
        tags,
        storage_class: plan.facts.storage_class.clone(),
        lock: plan.lock.clone(),
        checksum: None,
    })
}

/// Creates the upload, and notes it in the plan.
pub(crate) async fn open(store: &dyn Store, frozen: &Frozen, plan: &mut Plan) -> Result<(), Trouble> {
    let new = new_object(store, frozen, plan).await?;
    let at = plan.facts.at.at_version(None);
    let id = store.create_upload(&at, &new, &InPlace::default()).await.map_err(Trouble::Writing)?;
    plan.upload = Some(OpenUpload { id, new, recorded: false, fresh: true });
    Ok(())
}

pub(super) async fn run(
    store: &dyn Store,
    frozen: &Frozen,
    plan: &mut Plan,
    guard: Option<&str>,
) -> Result<Sent, Trouble> {
    let (open, mut parts) = opened(store, frozen, plan).await?;
    let upload = upload(plan, open.id);
    copy_missing(store, plan, &upload, &mut parts).await?;
    if plan.looked.elapsed() > A_WHILE {
        still_the_same(store, frozen, plan, &open.new).await?;
    }
    let guard = Guard::IfMatch(guard.unwrap_or(plan.facts.guard()).to_owned());
    let written =
        store.complete_upload(&upload, &parts, &guard, &InPlace::default()).await.map_err(Trouble::Writing)?;
    let mut expected = expected(plan);
    expected.headers = open.new.headers;
    expected.storage_class = open.new.storage_class;
    expected.tag_count = u32::try_from(open.new.tags.len()).ok();
    expected.tags = Some(open.new.tags);
    expected.etag = written.etag;
    expected.version = written.version;
    Ok(Sent { expected, digest: None })
}

/// The plan's upload and what was copied into it before; a new one where it has none, or where its own is gone.
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

/// Copies the parts that are not there yet; gives all of them in order.
async fn copy_missing(store: &dyn Store, plan: &Plan, upload: &Upload, parts: &mut Vec<Part>) -> Result<(), Trouble> {
    let pieces = pieces(plan.facts.size);
    parts.retain(|part| usize::try_from(part.number).is_ok_and(|n| n >= 1 && n <= pieces.len()));
    for (index, range) in pieces.iter().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let size = range.map_or(plan.facts.size, |(from, to)| to - from);
        if parts.iter().any(|p| p.number == number && p.size == size) {
            continue;
        }
        parts.retain(|p| p.number != number);
        let request = PartCopyRequest {
            upload: upload.clone(),
            number,
            source: plan.facts.at.clone(),
            source_if_match: Some(plan.facts.guard().to_owned()),
            range: *range,
        };
        parts.push(store.upload_part_copy(request).await.map_err(Trouble::Writing)?);
        if plan.upload.as_ref().is_some_and(|upload| upload.recorded) {
            plan.part_added.notify_one();
        }
    }
    parts.sort_by_key(|p| p.number);
    Ok(())
}

/// Where copying took a while, the source is looked at once more: the guard sees a body, and neither metadata nor tags
/// that were changed alone.
async fn still_the_same(store: &dyn Store, frozen: &Frozen, plan: &Plan, new: &NewObject) -> Result<(), Trouble> {
    let now = store.head(HeadRequest::of(&plan.facts.at)).await.map_err(Trouble::reading)?;
    unchanged(&plan.facts, &now)?;
    let count = now.tag_count.or(frozen.tags_announced.then_some(0));
    let same_tags = count.is_none_or(|count| count as usize == new.tags.len());
    if now.headers != new.headers || now.storage_class != new.storage_class || !same_tags {
        return Err(Trouble::Changed("its metadata or tags changed while it was copied".into()));
    }
    Ok(())
}

fn upload(plan: &Plan, id: String) -> Upload {
    Upload { bucket: plan.facts.at.bucket.clone(), key: plan.facts.at.key.clone(), id }
}

/// The ranges to copy; one without bounds where the whole fits into one part.
fn pieces(size: u64) -> Vec<Option<(u64, u64)>> {
    if size <= PART {
        return vec![None];
    }
    let starts = (0..size.div_ceil(PART)).map(|n| n * PART);
    starts.map(|from| Some((from, (from + PART).min(size)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_body_without_gap_or_overlap() {
        assert_eq!(pieces(0), [None]);
        assert_eq!(pieces(PART), [None]);
        for size in [PART + 1, 2 * PART, 5 << 30] {
            let pieces: Vec<_> = pieces(size).into_iter().map(Option::unwrap).collect();
            assert_eq!(pieces[0].0, 0);
            assert_eq!(pieces.last().unwrap().1, size);
            assert!(pieces.windows(2).all(|w| w[0].1 == w[1].0 && w[0].1 - w[0].0 == PART));
        }
    }
}
