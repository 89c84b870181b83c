//! The command line: the verbs, and what several of them take. What one alone takes lies in the files below.

mod fleet;
mod jobs;
mod tools;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use keyrotate_telemetry::LogFormat;

pub(crate) use fleet::{
    CoordinatorArgs, DlqListArgs, DlqRequeueArgs, DlqVerb, FleetArgs, HealthArgs, ResealArgs, TokenNewArgs, TokenVerb,
    WorkerArgs,
};
pub(crate) use jobs::{
    CensusArgs, FailedArgs, Format, JobArgs, ListArgs, ReportArgs, RunArgs, SetArgs, StartArgs, StatusArgs, TellArgs,
};
pub(crate) use tools::{
    CompletionsArgs, DemoArgs, DevstackArgs, DialectArg, DoctorArgs, ExplainArgs, GenerateArgs, KeyCreateArgs,
    KeyListArgs, KeyStatusArgs, KeyVerb, KeyringImportArgs, KeyringListArgs, KeyringNewArgs, KeyringOpenArgs,
    KeyringPlace, KeyringVerb, ManArgs, ModeArg, PermissionsArgs, PolicyArg, ValidateArgs,
};

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
    /// Say what lies in a bucket, under which keys, and what a rotation would do and cost. Writes nothing.
    Census(CensusArgs),
    /// Begin a job in the fleet; waits for what its preparation finds.
    Start(StartArgs),
    /// List jobs.
    List(ListArgs),
    /// Show how a job stands, until it ends.
    Status(StatusArgs),
    /// Say what a job was asked to do, and what it does to which objects.
    Describe(JobArgs),
    /// Say who did what to a job, and whether that record is whole.
    Audit(JobArgs),
    /// Pause a job until it is resumed.
    Pause(TellArgs),
    /// Let a paused or failed job go on.
    Resume(TellArgs),
    /// Cancel a job, running or not.
    Cancel(TellArgs),
    /// Change how much of the fleet a job may take.
    Set(SetArgs),
    /// Take the target key that a job found, where its file names none.
    Confirm(TellArgs),
    /// List versions that failed, are in conflict, or could not be done, by reason, with what to do.
    Failed(FailedArgs),
    /// Show a job's report as a page or as rows, fetch its files, or check them.
    Report(ReportArgs),
    /// Look after messages that no worker could work on.
    #[command(subcommand)]
    Dlq(DlqVerb),
    /// Seal the secrets in the records of a fleet's jobs anew, after the key that seals them was changed or rotated.
    Reseal(ResealArgs),
    /// Look at everything that a rotation stands on, and say what to mend: settings, KES, a store and its bucket,
    /// RabbitMQ and Redis.
    Doctor(DoctorArgs),
    /// Look after keys on the KES that the environment names.
    #[command(subcommand)]
    Key(KeyVerb),
    /// Look after wrapping keys of client-side encryption: a file, sealed by keys on KES.
    #[command(subcommand)]
    Keyring(KeyringVerb),
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
    /// Print the least rights that a job needs, on the store or KES, as a policy.
    Permissions(PermissionsArgs),
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

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
            help_of(verb, &mut all);
        }
        insta::assert_snapshot!(all);
    }

    fn help_of(verb: &mut clap::Command, all: &mut String) {
        all.push_str(&format!("\n=== {}\n{}", verb.get_display_name().unwrap_or_default(), verb.clone().render_help()));
        verb.get_subcommands_mut().filter(|below| below.get_name() != "help").for_each(|below| help_of(below, all));
    }

    #[test]
    fn mistakes_are_answered_as_ever() {
        let mistakes = [
            "run",
            "run job.yaml --rate 0",
            "run job.yaml --on prod/invoices",
            "run job.yaml --full",
            "run job.yaml --dry-run --yes",
            "run --on invoices",
            "census",
            "census prod",
            "census prod/invoices --sample 5",
            "census prod/invoices --full --sample 500",
            "start job.yaml --dry-run --wait",
            "set JOB --permits 0",
            "set JOB --max-added lots",
            "report",
            "report JOB --check DIR",
            "doctor https://h/b",
            "list --in Running",
            "token new --name x --role root",
            "dlq requeue",
            "rotate",
        ];
        let answer = |line: &&str| {
            let words = std::iter::once("keyrotate").chain(line.split(' '));
            let error = Cli::try_parse_from(words).map(drop).unwrap_err();
            format!("$ keyrotate {line}\n{}", error.render())
        };
        insta::assert_snapshot!(mistakes.iter().map(answer).collect::<Vec<_>>().join("\n"));
    }
}
