//! A server's process, and what keeps it from being there.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::Instant;

/// A private server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Its program is not on this machine.
    #[error("`{program}` is not installed; on Debian: apt-get install {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Debian's package of it.
        package: &'static str,
    },
    /// Files or processes.
    #[error("can't {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It ended, or did not answer in time.
    #[error("{program} did not start: {log}")]
    Silent {
        /// The program.
        program: &'static str,
        /// The end of its log.
        log: String,
    },
}

impl PeerError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// TCP ports of this machine that nobody listens on right now, below those that the system gives to outgoing connections:
/// a server that was killed wants its own again.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], PeerError> {
    let failed = || PeerError::io("find a free port");
    let mut held = Vec::new();
    while held.len() < N {
        let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|any| any.local_addr()).map_err(failed())?;
        let port = 20_000 + any.port() % 12_000;
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(held) {
        *port = listener.local_addr().map_err(failed())?.port();
    }
    Ok(ports)
}

/// The first of these folders, then of `PATH`, that has the program.
pub(crate) fn find(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    all.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Waits until a port is listened on; `false` when the process ended or the time is over.
pub(crate) async fn listens(child: &mut Child, port: u16, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
