//! What every queue must do, as one suite that all of them run.
//!
//! Each check gets a way to a fresh, empty queue and panics when it is not kept to. Waits are bounded.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keyrotate_proto::id::{Epoch, JobId, Nonce, PassId, ShardId, ShardRef};
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};

use crate::{Consumer, DEFAULT_STORE, Delivery, Queue, Route};

/// What must come does so within this.
const PATIENCE: Duration = Duration::from_secs(20);
/// What must not come is waited for so long.
const SILENCE: Duration = Duration::from_millis(300);

/// Runs every check, each on a queue of its own.
///
/// # Panics
/// When the queue does not keep to one.
pub async fn all<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Queue>>,
{
    tickets_come_whole(make().await).await;
    tickets_of_one_kind_come_in_order(make().await).await;
    urgent_ones_come_first(make().await).await;
    no_more_are_out_than_there_are_slots(make().await).await;
    what_was_acked_never_comes_again(make().await).await;
    what_was_given_back_comes_again(make().await).await;
    what_was_rejected_never_comes_again(make().await).await;
    what_a_lost_consumer_held_comes_again(make().await).await;
    consumers_share_and_none_gets_anothers(make().await).await;
    a_cancelled_wait_loses_nothing(make().await).await;
    a_closed_consumer_leaves_nothing_behind(make().await).await;
    only_whoever_serves_a_store_gets_its_tickets(make().await).await;
}

/// The route of a ticket in these checks.
#[must_use]
pub fn normal() -> Route {
    Route::to(DEFAULT_STORE)
}

/// The stores that consumers serve in these checks.
#[must_use]
pub fn stores() -> Vec<String> {
    vec![DEFAULT_STORE.to_owned()]
}

/// The ticket of shard `n` of some job.
#[must_use]
pub fn ticket(n: u32) -> Ticket {
    let shard = ShardRef { job: JobId::new(1, [7; 10]), pass: PassId(1), shard: ShardId(n) };
    let epoch = Epoch { nonce: Nonce("c0ffee".into()), counter: u64::from(n) };
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    Ticket { version: TICKET_VERSION, shard, spec_hash: "ab".repeat(32), epoch, traceparent }
}

/// A ticket comes out as it went in, and is new.
pub async fn tickets_come_whole(queue: Arc<dyn Queue>) {
    publish(&*queue, 0..1, false).await;
    let mut consumer = consume(&*queue, 1).await;
    let delivery = next(&mut *consumer).await;
    assert_eq!(*delivery.ticket(), ticket(0));
    assert!(!delivery.redelivered(), "a new ticket must not be marked as redelivered");
    settled(delivery.ack().await);
}

/// Tickets of one kind come in the order of publishing while nothing goes wrong.
pub async fn tickets_of_one_kind_come_in_order(queue: Arc<dyn Queue>) {
    publish(&*queue, 0..20, false).await;
    let mut consumer = consume(&*queue, 1).await;
    for n in 0..20 {
        let delivery = next(&mut *consumer).await;
        assert_eq!(*delivery.ticket(), ticket(n));
        settled(delivery.ack().await);
    }
}

