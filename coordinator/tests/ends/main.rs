//! How jobs end, and which of them a process works on: small jobs on the store model, on seeded time.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

mod charges;
mod strangers;
mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_checkpoint::record::{JobRecord, JobResult};
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_devstack::model::{Action, BucketSettings, Call, Mode, Rule};
use keyrotate_kms::Kms;
use keyrotate_proto::id::{Epoch, JobId, Nonce, PassId, ShardId, ShardRef};
use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::{Counts, FailReason, Outcome};
use keyrotate_proto::state::{JobState, PassKind, PauseReason, Phase, StopReason};
use keyrotate_report::ReportRoot;
use keyrotate_report::intents::{INTENTS_VERSION, IntentsHeader, encode};
use keyrotate_store::{ErrorKind, InPlace, ListFrom, ListRequest, NewObject, ObjectAt, Store};

use world::{BUCKET, World, passes};

#[tokio::test(start_paused = true)]
async fn a_write_that_came_out_wrong_fails_the_job() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a", "b", "c"]).await;
    // Its body can be hashed before the write, and not after it.
    world.store.faults().add(world.fail("GetObject", "b", ErrorKind::Server).nth(2).times(2));
    let id = world.begin(1, "").await;
    let job = world.run(&id).await;
    let bad = Outcome::Failed(FailReason::ReadBack);
    assert_eq!(job.result.as_ref().unwrap().counts.by_outcome.get(&bad), Some(&1), "{:?}", job.result);
    assert!(matches!(job.state, JobState::Failed { reason: StopReason::ObjectsLeft, .. }), "{:?}", job.state);
    assert_eq!(passes(&job, PassKind::Retry), 0, "a second look would hide it");
}

/// Longer than a lease: who took it for dead would sweep the probes under its hands.
#[tokio::test(start_paused = true)]
async fn a_slow_store_is_prepared_under_one_lease() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a"]).await;
    world.store.faults().latency(Duration::from_secs(9));
    let id = world.begin(1, "").await;
    let began = tokio::time::Instant::now();
    world.work(Some(&id), async || world.job(&id).await.frozen.is_some()).await;
    assert!(began.elapsed() > Duration::from_secs(120), "too fast to show anything: {:?}", began.elapsed());
    let prepare = world.ledger.shards(&id, PassId(0)).await.unwrap();
    assert_eq!(prepare[0].epoch.counter, 1, "leased once");
}

