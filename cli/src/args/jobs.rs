//! What the verbs about jobs take.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use keyrotate_config::Calls;

use super::values::{Limit, byte_rate, limit_of, permits, probe_prefix, rate, size, state_word, store_name};
use super::{Output, StateArgs, WhereArgs};
use crate::scope::ScopeArg;

#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// The job file; `-` for standard input.
    #[arg(value_name = "JOB_FILE", required_unless_present = "on")]
    pub(crate) file: Option<PathBuf>,
    /// Without a job file: rotate these objects, all of them, plaintext too, as `encryption: {key: KEY}` does.
    #[arg(long, value_name = "ALIAS/BUCKET[/PREFIX]", conflicts_with_all = ["file", "store"])]
    pub(crate) on: Option<ScopeArg>,
    /// The target key, with --on [default: the store's own]
    #[arg(long, value_name = "KEY", requires = "on")]
    pub(crate) key: Option<String>,
    /// The store: a name of `stores:` in the configuration, else an alias of mc [default: as AWS_* say]
    #[arg(long, value_name = "ALIAS")]
    pub(crate) store: Option<String>,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// Store calls in flight; `auto`: as many as do good.
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) permits: Calls,
    /// Objects per second at most.
    #[arg(long, value_name = "OBJECTS/S", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Say what would be done and what it would cost, and write nothing.
    #[arg(long, conflicts_with_all = ["resume", "replace", "new", "yes", "no_wait"])]
    pub(crate) dry_run: bool,
    /// With --dry-run: look at every object, not at a sample.
    #[arg(long, requires = "dry_run")]
    pub(crate) full: bool,
    /// Do not ask: take the target key that the store names, and add the versions that this takes.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Leave when the job is paused, instead of waiting until it can go on.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Begin afresh, though a failed job of this file could be resumed.
    #[arg(long, conflicts_with_all = ["resume", "replace"])]
    pub(crate) new: bool,
    /// Go on with this job as it was begun, though the file has changed since.
    #[arg(long, value_name = "JOB", conflicts_with = "replace")]
    pub(crate) resume: Option<String>,
    /// Cancel the interrupted job on these objects and begin this one.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Only what this job, which has ended, could not do: the versions that `keyrotate failed JOB` lists.
    #[arg(long, value_name = "JOB", conflicts_with = "dry_run")]
    pub(crate) failed_of: Option<String>,
    /// Key prefix of the probe objects in the bucket. A job that goes on keeps the one it began with
    /// [default: the configuration's for that store, else `.keyrotate/`]
    #[arg(long, value_name = "PREFIX", value_parser = probe_prefix)]
    pub(crate) probe_prefix: Option<String>,
    /// Make the probe objects in this bucket instead; `update-encryption` is then never used. A job that goes on keeps
    /// the one it began with.
    #[arg(long, value_name = "BUCKET")]
    pub(crate) probe_bucket: Option<String>,
    /// How the end is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CensusArgs {
    /// What to look at: `ALIAS/BUCKET[/PREFIX]`, or `s3://BUCKET[/PREFIX]` on the store that AWS_* name.
    #[arg(value_name = "ALIAS/BUCKET")]
    pub(crate) scope: ScopeArg,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// The target key [default: what `doctor` proved to be the store's own]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// How many objects are looked at.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) sample: u32,
    /// Look at every object; interrupted, the same command goes on.
    #[arg(long, conflicts_with = "sample")]
    pub(crate) full: bool,
    /// Store calls in flight; `auto`: as many as do good.
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) permits: Calls,
    /// Objects per second at most; the forecast says how long a job takes at this rate, too.
    #[arg(long, value_name = "OBJECTS/S", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StartArgs {
    /// The job file; `-` for standard input.
    #[arg(value_name = "JOB_FILE")]
    pub(crate) file: PathBuf,
    /// The fleet's name of the store; not needed where it has one.
    #[arg(long, value_name = "NAME", value_parser = store_name)]
    pub(crate) store: Option<String>,
    /// Jobs of a higher one get the fleet's slots first, each of the others keeps one: -100 to 100.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) priority: Option<i32>,
    /// Jobs of one priority share the slots in proportion to it: 1 to 1000.
    #[arg(long, value_name = "N")]
    pub(crate) weight: Option<u32>,
    /// Do not ask: take the target key that the store names, and add the versions that this takes.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Have a worker say what would be done and what it would cost, from a sample; nothing is written.
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    pub(crate) dry_run: bool,
    /// With --dry-run: look at every object, not at a sample.
    #[arg(long, requires = "dry_run")]
    pub(crate) full: bool,
    /// Only what this job, which has ended, could not do: the versions that `keyrotate failed JOB` lists.
    #[arg(long, value_name = "JOB")]
    pub(crate) failed_of: Option<String>,
    /// Follow the job to its end, and end with its exit code.
    #[arg(long)]
    pub(crate) wait: bool,
    /// A word of yours: the same one begins one job, however often it is sent.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    #[command(flatten)]
    pub(crate) place: WhereArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    /// Only jobs in this state, such as `running`.
    #[arg(long = "in", value_name = "STATE", value_parser = state_word)]
    pub(crate) in_state: Option<String>,
    /// Only the jobs that one file about several buckets began; JOB is the first of them.
    #[arg(long, value_name = "JOB")]
    pub(crate) group: Option<String>,
    #[command(flatten)]
    pub(crate) place: WhereArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    /// The job's id.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Look once; so does `--output json`.
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) place: WhereArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct JobArgs {
    /// The job's id.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) place: WhereArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TellArgs {
    /// The job's id.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Tell all open jobs that one file about several buckets began; JOB is the first of them.
    #[arg(long)]
    pub(crate) group: bool,
    #[command(flatten)]
    pub(crate) place: WhereArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SetArgs {
    /// The job's id.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Objects per second at most; `none` for the job file's.
    #[arg(long, value_name = "OBJECTS/S", value_parser = limit_of(rate))]
    pub(crate) rate: Option<Limit<f64>>,
    /// Bytes per second at most that it writes, such as `50MiB`; `none` for the job file's.
    #[arg(long, value_name = "BYTES/S", value_parser = limit_of(byte_rate))]
    pub(crate) byte_rate: Option<Limit<f64>>,
    /// Calls to the KMS per second at most; `none` for the job file's.
    #[arg(long, value_name = "CALLS/S", value_parser = limit_of(rate))]
    pub(crate) kms_rate: Option<Limit<f64>>,
    /// Store calls at a time at most, over all workers; `none` for no limit.
    #[arg(long, value_name = "N", value_parser = limit_of(permits))]
    pub(crate) permits: Option<Limit<u32>>,
    /// Jobs of a higher one get the fleet's slots first, each of the others keeps one: -100 to 100.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) priority: Option<i32>,
    /// Jobs of one priority share the slots in proportion to it: 1 to 1000.
    #[arg(long, value_name = "N")]
    pub(crate) weight: Option<u32>,
    /// In a bucket with versions: how many bytes the versions that it adds may have in all.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) max_added: Option<u64>,
    #[command(flatten)]
    pub(crate) place: WhereArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FailedArgs {
    /// The job's id.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// How many keys of each reason are shown; of JSON, how many objects in all [default: 10; of JSON, all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) place: WhereArgs,
    /// How results are printed; JSON is one object per line.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// The job's id.
    #[arg(value_name = "JOB", required_unless_present = "check")]
    pub(crate) job: Option<String>,
    /// How it is shown [default: text; with --out: all files, and an HTML page]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write into this folder: all files of the report, its parts, and `report.html`; with --format that one alone.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Prove a folder that --out filled: hashes, sums, chains of parts. Asks nobody.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["job", "format", "out"])]
    pub(crate) check: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: WhereArgs,
}

/// How a report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A page for the terminal.
    Text,
    /// A page for a browser or a printer, in one file.
    Html,
    /// The summary, for programs.
    Json,
    /// All rows; a cell that a spreadsheet would take for a formula gets a single quote before it.
    Csv,
}
