//! PutObject, and the step that every write ends with: under the lock the condition is looked at, the version lands.

use jiff::{SignedDuration, Timestamp};
use keyrotate_proto::capability::Versioning;
use keyrotate_store::{Body, Checksum, Guard, InPlace, Lock, NewObject, ObjectAt, PutRequest, Result, Sse, Written};

use super::bucket::BucketSettings;
use super::checksum;
use super::errors;
use super::inner::{Core, Inner, is_versioned};
use super::object::{Content, NULL, Version};
use super::seal::{Keys, Wanted};
use super::state::{Bucket, Change};

/// One write, ready to land.
pub(super) struct Landing<'a> {
    pub(super) op: &'static str,
    pub(super) at: &'a ObjectAt,
    /// The condition, as far as this store honours it.
    pub(super) guard: &'a Guard,
    pub(super) place: &'a InPlace,
    /// In place, the condition is compared with the current version even when another one is replaced.
    pub(super) guards_current: bool,
    /// The upload that ends in the same step.
    pub(super) ends_upload: Option<&'a str>,
}

impl<'a> Landing<'a> {
    pub(super) fn new(op: &'static str, at: &'a ObjectAt, guard: &'a Guard, place: &'a InPlace) -> Self {
        Self { op, at, guard, place, guards_current: false, ends_upload: None }
    }
}

impl Inner {
    pub(super) async fn put_object(&self, request: PutRequest, body: Body) -> Result<Written> {
        let op = "PutObject";
        self.count(op);
        let guard = if self.mode.put_if_match { request.guard } else { Guard::None };
        let algorithms: Vec<String> = request.new.checksum.iter().map(|sent| sent.algorithm.clone()).collect();
        let landing = Landing::new(op, &request.at, &guard, &request.place);
        self.write_object(landing, &request.new, &algorithms, body).await
    }

    /// Takes a body in and lands it as one version.
    pub(super) async fn write_object(
        &self,
        landing: Landing<'_>,
        new: &NewObject,
        algorithms: &[String],
        body: Body,
    ) -> Result<Written> {
        let (op, at) = (landing.op, landing.at);
        let (mut content, keys) = self.new_content(op, at, new).await?;
        let path = format!("{}/{}", at.bucket, at.key);
        let taken = self.take(op, &path, body, keys.1.as_ref(), algorithms).await?;
        let of_whole = |(algorithm, raw): (&String, &Vec<u8>)| checksum::of_whole(algorithm, raw);
        content.checksums = algorithms.iter().zip(&taken.checksums).map(of_whole).collect();
        verify(op, new.checksum.as_ref(), &content.checksums)?;
        content.size = taken.segment.size;
        content.etag = self.etag(&content.sse, &taken.md5);
        content.segments = vec![taken.segment];
        self.land(&mut self.lock(), &landing, content)
    }

    /// What an object will have, its bytes apart, and its key.
    pub(super) async fn new_content(
        &self,
        op: &'static str,
        at: &ObjectAt,
        new: &NewObject,
    ) -> Result<(Content, Keys)> {
        let settings = self.settings_for(op, at)?;
        let wanted = self.wanted(op, &settings, &new.sse)?;
        self.content_under(op, at, new, wanted).await
    }

    /// The same under an encryption that is settled.
    pub(super) async fn content_under(
        &self,
        op: &'static str,
        at: &ObjectAt,
        new: &NewObject,
        wanted: Wanted,
    ) -> Result<(Content, Keys)> {
        let settings = self.settings_for(op, at)?;
        if new.lock.is_locked() && !settings.lock_enabled {
            return Err(errors::refused(op, "InvalidRequest", "Bucket is missing Object Lock Configuration"));
        }
        let keys = self.new_keys(op, &wanted, &at.bucket, &at.key).await?;
        let content = Content {
            sse: wanted.sse,
            seal: keys.0.clone(),
            headers: new.headers.clone(),
            tags: new.tags.clone(),
            storage_class: new.storage_class.clone().filter(|class| class != "STANDARD"),
            lock: self.lock_of(&new.lock, &settings),
            ..Content::default()
        };
        Ok((content, keys))
    }

