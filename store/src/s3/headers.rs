//! Objects as headers: what a write sends, and what HEAD and GET answer.

use std::collections::BTreeMap;

use aws_smithy_runtime_api::http::Headers as HttpHeaders;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use keyrotate_proto::key::KeyName;
use md5::{Digest as _, Md5};

use super::call::Lines;
use super::encode::{bare_etag, context, http_date, millis, parsed_context, quoted, tagging};
use crate::{Body, Checksum, ErrorKind, Guard, Headers, InPlace, Lock, NewObject, Object, Result, Sse, StoreError};

const SSE: &str = "x-amz-server-side-encryption";
const SSE_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const SSE_CONTEXT: &str = "x-amz-server-side-encryption-context";
const SSE_BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const SSE_CUSTOMER: &str = "x-amz-server-side-encryption-customer-algorithm";
const META: &str = "x-amz-meta-";
const REDIRECT: &str = "x-amz-website-redirect-location";
const ALGORITHMS: [&str; 5] = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];

/// Everything that a new object gets, as PutObject and CreateMultipartUpload take it.
pub(super) fn of_new(new: &NewObject) -> Lines {
    let mut lines = of_sse(&new.sse);
    lines.extend(of_headers(&new.headers));
    if !new.tags.is_empty() {
        lines.push(line("x-amz-tagging", tagging(&new.tags)));
    }
    lines.extend(new.storage_class.as_ref().map(|class| line("x-amz-storage-class", class)));
    lines.extend(of_lock(&new.lock));
    lines
}

/// Encryption.
pub(super) fn of_sse(sse: &Sse) -> Lines {
    let mut lines = Lines::new();
    let name = |key: &Option<KeyName>| key.as_ref().map(|key| line(SSE_KEY, key.0.as_str()));
    match sse {
        Sse::None | Sse::Customer => {}
        Sse::S3 => lines.push(line(SSE, "AES256")),
        Sse::DualLayer { key } => {
            lines.push(line(SSE, "aws:kms:dsse"));
            lines.extend(name(key));
        }
        Sse::Kms { key, context: map, bucket_key } => {
            lines.push(line(SSE, "aws:kms"));
            lines.extend(name(key));
            lines.extend(map.as_ref().map(|map| line(SSE_CONTEXT, context(map))));
            lines.extend(bucket_key.map(|on| line(SSE_BUCKET_KEY, on.to_string())));
        }
    }
    lines
}

/// Headers and user metadata.
pub(super) fn of_headers(headers: &Headers) -> Lines {
    let plain = [
        ("content-type", &headers.content_type),
        ("content-encoding", &headers.content_encoding),
        ("content-language", &headers.content_language),
        ("content-disposition", &headers.content_disposition),
        ("cache-control", &headers.cache_control),
        ("expires", &headers.expires),
        (REDIRECT, &headers.website_redirect),
    ];
    let set = plain.into_iter().filter_map(|(name, value)| Some(line(name, value.as_deref()?)));
    set.chain(headers.metadata.iter().map(|(name, value)| (format!("{META}{name}"), value.clone()))).collect()
}

/// Object lock.
pub(super) fn of_lock(lock: &Lock) -> Lines {
    let mut lines = Lines::new();
    if let Some((mode, until)) = &lock.retention {
        lines.push(line("x-amz-object-lock-mode", mode));
        lines.push(line("x-amz-object-lock-retain-until-date", millis(*until)));
    }
    if lock.legal_hold {
        lines.push(line("x-amz-object-lock-legal-hold", "ON"));
    }
    lines
}

/// The MD5 of a body under a lock: AWS takes no such write without a digest, and a checksum of the object's own, which would
/// do, it may not have. A body that can be read only once goes without.
pub(super) fn of_locked_body(new: &NewObject, body: &Body) -> Option<(String, String)> {
    match body {
        Body::Bytes(bytes) if new.lock.is_locked() && new.checksum.is_none() => {
            Some(line("content-md5", STANDARD.encode(Md5::digest(bytes))))
        }
        _ => None,
    }
}

