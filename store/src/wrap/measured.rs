//! A store that tells how long its calls take and what they end with: in metrics, and in spans where somebody wants to
//! know. Inside a retrying store it tells of each try.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use keyrotate_telemetry::metrics::{Counter, Gauge, Histogram};
use keyrotate_telemetry::names::STORE_ERROR_KINDS;
use keyrotate_telemetry::{Instrument as _, metrics, spans};
use tokio::time::Instant;

use super::counting::{OPERATIONS, Operation};
use crate::{
    Acl, Body, BucketFacts, CopyRequest, ErrorKind, GetRequest, Guard, HeadRequest, InPlace, ListPage, ListRequest,
    NewObject, Object, ObjectAt, Part, PartCopyRequest, PutRequest, Reactions, Result, Store, StoreIdentity, Tags,
    Upload, Written,
};

/// Measures the calls that pass to the store inside.
#[derive(Debug)]
pub struct Measured<S> {
    inner: S,
    name: String,
    /// For each operation: those that went well, the others.
    calls: [[Histogram; 2]; OPERATIONS.len()],
    errors: Vec<Counter>,
    connected: Gauge,
    /// 0: nobody knows; 1: it could not be reached; 2: it answered. The gauge is set where that changes.
    answered: AtomicU8,
}

impl<S> Measured<S> {
    /// The store of that name in the configuration; `reports` where the reports lie.
    pub fn new(name: &str, inner: S) -> Self {
        let calls = |operation: Operation| {
            ["ok", "error"].map(|result| metrics().store_call.with(&[name, operation.word(), result]))
        };
        Self {
            calls: OPERATIONS.map(calls),
            errors: STORE_ERROR_KINDS.iter().map(|kind| metrics().store_errors.with(&[name, kind])).collect(),
            connected: metrics().store_connected.with(&[name]),
            answered: AtomicU8::new(0),
            name: name.to_owned(),
            inner,
        }
    }

    async fn measure<T>(&self, operation: Operation, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let span = spans::store_call(&self.name, operation.word());
        let began = Instant::now();
        let ended = call.instrument(span.clone()).await;
        let took = began.elapsed().as_secs_f64();
        self.calls[operation as usize][usize::from(ended.is_err())].observe(took);
        let kind = ended.as_ref().err().map(|error| error.kind);
        if let Some(kind) = kind {
            spans::failed(&span, kind.word());
            let index = STORE_ERROR_KINDS.iter().position(|word| *word == kind.word());
            if let Some(counter) = index.and_then(|index| self.errors.get(index)) {
                counter.inc();
            }
        }
        self.answers(!matches!(kind, Some(ErrorKind::Unreachable | ErrorKind::Untrusted | ErrorKind::Timeout)));
        ended
    }

    fn answers(&self, yes: bool) {
        let now = if yes { 2 } else { 1 };
        if self.answered.load(Ordering::Relaxed) != now {
            self.answered.store(now, Ordering::Relaxed);
            self.connected.set(i64::from(yes));
        }
    }
}

#[async_trait]
impl<S: Store> Store for Measured<S> {
    fn identity(&self) -> &StoreIdentity {
        self.inner.identity()
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.measure(Operation::List, self.inner.list(request)).await
    }

    async fn head(&self, request: HeadRequest) -> Result<Object> {
        self.measure(Operation::Head, self.inner.head(request)).await
    }

    async fn get(&self, request: GetRequest) -> Result<(Object, Body)> {
        self.measure(Operation::Get, self.inner.get(request)).await
    }

    async fn tags(&self, at: &ObjectAt) -> Result<Tags> {
        self.measure(Operation::Tags, self.inner.tags(at)).await
    }

    async fn acl(&self, at: &ObjectAt) -> Result<Acl> {
        self.measure(Operation::Acl, self.inner.acl(at)).await
    }

    async fn put(&self, request: PutRequest, body: Body) -> Result<Written> {
        self.measure(Operation::Put, self.inner.put(request, body)).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Written> {
        self.measure(Operation::Copy, self.inner.copy(request)).await
    }

    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        self.measure(Operation::UpdateEncryption, self.inner.update_encryption(at, key, bucket_key)).await
    }

    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String> {
        self.measure(Operation::CreateUpload, self.inner.create_upload(at, new, place)).await
    }

    async fn upload_part_copy(&self, request: PartCopyRequest) -> Result<Part> {
        self.measure(Operation::UploadPartCopy, self.inner.upload_part_copy(request)).await
    }

    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, checksum: Option<&str>) -> Result<Part> {
        self.measure(Operation::UploadPart, self.inner.upload_part(upload, number, body, checksum)).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.measure(Operation::Parts, self.inner.parts(upload)).await
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        self.measure(Operation::CompleteUpload, self.inner.complete_upload(upload, parts, guard, place)).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.measure(Operation::AbortUpload, self.inner.abort_upload(upload)).await
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        self.measure(Operation::Uploads, self.inner.uploads(bucket, prefix)).await
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        self.measure(Operation::Delete, self.inner.delete(at)).await
    }

    async fn bucket(&self, bucket: &str) -> Result<BucketFacts> {
        self.measure(Operation::Bucket, self.inner.bucket(bucket)).await
    }

    async fn buckets(&self) -> Result<Vec<String>> {
        self.measure(Operation::Bucket, self.inner.buckets()).await
    }

    async fn reactions(&self, bucket: &str) -> Result<Reactions> {
        self.measure(Operation::Bucket, self.inner.reactions(bucket)).await
    }
}
