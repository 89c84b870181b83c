//! What the doctor sees of a broker.

use keyrotate_env::Env;
use keyrotate_queue::conformance::{normal, stores, ticket};
use keyrotate_queue::rabbit::{Finding, Health, Management, examine};
use keyrotate_queue::{Queue, RabbitConfig};
use reqwest::Method;
use serde_json::{Value, json};

use super::broker::Broker;
use super::{QUEUE, config, consume, next, publish, queue_at, shared};

async fn seen(broker: &Broker, host: &str) -> Vec<Finding> {
    let config = config(&broker.private.url(host));
    let management = Management::parse(&broker.private.management_url(), &config).unwrap();
    examine(&config, Some(&management), &stores(), &Env::system()).await
}

fn worst(findings: &[Finding]) -> Health {
    findings.iter().map(|finding| finding.health).max().unwrap()
}

/// With the shipped policies all is well, once the queues are there.
#[tokio::test]
async fn what_is_shipped_is_well() {
    let broker = shared().await;
    let host = broker.fresh_name();
    let queue = queue_at(&broker.vhost(&host).await);
    let before = seen(&broker, &host).await;
    assert_eq!(worst(&before), Health::Warn, "{before:?}");
    assert!(before[0].health == Health::Ok && before[0].what.starts_with("RabbitMQ "), "{before:?}");
    assert!(before.iter().any(|finding| finding.what.contains("does not exist")), "{before:?}");

    publish(&queue, 0).await;
    queue.publish(&ticket(1), &normal().urgent()).await.unwrap();
    super::until("all is well", async || worst(&seen(&broker, &host).await) == Health::Ok).await;
}

/// Without its policies a broker loses tickets, or turns them for ever.
#[tokio::test]
async fn a_missing_policy_and_a_wrong_type_are_bad() {
    let broker = shared().await;
    let host = broker.fresh_name();
    let queue = queue_at(&broker.vhost(&host).await);
    publish(&queue, 0).await;
    broker.api(Method::DELETE, &["policies", &host, "keyrotate-tickets"], &Value::Null).await;
    let classic = json!({ "durable": true, "arguments": { "x-queue-type": "classic" } });
    broker.api(Method::PUT, &["queues", &host, "keyrotate.tickets.default.urgent"], &classic).await;
    super::until("it is bad", async || {
        let found = seen(&broker, &host).await;
        let bad = |part: &str| found.iter().any(|f| f.health == Health::Bad && f.what.contains(part));
        bad(&format!("`overflow` of queue `{QUEUE}` is not set")) && bad("no durable quorum queue")
    })
    .await;
}

/// What can't be seen is said.
#[tokio::test]
async fn what_can_not_be_seen_is_said() {
    let broker = shared().await;
    let host = broker.fresh_name();
    let config = config(&broker.vhost(&host).await);
    let blind = examine(&config, None, &stores(), &Env::system()).await;
    assert!(blind.iter().any(|f| f.health == Health::Warn && f.what.contains("policies can't be seen")), "{blind:?}");

    let wrong = broker.private.management_url().replace("private", "wrong");
    let wrong = Management::parse(&wrong, &config).unwrap();
    let found = examine(&config, Some(&wrong), &stores(), &Env::system()).await;
    assert!(found.iter().any(|f| f.what.contains("refuses this user")), "{found:?}");

    let away = RabbitConfig::parse("amqp://me:s3cret@127.0.0.1:1").unwrap();
    let found = examine(&away, None, &stores(), &Env::system()).await;
    assert_eq!((found.len(), found[0].health), (1, Health::Bad));
    assert!(found[0].what.contains("can't be reached") && !found[0].what.contains("s3cret"), "{found:?}");
}

/// The user of the shipped definitions may do all that is needed, and cannot touch what is not ours.
#[tokio::test]
async fn the_shipped_permissions_are_enough() {
    let broker = shared().await;
    let queue = queue_at(&broker.private.shipped_url("/"));
    publish(&queue, 0).await;
    let mut consumer = consume(&queue, 1).await;
    next(&mut *consumer).await.reject("a test").await.unwrap();
    publish(&queue, 1).await;
    next(&mut *consumer).await.ack().await.unwrap();
    assert_eq!(keyrotate_queue::DeadLetters::list(&queue.dead_letters(), 10).await.unwrap().len(), 1);
    let foreign = config(&broker.private.shipped_url("/")).with_prefix("others.").unwrap();
    let foreign = keyrotate_queue::RabbitQueue::new(foreign, Env::system());
    assert!(foreign.publish(&ticket(0), &normal()).await.is_err());
}
