//! What is in a bucket: putting objects there, and taking a picture of all of them that can be compared.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::operation::list_object_versions::builders::ListObjectVersionsFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, EncodingType,
    ServerSideEncryption, StorageClass, VersioningConfiguration,
};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use keyrotate_devstack::mixed::Mixed;
use keyrotate_store::{Headers, Sse};
use sha2::{Digest, Sha256};

/// The object that says who works on a bucket, while somebody does.
pub const LEASE_KEY: &str = ".keyrotate/lease.json";

/// Calls in flight.
const AT_ONCE: usize = 16;

/// One object to put.
#[derive(Clone, Debug)]
pub struct Put {
    /// Its key.
    pub key: String,
    /// Its body.
    pub body: Bytes,
    /// Its headers and metadata.
    pub headers: Headers,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// Its encryption.
    pub sse: Sse,
    /// Whether the store keeps a SHA-256 beside it instead of the CRC32 that the SDK sends by itself.
    pub sha256: bool,
}

impl Put {
    /// A small object under a KMS key.
    #[must_use]
    pub fn under(kms_key: &str, key: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let sse = Sse::Kms { key: Some(keyrotate_key(kms_key)), context: None, bucket_key: None };
        Self { key: key.into(), body: body.into(), headers: Headers::default(), tags: Vec::new(), sse, sha256: false }
    }

    /// A small object in plaintext, or as the store encrypts by itself.
    #[must_use]
    pub fn plain(key: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { sse: Sse::None, ..Self::under("", key, body) }
    }

    /// A small object under SSE-S3.
    #[must_use]
    pub fn sse_s3(key: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { sse: Sse::S3, ..Self::under("", key, body) }
    }

    /// With a tag.
    #[must_use]
    pub fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a SHA-256 that the store keeps.
    #[must_use]
    pub fn with_sha256(self) -> Self {
        Self { sha256: true, ..self }
    }

    /// With user metadata.
    #[must_use]
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.headers.metadata.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Whether a version is just this: body, metadata, tags, key.
    #[must_use]
    pub fn is_what(&self, seen: &Seen) -> bool {
        let tags: BTreeMap<_, _> = self.tags.iter().cloned().collect();
        let seal = match self.kms_key() {
            Some(key) => format!("sse-kms:{}", bare(&key)),
            None => self.sse.seal().to_string(),
        };
        let content = &seen.content;
        let same_body = content.sha256.as_ref() == Some(&hex::encode(Sha256::digest(&self.body)));
        same_body && content.metadata == self.headers.metadata && content.tags == tags && seen.seal == seal
    }

    fn algorithm(&self) -> Option<ServerSideEncryption> {
        match &self.sse {
            Sse::S3 => Some(ServerSideEncryption::Aes256),
            Sse::Kms { .. } => Some(ServerSideEncryption::AwsKms),
            _ => None,
        }
    }

    fn kms_key(&self) -> Option<String> {
        let Sse::Kms { key, .. } = &self.sse else { return None };
        key.as_ref().map(|key| key.0.clone())
    }

    fn metadata_map(&self) -> Option<HashMap<String, String>> {
        let metadata = &self.headers.metadata;
        (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect())
    }

    fn tagging(&self) -> Option<String> {
        let all: Vec<_> = self.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!all.is_empty()).then(|| all.join("&"))
    }
}

impl From<Mixed> for Put {
    fn from(one: Mixed) -> Self {
        Self {
            key: one.key,
            body: one.body,
            headers: one.new.headers,
            tags: one.new.tags,
            sse: one.new.sse,
            sha256: false,
        }
    }
}

fn keyrotate_key(name: &str) -> keyrotate_proto::key::KeyName {
    keyrotate_proto::key::KeyName(name.to_owned())
}

/// A version as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The version; empty in a bucket without versions.
    pub version: String,
    /// Whether it is the current one.
    pub latest: bool,
    /// Whether it is a delete marker.
    pub marker: bool,
}

