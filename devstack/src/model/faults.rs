//! A wrapper that makes any store slow, choosy, failing, cut off, or shared with somebody else at a chosen moment.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use keyrotate_store::{
    Acl, Body, BucketFacts, CopyRequest, ErrorKind, GetRequest, Guard, HeadRequest, InPlace, ListPage, ListRequest,
    NewObject, Object, ObjectAt, Part, PartCopyRequest, PutRequest, Reactions, Result, Store, StoreError,
    StoreIdentity, Tags, Upload, Written, update_encryption_body,
};

/// One call, as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The S3 operation, as its documentation calls it.
    pub operation: &'static str,
    /// The bucket.
    pub bucket: &'a str,
    /// The key; the prefix of a listing; empty for a bucket's facts.
    pub key: &'a str,
}

type Predicate = Arc<dyn Fn(&Call<'_>) -> bool + Send + Sync>;
type Deed = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What happens to a call that a rule meets.
#[derive(Clone)]
pub enum Action {
    /// It waits first.
    Delay(Duration),
    /// It fails and nothing is done. `SlowDown` for [`ErrorKind::Throttled`].
    FailBefore(ErrorKind),
    /// It is done, and its answer is lost.
    FailAfter(ErrorKind),
    /// The body of the answer ends after so many bytes.
    CutBody(u64),
    /// Somebody else does something just before it.
    Before(Deed),
    /// Somebody else does something just after it, before its answer arrives.
    After(Deed),
    /// An UpdateObjectEncryption meets a server that does not know it and takes it for a PutObject.
    AsPut,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(time) => write!(f, "Delay({time:?})"),
            Self::FailBefore(kind) => write!(f, "FailBefore({kind:?})"),
            Self::FailAfter(kind) => write!(f, "FailAfter({kind:?})"),
            Self::CutBody(bytes) => write!(f, "CutBody({bytes})"),
            Self::Before(_) => f.write_str("Before(..)"),
            Self::After(_) => f.write_str("After(..)"),
            Self::AsPut => f.write_str("AsPut"),
        }
    }
}

/// Which calls something happens to, and how often.
#[derive(Clone)]
pub struct Rule {
    predicate: Predicate,
    skip: u64,
    times: u64,
    action: Action,
}

impl Rule {
    /// Every call that `predicate` picks.
    pub fn when(predicate: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static, action: Action) -> Self {
        Self { predicate: Arc::new(predicate), skip: 0, times: u64::MAX, action }
    }

    /// Every call of an operation; `*`: of any.
    #[must_use]
    pub fn on(operation: &'static str, action: Action) -> Self {
        Self::when(move |call| operation == "*" || call.operation == operation, action)
    }

    /// Only the `n`th of them, from 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { skip: n.saturating_sub(1), times: 1, ..self }
    }

    /// Only those behind the first `n`.
    #[must_use]
    pub fn behind(self, n: u64) -> Self {
        Self { skip: n, ..self }
    }

    /// Only the first `times` of them.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// Only calls on this key.
    #[must_use]
    pub fn of_key(self, key: impl Into<String>) -> Self {
        let (key, before) = (key.into(), self.predicate);
        let predicate: Predicate = Arc::new(move |call| call.key == key && before(call));
        Self { predicate, ..self }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({:?}, {} more after {})", self.action, self.times, self.skip)
    }
}

/// The rules of a [`Faulty`] store. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Arc<Mutex<Vec<Rule>>>,
}

impl Faults {
    /// Adds a rule. All rules that meet a call act on it, in the order they were added; the first failure ends it.
    pub fn add(&self, rule: Rule) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// Every call takes at least this long.
    pub fn latency(&self, time: Duration) {
        self.add(Rule::on("*", Action::Delay(time)));
    }

    /// Forgets all rules.
    pub fn clear(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What happens to this call; counts it.
    fn meet(&self, call: &Call<'_>) -> Vec<Action> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let mut actions = Vec::new();
        for rule in rules.iter_mut().filter(|rule| (rule.predicate)(call)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                actions.push(rule.action.clone());
            }
        }
        actions
    }
}

/// A store on which [`Faults`] act.
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    store: S,
    faults: Faults,
}

impl<S: Store> Faulty<S> {
    /// A store that behaves until it is given a rule.
    pub fn new(store: S) -> Self {
        Self { store, faults: Faults::default() }
    }

    /// The rules.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The store below.
    pub fn store(&self) -> &S {
        &self.store
    }

    async fn around<T>(&self, call: Call<'_>, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let actions = self.faults.meet(&call);
        act(call.operation, actions, effect).await.map(|(answer, _)| answer)
    }
}

/// What comes before the effect, the effect, what comes after it; with the number of bytes at which its body is cut.
async fn act<T>(
    operation: &'static str,
    actions: Vec<Action>,
    effect: impl Future<Output = Result<T>>,
) -> Result<(T, Option<u64>)> {
    for action in &actions {
        match action {
            Action::Delay(time) => tokio::time::sleep(*time).await,
            Action::Before(deed) => deed().await,
            Action::FailBefore(kind) => return Err(failure(operation, *kind)),
            Action::FailAfter(_) | Action::CutBody(_) | Action::After(_) | Action::AsPut => {}
        }
    }
    let answer = effect.await;
    let mut cut = None;
    for action in actions {
        match action {
            Action::After(deed) => deed().await,
            Action::FailAfter(kind) => return Err(failure(operation, kind)),
            Action::CutBody(bytes) => cut = Some(bytes),
            Action::Delay(_) | Action::Before(_) | Action::FailBefore(_) | Action::AsPut => {}
        }
    }
    answer.map(|answer| (answer, cut))
}

