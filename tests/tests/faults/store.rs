//! The store and what is behind it: slow, busy, without answers; and who listens to the traces.

use std::time::Duration;

use keyrotate_devstack::kes::Failure;
use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::{Deed, Proxy, Way, Weather, with};
use keyrotate_tests::target::WRITES;

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
    assert_eq!(status["counts"]["failed"].as_u64().unwrap_or(0), 0, "{status}");
    scene.close(lane, &coordinator, &id, 1, Some(back)).await
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
    let since = tokio::time::Instant::now();
    let (coordinator, workers, id) = begun(&scene).await;
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    assert!(since.elapsed() < Duration::from_secs(40), "{:?}", since.elapsed());
    let told = tokio::time::Instant::now();
    for worker in workers {
        worker.signal("TERM");
        let _drained = worker.end().await.expect(0);
    }
    assert!(told.elapsed() < Duration::from_secs(30), "{:?}", told.elapsed());
    let seen = collector.connections();
    let _fresh = scene.fleet.worker().await;
    scene.close(lane, &coordinator, &id, seen, None).await
}