/// All that a user can see of a version, its encryption apart from the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of the body, in hex; `None` where nobody here can read it: archived, or its owner alone has the key.
    pub sha256: Option<String>,
    /// Its size.
    pub size: u64,
    /// Standard headers, storage class, lock and checksum.
    pub headers: BTreeMap<&'static str, String>,
    /// User metadata.
    pub metadata: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A version as HEAD, GET and GetObjectTagging show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What must never change.
    pub content: Content,
    /// `plaintext`, `sse-s3`, `sse-kms:NAME` or `dsse:NAME`, the name without what stands before it in an ARN; `sse-c`
    /// where only its owner sees anything.
    pub seal: String,
    /// Its ETag.
    pub etag: String,
    /// How many parts it was uploaded in, and the bytes of the first one; `None` where it came in one piece.
    pub parts: Option<(i32, i64)>,
    /// Its date, in whole seconds.
    pub last_modified: i64,
    /// Whether it is the current version of its key.
    pub latest: bool,
}

/// Every version of a bucket by key and version id (empty without versions), delete markers left out.
pub type Snapshot = BTreeMap<(String, String), Seen>;

/// Makes a bucket.
///
/// # Panics
/// When the store refuses.
pub async fn create(client: &Client, bucket: &str, versioned: bool) {
    let made = client.create_bucket().bucket(bucket).send().await;
    made.unwrap_or_else(|e| panic!("the bucket `{bucket}` can't be made: {}", DisplayErrorContext(e)));
    if versioned {
        set_versioning(client, bucket, BucketVersioningStatus::Enabled).await;
    }
}

/// Makes a bucket with object lock, and so with versions.
///
/// # Panics
/// When the store refuses.
pub async fn create_with_locks(client: &Client, bucket: &str) {
    let made = client.create_bucket().bucket(bucket).object_lock_enabled_for_bucket(true).send().await;
    made.unwrap_or_else(|e| panic!("the bucket `{bucket}` can't be made: {}", DisplayErrorContext(e)));
}

/// Switches versioning on, or suspends it.
///
/// # Panics
/// When the store refuses.
pub async fn set_versioning(client: &Client, bucket: &str, status: BucketVersioningStatus) {
    let settings = VersioningConfiguration::builder().status(status).build();
    let set = client.put_bucket_versioning().bucket(bucket).versioning_configuration(settings).send().await;
    set.unwrap_or_else(|e| panic!("versioning can't be set: {}", DisplayErrorContext(e)));
}

/// Puts one object; gives its version id, empty without versions.
///
/// # Panics
/// When the store refuses.
pub async fn put(client: &Client, bucket: &str, one: Put) -> String {
    let key = one.key.clone();
    try_put(client, bucket, one).await.unwrap_or_else(|error| panic!("PUT {key}: {error}"))
}

/// The same where the store may be gone.
///
/// # Errors
/// What it said, or why it said nothing.
pub async fn try_put(client: &Client, bucket: &str, one: Put) -> Result<String, String> {
    let (sse, kms_key, tags, metadata) = (one.algorithm(), one.kms_key(), one.tagging(), one.metadata_map());
    let put = client
        .put_object()
        .bucket(bucket)
        .key(&one.key)
        .body(ByteStream::from(one.body))
        .set_server_side_encryption(sse)
        .set_ssekms_key_id(kms_key)
        .set_content_type(one.headers.content_type)
        .set_cache_control(one.headers.cache_control)
        .set_content_encoding(one.headers.content_encoding)
        .set_content_language(one.headers.content_language)
        .set_content_disposition(one.headers.content_disposition)
        .set_metadata(metadata)
        .set_tagging(tags)
        .set_checksum_algorithm(one.sha256.then_some(ChecksumAlgorithm::Sha256));
    let written = put.send().await.map_err(|e| DisplayErrorContext(e).to_string())?;
    Ok(version(written.version_id()))
}

