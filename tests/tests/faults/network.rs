//! Wires that are cut, deaf in one direction or both, slow, or lead nowhere.

use std::time::Duration;

use keyrotate_tests::fleet::Coordinator;
use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::{Proxy, Weather};

use crate::scene::{ALWAYS, Lane, Line, OBJECTS, Scene, Wires};

/// Whom the wire leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Redis,
    RabbitMq,
    Store,
}

/// Which directions nothing comes through in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ways {
    There,
    Back,
    Both,
}

impl Ways {
    fn deaf(self) -> Weather {
        Weather::Deaf { there: !matches!(self, Self::Back), back: !matches!(self, Self::There) }
    }
}

impl Peer {
    fn of<'a>(self, scene: &'a Scene, wires: &'a Wires) -> &'a Proxy {
        match self {
            Self::Redis => &wires.redis,
            Self::RabbitMq => &wires.rabbitmq,
            Self::Store => &scene.store,
        }
    }

    /// Longer than anybody waits for an answer of it.
    fn long(self) -> Duration {
        Duration::from_secs(match self {
            Self::Redis => 20,
            Self::RabbitMq => 40,
            Self::Store => 30,
        })
    }
}

/// A job that one worker works on, behind wires.
struct Wired {
    coordinator: Coordinator,
    wires: Wires,
    worker: Process,
    id: String,
}

async fn begun(scene: &Scene) -> Wired {
    let coordinator = scene.fleet.coordinator().await;
    let wires = scene.wires().await;
    let worker = scene.worker_behind(&wires).await;
    let id = scene.submit_and_begin(&coordinator).await;
    Wired { coordinator, wires, worker, id }
}

/// The only worker and one peer hear nothing of each other for a while. The store is cut off from all.
pub(crate) async fn is_deaf(lane: &mut Lane, peer: Peer, ways: Ways) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let Wired { coordinator, wires, worker: _worker, id } = begun(&scene).await;
    let wire = peer.of(&scene, &wires);
    wire.set(ways.deaf());
    tokio::time::sleep(peer.long()).await;
    let seen = wire.held_back();
    wire.set(Weather::Clear);
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// The worker can't reach the checkpoint until its leases are over; another one does its work meanwhile.
pub(crate) async fn is_deaf_beyond_the_lease(lane: &mut Lane) -> Line {
    let mut scene = lane.scene(Mode::aws()).await;
    scene.options(&["rate: 4"]);
    let Wired { coordinator, wires, worker, id } = begun(&scene).await;
    wires.redis.set(Ways::Both.deaf());
    let since = tokio::time::Instant::now();
    let _other = scene.fleet.worker().await;
    let stopped = || worker.stderr().contains("the checkpoint");
    until("it says so", stopped).await;
    tokio::time::sleep_until(since + Duration::from_secs(75)).await;
    let seen = wires.redis.held_back();
    wires.redis.set(Weather::Clear);
    scene.fleet.limit(&coordinator, &id, r#"{"rate": 200}"#).await;
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// Connections are reset five times, once a second.
pub(crate) async fn is_cut(lane: &mut Lane, peer: Peer) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let Wired { coordinator, wires, worker: _worker, id } = begun(&scene).await;
    let wire = peer.of(&scene, &wires);
    let before = wire.connections();
    for _ in 0..5 {
        wire.reset();
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    let back = scene.goes_on(&coordinator, &id).await;
    let seen = wire.connections() - before;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// The host behind the connections is gone, and no one says so; new connections are made.
pub(crate) async fn is_half_open(lane: &mut Lane, peer: Peer) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let Wired { coordinator, wires, worker: _worker, id } = begun(&scene).await;
    let wire = peer.of(&scene, &wires);
    let before = wire.connections();
    wire.forget();
    let back = scene.goes_on(&coordinator, &id).await;
    let since = tokio::time::Instant::now();
    while wire.connections() == before {
        assert!(since.elapsed() < Duration::from_secs(90), "no new connection is made");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen = wire.connections() - before;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// All wires are slow, and messages come in small pieces.
pub(crate) async fn is_slow(lane: &mut Lane) -> Line {
    let scene = lane.scene_with(Mode::aws(), false, ALWAYS, OBJECTS / 3, &[]).await;
    let Wired { coordinator, wires, worker: _worker, id } = begun(&scene).await;
    let slow = Weather::Slow { latency: Duration::from_millis(40), piece: 700 };
    for wire in [&wires.redis, &wires.rabbitmq, &scene.store] {
        wire.set(slow);
    }
    let back = scene.goes_on(&coordinator, &id).await;
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    let seen = [&wires.redis, &wires.rabbitmq, &scene.store].iter().map(|wire| wire.held_back()).sum();
    scene.store.set(Weather::Clear);
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// A RabbitMQ that takes connections and never speaks, when a worker starts.
pub(crate) async fn is_silent_at_first(lane: &mut Lane) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let coordinator = scene.fleet.coordinator().await;
    let wires = scene.wires().await;
    wires.rabbitmq.set(Ways::Both.deaf());
    let speaks = async {
        tokio::time::sleep(Duration::from_secs(25)).await;
        wires.rabbitmq.set(Weather::Clear);
        wires.rabbitmq.held_back()
    };
    let (_worker, seen) = tokio::join!(scene.worker_behind(&wires), speaks);
    let since = tokio::time::Instant::now();
    let id = scene.submit_and_begin(&coordinator).await;
    scene.close(lane, &coordinator, &id, seen, Some(since.elapsed())).await
}
