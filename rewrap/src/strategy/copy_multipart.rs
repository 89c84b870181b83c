//! The multipart form of a self-copy: metadata and tags at create, parts by UploadPartCopy with a guarded source,
//! `If-Match` at complete. On MinIO the only copy that loses no write of others.

use keyrotate_proto::capability::Frozen;
use keyrotate_store::{ErrorKind, Guard, HeadRequest, InPlace, Lock, NewObject, Part, PartCopyRequest, Store, Upload};

use super::{Sent, Trouble, asks_tags, expected, unchanged};
use crate::plan::Plan;

/// Bytes per part: small enough for one request's time-out, large enough for 10,000 parts of anything.
const PART: u64 = 256 << 20;

/// Reads metadata and tags of the unchanged source, and gives what the upload is to be created with.
pub(crate) async fn new_object(store: &dyn Store, frozen: &Frozen, plan: &Plan) -> Result<NewObject, Trouble> {
    let facts = &plan.facts;
    let source = store.head(HeadRequest::of(&facts.at)).await.map_err(Trouble::reading)?;
    unchanged(facts, &source)?;
    let tags = match asks_tags(frozen, source.tag_count) {
        true => store.tags(&facts.at).await.map_err(Trouble::reading)?,
        false => Vec::new(),
    };
    Ok(NewObject {
        sse: plan.wanted.clone(),
        headers: source.headers,
        tags,
        storage_class: source.storage_class,
        lock: Lock::default(),
        checksum: None,
    })
}

/// Creates the upload; gives its id.
pub(crate) async fn open(store: &dyn Store, plan: &Plan, new: &NewObject) -> Result<String, Trouble> {
    let at = plan.facts.at.at_version(None);
    store.create_upload(&at, new, &InPlace::default()).await.map_err(Trouble::Writing)
}

pub(super) async fn run(
    store: &dyn Store,
    frozen: &Frozen,
    plan: &mut Plan,
    guard: Option<&str>,
) -> Result<Sent, Trouble> {
    let new = new_object(store, frozen, plan).await?;
    let (id, mut parts) = match plan.upload.clone() {
        Some(id) => match parts_of(store, plan, &id).await? {
            Some(parts) => (id, parts),
            None => (open(store, plan, &new).await?, Vec::new()),
        },
        None => (open(store, plan, &new).await?, Vec::new()),
    };
    plan.upload = Some(id.clone());
    let upload = upload(plan, id);
    let pieces = pieces(plan.facts.size);
    parts.retain(|part| usize::try_from(part.number).is_ok_and(|n| n >= 1 && n <= pieces.len()));
    for (index, range) in pieces.iter().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if parts.iter().any(|p| p.number == number && range.is_some_and(|(from, to)| p.size == to - from)) {
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
    }
    parts.sort_by_key(|p| p.number);
    let guard = Guard::IfMatch(guard.unwrap_or(plan.facts.guard()).to_owned());
    let written =
        store.complete_upload(&upload, &parts, &guard, &InPlace::default()).await.map_err(Trouble::Writing)?;
    let mut expected = expected(plan);
    expected.headers = new.headers;
    expected.storage_class = new.storage_class;
    expected.tag_count = u32::try_from(new.tags.len()).ok();
    expected.tags = Some(new.tags);
    expected.etag = written.etag;
    expected.version = written.version;
    Ok(Sent { expected, digest: None })
}

/// What an earlier try already copied; `None` when that upload is gone.
async fn parts_of(store: &dyn Store, plan: &Plan, id: &str) -> Result<Option<Vec<Part>>, Trouble> {
    match store.parts(&upload(plan, id.to_owned())).await {
        Ok(parts) => Ok(Some(parts)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Trouble::Reading(error)),
    }
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
