//! One pool of permits for all store calls of a worker, and an optional limit of objects per second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Store calls in flight, shared by all slots of a worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Permits {
    pool: Arc<Semaphore>,
    pace: Option<Arc<Pace>>,
}

#[derive(Debug)]
struct Pace {
    gap: Duration,
    next: Mutex<Option<Instant>>,
}

impl Permits {
    /// `count` store calls at a time; at most `rate` objects per second where given.
    #[must_use]
    pub fn new(count: usize, rate: Option<f64>) -> Self {
        let gap = rate.filter(|rate| *rate > 0.0).map(|rate| Duration::from_secs_f64(1.0 / rate.max(1e-6)));
        let pace = gap.map(|gap| Arc::new(Pace { gap, next: Mutex::new(None) }));
        Self { pool: Arc::new(Semaphore::new(count.max(1))), pace }
    }

    /// The same pool with a limit of objects per second of its own; where the pool has one, that one holds.
    #[must_use]
    pub fn paced(&self, rate: f64) -> Self {
        let pace = Self::new(1, Some(rate)).pace;
        Self { pool: Arc::clone(&self.pool), pace: self.pace.clone().or(pace) }
    }

    /// The right to one store call at a time, until it is dropped.
    ///
    /// # Panics
    /// Never: the pool is never closed.
    pub async fn call(&self) -> OwnedSemaphorePermit {
        #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
        Arc::clone(&self.pool).acquire_owned().await.expect("never closed")
    }

    /// The right to begin with one more object: waits for the rate, then for a permit.
    pub async fn object(&self) -> OwnedSemaphorePermit {
        if let Some(pace) = &self.pace {
            pace.wait().await;
        }
        self.call().await
    }
}

impl Pace {
    async fn wait(&self) {
        let due = {
            let mut next = self.next.lock().await;
            let now = Instant::now();
            let due = next.map_or(now, |next| next.max(now));
            *next = Some(due + self.gap);
            due
        };
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_by_many_at_once() {
        let permits = Permits::new(8, Some(100.0));
        let start = Instant::now();
        let all = (0..201).map(|_| {
            let permits = permits.clone();
            tokio::spawn(async move { drop(permits.object().await) })
        });
        for task in all.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let took = start.elapsed().as_secs_f64();
        assert!((1.99..2.1).contains(&took), "201 objects at 100/s took {took} s");
    }

    #[tokio::test]
    async fn no_more_calls_than_permits() {
        let permits = Permits::new(2, None);
        let held = (permits.call().await, permits.call().await);
        assert!(tokio::time::timeout(Duration::from_millis(5), permits.call()).await.is_err());
        drop(held);
        drop(permits.call().await);
    }
}
