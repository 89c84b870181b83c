//! The connection: one, shared, made anew when it broke. Which run of the server it goes to is asked before anything
//! else goes over it.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, PubSubStream};
use ::redis::sentinel::{SentinelClient, SentinelServerType};
use ::redis::{AsyncConnectionConfig, Client, RedisError};
use keyrotate_telemetry::metrics;
use tokio::sync::Mutex;

use super::config::RedisConfig;
use super::info::Info;
use crate::backend::{BackendError, Cause};

/// To connect and to log in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than a disk stalls (`appendfsync always` answers after the sync).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the server is found.
pub(super) enum Server {
    /// At one address.
    Fixed(Client),
    /// Wherever the sentinels say that the primary is.
    Sentinels(SentinelClient),
}

/// A connection, and what is on its other end.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) run: Arc<str>,
    number: u64,
}

/// The connection that all callers share.
pub(super) struct Links {
    config: RedisConfig,
    current: Mutex<(u64, Option<Link>)>,
}

impl Links {
    /// # Errors
    /// When the configuration leads nowhere.
    pub(super) fn new(config: RedisConfig) -> Result<Self, BackendError> {
        config.server()?;
        Ok(Self { config, current: Mutex::default() })
    }

    /// The connection; a new one where there is none.
    pub(super) async fn get(&self) -> Result<Link, BackendError> {
        let mut current = self.current.lock().await;
        if let Some(link) = &current.1 {
            return Ok(link.clone());
        }
        let connect = tokio::time::timeout(2 * CONNECT_TIMEOUT, self.connect());
        let connected = connect.await.unwrap_or_else(|late| Err(BackendError::Unavailable(late.into())));
        metrics().connected.with(&["redis"]).set(i64::from(connected.is_ok()));
        let (connection, run) = connected?;
        let link = Link { connection, run, number: current.0 + 1 };
        *current = (link.number, Some(link.clone()));
        Ok(link)
    }

    /// After an error: whether the connection still stands is not known, so it is not used again.
    pub(super) async fn forget(&self, link: &Link) {
        let mut current = self.current.lock().await;
        if current.1.as_ref().is_some_and(|there| there.number == link.number) {
            current.1 = None;
            metrics().connected.with(&["redis"]).set(0);
        }
    }

    /// Messages on a channel, over a connection of their own.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSubStream, BackendError> {
        let subscribe = async {
            let client = match self.config.server()? {
                Server::Fixed(client) => client,
                Server::Sentinels(mut sentinels) => sentinels.async_get_client().await.map_err(unavailable)?,
            };
            let mut connection = client.get_async_pubsub().await.map_err(unavailable)?;
            connection.subscribe(channel).await.map_err(unavailable)?;
            Ok(connection.into_on_message())
        };
        match tokio::time::timeout(2 * CONNECT_TIMEOUT, subscribe).await {
            Ok(subscribed) => subscribed,
            Err(late) => Err(BackendError::Unavailable(late.into())),
        }
    }

    async fn connect(&self) -> Result<(MultiplexedConnection, Arc<str>), BackendError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        // Certificates may have been renewed since the last one.
        let connected = match self.config.server()? {
            Server::Fixed(client) => client.get_multiplexed_async_connection_with_config(&config).await,
            Server::Sentinels(mut sentinels) => sentinels.get_async_connection_with_config(&config).await,
        };
        let mut connection = connected.map_err(unavailable)?;
        let info = Info::read(&mut connection).await.map_err(unavailable)?;
        let run = info.get("run_id").ok_or_else(|| other("the server does not say its run id"))?;
        if info.get("redis_mode") == Some("cluster") {
            return Err(other(
                "it is a Redis Cluster; keyrotate wants one server, with replicas and Sentinel if you like",
            ));
        }
        if info.get("role") == Some("slave") {
            return Err(other("it is a replica, not the primary"));
        }
        Ok((connection, run.into()))
    }
}

/// The type of server that sentinels are asked for.
pub(super) const PRIMARY: SentinelServerType = SentinelServerType::Master;

pub(super) fn unavailable(error: RedisError) -> BackendError {
    BackendError::Unavailable(error.into())
}

fn other(what: &str) -> BackendError {
    BackendError::Unavailable(Cause::from(what))
}
