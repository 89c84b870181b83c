//! What wants root or minutes of waiting: power cuts, full disks, links that break, and a RabbitMQ that waits no longer.

use std::path::Path;
use std::time::Duration;

use keyrotate_queue::{DEFAULT_STORE, Queue as _, Route};
use keyrotate_tests::fleet::Coordinator;
use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::{CLOSE, Deed, Way, amqp};
use memchr::memmem;
use tokio::time::Instant;

use crate::checkpoint::{Keeps, RESTARTED, WEAK, said};
use crate::machine::{Disk, Link};
use crate::queue::{dies_under_a_publish, lease_anew, queue, take, with_waiting_tickets};
use crate::scene::{ALWAYS, Lane, Line, OBJECTS, Scene, leased, shard_swap};

/// A scene whose Redis has a disk of its own.
async fn with_a_disk_of_redis(lane: &mut Lane, keeps: Keeps) -> Scene {
    let mut scene = lane.scene_with(Mode::aws(), false, keeps.options(), OBJECTS, &[WEAK]).await;
    scene.fleet.redis.kill().await.expect("Redis is killed");
    scene.disk = Some(Disk::over(scene.fleet.redis.folder(), 64));
    scene.fleet.redis.restart().await.expect("Redis starts on another disk");
    scene
}

/// A scene whose RabbitMQ has a disk of its own.
async fn with_a_disk_of_rabbitmq(lane: &mut Lane) -> Scene {
    let mut scene = with_waiting_tickets(lane).await;
    scene.fleet.rabbitmq.kill().expect("RabbitMQ is killed");
    scene.disk = Some(Disk::over(&scene.fleet.rabbitmq.folder().join("data"), 256));
    scene.fleet.rabbitmq.restart().await.expect("RabbitMQ starts on another disk");
    scene
}

/// A scene whose Redis also answers to whom it does not take for a process of its own machine.
async fn with_a_link(lane: &mut Lane) -> Scene {
    let redis = [ALWAYS, &["--protected-mode", "no"]].concat();
    lane.scene_with(Mode::aws(), false, &redis, OBJECTS, &[]).await
}

impl Scene {
    fn on_disk(&self) -> &Disk {
        self.disk.as_ref().expect("the row laid a disk")
    }
}

