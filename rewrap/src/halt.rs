//! What says nothing about an object is never an outcome of an object: it halts the slice.

use std::fmt;

use keyrotate_proto::state::{PauseReason, StopReason};

/// The work can't go on here. The slice is given back without an attempt charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Something outside must be mended first; a probe finds out when it is.
    Pause {
        /// Why.
        reason: PauseReason,
        /// What was seen.
        detail: String,
    },
    /// The job must not go on at all.
    Stop {
        /// Why.
        reason: StopReason,
        /// What was seen.
        detail: String,
    },
    /// The lease that the work was done under is over, or nearly. That says nothing about the job either.
    LeaseOver,
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause { reason, detail } => write!(f, "paused ({}): {detail}", reason.as_str()),
            Self::Stop { reason, detail } => write!(f, "stopped ({}): {detail}", reason.as_str()),
            Self::LeaseOver => f.write_str("the lease is over"),
        }
    }
}

impl std::error::Error for Halt {}
