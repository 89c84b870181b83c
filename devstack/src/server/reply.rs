//! Answers: an object's headers, XML, errors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::TryStreamExt as _;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use keyrotate_store::{Body, Checksum, ErrorKind, Lock, Object, Result, Sse, StoreError, Written};

use super::call::CHECKSUMS;
use super::text::{Xml, http_date, xml_date};

/// What goes back.
pub(super) type Reply = Response<s3s::Body>;

/// Says that this answer must never reach the client: the connection is cut instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutConnection;

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Reply::new(s3s::Body::empty());
    *reply.status_mut() = status;
    reply
}

/// An answer whose body is XML.
pub(super) fn xml(document: String) -> Reply {
    let mut reply = Reply::new(document.into());
    reply.headers_mut().insert("content-type", HeaderValue::from_static("application/xml"));
    reply
}

/// Sets a header, unless the value cannot be one.
pub(super) fn set(headers: &mut HeaderMap, name: &str, value: impl AsRef<str>) {
    let name = HeaderName::from_bytes(name.as_bytes());
    let value = HeaderValue::from_bytes(value.as_ref().as_bytes());
    if let (Ok(name), Ok(value)) = (name, value) {
        headers.insert(name, value);
    }
}

fn set_some(headers: &mut HeaderMap, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        set(headers, name, value);
    }
}

/// An error as S3 answers it. An error without an answer (cut, timed out) cuts the connection.
pub(super) fn error(error: &StoreError, resource: &str, request_id: &str) -> Reply {
    let mut reply = match (error.status, &error.code) {
        (Some(status), Some(code)) => error_document(status, code, &error.message, resource, request_id),
        _ if matches!(error.kind, ErrorKind::Cut | ErrorKind::Timeout | ErrorKind::Unreachable) => {
            let mut reply = empty(StatusCode::INTERNAL_SERVER_ERROR);
            reply.extensions_mut().insert(CutConnection);
            reply
        }
        _ => {
            let (status, code) = usual_answer(error.kind);
            error_document(error.status.unwrap_or(status), code, &error.message, resource, request_id)
        }
    };
    if error.status == Some(503) {
        set(reply.headers_mut(), "retry-after", "1");
    }
    reply
}

