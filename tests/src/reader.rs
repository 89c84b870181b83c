//! Somebody who reads all through a job: every object must be readable at every moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::Client;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::bucket::{self, Snapshot};

/// Reads objects in a scattered order until it is stopped.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Reader {
    /// Begins to read the current objects of a snapshot, and compares each with it.
    #[must_use]
    pub fn start(client: &Client, bucket: &str, snapshot: &Snapshot) -> Self {
        let current = snapshot.iter().filter(|(_, seen)| seen.latest);
        let bodies: BTreeMap<_, _> =
            current.map(|((key, _), seen)| (key.clone(), seen.content.sha256.clone())).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(read(client.clone(), bucket.to_owned(), bodies, Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Stops; gives the number of reads.
    ///
    /// # Panics
    /// When a read failed or gave another body.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no read fails all through a job")
    }
}

async fn read(client: Client, bucket: String, bodies: BTreeMap<String, String>, stop: Arc<AtomicBool>) -> u64 {
    let all: Vec<_> = bodies.into_iter().collect();
    let (mut at, mut reads) = (0_usize, 0_u64);
    while !stop.load(Ordering::Relaxed) && !all.is_empty() {
        // A stride that has no factor in common with any small number of objects reaches all of them.
        at = (at + 7919) % all.len();
        let (key, sha256) = &all[at];
        let body = bucket::get(&client, &bucket, key, "").await;
        let body = body.unwrap_or_else(|e| panic!("read {reads} failed: GET {key}: {e}"));
        assert_eq!(&hex::encode(Sha256::digest(&body)), sha256, "read {reads}: another body of {key}");
        reads += 1;
    }
    reads
}
