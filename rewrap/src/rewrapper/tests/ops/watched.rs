//! The store as a worker of a case sees it: each call is told, each write judged, and a guard may be off.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use super::super::*;
use super::case::Lost;
use super::model::{By, Landing};
use super::stage::{Off, Stage, WRITES, is_frozen};

/// What else is to be known of a write.
#[derive(Default)]
struct How {
    version: Option<String>,
    forgot: Option<Lost>,
    dated: Option<Timestamp>,
}

/// The store model, watched.
pub(super) struct Watched(pub(super) Arc<Stage>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched(..)")
    }
}

impl Watched {
    fn off(&self, guard: Off) -> bool {
        self.0.off == Some(guard)
    }

    /// A call that writes no object.
    async fn call<T>(&self, operation: &'static str, key: &str, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = self.act(operation, key, effect).await;
        self.behind().await;
        answer
    }

    /// It may take its time, and is told.
    async fn act<T>(&self, operation: &'static str, key: &str, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let slow = std::mem::take(&mut self.0.log().slow);
        if slow {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        }
        let answer = effect.await;
        let word = match &answer {
            Ok(_) => "done",
            Err(error) => error.kind.word(),
        };
        self.0.log().tell(format!("{operation} `{key}`: {word}{}", if is_frozen() { ", late" } else { "" }));
        answer
    }

    /// What comes behind a call: nothing, where the worker was frozen.
    async fn behind(&self) {
        if is_frozen() {
            std::future::pending::<()>().await;
        }
        // Whoever waits for the moment within a call has it by now.
        tokio::task::yield_now().await;
    }

    /// One that writes: not without a lease, and judged.
    async fn writes<T>(
        &self,
        operation: &'static str,
        key: &str,
        how: How,
        effect: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.may_write(operation, key)?;
        let began = Instant::now();
        let mode = &self.0.case.mode;
        let guarded = match operation {
            "CopyObject" => mode.copy_if_match,
            "CompleteMultipartUpload" => mode.complete_if_match,
            _ => true,
        };
        let answer = self.act(operation, key, effect).await;
        let done = answer.is_ok() && WRITES.contains(&operation);
        let How { version, forgot, dated } = how;
        let landing = Landing { operation, began, done, version, forgot, guarded, dated, late: is_frozen() };
        self.0.judge(key, Some(&landing)).await;
        self.behind().await;
        answer
    }

    fn may_write(&self, operation: &'static str, key: &str) -> Result<()> {
        let mut log = self.0.log();
        if !log.lease_over || is_frozen() {
            return Ok(());
        }
        log.tell(format!("{operation} `{key}`: not sent, the lease is over"));
        if operation == "AbortMultipartUpload" {
            log.unended.insert(key.to_owned());
        }
        Err(StoreError::new(operation, ErrorKind::LeaseOver, "the lease is over"))
    }

    /// What the store is to lose of the next write, once.
    fn forgets(&self, key: &str, headers: &mut Headers, tags: &mut Tags) -> Option<Lost> {
        let mut log = self.0.log();
        let lost = log.forgets.take_if(|lost| *lost == Lost::Metadata || !tags.is_empty())?;
        log.pretends.insert(key.to_owned(), (headers.clone(), tags.clone()));
        log.faults.push(("a write that is forgotten in part", key.to_owned()));
        match lost {
            Lost::Tags => tags.clear(),
            Lost::Metadata => headers.metadata.clear(),
        }
        Some(lost)
    }

    /// Without the read-back: what a look shows of an object that the store lost a part of is what was sent.
    fn pretended(&self, key: &str) -> Option<(Headers, Tags)> {
        self.0.log().pretends.get(key).filter(|_| self.off(Off::ReadBack)).cloned()
    }

    fn pretend(&self, at: &ObjectAt, object: &mut Object) {
        if let Some((headers, tags)) = self.pretended(&at.key) {
            object.headers = headers;
            object.tag_count = u32::try_from(tags.len()).ok().filter(|count| *count > 0);
        }
    }

    fn guard(&self, guard: &Guard) -> Guard {
        if self.off(Off::IfMatch) { Guard::None } else { guard.clone() }
    }

    fn source(&self, guard: Option<String>) -> Option<String> {
        guard.filter(|_| !self.off(Off::Source))
    }
}

#[async_trait]
impl Store for Watched {
    fn identity(&self) -> &StoreIdentity {
        self.0.model().identity()
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let operation = if request.versions { "ListObjectVersions" } else { "ListObjectsV2" };
        let prefix = request.prefix.clone();
        let mut page = self.call(operation, &prefix, self.0.model().list(request)).await?;
        for entry in &mut page.entries {
            if let (Some((headers, tags)), Some(facts)) = (self.pretended(&entry.key), &mut entry.facts) {
                (facts.headers, facts.tags) = (headers, tags);
            }
        }
        Ok(page)
    }

    async fn head(&self, request: HeadRequest) -> Result<Object> {
        let (at, part) = (request.at.clone(), request.part);
        let mut answer = self.act("HeadObject", &at.key, self.0.model().head(request)).await;
        if let Ok(object) = &mut answer {
            self.pretend(&at, object);
            // Whoever asks for the length of a part looks at nothing else.
            if part.is_none() {
                self.0.log().headed(&at, object, By::Asking);
            }
        }
        self.behind().await;
        answer
    }

