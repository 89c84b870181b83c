//! What will be written, and what was: the values that pass between looking, acting and reading back.

use keyrotate_proto::intent::{INTENT_VERSION, Intent};
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::row::Row;
use keyrotate_store::{ObjectAt, Sse};

use crate::facts::Facts;
use crate::readback::Expected;

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
    pub(crate) needs_intent: bool,
    /// Whether this kind of source was never tried on a probe: the first such objects go one at a time.
    pub(crate) untried: bool,
    pub(crate) upload: Option<String>,
    /// Whether the upload's id may stand in an intent: then only whoever cleans up ends it.
    pub(crate) recorded: bool,
    /// Tries that were sent and never answered.
    pub(crate) unanswered: u8,
}

impl Plan {
    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.facts.at.key
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

    /// Whether the window must put an intent down before this write, since a lost window could not be read off the
    /// objects afterwards.
    #[must_use]
    pub fn needs_intent(&self) -> bool {
        self.needs_intent
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
            upload: self.upload.clone(),
        })
    }
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
}
