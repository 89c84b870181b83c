use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{Action, BucketSettings, Faulty, Mode, Rule, StoreModel};
use keyrotate_env::Env;
use keyrotate_proto::capability::{FROZEN_VERSION, FrozenTarget, Proof, SourceKind, Versioning};
use keyrotate_proto::job;
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::state::PauseReason;
use keyrotate_queue::MemoryQueue;
use keyrotate_report::{MemoryStore, ReportError, ReportRoot, ReportStore};
use keyrotate_store::{Body, Guard, InPlace, NewObject, ObjectAt, PutRequest, Store};

use super::leases::SIGNED;
use super::*;
use crate::{Permits, Served, Site, SliceLimits, WorkerConfig};

const BUCKET: &str = "bucket";

/// One store that all jobs of an installation report to.
#[derive(Debug, Default)]
struct Reports(Mutex<BTreeMap<JobId, Arc<MemoryStore>>>, Arc<MemoryStore>);

impl ReportRoot for Reports {
    fn of(&self, job: &JobId) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(Arc::clone(self.0.lock().unwrap().entry(job.clone()).or_default()) as Arc<dyn ReportStore>)
    }

    fn own(&self) -> Result<Arc<dyn ReportStore>, ReportError> {
        Ok(Arc::clone(&self.1) as Arc<dyn ReportStore>)
    }
}

/// A store that everybody works on.
struct World {
    env: Env,
    model: StoreModel,
}

/// One that knows of no other: a desk of its worker and its job.
struct Installation {
    desk: Desk,
    job: JobRecord,
    store: Faulty<StoreModel>,
    reports: Arc<Reports>,
}

impl World {
    fn new(mode: Mode, versioning: Versioning) -> Self {
        let env = Env::seeded(3, Timestamp::from_second(1_800_000_000).unwrap());
        let model = StoreModel::new(mode, Arc::new(KesModel::new(env.clone())), env.clone());
        let settings = BucketSettings { versioning, ..BucketSettings::plain() };
        model.create_bucket(BUCKET, settings).unwrap();
        Self { env, model }
    }

    fn installation(&self, n: u8, prefix: &str) -> Installation {
        let reports = Arc::<Reports>::default();
        let store = Faulty::new(self.model.clone());
        let site = Site {
            stores: BTreeMap::new(),
            kms: None,
            reports: reports.clone(),
            ledger: Ledger::new(Arc::new(MemoryBackend::new(self.env.clone())), self.env.clone()),
            queue: Arc::new(MemoryQueue::new(8)),
        };
        let config = WorkerConfig {
            owner: format!("host-{n}"),
            slots: 2,
            permits: Permits::new(6, None),
            limits: SliceLimits::default(),
            probe_part: 2000,
            default_key: None,
            confirmed: true,
            local_files: false,
        };
        let desk =
            Desk::new(&Served::from(Arc::new(store.clone())), site, Arc::new(config), self.env.clone(), Arc::default());
        let text = format!("keyrotate: {{apiVersion: v1, bucket: bucket, prefix: '{prefix}', encryption: {{key: k}}}}");
        let spec = job::parse(text.as_bytes(), "job.yaml").unwrap().spec;
        let (id, user) = (JobId::new(u64::from(n), [n; 10]), format!("user-{n}"));
        let at = self.model.identity().0.clone();
        let job = JobRecord::new(id, spec, at, Nonce("n".into()), user, self.env.now());
        Installation { desk, job, store, reports }
    }

    fn versions(&self) -> usize {
        self.model.raw_version_ids(BUCKET, LEASE_KEY).len()
    }

    async fn put(&self, key: &str) {
        let at = ObjectAt::current(BUCKET, key);
        let request = PutRequest { at, new: NewObject::default(), guard: Guard::None, place: InPlace::default() };
        self.model.put(request, Body::Bytes("theirs".into())).await.unwrap();
    }
}

impl Installation {
    /// What a job does when it begins.
    async fn begin(&mut self) -> Result<(), Trouble> {
        self.desk.look_for_others(&self.job).await?;
        let mut frozen = frozen(self.store.store().settings(BUCKET).unwrap().versioning);
        self.desk.take_lease(&self.job, &mut frozen).await?;
        self.job.frozen = Some(frozen);
        Ok(())
    }

