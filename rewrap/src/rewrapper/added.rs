//! A version that we added: does it lie right on the one that was read, and is that one still as it was read?
//!
//! A condition on the ETag does not see a change of tags, lock or ACL alone, nor the same body put again with other
//! headers, and an unguarded write sees nothing. In a bucket that keeps versions all of that can be seen afterwards: then
//! ours is withdrawn by its id, what somebody else wrote is the current version again, and the object is a conflict.

use keyrotate_proto::capability::Versioning;
use keyrotate_proto::outcome::{Note, Outcome, SkipReason};
use keyrotate_proto::row::Row;
use keyrotate_proto::spec::Superseded;
use keyrotate_store::{Object, ObjectAt, Tags};

use super::{Rewrapper, unwritten};
use crate::bodies;
use crate::classify::{Doing, Meaning, classify};
use crate::facts::is_marker;
use crate::halt::Halt;
use crate::plan::Plan;
use crate::readback::{Seen, same_tags};

/// What a version of ours lies on.
enum Ground {
    /// The version that was read.
    Read,
    /// Another one, written by somebody after that.
    Other(String),
    /// A delete marker: somebody deleted the object after that.
    Deleted,
    /// The version that was read is gone, and ours may be all that is left of its content.
    Nothing,
    /// Ours is gone itself.
    Removed,
}

