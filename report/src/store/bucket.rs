//! A report store in a bucket, below a prefix: for a fleet, whose machines share no folder.
//!
//! The store must honour `If-None-Match: *` on PutObject; [`prove`] finds out.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use keyrotate_store::{
    Body, ErrorKind, GetRequest, Guard, InPlace, ListFrom, ListRequest, NewObject, ObjectAt, PutRequest, Store,
    StoreError,
};

use super::{ReportError, ReportStore, check_name};

/// How often a write is sent after which nothing is there: two that meet may both be told to try again, and an answer may be
/// lost.
const TRIES: u32 = 4;

/// Objects of a bucket below one prefix.
#[derive(Clone, Debug)]
pub struct BucketStore {
    store: Arc<dyn Store>,
    bucket: String,
    prefix: String,
}

impl BucketStore {
    /// The objects below `prefix`, which is empty or ends in a slash.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { store, bucket: bucket.into(), prefix: prefix.into() }
    }

    fn at(&self, name: &str) -> Result<ObjectAt, ReportError> {
        check_name(name)?;
        Ok(ObjectAt::current(&self.bucket, format!("{}{name}", self.prefix)))
    }

    async fn write(&self, at: &ObjectAt, bytes: Bytes, guard: Guard) -> Result<(), StoreError> {
        let request = PutRequest { at: at.clone(), new: NewObject::default(), guard, place: InPlace::default() };
        self.store.put(request, Body::Bytes(bytes)).await.map(|_| ())
    }

    async fn read(&self, name: &str, range: Option<(u64, u64)>) -> Result<Vec<u8>, ReportError> {
        self.read_tagged(name, range).await.map(|(bytes, _)| bytes)
    }

    /// Its bytes and its ETag.
    async fn read_tagged(&self, name: &str, range: Option<(u64, u64)>) -> Result<(Vec<u8>, String), ReportError> {
        let request = GetRequest { range, ..GetRequest::of(&self.at(name)?) };
        let read = async {
            let (object, body) = self.store.get(request).await?;
            Ok::<_, StoreError>((body.collect().await?, object.etag))
        };
        match read.await {
            Ok((bytes, etag)) => Ok((bytes.into(), etag)),
            Err(error) if error.kind == ErrorKind::NotFound => Err(ReportError::NotFound(name.to_owned())),
            Err(error) => Err(ReportError::store("read", name, error)),
        }
    }
}

#[async_trait]
impl ReportStore for BucketStore {
    /// A file that is there with just these bytes counts as written: the answer to a first try may have been lost.
    async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError> {
        let (at, bytes, mut refused) = (self.at(name)?, Bytes::from(bytes), None);
        for _ in 0..TRIES {
            match self.write(&at, bytes.clone(), Guard::IfAbsent).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == ErrorKind::Precondition || error.kind.is_ambiguous() => {
                    refused = Some(error);
                }
                Err(error) => return Err(ReportError::store("write", name, error)),
            }
            match self.read(name, None).await {
                Ok(there) if there == bytes => return Ok(()),
                Ok(_) => return Err(ReportError::Exists(name.to_owned())),
                Err(ReportError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(refused.map_or_else(|| ReportError::Exists(name.to_owned()), |e| ReportError::store("write", name, e)))
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError> {
        let written = self.write(&self.at(name)?, bytes.into(), Guard::None).await;
        written.map_err(|error| ReportError::store("write", name, error))
    }

    async fn swap(&self, name: &str, seen: Option<&[u8]>, bytes: Vec<u8>) -> Result<bool, ReportError> {
        let guard = match (self.read_tagged(name, None).await, seen) {
            (Ok((there, etag)), Some(seen)) if there == seen => Guard::IfMatch(etag),
            (Err(ReportError::NotFound(_)), None) => Guard::IfAbsent,
            (Ok(_) | Err(ReportError::NotFound(_)), _) => return Ok(false),
            (Err(error), _) => return Err(error),
        };
        match self.write(&self.at(name)?, bytes.into(), guard).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind == ErrorKind::Precondition => Ok(false),
            Err(error) => Err(ReportError::store("write", name, error)),
        }
    }

    async fn get(&self, name: &str) -> Result<Vec<u8>, ReportError> {
        self.read(name, None).await
    }

    async fn get_start(&self, name: &str, limit: usize) -> Result<Vec<u8>, ReportError> {
        let range = (0, u64::try_from(limit.max(1)).unwrap_or(u64::MAX));
        let read = match self.read(name, Some(range)).await {
            // Nothing lies in any range of an empty file.
            Err(ReportError::Store { .. }) => self.read(name, None).await,
            other => other,
        };
        read.map(|mut bytes| {
            bytes.truncate(limit);
            bytes
        })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, ReportError> {
        let mut names = Vec::new();
        let mut from = ListFrom::Start;
        loop {
            let request = ListRequest {
                bucket: self.bucket.clone(),
                prefix: format!("{}{prefix}", self.prefix),
                versions: false,
                from,
                limit: 1_000,
                with_facts: false,
            };
            let page = self.store.list(request).await.map_err(|error| ReportError::store("list", prefix, error))?;
            let ours = page.entries.iter().filter_map(|entry| entry.key.strip_prefix(&self.prefix));
            names.extend(ours.filter(|name| check_name(name).is_ok()).map(str::to_owned));
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Proves that the store refuses to write a file that is there. Leaves one small file of that name.
///
/// # Errors
/// When it can't be reached or written, or when it overwrote the file.
pub async fn prove(files: &dyn ReportStore) -> Result<(), ReportError> {
    const NAME: &str = "proof-of-if-none-match";
    files.put(NAME, b"keyrotate keeps its reports here".to_vec()).await?;
    match files.put_new(NAME, b"and this must never replace it".to_vec()).await {
        Err(ReportError::Exists(_)) => Ok(()),
        Ok(()) => Err(ReportError::damaged(NAME, "the store ignores `If-None-Match` and overwrote it")),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use keyrotate_devstack::kes::KesModel;
    use keyrotate_devstack::model::{BucketSettings, Mode, StoreModel};
    use keyrotate_env::Env;

    use super::*;

    fn model(mode: Mode) -> Arc<dyn Store> {
        let env = Env::system();
        let model = StoreModel::new(mode, Arc::new(KesModel::new(env.clone())), env);
        model.create_bucket("reports", BucketSettings::plain()).unwrap();
        Arc::new(model)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_bucket_conforms_on_every_kind_of_store() {
        for mode in Mode::all() {
            let (store, number) = (model(mode), AtomicU64::new(0));
            super::super::conformance::all(|| {
                let prefix = format!("a/{}/", number.fetch_add(1, Ordering::Relaxed));
                let files = Arc::new(BucketStore::new(Arc::clone(&store), "reports", prefix)) as Arc<dyn ReportStore>;
                async { files }
            })
            .await;
            prove(&BucketStore::new(store, "reports", "")).await.unwrap();
        }
    }
}
