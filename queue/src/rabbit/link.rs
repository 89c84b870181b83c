//! One connection to the broker that is made again whenever it is lost.
//!
//! lapin's own recovery stays off: it hides outages, and after an error of a channel its consumers wait for ever. Here
//! whoever works with a connection throws everything away that came from it at the first error, and asks for the next.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use keyrotate_env::Env;
use keyrotate_telemetry::metrics;
use lapin::{Channel, Connection, ConnectionBuilder, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::config::RabbitConfig;
use super::runtime;
use crate::QueueError;

/// How often a connection is asked whether it stands, besides listening to what it says by itself.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// The first pause between tries.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// A connection that is lost sooner is no better than none: so is each one where a queue is down that is asked for.
const SHORTEST_STAY: Duration = Duration::from_secs(2);
/// Heartbeats say nothing while the broker takes nothing: a connection that was stopped this long is made anew, to see
/// whether anybody is still there.
const LONGEST_BLOCK: Duration = Duration::from_secs(60);
/// An outage is told at its beginning and then once in so many tries.
const TELL_EVERY: u32 = 20;

/// Role of the connection that publishes.
pub(super) const PUBLISH: &str = "publish";
/// Role of the connection that consumes.
pub(super) const CONSUME: &str = "consume";

/// What a connection is up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Nobody has needed it yet.
    #[default]
    Unused,
    /// Being made, for the first time or again.
    Down,
    /// Made.
    Up,
    /// Made, and the broker takes nothing on it: an alarm about memory or disk, in its words.
    Blocked(String),
}

/// A connection, as long as this value lives.
pub(super) struct Link {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
}

struct Shared {
    role: &'static str,
    config: Arc<RabbitConfig>,
    env: Env,
    current: watch::Sender<Option<Current>>,
    state: watch::Sender<LinkState>,
    /// Connections up to this number are not wanted any more.
    unwanted: watch::Sender<u64>,
}

/// One of the connections that a link had.
#[derive(Clone)]
pub(super) struct Current {
    number: u64,
    connection: Arc<Connection>,
}

impl Link {
    /// Begins to connect, in the background.
    pub(super) fn start(
        role: &'static str,
        config: Arc<RabbitConfig>,
        env: Env,
        state: watch::Sender<LinkState>,
    ) -> Result<Self, QueueError> {
        let (current, unwanted) = (watch::Sender::new(None), watch::Sender::new(0));
        let shared = Arc::new(Shared { role, config, env, current, state, unwanted });
        let supervisor = runtime::handle()?.spawn(supervise(Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, supervisor })
    }

    /// The connection, once there is one: the caller sets the deadline.
    pub(super) async fn current(&self) -> Current {
        let mut watched = self.shared.current.subscribe();
        match watched.wait_for(Option::is_some).await.map(|current| current.clone()) {
            Ok(Some(current)) => current,
            // The sender lives in `self`.
            _ => std::future::pending().await,
        }
    }

    /// Throws a connection away that does not answer; nothing happens where another took its place.
    pub(super) fn give_up(&self, current: &Current) {
        // At once, so that nobody is given it meanwhile.
        self.shared.current.send_if_modified(|offered| {
            let it = offered.as_ref().is_some_and(|offered| offered.number <= current.number);
            it && offered.take().is_some()
        });
        self.shared.unwanted.send_if_modified(|unwanted| {
            let before = *unwanted;
            *unwanted = before.max(current.number);
            *unwanted != before
        });
    }

    pub(super) fn state(&self) -> LinkState {
        self.shared.state.borrow().clone()
    }

    /// A random part of `pause`, so that a fleet does not come back all at once.
    pub(super) fn jitter(&self, pause: Duration) -> Duration {
        self.shared.jitter(pause)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.abort();
        self.shared.say(LinkState::Unused);
    }
}

impl Current {
    /// A channel of its own for the caller; dropped, it is closed, and what is unsettled on it is delivered again.
    pub(super) async fn channel(&self, limit: Duration) -> Result<Channel, QueueError> {
        answer(limit, self.connection.create_channel()).await
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }
}

/// Waits for the broker's answer, but not for ever.
pub(super) async fn answer<T>(limit: Duration, asked: impl Future<Output = lapin::Result<T>>) -> Result<T, QueueError> {
    match timeout(limit, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(QueueError::Unavailable(Box::new(error))),
        Err(_) => Err(silent(limit)),
    }
}

