//! Dead letters: looked at without losing one, and sent back to where they came from.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyrotate_proto::ticket::Ticket;
use lapin::Channel;
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};

use super::letter::{self, Letter};
use super::link::answer;
use super::publisher::To;
use super::{Lines, topology};
use crate::QueueError;

/// No more are held at a time: they lie in memory meanwhile.
const MOST: usize = 10_000;

/// What nobody could work on.
pub struct DeadLetters {
    lines: Arc<Lines>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its message id, or an empty text where a foreign message has none.
    pub id: String,
    /// Why nobody could work on it.
    pub reason: String,
    /// The queue that it lay in.
    pub queue: String,
    /// The ticket, where it is one.
    pub ticket: Option<Ticket>,
    /// Bytes of its body.
    pub bytes: usize,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that lie there now.
    All,
    /// Those with this message id.
    Id(String),
}

impl DeadLetters {
    pub(super) fn new(lines: Arc<Lines>) -> Self {
        Self { lines }
    }

    /// The first ones, at most `most` and never more than 10,000. All stay where they are; the broker counts the look as
    /// a delivery, which is why the shipped policy allows these a million.
    ///
    /// # Errors
    /// When the broker can't be reached.
    pub async fn list(&self, most: usize) -> Result<Vec<DeadLetter>, QueueError> {
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

    /// Sends them back to the queue that they came from, each confirmed there before it is taken away here; says how
    /// many. What nobody can say the queue of stays.
    ///
    /// # Errors
    /// When the broker can't be reached, or takes no more; those that were not sent back stay.
    pub async fn requeue(&self, which: &Which) -> Result<usize, QueueError> {
        let (channel, publisher) = (self.open().await?, self.lines.publisher()?);
        let mut sent = BTreeSet::new();
        let mut kept = 0;
        while kept < MOST
            && let Some(message) = self.take(&channel).await?
        {
            let id = describe(&message).id;
            // What died again meanwhile lies here again, and once is enough. The broker's count of what lies here would
            // not do: it lags behind.
            let wanted = !sent.contains(&id) && (*which == Which::All || *which == Which::Id(id));
            let queue = letter::queue(&message.properties);
            let Some(queue) = queue.filter(|queue| wanted && self.lines.config.names.is_tickets(queue)) else {
                kept += 1;
                continue;
            };
            let revived = Letter::revived(&message.data, &message.properties, publisher.env());
            publisher.send(To::Tickets(&queue), &revived).await?;
            answer(self.lines.config.limits.answer, message.acker.ack(BasicAckOptions::default())).await?;
            sent.insert(revived.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default());
        }
        self.put_back(&channel, kept).await?;
        Ok(sent.len())
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

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DeadLetters").field(&self.lines.config).finish()
    }
}

fn describe(message: &Message) -> DeadLetter {
    let properties = &message.properties;
    DeadLetter {
        id: properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default(),
        reason: letter::reason(properties),
        queue: letter::queue(properties).unwrap_or_default(),
        ticket: letter::read(&message.data, properties).ok(),
        bytes: message.data.len(),
    }
}
