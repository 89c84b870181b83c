//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use keyrotate_config::token::{Role, Scope, TokenName};
use keyrotate_config::{Calls, StoreName};
use keyrotate_telemetry::LogFormat;

use crate::scope::ScopeArg;

/// Rotates the encryption key of every object in a bucket, on any S3-compatible store.
#[derive(Debug, Parser)]
#[command(name = "keyrotate", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 completed · 2 bad usage or job file · 3 completed with exceptions · \
    4 job failed · 5 refused, or paused with --no-wait · 6 interrupted or cancelled")]
pub(crate) struct Cli {
    /// More log lines on standard error: -v for debug, -vv for trace (or RUST_LOG).
    #[arg(short, long, action = clap::ArgAction::Count, global = true, display_order = 901)]
    pub(crate) verbose: u8,
    /// Log lines for people, or one JSON object on each: `text`, `json`.
    #[arg(long, value_name = "FORMAT", global = true, env = "KEYROTATE_LOG_FORMAT", hide_env_values = true)]
    #[arg(default_value = "text", hide_default_value = true, hide_short_help = true, display_order = 902)]
    pub(crate) log_format: LogFormat,
    /// The configuration file [default: $XDG_CONFIG_HOME/keyrotate/config.yaml, /etc/keyrotate/config.yaml]
    #[arg(long, value_name = "FILE", global = true, display_order = 900)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a job file on this machine: begin it, or go on where it was interrupted.
    Run(RunArgs),
    /// Begin a job in the fleet; waits for what its preparation finds.
    Start(StartArgs),
    /// List jobs.
    List(ListArgs),
    /// Show how a job stands, until it ends.
    Status(StatusArgs),
    /// Say what a job was asked to do, and what it does to which objects.
    Describe(JobArgs),
    /// Pause a job until it is resumed.
    Pause(JobArgs),
    /// Let a paused or failed job go on.
    Resume(JobArgs),
    /// Cancel a job, running or not.
    Cancel(JobArgs),
    /// Change how much of the fleet a job may take.
    Set(SetArgs),
    /// Take the target key that a job found, where its file names none.
    Confirm(ConfirmArgs),
    /// List versions that failed, are in conflict, or could not be done, by reason, with what to do.
    Failed(FailedArgs),
    /// Show a job's report as a page or as rows, fetch its files, or check them.
    Report(ReportArgs),
    /// Look after messages that no worker could work on.
    #[command(subcommand)]
    Dlq(DlqVerb),
    /// Look at everything that a rotation stands on, and say what to mend: settings, KES, a store and its bucket,
    /// RabbitMQ and Redis.
    Doctor(DoctorArgs),
    /// Look after keys on the KES that the environment names.
    #[command(subcommand)]
    Key(KeyVerb),
    /// Make tokens for the coordinator.
    #[command(subcommand)]
    Token(TokenVerb),
    /// Serve the API of a fleet.
    Coordinator(CoordinatorArgs),
    /// Work for a fleet: take tickets, until told to stop.
    Worker(WorkerArgs),
    /// Print a job file to fill in.
    Generate(GenerateArgs),
    /// Check a job file and say what it will do to which objects.
    Validate(ValidateArgs),
    /// Say what a reason or an exit code means, and what to do about it.
    Explain(ExplainArgs),
    /// See it work: a store and a KES in this process, a mixed bucket, rotated before your eyes.
    Demo(DemoArgs),
    /// Serve the embedded store and KES over HTTP, for tests. Not for production.
    Devstack(DevstackArgs),
    /// Print the completions of a shell.
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all verbs.
    Man(ManArgs),
    /// Ask a role whether it can work; for health checks of containers, which have no shell.
    Health(HealthArgs),
}

