//! The RabbitMQ back-end against a real broker: one for all tests here, each with a virtual host of its own.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

mod broker;
mod dead;
mod doctor;
mod faults;
mod hand;
mod proxy;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use keyrotate_env::Env;
use keyrotate_peers::PrivateRabbitMq;
use keyrotate_queue::conformance::{self, normal, stores};
use keyrotate_queue::rabbit::Limits;
use keyrotate_queue::{Consumer, Delivery, Queue, RabbitConfig, RabbitQueue};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::{Instant, sleep, timeout};

use broker::Broker;

/// What must come does so within this.
const PATIENCE: Duration = Duration::from_secs(20);
/// What must not come is waited for so long.
const SILENCE: Duration = Duration::from_millis(400);
/// The queue of a normal ticket.
const QUEUE: &str = "keyrotate.tickets.default";

async fn broker() -> &'static RwLock<Broker> {
    static BROKER: OnceCell<RwLock<Broker>> = OnceCell::const_new();
    BROKER.get_or_init(|| async { RwLock::new(Broker::start().await) }).await
}

/// The broker, beside other tests.
async fn shared() -> RwLockReadGuard<'static, Broker> {
    broker().await.read().await
}

/// The broker for this test alone: it does something that all others would feel.
async fn alone() -> RwLockWriteGuard<'static, Broker> {
    broker().await.write().await
}

fn config(url: &str) -> RabbitConfig {
    let limits = Limits { longest_pause: Duration::from_secs(1), ..Limits::default() };
    RabbitConfig::parse(url).unwrap().with_limits(limits)
}

fn queue_at(url: &str) -> RabbitQueue {
    RabbitQueue::new(config(url), Env::system())
}

/// A queue on a fresh virtual host, and the host's name.
async fn fresh(broker: &Broker) -> (RabbitQueue, String) {
    let name = broker.fresh_name();
    let url = broker.vhost(&name).await;
    (queue_at(&url), name)
}

async fn consume(queue: &RabbitQueue, slots: usize) -> Box<dyn Consumer> {
    queue.consume(slots, &stores()).await.unwrap()
}

async fn publish(queue: &RabbitQueue, n: u32) {
    queue.publish(&conformance::ticket(n), &normal()).await.unwrap();
}

async fn next(consumer: &mut dyn Consumer) -> Delivery {
    let next = timeout(PATIENCE, consumer.next()).await.expect("a ticket should have come");
    next.unwrap().unwrap()
}

async fn is_silent(consumer: &mut dyn Consumer) -> bool {
    timeout(SILENCE, consumer.next()).await.is_err()
}

fn number(delivery: &Delivery) -> u32 {
    delivery.ticket().shard.shard.0
}

/// Waits until `holds` says so.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "never so: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn it_conforms() {
    let broker = shared().await;
    conformance::all(async || Arc::new(fresh(&broker).await.0) as Arc<dyn Queue>).await;
}

/// What the tests start is gone with them.
#[tokio::test]
async fn a_dropped_broker_leaves_nothing() {
    let broker = PrivateRabbitMq::start().await.unwrap();
    let folder = broker.folder().to_owned();
    let mark = folder.display().to_string();
    assert!(processes_with(&mark) >= 3, "broker, its name server and its guardian");
    drop(broker);
    until("its processes are gone", async || processes_with(&mark) == 0).await;
    assert!(!folder.exists());
}

fn processes_with(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let told = |file: &str, entry: &std::fs::DirEntry| std::fs::read(entry.path().join(file)).unwrap_or_default();
    let texts = entries.map(|entry| [told("environ", &entry), told("cmdline", &entry)].concat());
    texts.filter(|text| String::from_utf8_lossy(text).contains(mark)).count()
}
