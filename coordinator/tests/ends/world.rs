//! One bucket on the store model, and processes that come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_coordinator::{Coordinator, CoordinatorConfig};
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{Action, BucketSettings, Faulty, Mode, Rule, StoreModel};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::job;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::state::PassKind;
use keyrotate_queue::MemoryQueue;
use keyrotate_report::finish::Summary;
use keyrotate_report::{MemoryStore, ReportError, ReportRoot, ReportStore};
use keyrotate_store::{Body, ErrorKind, Guard, InPlace, NewObject, ObjectAt, PutRequest, Sse, Store};
use keyrotate_worker::{Site, SliceLimits, Worker, WorkerConfig};
use tokio_util::sync::CancellationToken;

pub(crate) const BUCKET: &str = "bucket";

/// A report per job.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<BTreeMap<JobId, Arc<MemoryStore>>>, Arc<MemoryStore>);

impl ReportRoot for Reports {
    fn of(&self, job: &JobId) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(Arc::clone(self.0.lock().unwrap().entry(job.clone()).or_default()) as Arc<dyn ReportStore>)
    }

    fn own(&self) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(Arc::clone(&self.1) as Arc<dyn ReportStore>)
    }
}

/// What outlives a process.
pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) store: Faulty<StoreModel>,
    pub(crate) kes: KesModel,
    pub(crate) ledger: Ledger,
    pub(crate) reports: Arc<Reports>,
    pub(crate) with_kes: bool,
    /// Where the jobs that begin now make their probes.
    pub(crate) probe_prefix: &'static str,
}

impl World {
    pub(crate) async fn new(mode: Mode, settings: BucketSettings) -> Self {
        let env = Env::seeded(7, Timestamp::from_second(1_800_000_000).unwrap());
        let kes = KesModel::new(env.clone());
        for key in ["key-a", "key-b"] {
            kes.create_key(key).await.unwrap();
        }
        let mode = Mode { min_part: 2000, ..mode };
        let model = StoreModel::new(mode, Arc::new(kes.clone()), env.clone());
        model.create_bucket(BUCKET, settings).unwrap();
        let ledger = Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone());
        Self {
            env,
            store: Faulty::new(model),
            kes,
            ledger,
            reports: Arc::default(),
            with_kes: true,
            probe_prefix: ".keyrotate/",
        }
    }

    /// Another installation on the same bucket, with a checkpoint of its own: neither knows of the other.
    pub(crate) fn another(&self) -> Self {
        Self {
            env: self.env.clone(),
            store: Faulty::new(self.store.store().clone()),
            kes: self.kes.clone(),
            ledger: Ledger::new(Arc::new(MemoryBackend::new(self.env.clone())), self.env.clone()),
            reports: Arc::default(),
            with_kes: self.with_kes,
            probe_prefix: self.probe_prefix,
        }
    }

    /// Puts objects under the old key.
    pub(crate) async fn put_old(&self, keys: &[&str]) {
        for key in keys {
            let sse = Sse::Kms { key: Some(KeyName("key-a".into())), context: None, bucket_key: None };
            let new = NewObject { sse, ..NewObject::default() };
            let at = ObjectAt::current(BUCKET, *key);
            let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
            self.store.put(request, Body::Bytes(b"a body"[..].into())).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    pub(crate) async fn begin(&self, n: u8, more: &str) -> JobId {
        let text = format!("keyrotate: {{apiVersion: v1, bucket: bucket, encryption: {{key: key-b}}{more}}}");
        let spec = job::parse(text.as_bytes(), "job.yaml").unwrap().spec;
        let id = JobId::new(u64::from(n), [n; 10]);
        let place = self.store.identity().0.clone();
        let mut record = JobRecord::new(id.clone(), spec, place, Nonce("n".into()), String::new(), self.env.now());
        record.probes.prefix = self.probe_prefix.into();
        self.ledger.begin_job(record).await.unwrap();
        id
    }

    /// A process for `only` works until `done`, or for an hour; then it is gone.
    pub(crate) async fn work(&self, only: Option<&JobId>, done: impl AsyncFn() -> bool) {
        let queue = Arc::new(MemoryQueue::new(64));
        let site = Site {
            stores: Site::one_store(Arc::new(self.store.clone())),
            kms: self.with_kes.then(|| Arc::new(self.kes.clone()) as Arc<dyn Kms>),
            reports: self.reports.clone(),
            ledger: self.ledger.clone(),
            queue: queue.clone(),
        };
        let config = WorkerConfig {
            owner: "worker".into(),
            slots: 2,
            permits: keyrotate_worker::Permits::new(6, None),
            limits: SliceLimits { window_time: Duration::from_millis(200), ..SliceLimits::default() },
            probe_part: 2000,
            default_key: None,
            confirmed: true,
            local_files: false,
        };
        let worker = Worker::new(site, config, self.env.clone());
        let config = CoordinatorConfig {
            shards: 2,
            tick: Duration::from_millis(200),
            only: only.cloned(),
            ..CoordinatorConfig::default()
        };
        let coordinator = Coordinator::new(self.ledger.clone(), queue, self.reports.clone(), config);
        let stop = CancellationToken::new();
        let coordinator = tokio::spawn(coordinator.run(stop.clone()));
        let worker = tokio::spawn(async move { worker.run(stop).await });
        // Heard before the coordinator acts, which waits a moment after a ring.
        let mut bell = self.ledger.bell();
        let end = tokio::time::Instant::now() + Duration::from_secs(3600);
        while tokio::time::Instant::now() < end && !done().await {
            assert!(!worker.is_finished() && !coordinator.is_finished(), "a part of it ended by itself");
            tokio::select! {
                () = bell.rung() => {}
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
        worker.abort();
        coordinator.abort();
    }

    pub(crate) async fn run(&self, id: &JobId) -> JobRecord {
        self.work(Some(id), async || self.job(id).await.state.is_ended()).await;
        self.job(id).await
    }

    pub(crate) async fn job(&self, id: &JobId) -> JobRecord {
        self.ledger.job(id).await.unwrap()
    }

    pub(crate) async fn summary(&self, id: &JobId) -> Summary {
        serde_json::from_slice(&self.reports.of(id).unwrap().get("summary.json").await.unwrap()).unwrap()
    }

    pub(crate) fn fail(&self, operation: &'static str, key: &str, kind: ErrorKind) -> Rule {
        Rule::on(operation, Action::FailBefore(kind)).of_key(key)
    }
}

pub(crate) fn passes(job: &JobRecord, kind: PassKind) -> usize {
    job.passes.iter().filter(|pass| pass.kind == kind).count()
}
