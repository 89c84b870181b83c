//! What lies in a bucket of the store model: how it gets there, and all that can be seen of it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::*;
use crate::testing::start;

/// Headers, metadata and tags, and no checksum.
pub(super) fn new(sse: Sse) -> NewObject {
    NewObject { checksum: None, ..new_object(sse, b"") }
}

pub(super) async fn put_new(store: &StoreModel, key: &str, new: NewObject, body: &[u8]) -> Result<Written> {
    let at = ObjectAt::current(BUCKET, key);
    let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
    store.put(request, Bytes::copy_from_slice(body).into()).await
}

pub(super) async fn put(store: &StoreModel, key: &str, sse: Sse, body: &str) {
    put_new(store, key, new(sse), body.as_bytes()).await.unwrap();
}

/// Uploads a body in two parts, of which the first has as many bytes as the least part.
pub(super) async fn put_parts(store: &StoreModel, key: &str, new: NewObject, body: &[u8]) -> Result<Written> {
    let at = ObjectAt::current(BUCKET, key);
    let id = store.create_upload(&at, &new, &InPlace::default()).await?;
    let upload = Upload { bucket: BUCKET.into(), key: key.into(), id };
    let (first, last) = body.split_at(PART);
    let mut parts = Vec::new();
    for (number, bytes) in [(1, first), (2, last)] {
        parts.push(store.upload_part(&upload, number, Bytes::copy_from_slice(bytes).into(), None).await?);
    }
    store.complete_upload(&upload, &parts, &Guard::None, &InPlace::default()).await
}

/// All that can be seen of one version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Version {
    pub(super) id: Option<String>,
    pub(super) date: Timestamp,
    pub(super) etag: String,
    pub(super) marker: bool,
    /// `None` where only its owner sees it.
    pub(super) object: Option<Object>,
    pub(super) body: Option<Bytes>,
    /// Its first part's bytes and how many there are.
    pub(super) parts: Option<(u64, Option<u32>)>,
    pub(super) tags: Tags,
    pub(super) grants: BTreeSet<(String, String)>,
    /// The encryption context, where a listing shows it.
    pub(super) context: Option<BTreeMap<String, String>>,
}

/// Every version of every key that begins with `prefix`, newest first.
pub(super) async fn seen(store: &StoreModel, prefix: &str) -> BTreeMap<String, Vec<Version>> {
    let versions = store.settings(BUCKET).unwrap().versioning.has_versions();
    let request = ListRequest {
        bucket: BUCKET.into(),
        prefix: prefix.to_owned(),
        versions,
        from: ListFrom::Start,
        limit: 1_000,
        with_facts: true,
    };
    let mut all: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    for entry in store.list(request).await.unwrap().entries {
        let at = ObjectAt { bucket: BUCKET.into(), key: entry.key.clone(), version: entry.version.clone() };
        let body = match store.get(GetRequest::of(&at)).await {
            Ok((_, body)) => Some(body.collect().await.unwrap()),
            Err(_) => None,
        };
        let first = store.head(HeadRequest { part: Some(1), ..HeadRequest::of(&at) }).await;
        let context = match entry.facts.map(|facts| facts.sse) {
            Some(Sse::Kms { context, .. }) => context,
            _ => None,
        };
        let object = store.head(HeadRequest::of(&at)).await.ok();
        all.entry(entry.key).or_default().push(Version {
            parts: first.ok().map(|first| (first.size, first.parts)),
            id: entry.version,
            date: entry.last_modified,
            etag: entry.etag,
            marker: entry.delete_marker,
            object: object.map(|object| Object { server_date: None, ..object }),
            body,
            tags: store.tags(&at).await.unwrap_or_default(),
            grants: store.acl(&at).await.map(|acl| acl.grants.into_iter().collect()).unwrap_or_default(),
            context,
        });
    }
    all
}

/// What a rotation must leave as it was, of an object that it wrote.
pub(super) fn kept(version: &Version) -> Version {
    let object = version.object.clone().map(|object| Object {
        etag: String::new(),
        last_modified: start(),
        version: None,
        sse: Sse::None,
        ..object
    });
    Version { id: None, date: start(), etag: String::new(), object, ..version.clone() }
}
