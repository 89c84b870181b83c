//! What a role of a fleet shows to whoever watches it: `/healthz`, `/readyz` and `/metrics` at `metricsListen`.

use std::sync::Arc;

use keyrotate_checkpoint::Ledger;
use keyrotate_config::Config;
use keyrotate_proto::say::chain;
use keyrotate_telemetry::listen::{Ready, listen};
use keyrotate_telemetry::{Role, metrics};

use crate::failure::Failure;
use crate::say;

/// Says which role this process plays, and listens where the configuration says so. It is ready while the checkpoint
/// answers.
pub(crate) async fn serve(config: &Config, role: Role, ledger: &Ledger) -> Result<(), Failure> {
    match role {
        Role::Coordinator => metrics().play(&[Role::Coordinator], "coordinator"),
        Role::Worker => metrics().play(&[Role::Worker], "worker"),
    }
    let Some(address) = config.metrics_listen else { return Ok(()) };
    let ledger = ledger.clone();
    let ready: Ready = Arc::new(move || {
        let ledger = ledger.clone();
        Box::pin(async move { ledger.now().await.map(drop).map_err(|error| chain(&error)) })
    });
    let listening = listen(address.0, ready).await;
    let at = listening.map_err(|error| {
        let what = format!("can't listen on {}: {error}", address.0);
        Failure::refused(what, "name another address as `metricsListen`")
    })?;
    say(&format!("health and metrics at http://{at}"));
    Ok(())
}
