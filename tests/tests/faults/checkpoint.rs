//! Redis: killed, emptied, rolled back, full.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keyrotate_tests::fleet::{Coordinator, at_work};
use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::{Deed, Way};

use crate::scene::{ALWAYS, Lane, Line, OBJECTS, Scene, leased, shard_swap};

/// How a Redis keeps what it acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keeps {
    /// Everything, before it answers.
    Always,
    /// All but the last second.
    EverySecond,
    /// Nothing.
    Nothing,
}

/// What it is killed in the middle of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// A worker leases a shard.
    Lease,
    /// A worker commits a window.
    Commit,
    /// A coordinator writes down shards.
    Plan,
}

impl Keeps {
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Always => ALWAYS,
            Self::EverySecond => {
                &["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
            }
            Self::Nothing => &["--appendonly", "no", "--maxmemory-policy", "noeviction"],
        }
    }
}

/// A fleet that takes a Redis which may forget.
pub(crate) const WEAK: (&str, &str) = ("KEYROTATE_REDIS_ACCEPT_WEAK_PERSISTENCE", "true");

/// Killed after it did what it was asked for and before anybody heard so, and started again.
pub(crate) async fn is_killed(lane: &mut Lane, keeps: Keeps, moment: Moment) -> Line {
    let mut scene = lane.scene_with(Mode::aws(), false, keeps.options(), OBJECTS, &[WEAK]).await;
    let wires = scene.wires().await;
    let (coordinator, worker, id, trap);
    match moment {
        Moment::Plan => {
            coordinator = scene.coordinator_behind(&wires).await;
            worker = scene.fleet.worker().await;
            until("it leads", || coordinator.leads()).await;
            trap = wires.redis.trap(Way::There, 2, Deed::HoldAnswer, shard_swap());
            id = scene.submit(&coordinator).await;
        }
        Moment::Lease | Moment::Commit => {
            coordinator = scene.fleet.coordinator().await;
            worker = scene.worker_behind(&wires).await;
            id = scene.submit_and_begin(&coordinator).await;
            let skip = usize::from(matches!(moment, Moment::Commit));
            trap = wires.redis.trap(Way::There, skip, Deed::HoldAnswer, shard_swap());
        }
    }
    trap.caught().await;
    let done = match keeps {
        Keeps::Nothing => scene.scanned(&coordinator, &id).await,
        Keeps::Always | Keeps::EverySecond => 0,
    };
    scene.fleet.redis.kill().await.expect("Redis is killed");
    trap.release();
    scene.fleet.redis.restart().await.expect("Redis starts again");
    let since = tokio::time::Instant::now();
    let seen = match keeps {
        Keeps::Nothing => {
            resumed(&scene, &coordinator, &id, done).await;
            1
        }
        Keeps::Always | Keeps::EverySecond => {
            until("the leader sees that it was restarted", || said(&coordinator, RESTARTED) > 0).await;
            scene.goes_on(&coordinator, &id).await;
            said(&coordinator, RESTARTED)
        }
    };
    let back = since.elapsed();
    drop(worker);
    let _fresh = scene.fleet.worker().await;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// What the leader says of a Redis that was restarted.
pub(crate) const RESTARTED: &str = "the checkpoint was restarted";

/// How often a coordinator said so.
pub(crate) fn said(coordinator: &Coordinator, what: &str) -> u64 {
    coordinator.process.stderr().matches(what).count() as u64
}

/// A job that Redis has forgotten is shown as lost; somebody resumes it, and it knows what it had done.
async fn resumed(scene: &Scene, coordinator: &Coordinator, id: &str, done: u64) {
    let lost = |status: &serde_json::Value| status["state"] == "failed" && status["reason"] == "lost";
    scene.fleet.until(coordinator, id, "it is shown as lost", lost).await;
    scene.fleet.tell(coordinator, id, "resume").await;
    let begun = |status: &serde_json::Value| status["scanned"].as_u64().unwrap_or(0) > 0;
    let status = scene.fleet.until(coordinator, id, "it begins", begun).await;
    assert!(status["scanned"].as_u64() >= Some(done), "{done} had an outcome before: {status}");
    scene.goes_on(coordinator, id).await;
}

/// What somebody does to it while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hand {
    /// `FLUSHALL`.
    Everything,
    /// `DEL` of the job's record.
    TheJob,
    /// `SCRIPT FLUSH`.
    Scripts,
    /// It has no memory left, for ten seconds.
    Memory,
}

