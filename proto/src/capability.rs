//! What was proven about a store and a bucket before anybody's object was touched, and the target that follows.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use crate::key::KeyName;
use crate::outcome::Strategy;

/// Version of [`Frozen`] that this code writes.
pub const FROZEN_VERSION: u32 = 1;

/// Versioning of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versioning {
    /// Never enabled.
    #[default]
    Off,
    /// On.
    Enabled,
    /// Was on: new writes replace the version `null`.
    Suspended,
}

impl Versioning {
    /// Whether the bucket is listed by versions.
    #[must_use]
    pub fn has_versions(self) -> bool {
        !matches!(self, Self::Off)
    }
}

/// The target as every write names it: resolved once, never changed for the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FrozenTarget {
    /// The store's own key.
    SseS3,
    /// A named KMS key.
    SseKms {
        /// The key, as writes name it.
        key: KeyName,
        /// The job's encryption context, given to every object.
        context: Option<BTreeMap<String, String>>,
        /// Where each old key has a new one of its own: which, as writes name it. `key` is one of these then.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        keys: BTreeMap<KeyName, KeyName>,
    },
}

impl FrozenTarget {
    /// A KMS key for all objects.
    #[must_use]
    pub fn key(key: KeyName) -> Self {
        Self::SseKms { key, context: None, keys: BTreeMap::new() }
    }

    /// All keys that the job brings objects under, each once; none for SSE-S3.
    #[must_use]
    pub fn all(&self) -> BTreeSet<&KeyName> {
        match self {
            Self::SseS3 => BTreeSet::new(),
            Self::SseKms { key, keys, .. } => keys.values().chain([key]).collect(),
        }
    }

    /// Whether it is one of the keys that the job brings objects under.
    #[must_use]
    pub fn has(&self, key: &KeyName) -> bool {
        self.all().into_iter().any(|target| target.same_key(key))
    }

    /// Whether each old key has a new one of its own.
    #[must_use]
    pub fn is_map(&self) -> bool {
        matches!(self, Self::SseKms { keys, .. } if !keys.is_empty())
    }

    /// The new key of an object that is under `old`, or under none; `None` where the map does not name that one.
    #[must_use]
    pub fn new_key(&self, old: Option<&KeyName>) -> Option<&KeyName> {
        let Self::SseKms { key, keys, .. } = self else { return None };
        if keys.is_empty() {
            return Some(key);
        }
        let old = old?;
        let mapped = keys.iter().find(|(from, _)| from.same_key(old)).map(|(_, to)| to);
        mapped.or_else(|| self.all().into_iter().find(|target| target.same_key(old)))
    }

    /// The encryption context that every object gets, where the file gives one.
    #[must_use]
    pub fn context(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::SseKms { context, .. } => context.as_ref(),
            Self::SseS3 => None,
        }
    }
}

/// How an object is encrypted before a strategy is tried on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Not at all.
    Plaintext,
    /// With the store's own key.
    SseS3,
    /// Under a KMS key other than the target.
    SseKms,
}

/// Something of an object that a strategy may keep or lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// User metadata, content headers, `Cache-Control`, `Expires`.
    Metadata,
    /// `x-amz-website-redirect-location`.
    WebsiteRedirect,
    /// Tags.
    Tags,
    /// The checksum beside the object, of its algorithm and type.
    Checksum,
    /// Number and sizes of its parts, of an object that was uploaded in parts.
    Parts,
}

/// One strategy that ran on a probe object of ours in the bucket, with GET giving back the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The strategy.
    pub strategy: Strategy,
    /// How the probe was encrypted before.
    pub source: SourceKind,
    /// Whether the probe was made of two parts.
    pub multipart: bool,
    /// Whether the same call with a wrong ETag was refused and left the object as it was. `true` for
    /// `update-encryption`, which changes no content.
    pub guarded: bool,
    /// What the probe still had afterwards.
    #[serde(deserialize_with = "known")]
    pub keeps: BTreeSet<Property>,
    /// Whether it was done to a noncurrent version, too, which kept its id and its place below the newer one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub noncurrent: bool,
}

