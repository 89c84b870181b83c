//! What lies between a process and everything outside it. A call is on its way for a while, and takes effect whatever
//! becomes of who sent it; answers may be lost; a frozen process sends and hears nothing until it wakes, and then sends
//! what it was about to; a dead one never does.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keyrotate_checkpoint::MemoryBackend;
use keyrotate_checkpoint::backend::{Backend, BackendError, Bell, Listed, RecordKey, Snapshot, Swap, SwapAnswer};
use keyrotate_devstack::model::StoreModel;
use keyrotate_proto::ticket::Ticket;
use keyrotate_queue::{Consumer, Delivery, MemoryQueue, Queue, QueueError, Route, Settle, Verdict};
use keyrotate_store::{
    Acl, Body, BucketFacts, CopyRequest, ErrorKind, GetRequest, Guard, HeadRequest, InPlace, ListPage, ListRequest,
    NewObject, Object, ObjectAt, Part, PartCopyRequest, PutRequest, Reactions, Result, Store, StoreError,
    StoreIdentity, Tags, Upload, Written,
};
use tokio::sync::Notify;

use crate::dice::Dice;
use crate::oracle::Watch;

/// Everything that happened in a simulation, in its order, where somebody wants to know.
#[derive(Debug)]
pub(crate) struct Trace(Option<Mutex<Vec<String>>>);

impl Trace {
    pub(crate) fn new(tells: bool) -> Self {
        Self(tells.then(Mutex::default))
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(told) = &self.0 {
            told.lock().unwrap_or_else(PoisonError::into_inner).push(what());
        }
    }

    pub(crate) fn told(&self) -> Vec<String> {
        let told = self.0.as_ref().map(|told| told.lock().unwrap_or_else(PoisonError::into_inner).clone());
        told.unwrap_or_default()
    }
}

/// How bad the wires are, for all processes.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// Calls of a thousand that never arrive, and as many answers that are lost.
    pub(crate) losses: AtomicU64,
    /// Microseconds that a call and an answer are on their way, at most; mostly far less.
    pub(crate) slow: AtomicU64,
    /// Tickets of a thousand that are lost after they were confirmed, as many that come twice, and some that come late.
    pub(crate) tickets: AtomicU64,
    /// The key that was last written to.
    written: Mutex<String>,
    writes: Notify,
}

impl Weather {
    fn tell_of_write(&self, key: &str) {
        key.clone_into(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner));
        self.writes.notify_waiters();
    }

    /// The key of the next write, when it is on its way.
    pub(crate) async fn write(&self) -> String {
        self.writes.notified().await;
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Runs,
    Frozen,
    Dead,
}

/// One process's end of the wires.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    name: Arc<str>,
    life: Arc<Mutex<Life>>,
    changed: Arc<Notify>,
    dice: Dice,
    weather: Arc<Weather>,
    pub(crate) trace: Arc<Trace>,
    began: tokio::time::Instant,
}

/// What became of a call on a bad wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Before,
    After,
}

impl Wire {
    pub(crate) fn new(name: &str, dice: Dice, weather: Arc<Weather>, trace: Arc<Trace>) -> Self {
        let (life, changed) = (Arc::new(Mutex::new(Life::Runs)), Arc::default());
        Self { name: name.into(), life, changed, dice, weather, trace, began: tokio::time::Instant::now() }
    }

    pub(crate) fn set(&self, life: Life) {
        let mut now = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != Life::Dead {
            *now = life;
        }
        drop(now);
        self.changed.notify_waiters();
    }

    pub(crate) fn life(&self) -> Life {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the process runs: for ever where it is dead.
    async fn awake(&self) {
        while self.life() != Life::Runs {
            self.changed.notified().await;
        }
    }

    fn way(&self) -> Duration {
        self.dice.time(Duration::from_micros(self.weather.slow.load(Ordering::Relaxed).max(1)))
    }

    fn lost(&self) -> bool {
        self.dice.per_mille(self.weather.losses.load(Ordering::Relaxed))
    }

    /// A call: on its way from the moment it is made, whether its caller waits for it or not.
    async fn call<T: Send + 'static>(
        &self,
        what: String,
        effect: impl Future<Output = T> + Send + 'static,
    ) -> std::result::Result<T, Lost> {
        let wire = self.clone();
        let call = async move {
            wire.awake().await;
            tokio::time::sleep(wire.way()).await;
            let lost = wire.lost();
            let how = if lost { " lost" } else { "" };
            wire.trace.tell(|| format!("{:?} {} {what}{how}", wire.began.elapsed(), wire.name));
            if lost {
                return Err(Lost::Before);
            }
            let answer = effect.await;
            tokio::time::sleep(wire.way()).await;
            if wire.lost() { Err(Lost::After) } else { Ok(answer) }
        };
        let answer = tokio::spawn(call).await;
        self.awake().await;
        answer.unwrap_or(Err(Lost::After))
    }
}

