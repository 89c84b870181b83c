//! States of jobs and passes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reason::reasons;

reasons! {
    /// Why a job waits, though it could go on once something outside is mended. A probe ends it.
    PauseReason {
        Operator = "operator", "An operator said so; nothing but an operator ends it.",
            "`keyrotate resume JOB`";
        Credentials = "credentials", "The store does not know the credentials, or they ran out.",
            "Renew them where the workers find them; the job goes on by itself.";
        ClockSkew = "clock-skew", "The clock of this machine and of the store differ by minutes.",
            "Set the clocks by NTP; the job goes on by itself.";
        BucketGone = "bucket-gone", "The bucket is not there.",
            "See whether this is the right store; the job goes on by itself when the bucket is back. Else cancel it.";
        Denied = "denied", "Every object is denied.",
            "Grant the workers' credentials what they lack; the job goes on by itself.";
        StoreDown = "store-down", "The store can't be reached, or only answers with errors.",
            "Mend the store; the job goes on by itself.";
        OtherJob = "other-job", "Another installation of keyrotate works on the same objects, by the lease object in the bucket.",
            "Wait for that job, or cancel it where it runs; this one goes on by itself. If it is dead, others may begin at the time that the detail names, or when somebody who knows that removes `.keyrotate/lease.json`.";
        KmsDown = "kms-down", "The KES, or the store's KMS, can't be reached or refuses.",
            "Mend it; the job goes on by itself.";
        TargetKeyGone = "target-key-gone", "The target key is gone, or was deleted and made anew under its name.",
            "Bring the key back; one made anew opens nothing of the old one. Else cancel the job and name another key.";
        ReportStore = "report-store", "The report store can't be read or written.",
            "Mend it, or the coordinator's and the workers' rights on it; the job goes on by itself.";
        Growth = "growth", "The versions that it adds would have more bytes than were confirmed.",
            "See what it added in `keyrotate status JOB`; `keyrotate set JOB --max-added BYTES` lets it add more.";
        FailureThreshold = "failure-threshold", "More versions failed than `failureThreshold` allows.",
            "`keyrotate failed JOB` lists them by reason. Mend that; `keyrotate resume JOB` goes on, and counts from there.";
        NoWorker = "no-worker", "No live worker serves the job's store; it ends by itself when one comes.",
            "Start a worker that serves it.";
    }
}

impl PauseReason {
    /// Whether only a person ends it: no probe is made, and the time does not count for `pauseLimit`.
    #[must_use]
    pub fn is_a_persons(self) -> bool {
        matches!(self, Self::Operator | Self::Growth | Self::FailureThreshold)
    }
}

reasons! {
    /// Why a job ends as `failed`.
    StopReason {
        Refused = "refused", "Preflight refused the start.",
            "Its detail says what was found and what to do; then begin the job again.";
        ObjectsLeft = "objects-left", "Objects are left as `failed` or `conflict` after the last pass.",
            "`keyrotate failed JOB` lists them; `keyrotate resume JOB` tries them again.";
        BodyChanged = "body-changed", "A body differed before and after: nothing more is written.",
            "Restore the object from a backup or its former version, and do not go on on this store. Please report it.";
        ObjectReplaced = "object-replaced",
            "The store replaced an object by our request's XML: it does not know `UpdateObjectEncryption` any more.",
            "Restore the object from a backup or its former version. A new job proves anew what the store can do.";
        PauseLimit = "pause-limit", "It was paused for longer than `pauseLimit`.",
            "Mend what paused it, then `keyrotate resume JOB`.";
        Canary = "canary", "The canary does not open any more although KES answers.",
            "See what was done to the target key: what is under it can't be read now.";
        Abandoned = "abandoned", "Parts of the key space could not be listed.",
            "Mend the store, then `keyrotate resume JOB`.";
        Lost = "lost", "The checkpoint lost the job; only the report store knows of it.",
            "`keyrotate resume JOB` takes it up from there.";
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
