//! UpdateObjectEncryption: where it is known, and where it is taken for a PutObject.

use std::sync::Arc;

use bytes::Bytes;
use keyrotate_proto::key::KeyName;
use keyrotate_store::{Guard, InPlace, NewObject, ObjectAt, PutRequest, Result, Sse, update_encryption_body};

use super::errors;
use super::inner::{Inner, find_version};
use super::mode::KeyIds;
use super::object::{Content, Version};
use super::state::Change;

impl Inner {
    pub(super) async fn update_encryption(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        let op = "UpdateObjectEncryption";
        self.count(op);
        if !self.mode.update_encryption {
            return self.overwrite(at, key, bucket_key).await;
        }
        if !KeyName(key.to_owned()).is_full_arn() && matches!(self.mode.key_ids, KeyIds::FullArn(_)) {
            return Err(errors::refused(op, "InvalidArgument", "The KMS key must be given as a full ARN"));
        }
        loop {
            let found = self.look(op, at)?;
            self.check_update(op, &found.content)?;
            let changed = self.reseal(op, at, &found.content, key, bucket_key).await?;
            let mut core = self.lock();
            let now = find_version(op, core.bucket(op, &at.bucket)?, at)?;
            // Somebody wrote meanwhile: the store's own call is atomic, so it is done again on what is there now. A
            // computed version is a new one at each look.
            if now.seq != 0 && !Arc::ptr_eq(&now, &found.version) {
                continue;
            }
            let version = Version { content: Some(changed), ..Version::clone(&now) };
            return core.commit(op, vec![Change::Write { bucket: at.bucket.clone(), key: at.key.clone(), version }]);
        }
    }

    fn check_update(&self, op: &'static str, content: &Content) -> Result<()> {
        match content.sse {
            Sse::S3 | Sse::Kms { .. } => {}
            Sse::Customer => return Err(errors::customer_key(op)),
            Sse::None | Sse::DualLayer { .. } => {
                let message = "The object's encryption can't be updated from its current type";
                return Err(errors::refused(op, "InvalidRequest", message));
            }
        }
        if self.holds(content, true) { Err(errors::locked(op, &self.mode)) } else { Ok(()) }
    }

    /// The same content with its object key under another KMS key.
    async fn reseal(
        &self,
        op: &'static str,
        at: &ObjectAt,
        content: &Content,
        key: &str,
        bucket_key: Option<bool>,
    ) -> Result<Content> {
        let settings = self.lock().bucket(op, &at.bucket)?.settings.clone();
        let asked = Sse::Kms { key: Some(KeyName(key.to_owned())), context: None, bucket_key };
        let wanted = self.wanted(op, &settings, &asked)?;
        let seal = match self.open_seal(op, content.seal.as_ref()).await? {
            Some(object_key) => self.seal(op, &wanted, &at.bucket, &at.key, &object_key).await?,
            None => {
                // Bytes in clear stay so; the key must exist all the same.
                self.new_keys(op, &wanted, &at.bucket, &at.key).await?;
                None
            }
        };
        Ok(Content { sse: wanted.sse, seal, ..content.clone() })
    }

    /// The trap: 200, and the object is the request's XML.
    async fn overwrite(&self, at: &ObjectAt, key: &str, bucket_key: Option<bool>) -> Result<()> {
        let body = Bytes::from(update_encryption_body(key, bucket_key));
        let request =
            PutRequest { at: at.clone(), new: NewObject::default(), guard: Guard::None, place: InPlace::default() };
        self.put_object(request, body.into()).await.map(|_| ())
    }
}
