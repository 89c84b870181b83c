//! Multipart uploads.

use http::StatusCode;
use keyrotate_store::{Checksum, Part, PartCopyRequest, Result, Store, Upload};
use serde::Deserialize;

use super::call::Call;
use super::reply::{Answer, empty, quoted, set, set_checksum, set_sse, written, xml};
use super::text::{Xml, from_xml, url_encode};

/// CreateMultipartUpload.
pub(super) async fn create(store: &dyn Store, call: &Call) -> Answer {
    let mut new = call.new_object()?;
    new.checksum = call.header("x-amz-checksum-algorithm").map(|algorithm| Checksum {
        algorithm: algorithm.to_owned(),
        value: String::new(),
        full_object: call.header("x-amz-checksum-type") == Some("FULL_OBJECT"),
    });
    let id = store.create_upload(&call.at(), &new, &call.place()?).await?;
    let mut reply = xml(Xml::document("InitiateMultipartUploadResult", |xml| {
        xml.text("Bucket", &call.target.bucket);
        xml.text("Key", &call.target.key);
        xml.text("UploadId", &id);
    }));
    set_sse(reply.headers_mut(), &new.sse);
    Ok(reply)
}

fn upload(call: &Call) -> Upload {
    let id = call.query("uploadId").unwrap_or("").to_owned();
    Upload { bucket: call.target.bucket.clone(), key: call.target.key.clone(), id }
}

fn part_number(call: &Call) -> Result<u32> {
    let message = "Part number must be an integer between 1 and 10000, inclusive";
    let number = call.number("partNumber")?.filter(|number| (1..=10_000).contains(number));
    number.ok_or_else(|| call.refuse(400, "InvalidArgument", message))
}

/// UploadPart.
pub(super) async fn put_part(store: &dyn Store, call: &mut Call) -> Answer {
    let (upload, number) = (upload(call), part_number(call)?);
    let (body, checksum) = call.take_body().await?;
    let part = store.upload_part(&upload, number, body, None).await?;
    let mut reply = empty(StatusCode::OK);
    set(reply.headers_mut(), "etag", quoted(&part.etag));
    set_checksum(reply.headers_mut(), checksum.as_ref());
    Ok(reply)
}

/// UploadPartCopy.
pub(super) async fn copy_part(store: &dyn Store, call: &Call) -> Answer {
    let range = match call.header("x-amz-copy-source-range") {
        Some(text) => Some(copy_range(text).ok_or_else(|| {
            call.refuse(
                400,
                "InvalidArgument",
                "The x-amz-copy-source-range value must be of the form bytes=first-last",
            )
        })?),
        None => None,
    };
    let request = PartCopyRequest {
        upload: upload(call),
        number: part_number(call)?,
        source: call.copy_source()?,
        source_if_match: call.etag("x-amz-copy-source-if-match"),
        range,
    };
    let part = store.upload_part_copy(request).await?;
    Ok(xml(Xml::document("CopyPartResult", |xml| xml.text("ETag", quoted(&part.etag)))))
}

fn copy_range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last + 1))
}

/// ListParts.
pub(super) async fn parts(store: &dyn Store, call: &Call) -> Answer {
    let after = call.number("part-number-marker")?.unwrap_or(0);
    let limit = call.number("max-parts")?.unwrap_or(1000).min(1000) as usize;
    let mut parts: Vec<Part> = store.parts(&upload(call)).await?;
    parts.retain(|part| part.number > after);
    let truncated = parts.len() > limit;
    parts.truncate(limit);
    Ok(xml(Xml::document("ListPartsResult", |xml| {
        xml.text("Bucket", &call.target.bucket);
        xml.text("Key", &call.target.key);
        xml.text("UploadId", call.query("uploadId").unwrap_or(""));
        xml.text("PartNumberMarker", after.to_string());
        if let Some(last) = parts.last().filter(|_| truncated) {
            xml.text("NextPartNumberMarker", last.number.to_string());
        }
        xml.text("MaxParts", limit.to_string());
        xml.text("IsTruncated", truncated.to_string());
        for part in &parts {
            xml.nest("Part", |xml| {
                xml.text("PartNumber", part.number.to_string());
                xml.text("ETag", quoted(&part.etag));
                xml.text("Size", part.size.to_string());
                if let Some(checksum) = &part.checksum {
                    xml.text(&format!("Checksum{}", checksum.algorithm), &checksum.value);
                }
            });
        }
    })))
}

#[derive(Deserialize)]
struct CompleteMultipartUpload {
    #[serde(rename = "Part", default)]
    parts: Vec<CompletedPart>,
}

#[derive(Deserialize)]
struct CompletedPart {
    #[serde(rename = "PartNumber")]
    number: u32,
    #[serde(rename = "ETag")]
    etag: String,
}

/// CompleteMultipartUpload.
pub(super) async fn complete(store: &dyn Store, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let asked: CompleteMultipartUpload = from_xml(call.operation(), &body)?;
    let part = |part: CompletedPart| Part {
        number: part.number,
        etag: part.etag.trim().trim_matches('"').to_owned(),
        ..Part::default()
    };
    let parts: Vec<Part> = asked.parts.into_iter().map(part).collect();
    let done = store.complete_upload(&upload(call), &parts, &call.guard()?, &call.place()?).await?;
    let location = format!("/{}/{}", call.target.bucket, url_encode(&call.target.key));
    let reply = xml(Xml::document("CompleteMultipartUploadResult", |xml| {
        xml.text("Location", &location);
        xml.text("Bucket", &call.target.bucket);
        xml.text("Key", &call.target.key);
        if let Some(etag) = &done.etag {
            xml.text("ETag", quoted(etag));
        }
    }));
    let mut reply = written(reply, &done, &keyrotate_store::Sse::None);
    reply.headers_mut().remove("etag");
    Ok(reply)
}

/// AbortMultipartUpload.
pub(super) async fn abort(store: &dyn Store, call: &Call) -> Answer {
    store.abort_upload(&upload(call)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// ListMultipartUploads.
pub(super) async fn list(store: &dyn Store, call: &Call) -> Answer {
    let prefix = call.query("prefix").unwrap_or("");
    let limit = call.number("max-uploads")?.unwrap_or(1000).min(1000) as usize;
    let name = |text: &str| {
        if call.query("encoding-type") == Some("url") { url_encode(text) } else { text.to_owned() }
    };
    let mut uploads = store.uploads(&call.target.bucket, prefix).await?;
    uploads.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
    if let Some(key) = call.query("key-marker").filter(|key| !key.is_empty()) {
        let id = call.query("upload-id-marker").filter(|id| !id.is_empty());
        uploads.retain(|one| one.key.as_str() > key || (one.key == key && id.is_some_and(|id| one.id.as_str() > id)));
    }
    let truncated = uploads.len() > limit;
    uploads.truncate(limit);
    Ok(xml(Xml::document("ListMultipartUploadsResult", |xml| {
        xml.text("Bucket", &call.target.bucket);
        xml.text("Prefix", name(prefix));
        if let Some(last) = uploads.last().filter(|_| truncated) {
            xml.text("NextKeyMarker", name(&last.key));
            xml.text("NextUploadIdMarker", &last.id);
        }
        if call.query("encoding-type") == Some("url") {
            xml.text("EncodingType", "url");
        }
        xml.text("MaxUploads", limit.to_string());
        xml.text("IsTruncated", truncated.to_string());
        for upload in &uploads {
            xml.nest("Upload", |xml| {
                xml.text("Key", name(&upload.key));
                xml.text("UploadId", &upload.id);
            });
        }
    })))
}
