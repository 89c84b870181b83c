//! The scenarios: each puts objects into a bucket of its own, runs a job, and asks the oracle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use keyrotate_tests::bucket;
use keyrotate_tests::prelude::*;

use crate::every_kind::every_kind_of_object;
use crate::whole_job::a_whole_job_is_killed_again_and_again;

/// How many objects of the mix.
const MIXED: u64 = 200;

/// How a scenario ended, if it did not panic.
pub(crate) enum Verdict {
    /// All holds.
    Passed,
    /// keyrotate refused to begin, and said why.
    Refused(String),
}

/// One of them.
pub(crate) struct Scenario {
    /// What it shows.
    pub(crate) name: &'static str,
    /// Does it.
    pub(crate) run: fn(Arc<Target>) -> BoxFuture<'static, Verdict>,
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        /// All of them.
        pub(crate) const ALL: &[Scenario] =
            &[$(Scenario { name: stringify!($name), run: |target| Box::pin($name(target)) }),*];
    };
}

scenarios! {
    a_mixed_bucket_is_rotated
    a_versioned_bucket_keeps_its_versions
    sse_s3_is_sealed_again
    plaintext_is_left_alone_where_the_file_has_a_type
    filters_leave_the_rest_alone
    a_killed_job_goes_on
    writes_of_others_are_never_lost
    what_was_deleted_stays_deleted
    large_bodies_pass_where_they_may
    uploads_in_parts_pass_where_they_may
    what_lies_in_parts_stays_in_the_store
    an_unknown_key_is_refused
    the_store_changes_the_key_alone
    in_place_nobody_notices
    a_whole_job_is_killed_again_and_again
    every_kind_of_object
}

/// Runs a job to its end; the reason when keyrotate refused.
async fn rotate(stand: &Stand, job: &JobFile) -> Result<Ended, String> {
    let ended = stand.run(job, &["--no-wait"]).await;
    if ended.code == Some(5) { Err(ended.stderr) } else { Ok(ended.expect_completed()) }
}

macro_rules! or_refused {
    ($run:expr) => {
        match $run {
            Ok(ended) => ended,
            Err(why) => return Verdict::Refused(why),
        }
    };
}

async fn a_mixed_bucket_is_rotated(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    stand.put_mixed(MIXED).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    let ended = or_refused!(rotate(&stand, &job).await);
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.number("/scanned"), MIXED);
    assert_eq!(report.count("current"), MIXED / 20, "{}", report.summary);
    assert_eq!(report.count("rotated"), MIXED - MIXED / 20, "{}", report.summary);
    Verdict::Passed
}

async fn a_versioned_bucket_keeps_its_versions(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, true).await;
    // Further apart than what a write in its place has room in.
    let apart = || tokio::time::sleep(Duration::from_millis(50));
    stand.put_old("twice/", 20).await;
    apart().await;
    stand.put_old("twice/", 20).await;
    stand.put_old("once/", 10).await;
    stand.put_old("gone/", 3).await;
    apart().await;
    for i in 0..3 {
        bucket::delete(stand.client(), &stand.bucket, &format!("gone/{i:04}")).await;
    }
    let (before, job) = (stand.snapshot().await, stand.job());
    assert_eq!(before.len(), 53);
    let ended = or_refused!(rotate(&stand, &job).await);
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    // Where the current ones keep their versions, the noncurrent ones are written in their place, too.
    let strategies = report.summary["strategies"].as_object().expect("strategies").clone();
    let in_place = strategies.keys().all(|name| name == "update-encryption" || name.ends_with("in-place"));
    let (rotated, left, exit) = if in_place { (53, 0, 0) } else { (30, 23, 3) };
    assert_eq!(report.count("rotated"), rotated, "{}", report.summary);
    assert_eq!(report.contents().filter(|row| row["outcome"] == "skipped").count(), left, "{}", report.summary);
    let _ended = ended.expect(exit);
    for (version, was) in &before {
        assert!(
            bucket::list(stand.client(), &stand.bucket).await.iter().any(|one| one.version == version.1),
            "{was:?}"
        );
    }
    Verdict::Passed
}