    /// The configuration of an object's bucket, where the key is one that the store takes.
    fn settings_for(&self, op: &'static str, at: &ObjectAt) -> Result<BucketSettings> {
        self.check_key(op, &at.key)?;
        Ok(self.lock().bucket(op, &at.bucket)?.settings.clone())
    }

    /// Lands a version: where the condition holds, under the id that the bucket's versioning gives it.
    pub(super) fn land(&self, core: &mut Core, landing: &Landing<'_>, mut content: Content) -> Result<Written> {
        let (op, at) = (landing.op, landing.at);
        let bucket = core.bucket(op, &at.bucket)?;
        if self.mode.in_place
            && let Some(id) = &at.version
        {
            return self.land_in_place(core, landing, id.clone(), content);
        }
        let newest = bucket.newest(&at.key);
        self.check_guard(op, newest.as_deref(), landing.guard)?;
        let new_id = is_versioned(bucket) && !self.is_odd(&at.key);
        let id = if new_id { self.env.random_hex(16) } else { NULL.to_owned() };
        let replaced = bucket.find(&at.key, &id);
        let source_date = landing.place.source_mtime.filter(|_| self.mode.in_place);
        let names_version = bucket.settings.versioning.has_versions() && !self.is_odd(&at.key);
        if let (Some(_), Some(etag)) = (source_date, &landing.place.source_etag)
            && bucket.settings.versioning == Versioning::Off
        {
            content.etag.clone_from(etag);
        }
        let date = source_date.unwrap_or_else(|| self.date_after(newest.as_deref()));
        let keeps_place = source_date.and(replaced.as_deref()).map(|version| version.seq);
        self.make_odd(&at.key, &mut content);
        let written = Written { etag: Some(content.etag.clone()), version: names_version.then(|| id.clone()) };
        // MinIO shows only the end of a longer ETag that a write under SSE-KMS brings along: `….-2` is cut in front. That of
        // an upload in parts is shown whole.
        if self.has_random_etag(&content.sse)
            && !content.multipart
            && let Some(cut) = content.etag.len().checked_sub(32).filter(|_| source_date.is_some())
        {
            content.etag.drain(..cut);
        }
        let seq = keeps_place.unwrap_or_else(|| core.state.next_seq());
        let is_lost = source_date.is_some() && self.is_trapped(replaced.as_deref(), date);
        let version = Version { id, date, seq, content: Some(content) };
        self.place(core, landing, version, is_lost)?;
        Ok(written)
    }

    /// MinIO's in-place form: replaces exactly one version, under its id.
    fn land_in_place(
        &self,
        core: &mut Core,
        landing: &Landing<'_>,
        id: String,
        mut content: Content,
    ) -> Result<Written> {
        let (op, at, place) = (landing.op, landing.at, landing.place);
        let bucket = core.bucket(op, &at.bucket)?;
        let replaced = bucket.find(&at.key, &id);
        self.check_in_place(bucket, landing, replaced.as_deref(), &id)?;
        let date = place.source_mtime.unwrap_or_else(|| self.date_after(bucket.newest(&at.key).as_deref()));
        let keeps_place = place.source_mtime.and(replaced.as_deref()).map(|version| version.seq);
        let seq = keeps_place.unwrap_or_else(|| core.state.next_seq());
        let is_lost = place.source_mtime.is_some() && self.is_trapped(replaced.as_deref(), date);
        self.make_odd(&at.key, &mut content);
        let written = Written { etag: Some(content.etag.clone()), version: Some(id.clone()) };
        let version = Version { id, date, seq, content: Some(content) };
        self.place(core, landing, version, is_lost)?;
        Ok(written)
    }

