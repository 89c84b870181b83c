//! What is asked before a job: the doctor, the census, the dry run; what a job asks before it makes a bucket grow; and what it is
//! told while it works, from another terminal.

use keyrotate_devstack::model::BucketSettings;
use keyrotate_store::{LifecycleRule, ObjectAt};
use keyrotate_tests::exe::job_id;
use keyrotate_tests::prelude::*;
use keyrotate_tests::target::WRITES;
use serde_json::Value;

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", ended.stdout, ended.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_foretells_what_the_run_then_does_and_writes_nothing() {
    for mode in Mode::all() {
        let stand = Stand::embedded(mode).await;
        stand.put_mixed(120).await;
        let (before, job) = (stand.snapshot().await, stand.job());
        let scope = format!("s3://{}", stand.bucket);
        let doctor = stand.start(&["doctor", &scope, "--key", &stand.target.new_key, "--output", "json"]).end().await;
        assert!(json(&doctor)["findings"].as_array().is_some_and(|found| found.len() > 10), "{}", doctor.stdout);
        let written = stand.target.requests(&WRITES);
        let file = stand.write(&job).display().to_string();
        let dry = stand.start(&["run", &file, "--dry-run", "--output", "json"]).end().await.expect(0);
        assert_eq!(stand.target.requests(&WRITES), written, "{}: a dry run wrote", stand.target.name);
        assert_eq!(stand.snapshot().await, before);
        let forecast = json(&dry);
        assert_eq!((&forecast["complete"], &forecast["ways"][0]["basis"]), (&true.into(), &"proven".into()));
        assert_eq!(forecast["ways"].as_array().map(Vec::len), Some(1), "what the doctor proved leaves no other way");
        let run = stand.run(&job, &["--yes", "--output", "json"]).await.expect_completed();
        let counts = &run.summary()["counts"]["by_outcome"];
        let mut foretold = std::collections::BTreeMap::<String, u64>::new();
        for fated in forecast["ways"][0]["fates"].as_array().unwrap() {
            let fate = fated["fate"].as_str().unwrap();
            let written = keyrotate_proto::outcome::Strategy::parse(fate).is_some();
            *foretold.entry(if written { "rotated/key".into() } else { fate.into() }).or_default() +=
                fated["objects"]["value"].as_u64().unwrap();
        }
        let did: std::collections::BTreeMap<String, u64> = serde_json::from_value(counts.clone()).unwrap();
        assert_eq!(foretold, did, "{}: {}", stand.target.name, run.summary());
    }
}