async fn sse_s3_is_sealed_again(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    stand.put_all((0..40).map(|i| Put::sse_s3(format!("s3/{i}"), format!("body {i}")))).await;
    stand.put_old("kms/", 5).await;
    let job = JobFile::of(&stand.bucket).kind("sse-s3");
    let job = stand.as_needed(job);
    let before = stand.snapshot().await;
    let ended = or_refused!(rotate(&stand, &job).await);
    // From SSE-KMS to SSE-S3 would be a step down: an exception.
    let expect = Expect { seal: Some("sse-s3".into()), writes_again: true, ..Expect::default() };
    let report = oracle::check(&stand, &job, &before, &ended, &expect).await;
    assert_eq!(report.by_outcome().get("rotated/write"), Some(&40), "{}", report.summary);
    assert_eq!(report.by_outcome().get("skipped/downgrade"), Some(&5), "{}", report.summary);
    let _exceptions = ended.expect(3);
    Verdict::Passed
}

async fn plaintext_is_left_alone_where_the_file_has_a_type(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    stand.put_mixed(100).await;
    let before = stand.snapshot().await;
    let plain = Stand::keys_under(&before, "plaintext").len() as u64;
    let job = JobFile::of(&stand.bucket).kind("sse-kms").key(&stand.target.new_key);
    let job = stand.as_needed(job);
    let ended = or_refused!(rotate(&stand, &job).await);
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("skipped") + report.count("filtered"), plain, "{}", report.summary);
    assert_eq!(report.count("rotated"), 95 - plain, "{}", report.summary);
    Verdict::Passed
}

async fn filters_leave_the_rest_alone(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    let old = stand.target.old_key.clone();
    let one = |key: String, i: usize| Put::under(&old, key, format!("body {i}"));
    stand.put_all((0..10).map(|i| one(format!("in/tagged/{i}"), i).tag("team", "red").metadata("class", "a"))).await;
    stand.put_all((0..10).map(|i| one(format!("in/blue/{i}"), i).tag("team", "blue").metadata("class", "a"))).await;
    stand.put_all((0..10).map(|i| one(format!("in/other/{i}"), i).tag("team", "red").metadata("class", "b"))).await;
    stand.put_all((0..10).map(|i| one(format!("in/bare/{i}"), i))).await;
    stand.put_all((0..10).map(|i| one(format!("out/{i}"), i).tag("team", "red").metadata("class", "a"))).await;
    let job = stand.job().prefix("in/").filter("tags:\n  - key: team\n    value: red");
    let job = job.filter("metadata:\n  - key: class\n    value: a");
    let before = stand.snapshot().await;
    let ended = or_refused!(rotate(&stand, &job).await);
    let expect = Expect { prefix: "in/".into(), ..Expect::default() };
    let report = oracle::check(&stand, &job, &before, &ended, &expect).await;
    assert_eq!(report.count("rotated"), 10, "{}", report.summary);
    assert_eq!(report.count("filtered"), 30, "{}", report.summary);
    assert!((0..10).all(|i| report.outcome(&format!("in/tagged/{i}")) == "rotated/key"));
    Verdict::Passed
}

async fn a_killed_job_goes_on(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    stand.put_old("k/", 200).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    let mut first = stand.begin(&job, &["--no-wait", "--rate", "100"]);
    let new = format!("sse-kms:{}", bucket::bare(&stand.target.new_key));
    // An object under the new key shows that the walk has begun, on any store.
    let mut keys = (0..200).cycle();
    loop {
        if first.has_ended() {
            return Verdict::Refused(first.end().await.stderr);
        }
        let key = format!("k/{:04}", keys.next().unwrap_or(0));
        if bucket::seal_of(stand.client(), &stand.bucket, &key).await == new {
            break;
        }
    }
    let killed = first.kill().await;
    let ended = stand.run(&job, &[]).await.expect_completed();
    assert_eq!(ended.job(), killed.job(), "the same job goes on");
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated") + report.count("current"), 200, "{}", report.summary);
    Verdict::Passed
}

