//! A private Redis.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::{PeerError, find, free_ports, listens};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Redis on a free port of this machine with `appendonly yes`, `appendfsync always`, `noeviction`. Killed with its
/// handle, its folder removed.
#[derive(Debug)]
pub struct PrivateRedis {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    child: Option<Child>,
}

impl PrivateRedis {
    /// Starts one.
    ///
    /// # Errors
    /// When `redis-server` is missing or does not start.
    pub async fn start() -> Result<Self, PeerError> {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]).await
    }

    /// Starts one with options of one's own; Debian's or the server's defaults hold for the rest.
    ///
    /// # Errors
    /// When `redis-server` is missing or does not start.
    pub async fn start_with(options: &[&str]) -> Result<Self, PeerError> {
        let mut redis = Self::stopped()?;
        redis.options = [&["--save", ""], options].concat().into_iter().map(str::to_owned).collect();
        redis.restart().await?;
        Ok(redis)
    }

    /// Starts a sentinel that watches a primary under the name of a service, and is enough by itself to put a replica in
    /// its place.
    ///
    /// # Errors
    /// When `redis-server` is missing or does not start.
    pub async fn sentinel_of(primary: &Self, service: &str) -> Result<Self, PeerError> {
        let mut redis = Self::stopped()?;
        // It keeps what it learns there.
        let file = redis.folder.path().join("sentinel.conf");
        let text = format!(
            "sentinel monitor {service} 127.0.0.1 {} 1\nsentinel down-after-milliseconds {service} 500\n\
             sentinel failover-timeout {service} 3000\n",
            primary.port
        );
        std::fs::write(&file, text).map_err(PeerError::io("write into Redis' folder"))?;
        redis.options = vec![file.display().to_string(), "--sentinel".to_owned()];
        redis.restart().await?;
        Ok(redis)
    }

    fn stopped() -> Result<Self, PeerError> {
        let folder = tempfile::Builder::new().prefix("keyrotate-redis-").tempdir();
        let folder = folder.map_err(PeerError::io("make a folder for Redis"))?;
        let [port] = free_ports()?;
        Ok(Self { folder, port, options: Vec::new(), child: None })
    }

    /// Starts it again, on the same port and folder, where it is not running.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<(), PeerError> {
        let server = find("redis-server", &[]);
        let server = server.ok_or(PeerError::Missing { program: "redis-server", package: "redis-server" })?;
        let log = self.log();
        let mut child = Command::new(server)
            .args(&self.options)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--daemonize", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .arg("--logfile")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(PeerError::io("start redis-server"))?;
        if !listens(&mut child, self.port, PATIENCE).await {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(PeerError::Silent { program: "redis-server", log });
        }
        self.child = Some(child);
        Ok(())
    }

    /// Kills it, as `kill -9` does.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&mut self) -> Result<(), PeerError> {
        match self.child.take() {
            Some(mut child) => child.kill().await.map_err(PeerError::io("kill redis-server")),
            None => Ok(()),
        }
    }

    /// Its port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, where it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// `redis://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("redis.log")
    }
}
