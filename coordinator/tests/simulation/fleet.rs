//! A fleet of one seed: what outlives its processes, and the processes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Ledger, LedgerError, MemoryBackend};
use keyrotate_coordinator::{Coordinator, CoordinatorConfig, TicketsOut};
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{BucketSettings, Mode, StoreModel};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::job;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::state::{JobState, StopReason};
use keyrotate_queue::MemoryQueue;
use keyrotate_report::root::BucketRoot;
use keyrotate_store::retry::{RetryPolicy, Retrying};
use keyrotate_store::wrap::fenced::Fenced;
use keyrotate_store::{Body, Guard, InPlace, NewObject, ObjectAt, PutRequest, Sse, Store, Upload, Written};
use keyrotate_worker::{Permits, Served, Site, SliceLimits, Worker, WorkerConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::oracle::{Wanted, Watch};
use crate::wire::{Life, Trace, Weather, Wire, WiredBackend, WiredQueue, WiredStore};

pub(crate) const BUCKET: &str = "bucket";

/// What a seed is about.
pub(crate) struct Fleet {
    pub(crate) dice: Dice,
    pub(crate) env: Env,
    pub(crate) model: StoreModel,
    pub(crate) kes: KesModel,
    pub(crate) reports: StoreModel,
    pub(crate) backend: Arc<MemoryBackend>,
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) watch: Arc<Watch>,
    wanted: Mutex<Wanted>,
    submitted: Mutex<Vec<(JobRecord, &'static str)>>,
    writes: Mutex<u64>,
    limits: SliceLimits,
    slots: usize,
    shards: usize,
    page: u32,
    /// Objects per second that a worker begins with.
    rate: f64,
}

/// A worker or a coordinator.
pub(crate) struct Process {
    pub(crate) name: String,
    /// Its clock.
    pub(crate) env: Env,
    pub(crate) wire: Wire,
    pub(crate) queue: WiredQueue,
    tasks: Vec<JoinHandle<()>>,
}

impl Process {
    /// Whatever it was about to send is never sent; what is on its way arrives.
    pub(crate) fn kill(&self) {
        self.wire.set(Life::Dead);
        self.tasks.iter().for_each(JoinHandle::abort);
        self.queue.cut();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn under_old_key() -> NewObject {
    let sse = Sse::Kms { key: Some(KeyName("key-a".into())), context: None, bucket_key: None };
    NewObject { sse, ..NewObject::default() }
}

impl Fleet {
    pub(crate) async fn new(seed: u64, tells: bool) -> Self {
        let dice = Dice::new(seed);
        let env = Env::seeded(seed, Timestamp::from_second(1_800_000_000).unwrap());
        let kes = KesModel::new(env.clone());
        for key in ["key-a", "key-b", "key-c"] {
            kes.create_key(key).await.unwrap();
        }
        let mode = match dice.index(4) {
            0 => Mode::aws(),
            1 => Mode { update_encryption: false, ..Mode::aws() },
            _ => Mode::minio(),
        };
        let model = StoreModel::new(Mode { min_part: 2000, ..mode }, Arc::new(kes.clone()), env.clone());
        let settings = if dice.one_in(3) { BucketSettings::versioned() } else { BucketSettings::plain() };
        model.create_bucket(BUCKET, settings).unwrap();
        let theirs = StoreModel::new(Mode::aws(), Arc::new(KesModel::new(env.clone())), env.clone());
        theirs.create_bucket("reports", BucketSettings::plain()).unwrap();
        let limits = SliceLimits {
            window_rows: usize::try_from(dice.between(2, 9)).unwrap(),
            window_time: Duration::from_millis(dice.between(50, 2000)),
            slice_time: Duration::from_secs(dice.between(10, 60)),
            tasks: usize::try_from(dice.between(2, 9)).unwrap(),
            ..SliceLimits::default()
        };
        let fleet = Self {
            backend: Arc::new(MemoryBackend::new(env.clone())),
            queue: Arc::new(MemoryQueue::new(64)),
            weather: Arc::new(Weather::default()),
            trace: Arc::new(Trace::new(tells)),
            watch: Arc::new(Watch::default()),
            wanted: Mutex::default(),
            submitted: Mutex::default(),
            writes: Mutex::new(0),
            slots: usize::try_from(dice.between(1, 4)).unwrap(),
            shards: usize::try_from(dice.between(1, 5)).unwrap(),
            page: [5, 10, 1000][dice.index(3)],
            rate: [2.0, 5.0, 20.0, 100.0][dice.index(4)],
            reports: theirs,
            dice,
            env,
            model,
            kes,
            limits,
        };
        fleet.weather.slow.store(fleet.dice.between(1_000, 200_000), Ordering::Relaxed);
        for n in 0..fleet.dice.between(8, 40) {
            let key = format!("{:04}", n * 7);
            if fleet.dice.one_in(4) {
                fleet.put_in_parts(&key).await;
            } else {
                fleet.put(&key, false).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        fleet
    }

    pub(crate) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        *writes += 1;
        *writes
    }

    /// Somebody puts an object, whose body says the how many-th write it is.
    pub(crate) async fn put(&self, key: &str, meanwhile: bool) {
        let body = format!("write {}", self.number()).into_bytes();
        let at = ObjectAt::current(BUCKET, key);
        let request = PutRequest { at, new: under_old_key(), guard: Guard::None, place: InPlace::default() };
        let written = self.model.put(request, Body::Bytes(body.clone().into())).await.unwrap();
        self.is_wanted(key, written, body, meanwhile);
    }

    /// Somebody uploads an object in two parts, before anything else happens.
    async fn put_in_parts(&self, key: &str) {
        let parts = [vec![b'a'; 2000], format!("write {}", self.number()).into_bytes()];
        let at = ObjectAt::current(BUCKET, key);
        let id = self.model.create_upload(&at, &under_old_key(), &InPlace::default()).await.unwrap();
        let upload = Upload { bucket: BUCKET.into(), key: key.into(), id };
        let mut done = Vec::new();
        for (number, part) in (1..).zip(&parts) {
            let body = Body::Bytes(part.clone().into());
            done.push(self.model.upload_part(&upload, number, body, None).await.unwrap());
        }
        let ended = self.model.complete_upload(&upload, &done, &Guard::None, &InPlace::default()).await;
        self.is_wanted(key, ended.unwrap(), parts.concat(), false);
    }

    fn is_wanted(&self, key: &str, written: Written, body: Vec<u8>, meanwhile: bool) {
        let mut wanted = self.wanted();
        if let Some(version) = written.version.filter(|_| self.keeps_versions()) {
            wanted.versions.push((key.to_owned(), version, body.clone()));
        }
        wanted.bodies.insert(key.to_owned(), Some(body));
        if meanwhile {
            wanted.touched.insert(key.to_owned());
        }
    }

    /// Somebody deletes an object.
    pub(crate) fn delete(&self, key: &str) {
        self.model.delete_object(&ObjectAt::current(BUCKET, key)).unwrap();
        let mut wanted = self.wanted();
        wanted.bodies.insert(key.to_owned(), None);
        wanted.touched.insert(key.to_owned());
    }

    pub(crate) fn keeps_versions(&self) -> bool {
        self.model.settings(BUCKET).unwrap().versioning.has_versions()
    }

    /// A way to the checkpoint that nothing is lost on.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(self.backend.clone(), self.env.clone())
    }

    /// A job to this key.
    pub(crate) async fn submit(&self, key: &'static str) -> Result<JobId, LedgerError> {
        let number = u8::try_from(self.submitted().len() + 1).unwrap();
        let text = format!(
            "keyrotate: {{apiVersion: v1, bucket: {BUCKET}, encryption: {{key: {key}}}, options: {{pauseLimit: 20h}}}}"
        );
        let spec = job::parse(text.as_bytes(), "job.yaml").unwrap().spec;
        let id = JobId::new(u64::from(number), [number; 10]);
        let store = self.model.identity().0.clone();
        let record = JobRecord::new(id.clone(), spec, store, Nonce(format!("n{number}")), "me".into(), self.env.now());
        self.ledger().begin_job(record.clone()).await?;
        self.submitted.lock().unwrap_or_else(PoisonError::into_inner).push((record, key));
        Ok(id)
    }

    /// A job that the checkpoint has forgotten is taken up as it was submitted, and resumed.
    pub(crate) async fn take_up(&self, id: &JobId) -> Result<(), LedgerError> {
        let submitted = self.submitted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (job, _) = submitted.into_iter().find(|(job, _)| job.id == *id).unwrap();
        let state = JobState::Failed { reason: StopReason::Lost, detail: String::new() };
        self.ledger().reinstate(&JobRecord { state, ..job }).await?;
        self.ledger().resume_job(id).await.map(drop)
    }

    /// All jobs that were ever submitted, and to which keys.
    pub(crate) fn submitted(&self) -> Vec<(JobId, &'static str)> {
        let submitted = self.submitted.lock().unwrap_or_else(PoisonError::into_inner);
        submitted.iter().map(|(job, key)| (job.id.clone(), *key)).collect()
    }

    pub(crate) fn coordinator(&self, name: &str) -> Process {
        let wire = self.wire(name);
        let queue = WiredQueue::new(wire.clone(), Arc::clone(&self.queue));
        let config = CoordinatorConfig {
            shards: self.shards,
            tickets_out: TicketsOut::TwiceTheSlots,
            tick: Duration::from_secs(2),
            ..Default::default()
        };
        let env = self.process_env();
        let (ledger, reports) = (self.ledger_by(&wire, env.clone()), self.reports_by(&wire));
        let coordinator = Coordinator::new(ledger, Arc::new(queue.clone()), Arc::new(reports), config);
        let owner = name.to_owned();
        let run = async move { coordinator.run_among_others(&owner, CancellationToken::new()).await };
        Process { name: name.to_owned(), env, wire, queue, tasks: vec![tokio::spawn(run)] }
    }

    pub(crate) fn worker(&self, name: &str) -> Process {
        let (wire, env) = (self.wire(name), self.process_env());
        let store = WiredStore { wire: wire.clone(), page: self.page, model: self.model.clone() };
        let store = Retrying::new(Fenced::new(store), RetryPolicy::default(), env.clone());
        let queue = WiredQueue::new(wire.clone(), Arc::clone(&self.queue));
        let site = Site {
            stores: BTreeMap::from([(keyrotate_queue::DEFAULT_STORE.to_owned(), Served::from(store))]),
            kms: Some(Arc::new(self.kes.clone()) as Arc<dyn Kms>),
            reports: Arc::new(self.reports_by(&wire)),
            ledger: self.ledger_by(&wire, env.clone()),
            queue: Arc::new(queue.clone()),
        };
        let config = WorkerConfig {
            owner: name.into(),
            slots: self.slots,
            permits: Permits::new(6, Some(self.rate)),
            limits: self.limits.clone(),
            probe_part: 2000,
            default_key: None,
            confirmed: true,
            local_files: false,
        };
        let worker = Arc::new(Worker::new(site, config, env.clone()));
        let (announcing, working) = (Arc::clone(&worker), worker);
        let announce = tokio::spawn(async move { announcing.announce(CancellationToken::new()).await });
        let work = tokio::spawn(async move { working.run(CancellationToken::new()).await.unwrap() });
        Process { name: name.to_owned(), env, wire, queue, tasks: vec![announce, work] }
    }

    fn wire(&self, name: &str) -> Wire {
        Wire::new(name, self.dice.fork(), Arc::clone(&self.weather), Arc::clone(&self.trace))
    }

    /// A process's own chance, and its own clock, which may be off by some minutes.
    fn process_env(&self) -> Env {
        let off = SignedDuration::from_secs(i64::try_from(self.dice.between(0, 400)).unwrap_or(0) - 200);
        let off = if self.dice.one_in(4) { off } else { SignedDuration::ZERO };
        Env::seeded(self.dice.between(0, u64::MAX), self.env.now() + off)
    }

    fn ledger_by(&self, wire: &Wire, env: Env) -> Ledger {
        let (wire, backend, watch) = (wire.clone(), Arc::clone(&self.backend), Arc::clone(&self.watch));
        Ledger::new(Arc::new(WiredBackend { wire, backend, watch }), env)
    }

    fn reports_by(&self, wire: &Wire) -> BucketRoot {
        let store = WiredStore { wire: wire.clone(), page: 1000, model: self.reports.clone() };
        let env = Env::seeded(self.dice.between(0, u64::MAX), self.env.now());
        let store = Retrying::new(store, RetryPolicy::default(), env);
        BucketRoot::new(Arc::new(store), "reports", "keyrotate/")
    }
}
