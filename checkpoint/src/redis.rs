//! Records in Redis or Valkey, for a fleet.
//!
//! One server, with replicas and Sentinel where wanted; no Cluster, since one script compares and changes records of a
//! job, its bucket and its shards at once. A record is a string `PREFIX:r:NAME` of 8 bytes of revision and the value; a
//! sorted set `PREFIX:index` knows all names in the order of their bytes; `PREFIX:clock` is the time of the last swap; on
//! `PREFIX:bell` rings what others wait for.
//! Lua compares revisions and times, never names.

mod bell;
mod config;
mod info;
mod link;
mod persistence;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ::redis::{RedisError, Script, ScriptInvocation};
use async_trait::async_trait;
use jiff::Timestamp;
use keyrotate_env::Env;
use keyrotate_telemetry::{Instrument as _, metrics, spans};
use tokio::time::Instant;

use self::bell::Bells;
pub use self::config::RedisConfig;
use self::link::{Link, Links};
pub use self::persistence::{Persistence, Weakness};
use crate::backend::{Backend, BackendError, Bell, Listed, RecordKey, Revision, Snapshot, Stored, Swap, SwapAnswer};

/// Bytes of a revision before each value.
const REVISION: usize = 8;

/// Records in Redis.
pub struct RedisBackend {
    links: Arc<Links>,
    bells: Bells,
    env: Env,
    shown: String,
    clock: String,
    index: String,
    records: String,
    channel: String,
    read: Script,
    scan: Script,
    swap: Script,
    /// Microseconds: the newest time that was seen. A server's clock that is set back is not followed.
    seen: AtomicI64,
}

impl RedisBackend {
    /// On a server, which is not asked anything yet.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] when the URL is none.
    pub fn new(config: &RedisConfig, env: Env) -> Result<Self, BackendError> {
        let prefix = &config.prefix;
        let links = Arc::new(Links::new(config.clone())?);
        let channel = format!("{prefix}:bell");
        Ok(Self {
            bells: Bells::new(Arc::clone(&links), channel.clone(), env.clone()),
            links,
            env,
            shown: config.shown(),
            clock: format!("{prefix}:clock"),
            index: format!("{prefix}:index"),
            records: format!("{prefix}:r:"),
            channel,
            read: Script::new(include_str!("redis/read.lua")),
            scan: Script::new(include_str!("redis/scan.lua")),
            swap: Script::new(include_str!("redis/swap.lua")),
            seen: AtomicI64::new(0),
        })
    }

    /// How the server keeps what it acknowledged.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn persistence(&self) -> Result<Persistence, BackendError> {
        let mut link = self.links.get().await?;
        let read = Persistence::read(&mut link.connection).await;
        self.over(&link, read).await.map_err(link::unavailable)
    }

    fn name(&self, key: &RecordKey) -> String {
        format!("{}{key}", self.records)
    }

    /// Runs a script; after an error that leaves the connection in doubt the next call gets a new one.
    async fn run<T: ::redis::FromRedisValue>(
        &self,
        operation: &'static str,
        link: &Link,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        let (span, began) = (spans::redis_call(operation), Instant::now());
        let answer = invocation.invoke_async(&mut link.connection.clone()).instrument(span.clone()).await;
        let result = if answer.is_ok() { "ok" } else { "error" };
        metrics().redis_call.with(&[operation, result]).observe(began.elapsed().as_secs_f64());
        if answer.is_err() {
            spans::failed(&span, "redis");
        }
        self.over(link, answer).await
    }

    async fn over<T>(&self, link: &Link, answer: Result<T, RedisError>) -> Result<T, RedisError> {
        if let Err(error) = &answer
            && (error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error())
        {
            self.links.forget(link).await;
        }
        answer
    }

    fn time(&self, stamp: &str) -> Result<Timestamp, BackendError> {
        let micros: i64 = stamp.parse().map_err(|_| strange("the time is no number"))?;
        let newest = self.seen.fetch_max(micros, Ordering::Relaxed).max(micros);
        Timestamp::from_microsecond(newest).map_err(|_| strange("the time is out of range"))
    }
}

