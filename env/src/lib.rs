//! Clock and randomness, and what the process asks of the system: the only crate that touches the system's own.
//!
//! Everything else asks an [`Env`]. [`Env::system`] is the real one; [`Env::seeded`] follows tokio's
//! (pausable) time and a seed, so that a whole job replays in one test. Sleeping is `tokio::time::sleep`,
//! which a paused runtime moves by itself.

pub mod safeguard;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use safeguard::Safeguard;

/// From now on this process leaves no core dump: its memory holds credentials and keys in the clear.
pub fn forbid_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Lowering a limit is always allowed.
    let _lowered = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

/// Clock and randomness of one process or one simulated process. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Env {
    inner: Arc<Inner>,
}

enum Inner {
    System,
    Seeded {
        rng: Mutex<fastrand::Rng>,
        start: Timestamp,
        origin: tokio::time::Instant,
        /// Seconds that the wall clock was set forward.
        set: AtomicI64,
    },
}

impl Env {
    /// The machine's clocks and the operating system's randomness.
    #[must_use]
    pub fn system() -> Self {
        Self { inner: Arc::new(Inner::System) }
    }

    /// Time that starts at `start` and moves with tokio's clock, randomness from `seed`. For tests: nothing
    /// made with it is secret.
    #[must_use]
    pub fn seeded(seed: u64, start: Timestamp) -> Self {
        let rng = Mutex::new(fastrand::Rng::with_seed(seed));
        let (origin, set) = (tokio::time::Instant::now(), AtomicI64::new(0));
        Self { inner: Arc::new(Inner::Seeded { rng, start, origin, set }) }
    }

    /// Sets the wall clock of a seeded environment so many seconds forward, or back, as somebody who sets a machine's clock
    /// does. The system's is left alone.
    pub fn set_clock(&self, forward: i64) {
        if let Inner::Seeded { set, .. } = &*self.inner {
            set.fetch_add(forward, Ordering::Relaxed);
        }
    }

    /// Wall-clock time. Never used to decide about a lease: see [`Env::boottime`].
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's wall clock")]
    pub fn now(&self) -> Timestamp {
        match &*self.inner {
            Inner::System => Timestamp::now(),
            Inner::Seeded { start, origin, set, .. } => {
                let set = SignedDuration::from_secs(set.load(Ordering::Relaxed));
                start.checked_add(origin.elapsed()).and_then(|now| now.checked_add(set)).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// Time since some fixed moment before the process began, which goes on while the machine is suspended
    /// (`CLOCK_BOOTTIME`) and never jumps.
    #[must_use]
    pub fn boottime(&self) -> Duration {
        match &*self.inner {
            Inner::System => {
                let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::new(t.tv_sec.unsigned_abs(), u32::try_from(t.tv_nsec).unwrap_or(0))
            }
            Inner::Seeded { origin, .. } => origin.elapsed(),
        }
    }

    /// Fills `bytes` with randomness that is good enough for keys under [`Env::system`].
    ///
    /// # Panics
    /// When the operating system has no randomness to give; nothing sensible can be done without.
    pub fn fill(&self, bytes: &mut [u8]) {
        match &*self.inner {
            Inner::System => {
                #[expect(clippy::expect_used, reason = "without randomness nothing may go on")]
                getrandom::fill(bytes).expect("the operating system gives no randomness");
            }
            Inner::Seeded { rng, .. } => rng.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes),
        }
    }

    /// A random number.
    #[must_use]
    pub fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random number in `[0, 1)`.
    #[must_use]
    pub fn random_fraction(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
        let numerator = (self.random_u64() >> 11) as f64;
        numerator / (1u64 << 53) as f64
    }

    /// `bytes` random bytes in lower-case hex.
    #[must_use]
    pub fn random_hex(&self, bytes: usize) -> String {
        let mut buffer = vec![0; bytes];
        self.fill(&mut buffer);
        hex::encode(buffer)
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.inner {
            Inner::System => "Env(system)",
            Inner::Seeded { .. } => "Env(seeded)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn seeded_env_replays_and_follows_paused_time() {
        let (a, b) = (Env::seeded(7, Timestamp::UNIX_EPOCH), Env::seeded(7, Timestamp::UNIX_EPOCH));
        assert_eq!(a.random_hex(16), b.random_hex(16));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(a.now().as_second(), 3600);
        assert_eq!(a.boottime(), Duration::from_secs(3600));
    }

    #[test]
    fn system_env_moves_forward() {
        let env = Env::system();
        let before = env.boottime();
        assert!(env.boottime() >= before);
        assert_ne!(env.random_u64(), env.random_u64());
        assert!((0.0..1.0).contains(&env.random_fraction()));
    }
}
