//! The ledger on a back-end that loses answers, and on a file that is closed and opened again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keyrotate_proto::id::{PassId, ShardId, ShardRef};
use keyrotate_proto::outcome::{Counts, Evidence, FailReason, Outcome, SkipReason};
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_proto::spec::Notify;
use keyrotate_proto::state::{JobState, PassKind, Phase, StopReason};
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};

use super::*;
use crate::backend::{Listed, Revision, Snapshot, Swap, SwapAnswer};
use crate::record::{Asked, JobLimits, ShardRecord, ShardState};
use crate::transition::job as job_rules;
use crate::transition::job::tests::frozen;
use crate::transition::shard::Cuts;
use crate::transition::shard::tests::{TTL, at, job as job_in};
use crate::{FileBackend, MemoryBackend};

/// Loses about every third answer, before or after the effect.
#[derive(Debug)]
struct Lossy {
    inner: MemoryBackend,
    env: Env,
    lost: AtomicU64,
}

#[async_trait]
impl Backend for Lossy {
    async fn run_id(&self) -> Result<String, BackendError> {
        self.inner.run_id().await
    }

    async fn read(&self, keys: &[RecordKey]) -> Result<Snapshot, BackendError> {
        if self.env.random_fraction() < 0.1 {
            return Err(BackendError::Unavailable("cut".into()));
        }
        self.inner.read(keys).await
    }

    async fn swap(&self, swap: Swap) -> Result<SwapAnswer, BackendError> {
        let dice = self.env.random_fraction();
        if dice < 0.15 {
            return Err(BackendError::Unknown("cut before".into()));
        }
        let answer = self.inner.swap(swap).await?;
        if dice < 0.35 {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Err(BackendError::Unknown("cut after".into()));
        }
        Ok(answer)
    }

    async fn scan(&self, prefix: &str, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Listed>, BackendError> {
        self.inner.scan(prefix, after, limit).await
    }

    fn bell(&self) -> Bell {
        self.inner.bell()
    }
}

fn memory() -> Ledger {
    let env = Env::seeded(1, at(0));
    Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env)
}

fn range(start: &str, end: Option<&str>) -> KeyRange {
    KeyRange { start: start.into(), end: end.map(str::to_owned) }
}

fn ticket(job: &JobRecord, record: &ShardRecord) -> Ticket {
    Ticket {
        version: TICKET_VERSION,
        shard: record.shard.clone(),
        spec_hash: job.spec_hash.clone(),
        epoch: record.epoch.clone(),
        traceparent: String::new(),
    }
}

async fn running(ledger: &Ledger, ranges: Vec<KeyRange>) -> (JobRecord, PassId) {
    let mut job = job_in(Phase::Running);
    job.frozen = Some(frozen());
    ledger.begin_job(job.clone()).await.unwrap();
    let pass = ledger.open_pass(&job, PassKind::Walk, ranges, None).await.unwrap();
    (job, pass)
}

async fn take(ledger: &Ledger, job: &JobRecord, pass: PassId, n: u32) -> Result<HeldLease, LeaseRefusal> {
    let shard = ShardRef { job: job.id.clone(), pass, shard: ShardId(n) };
    let record = ledger.shard(&shard).await?;
    ledger.lease(&ticket(job, &record), "w1", TTL, false).await
}

fn window(held: &HeldLease, to: Position, rows: u64) -> Commit {
    let mut commit = Commit::of(held.record());
    commit.cursor = to;
    *commit.counts.by_outcome.entry(Outcome::Current).or_default() += rows;
    commit.listed += 2 * rows;
    commit.parts += 1;
    commit.last_part = Some(format!("{}-{}", held.epoch(), commit.parts));
    commit
}

