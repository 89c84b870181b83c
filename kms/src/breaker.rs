//! A circuit breaker: after some failures in a row nothing is sent for a while, then one probe.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts failures in a row. Times are [`keyrotate_env::Env::boottime`].
#[derive(Debug)]
pub(crate) struct Breaker {
    threshold: u32,
    open_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Since when it is open.
    opened: Option<Duration>,
    probing: bool,
}

/// The right to send one call; says how it went, or, dropped without a word, gives a probe's place back.
pub(crate) struct Permit<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    pub(crate) fn new(threshold: u32, open_for: Duration) -> Self {
        Self { threshold, open_for, state: Mutex::default() }
    }

    /// `None` while it is open.
    pub(crate) fn admit(&self, now: Duration) -> Option<Permit<'_>> {
        let mut state = self.lock();
        let probe = match state.opened {
            None => false,
            Some(since) if now.saturating_sub(since) >= self.open_for && !state.probing => true,
            Some(_) => return None,
        };
        state.probing |= probe;
        Some(Permit { breaker: self, probe })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The service answered, be it with a refusal.
    pub(crate) fn answered(self) {
        let mut state = self.breaker.lock();
        // A late success of a call from before it opened says nothing about now.
        if state.opened.is_none() || self.probe {
            state.failures = 0;
            state.opened = None;
        }
    }

    /// It did not answer, or with trouble of its own.
    pub(crate) fn failed(self, now: Duration) {
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        if self.probe || (state.opened.is_none() && state.failures >= self.breaker.threshold) {
            state.opened = Some(now);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let breaker = Breaker::new(2, 10 * SECOND);
        breaker.admit(SECOND).unwrap().failed(SECOND);
        breaker.admit(SECOND).unwrap().answered();
        breaker.admit(SECOND).unwrap().failed(SECOND);
        let early = breaker.admit(SECOND).unwrap();
        breaker.admit(SECOND).unwrap().failed(SECOND);
        assert!(breaker.admit(10 * SECOND).is_none());
        early.answered();
        assert!(breaker.admit(10 * SECOND).is_none());

        let probe = breaker.admit(11 * SECOND).unwrap();
        assert!(breaker.admit(11 * SECOND).is_none());
        probe.failed(12 * SECOND);
        assert!(breaker.admit(21 * SECOND).is_none());
        drop(breaker.admit(22 * SECOND).unwrap());
        breaker.admit(22 * SECOND).unwrap().answered();
        assert!(breaker.admit(22 * SECOND).is_some());
    }
}
