//! The first objects of a strategy, or of a kind of source that no probe could show, go one at a time until enough of
//! them came out right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// So many must have come out right.
const ENOUGH: u32 = 20;

/// Lets one through at a time until [`ENOUGH`] were right.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    right: AtomicU32,
    turn: Arc<Mutex<()>>,
}

impl Gate {
    /// Waits for the turn; `None` when no turns are needed any more.
    pub(crate) async fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        if self.is_open() {
            return None;
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if self.is_open() { None } else { Some(turn) }
    }

    /// One more came out right.
    pub(crate) fn right(&self) {
        self.right.fetch_add(1, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.right.load(Ordering::Relaxed) >= ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_until_enough_were_right() {
        let gate = Gate::default();
        for _ in 0..ENOUGH {
            let turn = gate.turn().await;
            assert!(turn.is_some());
            assert!(gate.turn.try_lock().is_err());
            gate.right();
        }
        assert!(gate.turn().await.is_none());
    }
}
