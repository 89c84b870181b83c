//! One request, read: which operation it is, and the typed parts of its headers, query and body.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use keyrotate_proto::key::KeyName;
use keyrotate_store::{
    Body, Checksum, ErrorKind, Guard, Headers, InPlace, Lock, NewObject, ObjectAt, Result, Sse, StoreError, Tags,
};
use s3s::TrailingHeaders;

use super::digest::{self, Expected};
use super::text::{pairs, percent_decode};

/// Bodies up to here are read before the store is asked. A refusal of a larger one may come while the client still
/// sends, and the connection that is closed then can look broken to it, as with real stores.
const IN_MEMORY: u64 = 2 << 20;
/// No XML body of a request is larger.
const XML_LIMIT: usize = 8 << 20;

/// The checksum algorithms of S3, and their header names.
pub(super) const CHECKSUMS: [(&str, &str); 5] = [
    ("CRC32", "x-amz-checksum-crc32"),
    ("CRC32C", "x-amz-checksum-crc32c"),
    ("CRC64NVME", "x-amz-checksum-crc64nvme"),
    ("SHA1", "x-amz-checksum-sha1"),
    ("SHA256", "x-amz-checksum-sha256"),
];

/// What a request is about, known from its first line and headers alone.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The S3 operation, as its documentation calls it.
    pub(super) operation: &'static str,
    /// The bucket; empty for ListBuckets.
    pub(super) bucket: String,
    /// The key; empty for operations on buckets.
    pub(super) key: String,
    query: Vec<(String, String)>,
}

impl Target {
    /// Reads it. Where the path or query is no UTF-8, `None`.
    pub(super) fn read(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        let path = percent_decode(uri.path(), false)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = pairs(uri.query().unwrap_or(""))?;
        let mut target = Self { operation: "", bucket: bucket.to_owned(), key: key.to_owned(), query };
        target.operation = target.operation(method, headers);
        Some(target)
    }

    /// A query parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn operation(&self, method: &Method, headers: &HeaderMap) -> &'static str {
        match (self.bucket.is_empty(), self.key.is_empty()) {
            (true, _) if method == Method::GET => "ListBuckets",
            (true, _) => "Unknown",
            (false, true) => self.bucket_operation(method),
            (false, false) => self.object_operation(method, headers),
        }
    }

    fn bucket_operation(&self, method: &Method) -> &'static str {
        let has = |name| self.query(name).is_some();
        match method.as_str() {
            "GET" if has("location") => "GetBucketLocation",
            "GET" if has("versioning") => "GetBucketVersioning",
            "GET" if has("encryption") => "GetBucketEncryption",
            "GET" if has("object-lock") => "GetObjectLockConfiguration",
            "GET" if has("lifecycle") => "GetBucketLifecycleConfiguration",
            "GET" if has("replication") => "GetBucketReplication",
            "GET" if has("notification") => "GetBucketNotificationConfiguration",
            "GET" if has("versions") => "ListObjectVersions",
            "GET" if has("uploads") => "ListMultipartUploads",
            "GET" if self.query("list-type") == Some("2") => "ListObjectsV2",
            "GET" if !self.has_sub_resource() => "ListObjects",
            "PUT" if has("versioning") => "PutBucketVersioning",
            "PUT" if has("encryption") => "PutBucketEncryption",
            "PUT" if has("object-lock") => "PutObjectLockConfiguration",
            "PUT" if !self.has_sub_resource() => "CreateBucket",
            "HEAD" => "HeadBucket",
            "DELETE" if has("encryption") => "DeleteBucketEncryption",
            "DELETE" if !self.has_sub_resource() => "DeleteBucket",
            "POST" if has("delete") => "DeleteObjects",
            _ => "Unknown",
        }
    }

    fn object_operation(&self, method: &Method, headers: &HeaderMap) -> &'static str {
        let has = |name| self.query(name).is_some();
        let copies = headers.contains_key("x-amz-copy-source");
        match method.as_str() {
            "HEAD" => "HeadObject",
            "GET" if has("tagging") => "GetObjectTagging",
            "GET" if has("acl") => "GetObjectAcl",
            "GET" if has("retention") => "GetObjectRetention",
            "GET" if has("legal-hold") => "GetObjectLegalHold",
            "GET" if has("uploadId") => "ListParts",
            "GET" if !self.has_sub_resource() => "GetObject",
            "PUT" if has("encryption") => "UpdateObjectEncryption",
            "PUT" if has("tagging") => "PutObjectTagging",
            "PUT" if has("acl") => "PutObjectAcl",
            "PUT" if has("retention") => "PutObjectRetention",
            "PUT" if has("legal-hold") => "PutObjectLegalHold",
            "PUT" if has("uploadId") && copies => "UploadPartCopy",
            "PUT" if has("uploadId") => "UploadPart",
            "PUT" if self.has_sub_resource() => "Unknown",
            "PUT" if copies => "CopyObject",
            "PUT" => "PutObject",
            "POST" if has("uploads") => "CreateMultipartUpload",
            "POST" if has("uploadId") => "CompleteMultipartUpload",
            "DELETE" if has("tagging") => "DeleteObjectTagging",
            "DELETE" if has("uploadId") => "AbortMultipartUpload",
            "DELETE" if !self.has_sub_resource() => "DeleteObject",
            _ => "Unknown",
        }
    }

    /// Whether a sub-resource is named that this server does not have.
    fn has_sub_resource(&self) -> bool {
        const OTHERS: &str = "accelerate acl analytics attributes cors intelligent-tiering inventory lifecycle logging \
            metadataTable metrics notification ownershipControls policy policyStatus publicAccessBlock replication \
            requestPayment restore select torrent website";
        self.query.iter().any(|(name, _)| OTHERS.split(' ').any(|other| other == name))
            || (self.key.is_empty() && self.query("tagging").is_some())
    }
}

