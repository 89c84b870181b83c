//! Listings: the request through the SDK, the answer through our own reader.

use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::EncodingType;
use tokio::time::Instant;

use super::call::{Shape, Tap};
use super::{S3Store, errors, xml};
use crate::{ErrorKind, ListFrom, ListPage, ListRequest, Result, StoreError};

/// No page of 1,000 entries is larger: keys have at most 1 KiB, metadata and tags a few more.
const LARGEST_PAGE: usize = 32 << 20;

impl S3Store {
    pub(super) async fn list_current(&self, request: &ListRequest) -> Result<ListPage> {
        let operation = "ListObjectsV2";
        let (after, token) = match &request.from {
            ListFrom::Start => (None, None),
            ListFrom::AfterKey(key) | ListFrom::AfterVersion(key, _) => (Some(key.clone()), None),
            ListFrom::Token(token) => (None, Some(token.clone())),
        };
        let call = self.client.list_objects_v2().bucket(&request.bucket).set_prefix(prefix(request));
        let call = call.max_keys(limit(request)).encoding_type(EncodingType::Url);
        let call = call.set_start_after(after).set_continuation_token(token);
        let body = Tap::new();
        let shape = shape(request).take_body(&body, "<ListBucketResult></ListBucketResult>");
        let call = call.customize().interceptor(shape).send();
        let call = async { self.call(operation, self.timeouts.call, call).await.map(|_| ()) };
        xml::page(operation, &self.read_body(operation, &body, call).await?)
    }

    pub(super) async fn list_versions(&self, request: &ListRequest) -> Result<ListPage> {
        let operation = "ListObjectVersions";
        let (key, version) = match &request.from {
            ListFrom::Start => (None, None),
            ListFrom::AfterKey(key) => (Some(key.clone()), None),
            ListFrom::AfterVersion(key, version) => (Some(key.clone()), Some(version.clone())),
            ListFrom::Token(_) => {
                return Err(StoreError::new(operation, ErrorKind::Refused, "listings of versions have no tokens"));
            }
        };
        let call = self.client.list_object_versions().bucket(&request.bucket).set_prefix(prefix(request));
        let call = call.max_keys(limit(request)).encoding_type(EncodingType::Url);
        let call = call.set_key_marker(key).set_version_id_marker(version);
        let body = Tap::new();
        let shape = shape(request).take_body(&body, "<ListVersionsResult></ListVersionsResult>");
        let call = call.customize().interceptor(shape).send();
        let call = async { self.call(operation, self.timeouts.call, call).await.map(|_| ()) };
        xml::page(operation, &self.read_body(operation, &body, call).await?)
    }

    /// Sends, then reads the body that the call left in `body`, within the bound of one call.
    pub(super) async fn read_body(
        &self,
        operation: &'static str,
        body: &Tap<SdkBody>,
        call: impl Future<Output = Result<()>>,
    ) -> Result<Vec<u8>> {
        self.read_body_within(operation, self.timeouts.call, body, call).await
    }

    /// The same within another bound, for calls that make the store work.
    pub(super) async fn read_body_within(
        &self,
        operation: &'static str,
        bound: Duration,
        body: &Tap<SdkBody>,
        call: impl Future<Output = Result<()>>,
    ) -> Result<Vec<u8>> {
        let ends = Instant::now() + bound;
        call.await?;
        let body = body.take().unwrap_or_else(SdkBody::empty);
        let left = ends.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let read = tokio::time::timeout(left, read(operation, ByteStream::new(body))).await;
        read.unwrap_or_else(|_| Err(StoreError::new(operation, ErrorKind::Timeout, "the answer did not end in time")))
    }
}

async fn read(operation: &'static str, mut body: ByteStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = body.next().await {
        all.extend_from_slice(&chunk.map_err(|error| errors::from_body(operation, error))?);
        if all.len() > LARGEST_PAGE {
            let message = format!("one of more than {} MiB is no answer of S3", LARGEST_PAGE >> 20);
            return Err(StoreError::new(operation, ErrorKind::Nonsense, message));
        }
    }
    Ok(all)
}

fn shape(request: &ListRequest) -> Shape {
    Shape::default().query("metadata", request.with_facts.then_some("true"))
}

fn prefix(request: &ListRequest) -> Option<String> {
    Some(request.prefix.clone()).filter(|prefix| !prefix.is_empty())
}

fn limit(request: &ListRequest) -> i32 {
    i32::try_from(request.limit.clamp(1, 1000)).unwrap_or(1000)
}
