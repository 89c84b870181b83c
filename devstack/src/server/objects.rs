//! Single objects: read, write, copy, delete, tags, locks.

use http::{HeaderMap, StatusCode};
use keyrotate_store::{
    CopyRequest, Directive, ErrorKind, GetRequest, HeadRequest, Lock, Object, ObjectAt, PutRequest, Result, Store,
    StoreError,
};
use serde::Deserialize;

use super::call::Call;
use super::reply::{Answer, Reply, empty, object_headers, outgoing, quoted, set, set_checksum, written, xml};
use super::text::{Xml, from_xml, xml_date};
use crate::model::{Deleted, StoreModel};

/// The group that everybody is in.
const EVERYBODY: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// HeadObject.
pub(super) async fn head(store: &dyn Store, call: &Call) -> Answer {
    let part = call.number("partNumber")?;
    let object = store.head(HeadRequest { at: call.at(), part }).await?;
    if call.etag("if-match").is_some_and(|wanted| wanted != "*" && wanted != object.etag) {
        let message = "At least one of the pre-conditions you specified did not hold";
        return Err(StoreError::answered("HeadObject", ErrorKind::Precondition, 412, "PreconditionFailed", message));
    }
    if let Some(unchanged) = not_modified(call, &object) {
        return Ok(unchanged);
    }
    let mut reply = empty(if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
    *reply.headers_mut() = object_headers(&object, wants_checksums(call));
    Ok(reply)
}

/// GetObject.
pub(super) async fn get(store: &dyn Store, call: &Call) -> Answer {
    if call.query("partNumber").is_some() {
        return Err(call.refuse(501, "NotImplemented", "GetObject of one part is not implemented here"));
    }
    let at = call.at();
    let range = asked_range(store, call, &at).await?;
    let request = GetRequest { at, if_match: call.etag("if-match"), range };
    let (object, body) = store.get(request).await?;
    if let Some(unchanged) = not_modified(call, &object) {
        return Ok(unchanged);
    }
    let mut headers = object_headers(&object, wants_checksums(call) && range.is_none());
    set(&mut headers, "content-length", body.len().to_string());
    override_headers(call, &mut headers);
    let mut reply = Reply::new(outgoing(body));
    if let Some((from, to)) = range {
        let last = to.min(object.size).saturating_sub(1);
        set(&mut headers, "content-range", format!("bytes {from}-{last}/{}", object.size));
        *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    *reply.headers_mut() = headers;
    Ok(reply)
}

fn wants_checksums(call: &Call) -> bool {
    call.header("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("enabled"))
}

/// What `If-None-Match` makes of a read.
fn not_modified(call: &Call, object: &Object) -> Option<Reply> {
    call.etag("if-none-match").filter(|unwanted| unwanted == "*" || *unwanted == object.etag)?;
    let mut reply = empty(StatusCode::NOT_MODIFIED);
    set(reply.headers_mut(), "etag", quoted(&object.etag));
    Some(reply)
}

/// The bytes that are asked for; the store cuts what lies behind the end. Only for the last bytes its size is needed.
async fn asked_range(store: &dyn Store, call: &Call, at: &ObjectAt) -> Result<Option<(u64, u64)>> {
    Ok(match call.header("range").and_then(Range::read) {
        None => None,
        Some(Range::Between(from, last)) => Some((from, last.saturating_add(1))),
        Some(Range::From(from)) => Some((from, u64::MAX)),
        Some(Range::Last(bytes)) => {
            let size = store.head(HeadRequest::of(at)).await?.size;
            Some((size.saturating_sub(bytes), size))
        }
    })
}

/// `response-content-type` and its like.
fn override_headers(call: &Call, headers: &mut HeaderMap) {
    const NAMES: [&str; 6] =
        ["content-type", "content-language", "expires", "cache-control", "content-disposition", "content-encoding"];
    for name in NAMES {
        if let Some(value) = call.query(&format!("response-{name}")) {
            set(headers, name, value);
        }
    }
}

/// One range of bytes, as a request asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Range {
    Between(u64, u64),
    From(u64),
    Last(u64),
}

impl Range {
    /// A range that makes no sense, or several, is none: the whole body is answered.
    fn read(header: &str) -> Option<Self> {
        let (from, to) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
        match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) if from <= to => Some(Self::Between(from, to)),
            (Ok(from), Err(_)) if to.is_empty() => Some(Self::From(from)),
            (Err(_), Ok(last)) if from.is_empty() => Some(Self::Last(last)),
            _ => None,
        }
    }
}

