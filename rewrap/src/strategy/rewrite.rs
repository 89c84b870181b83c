//! GET + PutObject with `If-Match`, everything resent. Metadata comes from the very GET that the write is based on,
//! tags are read last, and the object's own checksum is sent along so that the store verifies and keeps it. In place
//! (MinIO) version, date (+ 1 ms) and in unversioned buckets the ETag stay, but that of an upload in parts.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::Stream;
use keyrotate_proto::capability::Frozen;
use keyrotate_store::{
    Body, ErrorKind, GetRequest, HeadRequest, NewObject, Object, PutRequest, Sse, Store, StoreError,
};
use sha2::{Digest as _, Sha256};

use super::{Sent, Trouble, asks_tags, condition, place, unchanged, written_as};
use crate::facts::is_marker;
use crate::plan::Plan;

/// SHA-256 of a body.
pub(crate) type Digest = [u8; 32];

/// Bodies up to here are held in memory, so that a failed PUT can be sent again.
const BUFFERED: u64 = 256 << 10;

pub(super) async fn run(store: &dyn Store, frozen: &Frozen, plan: &Plan, guard: Option<&str>) -> Result<Sent, Trouble> {
    let (object, body, etag) = read(store, plan).await?;
    let (body, digest) = passing(body, plan.hashes).await?;
    // Tags are read last: nothing but the write itself comes after.
    let tags = match asks_tags(frozen, object.tag_count) {
        true => store.tags(&plan.facts.at).await.map_err(Trouble::reading)?,
        false => Vec::new(),
    };
    let new = resent(plan, &object, tags)?;
    let (at, place) = place(frozen, plan)?;
    let guard = condition(&etag, guard);
    let request = PutRequest { at, new: new.clone(), guard, place: place.clone() };
    let written = store.put(request, body).await.map_err(Trouble::Writing)?;

    let checksums = new.checksum.iter().cloned().collect();
    let mut expected = written_as(plan, new, written, &place);
    expected.checksums = Some(checksums);
    Ok(Sent { expected, digest: digest.get() })
}

/// GET of the unchanged object, and the ETag that guards it.
async fn read(store: &dyn Store, plan: &Plan) -> Result<(Object, Body, String), Trouble> {
    let at = &plan.facts.at;
    if !is_marker(&at.key) {
        let request = GetRequest { if_match: Some(plan.facts.etag.clone()), ..GetRequest::of(at) };
        let (object, body) = store.get(request).await.map_err(Trouble::reading)?;
        unchanged(&plan.facts, &object)?;
        let etag = object.etag.clone();
        return Ok((object, body, etag));
    }
    // Of a key that ends in `/` MinIO honours only the ETag that HEAD shows, and GET shows another: so the object is
    // held between two HEADs.
    let before = store.head(HeadRequest::of(at)).await.map_err(Trouble::reading)?;
    let (object, body) = store.get(GetRequest::of(at)).await.map_err(Trouble::reading)?;
    unchanged(&plan.facts, &object)?;
    let body = Body::Bytes(body.collect().await.map_err(Trouble::reading)?);
    let after = store.head(HeadRequest::of(at)).await.map_err(Trouble::reading)?;
    let shown = |head: &Object| Object { server_date: None, ..head.clone() };
    // Another object may have been there for a moment only. A GET shows the ETag of the listing, or that of HEAD: where one
    // of these is of its form, one of these it must be.
    let of_its_form = |etag: &&str| etag.len() == object.etag.len();
    let mut known = [plan.facts.etag.as_str(), &before.etag].into_iter().filter(of_its_form).peekable();
    let is_another = known.peek().is_some() && known.all(|etag| etag != object.etag);
    if shown(&before) != shown(&after) || is_another {
        return Err(Trouble::Changed("it changed while it was read".into()));
    }
    Ok((object, body, after.etag))
}

/// Everything that the object had.
fn resent(plan: &Plan, object: &Object, tags: Vec<(String, String)>) -> Result<NewObject, Trouble> {
    let sends = !plan.loses_checksum;
    if sends && (object.checksums.len() > 1 || object.checksums.iter().any(|c| !c.full_object)) {
        return Err(Trouble::Changed("its checksum is one that a PUT can't send along".into()));
    }
    Ok(NewObject {
        sse: keeping(&plan.wanted, &object.sse),
        headers: object.headers.clone(),
        tags,
        storage_class: object.storage_class.clone(),
        lock: plan.lock.clone(),
        checksum: object.checksums.first().filter(|_| sends).cloned(),
    })
}