/// Where it is written down who works on a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeasePlace {
    /// In an object of the bucket itself, where every installation finds it.
    Bucket,
    /// In the report store: only who shares it is kept apart.
    #[default]
    Reports,
}

/// What the `prepare` pass found; frozen in the job record by its last commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// [`FROZEN_VERSION`] of the writer.
    pub version: u32,
    /// The target as every write names it.
    pub target: FrozenTarget,
    /// Versioning of the bucket.
    pub versioning: Versioning,
    /// Whether the listing shows encryption, metadata and tags of every entry (MinIO's `metadata=true`).
    pub listing_facts: bool,
    /// Whether HEAD and GET announce the number of tags; else tags are asked for wherever they matter.
    #[serde(default)]
    pub tags_announced: bool,
    /// Kinds of source that could be made as a probe. Another kind borrows the proofs of the nearest one, and its
    /// first objects go one at a time.
    #[serde(default)]
    pub probed: BTreeSet<SourceKind>,
    /// Whether the probes ran in this very bucket; else `update-encryption` is never used.
    pub same_bucket: bool,
    /// Every strategy that worked, per kind of source.
    pub proofs: Vec<Proof>,
    /// What did not work and why, one line each, for people.
    pub notes: Vec<String>,
    /// Where objects written from now on do not get the target by themselves: the command that mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_objects: Option<String>,
    /// Where objects may have an ACL of their own, which a new version would lose: the owner that a write of ours gives
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl_owner: Option<String>,
    /// Whether the bucket gives every new version a retention.
    #[serde(default)]
    pub retains: bool,
    /// Where it is written down that the job works on this bucket.
    #[serde(default)]
    pub lease: LeasePlace,
    /// Ciphertext (hex) of the KES canary made at the job's start; `None` without a KES.
    pub canary: Option<String>,
    /// The same of each further key, where each old key has a new one of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub canaries: BTreeMap<KeyName, String>,
}

/// What another version of keyrotate named beside these decides nothing here.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Property>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let known = |name: &String| Property::deserialize(StrDeserializer::<D::Error>::new(name)).ok();
    Ok(names.iter().filter_map(known).collect())
}

impl Frozen {
    /// Whether the store is MinIO or AIStor: no other lists with metadata or takes a date and an ETag with a write. With
    /// object locks MinIO does not do the first, with a file that says `inPlace: false` nobody tries the second.
    #[must_use]
    pub fn shows_minio(&self) -> bool {
        self.listing_facts || self.proofs.iter().any(|proof| proof.strategy.is_in_place())
    }

    /// All that is to be said to people, one line each.
    pub fn said(&self) -> impl Iterator<Item = String> {
        let new = self
            .new_objects
            .as_ref()
            .map(|command| format!("new objects will not get the target key by themselves; to mend it: `{command}`"));
        new.into_iter().chain(self.notes.iter().cloned())
    }

    /// Why who works on the bucket can't be written down in the bucket itself; `None` where it can.
    #[must_use]
    pub fn no_lease_in_bucket(&self) -> Option<&'static str> {
        let puts = |proof: &&Proof| proof.strategy.puts();
        if self.retains {
            return Some("the bucket keeps every new version, and a lease is written anew every few minutes");
        }
        let guarded = self.proofs.iter().filter(puts).any(|proof| proof.guarded);
        (!guarded).then_some("no PutObject was seen to be refused where somebody else wrote before")
    }

    /// The proof of a strategy for a kind of source.
    #[must_use]
    pub fn proof(&self, strategy: Strategy, source: SourceKind, multipart: bool) -> Option<&Proof> {
        self.proofs.iter().find(|p| p.strategy == strategy && p.source == source && p.multipart == multipart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_of_another_version_reads_with_what_is_known_of_it() {
        let text = r#"{"strategy":"copy","source":"sse-s3","multipart":false,"guarded":true,"keeps":["etag","tags"]}"#;
        let proof: Proof = serde_json::from_str(text).unwrap();
        assert_eq!(proof.keeps, [Property::Tags].into());
        assert_eq!(serde_json::to_string(&proof).unwrap(), text.replace(r#""etag","#, ""));
    }
}
