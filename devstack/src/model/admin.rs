//! What users do beside the calls that rotation needs: buckets, tags, locks, deletes; and objects that no call makes.

use keyrotate_proto::capability::Versioning;
use keyrotate_store::{Body, Guard, InPlace, Lock, NewObject, ObjectAt, Result, Sse, StoreError, Tags, Written};

use super::Deleted;
use super::bucket::BucketSettings;
use super::errors;
use super::inner::{Inner, find_version, is_versioned};
use super::object::{Content, NULL, Version};
use super::seal::Wanted;
use super::state::Change;
use super::synthetic::SyntheticKeys;
use super::write::Landing;

impl Inner {
    pub(super) fn create_bucket(
        &self,
        name: &str,
        settings: BucketSettings,
        synthetic: Option<SyntheticKeys>,
    ) -> Result<()> {
        let op = "CreateBucket";
        self.count(op);
        check_settings(op, &settings)?;
        let mut core = self.lock();
        if core.state.buckets.contains_key(name) {
            let message = "Your previous request to create the named bucket succeeded and you already own it.";
            let kind = keyrotate_store::ErrorKind::Refused;
            return Err(StoreError::answered(op, kind, 409, "BucketAlreadyOwnedByYou", message));
        }
        core.commit(op, vec![Change::Bucket { name: name.to_owned(), settings, synthetic }])
    }

    pub(super) fn configure(&self, op: &'static str, name: &str, settings: BucketSettings) -> Result<()> {
        self.count(op);
        check_settings(op, &settings)?;
        let mut core = self.lock();
        let before = core.bucket(op, name)?.settings.versioning;
        if before != Versioning::Off && settings.versioning == Versioning::Off {
            return Err(errors::refused(op, "MalformedXML", "Versioning can be suspended, never removed"));
        }
        core.commit(op, vec![Change::Settings { name: name.to_owned(), settings }])
    }

    pub(super) fn delete_bucket(&self, name: &str) -> Result<()> {
        let op = "DeleteBucket";
        self.count(op);
        let mut core = self.lock();
        if !core.bucket(op, name)?.is_empty() {
            let (kind, message) = (keyrotate_store::ErrorKind::Refused, "The bucket you tried to delete is not empty");
            return Err(StoreError::answered(op, kind, 409, "BucketNotEmpty", message));
        }
        let of_bucket = core.state.uploads.iter().filter(|(_, open)| open.bucket == name);
        let mut changes: Vec<Change> = of_bucket.map(|(id, _)| Change::EndUpload { id: id.clone() }).collect();
        changes.push(Change::DropBucket { name: name.to_owned() });
        core.commit(op, changes)
    }

    pub(super) fn put_tags(&self, at: &ObjectAt, tags: Tags) -> Result<()> {
        let op = "PutObjectTagging";
        self.amend(op, at, |content| {
            content.tags = tags;
            Ok(())
        })
    }

    pub(super) fn let_read(&self, at: &ObjectAt, reader: &str) -> Result<()> {
        self.amend("PutObjectAcl", at, |content| {
            content.readers.push(reader.to_owned());
            Ok(())
        })
    }

    pub(super) fn mark_replica(&self, at: &ObjectAt) -> Result<()> {
        self.amend("ReplicateObject", at, |content| {
            content.replica = true;
            Ok(())
        })
    }

    pub(super) fn put_lock(&self, at: &ObjectAt, lock: Lock) -> Result<()> {
        let op = "PutObjectRetention";
        if !self.lock().bucket(op, &at.bucket)?.settings.lock_enabled {
            return Err(errors::refused(op, "InvalidRequest", "Bucket is missing Object Lock Configuration"));
        }
        self.amend(op, at, |content| {
            let until = |lock: &Lock| lock.retention.as_ref().map(|(_, until)| *until);
            let compliance = content.lock.retention.as_ref().is_some_and(|(mode, _)| mode == "COMPLIANCE");
            if compliance && self.holds(content, false) && until(&lock) < until(&content.lock) {
                return Err(errors::locked(op, &self.mode));
            }
            content.lock = lock;
            Ok(())
        })
    }

    /// Changes what lies beside a version's bytes; its ETag and date stay.
    fn amend(&self, op: &'static str, at: &ObjectAt, change: impl FnOnce(&mut Content) -> Result<()>) -> Result<()> {
        self.count(op);
        self.check_key(op, &at.key)?;
        let mut core = self.lock();
        let found = find_version(op, core.bucket(op, &at.bucket)?, at)?;
        let mut content = found.content.clone().ok_or_else(|| errors::delete_marker(op))?;
        change(&mut content)?;
        let version = Version { content: Some(content), ..Version::clone(&found) };
        core.commit(op, vec![Change::Write { bucket: at.bucket.clone(), key: at.key.clone(), version }])
    }

    pub(super) fn delete_object(&self, at: &ObjectAt) -> Result<Deleted> {
        let op = "DeleteObject";
        self.count(op);
        self.check_key(op, &at.key)?;
        let mut core = self.lock();
        let bucket = core.bucket(op, &at.bucket)?;
        let versioned = bucket.settings.versioning.has_versions() && !self.is_odd(&at.key);
        let (name, key) = (at.bucket.clone(), at.key.clone());
        if at.version.is_some() || !versioned {
            let id = at.version.clone().unwrap_or_else(|| NULL.to_owned());
            let Some(found) = bucket.find(&at.key, &id) else {
                return Ok(Deleted { version: at.version.clone(), delete_marker: false });
            };
            if found.content.as_ref().is_some_and(|content| self.holds(content, true)) {
                return Err(errors::locked(op, &self.mode));
            }
            core.commit(op, vec![Change::Remove { bucket: name, key, id }])?;
            return Ok(Deleted { version: at.version.clone(), delete_marker: found.content.is_none() });
        }
        let id = if is_versioned(bucket) { self.env.random_hex(16) } else { NULL.to_owned() };
        let date = self.date_after(bucket.newest(&at.key).as_deref());
        let version = Version { id: id.clone(), date, seq: core.state.next_seq(), content: None };
        core.commit(op, vec![Change::Write { bucket: name, key, version }])?;
        Ok(Deleted { version: Some(id), delete_marker: true })
    }

    /// Makes an object whatever the store's rules are: its encryption is the one given, plaintext included.
    pub(super) async fn seed(&self, at: &ObjectAt, new: NewObject, body: Body) -> Result<Written> {
        let op = "PutObject";
        let wanted = match &new.sse {
            Sse::DualLayer { key: Some(key) } => {
                let sse = Sse::DualLayer { key: Some(self.mode.show_key(&key.0)) };
                Wanted { sse, kms_key: Some(self.mode.kms_name(&key.0).to_owned()) }
            }
            other => Wanted { sse: other.clone(), kms_key: None },
        };
        let (mut content, keys) = self.content_under(op, at, &new, wanted).await?;
        let path = format!("{}/{}", at.bucket, at.key);
        let taken = self.take(op, &path, body, keys.1.as_ref(), &[]).await?;
        content.size = taken.segment.size;
        content.etag = self.etag(&content.sse, &taken.md5);
        content.segments = vec![taken.segment];
        let place = InPlace::default();
        self.land(&mut self.lock(), &Landing::new(op, at, &Guard::None, &place), content)
    }
}

fn check_settings(op: &'static str, settings: &BucketSettings) -> Result<()> {
    if settings.lock_enabled && settings.versioning != Versioning::Enabled {
        let message = "Object lock needs versioning to be enabled";
        return Err(errors::refused(op, "InvalidBucketState", message));
    }
    Ok(())
}
