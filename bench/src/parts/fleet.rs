//! A fleet of one worker against the bare loop.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Bench, PERMITS, Part, bare, middle};
use crate::Error;
use crate::fleet::{Crew, Fleet, Peaks, QUIET};
use crate::server::Server;
use crate::strategy::{CASES, Case, job_file};
use crate::watch::Spent;

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    /// The loop with the same calls.
    bare: Spent,
    /// Coordinator and worker while objects are written.
    fleet: Spent,
    /// From submit to the job's end.
    whole: Spent,
    /// CPU seconds of the store under the fleet.
    server_cpu: f64,
    /// Memory.
    peaks: Peaks,
}

const COLUMNS: [&str; 9] = [
    "strategy (store)",
    "bare obj/s",
    "fleet obj/s",
    "fleet/bare",
    "whole/bare",
    "bare CPU ms",
    "fleet CPU ms",
    "CPU fleet/bare",
    "RabbitMQ + Redis CPU ms",
];

impl Bench {
    /// Each strategy over so many objects.
    pub(crate) async fn fleet(&self, objects: u64) -> Result<Part, Error> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for case in &CASES {
            let mut rounds = Vec::new();
            for _ in 0..self.rounds {
                rounds.push(self.fleet_once(case, objects).await?);
            }
            rows.push(row(case, &rounds));
            all.push(value(case, objects, &rounds));
        }
        let title = format!(
            "Coordinator, one worker, RabbitMQ and Redis over {objects} objects, {PERMITS} calls in flight, median of {}",
            self.rounds
        );
        Ok(Part { title, columns: COLUMNS.to_vec(), rows, json: json!(all) })
    }

    async fn fleet_once(&self, case: &Case, objects: u64) -> Result<Round, Error> {
        let mut server = Server::start(&case.store())?;
        let bucket = server.bucket_of(case.objects(objects))?;
        let bare = bare(&mut server, &bucket, objects, case.bare).await?;
        let bucket = server.bucket_of(case.objects(objects))?;
        let crew = Crew { workers: 1, permits: PERMITS, log: QUIET };
        let fleet = Fleet::start(&self.keyrotate, &mut server, crew).await?;
        let run = fleet.run(&mut server, &job_file(&bucket, case.options, &[])).await?;
        Ok(Round {
            bare: bare.steady(case.write, objects),
            fleet: run.seen.steady(case.write, objects),
            whole: run.seen.whole(objects),
            server_cpu: run.seen.server_cpu,
            peaks: run.peaks,
        })
    }
}

fn rate_ratio(round: &Round) -> f64 {
    round.fleet.rate() / round.bare.rate()
}

fn whole_ratio(round: &Round) -> f64 {
    round.whole.rate() / round.bare.rate()
}

fn cpu_ratio(round: &Round) -> f64 {
    round.fleet.cpu_ms() / round.bare.cpu_ms()
}

fn row(case: &Case, rounds: &[Round]) -> Vec<String> {
    let count = |pick: fn(&Round) -> f64| format!("{:.0}", middle(rounds, pick));
    let exact = |pick: fn(&Round) -> f64| format!("{:.2}", middle(rounds, pick));
    vec![
        format!("{} ({})", case.name, case.mode),
        count(|round| round.bare.rate()),
        count(|round| round.fleet.rate()),
        exact(rate_ratio),
        exact(whole_ratio),
        exact(|round| round.bare.cpu_ms()),
        exact(|round| round.fleet.cpu_ms()),
        exact(cpu_ratio),
        exact(|round| round.fleet.brokers_ms()),
    ]
}

fn value(case: &Case, objects: u64, rounds: &[Round]) -> Value {
    json!({
        "strategy": case.name,
        "mode": case.mode,
        "objects": objects,
        "rate_ratio": middle(rounds, rate_ratio),
        "whole_rate_ratio": middle(rounds, whole_ratio),
        "cpu_ratio": middle(rounds, cpu_ratio),
        "rounds": rounds,
    })
}