/// An urgent ticket overtakes those that wait.
pub async fn urgent_ones_come_first(queue: Arc<dyn Queue>) {
    publish(&*queue, 0..10, false).await;
    publish(&*queue, 10..12, true).await;
    let mut consumer = consume(&*queue, 1).await;
    let mut order = Vec::new();
    for _ in 0..12 {
        let delivery = next(&mut *consumer).await;
        order.push(delivery.ticket().shard.shard.0);
        settled(delivery.ack().await);
    }
    assert_eq!(order, [10, 11, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

/// A consumer gets as many as it has slots, and the next when one is settled; urgent ones count.
pub async fn no_more_are_out_than_there_are_slots(queue: Arc<dyn Queue>) {
    publish(&*queue, 0..4, false).await;
    publish(&*queue, 4..5, true).await;
    let mut consumer = consume(&*queue, 2).await;
    let first = next(&mut *consumer).await;
    let second = next(&mut *consumer).await;
    assert!(is_silent(&mut *consumer).await, "a third ticket came with two slots");
    settled(first.ack().await);
    let third = next(&mut *consumer).await;
    assert!(is_silent(&mut *consumer).await, "a third ticket came with two slots");
    settled(second.ack().await);
    settled(third.ack().await);
}

/// An acked ticket is gone, also when its consumer goes.
pub async fn what_was_acked_never_comes_again(queue: Arc<dyn Queue>) {
    publish(&*queue, 0..3, false).await;
    let mut consumer = consume(&*queue, 3).await;
    for _ in 0..3 {
        settled(next(&mut *consumer).await.ack().await);
    }
    drop(consumer);
    assert!(is_silent(&mut *consume(&*queue, 3).await).await, "an acked ticket came again");
}

/// A ticket given back comes again, marked, and is as settleable as a new one.
pub async fn what_was_given_back_comes_again(queue: Arc<dyn Queue>) {
    publish(&*queue, 0..1, false).await;
    let mut consumer = consume(&*queue, 1).await;
    settled(next(&mut *consumer).await.give_back().await);
    let again = next(&mut *consumer).await;
    assert_eq!(*again.ticket(), ticket(0));
    assert!(again.redelivered(), "a ticket that was out before must be marked as redelivered");
    settled(again.ack().await);
    assert!(is_silent(&mut *consumer).await);
}

/// A rejected ticket is for nobody.
pub async fn what_was_rejected_never_comes_again(queue: Arc<dyn Queue>) {
    publish(&*queue, 0..2, false).await;
    let mut consumer = consume(&*queue, 2).await;
    settled(next(&mut *consumer).await.reject("unknown version").await);
    settled(next(&mut *consumer).await.ack().await);
    drop(consumer);
    assert!(is_silent(&mut *consume(&*queue, 2).await).await, "a rejected ticket came again");
}

/// What was in the hands of a consumer that is gone comes again, marked; so does what was dropped without a word.
pub async fn what_a_lost_consumer_held_comes_again(queue: Arc<dyn Queue>) {
    publish(&*queue, 0..3, false).await;
    let mut lost = consume(&*queue, 3).await;
    let held = [next(&mut *lost).await, next(&mut *lost).await];
    drop(next(&mut *lost).await);
    drop(lost);
    let mut consumer = consume(&*queue, 3).await;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let delivery = next(&mut *consumer).await;
        assert!(delivery.redelivered(), "a ticket that was out before must be marked as redelivered");
        seen.insert(delivery.ticket().shard.shard.0);
        settled(delivery.ack().await);
    }
    assert_eq!(seen, BTreeSet::from([0, 1, 2]));
    // Their connection is gone: what the dead say moves nothing.
    for delivery in held {
        let _ = delivery.give_back().await;
    }
    assert!(is_silent(&mut *consumer).await, "a delivery of a lost consumer was settled");
}

/// Several consumers share the tickets; each ticket is in one hand.
pub async fn consumers_share_and_none_gets_anothers(queue: Arc<dyn Queue>) {
    publish(&*queue, 0..100, false).await;
    let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut consumer = consume(&*queue, 3).await;
        let sender = sender.clone();
        tasks.spawn(async move {
            while let Ok(Some(delivery)) = consumer.next().await {
                let _ = sender.send(delivery.ticket().shard.shard.0);
                tokio::task::yield_now().await;
                settled(delivery.ack().await);
            }
        });
    }
    let mut seen = Vec::new();
    while seen.len() < 100 {
        match tokio::time::timeout(PATIENCE, taken.recv()).await {
            Ok(Some(number)) => seen.push(number),
            _ => panic!("only {} of 100 tickets came", seen.len()),
        }
    }
    assert!(tokio::time::timeout(SILENCE, taken.recv()).await.is_err(), "a ticket came twice");
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

/// A wait for a ticket may be given up at any moment.
pub async fn a_cancelled_wait_loses_nothing(queue: Arc<dyn Queue>) {
    let mut consumer = consume(&*queue, 2).await;
    let mut seen = Vec::new();
    for n in 0..20 {
        publish(&*queue, n..n + 1, false).await;
        if let Ok(Ok(Some(delivery))) = tokio::time::timeout(Duration::from_micros(50), consumer.next()).await {
            seen.push(delivery.ticket().shard.shard.0);
            settled(delivery.ack().await);
        }
    }
    while seen.len() < 20 {
        let delivery = next(&mut *consumer).await;
        seen.push(delivery.ticket().shard.shard.0);
        settled(delivery.ack().await);
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    assert!(is_silent(&mut *consumer).await, "a ticket came twice");
}

/// Whatever moment a consumer is closed at, each ticket is with it or comes to another, as new as it was.
pub async fn a_closed_consumer_leaves_nothing_behind(queue: Arc<dyn Queue>) {
    for n in 0..20 {
        let mut closing = consume(&*queue, 2).await;
        publish(&*queue, 2 * n..2 * n + 1, false).await;
        let held = next(&mut *closing).await;
        // It listens when the next one is published, and until a little before or after that.
        let wait = Duration::from_millis(u64::from(n));
        let ((), came) = tokio::join!(publish(&*queue, 2 * n + 1..2 * n + 2, false), async {
            tokio::time::timeout(wait, closing.next()).await.ok()
        });
        let mut rest = closing.close().await;
        rest.extend(came.and_then(Result::ok).flatten());
        let mut other = consume(&*queue, 2).await;
        if rest.is_empty() {
            rest.push(next(&mut *other).await);
        }
        assert!(is_silent(&mut *other).await, "it came twice");
        for delivery in rest {
            assert_eq!((delivery.ticket().shard.shard.0, delivery.redelivered()), (2 * n + 1, false));
            settled(delivery.ack().await);
        }
        settled(held.ack().await);
    }
}

/// A consumer gets tickets of all its stores and of no other; what nobody serves waits.
pub async fn only_whoever_serves_a_store_gets_its_tickets(queue: Arc<dyn Queue>) {
    let route = |store: &str, urgent| Route { store: store.to_owned(), urgent };
    for (n, to) in [(0, route("a", false)), (1, route("b", false)), (2, route("b", true)), (3, route("c", true))] {
        settled(queue.publish(&ticket(n), &to).await);
    }
    let mut one = serve(&*queue, 4, &["a"]).await;
    let first = next(&mut *one).await;
    assert_eq!(*first.ticket(), ticket(0));
    assert!(is_silent(&mut *one).await, "a ticket of another store came");
    let mut both = serve(&*queue, 1, &["b", "c"]).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut *both).await;
        order.push(delivery.ticket().shard.shard.0);
        settled(delivery.ack().await);
    }
    assert_eq!(order.pop(), Some(1), "urgent ones of all stores come first");
    assert_eq!(BTreeSet::from_iter(order), BTreeSet::from([2, 3]));
    settled(first.ack().await);
}

async fn publish(queue: &dyn Queue, numbers: std::ops::Range<u32>, urgent: bool) {
    for n in numbers {
        settled(queue.publish(&ticket(n), &Route { urgent, ..normal() }).await);
    }
}

async fn consume(queue: &dyn Queue, slots: usize) -> Box<dyn Consumer> {
    serve(queue, slots, &[DEFAULT_STORE]).await
}

async fn serve(queue: &dyn Queue, slots: usize, stores: &[&str]) -> Box<dyn Consumer> {
    let stores: Vec<String> = stores.iter().map(|&store| store.to_owned()).collect();
    match queue.consume(slots, &stores).await {
        Ok(consumer) => consumer,
        Err(error) => panic!("can't consume: {error:?}"),
    }
}

async fn next(consumer: &mut dyn Consumer) -> Delivery {
    match tokio::time::timeout(PATIENCE, consumer.next()).await {
        Ok(Ok(Some(delivery))) => delivery,
        other => panic!("a ticket should have come: {other:?}"),
    }
}

async fn is_silent(consumer: &mut dyn Consumer) -> bool {
    tokio::time::timeout(SILENCE, consumer.next()).await.is_err()
}

fn settled(result: Result<(), crate::QueueError>) {
    if let Err(error) = result {
        panic!("the queue refused: {error:?}");
    }
}