#[tokio::test(start_paused = true)]
async fn under_lost_answers_every_step_happens_once() {
    for seed in 0..60 {
        let env = Env::seeded(seed, at(0));
        let lossy =
            Arc::new(Lossy { inner: MemoryBackend::new(env.clone()), env: env.clone(), lost: AtomicU64::new(0) });
        let ledger = Ledger::new(lossy.clone(), env);
        let (job, pass) = running(&ledger, vec![range("", Some("m")), range("m", None)]).await;
        for n in 0..2 {
            let mut held = take(&ledger, &job, pass, n).await.unwrap();
            assert_eq!(held.epoch().counter, 1, "a lease was given twice");
            let start = held.record().range.start.clone();
            for i in 0..5 {
                let to = Position::After(format!("{start}k{i}"), None);
                let commit = window(&held, to, 10);
                ledger.commit(&mut held, commit).await.unwrap();
            }
            let end = held.record().range.end_position();
            let commit = window(&held, end, 1);
            ledger.commit(&mut held, commit).await.unwrap();
            ledger.finish(held).await.unwrap();
        }
        let closed = ledger.close_pass(&job.id, pass).await.unwrap();
        assert_eq!((closed.counts.scanned(), closed.listed), (102, 204));
        assert_eq!(ledger.job(&job.id).await.unwrap().passes.len(), 1, "a pass was opened twice");
        assert!(lossy.lost.load(Ordering::Relaxed) > 0, "nothing was lost: the test proves nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_zombie_is_refused_and_the_signal_tells_of_cancel() {
    let ledger = memory();
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    let mut zombie = take(&ledger, &job, pass, 0).await.unwrap();
    assert!(matches!(take(&ledger, &job, pass, 0).await, Err(LeaseRefusal::Held { .. })));
    tokio::time::sleep(TTL + Duration::from_secs(1)).await;
    assert!(matches!(ledger.renew(&mut zombie).await, Err(LedgerError::Refused(Refusal::Expired))));
    let mut held = take(&ledger, &job, pass, 0).await.unwrap();
    assert_eq!(held.record().charges, 1);
    let late = window(&zombie, Position::After("a".into(), None), 1);
    assert!(matches!(ledger.commit(&mut zombie, late).await, Err(LedgerError::Refused(Refusal::Stale))));
    ledger.give_back(zombie).await.unwrap();
    ledger.update_job(&job.id, job_rules::cancel).await.unwrap();
    let (until, now) = (held.until(), ledger.now().await.unwrap());
    let commit = window(&held, Position::After("a".into(), None), 1);
    let signal = ledger.commit(&mut held, commit).await.unwrap();
    assert!(signal.must_stop && signal.job_state == JobState::Cancelling && held.until() == until && until > now);
    ledger.give_back(held).await.unwrap();
    let next = take(&ledger, &job, pass, 0).await;
    assert!(matches!(next, Err(LeaseRefusal::NotNow(_))), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_holder_splits_beyond_what_it_listed_and_the_pass_counts_all_pieces() {
    let ledger = memory();
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    let mut held = take(&ledger, &job, pass, 0).await.unwrap();
    ledger.ask(held.shard(), Asked::Split(2)).await.unwrap();
    assert_eq!(ledger.renew(&mut held).await.unwrap().asked, Some(Asked::Split(2)));
    let commit = window(&held, Position::After("c".into(), None), 3);
    assert_eq!(ledger.commit(&mut held, commit).await.unwrap().asked, Some(Asked::Split(2)));
    let begun_to = Position::After("f".into(), None);
    for bad in [&["e", "h"][..], &["h", "g"], &["g", "g"], &[]] {
        let cuts: Vec<String> = bad.iter().map(|cut| (*cut).to_owned()).collect();
        let refused = ledger.split(&mut held, Cuts { at: &cuts, begun_to: &begun_to, intents: false }).await;
        assert!(matches!(refused, Err(LedgerError::Refused(Refusal::BadSplit))), "{bad:?}");
    }
    let cuts = Cuts { at: &["g".into(), "p".into()], begun_to: &begun_to, intents: false };
    let signal = ledger.split(&mut held, cuts).await.unwrap();
    assert_eq!((signal.end.as_deref(), signal.asked), (Some("g"), None));
    let beyond = window(&held, Position::After("h".into(), None), 1);
    let refused = ledger.commit(&mut held, beyond).await;
    assert!(matches!(refused, Err(LedgerError::Refused(Refusal::CursorOutside))));
    let open = ledger.close_pass(&job.id, pass).await;
    assert!(matches!(open, Err(LedgerError::Refused(Refusal::OpenShards(_)))));
    let shards = ledger.shards(&job.id, pass).await.unwrap();
    let ranges: Vec<_> = shards.iter().map(|shard| &shard.range).collect();
    assert_eq!(ranges, [&range("", Some("g")), &range("g", Some("p")), &range("p", None)]);
    ledger.ask(held.shard(), Asked::Yield).await.unwrap();
    let shard = held.shard().clone();
    ledger.give_back(held).await.unwrap();
    assert_eq!(ledger.shard(&shard).await.unwrap().asked, None, "it was asked of a holder");
}

#[tokio::test(start_paused = true)]
async fn missing_records_fail_closed() {
    let env = Env::seeded(1, at(0));
    let backend = Arc::new(MemoryBackend::new(env.clone()));
    let ledger = Ledger::new(backend.clone(), env);
    let (job, pass) = running(&ledger, vec![range("", Some("m")), range("m", None)]).await;
    let mut held = take(&ledger, &job, pass, 0).await.unwrap();
    let gone = |key| Swap { writes: vec![(key, None)], ..Swap::default() };
    let second = ShardRef { shard: ShardId(1), ..held.shard().clone() };
    backend.swap(gone(crate::record::shard_key(&second))).await.unwrap();
    assert!(matches!(ledger.close_pass(&job.id, pass).await, Err(LedgerError::Lost(_))));
    backend.swap(gone(job_key(&job.id))).await.unwrap();
    assert!(matches!(ledger.renew(&mut held).await, Err(LedgerError::Lost(_))));
    let commit = window(&held, Position::End, 1);
    assert!(matches!(ledger.commit(&mut held, commit).await, Err(LedgerError::Lost(_))));
    assert!(matches!(ledger.job(&job.id).await, Err(LedgerError::Lost(_))), "a transition made the record anew");
}

#[tokio::test(start_paused = true)]
async fn one_job_per_scope_and_a_failed_one_resumes_while_its_place_stands() {
    let ledger = memory();
    let (job, _) = running(&ledger, vec![range("", None)]).await;
    let mut second = job_in(Phase::Queued);
    (second.id, second.spec.prefix) = (JobId::new(2, [2; 10]), "a/".into());
    let refused = ledger.begin_job(second.clone()).await;
    assert!(matches!(refused, Err(LedgerError::Refused(Refusal::Overlap { job: holder, .. })) if holder == job.id));
    let result = JobResult { counts: Counts::default(), ended: at(1), report: None };
    let fail = || ledger.update_job(&job.id, |job, now| job_rules::fail(job, StopReason::Canary, "", now));
    fail().await.unwrap();
    ledger.end_job(&job.id, &result).await.unwrap();
    let resumed = ledger.resume_job(&job.id).await.unwrap();
    assert!(resumed.nonce != job.nonce && resumed.state.word() == "running");
    assert!(ledger.begin_job(second.clone()).await.is_err());
    fail().await.unwrap();
    ledger.end_job(&job.id, &result).await.unwrap();
    ledger.begin_job(second).await.unwrap();
    assert!(matches!(ledger.resume_job(&job.id).await, Err(LedgerError::Refused(Refusal::PlaceTaken))));
    assert_eq!(ledger.jobs().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_gone_stops_no_other_job_and_is_taken_up_where_its_keys_are_free() {
    let env = Env::seeded(1, at(0));
    let backend = Arc::new(MemoryBackend::new(env.clone()));
    let ledger = Ledger::new(backend.clone(), env);
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    let mut other = job_in(Phase::Queued);
    (other.id, other.spec.bucket) = (JobId::new(2, [2; 10]), "other".into());
    ledger.begin_job(other.clone()).await.unwrap();
    let gone = |key| Swap { writes: vec![(key, None)], ..Swap::default() };
    backend.swap(gone(job_key(&job.id))).await.unwrap();
    let live: Vec<_> = ledger.live_jobs().await.unwrap().into_iter().map(|job| job.id).collect();
    assert_eq!(live, [other.id.clone()]);
    // Nor does one that another version wrote.
    let newer = Swap { writes: vec![(job_key(&job.id), Some(br#"{"version": 999}"#.to_vec()))], ..Swap::default() };
    backend.swap(newer).await.unwrap();
    assert_eq!(ledger.live_jobs().await.unwrap().len(), 1);
    assert_eq!(ledger.jobs().await.unwrap().len(), 1);
    assert!(matches!(ledger.job(&job.id).await, Err(LedgerError::Corrupt { .. })));
    backend.swap(gone(job_key(&job.id))).await.unwrap();
    // As it was kept when it began.
    let state = JobState::Failed { reason: StopReason::Lost, detail: String::new() };
    let kept = JobRecord { state, frozen: None, passes: Vec::new(), ..job.clone() };
    ledger.reinstate(&kept).await.unwrap();
    ledger.reinstate(&kept).await.unwrap();
    let resumed = ledger.resume_job(&job.id).await.unwrap();
    assert_eq!(resumed.state.word(), "preparing");
    assert_ne!(resumed.nonce, job.nonce);
    // What is left of its former passes is in nobody's way.
    assert_eq!(ledger.open_pass(&resumed, PassKind::Prepare, vec![range("", None)], None).await.unwrap(), pass);
    let taken = JobRecord { spec: other.spec, id: JobId::new(1, [3; 10]), ..kept };
    let refused = ledger.reinstate(&taken).await;
    assert!(matches!(refused, Err(LedgerError::Refused(Refusal::Overlap { job: holder, .. })) if holder == other.id));
}

#[tokio::test(start_paused = true)]
async fn the_prepare_pass_freezes_with_its_last_commit_and_foreign_tickets_are_known() {
    let ledger = memory();
    let job = job_in(Phase::Preparing);
    ledger.begin_job(job.clone()).await.unwrap();
    let pass = ledger.open_pass(&job, PassKind::Prepare, vec![range("", None)], None).await.unwrap();
    let record = ledger.shards(&job.id, pass).await.unwrap().remove(0);
    let foreign = Ticket { spec_hash: "other".into(), ..ticket(&job, &record) };
    assert!(matches!(ledger.lease(&foreign, "w", TTL, false).await, Err(LeaseRefusal::Foreign { .. })));
    let held = take(&ledger, &job, pass, 0).await.unwrap();
    let prepared = Prepared { frozen: frozen(), must_confirm: false, growth: None };
    assert_eq!(ledger.freeze(held, &prepared).await.unwrap().state.word(), "running");
    assert_eq!(ledger.shards(&job.id, pass).await.unwrap()[0].state, ShardState::Done);
    assert!(matches!(take(&ledger, &job, pass, 0).await, Err(LeaseRefusal::Over)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_by_records_that_something_else_changed() {
    let env = Env::seeded(1, at(0));
    let backend = Arc::new(MemoryBackend::new(env.clone()));
    let ledger = Ledger::new(backend.clone(), env);
    let mut job = job_in(Phase::Running);
    (job.spec.prefix, job.frozen) = ("logs/".into(), Some(frozen()));
    job.spec_hash = job.spec.hash();
    ledger.begin_job(job.clone()).await.unwrap();
    let wide = vec![range("logs/", Some("logs/m")), range("logs/m", Some("logt"))];
    let pass = ledger.open_pass(&job, PassKind::Walk, wide, None).await.unwrap();
    assert!(matches!(take(&ledger, &job, pass, 1).await, Err(LeaseRefusal::OutOfScope)));
    let held = take(&ledger, &job, pass, 0).await.unwrap();
    ledger.give_back(held).await.unwrap();
    rewrite(&backend, &job_key(&job.id), |job| job["spec"]["bucket"] = "another".into()).await;
    let refused = take(&ledger, &job, pass, 0).await.unwrap_err();
    assert!(matches!(refused, LeaseRefusal::Misread { .. }), "{refused}");
}

/// Changes a record behind the ledger's back.
async fn rewrite(backend: &MemoryBackend, key: &RecordKey, change: impl Fn(&mut serde_json::Value)) {
    let (revision, mut value) = stored(backend, key).await;
    change(&mut value);
    let writes = vec![(key.clone(), Some(serde_json::to_vec(&value).unwrap()))];
    let expect = vec![(key.clone(), Some(revision))];
    let swapped = backend.swap(Swap { expect, writes, ..Swap::default() }).await.unwrap();
    assert!(matches!(swapped, SwapAnswer::Done { .. }));
}

async fn stored(backend: &MemoryBackend, key: &RecordKey) -> (Revision, serde_json::Value) {
    let snapshot = backend.read(std::slice::from_ref(key)).await.unwrap();
    let stored = snapshot.records[0].as_ref().unwrap();
    (stored.revision, serde_json::from_slice(&stored.bytes).unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_version_put_into_records_stays_in_them() {
    let env = Env::seeded(1, at(0));
    let backend = Arc::new(MemoryBackend::new(env.clone()));
    let ledger = Ledger::new(backend.clone(), env);
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    let shard = ShardRef { job: job.id.clone(), pass, shard: ShardId(0) };
    let (job_key, shard_key) = (job_key(&job.id), crate::record::shard_key(&shard));
    rewrite(&backend, &job_key, |job| {
        job["new"] = "a".into();
        job["limits"]["new"] = serde_json::json!({"b": 1});
        job["passes"][0]["new"] = "c".into();
    })
    .await;
    rewrite(&backend, &shard_key, |shard| shard["new"] = "d".into()).await;
    let mut held = take(&ledger, &job, pass, 0).await.unwrap();
    let commit = window(&held, Position::Before("m".into()), 3);
    ledger.commit(&mut held, commit).await.unwrap();
    let cuts = Cuts { at: &["n".to_owned()], begun_to: &held.record().cursor.clone(), intents: false };
    ledger.split(&mut held, cuts).await.unwrap();
    let rest = window(&held, Position::Before("n".into()), 2);
    ledger.commit(&mut held, rest).await.unwrap();
    ledger.finish(held).await.unwrap();
    let limits = JobLimits { rate: Some(7.0), ..JobLimits::default() };
    ledger.update_job(&job.id, |job, now| job_rules::limit(job, &limits, now)).await.unwrap();
    ledger.update_job(&job.id, job_rules::cancel).await.unwrap();
    let (_, job) = stored(&backend, &job_key).await;
    assert_eq!(
        (&job["new"], &job["limits"]["new"]["b"], &job["passes"][0]["new"]),
        (&"a".into(), &1.into(), &"c".into())
    );
    assert_eq!((&job["limits"]["rate"], &job["state"]["state"]), (&7.0.into(), &"cancelling".into()), "{job}");
    assert_eq!(ledger.shard(&shard).await.unwrap().state, ShardState::Done);
    let (_, shard) = stored(&backend, &shard_key).await;
    assert_eq!(shard["new"], "d", "{shard}");
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_left_of_a_pass_is_written_over() {
    let env = Env::seeded(1, at(0));
    let backend = Arc::new(MemoryBackend::new(env.clone()));
    let ledger = Ledger::new(backend.clone(), env);
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    for n in 0..700 {
        let shard = ShardRef { job: job.id.clone(), pass: PassId(pass.0 + 1), shard: ShardId(n) };
        let key = crate::record::shard_key(&shard);
        let row = ShardRecord::new(shard, range("old", None), job.nonce.clone());
        let writes = vec![(key.clone(), Some(encode(&key, &row).unwrap()))];
        backend.swap(Swap { writes, ..Swap::default() }).await.unwrap();
    }
    let ranges: Vec<_> = (0..450).map(|n| range(&format!("{n:03}"), Some(&format!("{:03}", n + 1)))).collect();
    let seen = ledger.job(&job.id).await.unwrap();
    let next = ledger.open_pass(&seen, PassKind::Retry, ranges.clone(), None).await.unwrap();
    let rows = ledger.shards(&job.id, next).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.range.clone()).collect::<Vec<_>>(), ranges);
}

#[tokio::test]
async fn a_file_that_is_closed_at_any_step_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let env = Env::system();
    let open = || async {
        let backend = FileBackend::open(&path, env.clone()).await.unwrap();
        Ledger::new(Arc::new(backend), env.clone())
    };
    let mut ledger = open().await;
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    for i in 0..10_u32 {
        let mut held = take(&ledger, &job, pass, 0).await.unwrap();
        assert_eq!((held.record().counts.scanned(), held.record().parts), (u64::from(i), u64::from(i)));
        let commit = window(&held, Position::After(format!("k{i}"), None), 1);
        ledger.commit(&mut held, commit).await.unwrap();
        drop(ledger);
        ledger = open().await;
        assert!(matches!(take(&ledger, &job, pass, 0).await, Err(LeaseRefusal::Held { .. })));
        assert_eq!(ledger.void_leases(&job.id).await.unwrap(), 1);
        assert!(ledger.renew(&mut held).await.is_err(), "a lease outlived its process");
    }
    assert_eq!(ledger.shards(&job.id, pass).await.unwrap()[0].charges, 0, "it got on under each lease");
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_taken() {
    let mut job = job_in(Phase::Queued);
    job.spec.notify = Some(Notify { endpoint: "https://n".into(), token: Some("s3cr3t".into()) });
    let refused = memory().begin_job(job).await;
    assert!(matches!(refused, Err(LedgerError::Refused(Refusal::SecretInSpec))));
}

#[test]
fn a_shard_fits_into_a_kibibyte() {
    let (low, high) = ("ä".repeat(50), "ö".repeat(50));
    let job = job_in(Phase::Running);
    let shard = ShardRef { job: job.id, pass: PassId(12), shard: ShardId(123_456) };
    let mut record = ShardRecord::new(shard, range(&low, Some(&high)), Nonce("0123456789abcdef".into()));
    record.epoch.counter = 99_999;
    record.cursor = Position::After("é".repeat(50), Some("v".repeat(36)));
    let outcomes = [
        Outcome::Rotated(Evidence::Key),
        Outcome::Current,
        Outcome::Conflict,
        Outcome::Failed(FailReason::Store),
        Outcome::Skipped(SkipReason::SseC),
        Outcome::Skipped(SkipReason::Locked),
    ];
    record.counts.by_outcome = outcomes.map(|outcome| (outcome, 1_234_567)).into();
    record.counts.rotated_bytes = 1 << 50;
    record.replaced.by_outcome = [(Outcome::Conflict, 1_234_567)].into();
    record.last_part = Some("parts/p012/s123456/0123456789abcdef-099999-099999.csv.gz".into());
    (record.parts, record.charges) = (99_999, 2);
    record.last_holder = Some("worker-0123456789".into());
    let owner = "worker-0123456789".to_owned();
    record.state = ShardState::Leased { owner, token: "0123456789abcdef0123".into(), until: at(0), progressed: true };
    let bytes = serde_json::to_vec(&record).unwrap();
    assert!(bytes.len() <= 1024, "{} bytes", bytes.len());
    assert_eq!(serde_json::from_slice::<ShardRecord>(&bytes).unwrap(), record);
}

#[test]
fn version_1_of_a_shard_reads_as_ever() {
    let text = r#"{"v":1,"job":"00000000010000000000000000","pass":1,"shard":2,"r":{"start":"a","end":null},"st":{"leased":{"owner":"w","token":"t","until":1700000000000}},"e":{"nonce":"ab","counter":3},"c":{"before":"a"},"to":5}"#;
    let record: ShardRecord = serde_json::from_str(text).unwrap();
    assert!(matches!(record.state, ShardState::Leased { progressed: false, .. }));
    assert_eq!(serde_json::to_string(&record).unwrap(), text);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_nothing_moves_before_the_job_has_a_new_nonce() {
    let env = Env::seeded(3, at(0));
    let backend = Arc::new(MemoryBackend::new(env.clone()));
    let ledger = Ledger::new(backend.clone(), env);
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    let mut held = take(&ledger, &job, pass, 0).await.unwrap();
    let commit = window(&held, Position::After("k".into(), None), 1);
    backend.restart();
    let refused = ledger.commit(&mut held, commit.clone()).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Refused(Refusal::OtherRun)), "{refused:?}");
    let refused = take(&ledger, &job, pass, 0).await.unwrap_err();
    assert!(matches!(refused, LeaseRefusal::NotNow(Refusal::OtherRun)), "{refused:?}");

    let adopted = ledger.adopt(&job.id).await.unwrap();
    assert_ne!(adopted.nonce, job.nonce);
    assert_eq!(ledger.adopt(&job.id).await.unwrap(), adopted, "a nonce was drawn twice for one run");
    let refused = ledger.commit(&mut held, commit).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Refused(Refusal::Stale)), "{refused:?}");
    // The old lease stands by its time, and is fenced off by the nonce: nobody waits for it, nothing is charged.
    let record = ledger.shard(held.shard()).await.unwrap();
    assert!(record.wants_ticket(&adopted, at(0)) && !record.wants_ticket(&job, at(0)));
    let again = take(&ledger, &adopted, pass, 0).await.unwrap();
    assert_eq!((&again.epoch().nonce, again.epoch().counter), (&adopted.nonce, 2));
    assert_eq!(again.record().charges, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pass_is_opened_once_by_what_was_seen() {
    let ledger = memory();
    let (seen, pass) = running(&ledger, vec![range("", None)]).await;
    let late = ledger.open_pass(&seen, PassKind::Walk, vec![range("", None)], None).await.unwrap_err();
    assert!(matches!(late, LedgerError::Refused(Refusal::Superseded)), "{late:?}");
    assert_eq!(ledger.job(&seen.id).await.unwrap().passes.iter().map(|p| p.id).collect::<Vec<_>>(), [pass]);
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_changes_anything_as_leader() {
    let ledger = memory();
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    let first = ledger.lead("a", TTL).await.unwrap().unwrap();
    assert_eq!(ledger.lead("b", TTL).await.unwrap(), None);
    let led = ledger.led_by(first.clone());
    led.ask(&ShardRef { job: job.id.clone(), pass, shard: ShardId(0) }, Asked::Split(1)).await.unwrap();
    let seen = ledger.job(&job.id).await.unwrap();
    led.open_pass(&seen, PassKind::Prepare, vec![range("", None)], None).await.unwrap();

    tokio::time::sleep(TTL + Duration::from_secs(1)).await;
    let second = ledger.lead("b", TTL).await.unwrap().unwrap();
    assert_eq!(second.epoch.counter, first.epoch.counter + 1);
    let refused = led.open_pass(&seen, PassKind::Prepare, vec![range("", None)], None).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Refused(Refusal::NotLeader)), "{refused:?}");
    let refused = ledger.go_on_leading(&first, TTL).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Refused(Refusal::NotLeader)), "{refused:?}");
    ledger.resign(&first).await.unwrap();
    assert_eq!(ledger.leader().await.unwrap().unwrap().owner, "b");
    ledger.resign(&second).await.unwrap();
    assert!(ledger.lead("a", TTL).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_was_taken_before_its_confirm_leaves_no_mark() {
    let ledger = memory();
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    let shard = ShardRef { job: job.id.clone(), pass, shard: ShardId(0) };
    let out = ticket(&job, &ledger.shard(&shard).await.unwrap());
    let held = take(&ledger, &job, pass, 0).await.unwrap();
    ledger.ticket_published(&out, TTL).await.unwrap();
    ledger.give_back(held).await.unwrap();
    ledger.ticket_published(&out, TTL).await.unwrap();
    assert_eq!(ledger.shard(&shard).await.unwrap().ticket_out_until, None);
}

#[tokio::test(start_paused = true)]
async fn a_bell_hears_what_a_coordinator_must_act_on() {
    let ledger = memory();
    let (job, pass) = running(&ledger, vec![range("", None)]).await;
    let mut bell = ledger.bell();
    let mut rang = async || tokio::time::timeout(Duration::from_millis(1), bell.rung()).await.is_ok();
    let mut held = take(&ledger, &job, pass, 0).await.unwrap();
    assert!(rang().await, "a ticket is out no more");
    ledger.renew(&mut held).await.unwrap();
    let commit = window(&held, Position::After("k".into(), None), 1);
    ledger.commit(&mut held, commit).await.unwrap();
    assert!(!rang().await, "work goes on");
    ledger.give_back(held).await.unwrap();
    assert!(rang().await, "a shard waits");
    ledger.update_job(&job.id, job_rules::cancel).await.unwrap();
    assert!(rang().await, "the job is cancelled");
}

#[tokio::test(start_paused = true)]
async fn live_jobs_are_those_that_have_not_ended() {
    let ledger = memory();
    let (job, _) = running(&ledger, vec![]).await;
    assert_eq!(ledger.live_jobs().await.unwrap(), [ledger.job(&job.id).await.unwrap()]);
    ledger.update_job(&job.id, |job, now| job_rules::fail(job, StopReason::Refused, "", now)).await.unwrap();
    let result = JobResult { counts: Counts::default(), ended: at(0), report: None };
    ledger.end_job(&job.id, &result).await.unwrap();
    assert_eq!(ledger.live_jobs().await.unwrap(), []);
    ledger.resume_job(&job.id).await.unwrap();
    assert_eq!(ledger.live_jobs().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_submit_begins_one_job_under_lost_answers_too() {
    for seed in 0..30 {
        let env = Env::seeded(seed, at(0));
        let lossy =
            Arc::new(Lossy { inner: MemoryBackend::new(env.clone()), env: env.clone(), lost: AtomicU64::new(0) });
        let ledger = Ledger::new(lossy, env);
        let submit = |asked: &str| Submit { key: "k".into(), asked: asked.into(), remember: Duration::from_secs(60) };
        let job = |n: u8| {
            let mut job = job_in(Phase::Queued);
            job.id = JobId::new(u64::from(n), [n; 10]);
            job.spec.prefix = n.to_string();
            job
        };
        let (a, b) = (submit("a"), submit("a"));
        let (first, second) = tokio::join!(ledger.begin_job_once(job(1), &a), ledger.begin_job_once(job(2), &b));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first, second);
        assert_eq!(ledger.jobs().await.unwrap().len(), 1);
        let other = ledger.begin_job_once(job(3), &submit("b")).await.unwrap_err();
        assert!(matches!(other, LedgerError::Refused(Refusal::KeyReused(there)) if there == first));
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(ledger.begin_job_once(job(3), &submit("b")).await.unwrap(), job(3).id);
    }
}
