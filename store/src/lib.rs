//! The S3 seam: one trait of our own, so that the walk and every strategy run on the real client, on wrappers that
//! fail and delay, and on the store model alike.

pub mod error;
mod for_job;
pub mod retry;
pub mod s3;
#[cfg(test)]
mod scripted;
pub mod types;
pub mod wrap;

use async_trait::async_trait;

pub use error::{ErrorKind, StoreError};
pub use for_job::for_job;
pub use s3::update_encryption_body;
pub use types::*;

/// What a call to a store gives.
pub type Result<T> = std::result::Result<T, StoreError>;

/// An S3-compatible store.
///
/// Every method is one request, sent once, unless an implementation says that it retries. What a store ignores
/// (a guard, a header) it ignores silently: nothing here promises that a condition is honoured, which is why
/// capabilities are proven on objects of our own first.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Which store this is.
    fn identity(&self) -> &StoreIdentity;

    /// One page of a listing, current versions or all versions: in the order of keys, nothing twice, only below the prefix
    /// and behind where it is to begin.
    async fn list(&self, request: ListRequest) -> Result<ListPage>;

    /// Facts of one object version.
    async fn head(&self, request: HeadRequest) -> Result<Object>;

    /// Facts and body of one object version.
    async fn get(&self, request: GetRequest) -> Result<(Object, Body)>;

    /// Tags of one object version, in the order the store gives them.
    async fn tags(&self, at: &ObjectAt) -> Result<Tags>;

    /// GetObjectAcl.
    async fn acl(&self, at: &ObjectAt) -> Result<Acl>;

    /// PutObject.
    async fn put(&self, request: PutRequest, body: Body) -> Result<Written>;

    /// CopyObject of one object version onto a key, in its own bucket.
    async fn copy(&self, request: CopyRequest) -> Result<Written>;

    /// UpdateObjectEncryption. **Destroys the object on a store that does not know it**: only ever called on a probe
    /// of our own until it is proven for the bucket.
    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()>;

    /// CreateMultipartUpload; gives the upload id.
    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String>;

    /// UploadPartCopy.
    async fn upload_part_copy(&self, request: PartCopyRequest) -> Result<Part>;

    /// UploadPart; with a checksum of that algorithm, where the upload was created with one.
    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, checksum: Option<&str>) -> Result<Part>;

    /// ListParts, all pages.
    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>>;

    /// CompleteMultipartUpload. In place (MinIO) `place` names date and version, and the guard is compared with the current one.
    async fn complete_upload(&self, upload: &Upload, parts: &[Part], guard: &Guard, place: &InPlace)
    -> Result<Written>;

    /// AbortMultipartUpload. An upload that is not there any more is no error.
    async fn abort_upload(&self, upload: &Upload) -> Result<()>;

    /// Open uploads of keys with a prefix, all pages.
    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>>;

    /// DeleteObject: of exactly that version where one is named. An object that is not there is no error.
    async fn delete(&self, at: &ObjectAt) -> Result<()>;

    /// What the bucket's configuration says. What the store does not answer, or does not let us see, is `None`.
    async fn bucket(&self, bucket: &str) -> Result<BucketFacts>;

    /// ListBuckets: names of all buckets that the caller may see, sorted.
    async fn buckets(&self) -> Result<Vec<String>>;

    /// What the store does about writes into the bucket.
    async fn reactions(&self, bucket: &str) -> Result<Reactions>;
}
