//! What became of one object version, and why.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reason::reasons;

reasons! {
    /// Which of the job file's filters left the version out.
    FilterReason {
        NewerThan = "newer-than", "The file's `newerThan` leaves it out: it is older.",
            "Change the filter if it should be rotated.";
        OlderThan = "older-than", "The file's `olderThan` leaves it out: it is younger.",
            "Change the filter if it should be rotated.";
        CreatedAfter = "created-after", "The file's `createdAfter` leaves it out.",
            "Change the filter if it should be rotated.";
        CreatedBefore = "created-before", "The file's `createdBefore` leaves it out.",
            "Change the filter if it should be rotated.";
        KmsKey = "kms-key", "It is not under the key that the file's `kmskey` names.",
            "Change the filter if it should be rotated.";
        Tags = "tags", "It has none of the tags that the file's filter names.",
            "Change the filter if it should be rotated.";
        Metadata = "metadata", "It has none of the metadata that the file's filter names.",
            "Change the filter if it should be rotated.";
        Noncurrent = "noncurrent", "It is a noncurrent version, and the file says `versions: current`.",
            "Say `versions: all` if it should be rotated.";
        PlaintextOnly = "plaintext-only", "It is encrypted, and the file says `plaintextOnly`.",
            "Take `plaintextOnly` out if it should be rotated.";
    }
}

reasons! {
    /// Why a version in scope was not written.
    SkipReason {
        Plaintext = "plaintext", "It is not encrypted, and a job file of this dialect leaves plaintext alone.",
            "If it should be encrypted, write the file in AIStor's dialect: `keyrotate generate`.";
        Downgrade = "downgrade", "It is under a KMS key and the file asks for SSE-S3: that would weaken it.",
            "Ask for SSE-KMS, or leave such objects out by a filter.";
        SseC = "sse-c", "It is encrypted with a key that only its owner has (SSE-C).",
            "Only its owner can rewrite it, with another key of his own.";
        DualLayer = "dual-layer", "It has dual-layer encryption (aws:kms:dsse), which keyrotate does not change.",
            "Its owner can rewrite it with one layer; until then its keys are needed.";
        Locked = "locked", "It is under object lock or legal hold; `forceEncryptLocked: true` would include it.",
            "Say `forceEncryptLocked: true` in the file's filter, or wait until the lock ends.";
        LockedPlaintext = "locked-plaintext", "It is not encrypted and under object lock or legal hold: always left alone.",
            "Wait until the lock ends.";
        LockUnsupported = "lock-unsupported", "It is under object lock or legal hold and no proven strategy here keeps that.",
            "Wait until the lock ends; `keyrotate describe JOB` says what was proven on this store and what was not.";
        Archived = "archived", "Its storage class is an archive: it would have to be restored first.",
            "Restore it into another storage class and run the job again.";
        Noncurrent = "noncurrent", "It is a noncurrent version, which can't be written here without becoming the current one.",
            "Let a lifecycle rule end noncurrent versions; until it is gone its key is needed.";
        VersionsTooClose = "versions-too-close",
            "It is a noncurrent version, and the next newer one is not 2 ms younger: a write in its place could overtake it.",
            "Let a lifecycle rule end noncurrent versions; until it is gone its key is needed.";
        Superseded = "superseded", "It is the version that a rotated one replaced; it is kept and still needs its key.",
            "Let a lifecycle rule end noncurrent versions; until it is gone its key is needed.";
        DeleteMarker = "delete-marker", "It is a delete marker: there is nothing to encrypt.",
            "";
        TooLarge = "too-large", "It is over 5 GiB, and no strategy that works in parts is proven here.",
            "`keyrotate describe JOB` says what was not proven, and why.";
        BodyTransit = "body-transit", "Only GET + PUT works for it here and its body is over `bodyTransit`.",
            "Raise `options: {bodyTransit: …}`, or say `any`, if its body may pass through the worker.";
        NoStrategy = "no-strategy", "No strategy is proven on this store for this kind of object.",
            "`keyrotate describe JOB` says what was not proven, and why.";
        Unguarded = "unguarded", "No proven strategy guards it against a concurrent write and `allowUnguarded` is not set.",
            "Stop all who write to the bucket, and say `options: {allowUnguarded: true}`.";
        KeepsNot = "keeps-not", "The proven strategies would lose something of it that must be kept.",
            "Its row in the report says what would be lost.";
        UnmappedKey = "unmapped-key", "The file's `keys` names no new key for the one that it is under.",
            "Add a line for its key to `keys`, if it should be rotated.";
        Gone = "gone", "It was deleted meanwhile.",
            "";
        Own = "own", "It is an object of keyrotate's own.",
            "";
    }
}

