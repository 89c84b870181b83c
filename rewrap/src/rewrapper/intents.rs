//! Taking over what a lost window had put down as intents.

use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::row::Row;
use keyrotate_store::{HeadRequest, ObjectAt};

use super::write::rotated;
use super::{Rewrapper, wanted};
use crate::classify::{Doing, Meaning, classify};
use crate::facts::Facts;
use crate::halt::Halt;
use crate::plan::{Look, Plan};
use crate::readback::{Expected, Seen, compare};

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
        if let Some(row) = self.written_above(&at, intent).await? {
            return Ok(TakenOver::Written(row));
        }
        let mut look = self.look_again(&at).await?;
        if let Look::Write(plan) = &mut look
            && plan.strategy == Strategy::CopyMultipart
            && plan.facts.guard() == intent.etag
            && let Some(id) = &intent.upload
        {
            plan.upload = Some(id.clone());
            plan.recorded = true;
        }
        Ok(TakenOver::Look(look))
    }

    /// In a versioned bucket the version right above the one that was read is the window's, if it has all that the
    /// window would have given it.
    async fn written_above(&self, at: &ObjectAt, intent: &Intent) -> Result<Option<Row>, Halt> {
        let adds = !matches!(intent.strategy, Strategy::UpdateEncryption | Strategy::RewriteInPlace);
        if !adds || at.version.is_none() {
            return Ok(None);
        }
        let versions = self.versions(at).await?;
        let [.., above, read] = versions.as_slice() else { return Ok(None) };
        if read.version != at.version || above.delete_marker {
            return Ok(None);
        }
        let mut facts = Facts::listed(&at.bucket, read);
        let (Some(before), Some(after)) =
            (self.headed(at).await?, self.headed(&at.at_version(above.version.clone())).await?)
        else {
            return Ok(None);
        };
        facts.add(&before);
        let expected = Expected {
            sse: wanted(&self.rules.frozen.target, &facts),
            size: before.size,
            headers: before.headers,
            tags: None,
            tag_count: before.tag_count,
            storage_class: before.storage_class,
            checksums: None,
            etag: None,
            version: above.version.clone(),
            date: None,
        };
        let seen = Seen::headed(after);
        let Ok(proof) = compare(&at.key, &expected, &seen) else { return Ok(None) };
        let plan = Plan {
            wanted: expected.sse.clone(),
            facts,
            strategy: intent.strategy,
            why: "written by a window that was lost".into(),
            needs_intent: true,
            untried: false,
            upload: None,
            recorded: false,
            unanswered: 0,
        };
        Ok(Some(rotated(&plan, &expected, &seen, &proof)))
    }

    /// HEAD; `None` where the object gives none.
    async fn headed(&self, at: &ObjectAt) -> Result<Option<keyrotate_store::Object>, Halt> {
        match self.store.head(HeadRequest::of(at)).await {
            Ok(object) => Ok(Some(object)),
            Err(error) => match classify(&error, Doing::Reading) {
                Meaning::Halt(halt) => Err(halt),
                _ => Ok(None),
            },
        }
    }
}
