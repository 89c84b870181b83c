//! Tickets over RabbitMQ: quorum queues, one for each store and urgency.
//!
//! A process has up to two connections, made when they are first needed and made again whenever they are lost: one that
//! publishes and one that consumes. An alarm of the broker about memory or disk stops a connection that publishes as a
//! whole; acknowledgements must go on meanwhile.

mod config;
mod consumer;
mod dead;
mod doctor;
mod letter;
mod link;
mod management;
mod names;
mod publisher;
mod runtime;
mod settle;
mod topology;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use keyrotate_env::Env;
use keyrotate_proto::ticket::Ticket;
use tokio::sync::watch;

pub use config::{Limits, RabbitConfig, RabbitConfigError};
pub use dead::RabbitDeadLetters;
pub use doctor::{Finding, Health, examine};
pub use link::LinkState;
pub use management::{Management, ManagementError};

use crate::{Consumer, Queue, QueueError, Route};
use consumer::RabbitConsumer;
use letter::Letter;
use link::Link;
use names::check_store;
use publisher::{Publisher, To};
use settle::Graves;

/// The queue on a RabbitMQ broker. Clones share its connections.
#[derive(Clone)]
pub struct RabbitQueue {
    config: Arc<RabbitConfig>,
    lines: Arc<Lines>,
}

/// The two connections.
struct Lines {
    config: Arc<RabbitConfig>,
    env: Env,
    publisher: Mutex<Option<Arc<Publisher>>>,
    consume: Mutex<Option<Arc<Link>>>,
    publishing: watch::Sender<LinkState>,
    consuming: watch::Sender<LinkState>,
}

impl RabbitQueue {
    /// Connects to nothing yet. From the first ticket on it stays connected by itself; see [`Self::publishing`].
    #[must_use]
    pub fn new(config: RabbitConfig, env: Env) -> Self {
        let config = Arc::new(config);
        let lines = Lines {
            config: Arc::clone(&config),
            env,
            publisher: Mutex::default(),
            consume: Mutex::default(),
            publishing: watch::Sender::default(),
            consuming: watch::Sender::default(),
        };
        Self { config, lines: Arc::new(lines) }
    }

    /// The state of the connection that publishes, now and at each change: for gauges and readiness.
    #[must_use]
    pub fn publishing(&self) -> watch::Receiver<LinkState> {
        self.lines.publishing.subscribe()
    }

    /// The state of the connection that consumes, now and at each change: for gauges and readiness.
    #[must_use]
    pub fn consuming(&self) -> watch::Receiver<LinkState> {
        self.lines.consuming.subscribe()
    }

    /// How many dead letters there are, as the broker counts them: that may lag behind.
    ///
    /// # Errors
    /// When the broker can't be reached, or has no such queue yet.
    pub async fn count_dead_letters(&self) -> Result<u32, QueueError> {
        let (link, limit) = (self.lines.consume()?, self.config.limits.answer);
        let current = tokio::time::timeout(limit, link.current()).await.map_err(|_| link::silent(limit))?;
        topology::count(&current.channel(limit).await?, &self.config.names.dead(), limit).await
    }

    /// What nobody could work on.
    #[must_use]
    pub fn dead_letters(&self) -> RabbitDeadLetters {
        RabbitDeadLetters::new(Arc::clone(&self.lines))
    }
}

#[async_trait]
impl Queue for RabbitQueue {
    async fn publish(&self, ticket: &Ticket, route: &Route) -> Result<(), QueueError> {
        check_store(&route.store)?;
        let letter = Letter::ticket(ticket, &self.lines.env).map_err(|e| QueueError::Unavailable(Box::new(e)))?;
        let queue = self.config.names.tickets(route);
        self.lines.publisher()?.send(To::Tickets(&queue), &letter).await
    }

    async fn consume(&self, slots: usize, stores: &[String]) -> Result<Box<dyn Consumer>, QueueError> {
        stores.iter().try_for_each(|store| check_store(store))?;
        let graves = Graves { lines: Arc::clone(&self.lines), config: Arc::clone(&self.config) };
        let (link, config) = (self.lines.consume()?, Arc::clone(&self.config));
        Ok(Box::new(RabbitConsumer::start(link, config, graves, slots, stores.to_vec())?))
    }
}

impl Lines {
    fn publisher(&self) -> Result<Arc<Publisher>, QueueError> {
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(publisher) = &*publisher {
            return Ok(Arc::clone(publisher));
        }
        let made = Publisher::start(Arc::clone(&self.config), self.env.clone(), self.publishing.clone())?;
        Ok(Arc::clone(publisher.insert(Arc::new(made))))
    }

    fn consume(&self) -> Result<Arc<Link>, QueueError> {
        let mut consume = self.consume.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = &*consume {
            return Ok(Arc::clone(link));
        }
        let made = Link::start(link::CONSUME, Arc::clone(&self.config), self.env.clone(), self.consuming.clone())?;
        Ok(Arc::clone(consume.insert(Arc::new(made))))
    }
}

impl fmt::Debug for RabbitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RabbitQueue").field(&self.config).finish()
    }
}
