//! Exit codes: part of the contract with scripts, never renumbered.

use std::process::ExitCode;

use keyrotate_proto::outcome::Counts;
use keyrotate_proto::state::{JobState, StopReason};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, nothing left over.
    Completed = 0,
    /// The command line or the job file is wrong.
    Usage = 2,
    /// Done; some versions could not be and are listed.
    Exceptions = 3,
    /// Objects failed or are in conflict, or the job was stopped.
    Failed = 4,
    /// Nothing was begun, or it waits and nobody wants to.
    Refused = 5,
    /// Interrupted or cancelled; it can go on.
    Interrupted = 6,
}

impl Exit {
    /// All of them.
    pub(crate) const ALL: &'static [Self] =
        &[Self::Completed, Self::Usage, Self::Exceptions, Self::Failed, Self::Refused, Self::Interrupted];

    /// The code as it is written.
    pub(crate) fn digit(self) -> &'static str {
        match self {
            Self::Completed => "0",
            Self::Usage => "2",
            Self::Exceptions => "3",
            Self::Failed => "4",
            Self::Refused => "5",
            Self::Interrupted => "6",
        }
    }

    /// One sentence for people.
    pub(crate) fn explain(self) -> &'static str {
        match self {
            Self::Completed => "Done; of a job: every version in scope is as wanted.",
            Self::Usage => "The command line, the configuration or the job file is wrong; nothing was begun.",
            Self::Exceptions => "The job is completed, but for versions that could not be done; they are listed.",
            Self::Failed => {
                "The job failed: objects are left, or it was stopped. Of another verb: it broke on its way."
            }
            Self::Refused => "Nothing was begun; or the job is paused, and nobody waits for it.",
            Self::Interrupted => "Interrupted or cancelled.",
        }
    }

    /// What to do about it; empty where nothing is.
    pub(crate) fn mend(self) -> &'static str {
        match self {
            Self::Completed => "",
            Self::Usage => "The message has the line and the field.",
            Self::Exceptions => "`keyrotate report JOB` counts them by reason; what they are under is still needed.",
            Self::Failed => "`keyrotate status JOB` says why, `keyrotate failed JOB` which objects.",
            Self::Refused => "The message says what to mend.",
            Self::Interrupted => "The same command again goes on where it was; a cancelled job has ended.",
        }
    }

    /// Its word beside the name of what ended so.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Usage => "wrong job file",
            Self::Exceptions => "completed with exceptions",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted or cancelled",
        }
    }

    /// How bad it is: of several ends the heaviest counts.
    pub(crate) fn weight(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Exceptions => 1,
            Self::Interrupted => 2,
            Self::Refused => 3,
            Self::Usage => 4,
            Self::Failed => 5,
        }
    }

    /// The exit code of a job that ended.
    pub(crate) fn of(state: &JobState, counts: &Counts) -> Self {
        match state {
            JobState::Completed if counts.exceptions() == 0 => Self::Completed,
            JobState::Completed => Self::Exceptions,
            JobState::Failed { reason: StopReason::Refused, .. } => Self::Refused,
            JobState::Failed { .. } | JobState::Failing { .. } => Self::Failed,
            JobState::Paused { .. } => Self::Refused,
            JobState::Cancelled | JobState::Cancelling | JobState::Live { .. } => Self::Interrupted,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
