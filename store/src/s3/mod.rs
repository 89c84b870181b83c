//! The real client: [`Store`] over the AWS SDK.
//!
//! The SDK makes, signs and sends the requests and reads errors; what an object is made of goes in and comes out as
//! plain headers of ours, the same for every operation, so that nothing is lost or added on the way. The SDK's own
//! retries are off: [`crate::retry`] is the only layer that sends again.

mod body;
mod bucket;
mod call;
mod connect;
mod encode;
mod errors;
mod headers;
mod https;
mod list;
mod multipart;
mod reactions;
mod xml;

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{MetadataDirective, ObjectEncryption, SsekmsEncryption, TaggingDirective};

pub use aws_credential_types::Credentials;
pub use connect::{ConnectError, S3Config, Timeouts, identity_of_endpoint};
pub use encode::update_encryption_body;

use crate::{
    Acl, Body, BucketFacts, CopyRequest, Directive, ErrorKind, GetRequest, Guard, HeadRequest, InPlace, ListPage,
    ListRequest, NewObject, Object, ObjectAt, Part, PartCopyRequest, PutRequest, Reactions, Result, Store, StoreError,
    StoreIdentity, Tags, Upload, Written,
};
use call::{Shape, Tap};
use encode::{bare_etag, copy_source, quoted, tagging};

/// An S3-compatible store, reached over the network.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    identity: StoreIdentity,
    access_key_id: String,
    timeouts: Timeouts,
}

impl S3Store {
    /// Makes a client from the standard AWS chain.
    ///
    /// The identity of an endpoint is its scheme, host and port; that of AWS itself is its partition and account, where
    /// the account comes from the credentials (`AWS_ACCOUNT_ID`, a role's ARN) or else from `sts:GetCallerIdentity`.
    /// Nothing is sent to an endpoint: whether it can be reached shows at the first call.
    ///
    /// # Errors
    /// Where endpoint, region, certificates, credentials or account are missing or wrong.
    pub async fn connect(config: S3Config) -> std::result::Result<Self, ConnectError> {
        let connect::Connected { client, identity, access_key_id } = connect::client(&config).await?;
        Ok(Self { client, identity, access_key_id, timeouts: config.timeouts })
    }

    /// Whom requests were signed as when it was made; credentials that expire may go by another id later.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The SDK's client itself, with the HTTP settings of [`S3Store::connect`]: what everything here is measured against.
    #[must_use]
    pub fn sdk(&self) -> &Client {
        &self.client
    }

    /// Awaits one call of the SDK, within a bound.
    async fn call<T, E>(
        &self,
        operation: &'static str,
        bound: Duration,
        call: impl Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match tokio::time::timeout(bound, call).await {
            Ok(ended) => ended.map_err(|error| errors::from_sdk(operation, error)),
            Err(_) => {
                let message = format!("no answer within {} s", bound.as_secs());
                Err(StoreError::new(operation, ErrorKind::Timeout, message))
            }
        }
    }

    /// HEAD has no body, so most stores do not say what its error was: GET of one byte does.
    async fn why_head_failed(&self, at: &ObjectAt, error: StoreError) -> StoreError {
        if error.code.is_some() || !matches!(error.status, Some(400 | 403 | 404)) {
            return error;
        }
        let request = GetRequest { range: Some((0, 1)), ..GetRequest::of(at) };
        match self.get(request).await {
            // Neither a web page nor two answers that contradict each other say that it is gone.
            Err(said) if said.kind == ErrorKind::Nonsense => StoreError { operation: error.operation, ..said },
            Ok(_) if error.kind == ErrorKind::NotFound => {
                let message = "it is not there by HEAD, and there by GET";
                StoreError { kind: ErrorKind::Nonsense, message: message.to_owned(), ..error }
            }
            // A 400 alone says nothing; anything else must be the same answer to be its reason.
            Err(said) if said.code.is_some() && (said.status == error.status || error.status == Some(400)) => {
                StoreError { operation: error.operation, ..said }
            }
            _ => error,
        }
    }
}

#[async_trait]
impl Store for S3Store {
    fn identity(&self) -> &StoreIdentity {
        &self.identity
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        if request.versions { self.list_versions(&request).await } else { self.list_current(&request).await }
    }

