//! What follows a job's end: the report store learns of it, the checkpoint forgets what it need not keep, and whoever
//! wants to hear of it is told.

use std::time::Duration;

use jiff::SignedDuration;
use keyrotate_checkpoint::record::{JobRecord, Notified};
use keyrotate_proto::state::JobState;
use tokio::time::Instant;

use crate::history::{self, LISTED};
use crate::{Coordinator, Crew, Result};

/// For so long somebody is tried to be told of a job's end.
const TELL_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How often it is looked for jobs that are to be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

impl Crew {
    /// The next step after a job's end; each may be done again.
    pub(crate) async fn settle(&self, job: &JobRecord) -> Result<Option<JobRecord>> {
        let wants_news = job.spec.notify.is_some() && job.notified.is_none();
        if wants_news && self.notifier.is_none() {
            return Ok(None);
        }
        history::ended(self.reports.as_ref(), job).await?;
        // One that failed may be resumed. On one machine the file keeps them: it has room.
        if self.led.is_some() && !matches!(job.state, JobState::Failed { .. }) {
            self.ledger.forget_shards(&job.id).await?;
        }
        if wants_news {
            return self.tell(job).await;
        }
        self.ledger.settled(&job.id).await?;
        Ok(None)
    }

    /// Tells of the end, and writes down that it was told: whoever is cut off between tells it once more.
    async fn tell(&self, job: &JobRecord) -> Result<Option<JobRecord>> {
        let Some(notifier) = &self.notifier else { return Ok(None) };
        let told = notifier.tell(job).await;
        let ended = job.result.as_ref().map_or(job.updated, |result| result.ended);
        let late = self.ledger.now().await?.duration_since(ended) > TELL_FOR;
        if let Err(error) = told {
            if !late {
                return Err(error.into());
            }
            tracing::warn!(job = %job.id, error = &error as &dyn std::error::Error, "nobody takes the news of its end");
            return self.note_told(job, false).await;
        }
        self.note_told(job, true).await
    }

    async fn note_told(&self, job: &JobRecord, delivered: bool) -> Result<Option<JobRecord>> {
        self.update(job, |there, now| {
            // A failed job that was resumed meanwhile ends once more.
            let notified = (there.result == job.result).then_some(Notified { at: now, delivered });
            Ok(JobRecord { notified, ..there.clone() })
        })
        .await
    }
}

impl Coordinator {
    /// Forgets jobs that ended long ago; the report store still knows them. Only for who leads.
    pub(crate) async fn sweep(&mut self) {
        let due = self.swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY);
        if self.crew.led.is_none() || !due {
            return;
        }
        self.swept = Some(Instant::now());
        if let Err(error) = self.crew.forget_old().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "old jobs could not be forgotten; tried again later"
            );
        }
    }
}

impl Crew {
    async fn forget_old(&self) -> Result<()> {
        let now = self.ledger.now().await?;
        let Ok(before) = now.checked_sub(LISTED) else { return Ok(()) };
        let old = |job: &JobRecord| job.result.as_ref().is_some_and(|result| result.ended < before);
        for job in self.ledger.jobs().await?.into_iter().filter(|job| job.state.is_ended() && old(job)) {
            if !self.ledger.is_settling(&job.id).await? && self.ledger.forget_job(&job.id, before).await? {
                tracing::info!(job = %job.id, "forgotten: it ended long ago");
            }
        }
        Ok(())
    }
}