impl SkipReason {
    /// Whether a version with this reason ends under another key than wanted because it *could* not be done.
    #[must_use]
    pub fn is_exception(self) -> bool {
        !matches!(self, Self::Plaintext | Self::Locked | Self::DeleteMarker | Self::Gone | Self::Own)
    }
}

reasons! {
    /// Why a version could not be rotated although it should have been.
    FailReason {
        KeyGone = "key-gone", "The key that it is encrypted with does not exist any more: nobody can read it.",
            "Bring the key back in the KMS; without it the content is lost.";
        Denied = "denied", "The store denies access to this object.",
            "Grant the worker's credentials what they lack, then `keyrotate resume JOB`.";
        ReadBack = "read-back", "After the write the store does not show what was written.",
            "Look at the object before anything else: its row in the report has what was expected. Please report it.";
        BodyChanged = "body-changed", "The body differs before and after: the job stops.",
            "Restore the object from a backup or its former version, and do not go on on this store. Please report it.";
        Store = "store", "The store answered with an error that more tries did not end.",
            "Its row in the report has the error; mend the store, then `keyrotate resume JOB`.";
        Timeout = "timeout", "The store did not answer in time, more than once.",
            "Lower `--permits` or `--rate`, or mend the store, then `keyrotate resume JOB`.";
        Quarantined = "quarantined", "Three workers in a row came to an end while they worked on it.",
            "See in the workers' logs what ended them, then `keyrotate resume JOB`. Please report it.";
        Unreadable = "unreadable", "The store's answer about it makes no sense.",
            "Its row in the report has the answer. Please report it.";
    }
}

reasons! {
    /// What showed that a version is rotated.
    Evidence {
        Key = "key", "The read-back showed the wanted key.",
            "";
        Write = "write", "The guarded write succeeded and the store shows no key (SSE-S3).",
            "";
    }
}

reasons! {
    /// What else is to be known about what became of a version.
    Note {
        ChecksumLost = "checksum-lost", "It lost its checksum, as the file's `acceptLoss` allows.",
            "";
        PartsLost = "parts-lost", "It has other parts than it was uploaded in, as the file's `acceptLoss` allows.",
            "";
        SupersededDeleted = "superseded-deleted",
            "The version that it replaced was deleted, as the file's `superseded: expire` asks; the new one has the same content.",
            "";
        SourceDeleted = "source-deleted",
            "The version that it was made from was deleted by its id, and nothing here tells whether before our write or after.",
            "Delete its `version_after`, too, if the content was to go.";
        Withdrawn = "withdrawn", "A version of ours that came to lie over somebody else's write was taken away at once.",
            "";
    }
}

/// What became of one object version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "kebab-case")]
pub enum Outcome {
    /// Written and read back under the wanted key.
    Rotated(Evidence),
    /// Already was as wanted.
    Current,
    /// Left out by the file's filters.
    Filtered(FilterReason),
    /// Not written, for a reason that is no fault.
    Skipped(SkipReason),
    /// Somebody else wrote it meanwhile; their write stands.
    Conflict,
    /// Should have been rotated and was not.
    Failed(FailReason),
}