/// Puts one object in parts of that many bytes, the last one smaller; gives its version id, empty without versions.
///
/// # Panics
/// When the store refuses.
pub async fn put_parts(client: &Client, bucket: &str, one: Put, part: usize) -> String {
    let failed = |what: &str, e: String| -> ! { panic!("{what} of {}: {e}", one.key) };
    let (sse, kms_key, tags) = (one.algorithm(), one.kms_key(), one.tagging());
    let create = client.create_multipart_upload().bucket(bucket).key(&one.key).set_metadata(one.metadata_map());
    let create = create.set_server_side_encryption(sse).set_ssekms_key_id(kms_key).set_tagging(tags);
    let checksum = one.sha256.then_some(ChecksumAlgorithm::Sha256);
    let create = create.set_checksum_algorithm(checksum.clone());
    let upload = create.send().await.unwrap_or_else(|e| failed("create", DisplayErrorContext(e).to_string()));
    let id = upload.upload_id().expect("an upload has an id");
    let mut parts = Vec::new();
    for (number, from) in (1..).zip((0..one.body.len()).step_by(part)) {
        let body = one.body.slice(from..one.body.len().min(from + part));
        let call = client.upload_part().bucket(bucket).key(&one.key).upload_id(id).part_number(number);
        let call = call.set_checksum_algorithm(checksum.clone());
        let sent = call.body(ByteStream::from(body)).send().await;
        let sent = sent.unwrap_or_else(|e| failed("a part", DisplayErrorContext(e).to_string()));
        let done = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
        let done = done.set_checksum_crc32(sent.checksum_crc32).set_checksum_sha256(sent.checksum_sha256);
        parts.push(done.build());
    }
    let all = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = client.complete_multipart_upload().bucket(bucket).key(&one.key).upload_id(id);
    let done = complete.multipart_upload(all).send().await;
    let done = done.unwrap_or_else(|e| failed("complete", DisplayErrorContext(e).to_string()));
    version(done.version_id())
}

/// Puts many.
///
/// # Panics
/// When the store refuses one.
pub async fn put_all(client: &Client, bucket: &str, all: impl IntoIterator<Item = Put>) {
    stream::iter(all.into_iter().map(|one| put(client, bucket, one)))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
}

/// Deletes the current version of a key.
///
/// # Panics
/// When the store refuses.
pub async fn delete(client: &Client, bucket: &str, key: &str) {
    let deleted = client.delete_object().bucket(bucket).key(key).send().await;
    deleted.unwrap_or_else(|e| panic!("DELETE {key}: {}", DisplayErrorContext(e)));
}

/// How a request names a version of a listing: the one that has no id of its own is `null` where it is below another.
#[must_use]
pub fn id_of(version: &str, latest: bool) -> Option<String> {
    match version {
        "" => (!latest).then(|| "null".to_owned()),
        id => Some(id.to_owned()),
    }
}

/// Reads a body; the error as text.
///
/// # Errors
/// What the store said.
pub async fn get(client: &Client, bucket: &str, key: &str, version: Option<String>) -> Result<Bytes, String> {
    let got = client.get_object().bucket(bucket).key(key).set_version_id(version).send().await;
    let got = got.map_err(|e| DisplayErrorContext(e).to_string())?;
    got.body.collect().await.map(|body| body.into_bytes()).map_err(|e| e.to_string())
}

/// The encryption that HEAD shows, as in [`Seen::seal`].
///
/// # Panics
/// When the store refuses.
pub async fn seal_of(client: &Client, bucket: &str, key: &str) -> String {
    let head = client.head_object().bucket(bucket).key(key).send().await;
    let head = head.unwrap_or_else(|e| panic!("HEAD {key}: {}", DisplayErrorContext(e)));
    seal(head.server_side_encryption.as_ref(), head.ssekms_key_id.as_deref())
}

/// Lists every version, delete markers left out.
///
/// # Panics
/// When the store refuses.
pub async fn list(client: &Client, bucket: &str) -> Vec<Listed> {
    let mut all = list_with_markers(client, bucket).await;
    all.retain(|one| !one.marker);
    all
}

