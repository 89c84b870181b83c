//! The steps of each job as a task of their own: a report that takes minutes, or a store that does not answer, keeps no
//! other job from going on.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_proto::id::JobId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Crew, Looked, Result, lead};

/// So long a look waits for steps: nearly all are done by then, and the others go on.
const PATIENCE: Duration = Duration::from_millis(100);
/// After an error a job is left alone for so long, then for twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Where only the news of its end is left to tell.
const LONGEST_PAUSE_AFTER_THE_END: Duration = Duration::from_secs(600);

/// Jobs whose steps are being done.
#[derive(Debug, Default)]
pub(crate) struct AtWork {
    tasks: JoinSet<Looked>,
    busy: HashSet<JobId>,
    /// Ended between two looks.
    early: Vec<Looked>,
    /// Errors in a row, and until when the job is left alone.
    failed: HashMap<JobId, (u32, Instant)>,
}

impl AtWork {
    /// Notes which jobs are through, so that they may be set to work again. Before the jobs are read: what is read while a
    /// job is at work is of the past when that ends.
    pub(crate) fn note_ended(&mut self) {
        for looked in std::mem::take(&mut self.early) {
            self.note(&looked);
        }
        while let Some(ended) = self.tasks.try_join_next() {
            self.note(&unpanicked(ended));
        }
    }

    /// Sets each job to work that is not at it, and waits a moment; gives those that are through.
    pub(crate) async fn look(&mut self, crew: &Crew, jobs: Vec<JobRecord>) -> Result<Vec<Looked>> {
        self.failed.retain(|id, _| jobs.iter().any(|job| job.id == *id));
        let mut begun = HashSet::new();
        for job in jobs.into_iter().filter(|job| !self.busy.contains(&job.id)) {
            let pauses = self.failed.get(&job.id).is_some_and(|(_, until)| Instant::now() < *until);
            begun.insert(job.id.clone());
            let crew = crew.clone();
            self.tasks.spawn(async move { crew.take_on(job, !pauses).await });
        }
        self.busy.extend(begun.iter().cloned());
        let mut through = Vec::new();
        let until = Instant::now() + PATIENCE;
        while !begun.is_empty()
            && let Ok(Some(ended)) = tokio::time::timeout_at(until, self.tasks.join_next()).await
        {
            let looked = unpanicked(ended);
            self.note(&looked);
            // What ended from before was read too long ago to hand out tickets by it.
            if begun.remove(&looked.job.id) {
                through.push(looked);
            }
        }
        let lost = |looked: &Looked| looked.error.as_ref().is_some_and(lead::is_lost);
        match through.iter().position(lost).and_then(|at| through.swap_remove(at).error) {
            Some(error) => Err(error),
            None => Ok(through),
        }
    }

    /// Comes back when a job is through that was at work for longer than a look waits.
    pub(crate) async fn one_ends(&mut self) {
        match self.tasks.join_next().await {
            Some(ended) => self.early.push(unpanicked(ended)),
            None => std::future::pending().await,
        }
    }

    /// Stops all of it where it is.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
        *self = Self::default();
    }

    fn note(&mut self, Looked { job, error, .. }: &Looked) {
        self.busy.remove(&job.id);
        let Some(error) = error else {
            self.failed.remove(&job.id);
            return;
        };
        let longest = if job.state.is_ended() { LONGEST_PAUSE_AFTER_THE_END } else { LONGEST_PAUSE };
        let times = self.failed.get(&job.id).map_or(0, |(times, _)| *times);
        let pause = longest.min(FIRST_PAUSE * (1 << times.min(16)));
        tracing::warn!(
            job = %job.id,
            error = error as &dyn std::error::Error,
            seconds = pause.as_secs(),
            "a step of a job failed; it is tried again after a pause"
        );
        self.failed.insert(job.id.clone(), (times + 1, Instant::now() + pause));
    }
}

/// A step that panicked is a bug: it goes on here, so that nobody takes its silence for success.
fn unpanicked(ended: std::result::Result<Looked, tokio::task::JoinError>) -> Looked {
    match ended {
        Ok(looked) => looked,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