    async fn refusal(&mut self) -> String {
        self.begin().await.unwrap_err().to_string()
    }

    fn notes(&self) -> &[String] {
        &self.job.frozen.as_ref().unwrap().notes
    }
}

/// What was proven about a store that refuses what another wrote over.
fn frozen(versioning: Versioning) -> Frozen {
    let proof = Proof {
        strategy: Strategy::Rewrite,
        source: SourceKind::SseS3,
        multipart: false,
        guarded: true,
        keeps: Default::default(),
        noncurrent: false,
    };
    Frozen {
        version: FROZEN_VERSION,
        target: FrozenTarget::SseS3,
        versioning,
        listing_facts: false,
        tags_announced: false,
        probed: Default::default(),
        same_bucket: true,
        proofs: vec![proof],
        notes: Vec::new(),
        new_objects: None,
        acl_owner: None,
        retains: false,
        lease: LeasePlace::Reports,
        canary: None,
        canaries: [].into(),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn on_every_kind_of_store_one_version_is_there_while_somebody_works_and_none_behind_the_last() {
    let kinds = [Versioning::Off, Versioning::Enabled, Versioning::Suspended];
    for (mode, versioning) in Mode::all().into_iter().flat_map(|mode| kinds.map(|kind| (mode.clone(), kind))) {
        let about = format!("{} {versioning:?}", mode.name);
        let world = World::new(mode, if versioning == Versioning::Off { Versioning::Off } else { Versioning::Enabled });
        let [mut a, mut b, mut c] = [(1, "a/"), (2, "b/"), (3, "")].map(|(n, prefix)| world.installation(n, prefix));
        a.begin().await.unwrap();
        if versioning == Versioning::Suspended {
            // A version with an id of its own is what the next write supersedes.
            world.model.set_versioning(BUCKET, Versioning::Suspended).unwrap();
        }
        b.begin().await.unwrap();
        assert_eq!(world.versions(), 1, "{about}");
        let refused = c.refusal().await;
        assert!(refused.contains(&format!("job {} of user-1 (host-1)", a.job.id)), "{about}: {refused}");
        for _ in 0..5 {
            tokio::time::sleep(6 * MINUTE).await;
            for one in [&a, &b] {
                assert!(one.desk.must_renew(&one.job), "{about}");
                one.desk.keep_bucket(&one.job).await.unwrap();
                assert!(!one.desk.must_renew(&one.job), "{about}");
                assert_eq!(world.versions(), 1, "{about}");
            }
        }
        a.desk.leave_bucket(&a.job).await;
        assert_eq!(world.versions(), 1, "{about}: b is there");
        b.desk.leave_bucket(&b.job).await;
        assert_eq!(world.versions(), 0, "{about}");
        c.begin().await.unwrap();
        assert!(c.notes().is_empty(), "{about}: {:?}", c.notes());
        c.desk.leave_bucket(&c.job).await;
        assert_eq!(world.versions(), 0, "{about}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_change_nothing() {
    let world = World::new(Mode::aws(), Versioning::Enabled);
    let (mut a, mut b) = (world.installation(1, ""), world.installation(2, ""));
    let lost = || Rule::on("PutObject", Action::FailAfter(ErrorKind::Timeout)).times(1);
    a.store.faults().add(lost());
    a.begin().await.unwrap();
    assert!(!a.desk.must_renew(&a.job) && b.begin().await.is_err());
    tokio::time::sleep(6 * MINUTE).await;
    a.store.faults().add(lost());
    a.desk.keep_bucket(&a.job).await.unwrap();
    a.store.faults().add(lost());
    a.store.faults().add(Rule::on("DeleteObject", Action::FailAfter(ErrorKind::Cut)).nth(2).times(1));
    a.desk.leave_bucket(&a.job).await;
    assert_eq!(world.versions(), 0);
    b.begin().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn workers_of_one_job_renew_it_once_for_all() {
    let world = World::new(Mode::aws(), Versioning::Enabled);
    let (mut a, mut same) = (world.installation(1, ""), world.installation(1, ""));
    a.begin().await.unwrap();
    same.job = a.job.clone();
    let puts = || world.model.calls()["PutObject"];
    let before = puts();
    same.desk.keep_bucket(&same.job).await.unwrap();
    assert!(!same.desk.must_renew(&same.job));
    assert_eq!(puts(), before, "it found the entry of its own job");
    tokio::time::sleep(6 * MINUTE).await;
    let renewed = tokio::join!(
        a.desk.keep_bucket(&a.job),
        a.desk.keep_bucket(&a.job),
        same.desk.keep_bucket(&same.job),
        same.desk.keep_bucket(&same.job)
    );
    assert_eq!(renewed, (Ok(()), Ok(()), Ok(()), Ok(())));
    assert!(!a.desk.must_renew(&a.job) && !same.desk.must_renew(&same.job));
    assert!((1..=2).contains(&(puts() - before)), "{} writes", puts() - before);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_one_left_runs_out_by_the_stores_time() {
    let world = World::new(Mode::minio(), Versioning::Off);
    let (mut a, mut b) = (world.installation(1, "logs/"), world.installation(2, ""));
    a.begin().await.unwrap();
    let free = Duration::try_from(LENGTH + SIGNED).unwrap();
    tokio::time::sleep(free - MINUTE).await;
    assert_eq!(a.desk.bucket_left(&a.job), Duration::ZERO, "it begins no write any more");
    let refused = b.refusal().await;
    assert!(refused.contains("`logs/` of this bucket") && refused.contains("others may begin at 2027-"), "{refused}");
    tokio::time::sleep(2 * MINUTE).await;
    b.begin().await.unwrap();
    // It was frozen, and goes on: what it finds is another's.
    let Err(Halt::Pause { reason, detail }) = a.desk.keep_bucket(&a.job).await else { panic!("it holds it, too") };
    assert_eq!(reason, PauseReason::OtherJob);
    assert!(detail.contains("user-2 (host-2)"), "{detail}");
    b.desk.leave_bucket(&b.job).await;
    a.desk.keep_bucket(&a.job).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_job_of_its_own_that_has_ended_is_not_waited_for() {
    let world = World::new(Mode::aws(), Versioning::Off);
    let (mut a, mut b) = (world.installation(1, ""), world.installation(2, ""));
    a.begin().await.unwrap();
    let ledger = &b.desk.site.ledger;
    ledger.begin_job(a.job.clone()).await.unwrap();
    ledger.update_job(&a.job.id, keyrotate_checkpoint::transition::job::cancel).await.unwrap();
    assert!(b.begin().await.is_err(), "it has not ended yet");
    let ended = world.env.now();
    let result = keyrotate_checkpoint::record::JobResult { counts: Default::default(), ended, report: None };
    b.desk.site.ledger.end_job(&a.job.id, &result).await.unwrap();
    b.begin().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_last_one_goes_waits_a_moment() {
    let world = World::new(Mode::aws(), Versioning::Off);
    let (mut a, mut b) = (world.installation(1, "a/"), world.installation(2, "b/"));
    a.begin().await.unwrap();
    a.store.faults().add(Rule::on("DeleteObject", Action::Delay(Duration::from_secs(5))));
    let (leaves, begins) = (a.desk.leave_bucket(&a.job), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        b.begin().await
    });
    let ((), begun) = tokio::join!(leaves, begins);
    begun.unwrap();
    assert_eq!(world.versions(), 1, "its entry was not removed with the other's");
    // One that died there.
    b.store.faults().add(Rule::on("DeleteObject", Action::FailBefore(ErrorKind::Denied)));
    b.desk.leave_bucket(&b.job).await;
    assert!(a.begin().await.is_err());
    tokio::time::sleep(Duration::try_from(LENGTH + SIGNED).unwrap()).await;
    a.begin().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_object_of_somebody_else_under_that_name_is_left_alone() {
    let world = World::new(Mode::aws(), Versioning::Off);
    world.put(LEASE_KEY).await;
    let mut a = world.installation(1, "");
    let refused = a.refusal().await;
    assert!(refused.contains("is not keyrotate's") && refused.contains("move it away"), "{refused}");
    tokio::time::sleep(600 * MINUTE).await;
    assert!(a.begin().await.is_err());
    a.desk.leave_bucket(&a.job).await;
    assert_eq!(world.versions(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_no_such_object_can_be_it_lives_in_the_report_store_and_the_notes_say_so() {
    type Breaks = fn(&mut Mode, &Installation);
    let breaks: [(&str, Breaks); 3] = [
        ("the store ignores", |mode, _| mode.put_if_match = false),
        ("PutObject", |_, a| a.store.faults().add(Rule::on("PutObject", Action::FailBefore(ErrorKind::Denied)))),
        ("GetObject", |_, a| a.store.faults().add(Rule::on("GetObject", Action::FailBefore(ErrorKind::Denied)))),
    ];
    for (said, breaks) in breaks {
        let mut mode = Mode::aws();
        breaks(&mut mode, &World::new(Mode::aws(), Versioning::Off).installation(1, ""));
        let world = World::new(mode, Versioning::Enabled);
        let mut a = world.installation(1, "");
        breaks(&mut Mode::aws(), &a);
        a.begin().await.unwrap();
        assert!(a.notes()[0].contains("are not kept away") && a.notes()[0].contains(said), "{:?}", a.notes());
        assert_eq!(world.versions(), 0, "{said}");
        // Whoever shares the report store is kept away.
        let mut b = world.installation(2, "b/");
        b.desk.site.reports = a.reports.clone();
        breaks(&mut Mode::aws(), &b);
        assert!(b.refusal().await.contains("user-1"), "{said}");
        tokio::time::sleep(6 * MINUTE).await;
        a.desk.keep_bucket(&a.job).await.unwrap();
        a.desk.leave_bucket(&a.job).await;
        b.begin().await.unwrap();
        world.installation(3, "").begin().await.unwrap_or_else(|e| panic!("{said}: nobody is in the bucket: {e}"));
    }
}

#[tokio::test(start_paused = true)]
async fn under_a_retention_nothing_is_written_into_the_bucket() {
    let world = World::new(Mode::aws(), Versioning::Enabled);
    let a = world.installation(1, "");
    let mut frozen = Frozen { retains: true, ..frozen(Versioning::Enabled) };
    a.desk.take_lease(&a.job, &mut frozen).await.unwrap();
    assert!(frozen.notes[0].contains("keeps every new version"), "{:?}", frozen.notes);
    let mut job = a.job.clone();
    job.spec.options.retained_probes = true;
    let mut frozen = Frozen { retains: false, ..frozen };
    a.desk.take_lease(&job, &mut frozen).await.unwrap();
    assert!(frozen.notes[1].contains("retainedProbes"), "{:?}", frozen.notes);
    assert_eq!(world.versions(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_it_can_not_be_renewed_a_job_goes_on_only_as_long_as_a_slice_fits() {
    let world = World::new(Mode::aws(), Versioning::Off);
    let mut a = world.installation(1, "");
    a.begin().await.unwrap();
    a.store.faults().add(Rule::on("*", Action::FailBefore(ErrorKind::Server)));
    tokio::time::sleep(6 * MINUTE).await;
    assert!(a.desk.must_renew(&a.job));
    a.desk.keep_bucket(&a.job).await.unwrap();
    tokio::time::sleep(4 * MINUTE).await;
    let Err(Halt::Pause { reason, .. }) = a.desk.keep_bucket(&a.job).await else { panic!("it goes on") };
    assert_eq!(reason, PauseReason::StoreDown);
    assert_eq!(a.desk.bucket_left(&a.job), Duration::ZERO, "no other slice goes on either");
    a.store.faults().clear();
    a.desk.keep_bucket(&a.job).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_read_any_more_is_in_the_way_for_as_long_as_its_writer_may_live() {
    let world = World::new(Mode::aws(), Versioning::Off);
    let (mut a, mut b) = (world.installation(1, ""), world.installation(2, ""));
    a.begin().await.unwrap();
    b.store.faults().add(Rule::on("GetObject", Action::FailBefore(ErrorKind::KmsKeyNotFound)));
    assert!(b.refusal().await.contains("can't be read"));
    tokio::time::sleep(Duration::try_from(LENGTH + SIGNED).unwrap() + MINUTE).await;
    b.begin().await.unwrap();
}

#[test]
fn a_resumed_job_knows_nothing_of_what_it_held_before() {
    let world_of = |nonce: &str, job: &JobRecord| JobRecord { nonce: Nonce(nonce.into()), ..job.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(Mode::aws(), Versioning::Off);
        let mut a = world.installation(1, "");
        a.begin().await.unwrap();
        assert!(!a.desk.must_renew(&a.job));
        assert!(a.desk.must_renew(&world_of("another", &a.job)));
    });
}
