//! Every rule of the checkpoint, as pure functions from a record and an event to the next record.
//!
//! Nothing in here knows a back-end. An event that already had its effect gives the record unchanged, so that
//! whoever lost an answer may ask again.

pub mod bucket;
pub mod job;
pub mod leader;
pub mod shard;

use std::cmp::Ordering;

use jiff::Timestamp;
use keyrotate_proto::id::{JobId, PassId};
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_proto::state::{JobState, PassKind, Phase};

/// Why a transition does not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The job has ended; nothing that arrives late changes it.
    #[error("the job is {0}")]
    JobOver(&'static str),
    /// The job's state does not allow it.
    #[error("not while the job is {state}: {what}")]
    WrongState {
        /// The state's word.
        state: &'static str,
        /// What was asked.
        what: &'static str,
    },
    /// The shard is done or abandoned.
    #[error("the shard is over")]
    ShardOver,
    /// Somebody else holds it.
    #[error("the shard is leased until {until}")]
    Held {
        /// Till when.
        until: Timestamp,
    },
    /// The pass has not begun yet.
    #[error("the pass begins at {0}")]
    NotBefore(Timestamp),
    /// The job has no such pass, or it is closed.
    #[error("pass {0} is not open")]
    NoPass(PassId),
    /// The shard has keys that the job does not work on: its record was changed by something else than keyrotate.
    #[error("the shard has keys outside the job's prefix")]
    OutOfScope,
    /// The lease is not the newest of its shard, or of an older nonce.
    #[error("the lease was taken over")]
    Stale,
    /// The lease ran out.
    #[error("the lease ran out")]
    Expired,
    /// The job would add more bytes than were confirmed.
    #[error("it may add {left} bytes more")]
    Bound {
        /// Bytes that it may still add.
        left: u64,
    },
    /// The cursor would leave the shard.
    #[error("the cursor is outside the shard's range")]
    CursorOutside,
    /// The cursor would go back.
    #[error("the cursor would go back")]
    CursorBack,
    /// Counts or parts would go back, or change without a part that says why.
    #[error("counts do not follow from the shard's parts")]
    Counts,
    /// The shard is not worked through.
    #[error("the shard's cursor is not at its end")]
    NotAtEnd,
    /// The file asks for somebody else's word.
    #[error("the job file says `approval: required`: not by `{0}`, who began the job")]
    OwnApproval(String),
    /// It can't be split there.
    #[error("the shard can't be split there")]
    BadSplit,
    /// Shards of the pass are not over.
    #[error("pass {0} has open shards")]
    OpenShards(PassId),
    /// Another job works on some of the same keys.
    #[error("job {job} works on {} of the bucket", show(range))]
    Overlap {
        /// The holder.
        job: JobId,
        /// Its keys.
        range: KeyRange,
    },
    /// A failed job's place was taken by one that began since.
    #[error("another job began on its keys since")]
    PlaceTaken,
    /// There is a job of that name already.
    #[error("there is a job of that name")]
    Exists,
    /// Somebody else opens a pass, or has opened one since.
    #[error("another process is opening a pass, or has opened one since")]
    Superseded,
    /// Another coordinator leads, or nobody does.
    #[error("another coordinator leads")]
    NotLeader,
    /// The back-end began another run, and the job has no nonce of it yet.
    #[error("the checkpoint was restarted; the job waits for its new nonce")]
    OtherRun,
    /// An idempotency key came again with something else to submit.
    #[error("the same idempotency key began job {0} with another job file or other options")]
    KeyReused(JobId),
    /// The record holds a secret in the clear.
    #[error("the job's spec still holds its notify token")]
    SecretInSpec,
}

fn show(range: &KeyRange) -> String {
    match &range.end {
        None if range.start.is_empty() => "all keys".into(),
        None => format!("the keys from `{}`", range.start),
        Some(end) => format!("the keys from `{}` to `{end}`", range.start),
    }
}

/// Whether shards of passes of that kind may be leased.
#[must_use]
pub fn may_lease(state: &JobState, kind: PassKind) -> bool {
    match state {
        JobState::Live { phase } => match phase {
            Phase::Queued | Phase::AwaitingConfirmation => false,
            Phase::Preparing => kind == PassKind::Prepare,
            Phase::Running => matches!(kind, PassKind::Walk | PassKind::Retry | PassKind::Prepare),
            Phase::Verifying => matches!(kind, PassKind::Verify | PassKind::Prepare | PassKind::Clean),
        },
        // One at a time and once a minute is the dispatcher's to see to.
        JobState::Paused { reason, .. } => !reason.is_a_persons() && kind == PassKind::Prepare,
        JobState::Cancelling | JobState::Failing { .. } => kind == PassKind::Clean,
        JobState::Cancelled | JobState::Failed { .. } | JobState::Completed => false,
    }
}

/// How two positions follow each other; `None` for two versions of one key, which have no order.
#[must_use]
pub fn order(a: &Position, b: &Position) -> Option<Ordering> {
    let (Some(a_key), Some(b_key)) = (a.key(), b.key()) else {
        return Some(a.key().is_none().cmp(&b.key().is_none()));
    };
    match (a_key.cmp(b_key), a, b) {
        (Ordering::Equal, Position::Before(_), Position::Before(_)) => Some(Ordering::Equal),
        (Ordering::Equal, Position::Before(_), _) => Some(Ordering::Less),
        (Ordering::Equal, _, Position::Before(_)) => Some(Ordering::Greater),
        (Ordering::Equal, a, b) => (a == b).then_some(Ordering::Equal),
        (unequal, ..) => Some(unequal),
    }
}

/// Whether a cursor may stand there: not before the range's first key, not behind its end.
#[must_use]
pub fn within(position: &Position, range: &KeyRange) -> bool {
    let start = Position::Before(range.start.clone());
    order(position, &start) != Some(Ordering::Less) && order(position, &range.end_position()) != Some(Ordering::Greater)
}