/// The failure as a store, or the way to it, would show it.
fn failure(operation: &'static str, kind: ErrorKind) -> StoreError {
    let (status, code) = match kind {
        ErrorKind::Throttled => (503, "SlowDown"),
        ErrorKind::Server => (500, "InternalError"),
        ErrorKind::Denied => (403, "AccessDenied"),
        ErrorKind::Credentials => (403, "ExpiredToken"),
        ErrorKind::ClockSkew => (403, "RequestTimeTooSkewed"),
        ErrorKind::Precondition => (409, "ConditionalRequestConflict"),
        ErrorKind::NotFound => (404, "NoSuchKey"),
        ErrorKind::NoSuchBucket => (404, "NoSuchBucket"),
        _ => return StoreError::new(operation, kind, "a fault that was asked for"),
    };
    StoreError::answered(operation, kind, status, code, "a fault that was asked for")
}

/// The first `bytes` of a body, then the end of the connection.
fn cut(body: Body, bytes: u64) -> Body {
    let length = body.len();
    if bytes >= length {
        return body;
    }
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let head = body.into_stream().map(move |chunk| {
        let chunk = chunk?;
        let taken = chunk.slice(..chunk.len().min(left));
        left -= taken.len();
        Ok(taken)
    });
    let mut given = 0;
    let head = head.take_while(move |chunk| {
        let goes_on = given < bytes;
        given += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        futures::future::ready(goes_on)
    });
    let end = StoreError::new("GetObject", ErrorKind::Cut, "the body was cut");
    Body::Stream { length, stream: Box::pin(head.chain(stream::iter([Err(end)]))) }
}

fn on<'a>(operation: &'static str, at: &'a ObjectAt) -> Call<'a> {
    Call { operation, bucket: &at.bucket, key: &at.key }
}

fn of<'a>(operation: &'static str, upload: &'a Upload) -> Call<'a> {
    Call { operation, bucket: &upload.bucket, key: &upload.key }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    fn identity(&self) -> &StoreIdentity {
        self.store.identity()
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let operation = if request.versions { "ListObjectVersions" } else { "ListObjectsV2" };
        let (bucket, prefix) = (request.bucket.clone(), request.prefix.clone());
        self.around(Call { operation, bucket: &bucket, key: &prefix }, self.store.list(request)).await
    }

    async fn head(&self, request: HeadRequest) -> Result<Object> {
        let at = request.at.clone();
        self.around(on("HeadObject", &at), self.store.head(request)).await
    }

    async fn get(&self, request: GetRequest) -> Result<(Object, Body)> {
        let at = request.at.clone();
        let actions = self.faults.meet(&on("GetObject", &at));
        let ((object, body), bytes) = act("GetObject", actions, self.store.get(request)).await?;
        Ok((
            object,
            match bytes {
                Some(bytes) => cut(body, bytes),
                None => body,
            },
        ))
    }

    async fn tags(&self, at: &ObjectAt) -> Result<Tags> {
        self.around(on("GetObjectTagging", at), self.store.tags(at)).await
    }

    async fn acl(&self, at: &ObjectAt) -> Result<Acl> {
        self.around(on("GetObjectAcl", at), self.store.acl(at)).await
    }

    async fn put(&self, request: PutRequest, body: Body) -> Result<Written> {
        let at = request.at.clone();
        self.around(on("PutObject", &at), self.store.put(request, body)).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Written> {
        let at = ObjectAt::current(&request.source.bucket, &request.to);
        self.around(on("CopyObject", &at), self.store.copy(request)).await
    }

    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        let operation = "UpdateObjectEncryption";
        let actions = self.faults.meet(&on(operation, at));
        if !actions.iter().any(|action| matches!(action, Action::AsPut)) {
            let effect = self.store.update_encryption(at, key, bucket_key);
            return act(operation, actions, effect).await.map(|_| ());
        }
        let put =
            PutRequest { at: at.clone(), new: NewObject::default(), guard: Guard::None, place: InPlace::default() };
        let effect = self.store.put(put, Body::Bytes(update_encryption_body(key, bucket_key).into()));
        act(operation, actions, effect).await.map(|_| ())
    }

    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String> {
        self.around(on("CreateMultipartUpload", at), self.store.create_upload(at, new, place)).await
    }

    async fn upload_part_copy(&self, request: PartCopyRequest) -> Result<Part> {
        let upload = request.upload.clone();
        self.around(of("UploadPartCopy", &upload), self.store.upload_part_copy(request)).await
    }

    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, checksum: Option<&str>) -> Result<Part> {
        self.around(of("UploadPart", upload), self.store.upload_part(upload, number, body, checksum)).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.around(of("ListParts", upload), self.store.parts(upload)).await
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        let effect = self.store.complete_upload(upload, parts, guard, place);
        self.around(of("CompleteMultipartUpload", upload), effect).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.around(of("AbortMultipartUpload", upload), self.store.abort_upload(upload)).await
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        let call = Call { operation: "ListMultipartUploads", bucket, key: prefix };
        self.around(call, self.store.uploads(bucket, prefix)).await
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        self.around(on("DeleteObject", at), self.store.delete(at)).await
    }

    async fn bucket(&self, bucket: &str) -> Result<BucketFacts> {
        let call = Call { operation: "HeadBucket", bucket, key: "" };
        self.around(call, self.store.bucket(bucket)).await
    }

    async fn buckets(&self) -> Result<Vec<String>> {
        let call = Call { operation: "ListBuckets", bucket: "", key: "" };
        self.around(call, Store::buckets(&self.store)).await
    }

    async fn reactions(&self, bucket: &str) -> Result<Reactions> {
        let call = Call { operation: "GetBucketLifecycleConfiguration", bucket, key: "" };
        self.around(call, self.store.reactions(bucket)).await
    }
}
