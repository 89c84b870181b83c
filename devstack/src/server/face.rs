//! From an authenticated request to a call of the store.
//!
//! s3s does what is the same for every store: signatures, `aws-chunked` bodies with their trailers, presigned URLs.
//! The operations are all one custom route of it, since its own typed ones hide the raw headers and queries that
//! matter here: `If-Match` on CopyObject, `?encryption` of an object, `metadata=true` of a listing, `X-Minio-*`.

use http::{HeaderMap, Method, Uri};
use keyrotate_env::Env;
use s3s::route::S3Route;
use s3s::{S3Request, S3Response, S3Result};

use super::call::{Call, Target};
use super::reply::{self, Answer, Reply};
use super::{buckets, listing, multipart, objects};
use crate::model::StoreModel;

/// All operations.
pub(super) struct Face {
    pub(super) model: StoreModel,
    pub(super) region: String,
    pub(super) env: Env,
}

/// s3s wants an implementation of its typed operations; the route takes every request before they are asked.
pub(super) struct NoOperations;

impl s3s::S3 for NoOperations {}

#[async_trait::async_trait]
impl S3Route for Face {
    fn is_match(&self, _: &Method, _: &Uri, _: &HeaderMap, _: &mut http::Extensions) -> bool {
        true
    }

    async fn call(&self, request: S3Request<s3s::Body>) -> S3Result<S3Response<s3s::Body>> {
        let request_id = self.env.random_hex(8).to_uppercase();
        let resource = request.uri.path().to_owned();
        let mut reply = match Target::read(&request.method, &request.uri, &request.headers) {
            Some(target) => {
                let S3Request { headers, input: body, trailing_headers: trailers, .. } = request;
                let answer = self.answer(Call { target, headers, body, trailers }).await;
                answer.unwrap_or_else(|error| reply::error(&error, &resource, &request_id))
            }
            None => {
                reply::error_document(400, "InvalidURI", "Couldn't parse the specified URI.", &resource, &request_id)
            }
        };
        reply::set(reply.headers_mut(), "x-amz-request-id", &request_id);
        Ok(into_response(reply))
    }
}

fn into_response(reply: Reply) -> S3Response<s3s::Body> {
    let (parts, body) = reply.into_parts();
    let mut response = S3Response::with_status(body, parts.status);
    response.headers = parts.headers;
    response.extensions = parts.extensions;
    response
}

impl Face {
    async fn answer(&self, mut call: Call) -> Answer {
        let (model, store) = (&self.model, &self.model as &dyn keyrotate_store::Store);
        let call = &mut call;
        match call.operation() {
            "ListBuckets" => buckets::list(model),
            "CreateBucket" => buckets::create(model, call).await,
            "HeadBucket" => buckets::head(store, call, &self.region).await,
            "DeleteBucket" => buckets::delete(model, call),
            "GetBucketLocation" => buckets::location(store, call, &self.region).await,
            "GetBucketVersioning" => buckets::versioning(store, call).await,
            "PutBucketVersioning" => buckets::set_versioning(model, call).await,
            "GetBucketEncryption" => buckets::encryption(store, call).await,
            "PutBucketEncryption" => buckets::set_encryption(model, call).await,
            "DeleteBucketEncryption" => buckets::delete_encryption(model, call),
            "PutObjectLockConfiguration" => buckets::set_lock(model, call).await,
            "GetObjectLockConfiguration" => buckets::lock(store, call).await,
            "GetBucketLifecycleConfiguration" => buckets::lifecycle(model, call),
            "GetBucketReplication" => buckets::replication(model, call),
            "GetBucketNotificationConfiguration" => buckets::notification(model, call),
            "ListObjects" | "ListObjectsV2" | "ListObjectVersions" => listing::list(store, call).await,
            "ListMultipartUploads" => multipart::list(store, call).await,
            "DeleteObjects" => objects::delete_many(model, call).await,
            "HeadObject" => objects::head(store, call).await,
            "GetObject" => objects::get(store, call).await,
            "PutObject" => objects::put(store, call).await,
            "CopyObject" => objects::copy(store, call).await,
            "UpdateObjectEncryption" if model.mode().update_encryption => objects::update_encryption(store, call).await,
            // What a store that does not know it really does.
            "UpdateObjectEncryption" => objects::put(store, call).await,
            "DeleteObject" => objects::delete(model, call),
            "GetObjectTagging" => objects::tags(store, call).await,
            "PutObjectTagging" => objects::set_tags(model, call).await,
            "DeleteObjectTagging" => objects::delete_tags(model, call),
            "GetObjectAcl" => objects::acl(store, call).await,
            "PutObjectAcl" if model.mode().acls => objects::set_acl(model, call),
            "GetObjectRetention" => objects::retention(store, call).await,
            "PutObjectRetention" => objects::set_retention(model, call).await,
            "GetObjectLegalHold" => objects::legal_hold(store, call).await,
            "PutObjectLegalHold" => objects::set_legal_hold(model, call).await,
            "CreateMultipartUpload" => multipart::create(store, call).await,
            "UploadPart" => multipart::put_part(store, call).await,
            "UploadPartCopy" => multipart::copy_part(store, call).await,
            "ListParts" => multipart::parts(store, call).await,
            "CompleteMultipartUpload" => multipart::complete(store, call).await,
            "AbortMultipartUpload" => multipart::abort(store, call).await,
            _ => Err(call.refuse(
                501,
                "NotImplemented",
                "A header or query you provided implies functionality that is not implemented",
            )),
        }
    }
}