/// A store, from the process at the end of this wire.
#[derive(Clone, Debug)]
pub(crate) struct WiredStore {
    pub(crate) wire: Wire,
    /// Entries that it lists at once.
    pub(crate) page: u32,
    pub(crate) model: StoreModel,
}

impl WiredStore {
    async fn call<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        effect: impl FnOnce(StoreModel) -> F,
    ) -> Result<T> {
        let answer = self.wire.call(format!("{operation} {key}"), effect(self.model.clone())).await;
        answer.unwrap_or_else(|lost| Err(self.failure(operation, lost)))
    }

    /// What is heard of a call that was lost: no error says for certain that it was not done, but those without any
    /// answer at all.
    fn failure(&self, operation: &'static str, lost: Lost) -> StoreError {
        let answered = |kind, status, code| StoreError::answered(operation, kind, status, code, "the wire");
        // Of an upload that was opened and answered with 503 nobody ever hears, and nobody can end it.
        let first = usize::from(operation == "CreateMultipartUpload");
        match (self.wire.dice.index(5).max(first), lost) {
            (0, _) => answered(ErrorKind::Throttled, 503, "SlowDown"),
            (1, _) => answered(ErrorKind::Server, 500, "InternalError"),
            (2, _) => StoreError::new(operation, ErrorKind::Timeout, "the wire"),
            (3, Lost::Before) => StoreError::new(operation, ErrorKind::Unreachable, "the wire"),
            _ => StoreError::new(operation, ErrorKind::Cut, "the wire"),
        }
    }
}

#[async_trait]
impl Store for WiredStore {
    fn identity(&self) -> &StoreIdentity {
        self.model.identity()
    }

    /// A store may list fewer than it is asked for.
    async fn list(&self, mut request: ListRequest) -> Result<ListPage> {
        request.limit = request.limit.min(self.page);
        let prefix = request.prefix.clone();
        self.call("List", &prefix, |model| async move { model.list(request).await }).await
    }

    async fn head(&self, request: HeadRequest) -> Result<Object> {
        let key = request.at.key.clone();
        self.call("HeadObject", &key, |model| async move { model.head(request).await }).await
    }

    async fn get(&self, request: GetRequest) -> Result<(Object, Body)> {
        let key = request.at.key.clone();
        self.call("GetObject", &key, |model| async move { model.get(request).await }).await
    }

    async fn tags(&self, at: &ObjectAt) -> Result<Tags> {
        let at = at.clone();
        self.call("GetObjectTagging", &at.key.clone(), |model| async move { model.tags(&at).await }).await
    }

    async fn acl(&self, at: &ObjectAt) -> Result<Acl> {
        let at = at.clone();
        self.call("GetObjectAcl", &at.key.clone(), |model| async move { model.acl(&at).await }).await
    }

    async fn put(&self, request: PutRequest, body: Body) -> Result<Written> {
        let key = request.at.key.clone();
        self.wire.weather.tell_of_write(&key);
        self.call("PutObject", &key, |model| async move { model.put(request, body).await }).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Written> {
        let key = request.to.clone();
        self.wire.weather.tell_of_write(&key);
        self.call("CopyObject", &key, |model| async move { model.copy(request).await }).await
    }

    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        let (at, key) = (at.clone(), key.to_owned());
        let effect = |model: StoreModel| async move { model.update_encryption(&at, &key, bucket_key).await };
        self.call("UpdateObjectEncryption", "", effect).await
    }

    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String> {
        let (at, new, place) = (at.clone(), new.clone(), place.clone());
        let effect = |model: StoreModel| async move { model.create_upload(&at, &new, &place).await };
        self.call("CreateMultipartUpload", "", effect).await
    }

