//! A report store in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{ReportError, ReportStore, check_name};

/// Files in memory. Survives nothing.
#[derive(Debug, Default)]
pub struct MemoryStore {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a file away, to see what its loss does. Whether it was there.
    pub fn remove(&self, name: &str) -> bool {
        self.files().remove(name).is_some()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ReportStore for MemoryStore {
    async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError> {
        check_name(name)?;
        let mut files = self.files();
        if files.contains_key(name) {
            return Err(ReportError::Exists(name.to_owned()));
        }
        files.insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError> {
        check_name(name)?;
        self.files().insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn swap(&self, name: &str, seen: Option<&[u8]>, bytes: Vec<u8>) -> Result<bool, ReportError> {
        check_name(name)?;
        let mut files = self.files();
        let is_as_seen = files.get(name).map(Vec::as_slice) == seen;
        if is_as_seen {
            files.insert(name.to_owned(), bytes);
        }
        Ok(is_as_seen)
    }

    async fn get(&self, name: &str) -> Result<Vec<u8>, ReportError> {
        check_name(name)?;
        self.files().get(name).cloned().ok_or_else(|| ReportError::NotFound(name.to_owned()))
    }

    async fn get_start(&self, name: &str, limit: usize) -> Result<Vec<u8>, ReportError> {
        let mut bytes = self.get(name).await?;
        bytes.truncate(limit);
        Ok(bytes)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, ReportError> {
        Ok(self.files().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn memory_store_conforms() {
        super::super::conformance::all(|| async { Arc::new(MemoryStore::new()) as Arc<dyn ReportStore> }).await;
    }
}
