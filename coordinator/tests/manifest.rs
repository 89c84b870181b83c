//! Jobs about objects that a manifest names: exactly these are touched, what is gone is reported, and a job that is killed
//! at any step goes on.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_coordinator::{Coordinator, CoordinatorConfig};
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{Action, BucketSettings, Call, Faulty, Mode, Rule, StoreModel};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::job;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::row::Row;
use keyrotate_proto::spec::{JobSpec, Manifest};
use keyrotate_proto::state::{JobState, StopReason};
use keyrotate_queue::MemoryQueue;
use keyrotate_report::root::FolderRoot;
use keyrotate_report::rows::LastRows;
use keyrotate_report::{ReportRoot, finish};
use keyrotate_store::{
    Body, ErrorKind, Guard, HeadRequest, InPlace, ListFrom, ListRequest, NewObject, ObjectAt, PutRequest, Sse, Store,
};
use keyrotate_worker::{Permits, Site, SliceLimits, Worker, WorkerConfig};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const BUCKET: &str = "bucket";
const LISTS: &str = "lists";
const OBJECTS: usize = 60;
const FILE: &str = "keyrotate: {apiVersion: v1, bucket: bucket, prefix: k/, encryption: {key: key-b}, \
    manifest: {location: s3://lists/list.csv, format: csv}}";

/// What outlives a kill.
struct World {
    env: Env,
    model: StoreModel,
    kes: KesModel,
    ledger: Ledger,
    dir: TempDir,
    latency: Duration,
}

