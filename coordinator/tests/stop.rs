//! What must stop a job stops its writes at once, in every slot: a store that forgets `UpdateObjectEncryption` in the
//! middle of a job destroys no more objects than calls were in flight.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

use std::sync::Arc;
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
use keyrotate_proto::state::{JobState, StopReason};
use keyrotate_queue::MemoryQueue;
use keyrotate_report::{MemoryStore, ReportError, ReportRoot, ReportStore};
use keyrotate_store::{Body, GetRequest, Guard, InPlace, NewObject, ObjectAt, PutRequest, Sse, Store};
use keyrotate_worker::{Permits, Site, SliceLimits, Worker, WorkerConfig};
use tokio_util::sync::CancellationToken;

const BUCKET: &str = "bucket";
const OBJECTS: usize = 500;
const PERMITS: usize = 64;
const BODY: &[u8] = b"the body of a user, who would miss it";
const JOB: &str =
    "keyrotate: {apiVersion: v1, bucket: bucket, encryption: {key: key-b}, flags: {filter: {kmskey: key-a}}}";

#[derive(Debug)]
struct OneReport(Arc<MemoryStore>);

impl ReportRoot for OneReport {
    fn of(&self, _job: &JobId) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(Arc::clone(&self.0) as Arc<dyn ReportStore>)
    }

    fn own(&self) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(Arc::clone(&self.0) as Arc<dyn ReportStore>)
    }
}

async fn bucket(env: &Env) -> (StoreModel, KesModel) {
    let kes = KesModel::new(env.clone());
    for key in ["key-a", "key-b"] {
        kes.create_key(key).await.unwrap();
    }
    let mode = Mode { min_part: 2000, ..Mode::aws() };
    let model = StoreModel::new(mode, Arc::new(kes.clone()), env.clone());
    model.create_bucket(BUCKET, BucketSettings::plain()).unwrap();
    for n in 0..OBJECTS {
        let sse = Sse::Kms { key: Some(KeyName("key-a".into())), context: None, bucket_key: None };
        let (new, guard) = (NewObject { sse, ..NewObject::default() }, Guard::None);
        let request = PutRequest { at: at(n), new, guard, place: InPlace::default() };
        model.put(request, Body::Bytes(BODY.to_vec().into())).await.unwrap();
    }
    (model, kes)
}

fn at(n: usize) -> ObjectAt {
    ObjectAt::current(BUCKET, format!("obj-{n:03}"))
}

fn config() -> WorkerConfig {
    WorkerConfig {
        owner: "worker".into(),
        slots: 2,
        permits: Permits::new(PERMITS, None),
        limits: SliceLimits::default(),
        probe_part: 2000,
        default_key: None,
        confirmed: true,
        local_files: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgets_the_call_destroys_no_more_than_was_in_flight() {
    let env = Env::seeded(1, Timestamp::from_second(1_800_000_000).unwrap());
    let (model, kes) = bucket(&env).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let ledger = Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone());
    let spec = job::parse(JOB.as_bytes(), "job.yaml").unwrap().spec;
    let job = JobId::new(1, [1; 10]);
    let place = model.identity().0.clone();
    let record = JobRecord::new(job.clone(), spec, place, Nonce("n".into()), String::new(), env.now());
    ledger.begin_job(record).await.unwrap();

    let store = Faulty::new(model.clone());
    store.faults().latency(Duration::from_millis(5));
    // Behind the first twenty, which go one at a time.
    let users = |call: &keyrotate_devstack::model::Call<'_>| {
        call.operation == "UpdateObjectEncryption" && call.key.starts_with("obj-")
    };
    store.faults().add(Rule::when(users, Action::AsPut).behind(30));
    let (queue, root) = (Arc::new(MemoryQueue::new(64)), Arc::new(OneReport(Arc::default())));
    let (kms, reports) = (Some(Arc::new(kes) as Arc<dyn Kms>), root.clone());
    let site =
        Site { stores: Site::one_store(Arc::new(store)), kms, reports, ledger: ledger.clone(), queue: queue.clone() };
    let settings = CoordinatorConfig { shards: 4, ..Default::default() };
    let stop = CancellationToken::new();
    let coordinator = tokio::spawn(Coordinator::new(ledger.clone(), queue, root, settings).run(stop.clone()));
    let worker = tokio::spawn({
        let (worker, stop) = (Worker::new(site, config(), env), stop.clone());
        async move { worker.run(stop).await }
    });
    while !ledger.job(&job).await.unwrap().state.is_ended() {
        assert!(!worker.is_finished() && !coordinator.is_finished(), "a part of it ended by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();

    let state = ledger.job(&job).await.unwrap().state;
    assert!(matches!(&state, JobState::Failed { reason: StopReason::ObjectReplaced, .. }), "{state:?}");
    let mut destroyed = 0;
    for n in 0..OBJECTS {
        let (_, body) = model.get(GetRequest::of(&at(n))).await.unwrap();
        destroyed += usize::from(body.collect().await.unwrap() != BODY);
    }
    assert!((1..=PERMITS).contains(&destroyed), "{destroyed} objects are XML now");
}
