//! Publishing: persistent, mandatory, one message at a time, each with its confirm.
//!
//! One at a time because lapin may attach the return of an unroutable message to another one's confirm when several are
//! out; the dispatcher sends few, and a confirm takes a millisecond.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keyrotate_env::Env;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

use super::config::RabbitConfig;
use super::letter::Letter;
use super::link::{Current, Link, LinkState, PUBLISH, answer, silent};
use super::topology;
use crate::QueueError;

/// A queue without a leader, as in its first moments and after a restart, refuses in the same words as a full one. So
/// the word is believed when it is said this often.
const REFUSED_TRIES: u32 = 3;
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// The connection that publishes. It only publishes: an alarm of the broker stops it as a whole, and acknowledgements
/// must go on.
pub(super) struct Publisher {
    link: Link,
    config: Arc<RabbitConfig>,
    env: Env,
    /// `None` where none was opened, or where the last message on it had no clean end.
    open: Mutex<Option<Open>>,
}

struct Open {
    current: Current,
    channel: Channel,
    /// Queues that were declared on it.
    declared: BTreeSet<String>,
}

/// Where a message goes.
#[derive(Clone, Copy)]
pub(super) enum To<'a> {
    /// A queue of tickets.
    Tickets(&'a str),
    /// The dead letters; the key says which queue it lay in.
    Dead(&'a str),
}

impl Publisher {
    pub(super) fn start(
        config: Arc<RabbitConfig>,
        env: Env,
        state: watch::Sender<LinkState>,
    ) -> Result<Self, QueueError> {
        let link = Link::start(PUBLISH, Arc::clone(&config), env.clone(), state)?;
        Ok(Self { link, config, env, open: Mutex::new(None) })
    }

    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// Returns once the broker has it on its disk.
    pub(super) async fn send(&self, to: To<'_>, letter: &Letter) -> Result<(), QueueError> {
        for _ in 1..REFUSED_TRIES {
            match self.send_once(to, letter).await {
                Err(QueueError::Full) => sleep(REFUSED_PAUSE).await,
                other => return other,
            }
        }
        self.send_once(to, letter).await
    }

    async fn send_once(&self, to: To<'_>, letter: &Letter) -> Result<(), QueueError> {
        let limit = self.config.limits.answer;
        self.is_open()?;
        let Ok(mut open) = timeout(limit, self.open.lock()).await else { return Err(silent(limit)) };
        // Taken out, and put back after a clean end only: should this future be dropped on its way, the confirm that is
        // still to come must not be taken for the next message's.
        let taken = open.take().filter(|open| open.current.is_up());
        let mut used = None;
        match timeout(limit, self.send_on(taken, &mut used, to, letter)).await {
            Ok(Ok((again, result))) => {
                *open = Some(again);
                result
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.is_open()?;
                if let Some(current) = used {
                    self.link.give_up(&current);
                }
                Err(silent(limit))
            }
        }
    }

    /// While the broker takes nothing, nothing is sent: it would all go out at once afterwards.
    fn is_open(&self) -> Result<(), QueueError> {
        match self.link.state() {
            LinkState::Blocked(why) => {
                Err(QueueError::Unavailable(format!("RabbitMQ takes nothing now: {why}").into()))
            }
            _ => Ok(()),
        }
    }

    async fn send_on(
        &self,
        open: Option<Open>,
        used: &mut Option<Current>,
        to: To<'_>,
        letter: &Letter,
    ) -> Result<(Open, Result<(), QueueError>), QueueError> {
        let mut open = match open {
            Some(open) => open,
            None => self.open().await?,
        };
        *used = Some(open.current.clone());
        let (names, limit) = (&self.config.names, self.config.limits.answer);
        let (exchange, key, queue) = match to {
            To::Tickets(queue) => (names.exchange(), queue, queue.to_owned()),
            To::Dead(queue) => (names.dead(), queue, names.dead()),
        };
        if !open.declared.contains(&queue) {
            match to {
                To::Tickets(queue) => topology::declare_tickets(&open.channel, names, queue, limit).await?,
                To::Dead(_) => topology::declare_dead(&open.channel, names, limit).await?,
            }
            open.declared.insert(queue.clone());
        }
        let result = publish(&open.channel, &exchange, key, letter, limit).await?;
        if matches!(result, Err(QueueError::Unroutable)) {
            tracing::warn!(queue, "the broker lacks our queue: it is declared again before the next message");
            open.declared.clear();
        }
        Ok((open, result))
    }

    async fn open(&self) -> Result<Open, QueueError> {
        let (current, limit) = (self.link.current().await, self.config.limits.answer);
        let channel = current.channel(limit).await?;
        answer(limit, channel.confirm_select(ConfirmSelectOptions::default())).await?;
        topology::declare_dead(&channel, &self.config.names, limit).await?;
        Ok(Open { current, channel, declared: BTreeSet::from([self.config.names.dead()]) })
    }
}

/// The outer error: nothing is known, and the channel is of no more use. The inner: the broker's clear answer.
async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    letter: &Letter,
    limit: Duration,
) -> Result<Result<(), QueueError>, QueueError> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let properties = letter.properties.clone();
    let sent = channel.basic_publish(exchange.into(), key.into(), options, &letter.body, properties);
    let confirm = answer(limit, sent).await?;
    match answer(limit, confirm).await? {
        Confirmation::Ack(None) => Ok(Ok(())),
        Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Ok(Err(QueueError::Unroutable)),
        Confirmation::Nack(None) => Ok(Err(QueueError::Full)),
        Confirmation::NotRequested => Err(QueueError::Unavailable("confirms are off on this channel".into())),
    }
}