/// The value of a checksum that the store is to verify and keep, and its algorithm by name: moto's server keeps none
/// without that.
pub(super) fn of_checksum(checksum: &Checksum) -> [(String, String); 2] {
    let value = format!("x-amz-checksum-{}", checksum.algorithm.to_ascii_lowercase());
    [(value, checksum.value.clone()), ("x-amz-sdk-checksum-algorithm".to_owned(), checksum.algorithm.clone())]
}

/// The condition of a write.
pub(super) fn of_guard(guard: &Guard) -> Option<(String, String)> {
    match guard {
        Guard::None => None,
        Guard::IfMatch(etag) => Some(line("if-match", quoted(etag))),
        Guard::IfAbsent => Some(line("if-none-match", "*")),
    }
}

/// MinIO's in-place form.
pub(super) fn of_place(place: &InPlace) -> Lines {
    let date = place.source_mtime.map(|time| line("x-minio-source-mtime", millis(time)));
    let etag = place.source_etag.as_ref().map(|etag| line("x-minio-source-etag", etag));
    date.into_iter().chain(etag).collect()
}

fn line(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// What an answer's headers say of an object. `size` is the length of the answer's body unless its `Content-Range`
/// names the whole and `whole` asks for that.
pub(super) fn object(operation: &'static str, headers: &HttpHeaders, whole: bool) -> Result<Object> {
    let nonsense = |what: &str| StoreError::new(operation, ErrorKind::Nonsense, format!("the answer has no {what}"));
    let get = |name: &str| headers.get(name).map(ToOwned::to_owned);
    let number = |name: &str| headers.get(name).and_then(|value| value.trim().parse::<u32>().ok());
    let total = headers.get("content-range").and_then(|range| range.rsplit_once('/')?.1.parse().ok());
    let length = headers.get("content-length").and_then(|length| length.trim().parse().ok());
    Ok(Object {
        size: total.filter(|_| whole).or(length).ok_or_else(|| nonsense("Content-Length"))?,
        etag: bare_etag(headers.get("etag").ok_or_else(|| nonsense("ETag"))?),
        last_modified: headers.get("last-modified").and_then(http_date).ok_or_else(|| nonsense("Last-Modified"))?,
        version: get("x-amz-version-id"),
        sse: sse(operation, headers)?,
        headers: kept(operation, headers)?,
        tag_count: number("x-amz-tagging-count"),
        storage_class: get("x-amz-storage-class").filter(|class| class != "STANDARD"),
        lock: lock(headers),
        checksums: checksums(headers),
        parts: number("x-amz-mp-parts-count"),
        replica: headers.get("x-amz-replication-status") == Some("REPLICA"),
        server_date: date(headers),
    })
}

/// The server's clock.
pub(super) fn date(headers: &HttpHeaders) -> Option<Timestamp> {
    headers.get("date").and_then(http_date)
}

fn sse(operation: &'static str, headers: &HttpHeaders) -> Result<Sse> {
    let key = || headers.get(SSE_KEY).filter(|key| !key.is_empty()).map(|key| KeyName(key.to_owned()));
    Ok(match headers.get(SSE) {
        _ if headers.get(SSE_CUSTOMER).is_some() => Sse::Customer,
        None => Sse::None,
        Some("AES256") => Sse::S3,
        Some("aws:kms:dsse") => Sse::DualLayer { key: key() },
        Some("aws:kms") => Sse::Kms {
            key: key(),
            context: headers.get(SSE_CONTEXT).and_then(parsed_context),
            bucket_key: headers.get(SSE_BUCKET_KEY).map(|on| on.eq_ignore_ascii_case("true")),
        },
        Some(other) => {
            let message = format!("the object is encrypted as `{other}`, which keyrotate does not know");
            return Err(StoreError::new(operation, ErrorKind::Refused, message));
        }
    })
}

fn kept(operation: &'static str, headers: &HttpHeaders) -> Result<Headers> {
    let get = |name: &str| headers.get(name).map(ToOwned::to_owned);
    let mut metadata = BTreeMap::new();
    for (name, bytes) in headers.iter_bytes() {
        let Some(name) = name.strip_prefix(META) else { continue };
        let Ok(value) = std::str::from_utf8(bytes) else {
            let message = format!("the user metadata `{name}` is not UTF-8 and could not be written back");
            return Err(StoreError::new(operation, ErrorKind::Refused, message));
        };
        let all: &mut String = metadata.entry(name.to_owned()).or_default();
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(value);
    }
    Ok(Headers {
        content_type: get("content-type"),
        content_encoding: get("content-encoding").and_then(|encoding| without_chunked(&encoding)),
        content_language: get("content-language"),
        content_disposition: get("content-disposition"),
        cache_control: get("cache-control"),
        expires: get("expires"),
        website_redirect: get(REDIRECT),
        metadata,
    })
}

/// `aws-chunked` is how somebody's upload travelled; some stores keep it by mistake.
pub(super) fn without_chunked(encoding: &str) -> Option<String> {
    if !encoding.contains("aws-chunked") {
        return Some(encoding.to_owned());
    }
    let codings = encoding.split(',').map(str::trim).filter(|coding| !coding.is_empty() && *coding != "aws-chunked");
    let rest = codings.collect::<Vec<_>>().join(",");
    (!rest.is_empty()).then_some(rest)
}

fn lock(headers: &HttpHeaders) -> Lock {
    let until = headers.get("x-amz-object-lock-retain-until-date").and_then(|date| date.parse().ok());
    let mode = headers.get("x-amz-object-lock-mode").map(str::to_ascii_uppercase);
    let legal_hold = headers.get("x-amz-object-lock-legal-hold").is_some_and(|hold| hold.eq_ignore_ascii_case("ON"));
    Lock { retention: mode.zip(until), legal_hold }
}

fn checksums(headers: &HttpHeaders) -> Vec<Checksum> {
    let kind = headers.get("x-amz-checksum-type");
    let one = |algorithm: &&str| {
        let value = headers.get(format!("x-amz-checksum-{}", algorithm.to_ascii_lowercase()))?.to_owned();
        // Composite values end in `-PARTS`; base64 has no such character.
        let full_object = !value.contains('-') && kind != Some("COMPOSITE");
        Some(Checksum { algorithm: (*algorithm).to_owned(), value, full_object })
    };
    ALGORITHMS.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[(&'static str, &'static str)]) -> HttpHeaders {
        let mut headers = HttpHeaders::new();
        let base = [
            ("content-length", "5"),
            ("etag", "\"abc-2\""),
            ("last-modified", "Sat, 21 Nov 2026 12:58:29 GMT"),
            ("date", "Sat, 21 Nov 2026 12:58:30 GMT"),
        ];
        for (name, value) in base.iter().chain(lines) {
            headers.append(*name, *value);
        }
        headers
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let headers = Headers {
            content_type: Some("text/plain".into()),
            content_encoding: Some("gzip".into()),
            content_language: Some("de".into()),
            content_disposition: Some("inline".into()),
            cache_control: Some("no-cache".into()),
            expires: Some("Thu, 01 Dec 2044 16:00:00 GMT".into()),
            website_redirect: Some("/x".into()),
            metadata: [("a".into(), "1".into()), ("b".into(), "zwei é".into())].into(),
        };
        let context = [("k".to_owned(), "v".to_owned())].into();
        let sse =
            Sse::Kms { key: Some(KeyName("arn:aws:kms:k".into())), context: Some(context), bucket_key: Some(true) };
        let until = "2030-01-01T00:00:00Z".parse().unwrap();
        let lock = Lock { retention: Some(("GOVERNANCE".into(), until)), legal_hold: true };
        let checksum = Checksum { algorithm: "SHA256".into(), value: "abc=".into(), full_object: true };
        let new = NewObject {
            sse: sse.clone(),
            headers: headers.clone(),
            tags: vec![("t".into(), "1 2".into())],
            storage_class: Some("STANDARD_IA".into()),
            lock: lock.clone(),
            checksum: Some(checksum.clone()),
        };
        let mut answer = answer(&[("x-amz-version-id", "v1"), ("x-amz-tagging-count", "1")]);
        let lines = of_new(&new);
        assert!(lines.contains(&("x-amz-tagging".into(), "t=1%202".into())));
        for (name, value) in lines.into_iter().chain(of_checksum(&checksum)) {
            answer.insert(name, value);
        }
        let object = object("HeadObject", &answer, false).unwrap();
        assert_eq!((object.size, object.etag.as_str()), (5, "abc-2"));
        assert_eq!((object.sse, object.headers, object.lock), (sse, headers, lock));
        assert_eq!(object.checksums, [checksum]);
        assert_eq!((object.version.as_deref(), object.tag_count), (Some("v1"), Some(1)));
        assert_eq!(object.storage_class.as_deref(), Some("STANDARD_IA"));
        assert_eq!(object.server_date.unwrap().as_second() - object.last_modified.as_second(), 1);
    }

    #[test]
    fn a_range_names_the_whole_and_a_part_its_length() {
        let headers = answer(&[("content-range", "bytes 0-4/123"), ("x-amz-mp-parts-count", "3")]);
        assert_eq!(object("GetObject", &headers, true).unwrap().size, 123);
        let part = object("HeadObject", &headers, false).unwrap();
        assert_eq!((part.size, part.parts), (5, Some(3)));
    }

    #[test]
    fn encryption_that_needs_care() {
        let sse = |lines: &[(&'static str, &'static str)]| object("HeadObject", &answer(lines), false).map(|o| o.sse);
        assert_eq!(sse(&[]).unwrap(), Sse::None);
        assert_eq!(sse(&[(SSE, "AES256")]).unwrap(), Sse::S3);
        assert_eq!(sse(&[(SSE_CUSTOMER, "AES256")]).unwrap(), Sse::Customer);
        assert_eq!(sse(&[(SSE, "aws:kms:dsse")]).unwrap(), Sse::DualLayer { key: None });
        assert_eq!(sse(&[(SSE, "aws:fsx")]).unwrap_err().kind, ErrorKind::Refused);
    }

    #[test]
    fn composite_checksums_and_chunked_encodings_are_told_apart() {
        let headers = answer(&[("x-amz-checksum-crc32", "AAAA-3"), ("content-encoding", "aws-chunked, gzip")]);
        let object = object("HeadObject", &headers, false).unwrap();
        assert!(!object.checksums[0].full_object);
        assert_eq!(object.headers.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(without_chunked("aws-chunked"), None);
    }

    #[test]
    fn an_answer_without_the_facts_makes_no_sense() {
        let error = object("HeadObject", &HttpHeaders::new(), false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Nonsense);
    }

    #[test]
    fn guards_and_the_place() {
        assert_eq!(of_guard(&Guard::IfMatch("e".into())), Some(("if-match".into(), "\"e\"".into())));
        assert_eq!(of_guard(&Guard::IfAbsent), Some(("if-none-match".into(), "*".into())));
        assert_eq!(of_guard(&Guard::None), None);
        let time = "2026-11-21T12:58:29.001Z".parse().unwrap();
        let place = InPlace { source_mtime: Some(time), source_etag: Some("e".into()), version: None };
        let lines = of_place(&place);
        assert_eq!(lines[0], ("x-minio-source-mtime".into(), "2026-11-21T12:58:29.001Z".into()));
        assert_eq!(lines[1], ("x-minio-source-etag".into(), "e".into()));
    }
}
