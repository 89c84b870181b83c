//! Records for the life of a process: for tests and simulations.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use keyrotate_env::Env;

use crate::backend::{
    Backend, BackendError, Bell, Listed, RecordKey, Revision, Ringer, Snapshot, Stored, Swap, SwapAnswer,
};

/// Records in memory.
#[derive(Debug)]
pub struct MemoryBackend {
    env: Env,
    inner: Mutex<Inner>,
    ringer: Ringer,
}

/// All records of a moment.
#[derive(Clone, Debug)]
pub struct Records {
    records: BTreeMap<RecordKey, Stored>,
    last_revision: u64,
}

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<RecordKey, Stored>,
    last_revision: u64,
    run: String,
}

impl MemoryBackend {
    /// Without any record.
    #[must_use]
    pub fn new(env: Env) -> Self {
        let inner = Inner { run: env.random_hex(16), ..Inner::default() };
        Self { env, inner: Mutex::new(inner), ringer: Ringer::default() }
    }

    /// Another run begins, as when a server is restarted.
    pub fn restart(&self) {
        self.inner().run = self.env.random_hex(16);
    }

    /// All that is there now, to come back to.
    #[must_use]
    pub fn copy(&self) -> Records {
        let inner = self.inner();
        Records { records: inner.records.clone(), last_revision: inner.last_revision }
    }

    /// Another run begins, with what was there when the copy was made: as when a server is restored from a snapshot.
    pub fn roll_back(&self, copy: Records) {
        let Records { records, last_revision } = copy;
        *self.inner() = Inner { records, last_revision, run: self.env.random_hex(16) };
    }

    /// Forgets every record, in the same run.
    pub fn flush(&self) {
        self.inner().records.clear();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn run_id(&self) -> Result<String, BackendError> {
        Ok(self.inner().run.clone())
    }

    async fn read(&self, keys: &[RecordKey]) -> Result<Snapshot, BackendError> {
        let inner = self.inner();
        let records = keys.iter().map(|key| inner.records.get(key).cloned()).collect();
        Ok(Snapshot { now: self.env.now(), run: inner.run.clone(), records })
    }

    async fn swap(&self, swap: Swap) -> Result<SwapAnswer, BackendError> {
        let mut inner = self.inner();
        let now = self.env.now();
        if swap.not_after.is_some_and(|limit| now > limit) {
            return Ok(SwapAnswer::TooLate { now });
        }
        if swap.run.is_some_and(|run| run != inner.run)
            || swap.expect.iter().any(|(key, revision)| inner.records.get(key).map(|r| r.revision) != *revision)
        {
            return Ok(SwapAnswer::Conflict);
        }
        inner.last_revision += 1;
        let revision = Revision(inner.last_revision);
        for (key, value) in swap.writes {
            match value {
                Some(bytes) => inner.records.insert(key, Stored { revision, bytes }),
                None => inner.records.remove(&key),
            };
        }
        if swap.ring {
            self.ringer.ring();
        }
        Ok(SwapAnswer::Done { now })
    }

    async fn scan(&self, prefix: &str, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Listed>, BackendError> {
        let inner = self.inner();
        let from = RecordKey(prefix.to_owned());
        let listed = inner
            .records
            .range(from..)
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .take(limit)
            .map(|(key, stored)| Listed { key: key.clone(), revision: stored.revision, bytes: stored.bytes.clone() })
            .collect();
        Ok(listed)
    }

    fn bell(&self) -> Bell {
        self.ringer.bell()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conformance;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_conforms() {
        conformance::all(|| async { Arc::new(MemoryBackend::new(Env::system())) as Arc<dyn Backend> }).await;
    }
}
