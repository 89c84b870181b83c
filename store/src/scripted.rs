//! A store for tests that answers what a script says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::*;

/// Answers HEAD, PUT and DELETE as told, then well; everything else is not part of these tests.
#[derive(Debug)]
pub(crate) struct Scripted {
    identity: StoreIdentity,
    script: Mutex<VecDeque<ErrorKind>>,
    times: Arc<Mutex<Vec<Instant>>>,
    bodies: Mutex<Vec<Bytes>>,
    /// How long it takes to answer.
    takes: Duration,
    /// How long it takes until a call is on its way.
    ponders: Duration,
}

impl Scripted {
    pub(crate) fn answering(script: impl IntoIterator<Item = ErrorKind>) -> Self {
        let identity = StoreIdentity("test".into());
        let script = Mutex::new(script.into_iter().collect());
        let (times, bodies, takes, ponders) = Default::default();
        Self { identity, script, times, bodies, takes, ponders }
    }

    /// Takes so long to answer.
    pub(crate) fn taking(takes: Duration) -> Self {
        Self { takes, ..Self::answering([]) }
    }

    /// So much passes before anything is sent.
    pub(crate) fn pondering(ponders: Duration) -> Self {
        Self { ponders, ..Self::answering([]) }
    }

    /// One more answer.
    pub(crate) fn then(&self, kind: ErrorKind) {
        self.script.lock().unwrap().push_back(kind);
    }

    async fn next(&self) -> Result<()> {
        pass(self.ponders).await;
        self.times.lock().unwrap().push(Instant::now());
        pass(self.takes).await;
        match self.script.lock().unwrap().pop_front() {
            Some(kind) => Err(StoreError::new("Scripted", kind, "as told")),
            None => Ok(()),
        }
    }

    pub(crate) fn sent(&self) -> usize {
        self.times.lock().unwrap().len()
    }

    /// When calls were sent, also of those to come.
    pub(crate) fn times(&self) -> Arc<Mutex<Vec<Instant>>> {
        Arc::clone(&self.times)
    }

    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.times.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Bodies of all PUTs.
    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().unwrap().clone()
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn object() -> Object {
    Object {
        size: 0,
        etag: "e".into(),
        last_modified: Timestamp::UNIX_EPOCH,
        version: None,
        sse: Sse::None,
        headers: crate::Headers::default(),
        tag_count: None,
        storage_class: None,
        lock: crate::Lock::default(),
        checksums: Vec::new(),
        parts: None,
        replica: false,
        server_date: None,
    }
}

#[async_trait]
impl Store for Scripted {
    fn identity(&self) -> &StoreIdentity {
        &self.identity
    }
    async fn head(&self, _: HeadRequest) -> Result<Object> {
        self.next().await.map(|()| object())
    }
    async fn put(&self, _: PutRequest, body: Body) -> Result<Written> {
        let body = body.collect().await?;
        self.bodies.lock().unwrap().push(body);
        self.next().await.map(|()| Written::default())
    }
    async fn delete(&self, _: &ObjectAt) -> Result<()> {
        self.next().await
    }
    async fn list(&self, _: ListRequest) -> Result<ListPage> {
        unreachable!()
    }
    async fn get(&self, _: GetRequest) -> Result<(Object, Body)> {
        unreachable!()
    }
    async fn tags(&self, _: &ObjectAt) -> Result<Tags> {
        unreachable!()
    }
    async fn acl(&self, _: &ObjectAt) -> Result<Acl> {
        unreachable!()
    }
    async fn copy(&self, _: CopyRequest) -> Result<Written> {
        unreachable!()
    }
    async fn update_encryption(&self, _: &ObjectAt, _: &str, _: Option<bool>) -> Result<()> {
        unreachable!()
    }
    async fn create_upload(&self, _: &ObjectAt, _: &NewObject, _: &InPlace) -> Result<String> {
        unreachable!()
    }
    async fn upload_part_copy(&self, _: PartCopyRequest) -> Result<Part> {
        unreachable!()
    }
    async fn upload_part(&self, _: &Upload, _: u32, _: Body, _: Option<&str>) -> Result<Part> {
        unreachable!()
    }
    async fn parts(&self, _: &Upload) -> Result<Vec<Part>> {
        unreachable!()
    }
    async fn complete_upload(&self, _: &Upload, _: &[Part], _: &Guard, _: &InPlace) -> Result<Written> {
        unreachable!()
    }
    async fn abort_upload(&self, _: &Upload) -> Result<()> {
        unreachable!()
    }
    async fn uploads(&self, _: &str, _: &str) -> Result<Vec<Upload>> {
        unreachable!()
    }
    async fn bucket(&self, _: &str) -> Result<BucketFacts> {
        unreachable!()
    }
    async fn buckets(&self) -> Result<Vec<String>> {
        unreachable!()
    }
    async fn reactions(&self, _: &str) -> Result<Reactions> {
        unreachable!()
    }
}
