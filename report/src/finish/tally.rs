//! Sums over the last rows, in bounded memory.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::{Counts, Outcome, SkipReason, Strategy};
use keyrotate_proto::part::PartHeader;
use keyrotate_proto::row::{Row, Seal};

use super::flow::{Flows, Times};
use super::summary::{Sample, StrategyCount};

/// More distinct keys than these are counted together.
const KEYS: usize = 10_000;

/// Name under which further keys are counted together.
const OTHERS: &str = "(others)";

/// Failed rows that the summary shows.
const SAMPLES: usize = 100;

/// Sums over the last rows.
#[derive(Debug)]
pub(super) struct Tally {
    target: Option<FrozenTarget>,
    pub(super) counts: Counts,
    pub(super) exceptions: BTreeMap<String, u64>,
    pub(super) failed: Vec<Sample>,
    pub(super) strategies: BTreeMap<Strategy, StrategyCount>,
    pub(super) keys: BTreeMap<String, KeyTally>,
    /// Versions whose key nobody looked at, by outcome and reason.
    pub(super) unknown: BTreeMap<String, u64>,
    pub(super) flows: Flows,
    pub(super) times: Option<Times>,
}

/// Whether there is nothing in the scope that could be under a key.
pub(super) fn is_nothing(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Skipped(SkipReason::Gone | SkipReason::Own | SkipReason::DeleteMarker))
}

/// What is counted of one key that is not the target.
#[derive(Debug, Default)]
pub(super) struct KeyTally {
    pub(super) left: u64,
    pub(super) still: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new(target: Option<FrozenTarget>) -> Self {
        Self {
            target,
            counts: Counts::default(),
            exceptions: BTreeMap::new(),
            failed: Vec::new(),
            strategies: BTreeMap::new(),
            keys: BTreeMap::new(),
            unknown: BTreeMap::new(),
            flows: Flows::default(),
            times: None,
        }
    }

    /// Counts a part into the time at which it was written, where it says when.
    pub(super) fn note(&mut self, header: &PartHeader, (started, ended): (Timestamp, Timestamp)) {
        let Some(written) = header.written else { return };
        self.times.get_or_insert_with(|| Times::between(started, ended)).add(written, header);
    }

    pub(super) fn add(&mut self, row: &Row) {
        row.count_into(&mut self.counts);
        self.flows.add(row);
        if row.outcome.is_exception() {
            *self.exceptions.entry(row.outcome.reason().to_owned()).or_default() += 1;
        }
        if row.outcome.wants_retry() && self.failed.len() < SAMPLES {
            self.failed.push(Sample::of(row));
        }
        if let Outcome::Rotated(_) = row.outcome {
            self.add_rotated(row);
        } else {
            self.add_left(row);
        }
    }

    fn add_rotated(&mut self, row: &Row) {
        if let Some(strategy) = row.strategy {
            let used = self.strategies.entry(strategy).or_default();
            used.versions += 1;
            used.bytes += row.size;
        }
        if row.supersedes() {
            let reason = SkipReason::Superseded.as_str();
            *self.exceptions.entry(reason.to_owned()).or_default() += 1;
        }
        let Some(key) = self.old_key(&row.before) else { return };
        let tally = self.key(key);
        tally.left += 1;
        if row.supersedes() {
            *tally.still.entry(SkipReason::Superseded.as_str().to_owned()).or_default() += 1;
        }
    }

    fn add_left(&mut self, row: &Row) {
        if is_nothing(row.outcome) {
            return;
        }
        let reason = match row.outcome.reason() {
            "" => row.outcome.word().to_owned(),
            reason => format!("{}/{reason}", row.outcome.word()),
        };
        if row.after == Seal::Unknown {
            *self.unknown.entry(reason).or_default() += 1;
        } else if let Some(key) = self.old_key(&row.after) {
            *self.key(key).still.entry(reason).or_default() += 1;
        }
    }

    /// The key of a seal, unless it is the target or there is none that an operator could delete.
    fn old_key(&self, seal: &Seal) -> Option<String> {
        let name = match seal {
            Seal::SseKms(KeyName(_)) | Seal::DualLayer(KeyName(_)) => seal.kms_key()?.bare().to_owned(),
            Seal::SseS3 => Seal::SseS3.to_string(),
            Seal::Plaintext | Seal::SseC | Seal::Unknown => return None,
        };
        let is_target = match (&self.target, seal.kms_key()) {
            (Some(target @ FrozenTarget::SseKms { .. }), Some(other)) => target.has(other),
            (Some(FrozenTarget::SseS3), None) => true,
            _ => false,
        };
        (!is_target).then_some(name)
    }

    fn key(&mut self, name: String) -> &mut KeyTally {
        let name = if self.keys.len() < KEYS || self.keys.contains_key(&name) { name } else { OTHERS.to_owned() };
        self.keys.entry(name).or_default()
    }
}
