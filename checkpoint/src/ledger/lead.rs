//! What only one coordinator may do, it does under a lease of its own.

use std::time::Duration;

use super::transact::Change;
use super::{Ledger, LedgerError};
use crate::backend::RecordKey;
use crate::record::{LeaderRecord, leader_key};
use crate::transition::leader::{self, Leading};

impl Ledger {
    /// Asks for the lead; `None` where another has it.
    ///
    /// # Errors
    /// When the back-end does not answer.
    pub async fn lead(&self, owner: &str, ttl: Duration) -> Result<Option<Leading>, LedgerError> {
        let (token, nonce) = (self.env.random_hex(8), self.env.random_hex(8));
        self.change_leader(|there, run, now| Ok(leader::take(there, owner, &token, &nonce, run, ttl, now))).await
    }

    /// Makes the lead longer.
    ///
    /// # Errors
    /// [`crate::Refusal::NotLeader`] when another took it, or another run of the back-end began: stop leading at once.
    pub async fn go_on_leading(&self, leading: &Leading, ttl: Duration) -> Result<(), LedgerError> {
        self.change_leader(|there, run, now| leader::renew(there, leading, run, ttl, now).map(|next| Some((next, ()))))
            .await
            .map(drop)
    }

    /// Gives the lead away, so that another takes it without waiting.
    ///
    /// # Errors
    /// When the back-end does not answer: the lead then runs out by itself.
    pub async fn resign(&self, leading: &Leading) -> Result<(), LedgerError> {
        self.change_leader(|there, _, now| Ok(leader::resign(there, leading, now).map(|next| (next, ()))))
            .await
            .map(drop)
    }

    /// Who leads.
    ///
    /// # Errors
    /// When the back-end does not answer, or the record can't be read.
    pub async fn leader(&self) -> Result<Option<LeaderRecord>, LedgerError> {
        let key = leader_key();
        self.view(std::slice::from_ref(&key)).await?.find(&key)
    }

    /// The same ledger, each of its changes only while `leading` stands.
    #[must_use]
    pub fn led_by(&self, leading: Leading) -> Self {
        Self { leading: Some(leading), ..self.clone() }
    }

    async fn change_leader<T: Send>(
        &self,
        change: impl Fn(Option<&LeaderRecord>, &str, jiff::Timestamp) -> Result<Option<(LeaderRecord, T)>, crate::Refusal>
        + Send
        + Sync,
    ) -> Result<Option<T>, LedgerError> {
        let key: RecordKey = leader_key();
        let unled = Self { leading: None, ..self.clone() };
        unled
            .transact(std::slice::from_ref(&key), |view| {
                match change(view.find(&key)?.as_ref(), &view.run, view.now)? {
                    Some((next, value)) => Change::none(Some(value)).quiet().write(&key, &next),
                    None => Ok(Change::none(None)),
                }
            })
            .await
    }
}