/// Four writers, each with keys of its own: what they wrote last is what they read next.
async fn writes_of_others_are_never_lost(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    stand.put_old("calm/", 60).await;
    stand.put_old("busy/", 20).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    let process = stand.begin(&job, &["--no-wait", "--rate", "30"]);
    let keys = |w: usize| (0..5).map(|i| format!("busy/{:04}", w * 5 + i)).collect();
    let writers: Vec<_> = (0..4).map(|w| Writer::start(&stand, keys(w))).collect();
    let ended = process.end().await;
    for writer in writers {
        let written = writer.stop().await;
        assert!(written.writes > 5, "it wrote while the job ran: {written:?}");
    }
    if ended.code == Some(5) {
        return Verdict::Refused(ended.stderr);
    }
    // Objects that are written all the time may end in conflict: 4. Whatever it is, nothing is lost.
    let ended = if ended.code == Some(4) { stand.run(&job, &[]).await } else { ended }.expect_completed();
    let touched: BTreeSet<_> =
        before.keys().map(|(key, _)| key.clone()).filter(|key| key.starts_with("busy/")).collect();
    let expect = Expect { touched, writes_again: true, ..Expect::default() };
    oracle::check(&stand, &job, &before, &ended, &expect).await;
    Verdict::Passed
}

async fn what_was_deleted_stays_deleted(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    stand.put_old("kept/", 60).await;
    stand.put_old("lost/", 40).await;
    let (before, job) = (stand.snapshot().await, stand.job());
    let process = stand.begin(&job, &["--no-wait", "--rate", "20"]);
    // Spread over the walk: some before the job comes to them, some while it is at them, some behind it.
    for i in 0..40 {
        bucket::delete(stand.client(), &stand.bucket, &format!("lost/{i:04}")).await;
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
    let ended = process.end().await;
    if ended.code == Some(5) {
        return Verdict::Refused(ended.stderr);
    }
    let ended = ended.expect_completed();
    let touched: BTreeSet<_> = (0..40).map(|i| format!("lost/{i:04}")).collect();
    let there = bucket::list(stand.client(), &stand.bucket).await;
    let back: Vec<_> = there.iter().filter(|one| touched.contains(&one.key)).collect();
    assert!(back.is_empty(), "deleted and there again: {back:?}");
    let expect = Expect { touched, ..Expect::default() };
    oracle::check(&stand, &job, &before, &ended, &expect).await;
    Verdict::Passed
}

/// More than the 1 MiB that may pass through keyrotate by default.
async fn large_bodies_pass_where_they_may(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    stand.put_all([large(&stand, "large/1", 2), large(&stand, "large/2", 7), large(&stand, "small", 0)]).await;
    let job = JobFile::of(&stand.bucket).key(&stand.target.new_key).option("bodyTransit: any");
    let before = stand.snapshot().await;
    let ended = or_refused!(rotate(&stand, &job).await);
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated"), 3, "{:?}", report.rows);
    Verdict::Passed
}

async fn uploads_in_parts_pass_where_they_may(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    bucket::put_parts(stand.client(), &stand.bucket, large(&stand, "parts/1", 6), PART).await;
    bucket::put_parts(stand.client(), &stand.bucket, large(&stand, "parts/2", 11), PART).await;
    let mut job = JobFile::of(&stand.bucket).key(&stand.target.new_key).option("bodyTransit: any");
    let before = stand.snapshot().await;
    let mut ended = or_refused!(rotate(&stand, &job).await);
    if stand.report(&ended).count("skipped") == 2 {
        // Nothing that is guarded here keeps the parts: they may be lost where the file says so.
        job = job.option("acceptLoss: [parts]");
        ended = or_refused!(rotate(&stand, &job).await);
    }
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated"), 2, "{:?}", report.rows);
    Verdict::Passed
}

/// No body passes through keyrotate: the store changes the key, or copies part by part.
async fn what_lies_in_parts_stays_in_the_store(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    bucket::put_parts(stand.client(), &stand.bucket, large(&stand, "parts/1", 6), PART).await;
    bucket::put_parts(stand.client(), &stand.bucket, large(&stand, "parts/2", 5), PART).await;
    let job = JobFile::of(&stand.bucket).key(&stand.target.new_key).option("bodyTransit: 0");
    let before = stand.snapshot().await;
    let ended = or_refused!(rotate(&stand, &job).await);
    let report = oracle::check(&stand, &job, &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated"), 2, "{}", ended.stderr);
    Verdict::Passed
}

/// The first of two parts.
const PART: usize = 5 << 20;

/// An object of so many MiB and a little more.
pub(crate) fn large(stand: &Stand, key: &str, mib: usize) -> Put {
    let body = (0..(mib << 20) + 17).map(|n| (n * 31 + n / 251) as u8).collect::<Vec<u8>>();
    Put::under(&stand.target.old_key, key, body).tag("team", "red").metadata("class", "a")
}

async fn an_unknown_key_is_refused(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    stand.put_old("k/", 3).await;
    let before = stand.snapshot().await;
    let ended = stand.run(&JobFile::of(&stand.bucket).key("keyrotate-no-such-key"), &["--no-wait"]).await.expect(5);
    assert!(ended.stderr.contains("keyrotate-no-such-key"), "{}", ended.stderr);
    assert_eq!(stand.snapshot().await, before, "nothing was touched");
    oracle::nothing_of_ours_is_left(&stand).await;
    Verdict::Passed
}

/// By UpdateObjectEncryption: no new version, date or ETag.
async fn the_store_changes_the_key_alone(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, true).await;
    stand.put_old("kms/", 20).await;
    stand.put_all((0..10).map(|i| Put::sse_s3(format!("s3/{i}"), format!("body {i}")))).await;
    let report = or_refused!(changed_by(&stand, "update-encryption", 0).await);
    assert_eq!(report.count("rotated"), 30, "{}", report.summary);
    Verdict::Passed
}

/// Written anew under the old date and ETag. The date grows by a millisecond, which may begin a new second.
async fn in_place_nobody_notices(target: Arc<Target>) -> Verdict {
    let stand = Stand::on(target, false).await;
    stand.put_old("kms/", 20).await;
    stand.put_all((0..10).map(|i| Put::sse_s3(format!("s3/{i}"), format!("body {i}")))).await;
    stand.put_all((0..10).map(|i| Put::plain(format!("plain/{i}"), format!("body {i}")))).await;
    let report = or_refused!(changed_by(&stand, "rewrite-in-place", 1).await);
    assert_eq!(report.count("rotated"), 40, "{}", report.summary);
    Verdict::Passed
}

/// Rotates by that strategy alone: the versions stay, with their ETags and dates, but for so many seconds.
async fn changed_by(stand: &Stand, strategy: &str, seconds: i64) -> Result<Report, String> {
    let (before, job) = (stand.snapshot().await, stand.job());
    // A write with the date of now must show.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let ended = rotate(stand, &job).await?;
    let after = stand.snapshot().await;
    assert!(before.keys().eq(after.keys()), "no version came or went");
    for (version, was) in &before {
        let now = &after[version];
        assert_eq!((&now.etag, now.latest), (&was.etag, was.latest), "{version:?}");
        assert!((0..=seconds).contains(&(now.last_modified - was.last_modified)), "{version:?}: {was:?} {now:?}");
    }
    let report = oracle::check(stand, &job, &before, &ended, &Expect::default()).await;
    let others: Vec<_> = report.rows.iter().filter(|row| row["strategy"] != strategy).collect();
    assert!(others.is_empty(), "{others:?}");
    Ok(report)
}