/// A bucket with all that may react to a rotation.
async fn reacting(mode: Mode) -> Stand {
    let stand = Stand::embedded(mode).await;
    stand.put_old("k/", 30).await;
    let model = stand.target.model();
    let rule = LifecycleRule { id: "old".into(), prefix: "k/".into(), expires: Some(30), ..LifecycleRule::default() };
    let settings = model.settings(&stand.bucket).expect("a bucket");
    let (lifecycle, replication, events) = (vec![rule], vec!["copies".to_owned()], vec!["listener".to_owned()]);
    let settings = BucketSettings { lifecycle, replication, events, ..settings };
    model.configure(&stand.bucket, settings).expect("a bucket");
    model.mark_replica(&ObjectAt::current(&stand.bucket, "k/0000")).expect("an object");
    stand
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_elsewhere_is_told_with_its_size() {
    for (mode, keeps_dates) in [(Mode::rgw(), false), (Mode::aws(), true), (Mode::minio(), true)] {
        let stand = reacting(mode).await;
        let before = stand.snapshot().await;
        let scope = format!("s3://{}", stand.bucket);
        let doctor = stand.start(&["doctor", &scope, "--key", &stand.target.new_key]).end().await;
        for part in ["`old`: expire after 30 days (`k/`)", "replicated to copies", "events go to listener"] {
            assert!(doctor.stdout.contains(part), "{part}: {}", doctor.stdout);
        }
        let ended = stand.run(&stand.job(), &[]).await.expect_completed();
        let size = "(~30 objects with ~";
        let told = |part: &str| ended.stderr.lines().any(|line| line.starts_with("note: ") && line.contains(part));
        for part in ["replicated to copies", "events go to listener", "are replicas of another bucket's"] {
            let line = ended.stderr.lines().find(|line| line.contains(part));
            assert!(line.is_some_and(|line| line.contains(size)), "{part}: {}", ended.stderr);
        }
        assert_eq!(told("the age of each rotated object starts anew"), !keeps_dates, "{}", ended.stderr);
        let described = stand.start(&["describe", &ended.job()]).end().await.expect(0);
        assert!(described.stdout.contains("replicated to copies"), "{}", described.stdout);
        oracle::check(&stand, &stand.job(), &before, &ended, &Expect::default()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_asked_about_a_bucket_is_said_and_stops_nothing() {
    let stand = reacting(Mode::aws()).await;
    let denied = Fault::Refused(403, "AccessDenied", "Access Denied");
    for operation in [
        "GetBucketLifecycleConfiguration",
        "GetBucketReplication",
        "GetBucketNotificationConfiguration",
        "GetBucketLocation",
    ] {
        stand.target.faults().add(FaultRule::on(operation, denied));
    }
    let ended = stand.run(&stand.job(), &[]).await.expect_completed();
    for right in ["s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration", "s3:GetBucketNotification"] {
        assert!(ended.stderr.contains(right), "{right}: {}", ended.stderr);
    }
    assert_eq!(stand.report(&ended).count("rotated"), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_census_that_is_interrupted_goes_on() {
    let stand = Stand::embedded(Mode::rgw()).await;
    stand.put_old("k/", 2_500).await;
    let (scope, key) = (format!("s3://{}", stand.bucket), stand.target.new_key.clone());
    let args = ["census", &scope, "--key", &key, "--full", "--rate", "400", "--output", "json"];
    let mut first = stand.start(&args);
    let kept = || {
        std::fs::read_dir(stand.state()).is_ok_and(|mut dirs| {
            dirs.any(|dir| dir.is_ok_and(|dir| dir.path().join(&stand.bucket).join("census.json").exists()))
        })
    };
    until("something was counted and kept", || first.has_ended() || kept()).await;
    first.signal("INT");
    let _interrupted = first.end().await.expect(6);
    let again = ["census", &scope, "--key", &key, "--full", "--output", "json"];
    let second = stand.start(&again).end().await.expect(0);
    let forecast = json(&second);
    assert_eq!((&forecast["objects"]["value"], &forecast["complete"]), (&2_500.into(), &true.into()));
    assert!(forecast["looked"].as_u64().unwrap() < 2_500, "what was counted before counts: {}", second.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_grows_only_as_far_as_somebody_said() {
    let target = std::sync::Arc::new(Target::embedded(Mode::rgw()).await);
    let stand = Stand::on(target, true).await;
    stand.put_old("k/", 60).await;
    let before = stand.snapshot().await;
    let file = stand.write(&stand.job()).display().to_string();
    let refused = stand.start(&["run", &file]).end().await.expect(5);
    assert!(refused.stderr.contains("add about 60 versions with"), "{}", refused.stderr);
    assert!(refused.stderr.contains("maxAddedBytes"), "{}", refused.stderr);
    assert_eq!(stand.snapshot().await, before);
    let job = job_id(&refused.stderr).unwrap();
    let cancelled = stand.start(&["cancel", &job]).end().await;
    assert_eq!(cancelled.code, Some(0), "{}", cancelled.stderr);
    // A bound in the file is an answer; nothing is added beyond it.
    let bytes: u64 = before.values().map(|seen| seen.content.size).sum();
    let bounded = stand.job().option(&format!("maxAddedBytes: {}", bytes / 2));
    let paused = stand.run(&bounded, &["--no-wait"]).await.expect(5);
    assert!(
        paused.stderr.contains("growth") || paused.stdout.contains("growth"),
        "{}\n{}",
        paused.stdout,
        paused.stderr
    );
    let added: Vec<_> = stand.snapshot().await.into_iter().filter(|(at, _)| !before.contains_key(at)).collect();
    let added_bytes: u64 = added.iter().map(|(_, seen)| seen.content.size).sum();
    assert!(added_bytes <= bytes / 2 && added_bytes > bytes / 4, "{added_bytes} of {bytes}");
    let job = paused.job();
    let set = stand.start(&["set", &job, "--max-added", "1GiB"]).end().await.expect(0);
    assert!(set.stdout.contains("adds at most 1.0 GiB"), "{}", set.stdout);
    let ended = stand.run(&bounded, &[]).await.expect_completed();
    assert_eq!(ended.job(), job);
    assert_eq!(stand.snapshot().await.len(), 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_slowed_paused_and_let_go_from_another_terminal() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 400).await;
    let mut run = stand.begin(&stand.job(), &["--rate", "5"]);
    until("the job has a name", || run.has_ended() || job_id(&run.stderr()).is_some()).await;
    let job = job_id(&run.stderr()).unwrap();
    let ask = async |verb: &[&str]| stand.start(verb).end().await;
    let status = async || json(&ask(&["status", &job, "--once", "--output", "json"]).await.expect(0));
    while status().await["state"] != "running" {
        assert!(!run.has_ended(), "{}", run.stderr());
    }
    let slowed = json(&ask(&["set", &job, "--rate", "7", "--permits", "3", "--output", "json"]).await.expect(0));
    assert_eq!((&slowed["limits"]["rate"], &slowed["limits"]["permits"]), (&7.0.into(), &3.into()));
    let _paused = ask(&["pause", &job]).await.expect(0);
    let paused = status().await;
    assert_eq!((&paused["state"], &paused["reason"]), (&"paused".into(), &"operator".into()), "{paused}");
    let listed = ask(&["list", "--in", "paused"]).await.expect(0);
    assert!(listed.stdout.contains(&job), "{}", listed.stdout);
    let _resumed = ask(&["resume", &job]).await.expect(0);
    let _freed = ask(&["set", &job, "--rate", "none", "--permits", "none"]).await.expect(0);
    let ended = run.end().await.expect(0);
    assert_eq!(ended.job(), job);
    let described = ask(&["describe", &job]).await.expect(0);
    assert!(described.stdout.contains("completed"), "{}", described.stdout);
}
