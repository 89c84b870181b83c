//! What every row has: a bucket, a Redis, a RabbitMQ, and wires between them and the processes.

use std::sync::Arc;
use std::time::Duration;

use keyrotate_peers::PrivateRabbitMq;
use keyrotate_tests::bucket;
use keyrotate_tests::fleet::{Coordinator, Fleet, checkpoint_of};
use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::{Looks, Proxy, Trap, with};
use tokio::time::Instant;

use crate::machine::Disk;

/// So many that a job lasts as long as a fault needs, at [`RATE`].
pub(crate) const OBJECTS: usize = 200;
/// Objects per second of a job that something shall happen to.
pub(crate) const RATE: &str = "rate: 30";
/// Redis as it should be run.
pub(crate) const ALWAYS: &[&str] =
    &["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];
/// After the last fault, with everything mended.
const CALM: Duration = Duration::from_secs(300);

/// A place to run rows at, one after the other. A RabbitMQ needs seconds to start; it is kept from row to row.
#[derive(Default)]
pub(crate) struct Lane {
    rabbitmq: Option<PrivateRabbitMq>,
}

/// What a row's run showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Effects of the fault that were seen.
    pub(crate) seen: u64,
    /// Versions whose content is not there any more, or that have no row.
    pub(crate) lost: usize,
    /// From the fault, or from its end where it lasts, until work went on.
    pub(crate) back: Option<Duration>,
}

/// The place of one row. The store is reached over a wire by all, RabbitMQ and Redis by whom a row wants to.
pub(crate) struct Scene {
    /// That of Redis or RabbitMQ, which is gone before they are: they remove the folder below it.
    pub(crate) disk: Option<Disk>,
    pub(crate) fleet: Fleet,
    pub(crate) store: Proxy,
    pub(crate) before: Snapshot,
    pub(crate) expect: Expect,
    options: Vec<String>,
    /// Nobody reads from the job's beginning on.
    pub(crate) unread: bool,
    /// Dead letters that the row makes.
    pub(crate) dead: u64,
}

/// The wires of one process.
pub(crate) struct Wires {
    pub(crate) redis: Proxy,
    pub(crate) rabbitmq: Proxy,
    settings: Vec<(&'static str, String)>,
}

impl Lane {
    /// A scene with [`OBJECTS`] under the old key.
    pub(crate) async fn scene(&mut self, mode: Mode) -> Scene {
        self.scene_with(mode, false, ALWAYS, OBJECTS, &[]).await
    }

    pub(crate) async fn scene_with(
        &mut self,
        mode: Mode,
        versioned: bool,
        redis: &[&str],
        objects: usize,
        settings: &[(&str, &str)],
    ) -> Scene {
        let stand = Stand::on(Arc::new(Target::embedded(mode).await), versioned).await;
        stand.put_old("k/", objects).await;
        let before = stand.snapshot().await;
        let rabbitmq = match self.rabbitmq.take() {
            Some(rabbitmq) => rabbitmq,
            None => PrivateRabbitMq::start().await.expect("rabbitmq-server is installed and starts"),
        };
        let endpoint = stand.target.variables()["AWS_ENDPOINT_URL"].clone();
        let store = Proxy::to(port_of(&endpoint)).await;
        let over_the_wire = store.on_the_way(&endpoint);
        let settings = [&[("AWS_ENDPOINT_URL", over_the_wire.as_str())], settings].concat();
        let fleet = Fleet::around(stand, rabbitmq, redis, &settings).await;
        let (expect, options) = (Expect::default(), Vec::new());
        Scene { disk: None, fleet, store, before, expect, options, unread: false, dead: 0 }
    }
}

impl Scene {
    /// A job as it is run here, at [`RATE`] unless a row chose otherwise.
    pub(crate) fn job(&self) -> JobFile {
        let slow = if self.options.is_empty() { vec![RATE.to_owned()] } else { self.options.clone() };
        slow.iter().fold(self.fleet.stand.job(), |job, option| job.option(option))
    }

    /// Other options of the job than its rate.
    pub(crate) fn options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
    }

    /// Submits the job; somebody reads from now on.
    pub(crate) async fn submit(&self, to: &Coordinator) -> String {
        if !self.unread {
            self.fleet.stand.read_on();
        }
        self.fleet.submit(to, &self.job()).await
    }

    /// Submits the job and waits until it works on objects.
    pub(crate) async fn submit_and_begin(&self, to: &Coordinator) -> String {
        let id = self.submit(to).await;
        self.fleet.until_scanned(to, &id, 22).await;
        id
    }

    /// Wires for one process.
    pub(crate) async fn wires(&self) -> Wires {
        let redis = Proxy::to(self.fleet.redis.port()).await;
        let rabbitmq = Proxy::to(self.fleet.rabbitmq.port()).await;
        let settings = vec![
            ("KEYROTATE_REDIS_URL", redis.on_the_way(&checkpoint_of(&self.fleet.redis))),
            ("KEYROTATE_RABBITMQ_URL", rabbitmq.on_the_way(&self.fleet.rabbitmq.shipped_url("/"))),
        ];
        Wires { redis, rabbitmq, settings }
    }

