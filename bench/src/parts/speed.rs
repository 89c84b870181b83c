//! Objects per second and CPU per object, against the bare loop and the minimum.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Bench, PERMITS, Part, bare, middle};
use crate::Error;
use crate::server::Server;
use crate::strategy::{CASES, Case};
use crate::watch::Spent;

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    /// The loop with the same calls.
    bare: Spent,
    /// The loop that reads nothing back.
    least: Spent,
    /// `run` while it writes objects.
    run: Spent,
    /// `run` from its start to its end.
    whole: Spent,
    /// Its preparation.
    prepare: Spent,
    /// Its verifying pass and report.
    verify: Spent,
    /// CPU seconds of the store under `run`.
    server_cpu: f64,
    /// Largest memory of `run`.
    peak_kib: u64,
}

const COLUMNS: [&str; 12] = [
    "strategy (store)",
    "bare obj/s",
    "least obj/s",
    "run obj/s",
    "run/bare",
    "whole/bare",
    "bare CPU ms",
    "run CPU ms",
    "CPU run/bare",
    "prepare s",
    "verify s",
    "peak MiB",
];

impl Bench {
    /// Each strategy over so many objects.
    pub(crate) async fn speed(&self, objects: u64) -> Result<Part, Error> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for case in &CASES {
            let mut rounds = Vec::new();
            for _ in 0..self.rounds {
                rounds.push(self.speed_once(case, objects).await?);
            }
            rows.push(row(case, &rounds));
            all.push(value(case, objects, &rounds));
        }
        let title = format!("Speed over {objects} objects, {PERMITS} calls in flight, median of {}", self.rounds);
        Ok(Part { title, columns: COLUMNS.to_vec(), rows, json: json!(all) })
    }

    async fn speed_once(&self, case: &Case, objects: u64) -> Result<Round, Error> {
        let mut server = Server::start(&case.store())?;
        let mut loops = Vec::new();
        for calls in [case.bare, case.least] {
            let bucket = server.bucket_of(case.objects(objects))?;
            loops.push(bare(&mut server, &bucket, objects, calls).await?.steady(case.write, objects));
        }
        let bucket = server.bucket_of(case.objects(objects))?;
        let run = self.run(&mut server, &bucket, case.options, &[]).await?;
        Ok(Round {
            bare: loops[0],
            least: loops[1],
            run: run.steady(case.write, objects),
            whole: run.whole(objects),
            prepare: run.between("preparing", "running", objects),
            verify: run.between("verifying", "", objects),
            server_cpu: run.server_cpu,
            peak_kib: run.peak_kib,
        })
    }
}

fn rate_ratio(round: &Round) -> f64 {
    round.run.rate() / round.bare.rate()
}

fn whole_ratio(round: &Round) -> f64 {
    round.whole.rate() / round.bare.rate()
}

fn cpu_ratio(round: &Round) -> f64 {
    round.run.cpu_ms() / round.bare.cpu_ms()
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 KiB")]
fn row(case: &Case, rounds: &[Round]) -> Vec<String> {
    let count = |pick: fn(&Round) -> f64| format!("{:.0}", middle(rounds, pick));
    let exact = |pick: fn(&Round) -> f64| format!("{:.2}", middle(rounds, pick));
    vec![
        format!("{} ({})", case.name, case.mode),
        count(|round| round.bare.rate()),
        count(|round| round.least.rate()),
        count(|round| round.run.rate()),
        exact(rate_ratio),
        exact(whole_ratio),
        exact(|round| round.bare.cpu_ms()),
        exact(|round| round.run.cpu_ms()),
        exact(cpu_ratio),
        exact(|round| round.prepare.seconds),
        exact(|round| round.verify.seconds),
        count(|round| round.peak_kib as f64 / 1024.0),
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