/// PutObject; also what a store makes of `PUT ?encryption` when it does not know UpdateObjectEncryption.
pub(super) async fn put(store: &dyn Store, call: &mut Call) -> Answer {
    let (guard, place) = (call.guard()?, call.place()?);
    let mut new = call.new_object()?;
    let (body, sum) = call.take_body().await?;
    new.checksum = sum;
    let (sse, checksum) = (new.sse.clone(), new.checksum.clone());
    let done = store.put(PutRequest { at: call.at(), new, guard, place }, body).await?;
    let mut reply = written(empty(StatusCode::OK), &done, &sse);
    set_checksum(reply.headers_mut(), checksum.as_ref());
    Ok(reply)
}

/// CopyObject.
pub(super) async fn copy(store: &dyn Store, call: &Call) -> Answer {
    let source = call.copy_source()?;
    let at = call.at();
    if source.bucket != at.bucket {
        return Err(call.refuse(501, "NotImplemented", "copies between buckets are not implemented here"));
    }
    let replaces = |name| call.header(name).is_some_and(|value| value.eq_ignore_ascii_case("REPLACE"));
    let (metadata, tags) = (replaces("x-amz-metadata-directive"), replaces("x-amz-tagging-directive"));
    let request = CopyRequest {
        source_if_match: call.etag("x-amz-copy-source-if-match"),
        to: at.key.clone(),
        guard: call.guard()?,
        sse: call.sse()?,
        directive: directive(store, call, metadata, tags).await?,
        storage_class: call.storage_class(),
        lock: call.lock()?,
        website_redirect: call.header("x-amz-website-redirect-location").map(str::to_owned),
        source,
    };
    let done = store.copy(request).await?;
    let there = store.head(HeadRequest::of(&at.at_version(done.version.clone()))).await.ok();
    let mut reply = xml(Xml::document("CopyObjectResult", |xml| {
        if let Some(etag) = &done.etag {
            xml.text("ETag", quoted(etag));
        }
        if let Some(there) = &there {
            xml.text("LastModified", xml_date(there.last_modified));
        }
    }));
    if let Some(version) = &done.version {
        set(reply.headers_mut(), "x-amz-version-id", version);
    }
    Ok(reply)
}

/// The store's seam knows both directives at once; where only one is `REPLACE`, the other half is read from the source.
async fn directive(store: &dyn Store, call: &Call, metadata: bool, tags: bool) -> Result<Directive> {
    if !metadata && !tags {
        return Ok(Directive::Copy);
    }
    let source = call.copy_source()?;
    let headers = if metadata { call.object_headers() } else { store.head(HeadRequest::of(&source)).await?.headers };
    let tags = if tags { call.tags()? } else { store.tags(&source).await? };
    Ok(Directive::Replace(Box::new((headers, tags))))
}

#[derive(Deserialize)]
struct ObjectEncryption {
    #[serde(rename = "SSE-KMS")]
    kms: KmsEncryption,
}

#[derive(Deserialize)]
struct KmsEncryption {
    #[serde(rename = "KMSKeyArn")]
    key: String,
    #[serde(rename = "BucketKeyEnabled")]
    bucket_key: Option<bool>,
}

