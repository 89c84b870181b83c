//! What a person or an orchestrator says to a process.

use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;
use crate::failure::Failure;

/// Ctrl-C and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens to both.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|e| Failure::io("can't listen for signals", Path::new("/proc/self"), &e));
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// The next of them.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// From now on the next signal ends the process at once.
    pub(crate) fn end_at_next(mut self) {
        tokio::spawn(async move {
            self.recv().await;
            std::process::exit(i32::from(Exit::Interrupted as u8));
        });
    }
}
