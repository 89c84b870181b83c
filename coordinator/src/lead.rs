//! One of many: of any number of coordinators the one that leads plans, dispatches, sweeps and finishes.

use std::time::Duration;

use keyrotate_checkpoint::transition::leader::Leading;
use keyrotate_checkpoint::{Ledger, LedgerError, Refusal};
use keyrotate_telemetry::metrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Coordinator, CoordinatorError, Result};

/// How long a lead stands without being renewed: so long a leader that is killed is missed.
const LEAD: Duration = Duration::from_secs(6);
/// How often it is renewed, and asked for by the others.
const RENEW: Duration = Duration::from_secs(2);

impl Coordinator {
    /// Leads whenever nobody else does, until it is told to stop; then it makes room at once.
    pub async fn run_among_others(mut self, owner: &str, stop: CancellationToken) {
        let unled = self.crew.ledger.clone();
        while !stop.is_cancelled() {
            match unled.lead(owner, LEAD).await {
                Ok(Some(leading)) => {
                    tracing::info!(epoch = %leading.epoch, "leads");
                    self.crew.ledger = unled.led_by(leading.clone());
                    self.crew.led = Some(leading.epoch.clone());
                    metrics().leader.set(1);
                    self.lead(&unled, &leading, &stop).await;
                    self.at_work.stop().await;
                    self.gauges.forget();
                    tracing::info!(epoch = %leading.epoch, "leads no more");
                    if let Err(error) = unled.resign(&leading).await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "the lead runs out by itself");
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the checkpoint does not answer");
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RENEW) => {}
            }
        }
    }

    /// Works until the lead is lost. What is in the middle of a step then is dropped there: each change of its own is
    /// fenced, and the next leader finds what was done.
    async fn lead(&mut self, unled: &Ledger, leading: &Leading, stop: &CancellationToken) {
        tokio::select! {
            biased;
            () = renew(unled, leading) => {}
            () = self.adopt_and_work(stop) => {}
        }
    }

    async fn adopt_and_work(&mut self, stop: &CancellationToken) {
        while let Err(error) = self.adopt().await {
            if is_lost(&error) || stop.is_cancelled() {
                return;
            }
            tracing::warn!(error = &error as &dyn std::error::Error, "the jobs could not be taken over");
            tokio::time::sleep(RENEW).await;
        }
        self.run_until(stop).await;
    }

    /// Gives every live job a nonce of the back-end's present run: a lead is lost with each run, so that this comes
    /// before anything else that happens under the next. Strikes workers that are long gone.
    async fn adopt(&self) -> Result<()> {
        for job in self.crew.ledger.live_jobs().await? {
            let adopted = self.crew.ledger.adopt(&job.id).await?;
            if adopted.nonce != job.nonce {
                tracing::warn!(job = %job.id, "the checkpoint was restarted; whatever was leased before is void");
            }
        }
        Ok(self.crew.ledger.forget_workers().await?)
    }
}

/// Renews the lead until it is over, by the word of the checkpoint or by silence.
async fn renew(ledger: &Ledger, leading: &Leading) {
    let mut renewed = Instant::now();
    while renewed.elapsed() < LEAD {
        tokio::time::sleep(RENEW).await;
        let sent = Instant::now();
        match tokio::time::timeout(LEAD, ledger.go_on_leading(leading, LEAD)).await {
            Ok(Ok(())) => renewed = sent,
            Ok(Err(LedgerError::Backend(error))) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the lead could not be renewed");
            }
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Whether another leads now.
pub(crate) fn is_lost(error: &CoordinatorError) -> bool {
    matches!(error, CoordinatorError::Ledger(LedgerError::Refused(Refusal::NotLeader)))
}