/// One authenticated request.
pub(super) struct Call {
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: s3s::Body,
    pub(super) trailers: Option<TrailingHeaders>,
}

impl Call {
    pub(super) fn operation(&self) -> &'static str {
        self.target.operation
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.target.query(name)
    }

    /// A refusal of this request.
    pub(super) fn refuse(&self, status: u16, code: &str, message: &str) -> StoreError {
        StoreError::answered(self.operation(), ErrorKind::Refused, status, code, message)
    }

    fn invalid(&self, message: &str) -> StoreError {
        self.refuse(400, "InvalidArgument", message)
    }

    /// A query parameter that is a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u32>> {
        let parse = |value: &str| value.parse().map_err(|_| self.invalid(&format!("{name} is no number")));
        self.query(name).filter(|value| !value.is_empty()).map(parse).transpose()
    }

    /// The object that path and `versionId` name.
    pub(super) fn at(&self) -> ObjectAt {
        let version = self.query("versionId").filter(|id| !id.is_empty()).map(str::to_owned);
        ObjectAt { bucket: self.target.bucket.clone(), key: self.target.key.clone(), version }
    }

    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// A header that holds an ETag, without its quotes.
    pub(super) fn etag(&self, name: &str) -> Option<String> {
        self.header(name).map(|value| value.trim().trim_matches('"').to_owned())
    }

    /// `If-Match` and `If-None-Match: *`.
    pub(super) fn guard(&self) -> Result<Guard> {
        match (self.etag("if-match"), self.etag("if-none-match").as_deref()) {
            (Some(etag), None) => Ok(Guard::IfMatch(etag)),
            (None, Some("*")) => Ok(Guard::IfAbsent),
            (None, None) => Ok(Guard::None),
            _ => Err(self.refuse(501, "NotImplemented", "only one of If-Match and If-None-Match: * is taken")),
        }
    }

    /// MinIO's in-place headers.
    pub(super) fn place(&self) -> Result<InPlace> {
        let source_mtime = match self.header("x-minio-source-mtime") {
            Some(text) => Some(text.parse().map_err(|_| self.invalid("X-Minio-Source-Mtime is no date"))?),
            None => None,
        };
        Ok(InPlace { source_mtime, source_etag: self.etag("x-minio-source-etag"), version: None })
    }

    /// The encryption that the request asks for.
    pub(super) fn sse(&self) -> Result<Sse> {
        if self.headers.contains_key("x-amz-server-side-encryption-customer-algorithm") {
            return Ok(Sse::Customer);
        }
        let key = self.header("x-amz-server-side-encryption-aws-kms-key-id").map(|key| KeyName(key.to_owned()));
        match self.header("x-amz-server-side-encryption") {
            None if key.is_some() => Err(self.invalid("a KMS key is named without aws:kms")),
            None => Ok(Sse::None),
            Some("AES256") => Ok(Sse::S3),
            Some("aws:kms") => Ok(Sse::Kms { key, context: self.context()?, bucket_key: self.bucket_key() }),
            Some("aws:kms:dsse") => Ok(Sse::DualLayer { key }),
            Some(_) => Err(self.invalid("The encryption method specified is not supported")),
        }
    }

    fn context(&self) -> Result<Option<BTreeMap<String, String>>> {
        let Some(text) = self.header("x-amz-server-side-encryption-context") else { return Ok(None) };
        let json = BASE64.decode(text).ok();
        let context = json.and_then(|json| serde_json::from_slice(&json).ok());
        context.map(Some).ok_or_else(|| self.invalid("the encryption context is no base64 of a JSON object of strings"))
    }

    fn bucket_key(&self) -> Option<bool> {
        self.header("x-amz-server-side-encryption-bucket-key-enabled").map(|on| on.eq_ignore_ascii_case("true"))
    }

    /// Headers and metadata of the object to be written.
    pub(super) fn object_headers(&self) -> Headers {
        let own = |name| self.header(name).map(str::to_owned);
        let metadata = self.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix("x-amz-meta-")?;
            Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        });
        Headers {
            content_type: own("content-type"),
            content_encoding: own("content-encoding").and_then(|encoding| without_transfer(&encoding)),
            content_language: own("content-language"),
            content_disposition: own("content-disposition"),
            cache_control: own("cache-control"),
            expires: own("expires"),
            website_redirect: own("x-amz-website-redirect-location"),
            metadata: metadata.collect(),
        }
    }

    /// `x-amz-tagging`.
    pub(super) fn tags(&self) -> Result<Tags> {
        let tags = pairs(self.header("x-amz-tagging").unwrap_or(""));
        tags.ok_or_else(|| self.refuse(400, "InvalidTag", "the tags are no UTF-8"))
    }

    /// `x-amz-object-lock-*`.
    pub(super) fn lock(&self) -> Result<Lock> {
        let until = self.header("x-amz-object-lock-retain-until-date");
        let retention = match (self.header("x-amz-object-lock-mode"), until) {
            (Some(mode), Some(until)) => Some((mode.to_owned(), self.date(until)?)),
            (None, None) => None,
            _ => return Err(self.invalid("retention needs both a mode and a date")),
        };
        Ok(Lock { retention, legal_hold: self.header("x-amz-object-lock-legal-hold") == Some("ON") })
    }

    /// A date of a request.
    pub(super) fn date(&self, text: &str) -> Result<Timestamp> {
        text.parse().map_err(|_| self.invalid("a date is not in ISO 8601 form"))
    }

    /// Storage class; the standard one is `None`.
    pub(super) fn storage_class(&self) -> Option<String> {
        self.header("x-amz-storage-class").filter(|class| *class != "STANDARD").map(str::to_owned)
    }

    /// A checksum given as a header.
    pub(super) fn checksum(&self) -> Option<Checksum> {
        let full_object = self.header("x-amz-checksum-type") != Some("COMPOSITE");
        let given = |(algorithm, header): &(&str, &str)| {
            let value = self.header(header)?.to_owned();
            Some(Checksum { algorithm: (*algorithm).to_owned(), value, full_object })
        };
        CHECKSUMS.iter().find_map(given)
    }

    /// Everything that the written object gets, the body apart.
    pub(super) fn new_object(&self) -> Result<NewObject> {
        Ok(NewObject {
            sse: self.sse()?,
            headers: self.object_headers(),
            tags: self.tags()?,
            storage_class: self.storage_class(),
            lock: self.lock()?,
            checksum: self.checksum(),
        })
    }

    /// The source of a copy, `/BUCKET/KEY` or `BUCKET/KEY`, a version if one is named.
    pub(super) fn copy_source(&self) -> Result<ObjectAt> {
        let source = self.header("x-amz-copy-source").unwrap_or("");
        let (path, version) = match source.rsplit_once("?versionId=") {
            Some((path, version)) => (path, Some(version.to_owned())),
            None => (source, None),
        };
        let path = percent_decode(path, false).unwrap_or_default();
        match path.strip_prefix('/').unwrap_or(&path).split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(ObjectAt { bucket: bucket.to_owned(), key: key.to_owned(), version })
            }
            _ => Err(self.invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")),
        }
    }

    /// The body of an object or part with its checksum, checked on its way against MD5 and checksum of the request.
    /// Small ones come in memory, large ones as a stream. A checksum in the trailer of a stream is checked when the
    /// stream ends; till then only its algorithm is known, its value is empty.
    pub(super) async fn take_body(&mut self) -> Result<(Body, Option<Checksum>)> {
        let operation = self.operation();
        let length = self.header("content-length").and_then(|length| length.parse::<u64>().ok());
        let Some(length) = length.or_else(|| self.body.bytes().map(|bytes| bytes.len() as u64)) else {
            return Err(self.refuse(411, "MissingContentLength", "You must provide the Content-Length HTTP header."));
        };
        let (trailer, trailers) = (self.trailer_checksum(), self.trailers.take());
        let expected = Expected {
            md5: self.header("content-md5").map(str::to_owned),
            // The store verifies what is sent with an object; a part's checksum is not handed on to it.
            checksum: self.checksum().filter(|_| operation == "UploadPart").map(|sum| (sum.algorithm, sum.value)),
            trailer: trailer.map(|(algorithm, _)| algorithm),
        };
        let body = digest::checked(operation, std::mem::take(&mut self.body), length, expected, trailers.clone());
        let body = Body::Stream { length, stream: body };
        let body = if length > IN_MEMORY { body } else { Body::Bytes(body.collect().await?) };
        let from_trailer = trailer.map(|(algorithm, header)| Checksum {
            algorithm: algorithm.to_owned(),
            value: digest::trailer(trailers.as_ref(), header).unwrap_or_default(),
            full_object: true,
        });
        Ok((body, from_trailer.or_else(|| self.checksum())))
    }

    /// Algorithm and header name of a checksum that comes behind the body.
    fn trailer_checksum(&self) -> Option<(&'static str, &'static str)> {
        let trailer = self.header("x-amz-trailer")?.trim().to_ascii_lowercase();
        CHECKSUMS.into_iter().find(|(_, header)| *header == trailer)
    }

    /// The whole body of a request that carries XML.
    pub(super) async fn take_xml(&mut self) -> Result<Bytes> {
        let too_large = self.refuse(400, "MalformedXML", "the body of the request is too large or was cut");
        self.body.store_all_limited(XML_LIMIT).await.map_err(|_| too_large)
    }
}

/// `Content-Encoding` without the `aws-chunked` of a transfer.
fn without_transfer(encoding: &str) -> Option<String> {
    let kept: Vec<_> = encoding.split(',').map(str::trim).filter(|part| !matches!(*part, "aws-chunked" | "")).collect();
    if kept.is_empty() { None } else { Some(kept.join(",")) }
}
