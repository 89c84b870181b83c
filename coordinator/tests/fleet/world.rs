//! Coordinators and workers in one process, and what outlives them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_checkpoint::record::{JobRecord, ShardRecord};
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_coordinator::{Coordinator, CoordinatorConfig, TicketsOut};
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{BucketSettings, Faults, Faulty, Mode, StoreModel};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::job;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::state::{JobState, PassKind};
use keyrotate_queue::{DEFAULT_STORE, MemoryQueue};
use keyrotate_report::ReportRoot as _;
use keyrotate_report::finish::Manifest;
use keyrotate_report::root::BucketRoot;
use keyrotate_report::rows::LastRows;
use keyrotate_store::retry::{RetryPolicy, Retrying};
use keyrotate_store::wrap::fenced::Fenced;
use keyrotate_store::{Body, Guard, InPlace, NewObject, ObjectAt, PutRequest, Sse, Store, Upload};
use keyrotate_worker::{Permits, Served, Site, SliceLimits, StoreLimits, Worker, WorkerConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) store: StoreModel,
    /// What its workers are told to take of it.
    pub(crate) store_limits: StoreLimits,
    pub(crate) kes: KesModel,
    pub(crate) backend: Arc<MemoryBackend>,
    pub(crate) ledger: Ledger,
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) reports: Arc<BucketRoot>,
}

/// A coordinator or a worker; aborted, it is killed.
pub(crate) struct Process {
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    /// What happens to the calls of a worker.
    pub(crate) faults: Faults,
    worker: Option<Arc<Worker>>,
}

impl Process {
    pub(crate) fn kill(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }

    /// How many calls this worker makes at a time at most, at present.
    pub(crate) fn level(&self) -> usize {
        self.worker.as_ref().unwrap().calls_at_a_time()[DEFAULT_STORE]
    }
}

impl World {
    pub(crate) async fn new(seed: u64, objects: usize) -> Self {
        Self::on(Mode::aws(), seed, objects).await
    }

    /// On a store where each rotation writes a new version.
    pub(crate) async fn without_update_encryption(seed: u64, objects: usize) -> Self {
        Self::on(Mode { update_encryption: false, ..Mode::aws() }, seed, objects).await
    }

    /// On a store of a kind; each object has a tag.
    pub(crate) async fn on(mode: Mode, seed: u64, objects: usize) -> Self {
        let env = Env::seeded(seed, Timestamp::from_second(1_800_000_000).unwrap());
        let kes = KesModel::new(env.clone());
        for key in ["key-a", "key-b"] {
            kes.create_key(key).await.unwrap();
        }
        let mode = Mode { min_part: 2000, ..mode };
        let store = StoreModel::new(mode, Arc::new(kes.clone()), env.clone());
        for (bucket, n) in
            ["bucket", "other-bucket"].into_iter().flat_map(|bucket| (0..objects).map(move |n| (bucket, n)))
        {
            if n == 0 {
                store.create_bucket(bucket, BucketSettings::plain()).unwrap();
            }
            let sse = Sse::Kms { key: Some(KeyName("key-a".into())), context: None, bucket_key: None };
            let tags = vec![("team".to_owned(), "billing".to_owned())];
            let new = NewObject { sse, tags, ..NewObject::default() };
            let at = ObjectAt::current(bucket, format!("{n:05}"));
            let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
            store.put(request, Body::Bytes(b"a body"[..].into())).await.unwrap();
        }
        let backend = Arc::new(MemoryBackend::new(env.clone()));
        let ledger = Ledger::new(backend.clone(), env.clone());
        tokio::time::sleep(Duration::from_secs(60)).await;
        // Another store, with a KMS of its own.
        let theirs = StoreModel::new(Mode::aws(), Arc::new(KesModel::new(env.clone())), env.clone());
        theirs.create_bucket("reports", BucketSettings::plain()).unwrap();
        let reports = Arc::new(BucketRoot::new(Arc::new(theirs), "reports", "keyrotate/"));
        let queue = Arc::new(MemoryQueue::new(64));
        Self { env, store, store_limits: StoreLimits::default(), kes, backend, ledger, queue, reports }
    }

