//! The seam to whatever keeps the records: reading a few at one moment, and swapping a few at once.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

/// Name of a record. Names order by their bytes; a listing goes in that order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(pub String);

impl RecordKey {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which value a record has: equal revisions of one key mean the same value, written by the same swap. Opaque and
/// without order. Never used again for a key, not even after the record was removed; a back-end that can be rolled
/// back draws them at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision(pub u64);

/// A record as it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which value it is.
    pub revision: Revision,
    /// The value.
    pub bytes: Vec<u8>,
}

/// Several records at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The back-end's time. Never goes back; leases are judged by it and by no other clock.
    pub now: Timestamp,
    /// The run of the back-end that answered.
    pub run: String,
    /// What was asked for, in the order of asking; `None` where there is no such record.
    pub records: Vec<Option<Stored>>,
}

/// Several records changed at once, or none of them.
#[derive(Clone, Debug, Default)]
pub struct Swap {
    /// What must stand for anything to happen; `None`: no such record.
    pub expect: Vec<(RecordKey, Option<Revision>)>,
    /// The run of the back-end that all this was read from: on another it is in conflict. `None`: any.
    pub run: Option<String>,
    /// Nothing happens when the back-end's time is later than this.
    pub not_after: Option<Timestamp>,
    /// New values; `None` removes the record. Each key at most once.
    pub writes: Vec<(RecordKey, Option<Vec<u8>>)>,
    /// Whether those who hold a [`Bell`] shall hear of it.
    pub ring: bool,
}

/// Rings when a swap happened that asked for it, in whatever process. A hint: several make one ring, and a ring may be
/// missed while a connection is down.
#[derive(Clone, Debug)]
pub struct Bell {
    rings: Arc<Rings>,
    heard: u64,
}

impl Bell {
    /// Waits for a ring since the last one that was heard, or since the bell was asked for.
    pub async fn rung(&mut self) {
        loop {
            // Listens first, then looks: a ring that comes in between is heard.
            let mut ringing = pin!(self.rings.ringing.notified());
            ringing.as_mut().enable();
            let count = self.rings.count.load(Ordering::SeqCst);
            if count != self.heard {
                self.heard = count;
                return;
            }
            ringing.await;
        }
    }
}

/// What rings the bells of one back-end in this process. Who waits longest hears it first: a `watch` channel would wake in
/// an order drawn by lot, and no simulation would replay.
#[derive(Debug, Default)]
pub(crate) struct Ringer(Arc<Rings>);

#[derive(Debug, Default)]
struct Rings {
    count: AtomicU64,
    ringing: Notify,
}

impl Ringer {
    pub(crate) fn ring(&self) {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        self.0.ringing.notify_waiters();
    }

    pub(crate) fn bell(&self) -> Bell {
        Bell { rings: Arc::clone(&self.0), heard: self.0.count.load(Ordering::SeqCst) }
    }
}

/// What became of a [`Swap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapAnswer {
    /// All of it happened, and is durable.
    Done {
        /// The back-end's time at that moment.
        now: Timestamp,
    },
    /// Nothing happened: a record is not as expected, or the back-end's run is another.
    Conflict,
    /// Nothing happened: `not_after` has passed. A swap that is too late and in conflict may give either answer.
    TooLate {
        /// The back-end's time at that moment.
        now: Timestamp,
    },
}

/// A record of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: RecordKey,
    /// Which value it is.
    pub revision: Revision,
    /// The value.
    pub bytes: Vec<u8>,
}

/// A back-end could not answer.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Nothing happened.
    #[error("the checkpoint can't be reached")]
    Unavailable(#[source] Cause),
    /// A swap was sent and its answer is not known: it may have happened, or may still happen. Read back, then decide.
    #[error("the checkpoint's answer was lost")]
    Unknown(#[source] Cause),
    /// Another process has the checkpoint's file open.
    #[error("`{0}` is in use by another keyrotate process")]
    InUse(String),
    /// The database can't be opened or read.
    #[error("the checkpoint is damaged or of another kind")]
    Damaged(#[source] Cause),
}

/// What lies behind a [`BackendError`].
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Keeps records. One Lua script or one database transaction can do each call; what a record means is no concern of
/// a back-end.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// Name of the back-end's run. Where it changes, values may have been lost; where nothing can be lost it stays.
    async fn run_id(&self) -> Result<String, BackendError>;

    /// Several records, all at one moment.
    async fn read(&self, keys: &[RecordKey]) -> Result<Snapshot, BackendError>;

    /// Compares and changes, all or nothing.
    async fn swap(&self, swap: Swap) -> Result<SwapAnswer, BackendError>;

    /// Records whose names begin with `prefix`, in the order of their names, behind `after`, at most `limit`. Calls
    /// see different moments: a record written meanwhile may be missed, one that stood all the while never is.
    async fn scan(&self, prefix: &str, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Listed>, BackendError>;

    /// A bell that hears of swaps from now on.
    fn bell(&self) -> Bell;
}
