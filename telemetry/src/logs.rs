//! Logs, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Logs to standard error from now on: what went wrong; with `verbose` 1 what is done, from 2 on everything. `RUST_LOG`
/// says it more finely.
pub fn logs(verbose: u8) {
    let level = match verbose {
        // What lapin says, keyrotate says in its own words; what s3s says, it answers.
        0 => {
            "keyrotate=warn,keyrotate_worker=warn,keyrotate_coordinator=warn,keyrotate_queue=warn,lapin=off,s3s=off,error"
        }
        1 => "keyrotate=debug,keyrotate_worker=debug,keyrotate_coordinator=debug,keyrotate_rewrap=debug,warn",
        _ => "trace,hyper=info,h2=info,rustls=info,aws_smithy_runtime=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}