    /// Somebody uploads an object in two parts.
    pub(crate) async fn put_in_parts(&self, key: &str) {
        let sse = Sse::Kms { key: Some(KeyName("key-a".into())), context: None, bucket_key: None };
        let (at, new) = (ObjectAt::current("bucket", key), NewObject { sse, ..NewObject::default() });
        let id = self.store.create_upload(&at, &new, &InPlace::default()).await.unwrap();
        let upload = Upload { bucket: at.bucket, key: at.key, id };
        let mut parts = Vec::new();
        for number in 1..=2 {
            let part = Body::Bytes(vec![b'a'; 2000].into());
            parts.push(self.store.upload_part(&upload, number, part, None).await.unwrap());
        }
        self.store.complete_upload(&upload, &parts, &Guard::None, &InPlace::default()).await.unwrap();
    }

    pub(crate) async fn submit(&self) -> JobId {
        self.submit_with("pauseLimit: 10m").await
    }

    pub(crate) async fn submit_with(&self, options: &str) -> JobId {
        self.submit_to("bucket", DEFAULT_STORE, options).await
    }

    /// A job on a bucket that the fleet knows to be in this store.
    pub(crate) async fn submit_to(&self, bucket: &str, store_name: &str, options: &str) -> JobId {
        let name = u8::try_from(bucket.len()).unwrap();
        let store = &self.store.identity().0;
        self.begin(&format!("bucket: {bucket}, options: {{{options}}}"), store_name, store, name).await
    }

    /// A dry run on everything.
    pub(crate) async fn submit_dry(&self) -> JobId {
        let store = &self.store.identity().0;
        let begun = self.record("bucket: bucket", DEFAULT_STORE, store, 77);
        let (id, dry) = (begun.id.clone(), JobRecord { dry_run: true, ..begun });
        self.ledger.begin_job(dry).await.unwrap();
        id
    }

    /// A dry run that looks at every object.
    pub(crate) async fn submit_full(&self, options: &str) -> JobId {
        let store = &self.store.identity().0;
        let begun = self.record(&format!("bucket: bucket, options: {{{options}}}"), DEFAULT_STORE, store, 78);
        let (id, dry) = (begun.id.clone(), JobRecord { dry_run: true, full: true, ..begun });
        self.ledger.begin_job(dry).await.unwrap();
        id
    }

    /// A job on a store that is not this one, whatever the fleet calls it.
    pub(crate) async fn submit_elsewhere(&self, store: &str) -> JobId {
        self.begin("bucket: bucket", DEFAULT_STORE, store, 1).await
    }

    /// A job on the keys that begin so.
    pub(crate) async fn submit_on(&self, prefix: &str, name: u8) -> JobId {
        let store = &self.store.identity().0;
        self.begin(&format!("bucket: bucket, prefix: '{prefix}'"), DEFAULT_STORE, store, name).await
    }

    async fn begin(&self, what: &str, store_name: &str, store: &str, name: u8) -> JobId {
        let record = self.record(what, store_name, store, name);
        let id = record.id.clone();
        self.ledger.begin_job(record).await.unwrap();
        id
    }

    fn record(&self, what: &str, store_name: &str, store: &str, name: u8) -> JobRecord {
        let text = format!("keyrotate: {{apiVersion: v1, {what}, encryption: {{key: key-b}}}}");
        let spec = job::parse(text.as_bytes(), "job.yaml").unwrap().spec;
        let id = JobId::new(1, [name; 10]);
        let now = self.env.now();
        let record = JobRecord::new(id, spec, store.to_owned(), Nonce("n".into()), "me".into(), now);
        JobRecord { store_name: store_name.to_owned(), ..record }
    }

    pub(crate) fn coordinator(&self, name: &str) -> Process {
        self.coordinator_with(name, self.settings())
    }

    pub(crate) fn settings(&self) -> CoordinatorConfig {
        CoordinatorConfig { shards: 8, tickets_out: TicketsOut::TwiceTheSlots, ..Default::default() }
    }