/// The wanted encryption with the bucket-key flag of the object as it was read, where none was known before.
fn keeping(wanted: &Sse, source: &Sse) -> Sse {
    let mut wanted = wanted.clone();
    if let (Sse::Kms { bucket_key, .. }, Sse::Kms { bucket_key: Some(flag), .. }) = (&mut wanted, source) {
        bucket_key.get_or_insert(*flag);
    }
    wanted
}

/// Where the digest of a body that is still to pass will stand.
#[derive(Clone, Default)]
pub(super) struct Later(Arc<Mutex<Option<Digest>>>);

impl Later {
    fn set(&self, digest: Digest) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
    }

    fn get(&self) -> Option<Digest> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body in memory where it is small, else as a stream that counts; and its hash, where that is wanted.
pub(super) async fn passing(body: Body, hashes: bool) -> Result<(Body, Later), Trouble> {
    let later = Later::default();
    let length = body.len();
    if length <= BUFFERED {
        let bytes = body.collect().await.map_err(Trouble::reading)?;
        if hashes {
            later.set(Sha256::digest(&bytes).into());
        }
        return Ok((Body::Bytes(bytes), later));
    }
    let hash = hashes.then(Sha256::new);
    let stream = Counted { inner: body.into_stream(), left: length, hash, later: later.clone() };
    Ok((Body::Stream { length, stream: Box::pin(stream) }, later))
}

/// A stream that breaks unless it gives exactly as many bytes as were promised: a short body must never complete a
/// write.
struct Counted {
    inner: Pin<Box<dyn Stream<Item = keyrotate_store::Result<Bytes>> + Send + Sync>>,
    left: u64,
    hash: Option<Sha256>,
    later: Later,
}

impl Stream for Counted {
    type Item = keyrotate_store::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let broken = |message: &str| Poll::Ready(Some(Err(StoreError::new("GetObject", ErrorKind::Cut, message))));
        match self.inner.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
                    return broken("the body is longer than the answer promised");
                };
                self.left = left;
                if let Some(hash) = &mut self.hash {
                    hash.update(&chunk);
                }
                // Whoever sends it may never poll again after the last byte.
                if left == 0
                    && let Some(hash) = self.hash.take()
                {
                    self.later.set(hash.finalize().into());
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(None) if self.left > 0 => {
                self.left = 0;
                broken("the body is shorter than the answer promised")
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn body(promised: u64, chunks: &[usize]) -> Body {
        let chunks: Vec<_> = chunks.iter().map(|n| Ok(Bytes::from(vec![7; *n]))).collect();
        Body::Stream { length: promised, stream: Box::pin(stream::iter(chunks)) }
    }

    #[tokio::test]
    async fn a_body_of_another_length_never_ends_well() {
        for (promised, chunks) in
            [(10, vec![4, 5]), (10, vec![11]), (BUFFERED + 9, vec![1 << 18]), (BUFFERED + 9, vec![1 << 19])]
        {
            for hashes in [true, false] {
                let ended = match passing(body(promised, &chunks), hashes).await {
                    Ok((body, _)) => body.collect().await.is_ok(),
                    Err(_) => false,
                };
                assert!(!ended, "{promised} promised, {chunks:?} came");
            }
        }
    }

    #[tokio::test]
    async fn the_digest_is_that_of_the_bytes_buffered_or_streamed() {
        for size in [0, 10, (BUFFERED + 10) as usize] {
            let (unread, none) = passing(body(size as u64, &[size]), false).await.unwrap();
            assert_eq!((unread.collect().await.unwrap().len(), none.get()), (size, None));
            let (body, later) = passing(body(size as u64, &[size]), true).await.unwrap();
            assert_eq!(body.again().is_some(), size as u64 <= BUFFERED);
            let bytes = body.collect().await.unwrap();
            assert_eq!(later.get(), Some(Sha256::digest(&bytes).into()));
        }
    }
}
