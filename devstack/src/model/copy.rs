//! CopyObject.

use keyrotate_store::{Body, CopyRequest, Directive, Guard, InPlace, NewObject, ObjectAt, Result, Sse, Written};

use super::errors;
use super::inner::{Found, Inner, find_version};
use super::object::Content;
use super::write::Landing;

impl Inner {
    /// Between its read and its write everybody else may write: only a guard on the destination sees that.
    pub(super) async fn copy_object(&self, request: CopyRequest) -> Result<Written> {
        let op = "CopyObject";
        self.count(op);
        let found = self.find(op, &request.source)?;
        let source_guard = request.source_if_match.as_deref().filter(|_| self.mode.copy_source_if_match);
        self.check_source(op, &found.content, source_guard, &request.sse, found.content.size)?;
        self.check_change(op, &request, &found.content)?;
        let at = ObjectAt::current(&request.source.bucket, &request.to);
        let guard = if self.mode.copy_if_match { request.guard.clone() } else { Guard::None };
        if self.is_torn(&request, &found.content) {
            tokio::task::yield_now().await;
            return self.tear(op, &at, &request);
        }
        let new = self.copied(&request, &found.content);
        let algorithms: Vec<String> = found.content.checksums.iter().map(|c| c.algorithm.clone()).collect();
        let body = self.source_body(op, &request.source, found).await?;
        tokio::task::yield_now().await;
        let place = InPlace::default();
        self.write_object(Landing::new(op, &at, &guard, &place), &new, &algorithms, body).await
    }

    /// Whether an object may be the source of a copy.
    pub(super) fn check_source(
        &self,
        op: &'static str,
        content: &Content,
        guard: Option<&str>,
        to: &Sse,
        bytes: u64,
    ) -> Result<()> {
        if content.sse == Sse::Customer {
            return Err(errors::customer_key(op));
        }
        if !self.mode.copies_encrypted && (content.sse != Sse::None || *to != Sse::None) {
            return Err(errors::not_implemented(op));
        }
        if guard.is_some_and(|etag| etag != content.guard_etag()) {
            return Err(errors::precondition(op));
        }
        if content.is_archived() {
            return Err(errors::archived(op));
        }
        if bytes > self.mode.copy_limit {
            let message = "The specified copy source is larger than the maximum allowable size for a copy source";
            return Err(errors::refused(op, "InvalidRequest", message));
        }
        Ok(())
    }

    /// All bytes of a source.
    pub(super) async fn source_body(&self, op: &'static str, at: &ObjectAt, found: Found) -> Result<Body> {
        let size = found.content.size;
        self.read(op, &format!("{}/{}", at.bucket, at.key), found, (0, size)).await
    }

    /// A self-copy that would change nothing is refused where the store does so.
    fn check_change(&self, op: &'static str, request: &CopyRequest, source: &Content) -> Result<()> {
        let changes = request.to != request.source.key
            || request.source.version.is_some()
            || request.sse != Sse::None
            || request.directive != Directive::Copy
            || request.website_redirect != source.headers.website_redirect
            || request.storage_class.as_deref().filter(|c| *c != "STANDARD") != source.storage_class.as_deref();
        if changes || !self.mode.refuses_unchanged_self_copy {
            return Ok(());
        }
        let message = "This copy request is illegal because it is trying to copy an object to itself without changing \
                       the object's metadata, storage class, website redirect location or encryption attributes.";
        Err(errors::refused(op, "InvalidRequest", message))
    }

    /// What the copy has, its bytes apart. Locks never come along: they are those of the request.
    fn copied(&self, request: &CopyRequest, source: &Content) -> NewObject {
        let (mut headers, tags) = match &request.directive {
            Directive::Copy => (source.headers.clone(), source.tags.clone()),
            Directive::Replace(given) => (given.0.clone(), given.1.clone()),
        };
        let from_source = matches!(request.directive, Directive::Copy) && self.mode.copy_keeps_website_redirect;
        if !from_source {
            headers.website_redirect = None;
        }
        headers.website_redirect = request.website_redirect.clone().or(headers.website_redirect);
        NewObject {
            sse: request.sse.clone(),
            headers,
            tags,
            storage_class: request.storage_class.clone(),
            lock: request.lock.clone(),
            checksum: None,
        }
    }

    /// Whether the store takes a copy for a change of metadata alone: onto itself, under the key it has, REPLACE.
    fn is_torn(&self, request: &CopyRequest, source: &Content) -> bool {
        let same_key = match (&request.sse, &source.sse) {
            (Sse::Kms { key: Some(asked), .. }, Sse::Kms { key: Some(has), .. }) => asked.same_key(has),
            (asked, has) => asked == has,
        };
        self.mode.torn_metadata_copy
            && same_key
            && request.to == request.source.key
            && request.source.version.is_none()
            && matches!(request.directive, Directive::Replace(_))
    }

    /// Puts the new metadata on whatever is there now, as MinIO does it: a body written meanwhile gets the metadata of
    /// the one before.
    fn tear(&self, op: &'static str, at: &ObjectAt, request: &CopyRequest) -> Result<Written> {
        let mut core = self.lock();
        let newest = find_version(op, core.bucket(op, &at.bucket)?, at)?;
        let mut content = newest.content.clone().ok_or_else(|| errors::no_such_key(op))?;
        let changed = self.copied(request, &content);
        (content.headers, content.tags, content.lock) = (changed.headers, changed.tags, changed.lock);
        let place = InPlace::default();
        self.land(&mut core, &Landing::new(op, at, &Guard::None, &place), content)
    }
}
