//! Somebody who reads all through a job: every object must be readable, with its own body, at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use keyrotate_devstack::model::StoreModel;
use keyrotate_store::{GetRequest, ListFrom, ListRequest, ObjectAt, Store as _};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::bucket;
use crate::target::Target;

/// Between two reads, so that the job has the machine for itself most of the time.
const PAUSE: Duration = Duration::from_millis(5);

/// What a read gave: the SHA-256 of the body in hex, or the error.
pub type Read = Result<String, String>;

/// Reads the current objects of a bucket in a scattered order until it is stopped.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Reads>,
}

/// All that was read.
#[derive(Debug, Default)]
pub struct Reads {
    /// How many reads.
    pub count: u64,
    /// The different things that reads of a key gave.
    pub of: BTreeMap<String, BTreeSet<Read>>,
}

impl Reader {
    /// Begins with what is in the bucket now.
    #[must_use]
    pub fn start(target: &Target, bucket: &str) -> Self {
        // The embedded store is read behind its server, where a test's faults hit the job and not the reader.
        let model = target.stack().map(|_| target.model().clone());
        let way = model.map_or_else(|| Way::Client(target.client.clone()), Way::Model);
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(read_on(way, bucket.to_owned(), Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Stops; gives what was read.
    ///
    /// # Panics
    /// When the bucket could not be listed.
    pub async fn stop(self) -> Reads {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the reader lists the bucket")
    }
}

/// How it reaches the store.
enum Way {
    Model(StoreModel),
    Client(Client),
}

async fn read_on(way: Way, bucket: String, stop: Arc<AtomicBool>) -> Reads {
    let keys = way.keys(&bucket).await;
    let (mut at, mut reads) = (0_usize, Reads::default());
    // At least one read, however short the job is.
    while !keys.is_empty() {
        // A stride that has no factor in common with any small number of objects reaches all of them.
        at = (at + 7919) % keys.len();
        let read = way.read(&bucket, &keys[at]).await;
        reads.of.entry(keys[at].clone()).or_default().insert(read);
        reads.count += 1;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    reads
}

impl Way {
    async fn keys(&self, bucket: &str) -> Vec<String> {
        match self {
            Self::Client(client) => {
                let listed = bucket::list(client, bucket).await.into_iter();
                listed.filter(|one| one.latest).map(|one| one.key).collect()
            }
            Self::Model(model) => {
                let (mut keys, mut from) = (Vec::new(), Some(ListFrom::Start));
                while let Some(place) = from {
                    let (bucket, prefix) = (bucket.to_owned(), String::new());
                    let ask =
                        ListRequest { bucket, prefix, versions: false, from: place, limit: 1000, with_facts: false };
                    let page = model.list(ask).await.expect("the model lists its bucket");
                    keys.extend(page.entries.into_iter().map(|entry| entry.key));
                    from = page.next;
                }
                keys
            }
        }
    }

    async fn read(&self, bucket: &str, key: &str) -> Read {
        let body = match self {
            Self::Client(client) => bucket::get(client, bucket, key, None).await?,
            Self::Model(model) => {
                let got = model.get(GetRequest::of(&ObjectAt::current(bucket, key))).await;
                let (_, body) = got.map_err(|e| e.to_string())?;
                body.collect().await.map_err(|e| e.to_string())?
            }
        };
        Ok(hex::encode(Sha256::digest(&body)))
    }
}
