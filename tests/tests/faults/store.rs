//! The store and what is behind it: slow, busy, without answers; and who listens to the traces.

use std::time::Duration;

use keyrotate_devstack::kes::Failure;
use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::{Deed, Proxy, Way, Weather, with};
use keyrotate_tests::target::WRITES;
use serde_json::Value;
use tokio::time::Instant;

use crate::scene::{ALWAYS, Lane, Line, OBJECTS, RATE, Scene};

fn on_objects(operation: &'static str, fault: Fault) -> FaultRule {
    FaultRule { key_prefix: "k/".to_owned(), ..FaultRule::on(operation, fault) }
}

async fn begun(scene: &Scene) -> (keyrotate_tests::fleet::Coordinator, Vec<Process>, String) {
    let coordinator = scene.fleet.coordinator().await;
    let workers = scene.fleet.workers(2).await;
    let id = scene.submit_and_begin(&coordinator).await;
    (coordinator, workers, id)
}

/// Four writes take half a minute each.
pub(crate) async fn is_slow(lane: &mut Lane) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let (coordinator, _workers, id) = begun(&scene).await;
    let faults = scene.fleet.stand.target.faults();
    faults.add(on_objects("UpdateObjectEncryption", Fault::Delay(Duration::from_secs(30))).times(4));
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    let seen = faults.met();
    scene.close(lane, &coordinator, &id, seen, None).await
}

/// A body stops in the middle, and its connection stays open.
pub(crate) async fn stops_in_a_body(lane: &mut Lane) -> Line {
    let scene = lane.scene(Mode::rgw()).await;
    let (coordinator, _workers, id) = begun(&scene).await;
    let trap = scene.store.trap(Way::There, 0, Deed::HoldAnswer, with(&["GET /", "/k/"]));
    trap.caught().await;
    let back = scene.goes_on(&coordinator, &id).await;
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    scene.close(lane, &coordinator, &id, 1, Some(back)).await
}

/// It is busy, for all requests and twenty seconds.
pub(crate) async fn is_busy(lane: &mut Lane) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let (coordinator, _workers, id) = begun(&scene).await;
    let faults = scene.fleet.stand.target.faults();
    let met = faults.met();
    faults.add(FaultRule { key_prefix: "k/".to_owned(), ..FaultRule::every(Fault::SlowDown) });
    tokio::time::sleep(Duration::from_secs(20)).await;
    let seen = faults.met() - met;
    faults.clear();
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// It does what it was asked for, and nobody hears so. In a versioned bucket each object is written once all the same.
pub(crate) async fn does_it_and_is_not_heard(lane: &mut Lane, mode: Mode, versioned: bool) -> Line {
    let adds = versioned && mode.name != Mode::aws().name;
    let mut scene = lane.scene_with(mode, versioned, ALWAYS, OBJECTS, &[]).await;
    if adds {
        scene.options(&[RATE, "maxAddedBytes: 1GiB"]);
    }
    let (coordinator, _workers, id) = begun(&scene).await;
    let faults = scene.fleet.stand.target.faults();
    let met = faults.met();
    for operation in WRITES {
        faults.add(on_objects(operation, Fault::DropReply).after(5).times(10));
    }
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    let seen = faults.met() - met;
    faults.clear();
    let versions = scene.fleet.stand.snapshot().await.len();
    let wanted = if adds { 2 * OBJECTS } else { OBJECTS };
    assert_eq!(versions, wanted, "each object was written once");
    scene.close(lane, &coordinator, &id, seen, None).await
}

/// Nothing can be reached there for a while: the job pauses, and goes on by itself.
pub(crate) async fn is_gone(lane: &mut Lane) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let (coordinator, _workers, id) = begun(&scene).await;
    scene.store.set(Weather::Refusing);
    let paused = scene.fleet.until(&coordinator, &id, "it pauses", |status| status["state"] == "paused").await;
    // Reports lie there, too.
    assert!(paused["reason"] == "store-down" || paused["reason"] == "report-store", "{paused}");
    scene.store.set(Weather::Clear);
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, 1, Some(back)).await
}

/// The KES behind it does not do its work: the job pauses, charges nothing, and goes on by itself.
pub(crate) async fn has_no_kes(lane: &mut Lane, failure: Failure) -> Line {
    let mut scene = lane.scene(Mode::aws()).await;
    // Without it nobody reads.
    scene.unread = true;
    let (coordinator, _workers, id) = begun(&scene).await;
    let kes = || scene.fleet.stand.target.stack().expect("an embedded target").kes();
    kes().set_failure(failure);
    let paused = scene.fleet.until(&coordinator, &id, "it pauses", |status| status["state"] == "paused").await;
    // Reports are sealed, too.
    assert!(paused["reason"] == "kms-down" || paused["reason"] == "report-store", "{paused}");
    kes().set_failure(Failure::None);
    scene.fleet.stand.read_on();
    let back = scene.goes_on(&coordinator, &id).await;
    let status = scene.fleet.status(&coordinator, &id).await.expect("it is shown");
    assert_eq!(failed(&status), 0, "{status}");
    scene.close(lane, &coordinator, &id, 1, Some(back)).await
}

