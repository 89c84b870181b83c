//! What a worker has done so far, for whoever draws a progress bar. Never the truth: that is what was committed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use keyrotate_proto::outcome::Outcome;

/// Outcomes since the process began, counted as they happen.
#[derive(Debug, Default)]
pub struct Meter {
    seen: Mutex<Seen>,
}

/// A reading of a [`Meter`].
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Entries that agree with their row (`verifying`).
    pub agree: u64,
    /// Bytes of rotated objects.
    pub bytes: u64,
}

impl Meter {
    pub(crate) fn outcome(&self, outcome: Outcome, bytes: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.outcomes.entry(outcome).or_default() += 1;
        if matches!(outcome, Outcome::Rotated(_)) {
            seen.bytes += bytes;
        }
    }

    pub(crate) fn agrees(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).agree += 1;
    }

    /// The counts now.
    #[must_use]
    pub fn read(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
