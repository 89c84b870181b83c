//! When a lease ends by this machine's own clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyrotate_env::Env;

/// So long before the end of the lease no write begins any more: a store call may last that long.
pub(crate) const WRITE_MARGIN: Duration = Duration::from_secs(15);

/// The moment, on the clock that goes on during a suspend, at which the lease ends. It is counted from before the
/// lease or renewal was asked for, so it is never later than the checkpoint's own idea of it.
#[derive(Clone, Debug)]
pub(crate) struct Deadline(Arc<AtomicU64>);

impl Deadline {
    /// A lease that ends at `end` of [`Env::boottime`].
    pub(crate) fn new(end: Duration) -> Self {
        Self(Arc::new(AtomicU64::new(millis(end))))
    }

    /// The lease was renewed and now ends at `end`.
    pub(crate) fn extend(&self, end: Duration) {
        self.0.fetch_max(millis(end), Ordering::Relaxed);
    }

    /// Whether a write may still begin.
    pub(crate) fn allows_write(&self, env: &Env) -> bool {
        millis(env.boottime() + WRITE_MARGIN) < self.0.load(Ordering::Relaxed)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_write_begins_that_could_land_after_the_lease() {
        let env = Env::seeded(1, jiff::Timestamp::UNIX_EPOCH);
        let deadline = Deadline::new(env.boottime() + Duration::from_secs(60));
        assert!(deadline.allows_write(&env));
        tokio::time::sleep(Duration::from_secs(46)).await;
        assert!(!deadline.allows_write(&env));
        deadline.extend(env.boottime() + Duration::from_secs(60));
        assert!(deadline.allows_write(&env));
    }
}