#[tokio::test(start_paused = true)]
async fn a_process_works_on_its_own_job_only() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a/1", "b/1"]).await;
    let other = world.begin(1, ", prefix: a/").await;
    let own = world.begin(2, ", prefix: b/").await;
    assert_eq!(world.run(&own).await.state, JobState::Completed);
    assert_eq!(world.job(&other).await.state, JobState::Live { phase: Phase::Queued });
    // One that is cancelled is ended by whoever is there.
    world.ledger.update_job(&other, transition::cancel).await.unwrap();
    let third = world.begin(3, ", prefix: b/").await;
    world.work(Some(&third), async || world.job(&other).await.state.is_ended()).await;
    assert_eq!(world.job(&other).await.state, JobState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn the_second_end_of_a_resumed_job_verifies_and_cleans_again() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a", "b"]).await;
    world.store.faults().add(world.fail("UpdateObjectEncryption", "b", ErrorKind::Server));
    let id = world.begin(1, ", flags: {retry: {attempts: 1, delay: 1s}}").await;
    let failed = world.run(&id).await;
    assert!(matches!(failed.state, JobState::Failed { reason: StopReason::ObjectsLeft, .. }), "{:?}", failed.state);
    world.ledger.resume_job(&id).await.unwrap();
    let again = world.run(&id).await;
    assert!(matches!(again.state, JobState::Failed { .. }), "{:?}", again.state);
    assert_eq!((passes(&failed, PassKind::Clean), passes(&again, PassKind::Clean)), (1, 2));
    world.store.faults().clear();
    world.ledger.resume_job(&id).await.unwrap();
    let completed = world.run(&id).await;
    assert_eq!((completed.state.clone(), passes(&completed, PassKind::Verify)), (JobState::Completed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_failed_while_it_verified_lists_everything_again_once_resumed() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a", "b"]).await;
    world.store.faults().add(world.fail("GetObject", "b", ErrorKind::Server).nth(2).times(2));
    let id = world.begin(1, "").await;
    let failed = world.run(&id).await;
    assert_eq!(passes(&failed, PassKind::Verify), 1);
    world.ledger.resume_job(&id).await.unwrap();
    let again = world.run(&id).await;
    assert_eq!(passes(&again, PassKind::Verify), 2);
}

/// Puts an intent down as a window of a shard of the job's walk would.
async fn put_intents(world: &World, job: &JobId, number: u64, intents: &[Intent]) {
    let shard = ShardRef { job: job.clone(), pass: PassId(1), shard: ShardId(0) };
    let epoch = Epoch { nonce: Nonce("n".into()), counter: 0 };
    let header = IntentsHeader { version: INTENTS_VERSION, shard, epoch, number };
    let store = world.reports.of(job).unwrap();
    store.put_new(&header.name(), encode(&header, intents).unwrap()).await.unwrap();
}

fn intent(key: &str, upload: Option<&str>) -> Intent {
    let line = serde_json::json!({
        "v": 1, "key": key, "version": null, "etag": "e", "strategy": "copy-multipart", "upload": upload,
    });
    serde_json::from_value(line).unwrap()
}

async fn open_upload(world: &World, key: &str) -> String {
    let at = ObjectAt::current(BUCKET, key);
    world.store.create_upload(&at, &NewObject::default(), &InPlace::default()).await.unwrap()
}

async fn open_uploads(world: &World) -> Vec<String> {
    let mut keys: Vec<_> = world.store.uploads(BUCKET, "").await.unwrap().into_iter().map(|u| u.key).collect();
    keys.sort();
    keys
}

/// Uploads on four keys: `a` ours and named; `b` perhaps ours, never named; `c` ours beside a user's; `d` a user's.
async fn uploads_of_a_lost_window(world: &World, job: &JobId) {
    let (a, c) = (open_upload(world, "a").await, open_upload(world, "c").await);
    open_upload(world, "b").await;
    open_upload(world, "c").await;
    open_upload(world, "d").await;
    put_intents(world, job, 0, &[intent("a", None), intent("b", None), intent("c", None)]).await;
    put_intents(world, job, 1, &[intent("a", Some(&a)), intent("c", Some(&c))]).await;
}

async fn listed(world: &World, job: &JobId) -> Vec<String> {
    world.summary(job).await.leftover_uploads.into_iter().map(|upload| upload.key).collect()
}

#[tokio::test(start_paused = true)]
async fn before_a_job_completes_its_uploads_end_and_perhaps_ours_are_listed() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a", "b", "c", "d"]).await;
    let id = world.begin(1, "").await;
    uploads_of_a_lost_window(&world, &id).await;
    let job = world.run(&id).await;
    assert_eq!((job.state.clone(), passes(&job, PassKind::Clean)), (JobState::Completed, 1));
    assert_eq!(open_uploads(&world).await, ["b", "c", "d"]);
    assert_eq!(listed(&world, &id).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_without_intents_has_no_clean_pass() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a"]).await;
    let id = world.begin(1, "").await;
    assert_eq!(passes(&world.run(&id).await, PassKind::Clean), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_clean_pass_is_kept_from_ending_is_listed() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a", "b", "c", "d"]).await;
    let id = world.begin(1, "").await;
    // Cancelled before its walk, whose shard nobody takes over then.
    world.store.faults().add(Rule::on("UpdateObjectEncryption", Action::Delay(Duration::from_secs(3600))).of_key("a"));
    world.work(Some(&id), async || passes(&world.job(&id).await, PassKind::Walk) == 1).await;
    uploads_of_a_lost_window(&world, &id).await;
    world.ledger.update_job(&id, transition::cancel).await.unwrap();
    world.store.faults().add(Rule::on("AbortMultipartUpload", Action::Delay(Duration::from_secs(3600))));
    assert_eq!(world.run(&id).await.state, JobState::Cancelled);
    let listed = listed(&world, &id).await;
    assert!(listed.contains(&"a".to_owned()) && listed.contains(&"c".to_owned()), "{listed:?}");
    assert!(!listed.contains(&"d".to_owned()), "{listed:?}");
}

#[tokio::test(start_paused = true)]
async fn clean_begins_when_nobody_writes_any_more() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a", "b"]).await;
    let written: Arc<Mutex<Option<Timestamp>>> = Arc::default();
    let (note, env) = (Arc::clone(&written), world.env.clone());
    let deed = Action::After(Arc::new(move || {
        *note.lock().unwrap() = Some(env.now());
        Box::pin(async {})
    }));
    // A write that is under way for a while after the cancel.
    world.store.faults().add(Rule::on("UpdateObjectEncryption", Action::Delay(Duration::from_secs(15))).of_key("b"));
    world.store.faults().add(Rule::on("UpdateObjectEncryption", deed).of_key("b"));
    let id = world.begin(1, "").await;
    let cancel_at_work = async || {
        let job = world.job(&id).await;
        if passes(&job, PassKind::Walk) == 1 && job.state == (JobState::Live { phase: Phase::Running }) {
            tokio::time::sleep(Duration::from_secs(5)).await;
            world.ledger.update_job(&id, transition::cancel).await.unwrap();
        }
        job.state.is_ended()
    };
    world.work(Some(&id), cancel_at_work).await;
    let job = world.job(&id).await;
    assert_eq!(job.state, JobState::Cancelled);
    let written = written.lock().unwrap().expect("it was written");
    let clean = job.last_pass(PassKind::Clean).unwrap();
    assert!(clean.started >= written, "{} < {written}", clean.started);
}

/// A job is killed while it prepares; gives it and the beginning of the keys of the probes that it left.
async fn killed_while_it_prepared(world: &World) -> (JobId, String) {
    world.put_old(&["a"]).await;
    let of_probe = |call: &Call<'_>| call.operation == "HeadObject" && call.key.contains("probe-");
    world.store.faults().add(Rule::when(of_probe, Action::Delay(Duration::from_secs(10))));
    let id = world.begin(1, "").await;
    let probe = format!("{}probe-{id}-", world.probe_prefix);
    world.work(Some(&id), async || any_there(world, &probe).await).await;
    (id, probe)
}

fn there(world: &World, key: &str) -> bool {
    !world.store.store().raw_version_ids(BUCKET, key).is_empty()
}

/// Whether there is an object, or a version of one, whose key begins so.
async fn any_there(world: &World, prefix: &str) -> bool {
    let request = ListRequest {
        bucket: BUCKET.into(),
        prefix: prefix.into(),
        versions: true,
        from: ListFrom::Start,
        limit: 1,
        with_facts: false,
    };
    !world.store.store().list(request).await.unwrap().entries.is_empty()
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_killed_while_it_prepared_and_is_cancelled_leaves_no_probe() {
    for prefix in [".keyrotate/", "elsewhere/"] {
        let mut world = World::new(Mode::aws(), BucketSettings::versioned()).await;
        world.probe_prefix = prefix;
        let (id, probe) = killed_while_it_prepared(&world).await;
        world.ledger.update_job(&id, transition::cancel).await.unwrap();
        assert_eq!(world.run(&id).await.state, JobState::Cancelled);
        assert!(!any_there(&world, &probe).await, "a probe is left");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_start_finds_probes_where_an_earlier_job_had_them() {
    let mut world = World::new(Mode::aws(), BucketSettings::versioned()).await;
    world.probe_prefix = "elsewhere/";
    let (id, probe) = killed_while_it_prepared(&world).await;
    // Cancelled where its store could not be reached.
    world.ledger.update_job(&id, transition::cancel).await.unwrap();
    let result = JobResult { counts: Counts::default(), ended: world.env.now(), report: None };
    world.ledger.end_job(&id, &result).await.unwrap();
    assert!(any_there(&world, &probe).await);
    world.probe_prefix = ".keyrotate/";
    let next = world.begin(2, "").await;
    assert_eq!(world.run(&next).await.state, JobState::Completed);
    assert!(!any_there(&world, &probe).await, "a probe is left");
}

/// A job is taken until a pass of that kind is there, then its process is gone.
async fn until_pass(world: &World, id: &JobId, kind: PassKind) {
    world.work(Some(id), async || passes(&world.job(id).await, kind) > 0).await;
}

fn reason(job: &JobRecord) -> Option<PauseReason> {
    match &job.state {
        JobState::Paused { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_key_that_was_made_anew_shows_before_completed_without_a_kes_too() {
    for with_kes in [true, false] {
        let mut world = World::new(Mode::aws(), BucketSettings::plain()).await;
        world.with_kes = with_kes;
        world.put_old(&["a", "b"]).await;
        let id = world.begin(1, "").await;
        until_pass(&world, &id, PassKind::Verify).await;
        world.kes.delete_key("key-b").unwrap();
        world.kes.create_key("key-b").await.unwrap();
        let stuck = async || !matches!(world.job(&id).await.state, JobState::Live { .. });
        world.work(Some(&id), stuck).await;
        let job = world.job(&id).await;
        assert_ne!(job.state, JobState::Completed, "with KES: {with_kes}");
        if let JobState::Paused { detail, .. } = &job.state {
            assert!(detail.contains("made anew"), "{detail}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_lifted_when_what_it_is_about_works_again_and_not_before() {
    let mut world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.with_kes = false;
    world.put_old(&["a", "b"]).await;
    let id = world.begin(1, "").await;
    world.store.faults().add(Rule::on("HeadObject", Action::Delay(Duration::from_secs(10))).of_key("a"));
    until_pass(&world, &id, PassKind::Walk).await;
    for write in ["UpdateObjectEncryption", "PutObject"] {
        world.store.faults().add(Rule::on(write, Action::FailBefore(ErrorKind::KmsKeyNotFound)));
    }
    world.work(Some(&id), async || reason(&world.job(&id).await).is_some()).await;
    assert_eq!(reason(&world.job(&id).await), Some(PauseReason::TargetKeyGone));
    // It is probed again and again, and stays.
    let probed = Mutex::new(0);
    let five_minutes = async || {
        *probed.lock().unwrap() += 1;
        assert_eq!(reason(&world.job(&id).await), Some(PauseReason::TargetKeyGone));
        *probed.lock().unwrap() > 5 * 60 * 5
    };
    world.work(Some(&id), five_minutes).await;
    world.store.faults().clear();
    assert_eq!(world.run(&id).await.state, JobState::Completed);
}

#[tokio::test(start_paused = true)]
async fn more_failures_than_the_threshold_pause_the_job_until_a_person_resumes_it() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a", "b", "c", "d"]).await;
    for key in ["a", "b", "c"] {
        world.store.faults().add(world.fail("HeadObject", key, ErrorKind::Refused));
    }
    let id = world.begin(1, ", options: {failureThreshold: 2}, flags: {retry: {attempts: 1, delay: 1s}}").await;
    world.work(Some(&id), async || reason(&world.job(&id).await).is_some()).await;
    let paused = world.job(&id).await;
    assert_eq!(reason(&paused), Some(PauseReason::FailureThreshold));
    assert!(matches!(&paused.state, JobState::Paused { detail, .. } if detail == "3 of 4 versions failed so far"));
    // Nothing but a person ends it, and no time counts.
    let seen = Mutex::new(0);
    let a_while = async || {
        *seen.lock().unwrap() += 1;
        assert_eq!(reason(&world.job(&id).await), Some(PauseReason::FailureThreshold));
        *seen.lock().unwrap() > 5 * 60
    };
    world.work(Some(&id), a_while).await;
    world.store.faults().clear();
    world.ledger.update_job(&id, |job, now| transition::resume(job, true, now)).await.unwrap();
    let job = world.run(&id).await;
    assert_eq!(job.state, JobState::Completed, "what failed before it was resumed does not pause it again");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_mended_within_the_pause_limit_fails_the_job() {
    let world = World::new(Mode::aws(), BucketSettings::plain()).await;
    world.put_old(&["a", "b"]).await;
    let id = world.begin(1, ", options: {pauseLimit: 10m}").await;
    until_pass(&world, &id, PassKind::Walk).await;
    world.store.faults().add(Rule::on("*", Action::FailBefore(ErrorKind::Unreachable)));
    let before = world.env.now();
    let job = world.run(&id).await;
    assert!(matches!(job.state, JobState::Failed { reason: StopReason::PauseLimit, .. }), "{:?}", job.state);
    let took = job.result.unwrap().ended.duration_since(before).as_secs();
    assert!((600..800).contains(&took), "{took} s");
}
