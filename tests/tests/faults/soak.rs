//! One job after the other, between two keys, under faults that come at random, for as long as somebody likes:
//! `KEYROTATE_SOAK=60 ./test faults` for an hour, `KEYROTATE_SEED` for others. After each job every body is as before, under
//! its key, with one row; after the last one everything is looked at that is looked at after any fault.

use std::time::Duration;

use keyrotate_tests::fleet::Coordinator;
use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::Weather;
use keyrotate_tests::target::WRITES;
use serde_json::Value;
use tokio::time::Instant;

use crate::scene::{ALWAYS, Lane, Scene, Wires};

const OBJECTS: usize = 1_500;
/// A job that needs longer with a fault each few seconds will never end.
const LONGEST: Duration = Duration::from_secs(1_800);

/// A worker, and how it reaches the others.
struct Manned {
    process: Process,
    wires: Wires,
}

struct Soak {
    scene: Scene,
    dice: fastrand::Rng,
    coordinators: Vec<Coordinator>,
    workers: Vec<Manned>,
}

/// Goes on until the time is over and a job has ended; gives how many jobs and faults there were.
pub(crate) async fn soak(lane: &mut Lane, time: Duration, seed: u64) -> (u64, u64) {
    let scene = lane.scene_with(Mode::minio(), false, ALWAYS, OBJECTS, &[]).await;
    let coordinators = vec![scene.fleet.coordinator().await, scene.fleet.coordinator().await];
    let mut soak = Soak { scene, dice: fastrand::Rng::with_seed(seed), coordinators, workers: Vec::new() };
    for _ in 0..3 {
        let worker = soak.worker().await;
        soak.workers.push(worker);
    }
    let keys = [soak.scene.fleet.stand.target.new_key.clone(), soak.scene.fleet.stand.target.old_key.clone()];
    let (began, mut jobs, mut faults) = (Instant::now(), 0, 0);
    // The last one is to the new key: what is looked at after it wants it so.
    while began.elapsed() < time || jobs % 2 == 0 {
        let key = &keys[usize::from(jobs % 2 == 1)];
        let id = soak.submit(key).await;
        faults += soak.through(&id).await;
        soak.check(&id, key).await;
        jobs += 1;
        println!("soak: job {jobs} to {key} after {} s, {faults} faults", began.elapsed().as_secs());
    }
    (jobs, faults)
}

impl Soak {
    async fn worker(&self) -> Manned {
        let wires = self.scene.wires().await;
        Manned { process: self.scene.worker_behind(&wires).await, wires }
    }

    /// Whoever loses the coordinator under his submit says it again.
    async fn submit(&mut self, key: &str) -> String {
        let job = JobFile::of(&self.scene.fleet.stand.bucket).key(key).option("rate: 60");
        self.scene.fleet.submit(&self.coordinators[0], &job).await
    }

    async fn status(&self, id: &str) -> Value {
        self.scene.fleet.status(&self.coordinators[0], id).await.unwrap_or_default()
    }

    /// Faults until the job has ended.
    async fn through(&mut self, id: &str) -> u64 {
        let (began, mut faults) = (Instant::now(), 0);
        loop {
            tokio::time::sleep(Duration::from_secs(self.dice.u64(5..20))).await;
            let status = self.status(id).await;
            if matches!(status["state"].as_str(), Some("completed" | "failed" | "cancelled")) {
                assert_eq!(status["state"], "completed", "{status}");
                return faults;
            }
            assert!(began.elapsed() < LONGEST, "it does not end: {status}");
            self.fault().await;
            faults += 1;
        }
    }

    async fn fault(&mut self) {
        let n = self.dice.usize(..self.workers.len());
        let moment = Duration::from_millis(self.dice.u64(1_000..20_000));
        match self.dice.u8(..11) {
            0 => {
                let fresh = self.worker().await;
                let _killed = std::mem::replace(&mut self.workers[n], fresh).process.kill().await;
            }
            1 => {
                // Half of them for longer than a lease.
                let time = if self.dice.bool() { moment } else { Duration::from_secs(70) };
                self.workers[n].process.signal("STOP");
                tokio::time::sleep(time).await;
                self.workers[n].process.signal("CONT");
            }
            2 => {
                let fresh = self.worker().await;
                let old = std::mem::replace(&mut self.workers[n], fresh);
                old.process.signal("TERM");
                let _drained = old.process.end().await;
            }
            3 => {
                let fresh = self.scene.fleet.coordinator().await;
                let _killed = self.coordinators.remove(0).process.kill().await;
                self.coordinators.push(fresh);
            }
            4 => {
                self.scene.fleet.redis.kill().await.expect("Redis is killed");
                tokio::time::sleep(moment / 4).await;
                self.scene.fleet.redis.restart().await.expect("Redis starts again");
            }
            5 => {
                self.scene.fleet.rabbitmq.kill().expect("RabbitMQ is killed");
                self.scene.fleet.rabbitmq.restart().await.expect("RabbitMQ starts again");
            }
            6 => {
                let closed = self.scene.fleet.rabbitmq.ctl(&["close_all_connections", "a fault"]).await;
                closed.expect("RabbitMQ does it");
            }
            7 => {
                let purged = self.scene.fleet.rabbitmq.ctl(&["purge_queue", "keyrotate.tickets.default"]).await;
                purged.expect("RabbitMQ does it");
            }
            8 => {
                let wires = &self.workers[n].wires;
                let wire = if self.dice.bool() { &wires.redis } else { &wires.rabbitmq };
                wire.set(Weather::Deaf { there: self.dice.bool(), back: true });
                tokio::time::sleep(moment).await;
                wire.set(Weather::Clear);
            }
            9 => {
                self.scene.store.reset();
            }
            _ => {
                let faults = self.scene.fleet.stand.target.faults();
                for operation in WRITES {
                    let dropped = FaultRule::on(operation, Fault::DropReply).times(3);
                    faults.add(FaultRule { key_prefix: "k/".to_owned(), ..dropped });
                }
            }
        }
    }

    /// Every body is there, under the key, with one row.
    async fn check(&self, id: &str, key: &str) {
        let fleet = &self.scene.fleet;
        fleet.stand.target.faults().clear();
        let ended = fleet.end(&self.coordinators[0], id).await.expect_completed();
        let report = fleet.stand.report(&ended);
        oracle::is_whole(&fleet.stand, &ended, &report).await;
        assert_eq!(report.count("rotated") + report.count("current"), OBJECTS as u64, "{}", report.summary);
        let now = fleet.stand.snapshot().await;
        assert_eq!(now.len(), self.scene.before.len());
        for (version, was) in &self.scene.before {
            let seen = now.get(version).unwrap_or_else(|| panic!("{version:?} is gone"));
            assert_eq!(seen.content, was.content, "{version:?}");
            assert_eq!(seen.seal, format!("sse-kms:{key}"), "{version:?}");
        }
        oracle::nothing_of_ours_is_left(&fleet.stand).await;
    }
}