/// Cut before anybody heard that a window is committed. What was not synced is gone with it, as with the machine.
pub(crate) async fn power_is_cut_under_redis(lane: &mut Lane, keeps: Keeps) -> Line {
    let mut scene = with_a_disk_of_redis(lane, keeps).await;
    let wires = scene.wires().await;
    let coordinator = scene.fleet.coordinator().await;
    let worker = scene.worker_behind(&wires).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let trap = wires.redis.trap(Way::There, 1, Deed::HoldAnswer, shard_swap());
    trap.caught().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let log = scene.fleet.redis.folder().join("appendonlydir");
    let written = size(&log);
    scene.on_disk().power_cut();
    scene.fleet.redis.kill().await.expect("Redis is killed");
    trap.release();
    scene.on_disk().power_back();
    let lost = match keeps {
        // Nothing of what it answered.
        Keeps::Always => 0,
        Keeps::EverySecond | Keeps::Nothing => written.saturating_sub(size(&log)),
    };
    scene.fleet.redis.restart().await.expect("Redis starts again");
    let since = Instant::now();
    until("the leader sees that it was restarted", || said(&coordinator, RESTARTED) > 0).await;
    scene.goes_on(&coordinator, &id).await;
    let (back, seen) = (since.elapsed(), said(&coordinator, RESTARTED) + lost);
    drop(worker);
    let _fresh = scene.fleet.worker().await;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("the disk can be read");
    files.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// Cut when it has confirmed a ticket, and the coordinator does not know.
pub(crate) async fn power_is_cut_under_rabbitmq(lane: &mut Lane) -> Line {
    let scene = with_a_disk_of_rabbitmq(lane).await;
    dies_under_a_publish(lane, scene).await
}

/// No byte more for ten seconds. One that syncs before it answers ends, and is started again when there is room.
pub(crate) async fn disk_of_redis_is_full(lane: &mut Lane, keeps: Keeps) -> Line {
    let mut scene = with_a_disk_of_redis(lane, keeps).await;
    let coordinator = scene.fleet.coordinator().await;
    let workers = scene.fleet.workers(2).await;
    let id = scene.submit_and_begin(&coordinator).await;
    scene.on_disk().fill(0);
    let refused = || all_said(&workers, &coordinator, "MISCONF");
    let ends = matches!(keeps, Keeps::Always);
    if ends {
        until("it ends", || all_said(&workers, &coordinator, "the checkpoint does not answer") > 0).await;
    } else {
        until("a write is refused", || refused() > 0).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    scene.on_disk().make_room();
    if ends {
        scene.fleet.redis.kill().await.expect("Redis has ended");
        scene.fleet.redis.restart().await.expect("Redis starts again");
    }
    let back = scene.goes_on(&coordinator, &id).await;
    let seen = if ends { said(&coordinator, RESTARTED) } else { refused() };
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// How often any of them said so.
fn all_said(workers: &[Process], coordinator: &Coordinator, what: &str) -> u64 {
    let all = workers.iter().chain([&coordinator.process]);
    all.map(|process| process.stderr().matches(what).count() as u64).sum()
}

/// Less is left than it wants to be free: it takes no more from whoever publishes until there is.
pub(crate) async fn disk_of_rabbitmq_is_nearly_full(lane: &mut Lane) -> Line {
    let mut scene = with_a_disk_of_rabbitmq(lane).await;
    scene.options(&["rate: 15"]);
    let coordinator = scene.fleet.coordinator().await;
    let workers = [scene.fleet.worker_with(&ONE_SLOT).await, scene.fleet.worker_with(&ONE_SLOT).await];
    let id = scene.submit_and_begin(&coordinator).await;
    scene.on_disk().fill(20 << 20);
    let blocked = || all_said(&workers, &coordinator, "takes no more on this connection");
    until("whoever publishes hears it", || blocked() > 0).await;
    scene.on_disk().make_room();
    let free = || all_said(&workers, &coordinator, "RabbitMQ takes more again");
    until("and that it is over", || free() > 0).await;
    let back = lease_anew(&workers).await;
    scene.close(lane, &coordinator, &id, blocked(), Some(back)).await
}

const ONE_SLOT: [(&str, &str); 1] = [("KEYROTATE_WORKER_SLOTS", "1")];

/// Its log can't be written: its queue is down, and stays so until it is started again.
pub(crate) async fn disk_of_rabbitmq_is_full(lane: &mut Lane) -> Line {
    let mut scene = with_a_disk_of_rabbitmq(lane).await;
    scene.options(&["rate: 15"]);
    let coordinator = scene.fleet.coordinator().await;
    let workers = [scene.fleet.worker_with(&ONE_SLOT).await];
    let id = scene.submit_and_begin(&coordinator).await;
    let queue = queue(&scene);
    let one = take(&queue).await;
    scene.fleet.rabbitmq.ctl(&["set_disk_free_limit", "0"]).await.expect("RabbitMQ does it");
    scene.on_disk().fill(0);
    let route = Route::to(DEFAULT_STORE);
    let more = async {
        loop {
            let _refused = tokio::time::timeout(Duration::from_secs(1), queue.publish(&one, &route)).await;
        }
    };
    let logs = scene.fleet.rabbitmq.folder().join("log");
    tokio::select! {
        () = more => {}
        () = until("its log can't be written", || errors_in(&logs) > 0) => {}
    }
    let seen = errors_in(&logs);
    drop(queue);
    tokio::time::sleep(Duration::from_secs(10)).await;
    scene.on_disk().make_room();
    scene.fleet.rabbitmq.kill().expect("RabbitMQ is killed");
    scene.fleet.rabbitmq.restart().await.expect("RabbitMQ starts again");
    let back = lease_anew(&workers).await;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// How often RabbitMQ's logs name the error of a full disk.
fn errors_in(logs: &Path) -> u64 {
    let files = std::fs::read_dir(logs).expect("RabbitMQ has a folder for logs").flatten();
    files
        .filter_map(|file| std::fs::read(file.path()).ok())
        .map(|log| memmem::find_iter(&log, "enospc").count() as u64)
        .sum()
}

/// How long a link is down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outage {
    /// As long as a lease may hold over it.
    Short,
    /// Another worker does the work meanwhile.
    BeyondTheLease,
}

/// All that the worker's machine is connected with is gone, and comes back.
pub(crate) async fn link_is_down(lane: &mut Lane, outage: Outage) -> Line {
    let link = Link::lay();
    let mut scene = with_a_link(lane).await;
    let is_long = matches!(outage, Outage::BeyondTheLease);
    if is_long {
        scene.options(&["rate: 4"]);
    }
    let coordinator = scene.fleet.coordinator().await;
    let worker = scene.fleet.worker_by(&link.by()).await;
    let id = scene.submit_and_begin(&coordinator).await;
    link.down();
    let since = Instant::now();
    let _other = if is_long { Some(scene.fleet.worker().await) } else { None };
    tokio::time::sleep_until(since + Duration::from_secs(if is_long { 75 } else { 40 })).await;
    link.up();
    if is_long {
        scene.fleet.limit(&coordinator, &id, r#"{"rate": 200}"#).await;
    }
    let back = scene.goes_on(&coordinator, &id).await;
    let given_up = || {
        let said = worker.stderr();
        let of = |what: &str| said.matches(what).count() as u64;
        of("the connection to RabbitMQ is lost") + of("the checkpoint does not answer")
    };
    until("it gave connections up", || given_up() > 0).await;
    scene.close(lane, &coordinator, &id, given_up(), Some(back)).await
}

/// Its machine is gone: nobody says goodbye, and its tickets come back when RabbitMQ has missed its heartbeats.
pub(crate) async fn dies_unheard(lane: &mut Lane) -> Line {
    let link = Link::lay();
    let scene = with_a_link(lane).await;
    let coordinator = scene.fleet.coordinator().await;
    let victim = scene.fleet.worker_by(&link.by()).await;
    let id = scene.submit_and_begin(&coordinator).await;
    link.down();
    let held = leased(&victim);
    let _killed = victim.kill().await;
    let since = Instant::now();
    let other = scene.fleet.worker().await;
    let taken = || leased(&other).into_iter().filter(|shard| held.contains(shard)).count();
    until("another worker leases what it held", || taken() > 0).await;
    let (back, seen) = (since.elapsed(), taken() as u64);
    link.up();
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// Its link has room for hardly anything.
pub(crate) async fn link_is_slow(lane: &mut Lane) -> Line {
    let link = Link::lay();
    let scene = with_a_link(lane).await;
    let coordinator = scene.fleet.coordinator().await;
    let _worker = scene.fleet.worker_by(&link.by()).await;
    let id = scene.submit_and_begin(&coordinator).await;
    link.slow(256);
    let back = scene.goes_on(&coordinator, &id).await;
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    let seen = link.waited();
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// A ticket is worked on for longer than RabbitMQ waits for its acknowledgement, of which it thinks once a minute.
pub(crate) async fn waits_no_longer(lane: &mut Lane) -> Line {
    let mut scene = lane.scene(Mode::aws()).await;
    scene.options(&["rate: 2"]);
    let timeout = async |milliseconds: u32| {
        let set = format!("application:set_env(rabbit, consumer_timeout, {milliseconds}).");
        scene.fleet.rabbitmq.ctl(&["eval", &set]).await.expect("RabbitMQ does it");
    };
    timeout(10_000).await;
    let coordinator = scene.fleet.coordinator().await;
    let wires = scene.wires().await;
    let worker = scene.worker_behind(&wires).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let closed = wires.rabbitmq.trap(Way::Back, 0, Deed::Pass, amqp(CLOSE.0, CLOSE.1));
    until("it closes a channel", || closed.has_caught()).await;
    let back = scene.goes_on(&coordinator, &id).await;
    until("the worker takes tickets again", || worker.stderr().contains("taking tickets was interrupted")).await;
    timeout(1_800_000).await;
    scene.fleet.limit(&coordinator, &id, r#"{"rate": 200}"#).await;
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    let next = scene.fleet.submit(&coordinator, &scene.fleet.stand.job()).await;
    let _ended = scene.fleet.end(&coordinator, &next).await.expect_completed();
    scene.close(lane, &coordinator, &id, 1, Some(back)).await
}
