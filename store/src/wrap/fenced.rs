//! A store that begins no write which could land after the lease that it is made under.
//!
//! It stands below [`crate::retry`], so that every try is asked anew, and above the real client. A write begins only
//! while enough of the lease is left; it is given up when the lease ends before the answer is there, unless the lease
//! was made longer meanwhile; and it is signed with the time at which it was asked whether it may begin. A process
//! that is frozen in the middle, and goes on when the lease is somebody else's, therefore sends nothing more: what it
//! was about to send is given up at its next step, and what lay ready on its way out is as old as its signature, which
//! the store refuses after 15 minutes.
//!
//! What the store itself has begun is bound by nothing of ours: it ends a copy whether or not we wait for it. Such a
//! copy began while the lease stood, and its condition on what was read refuses it where somebody else wrote since.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyrotate_env::Env;
use tokio::sync::Notify;

use crate::{
    Acl, Body, BucketFacts, CopyRequest, ErrorKind, GetRequest, Guard, HeadRequest, InPlace, ListPage, ListRequest,
    NewObject, Object, ObjectAt, Part, PartCopyRequest, PutRequest, Reactions, Result, Store, StoreError,
    StoreIdentity, Tags, Upload, Written,
};

tokio::task_local! {
    static LEASE: Deadline;
    static ASKED_AT: Timestamp;
}

/// The moment, on the clock that goes on during a suspend, at which a lease ends for its holder. It is counted from before the lease
/// or renewal was asked for, so it is never later than the checkpoint's own idea of it. Clones share it.
#[derive(Clone, Debug)]
pub struct Deadline {
    env: Env,
    end: Arc<AtomicU64>,
    /// Writes are over by then, however long the lease is.
    latest: Arc<AtomicU64>,
    /// Tells those who wait that it came nearer.
    nearer: Arc<Notify>,
    /// So long before the end no write begins any more, in milliseconds: a call may last that long.
    margin: u64,
    refused: Arc<AtomicBool>,
}

impl Deadline {
    /// A lease of `length` that ends at `end` of [`Env::boottime`]. No write begins in its last quarter.
    #[must_use]
    pub fn new(env: Env, end: Duration, length: Duration) -> Self {
        let [end, latest] = [millis(end), u64::MAX].map(|time| Arc::new(AtomicU64::new(time)));
        let (nearer, refused) = Default::default();
        Self { env, end, latest, nearer, margin: millis(length / 4), refused }
    }

    /// The lease was renewed and now ends at `end`.
    pub fn extend(&self, end: Duration) {
        self.end.fetch_max(millis(end), Ordering::Relaxed);
    }

    /// The process ends, or something else that the writes need: as if the lease could not be made longer than for this
    /// `time` from now.
    pub fn end_within(&self, time: Duration) {
        self.latest.fetch_min(millis(self.env.boottime() + time), Ordering::Relaxed);
        self.nearer.notify_waiters();
    }

    /// Does `work`. No write to a [`Fenced`] store in it begins, or goes on, that could land after the lease. Tasks
    /// that it spawns are not part of it.
    pub async fn bounds<T>(&self, work: impl Future<Output = T>) -> T {
        LEASE.scope(self.clone(), work).await
    }

    /// Whether a write was refused or given up because of it: then what was found out by trying is worth nothing.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether a write may still begin.
    fn lets_begin(&self) -> bool {
        self.left() > self.margin
    }

    /// How long a write that has begun may still wait for its answer, in milliseconds. What is on its way when it is
    /// given up has an eighth of the margin to arrive.
    fn lets_wait(&self) -> u64 {
        self.left().saturating_sub(self.margin / 8)
    }

    fn left(&self) -> u64 {
        let end = self.end.load(Ordering::Relaxed).min(self.latest.load(Ordering::Relaxed));
        end.saturating_sub(millis(self.env.boottime()))
    }

    fn refusal(&self, operation: &'static str, what: &str) -> StoreError {
        self.refused.store(true, Ordering::Relaxed);
        StoreError::new(operation, ErrorKind::LeaseOver, what)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The time that the request being made is to be signed with, where that is not the present.
pub(crate) fn signed_at() -> Option<Timestamp> {
    ASKED_AT.try_with(|asked| *asked).ok()
}

/// Lets writes through to the store inside only while the lease lasts that they are made under ([`Deadline::bounds`]);
/// writes outside of any lease, and all reads, as they are.
#[derive(Debug)]
pub struct Fenced<S>(S);

impl<S> Fenced<S> {
    /// A fence before `inner`.
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

/// Sends a write under the lease of this task.
async fn write<T>(operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
    let Ok(lease) = LEASE.try_with(Clone::clone) else { return call.await };
    if !lease.lets_begin() {
        return Err(lease.refusal(operation, "not sent: the lease that it is made under is nearly over"));
    }
    let mut call = pin!(ASKED_AT.scope(lease.env.now(), call));
    loop {
        let nearer = lease.nearer.notified();
        let wait = Duration::from_millis(lease.lets_wait());
        // Asked at each step, for the runtime's timers know nothing of a suspend.
        let step = poll_fn(|context| match lease.lets_wait() {
            0 => Poll::Ready(Err(lease.refusal(operation, "given up: the lease that it was made under is over"))),
            _ => call.as_mut().poll(context),
        });
        tokio::select! {
            biased;
            ended = step => return ended,
            () = nearer => {}
            // It may have been made longer when the time is up.
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[async_trait]
impl<S: Store> Store for Fenced<S> {
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

    async fn put(&self, request: PutRequest, body: Body) -> Result<Written> {
        write("PutObject", self.0.put(request, body)).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Written> {
        write("CopyObject", self.0.copy(request)).await
    }

    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        write("UpdateObjectEncryption", self.0.update_encryption(at, key, bucket_key)).await
    }

    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String> {
        write("CreateMultipartUpload", self.0.create_upload(at, new, place)).await
    }

    async fn upload_part_copy(&self, request: PartCopyRequest) -> Result<Part> {
        write("UploadPartCopy", self.0.upload_part_copy(request)).await
    }

    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, checksum: Option<&str>) -> Result<Part> {
        write("UploadPart", self.0.upload_part(upload, number, body, checksum)).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.0.parts(upload).await
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        write("CompleteMultipartUpload", self.0.complete_upload(upload, parts, guard, place)).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        write("AbortMultipartUpload", self.0.abort_upload(upload)).await
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        self.0.uploads(bucket, prefix).await
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        write("DeleteObject", self.0.delete(at)).await
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

#[cfg(test)]
mod tests;