#[async_trait]
impl Backend for RedisBackend {
    async fn run_id(&self) -> Result<String, BackendError> {
        Ok(self.links.get().await?.run.to_string())
    }

    async fn read(&self, keys: &[RecordKey]) -> Result<Snapshot, BackendError> {
        let link = self.links.get().await?;
        let mut invocation = self.read.key(&self.clock);
        for key in keys {
            invocation.key(self.name(key));
        }
        let (stamp, values): (String, Vec<Option<Vec<u8>>>) =
            self.run("read", &link, &invocation).await.map_err(link::unavailable)?;
        let records = values.into_iter().map(|value| value.map(stored).transpose()).collect::<Result<_, _>>()?;
        Ok(Snapshot { now: self.time(&stamp)?, run: link.run.to_string(), records })
    }

    async fn swap(&self, swap: Swap) -> Result<SwapAnswer, BackendError> {
        let link = self.links.get().await?;
        if swap.run.as_deref().is_some_and(|run| run != &*link.run) {
            return Ok(SwapAnswer::Conflict);
        }
        let mut invocation = self.swap.key(&self.clock);
        invocation.key(&self.index);
        let latest = swap.not_after.map(|time| time.as_microsecond().to_string()).unwrap_or_default();
        let channel = if swap.ring { self.channel.as_str() } else { "" };
        invocation.arg(swap.expect.len()).arg(latest).arg(&self.records).arg(channel);
        for (key, revision) in &swap.expect {
            let expected = revision.map(|r| r.0.to_be_bytes().to_vec()).unwrap_or_default();
            invocation.key(self.name(key)).arg(expected);
        }
        // A server that was rolled back must not give a revision out twice.
        let revision = self.env.random_u64().to_be_bytes();
        for (key, value) in &swap.writes {
            let value = value.as_ref().map(|bytes| [&revision, bytes.as_slice()].concat()).unwrap_or_default();
            invocation.key(self.name(key)).arg(value);
        }
        let answer = self.run("swap", &link, &invocation).await;
        let (word, stamp): (String, String) = answer.map_err(swap_failed)?;
        let now = self.time(&stamp)?;
        match word.as_str() {
            "done" => Ok(SwapAnswer::Done { now }),
            "late" => Ok(SwapAnswer::TooLate { now }),
            _ => Ok(SwapAnswer::Conflict),
        }
    }

    async fn scan(&self, prefix: &str, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Listed>, BackendError> {
        let link = self.links.get().await?;
        let from = match after.filter(|after| after.as_str() >= prefix) {
            Some(after) => format!("({after}"),
            None => format!("[{prefix}"),
        };
        // No name has this byte, which is in no UTF-8.
        let to = [b"(", prefix.as_bytes(), b"\xff"].concat();
        let mut invocation = self.scan.key(&self.index);
        invocation.arg(from).arg(to).arg(limit).arg(&self.records);
        let found: Vec<(String, Vec<u8>)> = self.run("scan", &link, &invocation).await.map_err(link::unavailable)?;
        let listed = |(name, value)| {
            let Stored { revision, bytes } = stored(value)?;
            Ok(Listed { key: RecordKey(name), revision, bytes })
        };
        found.into_iter().map(listed).collect()
    }

    fn bell(&self) -> Bell {
        self.bells.bell()
    }
}

/// A server that answers with an error did not begin to write: memory and disk are looked at before the first write,
/// and all comparing comes before it. Anything else may still happen.
fn swap_failed(error: RedisError) -> BackendError {
    if error.code().is_some() { BackendError::Unavailable(error.into()) } else { BackendError::Unknown(error.into()) }
}

fn stored(value: Vec<u8>) -> Result<Stored, BackendError> {
    match value.split_first_chunk::<REVISION>() {
        Some((revision, bytes)) => {
            Ok(Stored { revision: Revision(u64::from_be_bytes(*revision)), bytes: bytes.to_vec() })
        }
        None => Err(strange("a value is shorter than its revision")),
    }
}

fn strange(what: &'static str) -> BackendError {
    BackendError::Damaged(what.into())
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("at", &self.shown).finish_non_exhaustive()
    }
}