/// Lists every version and every delete marker.
///
/// # Panics
/// When the store refuses.
pub async fn list_with_markers(client: &Client, bucket: &str) -> Vec<Listed> {
    let (mut all, mut from, mut id) = (Vec::new(), None, None);
    loop {
        let ask = client.list_object_versions().bucket(bucket).encoding_type(EncodingType::Url);
        let page = page(ask.set_key_marker(from).set_version_id_marker(id)).await;
        let is_encoded = page.encoding_type() == Some(&EncodingType::Url);
        let key = |key: Option<&str>| {
            let key = key.unwrap_or_default();
            if is_encoded { decoded(key) } else { key.to_owned() }
        };
        all.extend(page.versions().iter().map(|entry| Listed {
            key: key(entry.key()),
            version: version(entry.version_id()),
            latest: entry.is_latest().unwrap_or(true),
            marker: false,
        }));
        all.extend(page.delete_markers().iter().map(|entry| Listed {
            key: key(entry.key()),
            version: version(entry.version_id()),
            latest: entry.is_latest().unwrap_or(true),
            marker: true,
        }));
        if page.is_truncated() != Some(true) {
            return all;
        }
        (from, id) = (page.next_key_marker().map(|marker| key(Some(marker))), page.next_version_id_marker.clone());
    }
}

/// A key that a listing wrote as a form does.
///
/// # Panics
/// When it is none.
fn decoded(key: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), key.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let digits = std::str::from_utf8(&rest[..2]).expect("two digits behind a percent sign");
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).expect("two digits behind a percent sign")
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).expect("a key is UTF-8")
}

/// One page. moto's server breaks off a listing with a 500 when somebody deletes meanwhile, so it is asked again.
async fn page(ask: ListObjectVersionsFluentBuilder) -> ListObjectVersionsOutput {
    for _ in 0..5 {
        match ask.clone().send().await {
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 500) => {}
            answer => return answer.unwrap_or_else(|e| panic!("a listing: {}", DisplayErrorContext(e))),
        }
    }
    panic!("five listings ended in a 500: {ask:?}");
}

/// The keys of open multipart uploads.
///
/// # Panics
/// When the store refuses.
pub async fn open_uploads(client: &Client, bucket: &str) -> Vec<String> {
    let page = client.list_multipart_uploads().bucket(bucket).send().await;
    let page = page.unwrap_or_else(|e| panic!("listing the uploads of {bucket}: {}", DisplayErrorContext(e)));
    page.uploads().iter().filter_map(|upload| upload.key().map(str::to_owned)).collect()
}

/// Takes a picture of every version, the lease of a job at work left out.
///
/// # Panics
/// When the store refuses.
pub async fn snapshot(client: &Client, bucket: &str) -> Snapshot {
    // Who works there is nobody's object, and gone a moment later.
    let theirs = list(client, bucket).await.into_iter().filter(|one| one.key != LEASE_KEY);
    let looks = theirs.map(|one| async move {
        let seen = look(client, bucket, &one).await;
        ((one.key, one.version), seen)
    });
    stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
}