    pub(crate) fn coordinator_with(&self, name: &str, config: CoordinatorConfig) -> Process {
        let coordinator = Coordinator::new(self.ledger.clone(), self.queue.clone(), self.reports.clone(), config);
        let (name, stop) = (name.to_owned(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { coordinator.run_among_others(&name, stopped).await });
        Process { tasks: vec![task], stop, faults: Faults::default(), worker: None }
    }

    pub(crate) fn worker(&self, name: &str) -> Process {
        self.worker_at(name, Some(50.0))
    }

    pub(crate) fn worker_at(&self, name: &str, rate: Option<f64>) -> Process {
        self.worker_of(name, &[DEFAULT_STORE], Permits::new(6, rate))
    }

    /// A worker that serves these stores, which are all the same one.
    pub(crate) fn worker_of(&self, name: &str, stores: &[&str], permits: Permits) -> Process {
        self.worker_over(name, stores, permits, self.ledger.clone())
    }

    /// The same with a way of its own to the checkpoint.
    pub(crate) fn worker_over(&self, name: &str, stores: &[&str], permits: Permits, ledger: Ledger) -> Process {
        let faulty = Faulty::new(self.store.clone());
        let faults = faulty.faults().clone();
        let store = Retrying::new(Fenced::new(faulty), RetryPolicy::default(), self.env.clone());
        let served = Served { limits: self.store_limits, ..Served::from(store) };
        let site = Site {
            stores: stores.iter().map(|name| ((*name).to_owned(), served.clone())).collect(),
            kms: Some(Arc::new(self.kes.clone()) as Arc<dyn Kms>),
            reports: self.reports.clone(),
            ledger,
            queue: self.queue.clone(),
        };
        let config = WorkerConfig {
            owner: name.into(),
            slots: 2,
            permits,
            limits: SliceLimits { window_time: Duration::from_millis(200), ..SliceLimits::default() },
            probe_part: 2000,
            default_key: None,
            confirmed: true,
            local_files: false,
        };
        let worker = Arc::new(Worker::new(site, config, self.env.clone()));
        let stop = CancellationToken::new();
        let (announcing, stopped) = (Arc::clone(&worker), stop.clone());
        let announce = tokio::spawn(async move { announcing.announce(stopped).await });
        let stopped = stop.clone();
        let (working, stopped) = (Arc::clone(&worker), stopped);
        let work = tokio::spawn(async move { working.run(stopped).await.unwrap() });
        Process { tasks: vec![announce, work], stop, faults, worker: Some(worker) }
    }

    pub(crate) async fn job(&self, id: &JobId) -> JobRecord {
        self.ledger.job(id).await.unwrap()
    }

    /// The shards of all passes of a job.
    pub(crate) async fn shards(&self, id: &JobId) -> Vec<(PassKind, ShardRecord)> {
        let mut all = Vec::new();
        for pass in &self.job(id).await.passes {
            let shards = self.ledger.shards(id, pass.id).await.unwrap();
            all.extend(shards.into_iter().map(|shard| (pass.kind, shard)));
        }
        all
    }

    pub(crate) async fn until(&self, id: &JobId, what: impl Fn(&JobRecord) -> bool) -> JobRecord {
        for _ in 0..36_000 {
            let job = self.job(id).await;
            if what(&job) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it never came to that: {:?}", self.job(id).await);
    }

    pub(crate) async fn completed(&self, id: &JobId, objects: u64) {
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

    /// What has an outcome so far.
    pub(crate) async fn scanned(&self, id: &JobId) -> u64 {
        self.shards(id).await.iter().map(|(_, shard)| shard.counts.scanned()).sum()
    }

    /// How many rows a job's report has, and the keys that they are of.
    pub(crate) async fn reported(&self, id: &JobId) -> (u64, BTreeSet<String>) {
        let (reports, name) = (self.reports.of(id).unwrap(), self.job(id).await.result.unwrap().report.unwrap());
        let manifest = Manifest::read(reports.as_ref(), &name).await.unwrap();
        let rows = manifest.report.iter().map(|file| file.rows).sum();
        let whole = KeyRange { start: String::new(), end: None };
        let (mut last, mut keys) = (LastRows::open(reports, manifest.passes(), whole), BTreeSet::new());
        while let Some(found) = last.next_key().await.unwrap() {
            keys.extend(found.rows.into_iter().map(|last| last.row.key));
        }
        (rows, keys)
    }
}
