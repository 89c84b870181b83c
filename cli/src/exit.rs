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
