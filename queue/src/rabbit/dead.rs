//! Dead letters: looked at without losing one, and taken away.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use lapin::Channel;
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};

use super::link::answer;
use super::{Lines, letter, topology};
use crate::{DeadLetter, DeadLetters, QueueError};

/// No more are held at a time: they lie in memory meanwhile.
const MOST: usize = 10_000;
/// The name of those that have none of their own.
const NAMELESS: &str = "nameless";

/// What nobody could work on.
pub struct RabbitDeadLetters {
    lines: Arc<Lines>,
}

impl RabbitDeadLetters {
    pub(super) fn new(lines: Arc<Lines>) -> Self {
        Self { lines }
    }

    /// A channel of its own: whatever happens, what was taken on it and not acknowledged goes back.
    async fn open(&self) -> Result<Channel, QueueError> {
        let limit = self.lines.config.limits.answer;
        let link = self.lines.consume()?;
        let current = tokio::time::timeout(limit, link.current()).await.map_err(|_| super::link::silent(limit))?;
        let channel = current.channel(limit).await?;
        topology::declare_dead(&channel, &self.lines.config.names, limit).await?;
        Ok(channel)
    }

    async fn take(&self, channel: &Channel) -> Result<Option<Message>, QueueError> {
        let got = channel.basic_get(self.lines.config.names.dead().into(), BasicGetOptions { no_ack: false });
        Ok(answer(self.lines.config.limits.answer, got).await?.map(|got| got.delivery))
    }

    /// Everything that was taken on this channel and is neither acknowledged nor back.
    async fn put_back(&self, channel: &Channel, kept: usize) -> Result<(), QueueError> {
        if kept == 0 {
            return Ok(());
        }
        // Tag 0 means all of them.
        let all = BasicNackOptions { multiple: true, requeue: true };
        answer(self.lines.config.limits.answer, channel.basic_nack(0, all)).await?;
        // Its answer comes behind the return, so the next look finds them all.
        let dead = self.lines.config.names.dead();
        topology::look_for(channel, &dead, self.lines.config.limits.answer).await
    }
}

#[async_trait]
impl DeadLetters for RabbitDeadLetters {
    /// Never more than 10,000. The broker counts the look as a delivery, which is why the shipped policy allows these a
    /// million.
    async fn list(&self, most: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let channel = self.open().await?;
        let mut letters = Vec::new();
        while letters.len() < most.min(MOST)
            && let Some(message) = self.take(&channel).await?
        {
            letters.push(describe(&message));
        }
        self.put_back(&channel, letters.len()).await?;
        Ok(letters)
    }

    async fn remove(&self, ids: &BTreeSet<String>) -> Result<usize, QueueError> {
        let channel = self.open().await?;
        let (mut removed, mut kept) = (0, 0);
        while kept < MOST
            && let Some(message) = self.take(&channel).await?
        {
            if ids.contains(&describe(&message).id) {
                answer(self.lines.config.limits.answer, message.acker.ack(BasicAckOptions::default())).await?;
                removed += 1;
            } else {
                kept += 1;
            }
        }
        self.put_back(&channel, kept).await?;
        Ok(removed)
    }
}

impl std::fmt::Debug for RabbitDeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RabbitDeadLetters").field(&self.lines.config).finish()
    }
}

fn describe(message: &Message) -> DeadLetter {
    let properties = &message.properties;
    let id = properties.message_id().as_ref().map(ToString::to_string).filter(|id| !id.is_empty());
    DeadLetter {
        id: id.unwrap_or_else(|| NAMELESS.to_owned()),
        reason: letter::reason(properties),
        queue: letter::queue(properties).unwrap_or_default(),
        ticket: letter::read(&message.data, properties).ok(),
        bytes: message.data.len(),
    }
}
