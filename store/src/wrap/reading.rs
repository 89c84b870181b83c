//! A store that can only be read: whoever holds it can't write, whatever they call.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Acl, Body, BucketFacts, CopyRequest, ErrorKind, GetRequest, Guard, HeadRequest, InPlace, ListPage, ListRequest,
    NewObject, Object, ObjectAt, Part, PartCopyRequest, PutRequest, Reactions, Result, Store, StoreError,
    StoreIdentity, Tags, Upload, Written,
};

/// Passes on what reads, and refuses what writes: nothing of it is sent.
#[derive(Clone, Debug)]
pub struct Reading(Arc<dyn Store>);

impl Reading {
    /// The same store, to be read.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }
}

fn refused<T>(operation: &'static str) -> Result<T> {
    Err(StoreError::new(operation, ErrorKind::Refused, "this is a dry run: nothing is written"))
}

#[async_trait]
impl Store for Reading {
    fn identity(&self) -> &StoreIdentity {
        self.0.identity()
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.0.list(request).await
    }

    async fn head(&self, request: HeadRequest) -> Result<Object> {
        self.0.head(request).await
    }

    async fn get(&self, request: GetRequest) -> Result<(Object, Body)> {
        self.0.get(request).await
    }

    async fn tags(&self, at: &ObjectAt) -> Result<Tags> {
        self.0.tags(at).await
    }

    async fn acl(&self, at: &ObjectAt) -> Result<Acl> {
        self.0.acl(at).await
    }

    async fn put(&self, _: PutRequest, _: Body) -> Result<Written> {
        refused("PutObject")
    }

    async fn copy(&self, _: CopyRequest) -> Result<Written> {
        refused("CopyObject")
    }

    async fn update_encryption(&self, _: &ObjectAt, _: &str, _: Option<bool>) -> Result<()> {
        refused("UpdateObjectEncryption")
    }

    async fn create_upload(&self, _: &ObjectAt, _: &NewObject, _: &InPlace) -> Result<String> {
        refused("CreateMultipartUpload")
    }

    async fn upload_part_copy(&self, _: PartCopyRequest) -> Result<Part> {
        refused("UploadPartCopy")
    }

    async fn upload_part(&self, _: &Upload, _: u32, _: Body, _: Option<&str>) -> Result<Part> {
        refused("UploadPart")
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.0.parts(upload).await
    }

    async fn complete_upload(&self, _: &Upload, _: &[Part], _: &Guard, _: &InPlace) -> Result<Written> {
        refused("CompleteMultipartUpload")
    }

    async fn abort_upload(&self, _: &Upload) -> Result<()> {
        refused("AbortMultipartUpload")
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        self.0.uploads(bucket, prefix).await
    }

    async fn delete(&self, _: &ObjectAt) -> Result<()> {
        refused("DeleteObject")
    }

    async fn bucket(&self, bucket: &str) -> Result<BucketFacts> {
        self.0.bucket(bucket).await
    }

    async fn buckets(&self) -> Result<Vec<String>> {
        self.0.buckets().await
    }

    async fn reactions(&self, bucket: &str) -> Result<Reactions> {
        self.0.reactions(bucket).await
    }
}
