//! Foretelling: what a job would make of an object, under what was proven or under each of several guesses at it. Asks
//! the store, writes nothing.

use keyrotate_proto::outcome::{Outcome, Strategy};
use keyrotate_proto::row::Seal;
use keyrotate_store::Entry;
use serde::{Deserialize, Serialize};

use super::look::{Next, next};
use super::{Rewrapper, Rules};
use crate::facts::Facts;
use crate::halt::Halt;
use crate::plan::Look;

/// What would become of one object version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Nothing would be written.
    Settled(Outcome),
    /// It would be written so.
    Written(Strategy),
}

/// What is known of one object version, and its fates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foretold {
    /// How it is encrypted now.
    pub seal: Seal,
    /// Bytes of its body.
    pub size: u64,
    /// What would become of it: under the rewrapper's own rules, then under each of the others.
    pub fates: Vec<Fate>,
}

impl Rewrapper {
    /// What would become of a listed entry under these rules, and under each of `others`. The store is asked once for
    /// what several of them want to know.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn foretell(&self, others: &[Rules], entry: &Entry) -> Result<Foretold, Halt> {
        let mut facts = Facts::listed(&self.rules.spec.bucket, entry);
        let mut fates = Vec::with_capacity(1 + others.len());
        for rules in std::iter::once(&self.rules).chain(others) {
            fates.push(self.fate(rules, &mut facts).await?);
        }
        Ok(Foretold { seal: facts.seal(), size: facts.size, fates })
    }

    async fn fate(&self, rules: &Rules, facts: &mut Facts) -> Result<Fate, Halt> {
        loop {
            let ask = match next(rules, facts) {
                Next::Settle(outcome, _) => return Ok(Fate::Settled(outcome)),
                Next::Write { strategy, .. } => return Ok(Fate::Written(strategy)),
                Next::Ask(ask) => ask,
            };
            match self.ask(ask, facts).await? {
                None => {}
                Some(Look::Settled(row)) => return Ok(Fate::Settled(row.outcome)),
                Some(Look::Write(plan)) => return Ok(Fate::Written(plan.strategy())),
            }
        }
    }
}