/// It did not answer in time.
pub(super) fn silent(limit: Duration) -> QueueError {
    QueueError::Unavailable(format!("RabbitMQ did not answer within {limit:?}").into())
}

async fn supervise(shared: Arc<Shared>) {
    let (mut number, mut failures, mut thrown_out) = (0, 0_u32, 0_u32);
    let mut lost = Instant::now();
    shared.say(LinkState::Down);
    loop {
        match shared.connect().await {
            Ok(connection) => {
                number += 1;
                failures = 0;
                tracing::info!(role = shared.role, outage = ?lost.elapsed(), "connected to RabbitMQ");
                let since = Instant::now();
                let reason = shared.keep(Current { number, connection: Arc::new(connection) }).await;
                lost = Instant::now();
                thrown_out = if lost - since < SHORTEST_STAY { thrown_out + 1 } else { 0 };
                tracing::warn!(role = shared.role, reason, "the connection to RabbitMQ is lost");
            }
            Err(error) => {
                if failures % TELL_EVERY == 0 {
                    let (place, error) = (shared.config.place(), &error as &dyn std::error::Error);
                    tracing::warn!(role = shared.role, place, error, "can't connect to RabbitMQ, trying on");
                }
                failures += 1;
            }
        }
        let pause = SHORTEST_PAUSE
            .saturating_mul(1 << failures.max(thrown_out).min(10))
            .min(shared.config.limits.longest_pause);
        sleep(shared.jitter(pause)).await;
    }
}

impl Shared {
    /// To whoever watches, and to the gauges.
    fn say(&self, state: LinkState) {
        let up = matches!(state, LinkState::Up | LinkState::Blocked(_));
        // The doctor's connection is nobody's concern.
        if matches!(self.role, PUBLISH | CONSUME) {
            let to = ["rabbitmq-", self.role].concat();
            match state {
                LinkState::Unused => metrics().connected.remove(&[&to]),
                _ => drop(metrics().connected.with(&[&to]).set(i64::from(up))),
            }
        }
        if self.role == PUBLISH {
            metrics().rabbitmq_blocked.set(i64::from(matches!(state, LinkState::Blocked(_))));
        }
        self.state.send_replace(state);
    }

    async fn connect(&self) -> Result<Connection, QueueError> {
        let name = format!("keyrotate {}", self.role);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let runtime = async_rs::Runtime::tokio_with_handle(runtime::handle()?);
        let builder = ConnectionBuilder::new_with_runtime(runtime)
            .with_uri(self.config.uri.clone())
            .with_properties(properties)
            .with_tls_config(self.config.tls().map_err(|error| QueueError::Unavailable(error.into()))?);
        answer(self.config.limits.connect, builder.connect()).await
    }

    /// Offers a connection until it is lost or unwanted; says why.
    async fn keep(&self, current: Current) -> String {
        let connection = Arc::clone(&current.connection);
        let mut events = pin!(connection.events_listener());
        let mut unwanted = self.unwanted.subscribe();
        let number = current.number;
        self.current.send_replace(Some(current));
        self.say(LinkState::Up);
        let (mut reason, mut blocked) = ("it was closed".to_owned(), None);
        while connection.status().connected() {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => {
                        tracing::warn!(role = self.role, why, "RabbitMQ takes no more on this connection");
                        self.say(LinkState::Blocked(why));
                        blocked = Some(Instant::now());
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!(role = self.role, "RabbitMQ takes more again");
                        self.say(LinkState::Up);
                        blocked = None;
                    }
                    Some(Event::Error(error)) => reason = error.to_string(),
                    Some(_) => {}
                    None => break,
                },
                _ = unwanted.wait_for(|unwanted| *unwanted >= number) => {
                    "it does not answer".clone_into(&mut reason);
                    break;
                }
                () = sleep(LOOK_EVERY) => {}
            }
            if blocked.is_some_and(|since: Instant| since.elapsed() > LONGEST_BLOCK) {
                "it was stopped for long".clone_into(&mut reason);
                break;
            }
        }
        self.current.send_replace(None);
        self.say(LinkState::Down);
        let _ = timeout(FAREWELL, connection.close(200, "bye".into())).await;
        reason
    }

    fn jitter(&self, pause: Duration) -> Duration {
        pause.mul_f64(0.5 + 0.5 * self.env.random_fraction())
    }
}