/// What somebody does to a key of the KES.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// The old one is deleted.
    OldKey,
    /// The target key is deleted.
    TargetKey,
    /// The target key is deleted, and another one made under its name.
    MadeAnew,
}

/// A key is gone, and comes back from a backup.
pub(crate) async fn loses_a_key(lane: &mut Lane, loss: Loss) -> Line {
    let mut scene = lane.scene(Mode::aws()).await;
    // What is under a key that is gone nobody reads.
    scene.unread = true;
    scene.options(&[RATE, "failureThreshold: 20"]);
    let (coordinator, workers, id) = begun(&scene).await;
    let target = &scene.fleet.stand.target;
    let kes = target.stack().expect("an embedded target").kes();
    let is_old = matches!(loss, Loss::OldKey);
    let (key, reason) =
        if is_old { (&target.old_key, "failure-threshold") } else { (&target.new_key, "target-key-gone") };
    let backup = kes.take_away(key).expect("the key is there");
    let paused = |status: &Value| status["state"] == "paused" && status["reason"] == reason;
    let status = scene.fleet.until(&coordinator, &id, &format!("it is paused({reason})"), paused).await;
    let mut seen = if is_old { failed(&status) } else { 1 };
    if matches!(loss, Loss::MadeAnew) {
        kes.create(key, "").expect("its name is free");
        let looks = || workers.iter().map(|worker| worker.stderr().matches(STILL_SO).count() as u64).sum::<u64>();
        let before = looks();
        until("it is looked at in vain", || looks() > before).await;
        seen = looks() - before;
    }
    kes.put_back(backup).expect("there is a key store");
    scene.fleet.stand.read_on();
    if is_old {
        scene.fleet.tell(&coordinator, &id, "resume").await;
    }
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// What a worker says when it looked at a pause in vain.
const STILL_SO: &str = "what paused the job is still so";

/// The target key is made anew under its name when all is written under the one before: nothing that this job wrote opens, and
/// the job says so in the place of an end.
pub(crate) async fn has_another_key_at_last(lane: &mut Lane) -> Line {
    let mut scene = lane.scene(Mode::aws()).await;
    scene.unread = true;
    let wires = scene.wires().await;
    let coordinator = scene.coordinator_behind(&wires).await;
    let _workers = scene.fleet.workers(2).await;
    let through = wires.redis.trap(Way::There, 0, Deed::Hold, with(&[":index", "verifying"]));
    let id = scene.submit(&coordinator).await;
    through.caught().await;
    let target = &scene.fleet.stand.target;
    let kes = target.stack().expect("an embedded target").kes();
    let backup = kes.take_away(&target.new_key).expect("the key is there");
    kes.create(&target.new_key, "").expect("its name is free");
    through.release();
    let stopped = |status: &Value| status["state"] == "failed" && status["reason"] == "canary";
    scene.fleet.until(&coordinator, &id, "its canary stops it", stopped).await;
    kes.put_back(backup).expect("there is a key store");
    scene.fleet.stand.read_on();
    let since = Instant::now();
    scene.fleet.tell(&coordinator, &id, "resume").await;
    scene.fleet.until(&coordinator, &id, "it ends", |status| status["state"] == "completed").await;
    scene.close(lane, &coordinator, &id, 1, Some(since.elapsed())).await
}

/// Versions that failed, by the status of their job.
fn failed(status: &Value) -> u64 {
    let outcomes = status["outcomes"].as_object().into_iter().flatten();
    outcomes.filter(|(outcome, _)| outcome.starts_with("failed")).filter_map(|(_, count)| count.as_u64()).sum()
}

/// Whoever collects traces takes connections and says nothing; work is not held up.
pub(crate) async fn has_a_silent_collector(lane: &mut Lane) -> Line {
    let collector = Proxy::to(1).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    drop(collector);
    let collector = Proxy::to(silent.local_addr().expect("a bound port").port()).await;
    collector.set(Weather::Deaf { there: true, back: true });
    let endpoint = format!("http://127.0.0.1:{}", collector.port());
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let scene = lane.scene_with(Mode::aws(), false, ALWAYS, OBJECTS, &settings).await;
    let since = Instant::now();
    let (coordinator, workers, id) = begun(&scene).await;
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    assert!(since.elapsed() < Duration::from_secs(40), "{:?}", since.elapsed());
    let told = Instant::now();
    for worker in workers {
        worker.signal("TERM");
        let _drained = worker.end().await.expect(0);
    }
    assert!(told.elapsed() < Duration::from_secs(30), "{:?}", told.elapsed());
    let seen = collector.connections();
    let _fresh = scene.fleet.worker().await;
    scene.close(lane, &coordinator, &id, seen, None).await
}
