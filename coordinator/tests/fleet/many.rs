//! Many jobs and many shards: none holds up the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use keyrotate_checkpoint::backend::{Backend, BackendError, Bell, Listed, RecordKey, Snapshot, Swap, SwapAnswer};
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_coordinator::{Coordinator, CoordinatorConfig, TicketsOut};
use keyrotate_env::Env;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::job;
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::state::Phase;
use keyrotate_queue::MemoryQueue;
use keyrotate_report::root::BucketRoot;
use keyrotate_report::{MemoryStore, ReportError, ReportRoot, ReportStore};

use tokio_util::sync::CancellationToken;

use super::*;

/// A report store in which one job's report can't be written, and does not fail either.
#[derive(Debug)]
struct Stuck {
    inner: Arc<BucketRoot>,
    job: JobId,
}

#[derive(Debug)]
struct StuckStore(Arc<dyn ReportStore>);

impl ReportRoot for Stuck {
    fn of(&self, job: &JobId) -> Result<Arc<dyn ReportStore>, ReportError> {
        let files = self.inner.of(job)?;
        Ok(if *job == self.job { Arc::new(StuckStore(files)) } else { files })
    }

    fn own(&self) -> Result<Arc<dyn ReportStore>, ReportError> {
        self.inner.own()
    }
}

#[async_trait]
impl ReportStore for StuckStore {
    async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError> {
        self.0.put_new(name, bytes).await
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError> {
        if name.contains("report/") {
            std::future::pending::<()>().await;
        }
        self.0.put(name, bytes).await
    }

    async fn swap(&self, name: &str, seen: Option<&[u8]>, bytes: Vec<u8>) -> Result<bool, ReportError> {
        self.0.swap(name, seen, bytes).await
    }

    async fn get(&self, name: &str) -> Result<Vec<u8>, ReportError> {
        self.0.get(name).await
    }

    async fn get_start(&self, name: &str, limit: usize) -> Result<Vec<u8>, ReportError> {
        self.0.get_start(name, limit).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, ReportError> {
        self.0.list(prefix).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_that_takes_for_ever_holds_up_no_other_job() {
    let world = World::new(40, 60).await;
    let first = world.submit_on("0000", 1).await;
    let second = world.submit_on("0001", 2).await;
    let reports = Arc::new(Stuck { inner: world.reports.clone(), job: first.clone() });
    let config = CoordinatorConfig { shards: 4, tickets_out: TicketsOut::TwiceTheSlots, ..Default::default() };
    let coordinator = Coordinator::new(world.ledger.clone(), world.queue.clone(), reports, config);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let leading = tokio::spawn(async move { coordinator.run_among_others("c1", stopped).await });
    let worker = world.worker("w1");
    // The first is at its end, which never comes.
    world
        .until(&first, |job| {
            job.state.word() == "verifying" && job.passes.iter().all(|pass| !pass.open) && job.passes.len() >= 4
        })
        .await;
    let began = world.env.now();
    world.until(&second, |job| job.state.is_ended()).await;
    let third = world.submit_on("0002", 3).await;
    world.until(&third, |job| job.state.is_ended()).await;
    let took = world.env.now().duration_since(began).as_secs();
    assert!(took < 120, "it took {took} s");
    assert!(!world.job(&first).await.state.is_ended());
    // Stopping does not wait for it either.
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), leading).await.unwrap().unwrap();
    worker.kill();
}

/// A back-end that counts how often shards are listed.
#[derive(Debug)]
struct Counting(Arc<MemoryBackend>, AtomicUsize);

#[async_trait]
impl Backend for Counting {
    async fn run_id(&self) -> Result<String, BackendError> {
        self.0.run_id().await
    }

    async fn read(&self, keys: &[RecordKey]) -> Result<Snapshot, BackendError> {
        self.0.read(keys).await
    }

    async fn swap(&self, swap: Swap) -> Result<SwapAnswer, BackendError> {
        self.0.swap(swap).await
    }

    async fn scan(&self, prefix: &str, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Listed>, BackendError> {
        self.1.fetch_add(usize::from(prefix.starts_with("shard/")), Ordering::Relaxed);
        self.0.scan(prefix, after, limit).await
    }

    fn bell(&self) -> Bell {
        self.0.bell()
    }
}

#[derive(Debug)]
struct OneStore(Arc<MemoryStore>);

impl ReportRoot for OneStore {
    fn of(&self, _: &JobId) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(self.0.clone())
    }

    fn own(&self) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(self.0.clone())
    }
}

/// A thousand shards lie on three pages, which one look reads once.
#[tokio::test(start_paused = true)]
async fn one_look_reads_each_shard_once() {
    let env = Env::seeded(41, Timestamp::from_second(1_800_000_000).unwrap());
    let backend = Arc::new(Counting(Arc::new(MemoryBackend::new(env.clone())), AtomicUsize::new(0)));
    let ledger = Ledger::new(backend.clone(), env.clone());
    let text = "keyrotate: {apiVersion: v1, bucket: bucket, encryption: {key: key-b}}";
    let spec = job::parse(text.as_bytes(), "job.yaml").unwrap().spec;
    let id = JobId::new(1, [1; 10]);
    let mut record = JobRecord::new(id.clone(), spec, "model".into(), Nonce("n".into()), "me".into(), env.now());
    record.state = JobState::Live { phase: Phase::Running };
    ledger.begin_job(record.clone()).await.unwrap();
    let range = |n: usize| KeyRange { start: format!("{n:04}"), end: Some(format!("{:04}", n + 1)) };
    ledger.open_pass(&record, PassKind::Walk, (0..1000).map(range).collect(), None).await.unwrap();
    let queue = Arc::new(MemoryQueue::new(64));
    let reports = Arc::new(OneStore(Arc::default()));
    let mut coordinator = Coordinator::new(ledger.clone(), queue, reports, CoordinatorConfig::default());
    for _ in 0..3 {
        backend.1.store(0, Ordering::Relaxed);
        coordinator.tick().await.unwrap();
        assert_eq!(backend.1.load(Ordering::Relaxed), 3);
    }
}
