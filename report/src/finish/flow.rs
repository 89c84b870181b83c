//! What the pictures of a report show: from which key to which, and when. In bounded memory.

use std::collections::HashMap;

use jiff::Timestamp;
use keyrotate_proto::part::PartHeader;
use keyrotate_proto::row::{Row, Seal};

use super::summary::{KeyFlow, Step, Timeline};
use super::tally::is_nothing;

/// More pairs of keys than these are counted together.
const PAIRS: usize = 1_000;

/// Name under which further pairs are counted together.
const OTHERS: &str = "(others)";

/// Steps of a timeline.
const STEPS: u64 = 60;

/// Versions and bytes by encryption before and after.
#[derive(Debug, Default)]
pub(super) struct Flows {
    pairs: HashMap<(Seal, Seal), (u64, u64)>,
    others: (u64, u64),
}

impl Flows {
    pub(super) fn add(&mut self, row: &Row) {
        if is_nothing(row.outcome) {
            return;
        }
        let pair = (row.before.clone(), row.after.clone());
        let known = self.pairs.len() < PAIRS || self.pairs.contains_key(&pair);
        let counted = if known { self.pairs.entry(pair).or_default() } else { &mut self.others };
        counted.0 += 1;
        counted.1 += row.size;
    }

    /// The commonest first, those of all other pairs last.
    pub(super) fn ended(self) -> Vec<KeyFlow> {
        let flow = |(before, after): (String, String), (versions, bytes)| KeyFlow { before, after, versions, bytes };
        let named =
            |((before, after), counted): ((Seal, Seal), _)| flow((before.to_string(), after.to_string()), counted);
        let mut flows: Vec<KeyFlow> = self.pairs.into_iter().map(named).collect();
        flows.sort_by(|a, b| {
            b.versions.cmp(&a.versions).then_with(|| (&a.before, &a.after).cmp(&(&b.before, &b.after)))
        });
        if self.others.0 > 0 {
            flows.push(flow((OTHERS.to_owned(), OTHERS.to_owned()), self.others));
        }
        flows
    }
}

/// Outcomes by the time at which they were written down.
#[derive(Debug)]
pub(super) struct Times {
    started: Timestamp,
    line: Timeline,
}

impl Times {
    pub(super) fn between(started: Timestamp, ended: Timestamp) -> Self {
        let took = u64::try_from(ended.as_millisecond() - started.as_millisecond()).unwrap_or(0).max(1);
        let step_ms = took.div_ceil(STEPS);
        let steps = usize::try_from(took.div_ceil(step_ms)).unwrap_or(1);
        Self { started, line: Timeline { step_ms, steps: vec![Step::default(); steps] } }
    }

    /// Rows that replace earlier ones are counted once. A writer whose clock is off counts into the nearest step.
    pub(super) fn add(&mut self, written: Timestamp, header: &PartHeader) {
        let after = u64::try_from(written.as_millisecond() - self.started.as_millisecond()).unwrap_or(0);
        let last = self.line.steps.len() - 1;
        let at = usize::try_from(after / self.line.step_ms).unwrap_or(last).min(last);
        let step = &mut self.line.steps[at];
        step.scanned += header.counts.scanned().saturating_sub(header.replaced.scanned());
        step.rotated += header.counts.of("rotated").saturating_sub(header.replaced.of("rotated"));
    }

    pub(super) fn ended(self) -> Timeline {
        self.line
    }
}
