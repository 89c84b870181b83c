//! HEAD, GET, tags, and what a bucket says of itself.

use keyrotate_store::{Acl, Body, BucketFacts, GetRequest, HeadRequest, Object, ObjectAt, Result, Sse, Tags};

use super::errors;
use super::inner::{Found, Inner};
use super::object::whole_seconds;

impl Inner {
    pub(super) fn head_object(&self, request: &HeadRequest) -> Result<Object> {
        let op = "HeadObject";
        self.count(op);
        let found = self.look(op, &request.at)?;
        if found.content.sse == Sse::Customer {
            return Err(errors::customer_key(op));
        }
        let mut object = self.shown(&found);
        if let Some(etag) = &found.content.head_etag {
            object.etag.clone_from(etag);
        }
        if let Some(part) = request.part {
            let segment = usize::try_from(part).ok().and_then(|n| found.content.segments.get(n.wrapping_sub(1)));
            let no_part = || errors::refused(op, "InvalidPartNumber", "The requested partnumber is not satisfiable");
            object.size = segment.ok_or_else(no_part)?.size;
            let count = u32::try_from(found.content.segments.len()).ok();
            object.parts = count.filter(|_| found.content.multipart);
        }
        Ok(object)
    }

    pub(super) async fn get_object(&self, request: GetRequest) -> Result<(Object, Body)> {
        let op = "GetObject";
        self.count(op);
        let found = self.find(op, &request.at)?;
        let content = &found.content;
        if content.sse == Sse::Customer {
            return Err(errors::customer_key(op));
        }
        if request.if_match.as_deref().is_some_and(|etag| etag != content.guard_etag()) {
            return Err(errors::precondition(op));
        }
        if content.is_archived() {
            return Err(errors::archived(op));
        }
        let (from, to) = request.range.unwrap_or((0, content.size));
        let range = (from, to.min(content.size));
        if range.0 > range.1 || (request.range.is_some() && range.0 == range.1) {
            let message = "The requested range is not satisfiable";
            let kind = keyrotate_store::ErrorKind::Refused;
            return Err(keyrotate_store::StoreError::answered(op, kind, 416, "InvalidRange", message));
        }
        let object = self.shown(&found);
        let path = format!("{}/{}", request.at.bucket, request.at.key);
        Ok((object, self.read(op, &path, found, range).await?))
    }

    pub(super) fn object_tags(&self, at: &ObjectAt) -> Result<Tags> {
        let op = "GetObjectTagging";
        self.count(op);
        Ok(self.look(op, at)?.content.tags)
    }

    pub(super) fn object_acl(&self, at: &ObjectAt) -> Result<Acl> {
        let op = "GetObjectAcl";
        self.count(op);
        if !self.mode.acls {
            return Err(errors::not_implemented(op));
        }
        let owner = "owner".to_owned();
        let readers = self.look(op, at)?.content.readers.into_iter().map(|reader| (reader, "READ".to_owned()));
        let grants = [(owner.clone(), "FULL_CONTROL".to_owned())].into_iter().chain(readers).collect();
        Ok(Acl { owner, grants })
    }

    pub(super) fn bucket_facts(&self, name: &str) -> Result<BucketFacts> {
        let op = "HeadBucket";
        self.count(op);
        let core = self.lock();
        let settings = core.bucket(op, name)?.settings.clone();
        Ok(BucketFacts {
            versioning: settings.versioning,
            default_sse: settings.default_sse.or_else(|| self.mode.encrypts_always.then_some(Sse::S3)),
            lock_enabled: settings.lock_enabled,
            acls_off: false,
            default_retention: settings.default_retention,
            region: settings.region.or_else(|| Some("us-east-1".to_owned())),
            server_date: Some(whole_seconds(self.env.now())),
        })
    }

    fn shown(&self, found: &Found) -> Object {
        found.content.shown(&found.version, found.shows_version, self.env.now())
    }
}