    async fn upload_part_copy(&self, request: PartCopyRequest) -> Result<Part> {
        self.wire.weather.tell_of_write(&request.upload.key);
        self.call("UploadPartCopy", "", |model| async move { model.upload_part_copy(request).await }).await
    }

    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, checksum: Option<&str>) -> Result<Part> {
        self.wire.weather.tell_of_write(&upload.key);
        let (upload, checksum) = (upload.clone(), checksum.map(str::to_owned));
        let effect =
            |model: StoreModel| async move { model.upload_part(&upload, number, body, checksum.as_deref()).await };
        self.call("UploadPart", "", effect).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        let upload = upload.clone();
        self.call("ListParts", "", |model| async move { model.parts(&upload).await }).await
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        self.wire.weather.tell_of_write(&upload.key);
        let (upload, parts, guard, place) = (upload.clone(), parts.to_vec(), guard.clone(), place.clone());
        let effect = |model: StoreModel| async move { model.complete_upload(&upload, &parts, &guard, &place).await };
        self.call("CompleteMultipartUpload", "", effect).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        let upload = upload.clone();
        self.call("AbortMultipartUpload", "", |model| async move { model.abort_upload(&upload).await }).await
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        self.call("ListMultipartUploads", "", |model| async move { model.uploads(&bucket, &prefix).await }).await
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        let at = at.clone();
        self.call("DeleteObject", &at.key.clone(), |model| async move { model.delete(&at).await }).await
    }

    async fn bucket(&self, bucket: &str) -> Result<BucketFacts> {
        let bucket = bucket.to_owned();
        self.call("HeadBucket", "", |model| async move { model.bucket(&bucket).await }).await
    }

    async fn buckets(&self) -> Result<Vec<String>> {
        self.call("ListBuckets", "", |model| async move { Store::buckets(&model).await }).await
    }

    async fn reactions(&self, bucket: &str) -> Result<Reactions> {
        let bucket = bucket.to_owned();
        self.call("Reactions", "", |model| async move { model.reactions(&bucket).await }).await
    }
}

/// The checkpoint, from the process at the end of this wire.
#[derive(Debug)]
pub(crate) struct WiredBackend {
    pub(crate) wire: Wire,
    pub(crate) backend: Arc<MemoryBackend>,
    pub(crate) watch: Arc<Watch>,
}

fn unavailable(lost: Lost) -> BackendError {
    match lost {
        Lost::Before => BackendError::Unavailable("the wire".into()),
        Lost::After => BackendError::Unknown("the wire".into()),
    }
}

#[async_trait]
impl Backend for WiredBackend {
    async fn run_id(&self) -> std::result::Result<String, BackendError> {
        let backend = Arc::clone(&self.backend);
        self.wire
            .call("run".into(), async move { backend.run_id().await })
            .await
            .unwrap_or_else(|l| Err(unavailable(l)))
    }

    async fn read(&self, keys: &[RecordKey]) -> std::result::Result<Snapshot, BackendError> {
        let (backend, keys) = (Arc::clone(&self.backend), keys.to_vec());
        let read = async move { backend.read(&keys).await };
        self.wire.call("read".into(), read).await.unwrap_or_else(|l| Err(unavailable(l)))
    }

    async fn swap(&self, swap: Swap) -> std::result::Result<SwapAnswer, BackendError> {
        let (backend, watch) = (Arc::clone(&self.backend), Arc::clone(&self.watch));
        let what = swap.writes.iter().fold("swap".to_owned(), |what, (key, _)| format!("{what} {key}"));
        let swap = async move {
            let writes = swap.writes.clone();
            let answer = backend.swap(swap).await?;
            if matches!(answer, SwapAnswer::Done { .. }) {
                watch.saw(&writes);
            }
            Ok(answer)
        };
        self.wire.call(what, swap).await.unwrap_or_else(|l| Err(unavailable(l)))
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> std::result::Result<Vec<Listed>, BackendError> {
        let (backend, prefix, after) = (Arc::clone(&self.backend), prefix.to_owned(), after.cloned());
        let scan = async move { backend.scan(&prefix, after.as_ref(), limit).await };
        self.wire.call("scan".into(), scan).await.unwrap_or_else(|l| Err(unavailable(l)))
    }

    fn bell(&self) -> Bell {
        self.backend.bell()
    }
}

/// A consumer that is looked after by two: whoever takes from it, and whoever cuts its connection.
type Line = Arc<Mutex<Option<Box<dyn Consumer>>>>;

/// The queue, from the process at the end of this wire. What it confirmed it may lose, double, or deliver late.
#[derive(Clone)]
pub(crate) struct WiredQueue {
    wire: Wire,
    queue: Arc<MemoryQueue>,
    line: Line,
    cut: Arc<Notify>,
}

impl fmt::Debug for WiredQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WiredQueue").field("wire", &self.wire).finish_non_exhaustive()
    }
}

