//! Every edge of a job's states, and what may be leased in them.

use keyrotate_proto::capability::{FROZEN_VERSION, FrozenTarget, LeasePlace, Versioning};
use proptest::prelude::*;

use super::*;
use crate::record::BucketRecord;
use crate::transition::bucket;
use crate::transition::shard::tests::{at, job as job_in};

pub(crate) fn frozen() -> Frozen {
    Frozen {
        version: FROZEN_VERSION,
        target: FrozenTarget::SseS3,
        versioning: Versioning::Off,
        listing_facts: false,
        tags_announced: true,
        probed: std::collections::BTreeSet::new(),
        same_bucket: true,
        proofs: vec![],
        notes: vec![],
        new_objects: None,
        acl_owner: None,
        retains: false,
        lease: LeasePlace::Reports,
        canary: None,
        canaries: [].into(),
    }
}

fn found(frozen: Frozen, must_confirm: bool) -> Prepared {
    Prepared { frozen, must_confirm, growth: None }
}

#[test]
fn what_is_added_stays_below_what_was_confirmed_and_whoever_raises_that_lets_it_go_on() {
    let growth = Some(Growth { versions: 3, bytes: 90, bound: 100, granted: 0 });
    let prepared_so = Prepared { growth, ..found(frozen(), true) };
    let waiting = prepared(&job_in(Phase::Preparing), &prepared_so, at(1)).unwrap();
    let running = confirm(&waiting, "x", at(2)).unwrap();
    let grown = grow(&grow(&running, 60, at(3)).unwrap(), 40, at(3)).unwrap();
    assert_eq!(grow(&grown, 1, at(4)), Err(Refusal::Bound { left: 0 }));
    let back = grew_less(&grown, 30, at(4));
    assert_eq!(grow(&back, 31, at(5)), Err(Refusal::Bound { left: 30 }));
    let paused = pause(&back, PauseReason::Growth, "", at(5)).unwrap();
    assert!(resume(&paused, false, at(6)).is_err(), "no probe ends it");
    assert_eq!(paused_for(&paused, at(100)).as_secs(), 0);
    assert_eq!(bound(&paused, 90, "x", at(7)).unwrap().state.word(), "paused", "less is not more");
    let on = bound(&paused, 200, "x", at(7)).unwrap();
    assert_eq!((on.state.word(), on.growth.as_ref().unwrap().bound), ("running", 200));
    assert!(grow(&on, 130, at(8)).is_ok());
    assert!(bound(&job_in(Phase::Running), 1, "x", at(9)).is_err(), "nothing bounds it");
    assert_eq!(grow(&job_in(Phase::Running), u64::MAX, at(9)), Ok(job_in(Phase::Running)));
}

fn result() -> JobResult {
    JobResult { counts: Counts::default(), ended: at(9), report: None }
}

#[test]
fn the_straight_way_ends_in_completed_which_nothing_changes() {
    let queued = job_in(Phase::Queued);
    let preparing = begin(&queued, at(1)).unwrap();
    let waiting = prepared(&preparing, &found(frozen(), true), at(2)).unwrap();
    assert_eq!(waiting.state.word(), "awaiting-confirmation");
    let running = confirm(&waiting, "x", at(3)).unwrap();
    let walking = open_pass(&running, PassKind::Walk, 1, None, at(4)).unwrap();
    assert_eq!(verify(&walking, at(5)), Err(Refusal::OpenShards(PassId(0))));
    let none = Counts::default();
    let walked = close_pass(&walking, PassId(0), &none, &none, 0, 0, at(5)).unwrap();
    assert!(end(&walked, &result(), at(5)).is_err());
    let done = end(&verify(&walked, at(6)).unwrap(), &result(), at(7)).unwrap();
    assert_eq!(done.state, JobState::Completed);
    assert!(cancel(&done, at(8)).is_err());
    assert!(fail(&done, StopReason::Canary, "", at(8)).is_err());
    assert!(pause(&done, PauseReason::Operator, "", at(8)).is_err());
    assert!(resume_failed(&done, Nonce("x".into()), at(8)).is_err());
    assert!(open_pass(&done, PassKind::Clean, 1, None, at(8)).is_err());
}

#[test]
fn what_was_frozen_never_changes() {
    let running = prepared(&job_in(Phase::Preparing), &found(frozen(), false), at(1)).unwrap();
    assert_eq!(prepared(&running, &found(frozen(), false), at(2)), Ok(running.clone()));
    let other = Frozen { same_bucket: false, ..frozen() };
    assert!(prepared(&running, &found(other.clone(), false), at(2)).is_err());
}

#[test]
fn only_pauses_that_a_probe_can_end_count_and_only_an_operator_ends_his_own() {
    let running = job_in(Phase::Running);
    let down = pause(&running, PauseReason::KmsDown, "refused", at(10)).unwrap();
    assert_eq!(paused_for(&down, at(40)).as_secs(), 30);
    let ordered = pause(&down, PauseReason::Operator, "", at(40)).unwrap();
    assert_eq!(pause(&ordered, PauseReason::Denied, "", at(50)), Ok(ordered.clone()));
    assert!(resume(&ordered, false, at(50)).is_err());
    let on = resume(&ordered, true, at(100)).unwrap();
    assert_eq!((on.state.word(), paused_for(&on, at(200)).as_secs()), ("running", 30));
}

