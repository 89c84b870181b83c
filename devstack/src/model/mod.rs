//! The store model: an S3 store as a library behind [`Store`], without sockets and without a clock of its own.
//!
//! It really encrypts: every object has a random key of its own, sealed under a data key of the KMS, and lies there
//! as AES-GCM ciphertext, so that with the KMS key gone the body is gone. Which store it plays, right and wrong, is a
//! [`Mode`] of switches.

mod admin;
mod blob;
pub mod bucket;
mod checksum;
mod copy;
mod crypto;
mod errors;
pub mod faults;
mod inner;
mod journal;
mod listing;
pub mod mode;
mod multipart;
mod object;
mod read;
mod seal;
mod state;
pub mod synthetic;
#[cfg(test)]
mod tests;
mod update;
mod write;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::capability::Versioning;
use keyrotate_store::{
    Acl, Body, BucketFacts, CopyRequest, GetRequest, Guard, HeadRequest, InPlace, ListPage, ListRequest, Lock,
    NewObject, Object, ObjectAt, Part, PartCopyRequest, PutRequest, Reactions, Result, Sse, Store, StoreIdentity, Tags,
    Upload, Written,
};

pub use bucket::BucketSettings;
pub use faults::{Action, Call, Faults, Faulty, Rule};
use inner::Inner;
pub use mode::{KeyIds, KeyRules, Mode};
pub use synthetic::SyntheticKeys;

/// An S3 store in memory, or in a folder. Cheap to clone; clones are the same store.
#[derive(Clone, Debug)]
pub struct StoreModel {
    inner: Arc<Inner>,
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
        let name = mode.name;
        Self { inner: Arc::new(Inner::new(mode, kms, env, None, name)) }
    }

    /// A store in a folder: what it acknowledged is there again after the process was killed. One process at a time.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn open(dir: &Path, mode: Mode, kms: Arc<dyn Kms>, env: Env) -> std::result::Result<Self, OpenError> {
        Self::open_with(dir, mode, kms, env, false)
    }

    /// As [`StoreModel::open`], but every answer waits until the journal is on the disk: what was acknowledged
    /// survives a loss of power, too.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn open_synced(dir: &Path, mode: Mode, kms: Arc<dyn Kms>, env: Env) -> std::result::Result<Self, OpenError> {
        Self::open_with(dir, mode, kms, env, true)
    }

    fn open_with(
        dir: &Path,
        mode: Mode,
        kms: Arc<dyn Kms>,
        env: Env,
        sync: bool,
    ) -> std::result::Result<Self, OpenError> {
        let opened = inner::open(dir, sync)?;
        let name = format!("{}:{}", mode.name, dir.display());
        Ok(Self { inner: Arc::new(Inner::new(mode, kms, env, Some(opened), &name)) })
    }

    /// Which store it plays.
    #[must_use]
    pub fn mode(&self) -> &Mode {
        &self.inner.mode
    }

    /// How often each operation was called.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.inner.calls()
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// When there is one of that name, or the settings contradict each other.
    pub fn create_bucket(&self, name: &str, settings: BucketSettings) -> Result<()> {
        self.inner.create_bucket(name, settings, None)
    }

    /// Makes a bucket whose objects are computed; a write to one makes it an ordinary object.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn create_synthetic_bucket(&self, name: &str, settings: BucketSettings, keys: SyntheticKeys) -> Result<()> {
        let sse = match keys.sse {
            Sse::Kms { key, context, bucket_key } => {
                let key = key.map(|key| self.inner.mode.show_key(&key.0));
                Sse::Kms { key, context, bucket_key }
            }
            other => other,
        };
        self.inner.create_bucket(name, settings, Some(SyntheticKeys { sse, ..keys }))
    }

    /// Names of all buckets.
    #[must_use]
    pub fn buckets(&self) -> Vec<String> {
        self.inner.lock().state.buckets.keys().cloned().collect()
    }

    /// How a bucket is configured.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub fn settings(&self, bucket: &str) -> Result<BucketSettings> {
        Ok(self.inner.lock().bucket("HeadBucket", bucket)?.settings.clone())
    }

    /// Replaces a bucket's configuration.
    ///
    /// # Errors
    /// When there is no such bucket, the settings contradict each other, or versioning would go back to off.
    pub fn configure(&self, bucket: &str, settings: BucketSettings) -> Result<()> {
        self.inner.configure("PutBucketConfiguration", bucket, settings)
    }

    /// Turns versioning on or suspends it.
    ///
    /// # Errors
    /// When there is no such bucket, or versioning would go back to off.
    pub fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<()> {
        let settings = self.settings(bucket)?;
        self.inner.configure("PutBucketVersioning", bucket, BucketSettings { versioning, ..settings })
    }

    /// Removes an empty bucket.
    ///
    /// # Errors
    /// When it is not there, or not empty.
    pub fn delete_bucket(&self, bucket: &str) -> Result<()> {
        self.inner.delete_bucket(bucket)
    }

    /// Replaces the tags of an object version; the ETag stays.
    ///
    /// # Errors
    /// When the object is not there.
    pub fn put_tags(&self, at: &ObjectAt, tags: Tags) -> Result<()> {
        self.inner.put_tags(at, tags)
    }

    /// Lets somebody read an object version by its ACL; the ETag stays.
    ///
    /// # Errors
    /// When the object is not there.
    pub fn let_read(&self, at: &ObjectAt, reader: &str) -> Result<()> {
        self.inner.let_read(at, reader)
    }

    /// Makes an object version what replication brought from another bucket.
    ///
    /// # Errors
    /// When the object is not there.
    pub fn mark_replica(&self, at: &ObjectAt) -> Result<()> {
        self.inner.mark_replica(at)
    }

    /// Replaces retention and legal hold of an object version; the ETag stays.
    ///
    /// # Errors
    /// When the object is not there, the bucket has no object lock, or a COMPLIANCE retention would be shortened.
    pub fn put_lock(&self, at: &ObjectAt, lock: Lock) -> Result<()> {
        self.inner.put_lock(at, lock)
    }

    /// DeleteObject, telling what became of it.
    ///
    /// # Errors
    /// When a lock holds the version.
    pub fn delete_object(&self, at: &ObjectAt) -> Result<Deleted> {
        self.inner.delete_object(at)
    }

    /// Makes a plaintext object, also where the store would encrypt every write (AWS has such objects of old).
    ///
    /// # Errors
    /// When the bucket is not there or the key is refused.
    pub async fn seed_plaintext(&self, at: &ObjectAt, new: NewObject, body: impl Into<Body> + Send) -> Result<Written> {
        self.inner.seed(at, NewObject { sse: Sse::None, ..new }, body.into()).await
    }

    /// Makes an object that only its owner's key opens: every access is refused with 400.
    ///
    /// # Errors
    /// When the bucket is not there or the key is refused.
    pub async fn seed_sse_c(&self, at: &ObjectAt, new: NewObject, body: impl Into<Body> + Send) -> Result<Written> {
        self.inner.seed(at, NewObject { sse: Sse::Customer, ..new }, body.into()).await
    }

    /// Makes an object in two layers under a KMS key, on stores too that do not offer it.
    ///
    /// # Errors
    /// When the bucket is not there, the key is refused, or the KMS does not know its key.
    pub async fn seed_dsse(
        &self,
        at: &ObjectAt,
        key: &str,
        new: NewObject,
        body: impl Into<Body> + Send,
    ) -> Result<Written> {
        let key = Some(keyrotate_proto::key::KeyName(key.to_owned()));
        self.inner.seed(at, NewObject { sse: Sse::DualLayer { key }, ..new }, body.into()).await
    }

    /// Ids of all versions and delete markers of a key, newest first.
    #[must_use]
    pub fn raw_version_ids(&self, bucket: &str, key: &str) -> Vec<String> {
        let core = self.inner.lock();
        let versions = core.state.buckets.get(bucket).map(|bucket| bucket.versions(key)).unwrap_or_default();
        versions.iter().map(|version| version.id.clone()).collect()
    }
}