/// UpdateObjectEncryption, on a store that knows it.
pub(super) async fn update_encryption(store: &dyn Store, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let ObjectEncryption { kms } = from_xml(call.operation(), &body)?;
    store.update_encryption(&call.at(), &kms.key, kms.bucket_key).await?;
    Ok(empty(StatusCode::OK))
}

/// GetObjectTagging.
pub(super) async fn tags(store: &dyn Store, call: &Call) -> Answer {
    let at = call.at();
    let tags = store.tags(&at).await?;
    let mut reply = xml(Xml::document("Tagging", |xml| {
        xml.nest("TagSet", |xml| {
            for (key, value) in &tags {
                xml.nest("Tag", |xml| {
                    xml.text("Key", key);
                    xml.text("Value", value);
                });
            }
        });
    }));
    if let Some(version) = &at.version {
        set(reply.headers_mut(), "x-amz-version-id", version);
    }
    Ok(reply)
}

/// GetObjectAcl.
pub(super) async fn acl(store: &dyn Store, call: &Call) -> Answer {
    let acl = store.acl(&call.at()).await?;
    Ok(xml(Xml::document("AccessControlPolicy", |xml| {
        xml.nest("Owner", |xml| xml.text("ID", &acl.owner));
        xml.nest("AccessControlList", |xml| {
            for (who, what) in &acl.grants {
                xml.nest("Grant", |xml| {
                    match who.starts_with("http") {
                        true => xml.grantee("Group", "URI", who),
                        false => xml.grantee("CanonicalUser", "ID", who),
                    }
                    xml.text("Permission", what);
                });
            }
        });
    })))
}

/// PutObjectAcl, which here can only let everybody read.
pub(super) fn set_acl(model: &StoreModel, call: &Call) -> Answer {
    if call.header("x-amz-acl") != Some("public-read") {
        return Err(call.refuse(501, "NotImplemented", "no ACL but public-read can be put here"));
    }
    model.let_read(&call.at(), EVERYBODY)?;
    Ok(empty(StatusCode::OK))
}

/// DeleteObject.
pub(super) fn delete(model: &StoreModel, call: &Call) -> Answer {
    let deleted = model.delete_object(&call.at())?;
    let mut reply = empty(StatusCode::NO_CONTENT);
    if let Some(version) = &deleted.version {
        set(reply.headers_mut(), "x-amz-version-id", version);
    }
    if deleted.delete_marker {
        set(reply.headers_mut(), "x-amz-delete-marker", "true");
    }
    Ok(reply)
}

#[derive(Deserialize)]
struct Delete {
    #[serde(rename = "Quiet", default)]
    quiet: bool,
    #[serde(rename = "Object", default)]
    objects: Vec<DeleteEntry>,
}

#[derive(Deserialize)]
struct DeleteEntry {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "VersionId")]
    version: Option<String>,
}

/// DeleteObjects.
pub(super) async fn delete_many(model: &StoreModel, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let asked: Delete = from_xml(call.operation(), &body)?;
    let quiet = asked.quiet;
    let bucket = &call.target.bucket;
    let done = asked.objects.into_iter().map(|DeleteEntry { key, version }| {
        let version = version.filter(|id| !id.is_empty());
        let at = ObjectAt { bucket: bucket.clone(), key, version };
        let deleted = model.delete_object(&at);
        (at, deleted)
    });
    Ok(xml(Xml::document("DeleteResult", |xml| {
        for (at, deleted) in done {
            match deleted {
                Ok(_) if quiet => {}
                Ok(deleted) => xml.nest("Deleted", |xml| render_deleted(xml, &at, &deleted)),
                Err(error) => xml.nest("Error", |xml| {
                    xml.text("Key", &at.key);
                    if let Some(version) = &at.version {
                        xml.text("VersionId", version);
                    }
                    xml.text("Code", error.code.as_deref().unwrap_or("InternalError"));
                    xml.text("Message", &error.message);
                }),
            }
        }
    })))
}

