//! The parts of the bench. Each gives rows for the table and a value for machines.

mod calls;
mod fleet;
mod forecast;
mod handover;
mod large;
mod memory;
mod restart;
mod second;
mod speed;
mod workers;

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::Error;
use crate::bare::Call;
use crate::client::Client;
use crate::server::Server;
use crate::strategy::job_file;
use crate::watch::Seen;

/// Store calls in flight, of `run` and of the bare loops.
pub(crate) const PERMITS: usize = 64;

/// What a part measured.
#[derive(Debug)]
pub(crate) struct Part {
    /// Heading.
    pub(crate) title: String,
    /// Column heads.
    pub(crate) columns: Vec<&'static str>,
    /// Cells.
    pub(crate) rows: Vec<Vec<String>>,
    /// Everything, for machines.
    pub(crate) json: Value,
}

/// What all parts need.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The `keyrotate` to measure.
    pub(crate) keyrotate: PathBuf,
    /// How often each thing is measured; the median counts.
    pub(crate) rounds: usize,
}

impl Bench {
    /// `keyrotate run` on a bucket, in a state folder of its own.
    async fn run(&self, server: &mut Server, bucket: &str, options: &[&str], filter: &[&str]) -> Result<Seen, Error> {
        let dir = TempDir::new()?;
        self.begin(server, dir.path(), &job_file(bucket, options, filter))?.end(server).await
    }

    /// The same, only begun; begun again in the same folder it goes on.
    fn begin(&self, server: &mut Server, dir: &Path, job: &str) -> Result<Client, Error> {
        let file = dir.join("job.yaml");
        std::fs::write(&file, job)?;
        Client::keyrotate(&self.keyrotate, server, &file, &dir.join("state"))
    }
}

/// The bare loop over every object of a bucket, in a process of its own.
async fn bare(server: &mut Server, bucket: &str, objects: u64, calls: &[Call]) -> Result<Seen, Error> {
    let names: Vec<_> = calls.iter().filter_map(Call::to_possible_value).map(|v| v.get_name().to_owned()).collect();
    let key = server.key(crate::strategy::NEW);
    let (objects, calls, tasks) = (objects.to_string(), names.join(","), PERMITS.to_string());
    let args =
        ["bare", "--bucket", bucket, "--count", &objects, "--kms-key", &key, "--calls", &calls, "--tasks", &tasks];
    Client::own(&args.map(str::to_owned), server)?.end(server).await
}

/// The bare listing of a bucket in so many ranges side by side, `heads` HEADs at a time, in a process of its own.
async fn bare_listing(
    server: &mut Server,
    bucket: &str,
    objects: u64,
    ranges: u64,
    facts: bool,
    heads: usize,
) -> Result<Seen, Error> {
    let (objects, ranges, heads) = (objects.to_string(), ranges.to_string(), heads.to_string());
    let args = ["list", "--bucket", bucket, "--count", &objects, "--ranges", &ranges, "--heads", &heads];
    let mut args = args.map(str::to_owned).to_vec();
    args.extend(facts.then(|| "--facts".to_owned()));
    Client::own(&args, server)?.end(server).await
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The middle one of what `pick` gives of each round.
fn middle<T>(rounds: &[T], pick: fn(&T) -> f64) -> f64 {
    median(rounds.iter().map(pick).collect())
}
