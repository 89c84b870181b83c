//! What nobody can work on: listed as often as one likes, and taken away.

use std::time::Duration;

use keyrotate_queue::conformance::{normal, ticket};
use keyrotate_queue::{DeadLetter, DeadLetters as _, Queue, RabbitQueue};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use super::broker::Broker;
use super::{QUEUE, consume, fresh, is_silent, next, number, publish, shared, until};

async fn send_raw(broker: &Broker, host: &str, body: &str) {
    let message = json!({ "routing_key": QUEUE, "payload": body, "payload_encoding": "string",
        "properties": { "delivery_mode": 2 } });
    broker.api(Method::POST, &["exchanges", host, "keyrotate", "publish"], &message).await;
}

/// Waits for so many dead letters.
async fn dead(queue: &RabbitQueue, count: usize) -> Vec<DeadLetter> {
    let letters = queue.dead_letters();
    until("the dead letters are there", async || letters.list(100).await.unwrap().len() == count).await;
    letters.list(100).await.unwrap()
}

/// Messages that are no tickets go to the dead letters with the reason, and the worker lives on.
#[tokio::test]
async fn what_is_no_ticket_dies_with_its_reason() {
    let broker = shared().await;
    let (queue, host) = fresh(&broker).await;
    let mut consumer = consume(&queue, 1).await;
    publish(&queue, 0).await;
    next(&mut *consumer).await.ack().await.unwrap();
    send_raw(&broker, &host, "no ticket").await;
    send_raw(&broker, &host, r#"{"version":99}"#).await;
    send_raw(&broker, &host, &" ".repeat(100_000)).await;
    publish(&queue, 1).await;
    let delivery = next(&mut *consumer).await;
    assert_eq!(number(&delivery), 1);
    delivery.ack().await.unwrap();

    let mut reasons: Vec<String> = dead(&queue, 3).await.into_iter().map(|letter| letter.reason).collect();
    reasons.sort();
    assert!(reasons[0].starts_with("100000 bytes"), "{reasons:?}");
    assert!(reasons[1].starts_with("not a ticket"), "{reasons:?}");
    assert_eq!(reasons[2], "ticket version 99, this worker knows 1");
    until("the originals are gone", async || broker.depth(&host, QUEUE).await == Some(0)).await;

    let ids = dead(&queue, 3).await.into_iter().map(|letter| letter.id).collect();
    assert_eq!(queue.dead_letters().remove(&ids).await.unwrap(), 3);
    assert!(is_silent(&mut *consumer).await);
    assert_eq!(dead(&queue, 0).await, []);
}

/// A rejected ticket is listed as often as one likes, and taken away by its name.
#[tokio::test]
async fn a_rejected_ticket_lies_there_until_it_is_taken_away() {
    let broker = shared().await;
    let (queue, _) = fresh(&broker).await;
    let mut consumer = consume(&queue, 2).await;
    queue.publish(&ticket(0), &normal().urgent()).await.unwrap();
    queue.publish(&ticket(1), &normal()).await.unwrap();
    for _ in 0..2 {
        next(&mut *consumer).await.reject("spec hash 12, the job's is 34").await.unwrap();
    }
    let letters = dead(&queue, 2).await;
    for _ in 0..30 {
        assert_eq!(queue.dead_letters().list(100).await.unwrap().len(), 2);
    }
    assert_eq!(queue.dead_letters().list(1).await.unwrap().len(), 1);
    let urgent = letters.iter().find(|letter| letter.ticket == Some(ticket(0))).unwrap();
    assert_eq!(urgent.queue, format!("{QUEUE}.urgent"));
    assert_eq!(urgent.reason, "spec hash 12, the job's is 34");
    assert!(is_silent(&mut *consumer).await);

    assert_eq!(queue.dead_letters().remove(&["nobody's".to_owned()].into()).await.unwrap(), 0);
    assert_eq!(queue.dead_letters().remove(&[urgent.id.clone()].into()).await.unwrap(), 1);
    assert!(is_silent(&mut *consumer).await);
    assert_eq!(dead(&queue, 1).await[0].ticket, Some(ticket(1)));
}

/// Who takes it is lost each time: the policy's limit ends that.
#[tokio::test]
async fn a_ticket_that_is_delivered_too_often_dies() {
    let broker = shared().await;
    let (queue, host) = fresh(&broker).await;
    let policy = json!({ "pattern": "^keyrotate\\.tickets", "apply-to": "queues", "priority": 20,
        "definition": { "delivery-limit": 3, "dead-letter-exchange": "keyrotate.dead",
            "dead-letter-strategy": "at-least-once", "overflow": "reject-publish" } });
    broker.set_policy(&host, "limit", &policy).await;
    publish(&queue, 0).await;
    let mut deliveries = 0;
    loop {
        let mut consumer = consume(&queue, 1).await;
        let Ok(next) = tokio::time::timeout(Duration::from_secs(2), consumer.next()).await else { break };
        drop(consumer);
        drop(next);
        deliveries += 1;
        assert!(deliveries < 20, "it goes round for ever");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(deliveries, 4);
    let letters = dead(&queue, 1).await;
    assert_eq!((letters[0].ticket.clone(), letters[0].queue.as_str()), (Some(ticket(0)), QUEUE));
    assert!(letters[0].reason.contains("too often"), "{}", letters[0].reason);
    assert_eq!(queue.dead_letters().remove(&[letters[0].id.clone()].into()).await.unwrap(), 1);
    dead(&queue, 0).await;
}
