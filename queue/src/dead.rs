//! Tickets that nobody could work on, as whoever looks after the fleet sees them.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use keyrotate_proto::ticket::Ticket;

use crate::QueueError;

/// A message that nobody could work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its name. Foreign messages that have none share one.
    pub id: String,
    /// Why nobody could work on it, in words.
    pub reason: String,
    /// The queue that it lay in.
    pub queue: String,
    /// The ticket, where it is one.
    pub ticket: Option<Ticket>,
    /// Bytes of its body.
    pub bytes: usize,
}

/// Where dead letters lie. Nobody sends one again as it is: whoever wants its shard to be worked on has a fresh ticket
/// published, and takes the letter away.
#[async_trait]
pub trait DeadLetters: Send + Sync + fmt::Debug {
    /// The first ones, at most `most`; all stay where they are.
    ///
    /// # Errors
    /// When they can't be reached.
    async fn list(&self, most: usize) -> Result<Vec<DeadLetter>, QueueError>;

    /// Takes those with these names away, for good; says how many there were.
    ///
    /// # Errors
    /// When they can't be reached; those that were not taken away stay.
    async fn remove(&self, ids: &BTreeSet<String>) -> Result<usize, QueueError>;
}