    async fn get(&self, request: GetRequest) -> Result<(Object, Body)> {
        let at = request.at.clone();
        let request = GetRequest { if_match: self.source(request.if_match.clone()), ..request };
        let mut answer = self.act("GetObject", &at.key, self.0.model().get(request)).await;
        if let Ok((object, _)) = &mut answer {
            self.pretend(&at, object);
            self.0.log().headed(&at, object, By::Get);
        }
        self.behind().await;
        answer
    }

    async fn tags(&self, at: &ObjectAt) -> Result<Tags> {
        let mut answer = self.act("GetObjectTagging", &at.key, self.0.model().tags(at)).await;
        if let Ok(tags) = &mut answer {
            if let Some((_, sent)) = self.pretended(&at.key) {
                *tags = sent;
            }
            self.0.log().tagged(at, tags, By::Asking);
        }
        self.behind().await;
        answer
    }

    async fn acl(&self, at: &ObjectAt) -> Result<Acl> {
        let answer = self.act("GetObjectAcl", &at.key, self.0.model().acl(at)).await;
        if let Ok(acl) = &answer {
            self.0.log().granted(at, acl);
        }
        self.behind().await;
        answer
    }

    async fn put(&self, mut request: PutRequest, body: Body) -> Result<Written> {
        let key = request.at.key.clone();
        request.guard = self.guard(&request.guard);
        let forgot = self.forgets(&key, &mut request.new.headers, &mut request.new.tags);
        let how = How { version: request.at.version.clone(), forgot, dated: request.place.source_mtime };
        self.writes("PutObject", &key, how, self.0.model().put(request, body)).await
    }

    async fn copy(&self, mut request: CopyRequest) -> Result<Written> {
        let (key, source) = (request.to.clone(), request.source.clone());
        request.guard = self.guard(&request.guard);
        request.source_if_match = self.source(request.source_if_match.clone());
        let mut forgot = None;
        let object = self.0.model().head(HeadRequest::of(&source)).await;
        let tags = self.0.model().tags(&source).await;
        if let (Ok(mut object), Ok(mut tags)) = (object, tags) {
            {
                let mut log = self.0.log();
                log.headed(&source, &object, By::Copy);
                log.tagged(&source, &tags, By::Copy);
            }
            forgot = self.forgets(&key, &mut object.headers, &mut tags);
            if forgot.is_some() {
                request.directive = Directive::Replace(Box::new((object.headers, tags)));
            }
        }
        self.writes("CopyObject", &key, How { forgot, ..How::default() }, self.0.model().copy(request)).await
    }

    async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        let effect = self.0.model().update_encryption(at, key, bucket_key);
        let how = How { version: at.version.clone(), ..How::default() };
        self.writes("UpdateObjectEncryption", &at.key, how, effect).await
    }

    async fn create_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String> {
        let operation = "CreateMultipartUpload";
        self.may_write(operation, &at.key)?;
        let answer = self.act(operation, &at.key, self.0.model().create_upload(at, new, place)).await;
        if let Ok(id) = &answer {
            let mut log = self.0.log();
            if log.answer_is_lost || is_frozen() {
                log.lost_uploads.insert(id.clone());
            }
        }
        self.behind().await;
        answer
    }

    async fn upload_part_copy(&self, mut request: PartCopyRequest) -> Result<Part> {
        let key = request.upload.key.clone();
        self.may_write("UploadPartCopy", &key)?;
        request.source_if_match = self.source(request.source_if_match.clone());
        self.writes("UploadPartCopy", &key, How::default(), self.0.model().upload_part_copy(request)).await
    }

    async fn upload_part(&self, upload: &Upload, number: u32, body: Body, checksum: Option<&str>) -> Result<Part> {
        let effect = self.0.model().upload_part(upload, number, body, checksum);
        self.writes("UploadPart", &upload.key, How::default(), effect).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.call("ListParts", &upload.key, self.0.model().parts(upload)).await
    }

    async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        let guard = self.guard(guard);
        let effect = self.0.model().complete_upload(upload, parts, &guard, place);
        let how = How { version: place.version.clone(), forgot: None, dated: place.source_mtime };
        self.writes("CompleteMultipartUpload", &upload.key, how, effect).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        let operation = "AbortMultipartUpload";
        self.may_write(operation, &upload.key)?;
        self.call(operation, &upload.key, self.0.model().abort_upload(upload)).await
    }

    async fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        self.call("ListMultipartUploads", prefix, self.0.model().uploads(bucket, prefix)).await
    }

    async fn delete(&self, at: &ObjectAt) -> Result<()> {
        if self.off(Off::Ground) {
            return Ok(());
        }
        self.writes("DeleteObject", &at.key, How::default(), self.0.model().delete(at)).await
    }

    async fn bucket(&self, bucket: &str) -> Result<BucketFacts> {
        self.0.model().bucket(bucket).await
    }

    async fn buckets(&self) -> Result<Vec<String>> {
        Store::buckets(self.0.model()).await
    }

    async fn reactions(&self, bucket: &str) -> Result<keyrotate_store::Reactions> {
        self.0.model().reactions(bucket).await
    }
}
