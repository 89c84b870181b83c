//! What is in a worker's hand, and what must not be.

use keyrotate_queue::conformance::{normal, stores, ticket};
use keyrotate_queue::{Queue, QueueError, Route};

use super::{consume, fresh, is_silent, next, number, publish, queue_at, shared};

/// A worker whose slots are taken keeps nothing that another could work on.
#[tokio::test]
async fn a_busy_consumer_starves_nobody() {
    let broker = shared().await;
    let (queue, _) = fresh(&broker).await;
    let mut busy = consume(&queue, 1).await;
    publish(&queue, 0).await;
    let held = next(&mut *busy).await;
    let waiting = tokio::spawn(async move { busy.next().await.map(|next| (next, busy)) });
    for n in 1..6 {
        let route = if n % 2 == 0 { normal() } else { normal().urgent() };
        queue.publish(&ticket(n), &route).await.unwrap();
    }
    let mut idle = consume(&queue, 1).await;
    let mut order = Vec::new();
    for _ in 1..6 {
        let delivery = next(&mut *idle).await;
        assert!(!delivery.redelivered(), "it lay in a busy worker's hand");
        order.push(number(&delivery));
        delivery.ack().await.unwrap();
    }
    assert_eq!(order, [1, 3, 5, 2, 4]);
    held.ack().await.unwrap();
    waiting.abort();
}

/// A worker that stops takes nothing more, though it still works on what it has.
#[tokio::test]
async fn who_waits_no_more_gets_nothing() {
    let broker = shared().await;
    let (queue, _) = fresh(&broker).await;
    let mut stopping = consume(&queue, 2).await;
    publish(&queue, 0).await;
    let held = next(&mut *stopping).await;
    assert!(is_silent(&mut *stopping).await);
    tokio::time::sleep(super::SILENCE).await;
    publish(&queue, 1).await;
    let mut other = consume(&queue, 1).await;
    let delivery = next(&mut *other).await;
    assert_eq!((number(&delivery), delivery.redelivered()), (1, false));
    delivery.ack().await.unwrap();
    held.ack().await.unwrap();
}

/// An idle consumer hears of many at once: urgent and not, for fewer slots than came.
#[tokio::test]
async fn many_rings_at_once_lose_nothing() {
    let broker = shared().await;
    let (queue, host) = fresh(&broker).await;
    let mut seen = Vec::new();
    let mut consumer = consume(&queue, 1).await;
    for round in 0..20 {
        let (url, n) = (broker.private.url(&host), round * 2);
        let other = if round == 0 { queue_at(&url) } else { queue.clone() };
        let (one, two) = (ticket(n), ticket(n + 1));
        let (first, second) = (normal(), normal().urgent());
        let (a, b) = tokio::join!(queue.publish(&one, &first), other.publish(&two, &second));
        a.and(b).unwrap();
        for _ in 0..2 {
            let delivery = next(&mut *consumer).await;
            seen.push(number(&delivery));
            delivery.ack().await.unwrap();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    assert!(is_silent(&mut *consumer).await);
}

/// Several installations on one virtual host do not hear each other.
#[tokio::test]
async fn a_prefix_keeps_installations_apart() {
    let broker = shared().await;
    let (queue, host) = fresh(&broker).await;
    let prefixed = super::config(&broker.private.url(&host)).with_prefix("team-a.").unwrap();
    let theirs = keyrotate_queue::RabbitQueue::new(prefixed, keyrotate_env::Env::system());
    publish(&theirs, 7).await;
    assert!(is_silent(&mut *consume(&queue, 1).await).await);
    let mut consumer = consume(&theirs, 1).await;
    next(&mut *consumer).await.ack().await.unwrap();
}

/// A name that could be another queue's is refused before anything is sent.
#[tokio::test]
async fn a_store_with_an_impossible_name_is_refused() {
    let queue = queue_at("amqp://127.0.0.1:1");
    let refused = queue.publish(&ticket(0), &Route::to("a.urgent")).await;
    assert!(matches!(refused, Err(QueueError::StoreName(_))), "{refused:?}");
    assert!(queue.consume(1, &[String::new()]).await.is_err());
    assert!(queue.consume(1, &stores()).await.is_ok(), "a broker that is away is waited for");
}