pub(crate) async fn is_meddled_with(lane: &mut Lane, hand: Hand) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let coordinator = scene.fleet.coordinator().await;
    let workers = scene.fleet.workers(2).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let done = scene.scanned(&coordinator, &id).await;
    let mut seen = 1;
    let since = tokio::time::Instant::now();
    match hand {
        Hand::Everything => {
            let there = scene.fleet.tell_redis(&["DBSIZE"]).await;
            seen = there.parse().expect("a number");
            scene.fleet.tell_redis(&["FLUSHALL"]).await;
            resumed(&scene, &coordinator, &id, done).await;
        }
        Hand::TheJob => {
            let deleted = scene.fleet.tell_redis(&["DEL", &format!("keyrotate:r:job/{id}")]).await;
            assert_eq!(deleted, "1");
            resumed(&scene, &coordinator, &id, done).await;
        }
        Hand::Scripts => {
            let _ok = scene.fleet.tell_redis(&["SCRIPT", "FLUSH"]).await;
            scene.goes_on(&coordinator, &id).await;
        }
        Hand::Memory => {
            scene.fleet.tell_redis(&["CONFIG", "SET", "maxmemory", "1000000"]).await;
            let refused =
                || workers.iter().chain([&coordinator.process]).any(|process| process.stderr().contains("OOM"));
            until("a write is refused", refused).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            scene.fleet.tell_redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
            scene.goes_on(&coordinator, &id).await;
        }
    }
    let back = since.elapsed();
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// Rolled back to a copy of an earlier moment with no coordinator there, under a worker that is frozen in its work and
/// wakes up afterwards, and one that works on.
pub(crate) async fn is_rolled_back(lane: &mut Lane) -> Line {
    let mut scene = lane.scene(Mode::aws()).await;
    let coordinator = scene.fleet.coordinator().await;
    let workers = scene.fleet.workers(2).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let earlier = scene.fleet.stand.dir().join("earlier");
    copy(scene.fleet.redis.folder(), &earlier);
    let at_first = scene.scanned(&coordinator, &id).await;
    let status = scene.fleet.until_scanned(&coordinator, &id, 120).await;
    let taken_back = status["scanned"].as_u64().unwrap_or(0) - at_first;
    let _gone = coordinator.process.kill().await;
    // Between two slices nobody is named.
    let zombie = at_work(&status, &workers).unwrap_or(0);
    workers[zombie].signal("STOP");
    let held = leased(&workers[zombie]);
    scene.fleet.redis.kill().await.expect("Redis is killed");
    let folder = scene.fleet.redis.folder().to_owned();
    std::fs::remove_dir_all(folder.join("appendonlydir")).expect("Redis' folder can be written");
    copy(&earlier, &folder);
    scene.fleet.redis.restart().await.expect("Redis starts from the copy");
    let since = tokio::time::Instant::now();
    workers[zombie].signal("CONT");
    let coordinator = scene.fleet.coordinator().await;
    until("the leader sees that it was restarted", || said(&coordinator, RESTARTED) > 0).await;
    scene.goes_on(&coordinator, &id).await;
    let back = since.elapsed();
    let refused = workers.iter().map(|worker| worker.stderr().matches("the checkpoint").count() as u64).sum::<u64>();
    assert!(!held.is_empty() && said(&coordinator, RESTARTED) > 0);
    scene.close(lane, &coordinator, &id, taken_back + refused, Some(back)).await
}

/// Files of a folder and of those in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the test's folder can be written");
    for entry in std::fs::read_dir(from).expect("Redis' folder can be read") {
        let path: PathBuf = entry.expect("Redis' folder can be read").path();
        let target = to.join(path.file_name().expect("a file has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("files can be copied");
        }
    }
}
