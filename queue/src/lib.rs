//! Tickets on their way: published by the dispatcher, taken by workers that have a free slot.
//!
//! A queue is a bell, never the truth: a ticket may be lost, come twice or late, and nothing is lost with it but time.
//! What a back-end must keep to is in [`conformance`]; [`memory`] is the one within a process, [`rabbit`] the one of a
//! fleet.

pub mod conformance;
mod dead;
pub mod memory;
pub mod rabbit;

use std::fmt;

use async_trait::async_trait;
use keyrotate_proto::ticket::Ticket;

pub use dead::{DeadLetter, DeadLetters};
pub use memory::MemoryQueue;
pub use rabbit::{RabbitConfig, RabbitQueue};

/// A queue could not do it.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// It holds as many tickets as it may: publish again later. Back-pressure, not a fault.
    #[error("the ticket queue is full")]
    Full,
    /// It can't be reached, or did not confirm in time: whether the ticket went out is not known, and sending it again
    /// does no harm.
    #[error("the ticket queue can't be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The ticket went nowhere: the broker lacks our queues.
    #[error("the ticket could not be routed to a queue")]
    Unroutable,
    /// No queue can have this store's name.
    #[error("`{0}` can't be the name of a store: it wants 1 to 100 letters, digits, `-` and `_`")]
    StoreName(String),
    /// The connection that the delivery came on is gone: the broker delivers it again.
    #[error("the delivery's connection is gone")]
    Gone,
}

/// Name of the store where the configuration names none.
pub const DEFAULT_STORE: &str = "default";

/// Whom a ticket is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Name of the store whose objects the shard names: only workers that serve it get the ticket.
    pub store: String,
    /// Looked at before all that are not, by every consumer.
    pub urgent: bool,
}

impl Route {
    /// To the workers that serve `store`, behind the others.
    #[must_use]
    pub fn to(store: &str) -> Self {
        Self { store: store.to_owned(), urgent: false }
    }

    /// The same, before all that are not urgent.
    #[must_use]
    pub fn urgent(self) -> Self {
        Self { urgent: true, ..self }
    }
}

/// Where tickets are published and taken.
#[async_trait]
pub trait Queue: Send + Sync + fmt::Debug {
    /// Publishes a ticket and returns once it is confirmed. It waits for a worker of its store, however long.
    async fn publish(&self, ticket: &Ticket, route: &Route) -> Result<(), QueueError>;

    /// Begins to take tickets of these stores, never more than `slots` that are neither acked, given back nor
    /// rejected.
    async fn consume(&self, slots: usize, stores: &[String]) -> Result<Box<dyn Consumer>, QueueError>;
}

/// Takes tickets. Dropped, everything that it took and did not settle is delivered again.
#[async_trait]
pub trait Consumer: Send {
    /// The next ticket; waits while there is none, or while as many are out as there are slots. `None`: the queue was
    /// closed and will deliver nothing more. May be cancelled without losing a ticket.
    async fn next(&mut self) -> Result<Option<Delivery>, QueueError>;

    /// Takes no more, and gives what had come already: a ticket that comes for nobody would come again marked as
    /// redelivered. What was taken before can still be settled.
    async fn close(&mut self) -> Vec<Delivery>;
}

/// A ticket in a worker's hand. Dropped without a word it is delivered again, at the latest when its consumer is gone.
pub struct Delivery {
    ticket: Ticket,
    redelivered: bool,
    settle: Box<dyn Settle>,
}

/// What a worker says about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with.
    Ack,
    /// To be delivered again, to anybody.
    GiveBack,
    /// To the dead letters, with the reason.
    Reject(String),
}

/// How a back-end settles one delivery.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Says the verdict; returns when it was sent.
    async fn settle(self: Box<Self>, verdict: Verdict) -> Result<(), QueueError>;
}

impl Delivery {
    /// For back-ends.
    #[must_use]
    pub fn new(ticket: Ticket, redelivered: bool, settle: Box<dyn Settle>) -> Self {
        Self { ticket, redelivered, settle }
    }

    /// What it says.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Whether it was in somebody's hand before.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// Done with: also when its shard is over, held by somebody or not wanted now, since the sweeper sends another in
    /// time.
    ///
    /// # Errors
    /// When the connection is gone; the ticket then comes again, which does no harm.
    pub async fn ack(self) -> Result<(), QueueError> {
        self.settle.settle(Verdict::Ack).await
    }

    /// Back to the queue. Only before its shard was asked for: it comes again marked as redelivered, as if the holder
    /// of its shard's lease were gone.
    ///
    /// # Errors
    /// When the connection is gone; the ticket then comes again by itself.
    pub async fn give_back(self) -> Result<(), QueueError> {
        self.settle.settle(Verdict::GiveBack).await
    }

    /// To the dead letters: nobody can work on it as it is.
    ///
    /// # Errors
    /// When the connection is gone; the ticket then comes again.
    pub async fn reject(self, reason: &str) -> Result<(), QueueError> {
        self.settle.settle(Verdict::Reject(reason.to_owned())).await
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("ticket", &self.ticket)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}
