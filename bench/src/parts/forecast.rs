//! How long a dry run says that a job takes, against how long it takes.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Bench, Part, middle};
use crate::Error;
use crate::client::Client;
use crate::server::{ServeArgs, Server};
use crate::strategy::{CASES, Case, OLD, job_file};
use crate::watch::{Seen, float};

/// Of each kind of store the way that a job goes there, and what the forecast calls it.
const WAYS: [(&str, &str); 3] = [
    ("update-encryption", "update-encryption"),
    ("rewrite", "rewrite-only"),
    ("rewrite in place, listing shows facts", "in-place"),
];

/// Milliseconds after which the store answers: on its own, and as over a network.
const LATENCIES: [u64; 2] = [0, 10];

struct Round {
    foretold: f64,
    took: f64,
}

impl Bench {
    /// The forecast's seconds as a ratio to the job's.
    pub(crate) async fn forecast(&self, objects: u64) -> Result<Part, Error> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for (name, basis) in WAYS {
            let case = CASES.iter().find(|case| case.name == name).ok_or("no such case")?;
            for latency in LATENCIES {
                let mut rounds = Vec::new();
                for _ in 0..self.rounds {
                    rounds.push(self.forecast_once(case, basis, latency, objects).await?);
                }
                let foretold = middle(&rounds, |round| round.foretold);
                let took = middle(&rounds, |round| round.took);
                let ratio = middle(&rounds, |round| round.foretold / round.took);
                rows.push(vec![
                    format!("{name} ({}, {latency} ms)", case.mode),
                    objects.to_string(),
                    format!("{foretold:.1}"),
                    format!("{took:.1}"),
                    format!("{ratio:.2}"),
                ]);
                all.push(json!({
                    "strategy": name, "mode": case.mode, "latency_ms": latency, "objects": objects,
                    "foretold_s": foretold, "took_s": took, "ratio": ratio,
                }));
            }
        }
        Ok(Part {
            title: format!(
                "What a dry run foretells against what a job takes (goal 0.7 to 1.3), median of {}",
                self.rounds
            ),
            columns: vec!["strategy (store, latency)", "objects", "foretold s", "took s", "foretold/took"],
            rows,
            json: Value::Array(all),
        })
    }

    async fn forecast_once(&self, case: &Case, basis: &str, latency: u64, objects: u64) -> Result<Round, Error> {
        let mut server = Server::start(&case.store())?;
        if latency > 0 {
            server.delay(Duration::from_millis(latency))?;
        }
        let bucket = server.bucket_of(case.objects(objects))?;
        let dir = TempDir::new()?;
        let (file, state) = (dir.path().join("job.yaml"), dir.path().join("state"));
        std::fs::write(&file, job_file(&bucket, case.options, &[]))?;
        let (forecast, _) = self.dry_run(&mut server, dir.path(), &file).await?;
        let ways = forecast["ways"].as_array().ok_or("a forecast has ways")?;
        let way = ways.iter().find(|way| way["basis"] == basis).ok_or("a forecast has that way")?;
        let foretold = way["pace"]["seconds"].as_f64().ok_or("a way has a pace")?;
        let run = Client::keyrotate(&self.keyrotate, &mut server, &file, &state)?.end(&mut server).await?;
        Ok(Round { foretold, took: run.whole(objects).seconds })
    }
    /// A census of buckets of these sizes: listing calls, looks, time and memory, and how far the estimate is off.
    pub(crate) async fn census(&self, sizes: &[u64]) -> Result<Part, Error> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for objects in sizes {
            let mut server = Server::start(&ServeArgs { mode: "aws".to_owned(), unguarded_copy: false })?;
            let bucket = server.bucket(*objects, Some(OLD))?;
            let dir = TempDir::new()?;
            let file = dir.path().join("job.yaml");
            std::fs::write(&file, job_file(&bucket, &[], &[]))?;
            let (forecast, seen) = self.dry_run(&mut server, dir.path(), &file).await?;
            let requests = seen.requests();
            let of = |names: &[&str]| names.iter().filter_map(|name| requests.get(*name)).sum::<u64>();
            let (listings, looks) = (of(&["ListObjectsV2", "ListObjectVersions"]), of(&["HeadObject"]));
            let estimate = forecast["objects"]["value"].as_u64().ok_or("a forecast has a number of objects")?;
            let (seconds, mib) = (seen.whole(*objects).seconds, float(seen.peak_kib) / 1024.0);
            rows.push(vec![
                objects.to_string(),
                listings.to_string(),
                looks.to_string(),
                format!("{seconds:.1}"),
                format!("{mib:.1}"),
                format!("{:.2}", float(estimate) / float(*objects)),
            ]);
            all.push(json!({ "objects": objects, "requests": requests, "seconds": seconds,
                "peak_kib": seen.peak_kib, "estimate": forecast["objects"] }));
        }
        Ok(Part {
            title: "A dry run that looks at a sample".into(),
            columns: vec!["objects", "listing calls", "HEADs", "seconds", "peak MiB", "estimate/objects"],
            rows,
            json: Value::Array(all),
        })
    }

    async fn dry_run(&self, server: &mut Server, dir: &Path, file: &Path) -> Result<(Value, Seen), Error> {
        let (state, forecast) = (dir.join("state"), dir.join("forecast.json"));
        let seen = Client::dry_run(&self.keyrotate, server, file, &state, &forecast)?.end(server).await?;
        Ok((serde_json::from_slice(&std::fs::read(&forecast)?)?, seen))
    }
}
