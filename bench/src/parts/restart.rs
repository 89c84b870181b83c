//! Killed in the middle and started again.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Bench, Part, median};
use crate::Error;
use crate::client::Client;
use crate::server::Server;
use crate::strategy::{CASES, job_file};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

impl Bench {
    /// How long until the next object is written.
    pub(crate) async fn restart(&self, objects: u64) -> Result<Part, Error> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(self.restart_once(objects).await?);
        }
        let first = median(rounds.iter().filter_map(|time| time["first_write_s"].as_f64()).collect());
        Ok(Part {
            title: format!("Killed and started again, store latency 5 ms, median of {}", self.rounds),
            columns: vec!["objects", "first new write after s"],
            rows: vec![vec![objects.to_string(), format!("{first:.2}")]],
            json: json!({ "first_write_s": first, "rounds": rounds }),
        })
    }

    async fn restart_once(&self, objects: u64) -> Result<Value, Error> {
        let [case, ..] = &CASES;
        let mut server = Server::start(&case.store())?;
        server.delay(Duration::from_millis(5))?;
        let bucket = server.bucket_of(case.objects(objects))?;
        let (dir, job) = (TempDir::new()?, job_file(&bucket, case.options, &[]));
        let writes = |client: &Client| client.last().and_then(|s| s.requests.get(case.write).copied()).unwrap_or(0);
        let mut killed = self.begin(&mut server, dir.path(), &job)?;
        while killed.look(&mut server)? && writes(&killed) < objects / 2 {
            tokio::time::sleep(PAUSE).await;
        }
        killed.kill()?;
        let mut again = self.begin(&mut server, dir.path(), &job)?;
        while again.look(&mut server)? && writes(&again) == 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let first = again.last().map(|sample| (sample.at, sample.requests.clone()));
        let end = again.end(&mut server).await?;
        let (at, requests) = first.unwrap_or_default();
        Ok(json!({ "first_write_s": at, "requests_until_then": requests, "whole": end.whole(objects) }))
    }
}
