//! A fleet in one process: coordinators and workers that know nothing of each other but checkpoint, queue, reports.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_coordinator::{Coordinator, CoordinatorConfig, TicketsOut};
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{BucketSettings, Mode, StoreModel};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::job;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::state::{JobState, PassKind, PauseReason};
use keyrotate_queue::MemoryQueue;
use keyrotate_report::root::BucketRoot;
use keyrotate_store::{Body, Guard, InPlace, NewObject, ObjectAt, PutRequest, Sse, Store};
use keyrotate_worker::{Permits, Site, SliceLimits, Worker, WorkerConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct World {
    env: Env,
    store: StoreModel,
    kes: KesModel,
    backend: Arc<MemoryBackend>,
    ledger: Ledger,
    queue: Arc<MemoryQueue>,
    reports: Arc<BucketRoot>,
}

/// A coordinator or a worker; aborted, it is killed.
struct Process {
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Process {
    fn kill(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

impl World {
    async fn new(seed: u64, objects: usize) -> Self {
        let env = Env::seeded(seed, Timestamp::from_second(1_800_000_000).unwrap());
        let kes = KesModel::new(env.clone());
        for key in ["key-a", "key-b"] {
            kes.create_key(key).await.unwrap();
        }
        let mode = Mode { min_part: 2000, ..Mode::aws() };
        let store = StoreModel::new(mode, Arc::new(kes.clone()), env.clone());
        store.create_bucket("bucket", BucketSettings::plain()).unwrap();
        for n in 0..objects {
            let sse = Sse::Kms { key: Some(KeyName("key-a".into())), context: None, bucket_key: None };
            let new = NewObject { sse, ..NewObject::default() };
            let at = ObjectAt::current("bucket", format!("{n:05}"));
            let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
            store.put(request, Body::Bytes(b"a body"[..].into())).await.unwrap();
        }
        let backend = Arc::new(MemoryBackend::new(env.clone()));
        let ledger = Ledger::new(backend.clone(), env.clone());
        tokio::time::sleep(Duration::from_secs(60)).await;
        store.create_bucket("reports", BucketSettings::plain()).unwrap();
        let reports = Arc::new(BucketRoot::new(Arc::new(store.clone()), "reports", "keyrotate/"));
        let queue = Arc::new(MemoryQueue::new(64));
        Self { env, store, kes, backend, ledger, queue, reports }
    }

    async fn submit(&self) -> JobId {
        self.submit_with("pauseLimit: 10m").await
    }

    async fn submit_with(&self, options: &str) -> JobId {
        let text = format!(
            "keyrotate: {{apiVersion: v1, bucket: bucket, encryption: {{key: key-b}}, options: {{{options}}}}}"
        );
        let spec = job::parse(text.as_bytes(), "job.yaml").unwrap().spec;
        let id = JobId::new(1, [1; 10]);
        let now = self.env.now();
        let record = JobRecord::new(id.clone(), spec, "model".into(), Nonce("n".into()), "me".into(), now);
        self.ledger.begin_job(record).await.unwrap();
        id
    }

    fn coordinator(&self, name: &str) -> Process {
        let config = CoordinatorConfig { shards: 8, tickets_out: TicketsOut::TwiceTheSlots, ..Default::default() };
        let coordinator = Coordinator::new(self.ledger.clone(), self.queue.clone(), self.reports.clone(), config);
        let (name, stop) = (name.to_owned(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { coordinator.run_among_others(&name, stopped).await });
        Process { tasks: vec![task], stop }
    }

    fn worker(&self, name: &str) -> Process {
        self.worker_at(name, Some(50.0))
    }

    fn worker_at(&self, name: &str, rate: Option<f64>) -> Process {
        let site = Site {
            stores: Site::one_store(Arc::new(self.store.clone())),
            kms: Some(Arc::new(self.kes.clone()) as Arc<dyn Kms>),
            reports: self.reports.clone(),
            ledger: self.ledger.clone(),
            queue: self.queue.clone(),
        };
        let config = WorkerConfig {
            owner: name.into(),
            slots: 2,
            permits: Permits::new(6, rate),
            limits: SliceLimits { window_time: Duration::from_millis(200), ..SliceLimits::default() },
            probe_part: 2000,
            default_key: None,
            confirmed: true,
        };
        let worker = Arc::new(Worker::new(site, config, self.env.clone()));
        let stop = CancellationToken::new();
        let (announcing, stopped) = (Arc::clone(&worker), stop.clone());
        let announce = tokio::spawn(async move { announcing.announce(stopped).await });
        let stopped = stop.clone();
        let work = tokio::spawn(async move { worker.run(stopped).await.unwrap() });
        Process { tasks: vec![announce, work], stop }
    }

    async fn job(&self, id: &JobId) -> JobRecord {
        self.ledger.job(id).await.unwrap()
    }

    async fn until(&self, id: &JobId, what: impl Fn(&JobRecord) -> bool) -> JobRecord {
        for _ in 0..36_000 {
            let job = self.job(id).await;
            if what(&job) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it never came to that: {:?}", self.job(id).await);
    }

    async fn completed(&self, id: &JobId, objects: u64) {
        let job = self.until(id, |job| job.state.is_ended()).await;
        assert_eq!(job.state, JobState::Completed);
        let counts = job.result.unwrap().counts;
        assert_eq!(counts.scanned(), objects, "{counts:?}");
        let right = |(outcome, n): (&Outcome, &u64)| match outcome {
            Outcome::Rotated(_) | Outcome::Current => *n,
            _ => 0,
        };
        assert_eq!(counts.by_outcome.iter().map(right).sum::<u64>(), objects);
    }
}

fn walking(job: &JobRecord) -> bool {
    job.passes.iter().any(|pass| pass.kind == PassKind::Walk)
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_on_over_killed_workers_and_leaders() {
    for seed in 0..4 {
        let world = World::new(seed, 300).await;
        let coordinators = [world.coordinator("c1"), world.coordinator("c2")];
        let workers = [world.worker("w1"), world.worker("w2"), world.worker("w3")];
        let id = world.submit().await;
        world.until(&id, walking).await;
        workers[0].kill();
        let leader = world.ledger.leader().await.unwrap().unwrap().owner;
        coordinators[usize::from(leader == "c2")].kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let added = world.worker("w4");
        world.completed(&id, 300).await;
        assert_ne!(world.ledger.leader().await.unwrap().unwrap().owner, leader);
        added.kill();
        coordinators.iter().chain(&workers).for_each(Process::kill);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_checkpoint_costs_the_windows_in_flight() {
    let world = World::new(11, 300).await;
    let fleet = [world.coordinator("c1"), world.worker("w1"), world.worker("w2")];
    let id = world.submit().await;
    let before = world.until(&id, walking).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    world.backend.restart();
    let after = world.until(&id, |job| job.nonce != before.nonce).await;
    assert_ne!(after.run, before.run);
    world.completed(&id, 300).await;
    fleet.iter().for_each(Process::kill);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_nobody_serves_is_paused_and_goes_on_by_itself() {
    let world = World::new(12, 20).await;
    let coordinator = world.coordinator("c1");
    let id = world.submit().await;
    let paused = |job: &JobRecord| matches!(&job.state, JobState::Paused { reason: PauseReason::NoWorker, .. });
    let job = world.until(&id, paused).await;
    let JobState::Paused { detail, .. } = &job.state else { panic!("not paused") };
    assert_eq!(detail, "no worker serves default");
    // For as long as it takes: no probe could end it, so that `pauseLimit` does not count.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(paused(&world.job(&id).await));
    let worker = world.worker("w1");
    world.completed(&id, 20).await;
    worker.stop().await;
    assert_eq!(world.ledger.workers().await.unwrap(), []);
    coordinator.stop().await;
    assert!(world.ledger.lead("c2", Duration::from_secs(1)).await.unwrap().is_some(), "it did not make room");
}

#[tokio::test(start_paused = true)]
async fn a_jobs_rate_holds_over_all_workers() {
    let world = World::new(13, 200).await;
    let fleet = ["w1", "w2", "w3"].map(|name| world.worker_at(name, None));
    let coordinator = world.coordinator("c1");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let id = world.submit_with("rate: 20").await;
    world.until(&id, walking).await;
    let began = world.env.now();
    world.completed(&id, 200).await;
    let took = world.env.now().duration_since(began).as_secs();
    // The first of each slice goes at once.
    assert!((8..120).contains(&took), "200 objects at 20 a second took {took} s");
    fleet.iter().chain([&coordinator]).for_each(Process::kill);
}
