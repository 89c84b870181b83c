//! The `keyrotate` executable: every role and every verb. Thin: what a verb does lives in the crates below.

mod alias;
mod args;
mod cancel;
mod census;
mod choose;
mod config;
mod connect;
mod control;
mod coordinator;
mod demo;
mod devstack;
mod dlq;
mod doctor;
mod exit;
mod explain;
mod failure;
mod files;
mod fleet;
mod health;
mod jobs;
mod key;
mod keyring;
mod live;
mod local;
mod manual;
mod permissions;
mod reseal;
mod run;
mod scope;
mod several;
mod signals;
mod state;
mod summary;
mod token;
mod watch;
mod worker;
mod wrap;

use std::process::ExitCode;

use clap::Parser;
use keyrotate_telemetry::Settings;

use crate::args::{Cli, DlqVerb, KeyVerb, KeyringVerb, TokenVerb, Verb};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::{failed, report, verbs};

/// Rows live for seconds between buffers that live for milliseconds: the system's allocator spends a fifth of the CPU on
/// that and gives little back. `.cargo/config.toml` keeps its arenas few.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    keyrotate_env::forbid_core_dumps();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // A second installation is refused; there is none before this line.
    let _installed = provider.install_default();
    let (verbose, format, service) = (cli.verbose, cli.log_format, service(&cli.verb));
    let telemetry = keyrotate_telemetry::start(Settings { verbose, format, service });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(perform(cli.verb));
            // A question that nobody answers must not hold the process.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Failure::refused(format!("can't start: {error}"), "check the limits of this process")),
    };
    telemetry.end();
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            say(&format!("keyrotate: {failure}"));
            failure.exit().into()
        }
    }
}

/// What a role calls itself in traces; verbs that only ask send none.
fn service(verb: &Verb) -> Option<&'static str> {
    match verb {
        Verb::Run(_) => Some("keyrotate"),
        Verb::Coordinator(_) => Some("keyrotate-coordinator"),
        Verb::Worker(_) => Some("keyrotate-worker"),
        _ => None,
    }
}

async fn perform(verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Run(args) => run::run(args).await,
        Verb::Census(args) => census::census(args).await,
        Verb::Start(args) => verbs::start(args).await,
        Verb::List(args) => verbs::list(args).await,
        Verb::Status(args) => verbs::status(args).await,
        Verb::Describe(args) => verbs::describe(args).await,
        Verb::Audit(args) => verbs::audit(args).await,
        Verb::Pause(args) => verbs::tell(args, "pause").await,
        Verb::Resume(args) => verbs::tell(args, "resume").await,
        Verb::Cancel(args) => verbs::cancel(args).await,
        Verb::Set(args) => verbs::set(args).await,
        Verb::Confirm(args) => verbs::tell(args, "confirm").await,
        Verb::Failed(args) => failed::failed(args).await,
        Verb::Report(args) => report::report(args).await,
        Verb::Reseal(args) => reseal::reseal(args).await,
        Verb::Dlq(DlqVerb::List(args)) => dlq::list(args).await,
        Verb::Dlq(DlqVerb::Requeue(args)) => dlq::requeue(args).await,
        Verb::Doctor(args) => doctor::examine(args).await,
        Verb::Key(KeyVerb::Status(args)) => key::status(args).await,
        Verb::Key(KeyVerb::Create(args)) => key::create(args).await,
        Verb::Key(KeyVerb::List(args)) => key::list(args).await,
        Verb::Keyring(KeyringVerb::New(args)) => keyring::new(args).await,
        Verb::Keyring(KeyringVerb::Import(args)) => keyring::import(args).await,
        Verb::Keyring(KeyringVerb::List(args)) => keyring::list(&args),
        Verb::Keyring(KeyringVerb::Open(args)) => keyring::open(args).await,
        Verb::Token(TokenVerb::New(args)) => token::new(args),
        Verb::Coordinator(args) => coordinator::serve(args).await,
        Verb::Generate(args) => files::generate(&args),
        Verb::Validate(args) => files::validate(&args),
        Verb::Permissions(args) => permissions::permissions(&args),
        Verb::Explain(args) => explain::explain(&args),
        Verb::Demo(args) => demo::demo(args).await,
        Verb::Devstack(args) => devstack::serve(args).await,
        Verb::Worker(args) => worker::work(args).await,
        Verb::Completions(args) => manual::completions(&args),
        Verb::Man(args) => manual::man(&args),
        Verb::Health(args) => health::ask(args).await,
    }
}

/// Prints a line of talk, which is no data: for whoever has no bar to hide.
#[expect(clippy::print_stderr, reason = "talk goes to standard error")]
fn say(line: &str) {
    eprintln!("{line}");
}
