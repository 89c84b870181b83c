//! Our exchanges and queues: durable, queues of type quorum, and nothing else by argument.
//!
//! Limits and the way of dead letters are policies (`deploy/rabbitmq/definitions.json`): arguments can't be changed
//! without deleting a queue, policies can.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::link::answer;
use super::names::Names;
use crate::QueueError;

/// Declares what tickets of this queue need. Where it is there already, nothing happens.
pub(super) async fn declare_tickets(
    channel: &Channel,
    names: &Names,
    queue: &str,
    limit: Duration,
) -> Result<(), QueueError> {
    let exchange = names.exchange();
    declare_exchange(channel, &exchange, ExchangeKind::Direct, limit).await?;
    declare_queue(channel, queue, limit).await?;
    bind(channel, &exchange, queue, queue, limit).await
}

/// Declares what dead letters need.
pub(super) async fn declare_dead(channel: &Channel, names: &Names, limit: Duration) -> Result<(), QueueError> {
    let dead = names.dead();
    declare_exchange(channel, &dead, ExchangeKind::Fanout, limit).await?;
    declare_queue(channel, &dead, limit).await?;
    bind(channel, &dead, &dead, "", limit).await
}

/// Fails where the queue is missing, and proves that the broker still answers on this channel where it is not.
pub(super) async fn look_for(channel: &Channel, queue: &str, limit: Duration) -> Result<(), QueueError> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..Default::default() };
    answer(limit, channel.queue_declare(queue.into(), options, FieldTable::default())).await.map(drop)
}

/// How many messages lie in a queue, as the broker counts them.
pub(super) async fn count(channel: &Channel, queue: &str, limit: Duration) -> Result<u32, QueueError> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..Default::default() };
    let asked = channel.queue_declare(queue.into(), options, FieldTable::default());
    answer(limit, asked).await.map(|queue| queue.message_count())
}

pub(super) async fn declare_queue(channel: &Channel, queue: &str, limit: Duration) -> Result<(), QueueError> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    answer(limit, channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)).await.map(drop)
}

async fn declare_exchange(
    channel: &Channel,
    exchange: &str,
    kind: ExchangeKind,
    limit: Duration,
) -> Result<(), QueueError> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    answer(limit, channel.exchange_declare(exchange.into(), kind, options, FieldTable::default())).await
}

async fn bind(channel: &Channel, exchange: &str, queue: &str, key: &str, limit: Duration) -> Result<(), QueueError> {
    let options = QueueBindOptions::default();
    answer(limit, channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default())).await
}