#[async_trait]
impl Store for StoreModel {
    fn identity(&self) -> &StoreIdentity {
        &self.inner.identity
    }

    async fn buckets(&self) -> Result<Vec<String>> {
        Ok(StoreModel::buckets(self))
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.inner.list_page(&request)
    }

    async fn head(&self, request: HeadRequest) -> Result<Object> {
        self.inner.head_object(&request)
    }

    async fn get(&self, request: GetRequest) -> Result<(Object, Body)> {
        self.inner.get_object(request).await
    }

    async fn tags(&self, at: &ObjectAt) -> Result<Tags> {
        self.inner.object_tags(at)
    }

    async fn acl(&self, at: &ObjectAt) -> Result<Acl> {
        self.inner.object_acl(at)
    }

    async fn put(&self, request: PutRequest, body: Body) -> Result<Written> {
        self.inner.put_object(request, body).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Written> {
        self.inner.copy_object(request).await
    }

    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        self.inner.update_encryption(at, key, bucket_key).await
    }

    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, _place: &InPlace) -> Result<String> {
        self.inner.create_upload(at, new).await
    }

    async fn upload_part_copy(&self, request: PartCopyRequest) -> Result<Part> {
        self.inner.copy_part(request).await
    }

    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, _: Option<&str>) -> Result<Part> {
        self.inner.upload_part(upload, number, body).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.inner.list_parts(upload)
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        self.inner.complete_upload(upload, parts, guard, place).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.inner.abort_upload(upload)
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        self.inner.list_uploads(bucket, prefix)
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        self.delete_object(at).map(|_| ())
    }

    async fn bucket(&self, bucket: &str) -> Result<BucketFacts> {
        self.inner.bucket_facts(bucket)
    }

    async fn reactions(&self, bucket: &str) -> Result<Reactions> {
        let BucketSettings { lifecycle, replication, events, .. } = self.settings(bucket)?;
        let (lifecycle, replication, events) = (Some(lifecycle), Some(replication), Some(events));
        Ok(Reactions { lifecycle, replication, events, server: None })
    }
}
