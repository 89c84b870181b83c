//! States of jobs and passes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a job waits, though it could go on once something outside is mended. A probe ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PauseReason {
    /// An operator said so; nothing but an operator ends it.
    Operator,
    /// The store does not know the credentials, or they ran out.
    Credentials,
    /// The clock of this machine and of the store differ by minutes.
    ClockSkew,
    /// The bucket is not there.
    BucketGone,
    /// Every object is denied.
    Denied,
    /// The store can't be reached, or only answers with errors.
    StoreDown,
    /// The KES, or the store's KMS, can't be reached or refuses.
    KmsDown,
    /// The target key is gone, or was deleted and made anew under its name.
    TargetKeyGone,
    /// The report store can't be read or written.
    ReportStore,
    /// No live worker serves the job's store; it ends by itself when one comes.
    NoWorker,
}

impl PauseReason {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::Operator,
        Self::Credentials,
        Self::ClockSkew,
        Self::BucketGone,
        Self::Denied,
        Self::StoreDown,
        Self::KmsDown,
        Self::TargetKeyGone,
        Self::ReportStore,
        Self::NoWorker,
    ];

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Credentials => "credentials",
            Self::ClockSkew => "clock-skew",
            Self::BucketGone => "bucket-gone",
            Self::Denied => "denied",
            Self::StoreDown => "store-down",
            Self::KmsDown => "kms-down",
            Self::TargetKeyGone => "target-key-gone",
            Self::ReportStore => "report-store",
            Self::NoWorker => "no-worker",
        }
    }
}

/// Why a job ends as `failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// Preflight refused the start.
    Refused,
    /// Objects are left as `failed` or `conflict` after the last pass.
    ObjectsLeft,
    /// A body differed before and after: nothing more is written.
    BodyChanged,
    /// The store replaced an object by our request's XML: it does not know `UpdateObjectEncryption` any more.
    ObjectReplaced,
    /// It was paused for longer than `pauseLimit`.
    PauseLimit,
    /// The canary does not open any more although KES answers.
    Canary,
    /// Parts of the key space could not be listed.
    Abandoned,
    /// The checkpoint lost the job; only the report store knows of it.
    Lost,
}

impl StopReason {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ObjectsLeft => "objects-left",
            Self::BodyChanged => "body-changed",
            Self::ObjectReplaced => "object-replaced",
            Self::PauseLimit => "pause-limit",
            Self::Canary => "canary",
            Self::Abandoned => "abandoned",
            Self::Lost => "lost",
        }
    }
}

/// Where a live job stands when nothing holds it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not begun.
    Queued,
    /// Preflight and probes.
    Preparing,
    /// A person must confirm the target or the growth.
    AwaitingConfirmation,
    /// The walk, then retry passes.
    Running,
    /// The scope is listed again and compared with the rows.
    Verifying,
}

/// State of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum JobState {
    /// Going on.
    Live {
        /// Where.
        phase: Phase,
    },
    /// Waiting for something outside to be mended; goes on in `phase`.
    Paused {
        /// Where it goes on.
        phase: Phase,
        /// Why.
        reason: PauseReason,
        /// What was seen.
        detail: String,
        /// Since when.
        since: jiff::Timestamp,
    },
    /// Somebody cancelled it; open uploads are being cleaned up.
    Cancelling,
    /// Cancelled; final.
    Cancelled,
    /// It can't go on; open uploads are being cleaned up.
    Failing {
        /// Why.
        reason: StopReason,
        /// What was seen.
        detail: String,
    },
    /// Final for the system; an operator may resume it.
    Failed {
        /// Why.
        reason: StopReason,
        /// What was seen.
        detail: String,
    },
    /// Every version in scope is done or listed with a reason; final.
    Completed,
}

impl JobState {
    /// Whether nothing will change any more by itself.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Failed { .. } | Self::Completed)
    }

    /// Its word, as `list` and `status` show it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Live { phase } => match phase {
                Phase::Queued => "queued",
                Phase::Preparing => "preparing",
                Phase::AwaitingConfirmation => "awaiting-confirmation",
                Phase::Running => "running",
                Phase::Verifying => "verifying",
            },
            Self::Paused { .. } => "paused",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Failing { .. } => "failing",
            Self::Failed { .. } => "failed",
            Self::Completed => "completed",
        }
    }
}

/// What a pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PassKind {
    /// Preflight, probes of the store, probe answers of the key space; also the canary, while others run.
    Prepare,
    /// Lists the scope and works on every entry.
    Walk,
    /// Works on the last rows `failed` and `conflict`, and lists what abandoned shards left.
    Retry,
    /// Lists the scope again and compares it with the last rows.
    Verify,
    /// Ends open uploads by their intents.
    Clean,
}

impl PassKind {
    /// Whether its parts hold rows about object versions.
    #[must_use]
    pub fn has_rows(self) -> bool {
        matches!(self, Self::Walk | Self::Retry | Self::Verify)
    }
}

impl fmt::Display for PassKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Walk => "walk",
            Self::Retry => "retry",
            Self::Verify => "verify",
            Self::Clean => "clean",
        })
    }
}