impl WiredQueue {
    pub(crate) fn new(wire: Wire, queue: Arc<MemoryQueue>) -> Self {
        Self { wire, queue, line: Arc::default(), cut: Arc::default() }
    }

    /// Cuts the connection: what came by it and was not settled is delivered again, to anybody.
    pub(crate) fn cut(&self) {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(line);
        self.cut.notify_waiters();
    }
}

fn away() -> QueueError {
    QueueError::Unavailable("the wire".into())
}

#[async_trait]
impl Queue for WiredQueue {
    async fn publish(&self, ticket: &Ticket, route: &Route) -> std::result::Result<(), QueueError> {
        let (this, ticket, route) = (self.clone(), ticket.clone(), route.clone());
        let publish = async move {
            let bad = this.wire.weather.tickets.load(Ordering::Relaxed);
            if this.wire.dice.per_mille(bad) {
                return Ok(());
            }
            let comes_late = this.wire.dice.per_mille(2 * bad);
            if comes_late {
                let (queue, ticket, route) = (this.queue.clone(), ticket.clone(), route.clone());
                let wait = this.wire.dice.time(Duration::from_secs(90));
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let _full = queue.publish(&ticket, &route).await;
                });
            }
            let comes_now = !comes_late || this.wire.dice.one_in(2);
            if comes_now { this.queue.publish(&ticket, &route).await } else { Ok(()) }
        };
        self.wire.call("publish".into(), publish).await.unwrap_or_else(|_| Err(away()))
    }

    async fn consume(&self, slots: usize, stores: &[String]) -> std::result::Result<Box<dyn Consumer>, QueueError> {
        let consumer = self.queue.consume(slots, stores).await?;
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(consumer);
        Ok(Box::new(WiredConsumer { queue: self.clone(), slots, stores: stores.to_vec() }))
    }
}

struct WiredConsumer {
    queue: WiredQueue,
    slots: usize,
    stores: Vec<String>,
}

/// A consumer in use; back in its line when that is over.
struct InUse {
    line: Line,
    consumer: Option<Box<dyn Consumer>>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(consumer);
        }
    }
}

impl WiredConsumer {
    async fn in_use(&self) -> std::result::Result<InUse, QueueError> {
        let line = Arc::clone(&self.queue.line);
        let there = line.lock().unwrap_or_else(PoisonError::into_inner).take();
        let consumer = match there {
            Some(consumer) => consumer,
            None => self.queue.queue.consume(self.slots, &self.stores).await?,
        };
        Ok(InUse { line, consumer: Some(consumer) })
    }
}

#[async_trait]
impl Consumer for WiredConsumer {
    /// Whose connection is cut makes another by itself, as the real one does.
    async fn next(&mut self) -> std::result::Result<Option<Delivery>, QueueError> {
        let (cut, wire) = (Arc::clone(&self.queue.cut), self.queue.wire.clone());
        loop {
            wire.awake().await;
            let mut used = self.in_use().await?;
            let Some(consumer) = used.consumer.as_mut() else { continue };
            let next = tokio::select! {
                biased;
                () = cut.notified() => None,
                next = consumer.next() => Some(next?),
            };
            let Some(delivery) = next else {
                used.consumer = None;
                tokio::time::sleep(wire.dice.time(Duration::from_secs(10))).await;
                continue;
            };
            drop(used);
            wire.awake().await;
            wire.trace.tell(|| format!("{:?} {} delivered", wire.began.elapsed(), wire.name));
            return Ok(delivery.map(|delivery| {
                let (ticket, again) = (delivery.ticket().clone(), delivery.redelivered());
                Delivery::new(ticket, again, Box::new(WiredSettle { wire, delivery }))
            }));
        }
    }

    async fn close(&mut self) -> Vec<Delivery> {
        Vec::new()
    }
}

impl Drop for WiredConsumer {
    fn drop(&mut self) {
        self.queue.cut();
    }
}

struct WiredSettle {
    wire: Wire,
    delivery: Delivery,
}

#[async_trait]
impl Settle for WiredSettle {
    async fn settle(self: Box<Self>, verdict: Verdict) -> std::result::Result<(), QueueError> {
        let Self { wire, delivery } = *self;
        let settle = async move {
            match verdict {
                Verdict::Ack => delivery.ack().await,
                Verdict::GiveBack => delivery.give_back().await,
                Verdict::Reject(why) => delivery.reject(&why).await,
            }
        };
        wire.call("settle".into(), settle).await.unwrap_or(Err(QueueError::Gone))
    }
}