impl Outcome {
    /// `rotated`, `current`, `filtered`, `skipped`, `conflict` or `failed`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rotated(_) => "rotated",
            Self::Current => "current",
            Self::Filtered(_) => "filtered",
            Self::Skipped(_) => "skipped",
            Self::Conflict => "conflict",
            Self::Failed(_) => "failed",
        }
    }

    /// The reason's or evidence's stable name; empty where there is none.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Rotated(evidence) => evidence.as_str(),
            Self::Filtered(reason) => reason.as_str(),
            Self::Skipped(reason) => reason.as_str(),
            Self::Failed(reason) => reason.as_str(),
            Self::Current | Self::Conflict => "",
        }
    }

    /// Word and reason: `current`, `skipped/sse-c`.
    #[must_use]
    pub fn name(self) -> String {
        match self.reason() {
            "" => self.word().to_owned(),
            reason => format!("{}/{reason}", self.word()),
        }
    }

    /// One sentence for people.
    #[must_use]
    pub fn explain(self) -> &'static str {
        match self {
            Self::Rotated(evidence) => evidence.explain(),
            Self::Current => "It already was as wanted; nothing was written.",
            Self::Filtered(reason) => reason.explain(),
            Self::Skipped(reason) => reason.explain(),
            Self::Conflict => "Somebody else wrote it meanwhile, more than once; that write stands.",
            Self::Failed(reason) => reason.explain(),
        }
    }

    /// What to do about it; empty where nothing is.
    #[must_use]
    pub fn mend(self) -> &'static str {
        match self {
            Self::Rotated(evidence) => evidence.mend(),
            Self::Current => "",
            Self::Filtered(reason) => reason.mend(),
            Self::Skipped(reason) => reason.mend(),
            Self::Conflict => "`keyrotate resume JOB` tries it again, best when the bucket is quieter.",
            Self::Failed(reason) => reason.mend(),
        }
    }

    /// The outcome of that word and reason.
    #[must_use]
    pub fn parse(word: &str, reason: &str) -> Option<Self> {
        Some(match word {
            "rotated" => Self::Rotated(Evidence::parse(reason)?),
            "current" => Self::Current,
            "filtered" => Self::Filtered(FilterReason::parse(reason)?),
            "skipped" => Self::Skipped(SkipReason::parse(reason)?),
            "conflict" => Self::Conflict,
            "failed" => Self::Failed(FailReason::parse(reason)?),
            _ => return None,
        })
    }

    /// Whether a retry pass looks at it again. Not where a write of ours came out wrong: by then the object is under the
    /// wanted key, and a second look would call it `current` and hide what happened.
    #[must_use]
    pub fn wants_retry(self) -> bool {
        match self {
            Self::Conflict => true,
            Self::Failed(reason) => !matches!(reason, FailReason::ReadBack | FailReason::BodyChanged),
            _ => false,
        }
    }

    /// Whether a write of ours led to it, so that another look at the object would find something else.
    #[must_use]
    pub fn is_of_a_write(self) -> bool {
        match self {
            Self::Rotated(_) => true,
            Self::Failed(_) => !self.wants_retry(),
            _ => false,
        }
    }

    /// Whether it is among what could not be done: `keyrotate failed` lists it, and `--failed-of` takes it up again.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Failed(_) | Self::Conflict) || self.is_exception()
    }

    /// Whether the version is in scope and ends under another key than wanted because it could not be done.
    #[must_use]
    pub fn is_exception(self) -> bool {
        matches!(self, Self::Skipped(reason) if reason.is_exception())
    }
}

/// How one object's key was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// `UpdateObjectEncryption`.
    UpdateEncryption,
    /// CopyObject onto itself, `If-Match` on the destination.
    Copy,
    /// Multipart copy onto itself, source guarded, `If-Match` at complete.
    CopyMultipart,
    /// The same with MinIO's source date.
    CopyMultipartInPlace,
    /// GET + PutObject with `If-Match`.
    Rewrite,
    /// GET + PutObject with `If-Match` and MinIO's source date and ETag.
    RewriteInPlace,
    /// GET + UploadPart, part by part, with `If-Match` at complete.
    RewriteMultipart,
    /// The same with MinIO's source date.
    RewriteMultipartInPlace,
}

impl Strategy {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::UpdateEncryption,
        Self::Copy,
        Self::CopyMultipart,
        Self::CopyMultipartInPlace,
        Self::Rewrite,
        Self::RewriteInPlace,
        Self::RewriteMultipart,
        Self::RewriteMultipartInPlace,
    ];

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpdateEncryption => "update-encryption",
            Self::Copy => "copy",
            Self::CopyMultipart => "copy-multipart",
            Self::CopyMultipartInPlace => "copy-multipart-in-place",
            Self::Rewrite => "rewrite",
            Self::RewriteInPlace => "rewrite-in-place",
            Self::RewriteMultipart => "rewrite-multipart",
            Self::RewriteMultipartInPlace => "rewrite-multipart-in-place",
        }
    }

    /// Whether what it writes keeps its version id, also where a bucket keeps versions.
    #[must_use]
    pub fn keeps_version(self) -> bool {
        self == Self::UpdateEncryption || self.is_in_place()
    }

    /// Whether it is MinIO's in-place form: a write of everything, which names the date that it keeps.
    #[must_use]
    pub fn is_in_place(self) -> bool {
        matches!(self, Self::RewriteInPlace | Self::CopyMultipartInPlace | Self::RewriteMultipartInPlace)
    }

    /// Whether bodies pass through a worker.
    #[must_use]
    pub fn moves_bodies(self) -> bool {
        !matches!(self, Self::UpdateEncryption | Self::Copy | Self::CopyMultipart | Self::CopyMultipartInPlace)
    }

    /// Whether it sends the whole body by one PutObject.
    #[must_use]
    pub fn puts(self) -> bool {
        matches!(self, Self::Rewrite | Self::RewriteInPlace)
    }

    /// Whether it goes by a multipart upload.
    #[must_use]
    pub fn uploads(self) -> bool {
        !matches!(self, Self::UpdateEncryption | Self::Copy | Self::Rewrite | Self::RewriteInPlace)
    }

    /// The strategy of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.as_str() == text)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many versions ended how. `scanned` is always the sum of the outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By outcome and reason, zero entries left out.
    #[serde(with = "by_name")]
    pub by_outcome: BTreeMap<Outcome, u64>,
    /// Bytes of the bodies of rotated versions.
    pub rotated_bytes: u64,
    /// Versions that a rotated one replaced and that are kept under their old key.
    pub superseded: u64,
    /// Versions by what else is to be known about them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<Note, u64>,
}

