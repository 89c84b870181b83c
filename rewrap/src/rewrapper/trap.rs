//! The trap that destroys data: a store that does not know `UpdateObjectEncryption` takes it for a PutObject, answers
//! 200, and the object is our XML. A store behind a load balancer may change its mind, so every object is looked at
//! whose read-back is not what it should be.

use keyrotate_proto::capability::Frozen;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::state::StopReason;
use keyrotate_store::{ErrorKind, GetRequest, Object, ObjectAt, Sse, StoreError, update_encryption_body};

use super::Rewrapper;
use super::write::named;
use crate::facts::Facts;
use crate::halt::Halt;
use crate::plan::Plan;

/// No request of `UpdateObjectEncryption` is longer.
const XML_LIMIT: u64 = 16 << 10;

/// What the object is now.
enum Found {
    /// Byte for byte what we sent.
    OurXml(Box<Object>),
    /// Not that, and yet made of it.
    LikeOurXml,
    /// Somebody's.
    Other,
}

impl Rewrapper {
    /// Looks whether the object is the XML of our request: names it and stops the job. On a versioned bucket our version
    /// is removed by its id, and what was there before is current again. An object that `differs` from what it was and
    /// can't be looked at stops the job too: the next write may be the next object lost.
    pub(super) async fn trap(&self, plan: &Plan, differs: bool) -> Result<(), Halt> {
        let Sse::Kms { key: Some(key), bucket_key, .. } = &plan.wanted else { return Ok(()) };
        if plan.strategy != Strategy::UpdateEncryption {
            return Ok(());
        }
        let what = match self.found(plan, &update_encryption_body(&key.0, *bucket_key)).await {
            Ok(Found::Other) => return Ok(()),
            Ok(Found::OurXml(object)) => {
                let new = object.version.filter(|id| Some(id) != plan.facts.at.version.as_ref());
                self.remove_ours(&plan.facts.at, new).await
            }
            Ok(Found::LikeOurXml) => "the object now holds our request for UpdateObjectEncryption".to_owned(),
            // Deleted meanwhile, or written under a key of somebody's own or into an archive: that is not what our request
            // makes.
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::CustomerKey | ErrorKind::Archived) => {
                return Ok(());
            }
            Err(_) if !differs => return Ok(()),
            Err(error) => format!(
                "after UpdateObjectEncryption it is not as it was, and whether the store replaced it by our request could \
                 not be seen: {error}"
            ),
        };
        Err(self.stop(StopReason::ObjectReplaced, named(plan.strategy, &plan.facts.at, &what)))
    }

    async fn found(&self, plan: &Plan, sent: &str) -> Result<Found, StoreError> {
        let current = plan.facts.at.at_version(None);
        let (object, body) = self.store.get(GetRequest::of(&current)).await?;
        let unchanged = object.size == plan.facts.size && object.etag == plan.facts.etag;
        if unchanged || object.size > XML_LIMIT {
            return Ok(Found::Other);
        }
        let body = body.collect().await?;
        Ok(if body == sent.as_bytes() {
            Found::OurXml(Box::new(object))
        } else if is_made_of(&body, sent) {
            Found::LikeOurXml
        } else {
            Found::Other
        })
    }

    /// Whether a body of this size may be the XML of a request of this job's.
    pub(super) fn may_be_our_xml(&self, size: u64) -> bool {
        self.xml.iter().any(|xml| xml.len() as u64 == size)
    }

    /// The same for an object that was not written but found: a process that ended between the request and its
    /// read-back left nobody who knows. Costs one GET of the few objects that are just as long as the request.
    pub(super) async fn trapped_before(&self, facts: &Facts) -> Result<(), Halt> {
        if !facts.latest || !self.may_be_our_xml(facts.size) {
            return Ok(());
        }
        let Ok((object, body)) = self.store.get(GetRequest::of(&facts.at)).await else { return Ok(()) };
        match body.collect().await {
            Ok(body) if self.xml.iter().any(|xml| xml.as_bytes() == body) => {}
            _ => return Ok(()),
        }
        let what = self.remove_ours(&facts.at, object.version).await;
        Err(self.stop(StopReason::ObjectReplaced, named(Strategy::UpdateEncryption, &facts.at, &what)))
    }

    /// Removes the version that our request made, where it made one; says what came of it.
    async fn remove_ours(&self, at: &ObjectAt, new: Option<String>) -> String {
        let what = "the store took UpdateObjectEncryption for a PutObject and replaced the object by XML";
        let versions = self.rules.frozen.versioning.has_versions();
        let Some(id) = new.filter(|id| versions && id != "null") else { return what.to_owned() };
        match self.store.delete(&at.at_version(Some(id.clone()))).await {
            Ok(()) => format!("{what}; that version, {id}, was removed and the one before it is current again"),
            Err(error) => format!("{what}; that version, {id}, could not be removed: {error}"),
        }
    }
}

/// All bodies that an UpdateObjectEncryption of a job may have; none where it is not used.
pub(super) fn bodies(frozen: &Frozen) -> Vec<String> {
    if !frozen.proofs.iter().any(|proof| proof.strategy == Strategy::UpdateEncryption) {
        return Vec::new();
    }
    let flags = |key: &KeyName| [None, Some(true), Some(false)].map(|flag| update_encryption_body(&key.0, flag));
    frozen.target.all().into_iter().flat_map(flags).collect()
}

/// Whether a body holds what was sent, framed or declared in a way that we do not send.
fn is_made_of(body: &[u8], sent: &str) -> bool {
    String::from_utf8_lossy(body).contains(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framed_xml_is_known_as_made_of_ours() {
        let sent = update_encryption_body("arn:aws:kms:us-east-1:1:key/k", Some(true));
        assert!(is_made_of(format!("<?xml version=\"1.0\"?>\n{sent}\n").as_bytes(), &sent));
        assert!(is_made_of(format!("cf\r\n{sent}\r\n0\r\n").as_bytes(), &sent));
        let other = update_encryption_body("arn:aws:kms:us-east-1:1:key/other", Some(true));
        for body in [other.as_bytes(), b"\xff\xfe", b""] {
            assert!(!is_made_of(body, &sent));
        }
    }
}
