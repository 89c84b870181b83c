//! What becomes of one delivery.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyrotate_telemetry::metrics;
use lapin::Acker;
use lapin::BasicProperties;
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::config::RabbitConfig;
use super::letter::Letter;
use super::publisher::To;
use super::{Lines, runtime};
use crate::{QueueError, Settle, Verdict};

/// What can't be buried now is tried again after this, by whoever it is delivered to.
const NO_GRAVE: Duration = Duration::from_secs(5);

/// The way to the dead letters: a connection that is made when the first one comes.
#[derive(Clone)]
pub(super) struct Graves {
    pub(super) lines: Arc<Lines>,
    pub(super) config: Arc<RabbitConfig>,
}

/// A delivery in somebody's hand. Dropped, it goes back to its queue.
pub(super) struct Held {
    /// `None` once its end was said.
    body: Option<Body>,
    graves: Graves,
}

struct Body {
    acker: Acker,
    data: Vec<u8>,
    properties: BasicProperties,
    queue: String,
    /// The slot, free again when the delivery is settled.
    _permit: OwnedSemaphorePermit,
}

impl Held {
    pub(super) fn new(message: Message, queue: String, permit: OwnedSemaphorePermit, graves: Graves) -> Self {
        let Message { acker, data, properties, .. } = message;
        Self { body: Some(Body { acker, data, properties, queue, _permit: permit }), graves }
    }

    /// A copy with the reason to the dead letters, confirmed, then the original is acknowledged: a rejection alone can't
    /// say why.
    pub(super) async fn bury(mut self, reason: String) -> Result<(), QueueError> {
        let Some(body) = self.body.take() else { return Err(QueueError::Gone) };
        match self.graves.take_in(&body, &reason).await {
            Ok(()) => {
                metrics().tickets_rejected.inc();
                said(body.acker.ack(BasicAckOptions::default()), self.graves.config.limits.answer).await
            }
            Err(error) => {
                tracing::warn!(reason, error = &error as &dyn std::error::Error, "a dead letter could not be written");
                later(body);
                Err(error)
            }
        }
    }
}

impl Graves {
    async fn take_in(&self, body: &Body, reason: &str) -> Result<(), QueueError> {
        let publisher = self.lines.publisher()?;
        let letter = Letter::dead(&body.data, &body.properties, &body.queue, reason, publisher.env());
        publisher.send(To::Dead(&body.queue), &letter).await
    }
}

#[async_trait]
impl Settle for Held {
    async fn settle(mut self: Box<Self>, verdict: Verdict) -> Result<(), QueueError> {
        if let Verdict::Reject(reason) = verdict {
            return self.bury(reason).await;
        }
        let Some(body) = self.body.take() else { return Err(QueueError::Gone) };
        let limit = self.graves.config.limits.answer;
        match verdict {
            Verdict::Ack => said(body.acker.ack(BasicAckOptions::default()), limit).await,
            _ => said(body.acker.nack(back()), limit).await,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && let Ok(handle) = runtime::handle()
        {
            handle.spawn(async move {
                let _ = body.acker.nack(back()).await;
            });
        }
    }
}

/// `false` from lapin is no acknowledgement: the channel is gone, and the broker delivers again.
async fn said(said: impl Future<Output = lapin::Result<bool>>, limit: Duration) -> Result<(), QueueError> {
    match timeout(limit, said).await {
        Ok(Ok(true)) => Ok(()),
        _ => Err(QueueError::Gone),
    }
}

/// Back to its queue after a pause, so that it does not go round and round.
fn later(body: Body) {
    if let Ok(handle) = runtime::handle() {
        handle.spawn(async move {
            sleep(NO_GRAVE).await;
            let _ = body.acker.nack(back()).await;
        });
    }
}

fn back() -> BasicNackOptions {
    BasicNackOptions { multiple: false, requeue: true }
}
