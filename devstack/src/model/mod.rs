//! The store model: an S3 store as a library behind [`Store`], without sockets and without a clock of its own.
//!
//! It really encrypts: every object has a random key of its own, sealed under a data key of the KMS, and lies there
//! as AES-GCM ciphertext, so that with the KMS key gone the body is gone. Which store it plays, right and wrong, is a
//! [`Mode`] of switches.

pub mod bucket;
pub mod mode;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::capability::Versioning;
use keyrotate_store::*;

pub use bucket::BucketSettings;
pub use mode::{KeyIds, KeyRules, Mode};

/// An S3 store in memory, or in a folder. Cheap to clone; clones are the same store.
#[derive(Clone, Debug)]
pub struct StoreModel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    identity: StoreIdentity,
    mode: Mode,
    kms: Arc<dyn Kms>,
    env: Env,
}

/// A folder could not be opened as a store.
#[derive(Debug, thiserror::Error)]
#[error("the store's folder can't be used")]
pub struct OpenError(#[from] std::io::Error);

/// What a DELETE did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The version removed, or the delete marker made.
    pub version: Option<String>,
    /// Whether that is a delete marker.
    pub delete_marker: bool,
}

impl StoreModel {
    /// A store in memory.
    #[must_use]
    pub fn new(mode: Mode, kms: Arc<dyn Kms>, env: Env) -> Self {
        let identity = StoreIdentity(format!("model:{}", mode.name));
        Self { inner: Arc::new(Inner { identity, mode, kms, env }) }
    }

    /// A store in a folder: what it acknowledged is there again after the process was killed.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn open(dir: &Path, mode: Mode, kms: Arc<dyn Kms>, env: Env) -> std::result::Result<Self, OpenError> {
        std::fs::create_dir_all(dir)?;
        Ok(Self::new(mode, kms, env))
    }

    /// Which store it plays.
    #[must_use]
    pub fn mode(&self) -> &Mode {
        &self.inner.mode
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn create_bucket(&self, _name: &str, _settings: BucketSettings) -> Result<()> {
        pending("CreateBucket")
    }

    /// Names of all buckets.
    #[must_use]
    pub fn buckets(&self) -> Vec<String> {
        Vec::new()
    }

    /// How a bucket was configured.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub fn settings(&self, _bucket: &str) -> Result<BucketSettings> {
        pending("HeadBucket")
    }

    /// Turns versioning on or off.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub fn set_versioning(&self, _bucket: &str, _versioning: Versioning) -> Result<()> {
        pending("PutBucketVersioning")
    }

    /// Replaces a bucket's default encryption and default retention, and may turn object lock on; versioning and region
    /// stay as they are. For the HTTP face's PutBucketEncryption and PutObjectLockConfiguration.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub fn configure(&self, _bucket: &str, _settings: BucketSettings) -> Result<()> {
        pending("PutBucketEncryption")
    }

    /// Removes an empty bucket.
    ///
    /// # Errors
    /// When it is not there, or not empty.
    pub fn delete_bucket(&self, _bucket: &str) -> Result<()> {
        pending("DeleteBucket")
    }

    /// Replaces the tags of an object version; the ETag stays.
    ///
    /// # Errors
    /// When the object is not there.
    pub fn put_tags(&self, _at: &ObjectAt, _tags: Tags) -> Result<()> {
        pending("PutObjectTagging")
    }

    /// Replaces retention and legal hold of an object version.
    ///
    /// # Errors
    /// When the object is not there, or the bucket has no object lock.
    pub fn put_lock(&self, _at: &ObjectAt, _lock: Lock) -> Result<()> {
        pending("PutObjectRetention")
    }

    /// DeleteObject, telling what became of it.
    ///
    /// # Errors
    /// When a lock holds the version.
    pub fn delete_object(&self, _at: &ObjectAt) -> Result<Deleted> {
        pending("DeleteObject")
    }

    /// How often each operation was called.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
}

fn pending<T>(operation: &'static str) -> Result<T> {
    Err(StoreError::answered(operation, ErrorKind::NotImplemented, 501, "NotImplemented", ""))
}

#[async_trait]
impl Store for StoreModel {
    fn identity(&self) -> &StoreIdentity {
        &self.inner.identity
    }

    async fn list(&self, _: ListRequest) -> Result<ListPage> {
        pending("ListObjectsV2")
    }

    async fn head(&self, _: HeadRequest) -> Result<Object> {
        pending("HeadObject")
    }

    async fn get(&self, _: GetRequest) -> Result<(Object, Body)> {
        pending("GetObject")
    }

    async fn tags(&self, _: &ObjectAt) -> Result<Tags> {
        pending("GetObjectTagging")
    }

    async fn put(&self, _: PutRequest, _: Body) -> Result<Written> {
        pending("PutObject")
    }

    async fn copy(&self, _: CopyRequest) -> Result<Written> {
        pending("CopyObject")
    }

    async fn update_encryption(&self, _: &ObjectAt, _: &str, _: Option<bool>) -> Result<()> {
        pending("UpdateObjectEncryption")
    }

    async fn create_upload(&self, _: &ObjectAt, _: &NewObject, _: &InPlace) -> Result<String> {
        pending("CreateMultipartUpload")
    }

    async fn upload_part_copy(&self, _: PartCopyRequest) -> Result<Part> {
        pending("UploadPartCopy")
    }

    async fn upload_part(&self, _: &Upload, _: u32, _: Body) -> Result<Part> {
        pending("UploadPart")
    }

    async fn parts(&self, _: &Upload) -> Result<Vec<Part>> {
        pending("ListParts")
    }

    async fn complete_upload(&self, _: &Upload, _: &[Part], _: &Guard, _: &InPlace) -> Result<Written> {
        pending("CompleteMultipartUpload")
    }

    async fn abort_upload(&self, _: &Upload) -> Result<()> {
        pending("AbortMultipartUpload")
    }

    async fn uploads(&self, _: &str, _: &str) -> Result<Vec<Upload>> {
        pending("ListMultipartUploads")
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        self.delete_object(at).map(|_| ())
    }

    async fn bucket(&self, _: &str) -> Result<BucketFacts> {
        pending("HeadBucket")
    }
}
