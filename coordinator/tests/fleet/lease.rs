//! A worker whose lease can't be renewed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use keyrotate_checkpoint::backend::{Backend, BackendError, Bell, Listed, RecordKey, Snapshot, Swap, SwapAnswer};
use keyrotate_checkpoint::record::ShardState;
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_devstack::model::{Action, Call, Rule};
use keyrotate_proto::id::JobId;
use keyrotate_queue::DEFAULT_STORE;
use keyrotate_store::ErrorKind;
use keyrotate_worker::Permits;

use crate::walking;
use crate::world::{Process, World};

/// One way to the checkpoint, which may be cut.
#[derive(Debug)]
struct Way {
    checkpoint: Arc<MemoryBackend>,
    cut: AtomicBool,
}

impl Way {
    /// Whoever calls when it is cut waits for ever.
    async fn open(&self) {
        if self.cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Backend for Way {
    async fn run_id(&self) -> Result<String, BackendError> {
        self.open().await;
        self.checkpoint.run_id().await
    }

    async fn read(&self, keys: &[RecordKey]) -> Result<Snapshot, BackendError> {
        self.open().await;
        self.checkpoint.read(keys).await
    }

    async fn swap(&self, swap: Swap) -> Result<SwapAnswer, BackendError> {
        self.open().await;
        self.checkpoint.swap(swap).await
    }

    async fn scan(&self, prefix: &str, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Listed>, BackendError> {
        self.open().await;
        self.checkpoint.scan(prefix, after, limit).await
    }

    fn bell(&self) -> Bell {
        self.checkpoint.bell()
    }
}

/// When a worker sent its last write of a user's object.
fn last_write(world: &World, worker: &Process) -> Arc<Mutex<Timestamp>> {
    let last = Arc::new(Mutex::new(Timestamp::MIN));
    let (seen, env) = (Arc::clone(&last), world.env.clone());
    let note = Arc::new(move || -> BoxFuture<'static, ()> {
        *seen.lock().unwrap() = env.now();
        Box::pin(async {})
    });
    let writes = |call: &Call<'_>| call.operation == "UpdateObjectEncryption" && !call.key.starts_with('.');
    worker.faults.add(Rule::when(writes, Action::Before(note)));
    last
}

async fn lease_ends(world: &World, job: &JobId) -> Timestamp {
    let mut ends = Vec::new();
    for pass in &world.job(job).await.passes {
        for shard in world.ledger.shards(job, pass.id).await.unwrap() {
            ends.extend(match shard.state {
                ShardState::Leased { until, .. } => Some(until),
                _ => None,
            });
        }
    }
    ends.into_iter().max().expect("somebody works")
}

/// What a worker does whose writes are throttled and who is cut off from the checkpoint: it sends no write in the last
/// quarter of its lease, however often it would have sent one again, and whoever comes next finds all as it should be.
#[tokio::test(start_paused = true)]
async fn no_write_is_sent_towards_the_end_of_a_lease_that_cannot_be_renewed() {
    let world = World::new(41, 300).await;
    let coordinator = world.coordinator("c1");
    let way = Arc::new(Way { checkpoint: Arc::clone(&world.backend), cut: AtomicBool::new(false) });
    let ledger = Ledger::new(Arc::clone(&way) as Arc<dyn Backend>, world.env.clone());
    let worker = world.worker_over("w1", &[DEFAULT_STORE], Permits::new(6, Some(10.0)), ledger);
    let id = world.submit().await;
    world.until(&id, walking).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let last = last_write(&world, &worker);
    let throttled = Action::FailBefore(ErrorKind::Throttled);
    worker.faults.add(Rule::on("UpdateObjectEncryption", throttled));
    tokio::time::sleep(Duration::from_secs(1)).await;
    way.cut.store(true, Ordering::Relaxed);
    let ends = lease_ends(&world, &id).await;
    let cut_at = world.env.now();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let last = *last.lock().unwrap();
    assert!(last > cut_at + SignedDuration::from_secs(5), "it went on for a while: {last}, cut at {cut_at}");
    assert!(last <= ends - SignedDuration::from_secs(15), "a write at {last}, under a lease until {ends}");
    let other = world.worker("w2");
    world.completed(&id, 300).await;
    [worker, other, coordinator].iter().for_each(Process::kill);
}