    /// A worker behind wires.
    pub(crate) async fn worker_behind(&self, wires: &Wires) -> Process {
        self.fleet.worker_with(&wires.settings()).await
    }

    /// A coordinator behind wires.
    pub(crate) async fn coordinator_behind(&self, wires: &Wires) -> Coordinator {
        self.fleet.coordinator_with(&wires.settings()).await
    }

    /// From now until more objects than now have an outcome.
    pub(crate) async fn goes_on(&self, of: &Coordinator, job: &str) -> Duration {
        let since = Instant::now();
        let scanned = self.scanned(of, job).await;
        self.fleet.until(of, job, "it goes on", |status| is_beyond(status, scanned)).await;
        since.elapsed()
    }

    /// How many have an outcome.
    pub(crate) async fn scanned(&self, of: &Coordinator, job: &str) -> u64 {
        let status = self.fleet.until(of, job, "it is shown", |_| true).await;
        status["scanned"].as_u64().unwrap_or(0)
    }

    /// Waits for the end of the job, then looks at everything: `oracle` says at what. Nothing may wait in RabbitMQ.
    pub(crate) async fn close(
        mut self,
        lane: &mut Lane,
        of: &Coordinator,
        id: &str,
        seen: u64,
        back: Option<Duration>,
    ) -> Line {
        let ended = tokio::time::timeout(CALM, self.fleet.end(of, id)).await;
        let ended = ended.unwrap_or_else(|_late| panic!("the job did not end within {CALM:?} after its fault"));
        let ended = ended.expect_completed();
        let report = self.fleet.stand.report(&ended);
        let lost = lost(&self.before, &self.fleet.stand.snapshot().await, &report, &self.expect);
        assert_eq!(lost, 0, "lost: {}", report.summary);
        // That of the second run, which is on one machine.
        let job = self.fleet.stand.job();
        let checked = oracle::check(&self.fleet.stand, &job, &self.before, &ended, &self.expect);
        tokio::join!(checked, self.nothing_waits());
        if self.dead > 0 {
            let purged = self.fleet.rabbitmq.ctl(&["purge_queue", "keyrotate.dead"]).await;
            purged.expect("the dead letters of a row are its own");
        }
        let lies_on_it = self.disk.take().is_some();
        lane.rabbitmq = (!lies_on_it).then_some(self.fleet.rabbitmq);
        Line { seen, lost, back }
    }
}

impl Scene {
    /// Every ticket is acknowledged. RabbitMQ counts each five seconds.
    async fn nothing_waits(&self) {
        let give_up = Instant::now() + Duration::from_secs(90);
        while self.fleet.messages().await != (0, self.dead) {
            assert!(Instant::now() < give_up, "left in RabbitMQ: {:?}", self.fleet.messages().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Wires {
    fn settings(&self) -> Vec<(&'static str, &str)> {
        self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

/// Kills a process that waits in a trap, and lets what waits there through: it arrives after its sender's death.
pub(crate) async fn killed_in(trap: Trap, process: Process) -> u64 {
    let killed = process.kill().await;
    trap.release();
    u64::from(trap.has_caught() && killed.code.is_none())
}

/// A change of a shard's record, on its way to Redis.
pub(crate) fn shard_swap() -> Looks {
    with(&["EVALSHA", ":index", ":r:shard/"])
}

/// The shards that a worker has leased, oldest first.
pub(crate) fn leased(worker: &Process) -> Vec<String> {
    let said = worker.stderr();
    let shard = |line: &str| line.split_once(" leased shard=")?.1.split(' ').next().map(str::to_owned);
    said.lines().filter_map(shard).collect()
}

fn port_of(url: &str) -> u16 {
    url.trim_end_matches('/').rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("an endpoint has a port")
}

fn is_beyond(status: &serde_json::Value, scanned: u64) -> bool {
    let ended = matches!(status["state"].as_str(), Some("completed" | "verifying"));
    ended || status["scanned"].as_u64().unwrap_or(0) > scanned
}

/// Versions that were there and whose content is in no version of their key now, or that the report has no row of.
fn lost(before: &Snapshot, after: &Snapshot, report: &Report, expect: &Expect) -> usize {
    let untouched = before.iter().filter(|((key, _), _)| !expect.touched.contains(key));
    let is_there = |(key, _): &(String, String), was: &bucket::Seen| {
        let mut of_key = after.iter().filter(|((other, _), _)| other == key);
        of_key.any(|(_, now)| now.content == was.content) && report.of(key).next().is_some()
    };
    untouched.filter(|(version, was)| !is_there(version, was)).count()
}
