//! A store that counts the calls that pass through it, by operation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use keyrotate_telemetry::names::STORE_OPERATIONS;

use crate::{
    Acl, Body, BucketFacts, CopyRequest, GetRequest, Guard, HeadRequest, InPlace, ListPage, ListRequest, NewObject,
    Object, ObjectAt, Part, PartCopyRequest, PutRequest, Reactions, Result, Store, StoreIdentity, Tags, Upload,
    Written,
};

/// One method of [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`Store::list`].
    List,
    /// [`Store::head`].
    Head,
    /// [`Store::get`].
    Get,
    /// [`Store::tags`].
    Tags,
    /// [`Store::acl`].
    Acl,
    /// [`Store::put`].
    Put,
    /// [`Store::copy`].
    Copy,
    /// [`Store::update_encryption`].
    UpdateEncryption,
    /// [`Store::create_upload`].
    CreateUpload,
    /// [`Store::upload_part_copy`].
    UploadPartCopy,
    /// [`Store::upload_part`].
    UploadPart,
    /// [`Store::parts`].
    Parts,
    /// [`Store::complete_upload`].
    CompleteUpload,
    /// [`Store::abort_upload`].
    AbortUpload,
    /// [`Store::uploads`].
    Uploads,
    /// [`Store::delete`].
    Delete,
    /// [`Store::bucket`].
    Bucket,
}

pub(super) const OPERATIONS: [Operation; 17] = [
    Operation::List,
    Operation::Head,
    Operation::Get,
    Operation::Tags,
    Operation::Acl,
    Operation::Put,
    Operation::Copy,
    Operation::UpdateEncryption,
    Operation::CreateUpload,
    Operation::UploadPartCopy,
    Operation::UploadPart,
    Operation::Parts,
    Operation::CompleteUpload,
    Operation::AbortUpload,
    Operation::Uploads,
    Operation::Delete,
    Operation::Bucket,
];

impl Operation {
    /// Its word in metrics and spans.
    #[must_use]
    pub fn word(self) -> &'static str {
        // In the same order; a test compares them.
        STORE_OPERATIONS[self as usize]
    }
}

/// Calls counted so far. Clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<[AtomicU64; OPERATIONS.len()]>);

impl Calls {
    /// How many calls of one kind there were, whatever they ended with.
    #[must_use]
    pub fn of(&self, operation: Operation) -> u64 {
        self.0[operation as usize].load(Ordering::Relaxed)
    }

    /// How many calls there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        OPERATIONS.iter().map(|operation| self.of(*operation)).sum()
    }

    /// Counts by operation, without those that never happened.
    #[must_use]
    pub fn by_operation(&self) -> BTreeMap<Operation, u64> {
        OPERATIONS.into_iter().map(|operation| (operation, self.of(operation))).filter(|(_, n)| *n > 0).collect()
    }

    fn add(&self, operation: Operation) {
        self.0[operation as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts the calls that pass to the store inside. Put it inside a retrying store to count what is really sent, outside
/// to count what was asked for.
#[derive(Debug)]
pub struct Counting<S> {
    inner: S,
    calls: Calls,
}

impl<S> Counting<S> {
    /// Counts from zero.
    pub fn new(inner: S) -> Self {
        Self { inner, calls: Calls::default() }
    }

    /// The counts, which go on counting.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }
}

#[async_trait]
impl<S: Store> Store for Counting<S> {
    fn identity(&self) -> &StoreIdentity {
        self.inner.identity()
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.calls.add(Operation::List);
        self.inner.list(request).await
    }

    async fn head(&self, request: HeadRequest) -> Result<Object> {
        self.calls.add(Operation::Head);
        self.inner.head(request).await
    }

    async fn get(&self, request: GetRequest) -> Result<(Object, Body)> {
        self.calls.add(Operation::Get);
        self.inner.get(request).await
    }

    async fn tags(&self, at: &ObjectAt) -> Result<Tags> {
        self.calls.add(Operation::Tags);
        self.inner.tags(at).await
    }

    async fn acl(&self, at: &ObjectAt) -> Result<Acl> {
        self.calls.add(Operation::Acl);
        self.inner.acl(at).await
    }

    async fn put(&self, request: PutRequest, body: Body) -> Result<Written> {
        self.calls.add(Operation::Put);
        self.inner.put(request, body).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Written> {
        self.calls.add(Operation::Copy);
        self.inner.copy(request).await
    }

    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        self.calls.add(Operation::UpdateEncryption);
        self.inner.update_encryption(at, key, bucket_key).await
    }

    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String> {
        self.calls.add(Operation::CreateUpload);
        self.inner.create_upload(at, new, place).await
    }

    async fn upload_part_copy(&self, request: PartCopyRequest) -> Result<Part> {
        self.calls.add(Operation::UploadPartCopy);
        self.inner.upload_part_copy(request).await
    }

    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, checksum: Option<&str>) -> Result<Part> {
        self.calls.add(Operation::UploadPart);
        self.inner.upload_part(upload, number, body, checksum).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.calls.add(Operation::Parts);
        self.inner.parts(upload).await
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        self.calls.add(Operation::CompleteUpload);
        self.inner.complete_upload(upload, parts, guard, place).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.calls.add(Operation::AbortUpload);
        self.inner.abort_upload(upload).await
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        self.calls.add(Operation::Uploads);
        self.inner.uploads(bucket, prefix).await
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        self.calls.add(Operation::Delete);
        self.inner.delete(at).await
    }

    async fn bucket(&self, bucket: &str) -> Result<BucketFacts> {
        self.calls.add(Operation::Bucket);
        self.inner.bucket(bucket).await
    }

    async fn buckets(&self) -> Result<Vec<String>> {
        self.calls.add(Operation::Bucket);
        self.inner.buckets().await
    }

    async fn reactions(&self, bucket: &str) -> Result<Reactions> {
        self.calls.add(Operation::Bucket);
        self.inner.reactions(bucket).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_own_count() {
        let calls = Calls::default();
        for (n, operation) in OPERATIONS.into_iter().enumerate() {
            assert_eq!(operation as usize, n, "{operation:?} stands at another place than its number");
            for _ in 0..=n {
                calls.add(operation);
            }
        }
        for (n, operation) in OPERATIONS.into_iter().enumerate() {
            assert_eq!(calls.of(operation), n as u64 + 1);
        }
        assert_eq!(calls.total(), (1..=17).sum::<u64>());
        assert_eq!(calls.by_operation().len(), 17);
        assert!(Calls::default().by_operation().is_empty());
    }

    #[test]
    fn every_operation_has_its_own_word() {
        assert_eq!(OPERATIONS.len(), STORE_OPERATIONS.len());
        for operation in OPERATIONS {
            let plain = operation.word().replace('-', "");
            assert_eq!(plain, format!("{operation:?}").to_lowercase());
        }
    }
}