impl World {
    /// Objects under the old key: two versions of each, where there are versions.
    async fn new(seed: u64, mode: Mode, settings: BucketSettings) -> Self {
        let env = Env::seeded(seed, Timestamp::from_second(1_800_000_000).unwrap());
        let kes = KesModel::new(env.clone());
        for key in ["key-a", "key-b"] {
            kes.create_key(key).await.unwrap();
        }
        let model = StoreModel::new(Mode { min_part: 2000, ..mode }, Arc::new(kes.clone()), env.clone());
        model.create_bucket(BUCKET, settings).unwrap();
        model.create_bucket(LISTS, BucketSettings::plain()).unwrap();
        let ledger = Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone());
        let world =
            Self { env, model, kes, ledger, dir: tempfile::tempdir().unwrap(), latency: Duration::from_millis(5) };
        for n in 0..OBJECTS {
            for version in 0..2 {
                world.put(BUCKET, &key(n), format!("body {version} of {n}")).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        world
    }

    async fn put(&self, bucket: &str, key: &str, body: String) {
        let sse = Sse::Kms { key: Some(KeyName("key-a".into())), context: None, bucket_key: None };
        let new = NewObject { sse, ..NewObject::default() };
        let at = ObjectAt::current(bucket, key);
        let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
        self.model.put(request, Body::Bytes(body.into())).await.unwrap();
    }

    fn reports(&self) -> Arc<FolderRoot> {
        Arc::new(FolderRoot::new(self.dir.path()))
    }

    async fn begin(&self, number: u64, spec: JobSpec) -> JobId {
        let job = JobId::new(number, [1; 10]);
        let place = self.model.identity().0.clone();
        let record = JobRecord::new(job.clone(), spec, place, Nonce("a1".into()), String::new(), self.env.now());
        self.ledger.begin_job(record).await.unwrap();
        job
    }

    /// Works for at most `time`, then is killed. HEAD of the key `denied` is denied.
    async fn work_for(&self, job: &JobId, time: Duration, denied: &'static str) {
        self.set_to_work(job, denied).await;
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end && !self.state(job).await.is_ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A worker and a coordinator, which go on until the runtime is dropped.
    async fn set_to_work(&self, job: &JobId, denied: &'static str) {
        let store = Faulty::new(self.model.clone());
        // A thread that reads a manifest keeps the clock from going on.
        let slow = |call: &Call<'_>| call.bucket != LISTS;
        store.faults().add(Rule::when(slow, Action::Delay(self.latency)));
        let denies = move |call: &Call<'_>| call.key == denied && call.operation == "HeadObject";
        store.faults().add(Rule::when(denies, Action::FailBefore(ErrorKind::Denied)));
        let (queue, reports) = (Arc::new(MemoryQueue::new(64)), self.reports());
        let site = Site {
            stores: Site::one_store(Arc::new(store)),
            kms: Some(Arc::new(self.kes.clone())),
            reports: reports.clone(),
            ledger: self.ledger.clone(),
            queue: queue.clone(),
        };
        let limits = SliceLimits { window_rows: 12, window_time: Duration::from_millis(200), ..SliceLimits::default() };
        let config = WorkerConfig {
            owner: "worker".into(),
            slots: 2,
            permits: Permits::new(6, None),
            limits,
            probe_part: 2000,
            default_key: None,
            confirmed: true,
            local_files: false,
        };
        self.ledger.void_leases(job).await.unwrap();
        let worker = Worker::new(site, config, self.env.clone());
        let config = CoordinatorConfig { shards: 4, probe_every: Duration::from_secs(1), ..Default::default() };
        let coordinator = Coordinator::new(self.ledger.clone(), queue, reports, config);
        let stop = CancellationToken::new();
        tokio::spawn(coordinator.run(stop.clone()));
        tokio::spawn(async move { worker.run(stop).await.unwrap() });
    }

    async fn state(&self, job: &JobId) -> JobState {
        self.ledger.job(job).await.unwrap().state
    }

    async fn rows(&self, job: &JobId) -> Vec<Row> {
        let reports = self.reports().of(job).unwrap();
        let passes = finish::Manifest::read(reports.as_ref(), "summary.json").await.unwrap().passes();
        let mut last = LastRows::open(reports, passes, KeyRange { start: String::new(), end: None });
        let mut rows = Vec::new();
        while let Some(found) = last.next_key().await.unwrap() {
            rows.extend(found.rows.into_iter().map(|last| last.row));
        }
        rows
    }

    /// Each version by key and id: ETag and key that it is under.
    async fn versions(&self) -> BTreeMap<(String, Option<String>), (String, String)> {
        let versions = self.model.settings(BUCKET).unwrap().versioning.has_versions();
        let (mut seen, mut from) = (BTreeMap::new(), ListFrom::Start);
        loop {
            let (bucket, prefix) = (BUCKET.to_owned(), "k/".to_owned());
            let request = ListRequest { bucket, prefix, versions, from, limit: 1000, with_facts: false };
            let page = self.model.list(request).await.unwrap();
            for entry in page.entries.into_iter().filter(|entry| !entry.delete_marker) {
                let at = ObjectAt { bucket: BUCKET.into(), key: entry.key.clone(), version: entry.version.clone() };
                let object = self.model.head(HeadRequest::of(&at)).await.unwrap();
                seen.insert((entry.key, entry.version), (entry.etag, object.sse.seal().to_string()));
            }
            match page.next {
                Some(next) => from = next,
                None => return seen,
            }
        }
    }
}

fn key(n: usize) -> String {
    format!("k/{n:03}")
}

fn on_paused_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

fn spec(text: &str) -> JobSpec {
    job::parse(text.as_bytes(), "job.yaml").unwrap().spec
}

/// Every third object by its key; every fifth by the id of its older version, where it has one; some that are not there;
/// all of it twice, and in no order.
async fn name_some(world: &World) -> BTreeSet<(String, Option<String>)> {
    let mut named: BTreeSet<_> = (0..OBJECTS).step_by(3).map(|n| (key(n), None)).collect();
    let older: BTreeMap<String, Option<String>> = world.versions().await.into_keys().rev().collect();
    let noncurrent = older.into_iter().step_by(5).filter(|(_, id)| id.is_some());
    named.extend(noncurrent);
    named.insert((key(7), Some("no-such-version".into())));
    named.insert(("k/gone".into(), None));
    let line = |(key, id): &(String, Option<String>)| {
        format!("bucket,{},{}\n", key.replace('/', "%2F"), id.as_deref().unwrap_or_default())
    };
    let mut lines: Vec<String> = named.iter().map(line).collect();
    lines.extend_from_within(..);
    lines.sort_by_key(|line| line.bytes().rev().collect::<Vec<_>>());
    lines.push("bucket,elsewhere\n".into());
    world.put(LISTS, "list.csv", lines.concat()).await;
    named
}

#[test]
fn exactly_what_is_named_is_touched_however_often_it_is_killed() {
    for seed in 0..12 {
        // By UpdateObjectEncryption, by copies, which add versions, or in place.
        let aws = Mode { update_encryption: seed % 4 == 2, ..Mode::aws() };
        let mode = if seed % 2 == 0 { aws } else { Mode::minio() };
        let plain = seed % 3 == 0 && seed % 4 != 0;
        let settings = if plain { BucketSettings::plain() } else { BucketSettings::versioned() };
        let mut world = on_paused_time(World::new(seed, mode, settings));
        if seed % 4 == 0 {
            // So slow that kills come amid the copies.
            world.latency = Duration::from_millis(15);
        }
        let (named, before) = on_paused_time(async { (name_some(&world).await, world.versions().await) });
        let job = on_paused_time(world.begin(1, spec(FILE)));
        let mut kills = 0;
        while !on_paused_time(async { world.state(&job).await.is_ended() }) {
            assert!(kills < 80, "seed {seed}: it never ends");
            let time = Duration::from_millis(20 + world.env.random_u64() % 1200) * (1 + kills / 8);
            on_paused_time(world.work_for(&job, time, ""));
            kills += 1;
        }
        on_paused_time(async {
            assert_eq!(world.state(&job).await, JobState::Completed, "seed {seed}");
            let (rows, after) = (world.rows(&job).await, world.versions().await);
            let gone: Vec<_> = rows.iter().filter(|row| row.outcome.name() == "skipped/gone").collect();
            assert_eq!(gone.len(), 2, "seed {seed}: {gone:?}");
            // Named by its key alone it is the newest of before, whatever was made of it.
            let mut wanted: BTreeSet<(String, Option<String>)> = BTreeSet::new();
            for (key, id) in &named {
                let there = before.contains_key(&(key.clone(), id.clone()));
                let newest = world.newest(key, &before).await;
                wanted.insert((key.clone(), if there || id.is_some() { id.clone() } else { newest.flatten() }));
            }
            let reported: BTreeSet<_> = rows.iter().map(|row| (row.key.clone(), row.version.clone())).collect();
            assert_eq!(reported, wanted, "seed {seed}: a row each");
            assert_eq!(reported.len(), rows.len(), "seed {seed}: no row twice");
            for (at, (etag, seal)) in &before {
                if !wanted.contains(at) {
                    assert_eq!(after.get(at), Some(&(etag.clone(), seal.clone())), "seed {seed}: {at:?} is untouched");
                }
            }
            for row in rows.iter().filter(|row| row.outcome.word() == "rotated") {
                let at = (row.key.clone(), row.version_after.clone().or_else(|| row.version.clone()));
                assert!(after.get(&at).is_some_and(|(_, seal)| seal.contains("key-b")), "seed {seed}: {at:?}");
            }
            let rotated = rows.iter().filter(|row| matches!(row.outcome.word(), "rotated" | "current")).count();
            assert!(rotated >= OBJECTS / 3, "seed {seed}: {rotated} rotated");
            let counts = world.ledger.job(&job).await.unwrap().result.unwrap().counts;
            assert_eq!(counts.scanned(), rows.len() as u64, "seed {seed}: the sums are the rows'");
        });
    }
}

impl World {
    /// The version of a key that was the current one.
    async fn newest(
        &self,
        key: &str,
        before: &BTreeMap<(String, Option<String>), (String, String)>,
    ) -> Option<Option<String>> {
        let versions = self.model.settings(BUCKET).unwrap().versioning.has_versions();
        let (bucket, prefix) = (BUCKET.to_owned(), key.to_owned());
        let request = ListRequest { bucket, prefix, versions, from: ListFrom::Start, limit: 100, with_facts: false };
        let entries = self.model.list(request).await.unwrap().entries;
        entries.into_iter().map(|entry| entry.version).find(|id| before.contains_key(&(key.to_owned(), id.clone())))
    }
}

/// Somebody writes one of the named objects anew when the walk is over.
#[test]
fn what_is_written_before_verifying_asks_about_it_is_rotated() {
    on_paused_time(async {
        let world = World::new(1, Mode::aws(), BucketSettings::plain()).await;
        name_some(&world).await;
        let job = world.begin(1, spec(FILE)).await;
        world.set_to_work(&job, "").await;
        while world.state(&job).await.word() != "verifying" {
            assert!(!world.state(&job).await.is_ended(), "it was never seen verifying");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.put(BUCKET, &key(57), "another body".into()).await;
        while !world.state(&job).await.is_ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(world.state(&job).await, JobState::Completed);
        let object = world.model.head(HeadRequest::of(&ObjectAt::current(BUCKET, key(57)))).await.unwrap();
        assert!(object.sse.seal().to_string().contains("key-b"), "{:?}", object.sse);
    });
}

#[test]
fn what_a_job_could_not_do_is_a_job_of_its_own() {
    let world = on_paused_time(World::new(1, Mode::aws(), BucketSettings::plain()));
    let works = |number, spec, denied| {
        let job = on_paused_time(world.begin(number, spec));
        on_paused_time(world.work_for(&job, Duration::from_secs(600), denied));
        let state = on_paused_time(world.state(&job));
        (job, state)
    };
    let all = spec("keyrotate: {apiVersion: v1, bucket: bucket, encryption: {key: key-b}}");
    let of = |job: JobId| JobSpec { manifest: Some(Manifest::FailedOf { job }), ..all.clone() };
    let (first, state) = works(1, all.clone(), "k/011");
    assert!(matches!(state, JobState::Failed { reason: StopReason::ObjectsLeft, .. }), "{state:?}");
    let (second, state) = works(2, of(first), "");
    assert_eq!(state, JobState::Completed);
    let rows = on_paused_time(world.rows(&second));
    let done: Vec<_> = rows.iter().map(|row| (row.key.as_str(), row.outcome.word())).collect();
    assert_eq!(done, [("k/011", "rotated")]);
    // Nothing is left to do.
    let (_, state) = works(3, of(second), "");
    let JobState::Failed { reason: StopReason::Refused, detail } = state else { panic!("{state:?}") };
    assert!(detail.contains("names no object"), "{detail}");
}

#[test]
fn a_manifest_that_is_wrong_is_refused_with_its_place() {
    on_paused_time(async {
        let world = World::new(1, Mode::aws(), BucketSettings::plain()).await;
        world.put(LISTS, "list.csv", "bucket,k/001\nother,k/002\n".into()).await;
        let local = FILE.replace("s3://lists/list.csv", "/list.csv");
        let none = FILE.replace("lists/list.csv", "lists/none.csv");
        let cases = [
            (FILE.to_owned(), "`s3://lists/list.csv`, line 2: it is of the bucket `other`, and the job's is `bucket`"),
            (local, "put it into a bucket of the job's store"),
            (none, "`s3://lists/none.csv` of the manifest can't be read from its bucket"),
        ];
        for (n, (file, expected)) in (1..).zip(cases) {
            let job = world.begin(n, spec(&file)).await;
            world.work_for(&job, Duration::from_secs(60), "").await;
            let JobState::Failed { reason: StopReason::Refused, detail } = world.state(&job).await else {
                panic!("{:?}", world.state(&job).await);
            };
            assert!(detail.contains(expected), "{detail}");
        }
    });
}
