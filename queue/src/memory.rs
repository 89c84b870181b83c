//! The queue within one process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use keyrotate_proto::ticket::Ticket;
use tokio::sync::Notify;

use crate::{Consumer, Delivery, Queue, QueueError, Route, Settle, Verdict};

/// A bounded queue in memory. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    capacity: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    urgent: VecDeque<Letter>,
    normal: VecDeque<Letter>,
    /// Delivered and not settled, by delivery number: consumer and letter.
    out: BTreeMap<u64, (u64, Letter)>,
    dead: Vec<(Ticket, String)>,
    next_number: u64,
    closed: bool,
}

#[derive(Clone, Debug)]
struct Letter {
    ticket: Ticket,
    route: Route,
    redelivered: bool,
}

impl MemoryQueue {
    /// Holds at most `capacity` tickets that nobody has taken.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { shared: Arc::new(Shared { capacity, state: Mutex::default(), changed: Notify::new() }) }
    }

    /// Delivers nothing more and takes nothing more; consumers hear `None`.
    pub fn close(&self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_waiters();
    }

    /// Whether no ticket waits or is in somebody's hand.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let state = self.shared.state();
        state.urgent.is_empty() && state.normal.is_empty() && state.out.is_empty()
    }

    /// Tickets that were rejected, with the reasons.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<(Ticket, String)> {
        self.shared.state().dead.clone()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn publish(&self, ticket: &Ticket, route: &Route) -> Result<(), QueueError> {
        {
            let mut state = self.shared.state();
            if state.closed {
                return Err(QueueError::Unavailable("it was closed".into()));
            }
            if state.urgent.len() + state.normal.len() >= self.shared.capacity {
                return Err(QueueError::Full);
            }
            let letter = Letter { ticket: ticket.clone(), route: route.clone(), redelivered: false };
            state.line(route.urgent).push_back(letter);
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn consume(&self, slots: usize, stores: &[String]) -> Result<Box<dyn Consumer>, QueueError> {
        let id = self.shared.state().number();
        let stores = stores.iter().cloned().collect();
        Ok(Box::new(MemoryConsumer { shared: Arc::clone(&self.shared), id, slots, stores }))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery out of whatever hand it is in; `None` when it was settled, or taken back from its consumer.
    fn settle(&self, number: u64, verdict: Verdict) -> Result<(), QueueError> {
        {
            let mut state = self.state();
            let (_, letter) = state.out.remove(&number).ok_or(QueueError::Gone)?;
            match verdict {
                Verdict::Ack => {}
                Verdict::GiveBack => state.put_back(letter),
                Verdict::Reject(reason) => state.dead.push((letter.ticket, reason)),
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }
}

impl State {
    fn line(&mut self, urgent: bool) -> &mut VecDeque<Letter> {
        if urgent { &mut self.urgent } else { &mut self.normal }
    }

    fn put_back(&mut self, letter: Letter) {
        self.line(letter.route.urgent).push_front(Letter { redelivered: true, ..letter });
    }

    /// The first letter to one of these stores, urgent ones before others.
    fn take(&mut self, stores: &BTreeSet<String>) -> Option<Letter> {
        [true, false].into_iter().find_map(|urgent| {
            let line = self.line(urgent);
            let first = line.iter().position(|letter| stores.contains(&letter.route.store))?;
            line.remove(first)
        })
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

struct MemoryConsumer {
    shared: Arc<Shared>,
    id: u64,
    slots: usize,
    stores: BTreeSet<String>,
}

enum Look {
    Found(Delivery),
    Nothing,
    Closed,
}

impl MemoryConsumer {
    fn look(&self) -> Look {
        let mut state = self.shared.state();
        if state.closed {
            return Look::Closed;
        }
        if state.out.values().filter(|(consumer, _)| *consumer == self.id).count() >= self.slots {
            return Look::Nothing;
        }
        let Some(letter) = state.take(&self.stores) else { return Look::Nothing };
        let number = state.number();
        let (ticket, redelivered) = (letter.ticket.clone(), letter.redelivered);
        state.out.insert(number, (self.id, letter));
        let settle = MemorySettle { shared: Arc::clone(&self.shared), number, settled: false };
        Look::Found(Delivery::new(ticket, redelivered, Box::new(settle)))
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        let shared = Arc::clone(&self.shared);
        loop {
            // Listen first, then look: a ticket that comes in between rings.
            let mut changed = std::pin::pin!(shared.changed.notified());
            changed.as_mut().enable();
            match self.look() {
                Look::Found(delivery) => return Ok(Some(delivery)),
                Look::Closed => return Ok(None),
                Look::Nothing => changed.await,
            }
        }
    }

    async fn close(&mut self) -> Vec<Delivery> {
        // Nothing comes before somebody waits for it.
        Vec::new()
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            let mine: Vec<u64> =
                state.out.iter().filter(|(_, (consumer, _))| *consumer == self.id).map(|(number, _)| *number).collect();
            // Newest first, so that the oldest ends up in front.
            for number in mine.into_iter().rev() {
                if let Some((_, letter)) = state.out.remove(&number) {
                    state.put_back(letter);
                }
            }
        }
        self.shared.changed.notify_waiters();
    }
}

struct MemorySettle {
    shared: Arc<Shared>,
    number: u64,
    settled: bool,
}

#[async_trait]
impl Settle for MemorySettle {
    async fn settle(mut self: Box<Self>, verdict: Verdict) -> Result<(), QueueError> {
        self.settled = true;
        self.shared.settle(self.number, verdict)
    }
}

impl Drop for MemorySettle {
    fn drop(&mut self) {
        if !self.settled {
            // Gone with its consumer already: then it waits in the queue.
            let _ = self.shared.settle(self.number, Verdict::GiveBack);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, normal, stores, ticket};

    #[tokio::test]
    async fn it_conforms() {
        conformance::all(|| async { Arc::new(MemoryQueue::new(1000)) as Arc<dyn Queue> }).await;
    }

    #[tokio::test]
    async fn a_full_queue_says_so_and_has_room_again() {
        let queue = MemoryQueue::new(2);
        queue.publish(&ticket(0), &normal()).await.unwrap();
        queue.publish(&ticket(1), &normal().urgent()).await.unwrap();
        assert!(matches!(queue.publish(&ticket(2), &normal().urgent()).await, Err(QueueError::Full)));
        let mut consumer = queue.consume(1, &stores()).await.unwrap();
        let taken = consumer.next().await.unwrap().unwrap();
        queue.publish(&ticket(2), &normal()).await.unwrap();
        taken.ack().await.unwrap();
    }

    #[tokio::test]
    async fn rejected_tickets_lie_among_the_dead_with_the_reason() {
        let queue = MemoryQueue::new(2);
        queue.publish(&ticket(0), &normal()).await.unwrap();
        let mut consumer = queue.consume(1, &stores()).await.unwrap();
        consumer.next().await.unwrap().unwrap().reject("another spec").await.unwrap();
        assert_eq!(queue.dead_letters(), [(ticket(0), "another spec".to_owned())]);
    }

    #[tokio::test]
    async fn closing_wakes_whoever_waits() {
        let queue = MemoryQueue::new(2);
        let mut consumer = queue.consume(1, &stores()).await.unwrap();
        let waiting = tokio::spawn(async move { consumer.next().await.unwrap().is_none() });
        tokio::task::yield_now().await;
        queue.close();
        assert!(waiting.await.unwrap());
        assert!(queue.publish(&ticket(0), &normal()).await.is_err());
    }

    #[tokio::test]
    async fn a_delivery_whose_consumer_is_gone_can_not_be_settled() {
        let queue = MemoryQueue::new(2);
        queue.publish(&ticket(0), &normal()).await.unwrap();
        let mut consumer = queue.consume(1, &stores()).await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        drop(consumer);
        assert!(matches!(delivery.ack().await, Err(QueueError::Gone)));
        let again = queue.consume(1, &stores()).await.unwrap().next().await.unwrap().unwrap();
        assert!(again.redelivered());
    }
}