    /// Whether a version may be replaced in place.
    fn check_in_place(
        &self,
        bucket: &Bucket,
        landing: &Landing<'_>,
        replaced: Option<&Version>,
        id: &str,
    ) -> Result<()> {
        let op = landing.op;
        let newest = bucket.newest(&landing.at.key);
        if *landing.guard != Guard::None {
            if landing.guards_current || id == NULL {
                self.check_guard(op, newest.as_deref(), landing.guard)?;
            } else if replaced.is_none() {
                return Err(errors::no_such_version(op));
            } else {
                self.check_guard(op, replaced, landing.guard)?;
            }
        }
        let Some(replaced) = replaced else { return Ok(()) };
        let content = replaced.content.as_ref().ok_or_else(|| errors::delete_marker(op))?;
        if self.holds(content, false) {
            return Err(errors::locked(op, &self.mode));
        }
        if landing.place.source_etag.as_ref() == Some(&content.etag) && id != NULL {
            return Err(errors::precondition(op));
        }
        Ok(())
    }

    /// Adds the version, or, with a date that is not strictly later on a store with that trap, loses the old one.
    fn place(&self, core: &mut Core, landing: &Landing<'_>, version: Version, is_lost: bool) -> Result<()> {
        let (bucket, key) = (landing.at.bucket.clone(), landing.at.key.clone());
        let change = if is_lost {
            Change::Remove { bucket, key, id: version.id }
        } else {
            Change::Write { bucket, key, version }
        };
        let ended = landing.ends_upload.map(|id| Change::EndUpload { id: id.to_owned() });
        core.commit(landing.op, std::iter::once(change).chain(ended).collect())
    }

    fn is_trapped(&self, replaced: Option<&Version>, date: Timestamp) -> bool {
        self.mode.date_trap && replaced.is_some_and(|version| date <= version.date)
    }

    /// Whether a lock forbids that a version is removed; `governance`: whether that mode counts, too.
    pub(super) fn holds(&self, content: &Content, governance: bool) -> bool {
        let retained = content.lock.retention.as_ref();
        let retained = retained.is_some_and(|(mode, until)| {
            *until > self.env.now() && (governance || mode.eq_ignore_ascii_case("COMPLIANCE"))
        });
        content.lock.legal_hold || retained
    }

    /// The date of a new version: now, and always later than that of the newest one.
    pub(super) fn date_after(&self, newest: Option<&Version>) -> Timestamp {
        let now = self.env.now();
        let after = newest.and_then(|version| version.date.checked_add(SignedDuration::from_nanos(1)).ok());
        after.map_or(now, |after| now.max(after))
    }

    /// The ETag of a single-part object.
    pub(super) fn etag(&self, sse: &Sse, md5: &[u8]) -> String {
        if self.has_random_etag(sse) { self.env.random_hex(16) } else { hex::encode(md5) }
    }

    pub(super) fn has_random_etag(&self, sse: &Sse) -> bool {
        self.mode.kms_etag_random && matches!(sse, Sse::Kms { .. } | Sse::DualLayer { .. })
    }

    fn make_odd(&self, key: &str, content: &mut Content) {
        if self.is_odd(key) && content.sse != Sse::None {
            content.head_etag = Some(format!("20000f00{}{}", self.env.random_hex(16), self.env.random_hex(16)));
        }
    }

    /// The lock that a new version gets: the request's, else the bucket's default retention.
    fn lock_of(&self, asked: &Lock, settings: &BucketSettings) -> Lock {
        let default = settings.default_retention.as_ref().filter(|_| settings.lock_enabled);
        let until = |days: u32| self.env.now().checked_add(SignedDuration::from_hours(i64::from(days) * 24)).ok();
        let default = default.and_then(|(mode, days)| Some((mode.clone(), until(*days)?)));
        Lock { retention: asked.retention.clone().or(default), legal_hold: asked.legal_hold }
    }
}

/// Whether a checksum that was sent is the right one.
pub(super) fn verify(op: &'static str, sent: Option<&Checksum>, computed: &[Checksum]) -> Result<()> {
    let Some(sent) = sent.filter(|sent| !sent.value.is_empty()) else { return Ok(()) };
    if computed.iter().any(|c| c.algorithm == sent.algorithm && c.value == sent.value) {
        return Ok(());
    }
    Err(errors::refused(op, "BadDigest", "The checksum that you sent is not the one of the body"))
}
