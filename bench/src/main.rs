//! What keyrotate costs: store calls, speed, CPU, memory and the time to go on after a kill, on one machine and as a
//! fleet, each against a bare loop of the same calls in one run. Prints tables, writes JSON; `docs/benchmarks.md` has figures.

mod bare;
mod bare_listing;
mod client;
mod fleet;
mod parts;
mod place;
mod server;
mod strategy;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use keyrotate_store::s3::{S3Config, S3Store};
use serde_json::{Map, Value, json};

use crate::bare::Call;
use crate::parts::{Bench, Part};
use crate::place::Place;
use crate::server::ServeArgs;

/// Anything that ends the bench: it has nothing to go on with.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Measures `keyrotate run` and a fleet against bare loops on the embedded store.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    measure: Measure,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Args)]
struct Measure {
    /// Which parts; all without it.
    #[arg(value_enum)]
    parts: Vec<What>,
    /// Write all figures here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each thing is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Objects of the speed part.
    #[arg(long, default_value_t = 20_000)]
    objects: u64,
    /// Objects of the second run that only lists.
    #[arg(long, default_value_t = 1_000_000)]
    listed: u64,
    /// Objects of the parts whose store is slow to answer.
    #[arg(long, default_value_t = 20_000)]
    slow: u64,
    /// Sizes of the buckets of the memory parts.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000, 10_000_000])]
    sizes: Vec<u64>,
    /// Bytes of the large object: the store keeps what is written in memory.
    #[arg(long, default_value_t = 6 << 30)]
    large: u64,
    /// Sizes of the buckets of which a sample is taken.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 200_000_000])]
    sampled: Vec<u64>,
    /// Measure this executable instead of building one.
    #[arg(long, value_name = "FILE")]
    keyrotate: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Store calls per object.
    Calls,
    /// Speed and CPU.
    Speed,
    /// A second run.
    Second,
    /// Peak memory.
    Memory,
    /// One large object.
    Large,
    /// After a kill.
    Restart,
    /// What a dry run foretells.
    Forecast,
    /// A dry run of large buckets.
    Census,
    /// Speed and CPU of a fleet of one worker.
    Fleet,
    /// Four workers.
    Workers,
    /// Eight workers, and nearly all objects in one shard.
    Split,
    /// Eight workers that only list.
    Listing,
    /// Peak memory of a fleet.
    FleetMemory,
    /// After the kill of a worker, and after `prepare`.
    Handover,
}

/// What this executable is when it starts itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// The store.
    #[command(hide = true)]
    Serve(ServeArgs),
    /// A bare loop of calls.
    #[command(hide = true)]
    Bare {
        #[command(flatten)]
        at: Place,
        #[arg(long, value_delimiter = ',')]
        calls: Vec<Call>,
        #[arg(long)]
        tasks: usize,
    },
    /// A bare listing.
    #[command(hide = true)]
    List {
        #[command(flatten)]
        at: Place,
        #[arg(long)]
        ranges: u64,
        #[arg(long)]
        facts: bool,
        #[arg(long)]
        heads: usize,
    },
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let cli = Cli::parse();
    // A second installation is refused; there is none before this line.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli.role {
        None => measure(cli.measure).await,
        Some(Role::Serve(args)) => server::serve(args).await,
        Some(Role::Bare { at, calls, tasks }) => bare::run(store().await?.sdk(), &at, &calls, tasks).await,
        Some(Role::List { at, ranges, facts, heads }) => {
            bare_listing::run(store().await?.sdk(), &at, ranges, facts, heads).await
        }
    }
}

async fn store() -> Result<S3Store, Error> {
    Ok(S3Store::connect(S3Config::default()).await?)
}

async fn measure(args: Measure) -> Result<(), Error> {
    let keyrotate = args.keyrotate.clone().map_or_else(client::build_keyrotate, Ok)?;
    let bench = Bench { keyrotate, rounds: args.rounds.max(1) };
    let mut all = Map::new();
    for what in What::value_variants().iter().filter(|what| args.parts.is_empty() || args.parts.contains(what)) {
        let part = match what {
            What::Calls => bench.calls().await?,
            What::Speed => bench.speed(args.objects).await?,
            What::Second => bench.second(args.listed, args.objects).await?,
            What::Memory => bench.memory(&args.sizes).await?,
            What::Large => bench.large(args.large).await?,
            What::Restart => bench.restart(args.objects.min(10_000)).await?,
            What::Forecast => bench.forecast(args.objects).await?,
            What::Census => bench.census(&args.sampled).await?,
            What::Fleet => bench.fleet(args.objects).await?,
            What::Workers => bench.workers(args.slow).await?,
            What::Split => bench.split(args.slow).await?,
            What::Listing => bench.listing(args.listed).await?,
            What::FleetMemory => bench.fleet_memory(&args.sizes).await?,
            What::Handover => bench.handover(args.slow).await?,
        };
        print(&part);
        let name = what.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        all.insert(name, part.json);
    }
    if let Some(file) = args.json {
        let value =
            json!({ "version": env!("CARGO_PKG_VERSION"), "rounds": bench.rounds, "parts": Value::Object(all) });
        std::fs::write(file, serde_json::to_vec_pretty(&value)?)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn print(part: &Part) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(&part.columns);
    for row in &part.rows {
        table.add_row(row);
    }
    println!("\n{}\n\n{table}", part.title);
}
