//! `health`: whether a URL answers well, for health checks of containers.

use std::time::Duration;

use keyrotate_proto::say::chain;

use crate::args::HealthArgs;
use crate::exit::Exit;
use crate::failure::Failure;

/// Health checks are asked every few seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks; what it says of itself is in the message.
pub(crate) async fn ask(args: HealthArgs) -> Result<Exit, Failure> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
    let client = client.map_err(|e| Failure::broke("no client", &e, "check the system's certificates"))?;
    let ill = |what: String| Failure::failed(what, format!("see the log of what listens at {}", args.url));
    let answer = client.get(&args.url).send().await.map_err(|e| ill(chain(&e)))?;
    let status = answer.status();
    // A store's face refuses whoever has not signed: it lives.
    if status.is_success() || status.as_u16() == 403 {
        return Ok(Exit::Completed);
    }
    let said = answer.bytes().await.unwrap_or_default();
    Err(ill(format!("{status}: {}", String::from_utf8_lossy(&said).trim())))
}