#[test]
fn a_failed_job_resumes_under_a_new_nonce_with_what_was_frozen() {
    let running = prepared(&job_in(Phase::Preparing), &found(frozen(), false), at(1)).unwrap();
    let failing = fail(&running, StopReason::PauseLimit, "24 h", at(2)).unwrap();
    assert_eq!(fail(&failing, StopReason::Canary, "", at(3)), Ok(failing.clone()), "the first reason stands");
    let failed = end(&failing, &result(), at(4)).unwrap();
    let on = resume_failed(&failed, Nonce("new".into()), at(5)).unwrap();
    assert_eq!((on.state.word(), on.nonce.0.as_str(), on.frozen.is_some()), ("running", "new", true));
    assert_eq!(cancel(&failing, at(5)).unwrap().state, JobState::Cancelling);
}

#[test]
fn what_ended_before_a_resume_does_not_count_after_it() {
    let none = Counts::default();
    let pass = |job: &JobRecord, kind| {
        let id = next_pass(job);
        close_pass(&open_pass(job, kind, 1, None, at(2)).unwrap(), id, &none, &none, 0, 0, at(2)).unwrap()
    };
    let running = prepared(&job_in(Phase::Preparing), &found(frozen(), false), at(1)).unwrap();
    let verified = pass(&verify(&pass(&running, PassKind::Walk), at(2)).unwrap(), PassKind::Verify);
    let failing = fail(&verified, StopReason::ObjectsLeft, "", at(3)).unwrap();
    let failed = end(&pass(&failing, PassKind::Clean), &result(), at(4)).unwrap();
    let on = resume_failed(&failed, Nonce("new".into()), at(5)).unwrap();
    assert_eq!((on.last_pass(PassKind::Clean), on.last_pass(PassKind::Verify)), (None, None));
    // One that failed half way through `verifying` goes on there.
    let half = open_pass(&verify(&pass(&running, PassKind::Walk), at(2)).unwrap(), PassKind::Verify, 1, None, at(2));
    let failed = end(&fail(&half.unwrap(), StopReason::BodyChanged, "", at(3)).unwrap(), &result(), at(4)).unwrap();
    let on = resume_failed(&failed, Nonce("new".into()), at(5)).unwrap();
    assert_eq!((on.state.word(), on.last_pass(PassKind::Verify).map(|p| p.id)), ("verifying", Some(PassId(1))));
}

#[test]
fn what_may_be_leased_in_each_state() {
    use PassKind::{Clean, Prepare, Retry, Verify, Walk};
    let paused = |reason| JobState::Paused { phase: Phase::Running, reason, detail: String::new(), since: at(0) };
    let failing = JobState::Failing { reason: StopReason::Canary, detail: String::new() };
    let table: [(JobState, &[PassKind]); 10] = [
        (JobState::Live { phase: Phase::Queued }, &[]),
        (JobState::Live { phase: Phase::Preparing }, &[Prepare]),
        (JobState::Live { phase: Phase::AwaitingConfirmation }, &[]),
        (JobState::Live { phase: Phase::Running }, &[Prepare, Walk, Retry]),
        (JobState::Live { phase: Phase::Verifying }, &[Prepare, Verify, Clean]),
        (paused(PauseReason::KmsDown), &[Prepare]),
        (paused(PauseReason::Operator), &[]),
        (JobState::Cancelling, &[Clean]),
        (failing, &[Clean]),
        (JobState::Completed, &[]),
    ];
    for (state, allowed) in table {
        for kind in [Prepare, Walk, Retry, Verify, Clean] {
            assert_eq!(may_lease(&state, kind), allowed.contains(&kind), "{kind} in {state:?}");
        }
    }
}

proptest! {
    #[test]
    fn live_jobs_of_a_bucket_never_overlap_and_a_struck_one_never_comes_back(
        ops in proptest::collection::vec((0..4_u8, 0..5_u8, "[ab]{0,2}"), 1..40),
    ) {
        let mut record = BucketRecord::default();
        let id = |n: u8| keyrotate_proto::id::JobId::new(1, [n; 10]);
        for (op, n, prefix) in ops {
            let mut job = job_in(Phase::Queued);
            (job.id, job.spec.prefix) = (id(n), prefix);
            let next = match op {
                0 => bucket::begin(&record, &job),
                1 => Ok(bucket::end(&record, &job.id, false)),
                2 => Ok(bucket::end(&record, &job.id, true)),
                _ => bucket::resume(&record, &job.id),
            };
            if let Ok(next) = next {
                record = next;
            }
            for (i, a) in record.entries.iter().enumerate() {
                for b in &record.entries[i + 1..] {
                    prop_assert!(a.job != b.job && !a.range.overlaps(&b.range), "{record:?}");
                }
            }
        }
    }
}