async fn look(client: &Client, bucket: &str, one: &Listed) -> Seen {
    let failed = |what: &str, e: String| format!("{what} {} ({}): {e}", one.key, one.version);
    let id = id_of(&one.version, one.latest);
    let ask = client.head_object().bucket(bucket).key(&one.key).set_version_id(id.clone());
    let head = ask.clone().checksum_mode(ChecksumMode::Enabled).send().await;
    let head = match head {
        Err(e) if e.raw_response().is_some_and(|answer| answer.status().as_u16() == 400) => return hidden(one),
        head => head.unwrap_or_else(|e| panic!("{}", failed("HEAD", DisplayErrorContext(e).to_string()))),
    };
    let is_archived = matches!(head.storage_class(), Some(StorageClass::Glacier | StorageClass::DeepArchive));
    let body = match get(client, bucket, &one.key, id.clone()).await {
        Err(e) if is_archived && e.contains("InvalidObjectState") => None,
        body => Some(body.unwrap_or_else(|e| panic!("{}", failed("GET", e)))),
    };
    let tags = client.get_object_tagging().bucket(bucket).key(&one.key).set_version_id(id).send().await;
    // moto's server shows no tags of what is archived.
    let tags = match tags {
        Err(e) if is_archived && e.code() == Some("InvalidObjectState") => Vec::new(),
        tags => {
            tags.unwrap_or_else(|e| panic!("{}", failed("GET ?tagging", DisplayErrorContext(e).to_string()))).tag_set
        }
    };
    let etag = head.e_tag.clone().unwrap_or_default();
    let parts = match etag.contains('-') {
        true => {
            let first = ask.part_number(1).send().await;
            let first = first.unwrap_or_else(|e| panic!("{}", failed("HEAD 1", DisplayErrorContext(e).to_string())));
            Some((first.parts_count.unwrap_or_default(), first.content_length.unwrap_or_default()))
        }
        false => None,
    };
    let size = head.content_length.unwrap_or_default().cast_unsigned();
    if let Some(body) = &body {
        assert_eq!(body.len() as u64, size, "HEAD and GET of {}", one.key);
    }
    let content = Content {
        sha256: body.map(|body| hex::encode(Sha256::digest(&body))),
        size,
        headers: headers(&head),
        metadata: head.metadata.clone().unwrap_or_default().into_iter().collect(),
        tags: tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
    };
    Seen {
        content,
        seal: seal(head.server_side_encryption.as_ref(), head.ssekms_key_id.as_deref()),
        etag,
        parts,
        last_modified: head.last_modified.map_or(0, |date| date.secs()),
        latest: one.latest,
    }
}

/// What HEAD shows beside metadata and encryption.
fn headers(head: &HeadObjectOutput) -> BTreeMap<&'static str, String> {
    let until = head.object_lock_retain_until_date.as_ref().map(|date| date.secs().to_string());
    let headers = [
        ("content-type", head.content_type.clone()),
        ("content-encoding", head.content_encoding.clone()),
        ("content-language", head.content_language.clone()),
        ("content-disposition", head.content_disposition.clone()),
        ("cache-control", head.cache_control.clone()),
        ("expires", head.expires_string.clone()),
        ("website-redirect", head.website_redirect_location.clone()),
        ("storage-class", head.storage_class.as_ref().map(|class| class.as_str().to_owned())),
        ("lock-mode", head.object_lock_mode.as_ref().map(|mode| mode.as_str().to_owned())),
        ("lock-until", until),
        ("legal-hold", head.object_lock_legal_hold_status.as_ref().map(|hold| hold.as_str().to_owned())),
        ("bucket-key", head.bucket_key_enabled.map(|on| on.to_string())),
        ("crc32", head.checksum_crc32.clone()),
        ("crc32c", head.checksum_crc32_c.clone()),
        ("crc64nvme", head.checksum_crc64_nvme.clone()),
        ("sha1", head.checksum_sha1.clone()),
        ("sha256", head.checksum_sha256.clone()),
        ("checksum-type", head.checksum_type.as_ref().map(|kind| kind.as_str().to_owned())),
    ];
    headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// What nobody but its owner sees.
fn hidden(one: &Listed) -> Seen {
    let (headers, metadata, tags) = Default::default();
    let content = Content { sha256: None, size: 0, headers, metadata, tags };
    Seen { content, seal: "sse-c".into(), etag: String::new(), parts: None, last_modified: 0, latest: one.latest }
}

fn seal(sse: Option<&ServerSideEncryption>, key: Option<&str>) -> String {
    match sse {
        None => "plaintext".to_owned(),
        Some(ServerSideEncryption::Aes256) => "sse-s3".to_owned(),
        Some(ServerSideEncryption::AwsKmsDsse) => format!("dsse:{}", bare(key.unwrap_or_default())),
        Some(_) => format!("sse-kms:{}", bare(key.unwrap_or_default())),
    }
}

/// A key's name without what stands before it in an ARN.
#[must_use]
pub fn bare(key: &str) -> &str {
    key.rsplit([':', '/']).next().unwrap_or(key)
}

fn version(id: Option<&str>) -> String {
    id.filter(|id| *id != "null").unwrap_or_default().to_owned()
}