/// What of the version that was read is not as it was.
enum Altered {
    Nothing,
    /// This, before our write: ours has it as it was.
    Before(&'static str),
    /// It and ours differ in this, and nothing tells which of them somebody changed.
    Either(&'static str),
}

impl Rewrapper {
    /// The row of a version that was added and read back: `rotated`, if it lies right on the version that was read, and
    /// that one is as it was read; else ours is withdrawn. `sent`: the tags that it was written with, where they were sent.
    pub(super) async fn added(&self, plan: &Plan, sent: Option<&Tags>, ours: &Seen, rotated: Row) -> Result<Row, Halt> {
        let source = &plan.facts.at;
        // MinIO keeps no versions of a key that ends in `/`: nothing was added.
        let replaced = ours.version == source.version || ours.version.is_none() && is_marker(&source.key);
        if replaced {
            return Ok(rotated);
        }
        let Some(id) = &ours.version else {
            return Ok(conflict(plan, "the store does not name the version that was added".into()));
        };
        match self.ground(source, id).await? {
            Ground::Read => {}
            Ground::Other(other) => {
                let what = format!("version {other} was written between our read and our write");
                return self.withdraw(plan, ours, conflict(plan, what)).await;
            }
            Ground::Deleted => {
                let gone = unwritten(&plan.facts, Outcome::Skipped(SkipReason::Gone), "");
                return self.withdraw(plan, ours, gone).await;
            }
            // What a guard would have refused, if it had been deleted before.
            Ground::Nothing => {
                let mut row = rotated;
                row.notes.extend((!plan.guarded).then_some(Note::SourceDeleted));
                return Ok(row);
            }
            Ground::Removed => return Ok(conflict(plan, format!("version {id}, made from it, was deleted"))),
        }
        let source_now = match self.headed(source).await? {
            Ok(object) => object,
            Err(error) => return Ok(conflict(plan, format!("version {id} was made from it, and then: {error}"))),
        };
        match self.altered(plan, sent, &source_now, ours).await? {
            Altered::Nothing => {}
            Altered::Before(what) => {
                let what = format!("its {what} changed between our read and our write");
                return self.withdraw(plan, ours, conflict(plan, what)).await;
            }
            // What somebody did to ours would be gone with it.
            Altered::Either(what) => {
                let what =
                    format!("its {what} and that of version {id}, made from it, differ: somebody changed one of them");
                return Ok(conflict(plan, what));
            }
        }
        self.expired(plan, &source_now, ours, rotated).await
    }

    async fn ground(&self, source: &ObjectAt, ours: &str) -> Result<Ground, Halt> {
        let versions = self.versions(source).await?;
        let Some(place) = versions.iter().position(|entry| entry.version.as_deref() == Some(ours)) else {
            return Ok(Ground::Removed);
        };
        let is_source = |version: &Option<String>| *version == source.version;
        Ok(match versions.get(place + 1) {
            Some(below) if is_source(&below.version) => Ground::Read,
            _ if !versions.last().is_some_and(|last| is_source(&last.version)) => Ground::Nothing,
            Some(below) if below.delete_marker => Ground::Deleted,
            Some(below) => Ground::Other(below.version.clone().unwrap_or_default()),
            None => Ground::Nothing,
        })
    }

    async fn altered(&self, plan: &Plan, sent: Option<&Tags>, now: &Object, ours: &Seen) -> Result<Altered, Halt> {
        if plan.facts.shown.as_ref().is_some_and(|shown| shown.by_head() && shown.lock != now.lock) {
            return Ok(Altered::Before("lock"));
        }
        let standing = now.lock.standing(self.env.now());
        if ours.lock.as_ref().is_some_and(|lock| !lock.covers(&standing)) {
            return Ok(Altered::Either("lock"));
        }
        if now.headers != ours.headers {
            return Ok(Altered::Before("metadata"));
        }
        if self.rules.frozen.acl_owner.is_some() {
            let mut facts = plan.facts.clone();
            facts.plain_acl = None;
            self.ask(super::look::Ask::Acl, &mut facts).await?;
            if facts.plain_acl == Some(false) {
                return Ok(Altered::Before("ACL"));
            }
        }
        let none = |count: Option<u32>| count.or(self.rules.frozen.tags_announced.then_some(0)) == Some(0);
        if none(now.tag_count) && none(ours.tag_count) && sent.is_none_or(Vec::is_empty) {
            return Ok(Altered::Nothing);
        }
        let at_ours = plan.facts.at.at_version(ours.version.clone());
        let (Some(theirs), Some(mine)) = (self.tags_of(&plan.facts.at).await?, self.tags_of(&at_ours).await?) else {
            return Ok(Altered::Nothing);
        };
        Ok(match sent {
            Some(sent) if same_tags(&theirs, sent) => Altered::Nothing,
            Some(sent) if same_tags(&mine, sent) => Altered::Before("tags"),
            _ if same_tags(&theirs, &mine) => Altered::Nothing,
            _ => Altered::Either("tags"),
        })
    }

    /// Its tags; `None` where nobody can read them.
    async fn tags_of(&self, at: &ObjectAt) -> Result<Option<Tags>, Halt> {
        match self.store.tags(at).await {
            Ok(tags) => Ok(Some(tags)),
            Err(error) => match classify(&error, Doing::Reading) {
                Meaning::Halt(halt) => Err(halt),
                _ => Ok(None),
            },
        }
    }

    /// Deletes the version that we added, by its id, so that what lies below is the current one again. What a lock holds
    /// stays, and the row names it.
    async fn withdraw(&self, plan: &Plan, ours: &Seen, mut row: Row) -> Result<Row, Halt> {
        let at = plan.facts.at.at_version(ours.version.clone());
        let name = ours.version.clone().unwrap_or_default();
        if let Err(error) = self.store.delete(&at).await {
            if let Meaning::Halt(halt) = classify(&error, Doing::Writing) {
                return Err(halt);
            }
            let why = if row.detail.is_empty() { "it was deleted between our read and our write" } else { &row.detail };
            return Ok(conflict(
                plan,
                format!("{why}; version {name}, made before that, could not be withdrawn: {error}"),
            ));
        }
        let visible = plan.written.map(|written| format!(" after {:.1} s", written.elapsed().as_secs_f64()));
        let withdrawn = format!("version {name} was withdrawn{}", visible.unwrap_or_default());
        row.detail = if row.detail.is_empty() { withdrawn } else { format!("{}; {withdrawn}", row.detail) };
        row.notes.insert(Note::Withdrawn);
        tracing::warn!("a version of ours lay over somebody else's write and was withdrawn");
        Ok(row)
    }

    /// With `superseded: expire`, deletes the version that was replaced: by its id, unlocked, and only if the new one was
    /// seen to have the same content.
    async fn expired(&self, plan: &Plan, old: &Object, new: &Seen, mut row: Row) -> Result<Row, Halt> {
        if self.rules.spec.options.superseded != Superseded::Expire {
            return Ok(row);
        }
        let kept = match self.why_not_expire(plan, old, new).await? {
            Some(why) => why,
            None => match self.store.delete(&plan.facts.at).await {
                Ok(()) => {
                    row.notes.insert(Note::SupersededDeleted);
                    return Ok(row);
                }
                Err(error) => match classify(&error, Doing::Writing) {
                    Meaning::Halt(halt) => return Err(halt),
                    _ => error.to_string(),
                },
            },
        };
        row.detail = format!("the version that it replaced stays: {kept}");
        Ok(row)
    }

    async fn why_not_expire(&self, plan: &Plan, old: &Object, new: &Seen) -> Result<Option<String>, Halt> {
        if self.rules.frozen.versioning != Versioning::Enabled {
            return Ok(Some("versioning is suspended, and whatever is put next takes the place of the new one".into()));
        }
        if old.lock.standing(self.env.now()).is_locked() {
            return Ok(Some("it is locked".into()));
        }
        if new.checksums.iter().flatten().any(|checksum| old.checksums.contains(checksum)) {
            return Ok(None);
        }
        if !self.rules.spec.options.body_transit.allows(old.size) {
            return Ok(Some("it has no checksum, and its body is over `bodyTransit`".into()));
        }
        let mut digests = Vec::with_capacity(2);
        for (version, etag) in [(&plan.facts.at.version, &old.etag), (&new.version, &new.etag)] {
            match bodies::digest(self.store.as_ref(), &plan.facts.at.at_version(version.clone()), etag).await {
                Ok(digest) => digests.push(digest),
                Err(error) => match classify(&error, Doing::Reading) {
                    Meaning::Halt(halt) => return Err(halt),
                    _ => return Ok(Some(error.to_string())),
                },
            }
        }
        Ok((digests[0] != digests[1]).then(|| "its body is not that of the new one".into()))
    }
}

fn conflict(plan: &Plan, detail: String) -> Row {
    Row { strategy: Some(plan.strategy), ..unwritten(&plan.facts, Outcome::Conflict, detail) }
}