    async fn head(&self, request: HeadRequest) -> Result<Object> {
        let operation = "HeadObject";
        let at = &request.at;
        let kept = Tap::new();
        let part = request.part.map(|part| i32::try_from(part).unwrap_or(i32::MAX));
        let call = self.client.head_object().bucket(&at.bucket).key(&at.key).set_version_id(at.version.clone());
        let shape = Shape::default().header("x-amz-checksum-mode", "ENABLED").keep_headers(&kept);
        let call = call.set_part_number(part).customize().interceptor(shape).send();
        match self.call(operation, self.timeouts.call, call).await {
            Ok(_) => headers::object(operation, &kept.take().unwrap_or_default(), false),
            Err(error) => Err(self.why_head_failed(at, error).await),
        }
    }

    async fn get(&self, request: GetRequest) -> Result<(Object, Body)> {
        let operation = "GetObject";
        let at = &request.at;
        let kept = Tap::new();
        let call = self.client.get_object().bucket(&at.bucket).key(&at.key).set_version_id(at.version.clone());
        let call = call.set_range(request.range.map(range)).set_if_match(request.if_match.as_deref().map(quoted));
        // Asked for in a header, not through the SDK, which would compute the checksum of everything that passes.
        let shape = Shape::default().header("x-amz-checksum-mode", "ENABLED").keep_headers(&kept);
        let answer = self.call(operation, self.timeouts.call, call.customize().interceptor(shape).send()).await?;
        let headers = kept.take().unwrap_or_default();
        let object = headers::object(operation, &headers, true)?;
        let missing = headers.get("x-amz-missing-meta").and_then(|count| count.parse().ok()).unwrap_or(0);
        if missing > 0 {
            let message = format!("{missing} entries of user metadata cannot be shown in headers and would be lost");
            return Err(StoreError::new(operation, ErrorKind::Refused, message));
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(object.size);
        Ok((object, body::from_sdk(operation, length, answer.body)))
    }

    async fn tags(&self, at: &ObjectAt) -> Result<Tags> {
        let call = self.client.get_object_tagging().bucket(&at.bucket).key(&at.key).set_version_id(at.version.clone());
        match self.call("GetObjectTagging", self.timeouts.call, call.send()).await {
            Ok(answer) => Ok(answer.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect()),
            Err(error) if error.code.as_deref() == Some("NoSuchTagSet") => Ok(Tags::new()),
            Err(error) => Err(error),
        }
    }

    async fn acl(&self, at: &ObjectAt) -> Result<Acl> {
        let call = self.client.get_object_acl().bucket(&at.bucket).key(&at.key).set_version_id(at.version.clone());
        let answer = self.call("GetObjectAcl", self.timeouts.call, call.send()).await?;
        let owner = answer.owner.and_then(|owner| owner.id).unwrap_or_default();
        let grants = answer.grants.unwrap_or_default().into_iter().map(|grant| {
            let who = grant.grantee.and_then(|to| to.id.or(to.uri).or(to.email_address)).unwrap_or_default();
            (who, grant.permission.map(|what| what.as_str().to_owned()).unwrap_or_default())
        });
        Ok(Acl { owner, grants: grants.collect() })
    }

    async fn put(&self, request: PutRequest, body: Body) -> Result<Written> {
        let operation = "PutObject";
        let PutRequest { at, new, guard, place } = request;
        let length = body.len();
        let mut lines = headers::of_new(&new);
        lines.extend(new.checksum.iter().flat_map(headers::of_checksum));
        lines.extend(headers::of_locked_body(&new, &body));
        lines.extend(headers::of_guard(&guard));
        lines.extend(headers::of_place(&place));
        // The SDK would make a Content-Type where the object has none.
        let shape = Shape::of(lines).without("content-type").query("versionId", at.version.as_deref());
        let call = self.client.put_object().bucket(&at.bucket).key(&at.key);
        let call = call.content_length(length.try_into().unwrap_or(i64::MAX)).body(body::to_sdk(operation, body));
        let bound = self.timeouts.sending(length);
        let answer = self.call(operation, bound, call.customize().interceptor(shape).send()).await?;
        // Without it nobody knows whether a store answered at all.
        let etag = answer.e_tag.as_deref().map(bare_etag);
        let etag = etag.ok_or_else(|| StoreError::new(operation, ErrorKind::Nonsense, "the answer names no ETag"))?;
        Ok(Written { etag: Some(etag), version: answer.version_id })
    }

    async fn copy(&self, request: CopyRequest) -> Result<Written> {
        let operation = "CopyObject";
        let mut lines = headers::of_sse(&request.sse);
        lines.extend(headers::of_lock(&request.lock));
        lines.extend(headers::of_guard(&request.guard));
        let call = self.client.copy_object().bucket(&request.source.bucket).key(&request.to);
        let call = call.copy_source(copy_source(&request.source));
        let call = call.set_copy_source_if_match(request.source_if_match.as_deref().map(quoted));
        let mut call = call.set_storage_class(request.storage_class.as_deref().map(Into::into));
        let mut redirect = request.website_redirect;
        match request.directive {
            Directive::Copy => {
                call = call.metadata_directive(MetadataDirective::Copy).tagging_directive(TaggingDirective::Copy);
            }
            Directive::Replace(given) => {
                let (mut kept, tags) = *given;
                redirect = redirect.or(kept.website_redirect.take());
                lines.extend(headers::of_headers(&kept));
                call = call.metadata_directive(MetadataDirective::Replace).tagging_directive(TaggingDirective::Replace);
                call = call.set_tagging(Some(tagging(&tags)).filter(|tags| !tags.is_empty()));
            }
        }
        let call = call.set_website_redirect_location(redirect);
        let call = call.customize().interceptor(Shape::of(lines)).send();
        let answer = self.call(operation, self.timeouts.store_work, call).await?;
        let etag = answer.copy_object_result.and_then(|result| result.e_tag);
        if etag.is_none() {
            return Err(StoreError::new(operation, ErrorKind::Nonsense, "the answer names no ETag"));
        }
        Ok(Written { etag: etag.as_deref().map(bare_etag), version: answer.version_id })
    }

    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        let operation = "UpdateObjectEncryption";
        let sse = SsekmsEncryption::builder().kms_key_arn(key).set_bucket_key_enabled(bucket_key).build();
        let sse = sse.map_err(|error| StoreError::new(operation, ErrorKind::Refused, error.to_string()))?;
        let call = self.client.update_object_encryption().bucket(&at.bucket).key(&at.key);
        let call = call.set_version_id(at.version.clone()).object_encryption(ObjectEncryption::Ssekms(sse));
        let body = Tap::new();
        let call = call.customize().interceptor(Shape::default().take_body(&body, "")).send();
        let call = async { self.call(operation, self.timeouts.call, call).await.map(|_| ()) };
        let answer = self.read_body(operation, &body, call).await?;
        // It may have no body; where it has one, that is not an error or a web page.
        if answer.trim_ascii().is_empty() { Ok(()) } else { xml::fields(operation, &answer).map(drop) }
    }

    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String> {
        self.begin_upload(at, new, place).await
    }

    async fn upload_part_copy(&self, request: PartCopyRequest) -> Result<Part> {
        self.copy_part(request).await
    }

    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, checksum: Option<&str>) -> Result<Part> {
        self.send_part(upload, number, body, checksum).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.list_parts(upload).await
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        self.finish_upload(upload, parts, guard, place).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.drop_upload(upload).await
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        self.list_uploads(bucket, prefix).await
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        let call = self.client.delete_object().bucket(&at.bucket).key(&at.key).set_version_id(at.version.clone());
        match self.call("DeleteObject", self.timeouts.call, call.send()).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn bucket(&self, bucket: &str) -> Result<BucketFacts> {
        self.bucket_facts(bucket).await
    }

    async fn buckets(&self) -> Result<Vec<String>> {
        self.list_buckets().await
    }

    async fn reactions(&self, bucket: &str) -> Result<Reactions> {
        self.bucket_reactions(bucket).await
    }
}

/// `from..to` as HTTP writes it.
fn range((from, to): (u64, u64)) -> String {
    format!("bytes={from}-{}", to.saturating_sub(1))
}
