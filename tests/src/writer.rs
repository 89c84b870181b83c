//! Somebody who overwrites objects all through a job: each write that was acknowledged must be there until the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use tokio::task::JoinHandle;

use crate::bucket::{self, Put};
use crate::stand::Stand;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(5);

/// Overwrites its keys one after the other until it is stopped. Nobody else but the job may write them.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Written>,
}

/// What a writer did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Of these, how many followed a write of the job: the object was found under the new key, with the writer's body.
    pub over_the_job: u64,
}

impl Writer {
    /// Begins with objects that are there, under the old key.
    #[must_use]
    pub fn start(stand: &Stand, keys: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let place = Place {
            client: stand.client().clone(),
            bucket: stand.bucket.clone(),
            old_key: stand.target.old_key.clone(),
            rotated: format!("sse-kms:{}", bucket::bare(&stand.target.new_key)),
        };
        let task = tokio::spawn(write_on(place, keys, Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Stops, and reads everything once more.
    ///
    /// # Panics
    /// When an acknowledged write was not what a later read gave.
    pub async fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("every acknowledged write is there when it is read again")
    }
}

struct Place {
    client: Client,
    bucket: String,
    old_key: String,
    rotated: String,
}

async fn write_on(place: Place, keys: Vec<String>, stop: Arc<AtomicBool>) -> Written {
    let mut last: Vec<Option<u64>> = vec![None; keys.len()];
    let mut written = Written::default();
    while !stop.load(Ordering::Relaxed) {
        for (key, last) in keys.iter().zip(&mut last) {
            place.still_has(key, *last).await;
            let seal = bucket::seal_of(&place.client, &place.bucket, key).await;
            written.over_the_job += u64::from(last.is_some() && seal == place.rotated);
            written.writes += 1;
            let one = Put::under(&place.old_key, key, written.writes.to_string());
            bucket::put(&place.client, &place.bucket, one.metadata("write", &written.writes.to_string())).await;
            *last = Some(written.writes);
            tokio::time::sleep(PAUSE).await;
        }
    }
    for (key, last) in keys.iter().zip(&last) {
        place.still_has(key, *last).await;
    }
    written
}

impl Place {
    async fn still_has(&self, key: &str, last: Option<u64>) {
        let Some(last) = last else { return };
        let now = bucket::get(&self.client, &self.bucket, key, None).await;
        let now = now.unwrap_or_else(|error| panic!("{key} can't be read after write {last}: {error}"));
        assert_eq!(now, last.to_string(), "the last acknowledged write of {key} is what is there");
    }
}
