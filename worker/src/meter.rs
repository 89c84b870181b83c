//! What a worker has done so far, for whoever draws a progress bar. Never the truth: that is what was committed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use keyrotate_proto::outcome::Outcome;
use keyrotate_telemetry::metrics;
use keyrotate_telemetry::metrics::Counter;
use keyrotate_telemetry::names::OUTCOME_WORDS;

/// Outcomes since the process began, counted as they happen.
#[derive(Debug)]
pub struct Meter {
    seen: Mutex<Seen>,
    /// The process's, by word.
    outcomes: Vec<Counter>,
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

impl Default for Meter {
    fn default() -> Self {
        Self {
            seen: Mutex::default(),
            outcomes: OUTCOME_WORDS.iter().map(|word| metrics().objects.with(&[word])).collect(),
        }
    }
}

impl Meter {
    pub(crate) fn outcome(&self, outcome: Outcome, bytes: u64) {
        let index = OUTCOME_WORDS.iter().position(|word| *word == outcome.word());
        if let Some(counter) = index.and_then(|index| self.outcomes.get(index)) {
            counter.inc();
        }
        if matches!(outcome, Outcome::Rotated(_)) {
            metrics().rotated_bytes.inc_by(bytes);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.outcomes.entry(outcome).or_default() += 1;
        if matches!(outcome, Outcome::Rotated(_)) {
            seen.bytes += bytes;
        }
    }

    pub(crate) fn agrees(&self) {
        metrics().verified.inc();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).agree += 1;
    }

    /// The counts now.
    #[must_use]
    pub fn read(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
