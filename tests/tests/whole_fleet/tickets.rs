//! Tickets that come three times, never, late, or from somebody else.

use std::sync::Arc;
use std::time::Duration;

use keyrotate_env::Env;
use keyrotate_proto::id::JobId;
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};
use keyrotate_queue::DeadLetters as _;
use keyrotate_queue::rabbit::{RabbitConfig, RabbitQueue};
use keyrotate_queue::{DEFAULT_STORE, Queue as _, Route};
use keyrotate_tests::fleet::Fleet;
use keyrotate_tests::prelude::*;

const OBJECTS: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn tickets_that_are_not_as_they_should_be_change_nothing() {
    let fleet = Fleet::on(Arc::new(Target::embedded(Mode::aws()).await)).await;
    fleet.stand.put_old("k/", OBJECTS).await;
    let before = fleet.stand.snapshot().await;
    let coordinator = fleet.coordinator().await;
    // One slice at a time, so that tickets wait.
    let _worker = fleet.worker_with(&[("KEYROTATE_WORKER_SLOTS", "1")]).await;
    fleet.stand.read_on();
    let job = fleet.stand.job().option("rate: 60");
    let id = fleet.submit(&coordinator, &job).await;
    fleet.until_scanned(&coordinator, &id, 10).await;

    let config = RabbitConfig::parse(&fleet.rabbitmq.url("/")).expect("an address");
    let queue = RabbitQueue::new(config, Env::system());
    let taken = take(&queue).await;
    let last = taken.last().expect("more shards than slots").clone();
    // The first is lost; the last comes three times, behind those that were published after it.
    for _ in 0..3 {
        queue.publish(&last, &Route::to(DEFAULT_STORE)).await.expect("RabbitMQ takes it");
    }
    let foreign = [
        Ticket { version: TICKET_VERSION + 1, ..last.clone() },
        Ticket { spec_hash: "00".to_owned(), ..last.clone() },
        Ticket { shard: keyrotate_proto::id::ShardRef { job: JobId::new(7, [7; 10]), ..last.shard.clone() }, ..last },
    ];
    for ticket in &foreign {
        queue.publish(ticket, &Route::to(DEFAULT_STORE)).await.expect("RabbitMQ takes it");
    }
    fleet.publish_raw("keyrotate.tickets.default", "{ no ticket at all").await;

    let ended = fleet.end(&coordinator, &id).await.expect_completed();
    let report = oracle::check(&fleet.stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated") + report.count("current"), OBJECTS as u64, "{}", report.summary);
    let dead = queue.dead_letters().list(100).await.expect("RabbitMQ shows its dead letters");
    assert_eq!(dead.len(), foreign.len() + 1, "{dead:#?}");
}

/// Whatever tickets lie in the queue now, and acknowledges them: for everybody else they are lost.
async fn take(queue: &RabbitQueue) -> Vec<Ticket> {
    let mut consumer = queue.consume(8, &[DEFAULT_STORE.to_owned()]).await.expect("RabbitMQ answers");
    let mut taken = Vec::new();
    while taken.len() < 2 {
        let next = tokio::time::timeout(Duration::from_secs(90), consumer.next()).await;
        let delivery = next.expect("tickets come").expect("RabbitMQ gives them").expect("the queue is open");
        taken.push(delivery.ticket().clone());
        delivery.ack().await.expect("RabbitMQ hears it");
    }
    taken
}
