//! A whole job as it happens to people: a bucket of everything, somebody who reads, somebody who writes, and a process
//! that is killed again and again. `KEYROTATE_ACCEPTANCE_OBJECTS` and `KEYROTATE_ACCEPTANCE_KILLS` make it larger.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use keyrotate_tests::bucket;
use keyrotate_tests::prelude::*;
use keyrotate_tests::target::MOTO;

use crate::scenarios::{Verdict, large};

/// Objects that somebody overwrites all the while.
const BUSY: usize = 10;
/// Objects that are looked at to see how far a job has come.
const SAMPLE: u64 = 24;

pub(crate) async fn a_whole_job_is_killed_again_and_again(target: Arc<Target>) -> Verdict {
    let (mixed, kills) = (setting("KEYROTATE_ACCEPTANCE_OBJECTS", 300), setting("KEYROTATE_ACCEPTANCE_KILLS", 2));
    let stand = Stand::on(target, false).await;
    let job = fill(&stand, mixed).await;
    let before = stand.snapshot().await;
    let busy: Vec<String> = (0..BUSY).map(|i| format!("busy/{i:04}")).collect();
    let rate = (mixed / 10).max(30).to_string();
    let mut killed = Vec::new();
    let mut process = stand.begin(&job, &["--no-wait", "--rate", &rate]);
    let writer = Writer::start(&stand, busy.clone());
    for kill in 1..=kills {
        if !until_so_far(&stand, &mut process, mixed, kill, kills + 1).await {
            break;
        }
        killed.push(process.kill().await);
        process = stand.begin(&job, &["--no-wait", "--rate", &rate]);
    }
    let ended = process.end().await;
    let written = writer.stop().await;
    if ended.code == Some(5) {
        return Verdict::Refused(ended.stderr);
    }
    assert_eq!(killed.len() as u64, kills, "it was through before it could be killed that often");
    for one in &killed {
        assert_eq!((one.code, one.job()), (None, ended.job()), "killed at work, and always the same job");
    }
    assert!(written.over_the_job > 0, "writer and job never met: {written:?}");
    // Objects that are written all the time may end in conflict; now nobody writes any more.
    let ended = if ended.code == Some(4) { stand.run(&job, &[]).await } else { ended }.expect_completed();
    let report = stand.report(&ended);
    let all = before.len() as u64;
    assert_eq!(report.number("/scanned"), all, "{}", report.summary);
    assert_eq!(report.count("filtered"), mixed / 20, "{}", report.summary);
    assert_eq!(report.count("rotated") + report.count("current"), all - mixed / 20, "{}", report.summary);
    let expect = Expect { touched: busy.into_iter().collect(), writes_again: true, ..Expect::default() };
    // What the writer left under the old key behind the walk is for a second run; a third one writes nothing at all.
    let second = stand.run(&job, &[]).await.expect_completed();
    assert!(stand.report(&second).count("rotated") <= BUSY as u64, "{}", stand.report(&second).summary);
    let after = stand.snapshot().await;
    oracle::a_second_run_writes_nothing(&stand, &job, &after).await;
    oracle::check(&stand, &job, &before, &ended, &expect).await;
    Verdict::Passed
}

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok().filter(|value| !value.is_empty());
    set.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{value}`")))
}

/// Of 20 objects one is too old for the job's filter; the rest is the mix, with checksums of both kinds, one large
/// object and one in parts. Gives the job file.
async fn fill(stand: &Stand, mixed: u64) -> JobFile {
    let count = |n: u64| usize::try_from(n).expect("a test puts no more than memory holds");
    stand.put_old("early/", count(mixed / 20)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let marker = Put::under(&stand.target.old_key, "late/marker", "from here on").with_sha256();
    bucket::put(stand.client(), &stand.bucket, marker).await;
    let head = stand.client().head_object().bucket(&stand.bucket).key("late/marker").send().await;
    let since = head.expect("it was just put").last_modified.expect("every object has a date").secs();
    let since = jiff::Timestamp::from_second(since - 1).expect("a date of this century");
    stand.put_mixed(mixed).await;
    let old = &stand.target.old_key;
    let summed = |i: u64| Put::under(old, format!("summed/{i:05}"), format!("body {i}")).with_sha256().tag("n", "1");
    stand.put_all((0..mixed / 20).map(summed)).await;
    stand.put_old("busy/", BUSY).await;
    stand.put_all([large(stand, "large/1", 2)]).await;
    // On moto's server these can't be rotated: not-run.yaml.
    if stand.target.name != MOTO {
        bucket::put_parts(stand.client(), &stand.bucket, large(stand, "parts/1", 6), 5 << 20).await;
    }
    let job = JobFile::of(&stand.bucket).key(&stand.target.new_key).option("bodyTransit: any");
    // Where nothing keeps them.
    let job = job.option("acceptLoss: [parts]");
    job.filter(&format!("createdAfter: {since}"))
}

/// Waits until `done` of `of` parts of a sample are under the new key; `false` when the process ended before.
async fn until_so_far(stand: &Stand, process: &mut Process, mixed: u64, done: u64, of: u64) -> bool {
    let new = format!("sse-kms:{}", bucket::bare(&stand.target.new_key));
    let sample: Vec<_> = (0..SAMPLE).map(|i| Put::from(mixed_object(stand, mixed * i / SAMPLE)).key).collect();
    while !process.has_ended() {
        let seals = sample.iter().map(|key| bucket::seal_of(stand.client(), &stand.bucket, key));
        let under = join_all(seals).await.iter().filter(|seal| **seal == new).count() as u64;
        if under * of >= SAMPLE * done {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// The object of the mix at or behind `i` that begins under the old key.
fn mixed_object(stand: &Stand, i: u64) -> keyrotate_devstack::mixed::Mixed {
    let i = if i % 20 < 7 { i - i % 20 + 7 } else { i };
    keyrotate_devstack::mixed::object(i, &stand.target.old_key, &stand.target.new_key)
}
