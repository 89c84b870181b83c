//! Taking over what a lost window had put down as intents.

use keyrotate_proto::intent::{Intent, Made};
use keyrotate_proto::outcome::{Evidence, Outcome};
use keyrotate_proto::row::Row;
use keyrotate_store::{Lock, ObjectAt, Upload};

use super::write::{only_halt, rotated};
use super::{Rewrapper, unwritten, wanted};
use crate::facts::Facts;
use crate::halt::Halt;
use crate::plan::{Look, OpenUpload, Plan, fingerprint};
use crate::readback::{Expected, Seen, compare};
use crate::strategy::{self, Trouble};

/// What a lost window did about one of its intents.
#[derive(Debug)]
pub enum TakenOver {
    /// It made the write: its row.
    Written(Row),
    /// Nothing that can be told from anybody else's write: the object's facts decide as usual. A plan goes on with the
    /// window's upload.
    Look(Look),
}

impl Rewrapper {
    /// Finds out what a lost window did about an intent. Before its first write, the next holder of the shard asks
    /// this for each intent of a window that has no part.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn take_over(&self, intent: &Intent) -> Result<TakenOver, Halt> {
        let bucket = self.rules.spec.bucket.clone();
        let at = ObjectAt { bucket, key: intent.key.clone(), version: intent.version.clone() };
        if let Some(made) = &intent.made
            && (made.read_back || made.row.version_after.is_none())
            && let Some(row) = self.still_as_made(&at, made).await?
        {
            return Ok(TakenOver::Written(row));
        }
        if let Some((plan, seen, row)) = self.written_above(&at, intent).await? {
            return self.added(&plan, None, &seen, row).await.map(TakenOver::Written);
        }
        let mut look = self.look_again(&at).await?;
        if let Some(id) = &intent.upload {
            let upload = Upload { bucket: at.bucket, key: at.key, id: id.clone() };
            let goes_on = match &mut look {
                Look::Write(plan) => self.go_on(plan, intent, &upload).await?,
                Look::Settled(_) => false,
            };
            if !goes_on {
                self.abort(&upload).await;
            }
        }
        Ok(TakenOver::Look(look))
    }

    /// The version that a lost window made of the one that an intent names. Changes nothing.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn made_of(&self, intent: &Intent) -> Result<Option<String>, Halt> {
        if let Some(made) = &intent.made {
            return Ok(made.row.version_after.clone());
        }
        let bucket = self.rules.spec.bucket.clone();
        let at = ObjectAt { bucket, key: intent.key.clone(), version: intent.version.clone() };
        Ok(self.written_above(&at, intent).await?.and_then(|(_, _, row)| row.version_after))
    }

    /// Goes on with the window's upload, while the object is still the one that the upload was created from: an ETag
    /// alone does not say so of metadata and tags. Else nobody will ever complete it.
    async fn go_on(&self, plan: &mut Plan, intent: &Intent, upload: &Upload) -> Result<bool, Halt> {
        if !plan.strategy.uploads() || plan.strategy != intent.strategy || plan.facts.guard() != intent.etag {
            return Ok(false);
        }
        // Another one in its place must be put down first.
        if let Err(error) = self.store.parts(upload).await {
            return only_halt(&Trouble::Reading(error)).map(|()| false);
        }
        let new = match strategy::new_object(self.store.as_ref(), &self.rules.frozen, plan).await {
            Ok(new) => new,
            Err(trouble) => return only_halt(&trouble).map(|()| false),
        };
        if intent.source != Some(fingerprint(&new)) {
            return Ok(false);
        }
        plan.upload = Some(OpenUpload { id: upload.id.clone(), new, recorded: true, fresh: false });
        Ok(true)
    }

    /// The row of a write that was made, where the object is still what it made of it: by version, ETag, size and date.
    /// Where the write was never read back, this look is its read-back; then a store that does not show whether an
    /// object is right proves nothing, and it is written once more.
    async fn still_as_made(&self, at: &ObjectAt, made: &Made) -> Result<Option<Row>, Halt> {
        let row = &made.row;
        let after = at.at_version(row.version_after.clone().or_else(|| row.version.clone()));
        let now = match self.look_again(&after).await? {
            Look::Settled(now) => now,
            Look::Write(plan) => unwritten(&plan.facts, Outcome::Conflict, ""),
        };
        let same = (&now.version, &now.etag, now.size) == (&after.version, &row.etag, row.size);
        Ok(match made.read_back {
            _ if !same => None,
            true => (now.last_modified == row.last_modified).then(|| row.clone()),
            false => (now.outcome == Outcome::Current).then(|| Row {
                outcome: Outcome::Rotated(Evidence::Key),
                after: now.after,
                last_modified: now.last_modified,
                ..row.clone()
            }),
        })
    }

    /// In a versioned bucket the version right above the one that was read is the window's, if it has all that the
    /// window would have given it. Where the window knew its id, it is the window's wherever it lies.
    async fn written_above(&self, at: &ObjectAt, intent: &Intent) -> Result<Option<(Plan, Seen, Row)>, Halt> {
        if !intent.adds_version() {
            return Ok(None);
        }
        let versions = self.versions(at).await?;
        let [above @ .., read] = versions.as_slice() else { return Ok(None) };
        let id = intent.made.as_ref().and_then(|made| made.row.version_after.as_ref());
        let ours = match id {
            Some(id) => above.iter().find(|entry| entry.version.as_ref() == Some(id)),
            None => above.last().filter(|entry| !entry.delete_marker),
        };
        let Some(ours) = ours.filter(|_| read.version == at.version) else { return Ok(None) };
        let mut facts = Facts::listed(&at.bucket, read);
        let (Some(before), Some(after)) =
            (self.headed(at).await?.ok(), self.headed(&at.at_version(ours.version.clone())).await?.ok())
        else {
            return Ok(None);
        };
        facts.add(&before);
        let expected = Expected {
            sse: wanted(&self.rules.frozen.target, &facts, self.rules.spec.options.bucket_key),
            size: before.size,
            headers: before.headers,
            tags: None,
            // Of one that is known, what differs is no question of whose it is.
            tag_count: before.tag_count.filter(|_| id.is_none()),
            storage_class: before.storage_class,
            checksums: None,
            etag: None,
            version: ours.version.clone(),
            date: None,
            lock: if id.is_none() { before.lock.standing(self.env.now()) } else { Lock::default() },
        };
        let seen = Seen::headed(after);
        let Ok(proof) = compare(&at.key, &expected, &seen) else { return Ok(None) };
        let why = "written by a window that was lost".into();
        let plan = Plan::new(facts, intent.strategy, expected.sse.clone(), why, self.env.now());
        let row = rotated(&plan, &expected, &seen, &proof);
        Ok(Some((plan, seen, row)))
    }
}