/// The error document of S3.
pub(super) fn error_document(status: u16, code: &str, message: &str, resource: &str, request_id: &str) -> Reply {
    let document = Xml::document("Error", |xml| {
        xml.text("Code", code);
        xml.text("Message", message);
        xml.text("Resource", resource);
        xml.text("RequestId", request_id);
    });
    // The error document is the one that has no namespace.
    let mut reply = xml(document.replacen(" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"", "", 1));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply
}

/// How S3 says what an error without a code means.
fn usual_answer(kind: ErrorKind) -> (u16, &'static str) {
    match kind {
        ErrorKind::NotFound => (404, "NoSuchKey"),
        ErrorKind::NoSuchBucket => (404, "NoSuchBucket"),
        ErrorKind::Precondition => (412, "PreconditionFailed"),
        ErrorKind::Throttled => (503, "SlowDown"),
        ErrorKind::Denied | ErrorKind::Locked => (403, "AccessDenied"),
        ErrorKind::Credentials => (403, "InvalidAccessKeyId"),
        ErrorKind::ClockSkew => (403, "RequestTimeTooSkewed"),
        ErrorKind::KmsKeyNotFound => (400, "KMS.NotFoundException"),
        ErrorKind::Kms => (400, "KMS.KMSInvalidStateException"),
        ErrorKind::Archived => (403, "InvalidObjectState"),
        ErrorKind::WrongRegion => (301, "PermanentRedirect"),
        ErrorKind::NotImplemented => (501, "NotImplemented"),
        ErrorKind::CustomerKey | ErrorKind::Refused => (400, "InvalidRequest"),
        ErrorKind::Server
        | ErrorKind::Timeout
        | ErrorKind::Unreachable
        | ErrorKind::Untrusted
        | ErrorKind::Cut
        | ErrorKind::Nonsense
        | ErrorKind::LeaseOver => (500, "InternalError"),
    }
}

/// The headers that show an object.
pub(super) fn object_headers(object: &Object, with_checksums: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    set(&mut headers, "content-length", object.size.to_string());
    set(&mut headers, "accept-ranges", "bytes");
    set(&mut headers, "etag", quoted(&object.etag));
    set(&mut headers, "last-modified", http_date(object.last_modified));
    set_some(&mut headers, "x-amz-version-id", object.version.as_deref());
    set_sse(&mut headers, &object.sse);
    let own = &object.headers;
    set_some(&mut headers, "content-type", own.content_type.as_deref());
    set_some(&mut headers, "content-encoding", own.content_encoding.as_deref());
    set_some(&mut headers, "content-language", own.content_language.as_deref());
    set_some(&mut headers, "content-disposition", own.content_disposition.as_deref());
    set_some(&mut headers, "cache-control", own.cache_control.as_deref());
    set_some(&mut headers, "expires", own.expires.as_deref());
    set_some(&mut headers, "x-amz-website-redirect-location", own.website_redirect.as_deref());
    for (name, value) in &own.metadata {
        set(&mut headers, &format!("x-amz-meta-{name}"), value);
    }
    if let Some(count) = object.tag_count {
        set(&mut headers, "x-amz-tagging-count", count.to_string());
    }
    set_some(&mut headers, "x-amz-storage-class", object.storage_class.as_deref());
    set_lock(&mut headers, &object.lock);
    if with_checksums {
        set_checksums(&mut headers, object);
    }
    if object.replica {
        set(&mut headers, "x-amz-replication-status", "REPLICA");
    }
    if let Some(parts) = object.parts {
        set(&mut headers, "x-amz-mp-parts-count", parts.to_string());
    }
    headers
}

fn set_lock(headers: &mut HeaderMap, lock: &Lock) {
    if let Some((mode, until)) = &lock.retention {
        set(headers, "x-amz-object-lock-mode", mode);
        set(headers, "x-amz-object-lock-retain-until-date", xml_date(*until));
    }
    if lock.legal_hold {
        set(headers, "x-amz-object-lock-legal-hold", "ON");
    }
}

fn set_checksums(headers: &mut HeaderMap, object: &Object) {
    for checksum in &object.checksums {
        set_checksum(headers, Some(checksum));
    }
}

/// The headers that show a checksum.
pub(super) fn set_checksum(headers: &mut HeaderMap, checksum: Option<&Checksum>) {
    let Some(checksum) = checksum.filter(|checksum| !checksum.value.is_empty()) else { return };
    if let Some((_, header)) = CHECKSUMS.iter().find(|(algorithm, _)| *algorithm == checksum.algorithm) {
        set(headers, header, &checksum.value);
        set(headers, "x-amz-checksum-type", if checksum.full_object { "FULL_OBJECT" } else { "COMPOSITE" });
    }
}

/// The headers that show an encryption. A context is never among them.
pub(super) fn set_sse(headers: &mut HeaderMap, sse: &Sse) {
    const SSE: &str = "x-amz-server-side-encryption";
    const KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
    match sse {
        Sse::None => {}
        Sse::S3 => set(headers, SSE, "AES256"),
        Sse::Kms { key, bucket_key, .. } => {
            set(headers, SSE, "aws:kms");
            set_some(headers, KEY, key.as_ref().map(|key| key.0.as_str()));
            if let Some(on) = bucket_key {
                set(headers, "x-amz-server-side-encryption-bucket-key-enabled", on.to_string());
            }
        }
        Sse::DualLayer { key } => {
            set(headers, SSE, "aws:kms:dsse");
            set_some(headers, KEY, key.as_ref().map(|key| key.0.as_str()));
        }
        Sse::Customer => set(headers, "x-amz-server-side-encryption-customer-algorithm", "AES256"),
    }
}

/// The answer to a write: ETag, version, and the encryption that was asked for, its context included.
pub(super) fn written(mut reply: Reply, written: &Written, sse: &Sse) -> Reply {
    let headers = reply.headers_mut();
    set_some(headers, "etag", written.etag.as_deref().map(quoted).as_deref());
    set_some(headers, "x-amz-version-id", written.version.as_deref());
    set_sse(headers, sse);
    if let Sse::Kms { context: Some(context), .. } = sse {
        let json = serde_json::to_vec(context).unwrap_or_default();
        set(headers, "x-amz-server-side-encryption-context", BASE64.encode(json));
    }
    reply
}

/// An ETag as headers and XML show it.
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// A body on its way out, streamed if it is a stream.
pub(super) fn outgoing(body: Body) -> s3s::Body {
    match body {
        Body::Bytes(bytes) => bytes.into(),
        Body::Stream { stream, .. } => s3s::Body::http_body(StreamBody::new(stream.map_ok(Frame::data))),
    }
}

/// What an operation answers.
pub(super) type Answer = Result<Reply>;
