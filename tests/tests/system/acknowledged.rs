//! The embedded store as a process of its own: what it acknowledged survives kill -9.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::Client;
use keyrotate_devstack::stack::KEYS;
use keyrotate_tests::bucket;
use keyrotate_tests::prelude::*;
use keyrotate_tests::target;

const BUCKET: &str = "acknowledged";
/// Writers at the same time, each with keys of its own.
const WRITERS: usize = 4;
/// Every so many writes go to a key that was written before.
const AGAIN: u64 = 5;
/// Every so many bodies are large: such lie in files of their own, beside the journal.
const LARGE: u64 = 7;

/// A running `keyrotate devstack` on a folder, and how to reach it.
struct Devstack {
    process: Process,
    client: Client,
}

impl Devstack {
    async fn start(dir: &Path) -> Self {
        let folder = dir.join("stack").display().to_string();
        let args = ["devstack", "--dir", &folder, "--mode", "minio", "--bucket", BUCKET];
        let mut process = Process::start(args, &BTreeMap::new(), dir);
        // It prints them in the order of their names, when it serves.
        let is_whole = |text: &str| text.contains("export MINIO_KMS_KES_ENDPOINT=") && text.ends_with('\n');
        until("the devstack serves", || process.has_ended() || is_whole(&process.stdout())).await;
        let printed = process.stdout();
        let exports = printed.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let variables = exports.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { client: target::client(&variables), process }
    }
}

/// What a writer put last under each key, and what it was about to put when it was cut off.
#[derive(Default)]
struct Written {
    acknowledged: BTreeMap<String, Put>,
    unanswered: Option<Put>,
}

/// Puts one object after the other until the store does not answer any more.
async fn write_on(client: Client, round: usize, writer: usize, count: Arc<AtomicU64>) -> Written {
    let mut written = Written::default();
    for n in 0_u64.. {
        let number = if n % AGAIN == AGAIN - 1 { n - AGAIN / 2 } else { n };
        let key = format!("{round}/{writer}/{number:06}");
        let size = if n % LARGE == LARGE - 1 { 300 << 10 } else { 40 };
        let body = format!("{key} as of {n} ").repeat(size / 20);
        let one = Put::under(KEYS[usize::from(n % 2 == 1)], &key, body).metadata("n", &n.to_string()).tag("n", "1");
        if bucket::try_put(&client, BUCKET, one.clone()).await.is_err() {
            written.unanswered = Some(one);
            return written;
        }
        written.acknowledged.insert(key, one);
        count.fetch_add(1, Ordering::Relaxed);
    }
    written
}

/// Each object is what was acknowledged last: body, metadata, tags, key. Where an answer was lost it may be what was
/// asked for last instead, as a whole.
async fn is_there(client: &Client, written: &[Written]) {
    let there = bucket::snapshot(client, BUCKET).await;
    for (one, (key, put)) in written.iter().flat_map(|one| one.acknowledged.iter().map(move |pair| (one, pair))) {
        let seen = there.get(&(key.clone(), String::new())).unwrap_or_else(|| panic!("{key} is lost"));
        let unanswered = one.unanswered.as_ref().filter(|put| put.key == *key);
        let mut either = unanswered.into_iter().chain([put]);
        assert!(either.any(|put| put.is_what(seen)), "{key} is {seen:?}, acknowledged was {put:?}");
    }
    let others = there.iter().filter(|((key, _), _)| !written.iter().any(|one| one.acknowledged.contains_key(key)));
    for ((key, _), seen) in others {
        let asked = written.iter().filter_map(|one| one.unanswered.as_ref()).find(|put| put.key == *key);
        assert!(asked.is_some_and(|put| put.is_what(seen)), "nobody put {key}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().expect("there is room for a temporary folder");
    let mut written = Vec::new();
    for (round, kill_at) in [20, 90, 200].into_iter().enumerate() {
        let stack = Devstack::start(dir.path()).await;
        is_there(&stack.client, &written).await;
        let count = Arc::new(AtomicU64::new(0));
        let start = |writer| tokio::spawn(write_on(stack.client.clone(), round, writer, Arc::clone(&count)));
        let writers: Vec<_> = (0..WRITERS).map(start).collect();
        until("so much is acknowledged", || count.load(Ordering::Relaxed) >= kill_at).await;
        let killed = stack.process.kill().await;
        assert_eq!(killed.code, None, "{}", killed.stderr);
        for writer in writers {
            written.push(writer.await.expect("a writer ends when nobody answers"));
        }
    }
    let again = written.iter().filter_map(|one| one.unanswered.as_ref());
    assert_eq!(again.count(), written.len(), "each writer was cut off");
    let stack = Devstack::start(dir.path()).await;
    is_there(&stack.client, &written).await;
}