impl Counts {
    /// Versions with any outcome.
    #[must_use]
    pub fn scanned(&self) -> u64 {
        self.by_outcome.values().sum()
    }

    /// Versions whose outcome has that [`Outcome::word`].
    #[must_use]
    pub fn of(&self, word: &str) -> u64 {
        self.by_outcome.iter().filter(|(o, _)| o.word() == word).map(|(_, n)| n).sum()
    }

    /// Versions in scope that could not be done, superseded ones that are kept included.
    #[must_use]
    pub fn exceptions(&self) -> u64 {
        let skipped: u64 = self.by_outcome.iter().filter(|(o, _)| o.is_exception()).map(|(_, n)| n).sum();
        skipped + self.superseded
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        for (outcome, n) in &other.by_outcome {
            *self.by_outcome.entry(*outcome).or_default() += n;
        }
        for (note, n) in &other.notes {
            *self.notes.entry(*note).or_default() += n;
        }
        self.rotated_bytes += other.rotated_bytes;
        self.superseded += other.superseded;
    }

    /// Takes away all of `other`, which was added before: rows that later rows replace.
    pub fn subtract(&mut self, other: &Self) {
        for (outcome, n) in &other.by_outcome {
            let entry = self.by_outcome.entry(*outcome).or_default();
            *entry = entry.saturating_sub(*n);
        }
        self.by_outcome.retain(|_, n| *n > 0);
        for (note, n) in &other.notes {
            let entry = self.notes.entry(*note).or_default();
            *entry = entry.saturating_sub(*n);
        }
        self.notes.retain(|_, n| *n > 0);
        self.rotated_bytes = self.rotated_bytes.saturating_sub(other.rotated_bytes);
        self.superseded = self.superseded.saturating_sub(other.superseded);
    }
}

/// Outcomes as the keys of a JSON object: `"skipped/sse-c"`.
mod by_name {
    use super::{BTreeMap, Outcome};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<Outcome, u64>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(map.iter().filter(|(_, n)| **n > 0).map(|(outcome, n)| (outcome.name(), n)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<Outcome, u64>, D::Error> {
        let names = BTreeMap::<String, u64>::deserialize(d)?;
        let parse = |(name, n): (String, u64)| {
            let (word, reason) = name.split_once('/').unwrap_or((&name, ""));
            let outcome =
                Outcome::parse(word, reason).ok_or_else(|| D::Error::custom(format!("unknown outcome `{name}`")))?;
            Ok((outcome, n))
        };
        names.into_iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Outcome> {
        let mut all = vec![Outcome::Current, Outcome::Conflict];
        all.extend(Evidence::ALL.iter().map(|e| Outcome::Rotated(*e)));
        all.extend(FilterReason::ALL.iter().map(|r| Outcome::Filtered(*r)));
        all.extend(SkipReason::ALL.iter().map(|r| Outcome::Skipped(*r)));
        all.extend(FailReason::ALL.iter().map(|r| Outcome::Failed(*r)));
        all
    }

    #[test]
    fn every_outcome_reads_back_from_its_name() {
        for outcome in all() {
            assert_eq!(Outcome::parse(outcome.word(), outcome.reason()), Some(outcome));
        }
    }

    #[test]
    fn counts_survive_json_and_add_and_subtract() {
        let counts = Counts {
            by_outcome: all().into_iter().map(|o| (o, 2)).collect(),
            rotated_bytes: 5,
            superseded: 1,
            notes: [(Note::ChecksumLost, 3)].into(),
        };
        let text = serde_json::to_string(&counts).unwrap();
        assert!(text.contains(r#""skipped/sse-c":2"#), "{text}");
        assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), counts);
        let mut sum = counts.clone();
        sum.add(&counts);
        assert_eq!(sum.scanned(), 2 * counts.scanned());
        sum.subtract(&counts);
        assert_eq!(sum, counts);
    }
}