fn render_deleted(xml: &mut Xml, at: &ObjectAt, deleted: &Deleted) {
    xml.text("Key", &at.key);
    if let Some(version) = &at.version {
        xml.text("VersionId", version);
    }
    if deleted.delete_marker {
        xml.text("DeleteMarker", "true");
        if let Some(marker) = &deleted.version {
            xml.text("DeleteMarkerVersionId", marker);
        }
    }
}

#[derive(Deserialize)]
struct Tagging {
    #[serde(rename = "TagSet")]
    set: TagSet,
}

#[derive(Deserialize)]
struct TagSet {
    #[serde(rename = "Tag", default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(rename = "Key", default)]
    key: String,
    #[serde(rename = "Value", default)]
    value: String,
}

/// PutObjectTagging.
pub(super) async fn set_tags(model: &StoreModel, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let Tagging { set } = from_xml(call.operation(), &body)?;
    let tags = set.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    model.put_tags(&call.at(), tags)?;
    Ok(empty(StatusCode::OK))
}

/// DeleteObjectTagging.
pub(super) fn delete_tags(model: &StoreModel, call: &Call) -> Answer {
    model.put_tags(&call.at(), Vec::new())?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// GetObjectRetention.
pub(super) async fn retention(store: &dyn Store, call: &Call) -> Answer {
    let lock = store.head(HeadRequest::of(&call.at())).await?.lock;
    let Some((mode, until)) = lock.retention else { return Err(no_lock(call)) };
    Ok(xml(Xml::document("Retention", |xml| {
        xml.text("Mode", mode);
        xml.text("RetainUntilDate", xml_date(until));
    })))
}

fn no_lock(call: &Call) -> StoreError {
    let message = "The specified object does not have a ObjectLock configuration";
    StoreError::answered(call.operation(), ErrorKind::NotFound, 404, "NoSuchObjectLockConfiguration", message)
}

#[derive(Deserialize)]
struct Retention {
    #[serde(rename = "Mode")]
    mode: Option<String>,
    #[serde(rename = "RetainUntilDate")]
    until: Option<String>,
}

/// PutObjectRetention; an empty one takes it away.
pub(super) async fn set_retention(model: &StoreModel, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let asked: Retention = from_xml(call.operation(), &body)?;
    let retention = match (asked.mode, asked.until) {
        (Some(mode), Some(until)) => Some((mode, call.date(&until)?)),
        (None, None) => None,
        _ => return Err(call.refuse(400, "MalformedXML", "retention needs both a mode and a date")),
    };
    let at = call.at();
    let lock = model.head(HeadRequest::of(&at)).await?.lock;
    model.put_lock(&at, Lock { retention, ..lock })?;
    Ok(empty(StatusCode::OK))
}

/// GetObjectLegalHold.
pub(super) async fn legal_hold(store: &dyn Store, call: &Call) -> Answer {
    let lock = store.head(HeadRequest::of(&call.at())).await?.lock;
    let status = if lock.legal_hold { "ON" } else { "OFF" };
    Ok(xml(Xml::document("LegalHold", |xml| xml.text("Status", status))))
}

#[derive(Deserialize)]
struct LegalHold {
    #[serde(rename = "Status")]
    status: String,
}

/// PutObjectLegalHold.
pub(super) async fn set_legal_hold(model: &StoreModel, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let asked: LegalHold = from_xml(call.operation(), &body)?;
    let at = call.at();
    let lock = model.head(HeadRequest::of(&at)).await?.lock;
    model.put_lock(&at, Lock { legal_hold: asked.status == "ON", ..lock })?;
    Ok(empty(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(Range::read("bytes=0-0"), Some(Range::Between(0, 0)));
        assert_eq!(Range::read("bytes=5-"), Some(Range::From(5)));
        assert_eq!(Range::read("bytes=-3"), Some(Range::Last(3)));
        assert_eq!(Range::read("bytes=0-1,3-4"), None);
        assert_eq!(Range::read("bytes=4-3"), None);
        assert_eq!(Range::read("bytes=-"), None);
    }
}
