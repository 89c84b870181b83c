//! What will be written, and what was: the values that pass between looking, acting and reading back.

use std::sync::Arc;

use jiff::Timestamp;
use keyrotate_proto::intent::{INTENT_VERSION, Intent};
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::row::Row;
use keyrotate_store::{Lock, NewObject, ObjectAt, Sse};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::facts::Facts;
use crate::halt::Halt;
use crate::readback::Expected;
use crate::rewrapper::presumed;

/// What becomes of one object version.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time, and most of them are rows")]
pub enum Look {
    /// It needs no write.
    Settled(Row),
    /// It is to be written.
    Write(Box<Plan>),
}

/// One write, decided and not yet made.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) facts: Facts,
    pub(crate) strategy: Strategy,
    pub(crate) why: String,
    /// Encryption as the write names it.
    pub(crate) wanted: Sse,
    /// The lock that the write gives: the object's own, as far as it still stands.
    pub(crate) lock: Lock,
    /// Whether the checksum that it has may be lost, since the job file says so and the strategy keeps none.
    pub(crate) loses_checksum: bool,
    pub(crate) needs_intent: bool,
    pub(crate) adds_version: bool,
    /// Whether a write that somebody else came before would be refused.
    pub(crate) guarded: bool,
    /// Whether this kind of source was never tried on a probe: the first such objects go one at a time.
    pub(crate) untried: bool,
    /// Whether the hash of its body is wanted when it has passed.
    pub(crate) hashes: bool,
    pub(crate) upload: Option<OpenUpload>,
    /// Whether one may have been opened whose id was never heard.
    pub(crate) unheard_upload: bool,
    /// When the first of its facts was asked for.
    pub(crate) looked: Instant,
    /// When its write was answered.
    pub(crate) written: Option<Instant>,
    /// Tries that were sent and never answered.
    pub(crate) unanswered: u8,
    /// Hears of each part that is added to a recorded upload.
    pub(crate) part_added: Arc<Notify>,
}

impl Plan {
    /// A plan for what was just looked at; nothing was begun.
    pub(crate) fn new(facts: Facts, strategy: Strategy, wanted: Sse, why: String, now: Timestamp) -> Self {
        let lock = facts.shown.as_ref().map(|shown| shown.lock.standing(now)).unwrap_or_default();
        let (needs_intent, adds_version, guarded, untried, loses_checksum, hashes) = Default::default();
        let (looked, part_added) = (Instant::now(), Arc::default());
        Self {
            facts,
            strategy,
            why,
            wanted,
            lock,
            loses_checksum,
            needs_intent,
            adds_version,
            guarded,
            untried,
            hashes,
            upload: None,
            unheard_upload: false,
            looked,
            written: None,
            unanswered: 0,
            part_added,
        }
    }

    /// Whether an earlier write of ours may still be on its way.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.facts.in_doubt || self.unanswered > 0
    }

    /// Names who hears of each part that the write adds to an upload whose id may stand in an intent: such a part
    /// outlives the slice, and so is progress.
    pub fn tell_of_parts(&mut self, part_added: Arc<Notify>) {
        self.part_added = part_added;
    }

    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.facts.at.key
    }

    /// Its encryption as it was looked at.
    pub(crate) fn sse_before(&self) -> &Sse {
        self.facts.shown.as_ref().map_or(&Sse::None, |shown| &shown.sse)
    }

    /// Which object, and which version of it.
    #[must_use]
    pub fn at(&self) -> &ObjectAt {
        &self.facts.at
    }

    /// Bytes of the body.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.facts.size
    }

    /// How it will be written.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Why so, and why not in a better way.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Whether the write adds a version, and the one that is there stays.
    #[must_use]
    pub fn adds_version(&self) -> bool {
        self.adds_version
    }

    /// Whether the window must put an intent down before this write, since a lost window could not be read off the
    /// objects afterwards.
    #[must_use]
    pub fn needs_intent(&self) -> bool {
        self.needs_intent
    }

    /// Whether an upload may have been opened whose id was never heard. Another intent is put down for the next one then:
    /// of two that were begun one may be left.
    #[must_use]
    pub fn has_unheard_upload(&self) -> bool {
        self.unheard_upload
    }

    /// The intent to put down; `None` where none is needed.
    #[must_use]
    pub fn intent(&self) -> Option<Intent> {
        self.needs_intent.then(|| Intent {
            v: INTENT_VERSION,
            key: self.facts.at.key.clone(),
            version: self.facts.at.version.clone(),
            etag: self.facts.guard().to_owned(),
            strategy: self.strategy,
            upload: self.upload.as_ref().map(|upload| upload.id.clone()),
            source: self.upload.as_ref().map(|upload| fingerprint(&upload.new)),
            made: None,
        })
    }
}

/// The multipart upload that a plan goes through.
#[derive(Clone, Debug)]
pub(crate) struct OpenUpload {
    pub(crate) id: String,
    /// What it was created with.
    pub(crate) new: NewObject,
    /// Whether its id may stand in an intent: then the next holder of the shard may go on with it.
    pub(crate) recorded: bool,
    /// Whether it is known that nothing was copied into it yet.
    pub(crate) fresh: bool,
}

/// Lower-case hex SHA-256 of the headers, metadata, tags, storage class and lock that an upload gives its object.
pub(crate) fn fingerprint(new: &NewObject) -> String {
    let mut tags = new.tags.clone();
    tags.sort();
    let all = (&new.headers, &tags, crate::readback::class(new.storage_class.as_deref()), &new.lock);
    #[expect(clippy::expect_used, reason = "text and maps of text are always JSON")]
    let bytes = serde_json::to_vec(&all).expect("headers and tags are JSON");
    hex::encode(Sha256::digest(bytes))
}

/// What came of a write.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time, and most of them are rows")]
pub enum Settled {
    /// Its outcome is known.
    Row(Row),
    /// It was written; the page's listing will read it back.
    Unread(Box<Unread>),
}

/// A write that came to no outcome, for a reason that says nothing about the object.
#[derive(Debug)]
pub struct Interrupted {
    /// The reason.
    pub halt: Halt,
    /// What was written, where it was and could not be read back: for whoever works on the object next.
    pub made: Option<Box<Intent>>,
}

impl Interrupted {
    /// After the write. What stops the job says that it came out wrong: then it is no write that anybody may count.
    pub(crate) fn after(halt: Halt, plan: &Plan, expected: &Expected) -> Self {
        let made = match halt {
            Halt::Pause { .. } | Halt::LeaseOver => Intent::made(presumed(plan, expected), false).map(Box::new),
            Halt::Stop { .. } => None,
        };
        Self { halt, made }
    }
}

impl From<Halt> for Interrupted {
    fn from(halt: Halt) -> Self {
        Self { halt, made: None }
    }
}

/// A write that was made and not yet read back.
#[derive(Debug)]
pub struct Unread {
    pub(crate) plan: Box<Plan>,
    pub(crate) expected: Expected,
}

impl Unread {
    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.plan.key()
    }

    /// The version that was looked at.
    #[must_use]
    pub fn at(&self) -> &ObjectAt {
        self.plan.at()
    }

    /// An intent that says what was written: for whoever works on the object next, where it can't be read back now.
    #[must_use]
    pub fn intent(&self) -> Option<Intent> {
        Intent::made(presumed(&self.plan, &self.expected), false)
    }
}
