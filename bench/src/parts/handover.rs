//! How soon work goes on: after a worker was killed, and after `prepare`.

use std::time::Duration;

use keyrotate_env::Env;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Bench, Part, middle};
use crate::Error;
use crate::fleet::{Crew, Fleet, LEASES, Lease};
use crate::server::Server;
use crate::strategy::{CASES, job_file};

const LATENCY: Duration = Duration::from_millis(20);
const CREW: Crew = Crew { workers: 3, permits: 8, log: LEASES };
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long to wait for the killed worker's shards: longer than a lease lasts.
const PATIENCE: Duration = Duration::from_secs(90);

/// One round, in seconds.
#[derive(Debug, Serialize)]
struct Round {
    /// From the end of `prepare` until a worker had its first shard of the walk.
    first_walk_s: f64,
    /// From the kill until others had leased the last of the shards that the killed worker held.
    leased_again_s: f64,
    /// How many those were.
    shards: usize,
}

impl Bench {
    /// Both, in one job.
    pub(crate) async fn handover(&self, objects: u64) -> Result<Part, Error> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(self.handover_once(objects).await?);
        }
        let worst = rounds.iter().map(|round| round.leased_again_s).fold(0.0, f64::max);
        let cells = vec![
            format!("{:.0}", 1000.0 * middle(&rounds, |round| round.first_walk_s)),
            format!("{:.2}", middle(&rounds, |round| round.leased_again_s)),
            format!("{worst:.2}"),
        ];
        Ok(Part {
            title: format!("Three workers, one of them killed, store latency {LATENCY:?}, median of {}", self.rounds),
            columns: vec!["prepare to first walk shard ms", "killed to leased again s", "at most s"],
            rows: vec![cells],
            json: json!(rounds),
        })
    }

    async fn handover_once(&self, objects: u64) -> Result<Round, Error> {
        let [case, ..] = &CASES;
        let mut server = Server::start(&case.store())?;
        let bucket = server.bucket_of(case.objects(objects))?;
        let mut fleet = Fleet::start(&self.keyrotate, &mut server, CREW).await?;
        server.delay(LATENCY)?;
        let id = fleet.submit(&job_file(&bucket, case.options, &[])).await?;
        let first_walk_s = first_walk(&fleet, &id).await?;
        while fleet.status(&id).await?.scanned < objects / 4 {
            sleep(LOOK_EVERY).await;
        }
        let at_work = fleet.status(&id).await?.workers;
        let name = &at_work.first().ok_or("nobody is at work")?.name;
        let killed_at = Env::system().now();
        let before = fleet.leases();
        let held = fleet.kill(name)?.ok_or("the worker at work is none of ours")?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            let again = taken_over(&fleet.leases(), &before, &held);
            let lost = fleet.status(&id).await?.workers.iter().any(|line| line.name == *name);
            if !again.is_empty() && !lost || fleet.has_completed(&id).await? || Instant::now() > give_up {
                let times = again.iter().map(|lease| lease.timestamp.duration_since(killed_at).as_secs_f64());
                return Ok(Round { first_walk_s, leased_again_s: times.fold(0.0, f64::max), shards: again.len() });
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// From the end of `prepare` to the first lease after it.
async fn first_walk(fleet: &Fleet, id: &str) -> Result<f64, Error> {
    loop {
        let prepared = fleet.passes(id).await?.into_iter().find(|pass| pass.kind == "prepare");
        if let Some(ended) = prepared.and_then(|pass| pass.ended) {
            let after = fleet.leases().into_iter().map(|lease| lease.timestamp).filter(|at| *at >= ended).min();
            if let Some(first) = after {
                return Ok(first.duration_since(ended).as_secs_f64());
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What others leased since, of what the killed one had leased.
fn taken_over(now: &[Lease], before: &[Lease], held: &[Lease]) -> Vec<Lease> {
    let had = |lease: &&Lease| held.iter().any(|held| held.shard == lease.shard);
    let is_new = |lease: &&Lease| before.iter().all(|old| old.shard != lease.shard || old.timestamp != lease.timestamp);
    now.iter().filter(had).filter(is_new).cloned().collect()
}