/// Where jobs on this machine keep their state.
#[derive(Clone, Debug, Args)]
pub(crate) struct StateArgs {
    /// Folder for checkpoints, parts and reports [default: $XDG_STATE_HOME/keyrotate]
    #[arg(long, value_name = "DIR", env = "KEYROTATE_STATE", hide_env_values = true)]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// The job file.
    #[arg(value_name = "JOB_FILE")]
    pub(crate) file: PathBuf,
    /// The store: a name of `stores:` in the configuration, else an alias of mc [default: as AWS_* say]
    #[arg(long, value_name = "NAME")]
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
    /// Do not ask: take the target key that the store names.
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

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Where jobs are: in the fleet that is named, else on this machine.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhereArgs {
    /// The fleet's coordinator [env: KEYROTATE_URL, or `url` of the configuration]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Look into the state folder of this machine, though a fleet is named.
    #[arg(long, conflicts_with = "url")]
    pub(crate) local: bool,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

impl WhereArgs {
    /// Fields of the configuration that the command line gives.
    pub(crate) fn flags(&self) -> Vec<(&'static str, String, &'static str)> {
        self.url.iter().map(|url| ("url", url.clone(), "--url")).collect()
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StartArgs {
    /// The job file; `-` for standard input.
    #[arg(value_name = "JOB_FILE")]
    pub(crate) file: PathBuf,
    /// The fleet's name of the store; not needed where it has one.
    #[arg(long, value_name = "NAME", value_parser = store_name)]
    pub(crate) store: Option<String>,
    /// Jobs of a higher one go first: -100 to 100.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) priority: Option<i32>,
    /// Do not ask: take the target key that the store names.
    #[arg(short, long)]
    pub(crate) yes: bool,
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

/// The same as of the other verbs.
pub(crate) type ConfirmArgs = JobArgs;

#[derive(Clone, Debug, Args)]
pub(crate) struct SetArgs {
    /// The job's id.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Objects per second at most; `none` for the job file's.
    #[arg(long, value_name = "OBJECTS/S", value_parser = limit_of(rate))]
    pub(crate) rate: Option<Limit<f64>>,
    /// Store calls at a time at most, over all workers; `none` for no limit.
    #[arg(long, value_name = "N", value_parser = limit_of(permits))]
    pub(crate) permits: Option<Limit<u32>>,
    /// Jobs of a higher one go first: -100 to 100.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) priority: Option<i32>,
    #[command(flatten)]
    pub(crate) place: WhereArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

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

/// What to do with dead letters.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// List them, with the reasons.
    List(DlqListArgs),
    /// Have fresh tickets sent for the shards that still want one, and take the dead letters away.
    Requeue(DlqRequeueArgs),
}

/// The fleet.
#[derive(Clone, Debug, Args)]
pub(crate) struct FleetArgs {
    /// The fleet's coordinator [env: KEYROTATE_URL, or `url` of the configuration]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DlqListArgs {
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DlqRequeueArgs {
    /// Which ones: their ids, as `dlq list` shows them.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<String>,
    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
    /// Also take away what is no ticket of keyrotate's, for good.
    #[arg(long)]
    pub(crate) drop: bool,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The bucket to rotate: `ALIAS/BUCKET[/PREFIX]`, or `s3://BUCKET[/PREFIX]` on the store that AWS_* name.
    #[arg(value_name = "ALIAS/BUCKET")]
    pub(crate) scope: Option<ScopeArg>,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    /// The target key [default: as of a job without one, the store's own default]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Write no probe objects; what the store can do is then not known.
    #[arg(long)]
    pub(crate) no_probes: bool,
    /// Key prefix of the probe objects in the bucket [default: the configuration's for that store, else `.keyrotate/`]
    #[arg(long, value_name = "PREFIX", value_parser = probe_prefix)]
    pub(crate) probe_prefix: Option<String>,
    /// Make the probe objects in this bucket instead; `update-encryption` is then never used.
    #[arg(long, value_name = "BUCKET")]
    pub(crate) probe_bucket: Option<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// What to do with keys.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// See whether a key works: have KES seal something under it, and open it again.
    Status(KeyStatusArgs),
    /// Make a key.
    Create(KeyCreateArgs),
    /// List the names of keys.
    List(KeyListArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyStatusArgs {
    /// Its name [default: MINIO_KMS_KES_KEY_NAME]
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyCreateArgs {
    /// Its name.
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyListArgs {
    /// Only those that begin so.
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// What to do with tokens.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token; prints it once, and the line for `tokens:` in the coordinator's configuration.
    New(TokenNewArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TokenNewArgs {
    /// Who holds it: the USER of his jobs.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: TokenName,
    /// What he may do.
    #[arg(long, value_enum)]
    pub(crate) role: RoleArg,
    /// To jobs on this bucket, or its keys that begin with this prefix, alone; may be given several times.
    #[arg(long, value_name = "BUCKET[/PREFIX]")]
    pub(crate) scope: Vec<Scope>,
    /// Days until it expires; never unless given.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) expires: Option<u32>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// What the holder of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Look.
    View,
    /// Submit jobs and tell them what to do.
    Operate,
    /// Look after the fleet, too.
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::View => Self::View,
            RoleArg::Operate => Self::Operate,
            RoleArg::Admin => Self::Admin,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CoordinatorArgs {
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:7474]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WorkerArgs {
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Whose dialect to write.
    #[arg(long, value_enum, default_value_t = DialectArg::Aistor)]
    pub(crate) dialect: DialectArg,
}

/// A dialect that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DialectArg {
    /// AIStor: always SSE-KMS, plaintext too.
    Aistor,
    /// MinIO since 2023: `encryption.type`.
    Minio,
    /// MinIO's first form, without the `keyrotate:` level.
    MinioFlat,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The job file; `-` for standard input.
    #[arg(value_name = "JOB_FILE", required_unless_present = "schema")]
    pub(crate) file: Option<PathBuf>,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    /// Print the JSON Schema of job files instead, for editors.
    #[arg(long)]
    pub(crate) schema: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    /// As it was shown, such as `sse-c`, `skipped/sse-c` or `exit 3`; all of them without it.
    #[arg(value_name = "REASON")]
    pub(crate) word: Vec<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many objects.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(crate) objects: u32,
    /// As which store the embedded one behaves.
    #[arg(long, value_enum, default_value_t = ModeArg::Aws)]
    pub(crate) mode: ModeArg,
    /// By a fleet: a coordinator and three workers, with RabbitMQ and Redis of this machine, which must be installed.
    #[arg(long)]
    pub(crate) fleet: bool,
    /// Keep store, keys and report in this folder, to look at afterwards.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// As which store the embedded one behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// All guards, UpdateObjectEncryption.
    Aws,
    /// MinIO: in place, listing with metadata, no guard on CopyObject's destination.
    Minio,
    /// moto's server.
    Moto,
    /// Ceph RGW: only GET + PUT.
    Rgw,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DevstackArgs {
    /// Where the store keeps what it acknowledged; a temporary folder without it.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// As which store it behaves.
    #[arg(long, value_enum, default_value_t = ModeArg::Aws)]
    pub(crate) mode: ModeArg,
    /// Buckets to make, if they are not there.
    #[arg(long, value_name = "NAME")]
    pub(crate) bucket: Vec<String>,
    /// Put that many objects of every kind into the last of the buckets, if it is empty.
    #[arg(long, value_name = "N", requires = "bucket")]
    pub(crate) objects: Option<u64>,
    /// Where the store listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) s3: SocketAddr,
    /// Where the KES listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) kes: SocketAddr,
    /// The name that others reach them under.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// The API key that the KES lets in; one of its own without it.
    #[arg(long, value_name = "KEY")]
    pub(crate) kes_api_key: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell's.
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ManArgs {
    /// Write the pages of all verbs into this folder, such as `/usr/local/share/man/man1`.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct HealthArgs {
    /// What to ask, such as `http://127.0.0.1:7474/readyz`.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
}

/// More than nothing: a rate of 0 would be read as no limit at all by some and as a standstill by others.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("objects per second, more than 0, such as `200`; without the flag there is no limit".into()),
    }
}

/// Reads a limit; `none` takes it away.
fn limit_of<T: Clone + Send + Sync + 'static>(
    read: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Limit<T>, String> + Clone + Send + Sync + 'static {
    move |text| if text == "none" { Ok(Limit(None)) } else { read(text).map(|limit| Limit(Some(limit))) }
}

fn permits(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(permits) if permits > 0 => Ok(permits),
        _ => Err("a number more than 0, or `none`".into()),
    }
}

fn store_name(text: &str) -> Result<String, String> {
    StoreName::try_from(text.to_owned()).map(|name| name.as_str().to_owned())
}

/// The word of a state: letters, so that it can stand in a URL.
fn state_word(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if plain { Ok(text.to_owned()) } else { Err("a state such as `running`, `paused`, `completed`".into()) }
}

/// A folder of its own: everything below it is taken for probes when leftovers are swept.
fn probe_prefix(text: &str) -> Result<String, String> {
    let named = text.trim_end_matches('/');
    if named.is_empty() || !text.ends_with('/') || text.starts_with('/') || text.len() > 512 {
        return Err("a folder's name that ends in a slash, such as `.keyrotate/`".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn numbers_and_names_that_mean_nothing_are_refused() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(probe_prefix("a/b/"), Ok("a/b/".to_owned()));
        for wrong in ["", "/", "x", "/x/", "//"] {
            assert!(probe_prefix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_schema_needs_no_file() {
        assert!(Cli::try_parse_from(["keyrotate", "validate", "--schema"]).is_ok());
        assert!(Cli::try_parse_from(["keyrotate", "validate"]).is_err());
    }

    #[test]
    fn help_is_as_ever() {
        let mut command = Cli::command().term_width(80);
        command.build();
        let mut all = command.render_help().to_string();
        for verb in command.get_subcommands_mut() {
            all.push_str(&format!("\n=== {}\n{}", verb.get_name().to_owned(), verb.render_help()));
        }
        insta::assert_snapshot!(all);
    }
}
