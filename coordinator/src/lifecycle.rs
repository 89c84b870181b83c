//! A job from one state to the next. Each step reads what is so and does the one thing that follows; a step done
//! twice, or by two coordinators, changes nothing.

use jiff::Timestamp;
use keyrotate_checkpoint::record::{JobRecord, JobResult, PassRecord, ShardRecord, ShardState};
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_plan::{KEY_SPACE, KeySpace};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::state::{JobState, PassKind, PauseReason, Phase, StopReason};
use keyrotate_report::intents;
use keyrotate_telemetry::{Instrument as _, spans};

use crate::totals::{Totals, totals};
use crate::{CoordinatorError, Crew, Result, TicketsOut, history};

impl Crew {
    /// Does the next step of a job; `None` when there is nothing to do but to wait.
    pub(crate) async fn advance(&self, job: &JobRecord, shards: &[ShardRecord]) -> Result<Option<JobRecord>> {
        if let Some(next) = self.close_passes(job, shards).await? {
            return Ok(Some(next));
        }
        if let Some(next) = self.pause_unserved(job).await? {
            return Ok(Some(next));
        }
        if let Some(next) = self.pause_failing(job, shards).await? {
            return Ok(Some(next));
        }
        let open = |kind: PassKind| job.passes.iter().any(|pass| pass.open && pass.kind == kind);
        match &job.state {
            JobState::Live { phase: Phase::Queued } => self.begin(job).await,
            JobState::Live { phase: Phase::Preparing } if open(PassKind::Prepare) => Ok(None),
            JobState::Live { phase: Phase::Preparing } if transition::is_foretold(job) => {
                let result = JobResult { counts: Counts::default(), ended: self.ledger.now().await?, report: None };
                Ok(Some(self.ledger.end_job(&job.id, &result).await?))
            }
            JobState::Live { phase: Phase::Preparing } => self.open(job, PassKind::Prepare, vec![job.scope()]).await,
            JobState::Live { phase: Phase::AwaitingConfirmation } => Ok(None),
            JobState::Live { phase: Phase::Running } if open(PassKind::Walk) || open(PassKind::Retry) => Ok(None),
            JobState::Live { phase: Phase::Running } => self.after_work(job).await,
            JobState::Live { phase: Phase::Verifying } if job.passes.iter().any(|pass| pass.open) => Ok(None),
            JobState::Live { phase: Phase::Verifying } => self.after_verify(job).await,
            JobState::Paused { reason, .. } if reason.is_a_persons() || *reason == PauseReason::NoWorker => Ok(None),
            JobState::Paused { .. } => self.while_paused(job).await,
            JobState::Cancelling | JobState::Failing { .. } => self.clean(job, shards).await,
            JobState::Cancelled | JobState::Failed { .. } | JobState::Completed => self.settle(job).await,
        }
    }

    /// Nothing of a job begins before the report store knows of it.
    async fn begin(&self, job: &JobRecord) -> Result<Option<JobRecord>> {
        history::begins(self.reports.as_ref(), job).await?;
        self.update(job, transition::begin).await
    }

    /// Closes the first open pass whose shards are all over.
    async fn close_passes(&self, job: &JobRecord, shards: &[ShardRecord]) -> Result<Option<JobRecord>> {
        let over = |pass: &&PassRecord| {
            let mut of_pass = shards.iter().filter(|shard| shard.shard.pass == pass.id);
            pass.open && of_pass.all(|shard| shard.state.is_over())
        };
        if job.state.is_ended() {
            return Ok(None);
        }
        let Some(pass) = job.passes.iter().find(over) else { return Ok(None) };
        self.ledger.close_pass(&job.id, pass.id).await?;
        Ok(Some(self.ledger.job(&job.id).await?))
    }

    /// More versions failed than `failureThreshold` allows: a person looks before more do.
    async fn pause_failing(&self, job: &JobRecord, shards: &[ShardRecord]) -> Result<Option<JobRecord>> {
        let counts = Totals::of(job, shards).counts;
        let (failed, scanned) = (counts.of("failed"), counts.scanned());
        match transition::failures(job, failed, scanned, job.updated) {
            Ok(next) if next.state != job.state => {
                self.update(job, |job, now| transition::failures(job, failed, scanned, now)).await
            }
            _ => Ok(None),
        }
    }

    /// No walk or retry pass is open: the first walk, another retry, or on to `verifying`.
    async fn after_work(&self, job: &JobRecord) -> Result<Option<JobRecord>> {
        let Some(last) = last_with_rows(job) else {
            let shards = self.walk_shards(job, self.plan(job).await?).await?;
            return self.open_with(job, PassKind::Walk, shards).await;
        };
        let again = self.ranges_to_retry(job, last).await?;
        if again.is_empty() {
            return self.update(job, transition::verify).await;
        }
        if job.attempts_used >= job.spec.retry.attempts {
            return self.fail_with_what_is_left(job, last).await;
        }
        let not_before = self.ledger.now().await?.checked_add(job.spec.retry.delay).ok();
        self.ledger.open_pass(job, PassKind::Retry, again, not_before).await?;
        Ok(Some(self.ledger.job(&job.id).await?))
    }

    /// The walk's shards, from what `prepare` learnt of the key space.
    async fn plan(&self, job: &JobRecord) -> Result<Vec<KeyRange>> {
        let bytes = self.reports.of(&job.id)?.get(KEY_SPACE).await?;
        let space: KeySpace = serde_json::from_slice(&bytes).map_err(|e| CoordinatorError::KeySpace(e.to_string()))?;
        Ok(keyrotate_plan::plan(&job.scope(), &space.probes, self.config.shards))
    }

    /// Ranges of a pass with rows that want another try, or that were abandoned.
    async fn ranges_to_retry(&self, job: &JobRecord, pass: &PassRecord) -> Result<Vec<KeyRange>> {
        let shards = self.ledger.shards(&job.id, pass.id).await?;
        let left = |counts: &Counts| counts.by_outcome.iter().any(|(outcome, n)| outcome.wants_retry() && *n > 0);
        let again = shards.into_iter().filter(|shard| left(&shard.counts) || shard.state == ShardState::Abandoned);
        Ok(again.map(|shard| shard.range).collect())
    }

    async fn fail_with_what_is_left(&self, job: &JobRecord, last: &PassRecord) -> Result<Option<JobRecord>> {
        let counts = totals(&self.ledger, job).await?.counts;
        let (failed, conflict) = (counts.of("failed"), counts.of("conflict"));
        let (reason, detail) = if last.abandoned > 0 {
            let shards = self.ledger.shards(&job.id, last.id).await?;
            let abandoned = shards.into_iter().filter(|shard| shard.state == ShardState::Abandoned);
            let why = abandoned.filter_map(|shard| shard.unlisted_why).next();
            (StopReason::Abandoned, unlisted(job, last.abandoned, why.as_deref()))
        } else {
            (StopReason::ObjectsLeft, format!("{failed} failed and {conflict} in conflict after the last pass"))
        };
        self.update(job, |job, now| transition::fail(job, reason, &detail, now)).await
    }

    /// No pass is open and `verifying` is through: no last row may be bad, uploads that nobody ended are ended or listed, and the canary must
    /// open once more.
    async fn after_verify(&self, job: &JobRecord) -> Result<Option<JobRecord>> {
        let Some(verify) = job.last_pass(PassKind::Verify) else {
            let shards = self.ledger.shards(&job.id, walk_of(job)).await?;
            return self.open(job, PassKind::Verify, shards.into_iter().map(|shard| shard.range).collect()).await;
        };
        // Rows that no retry looks at again are in no later pass's counts, so the sums of all passes decide.
        let counts = totals(&self.ledger, job).await?.counts;
        if verify.abandoned > 0 || counts.of("failed") + counts.of("conflict") > 0 {
            return self.fail_with_what_is_left(job, verify).await;
        }
        let cleaned = job.last_pass(PassKind::Clean).filter(|clean| clean.id > verify.id);
        if cleaned.is_none() && self.has_intents(job).await? {
            return self.open(job, PassKind::Clean, vec![job.scope()]).await;
        }
        // A probe of a pause amid `verifying` is none: the canary opens right before the end.
        let next = cleaned.unwrap_or(verify).next;
        let right_before_the_end = |pass: &&PassRecord| next.is_some_and(|next| pass.id >= next);
        match job.last_pass(PassKind::Prepare).filter(right_before_the_end) {
            None => self.open(job, PassKind::Prepare, vec![job.scope()]).await,
            Some(_) => self.end(job, &JobState::Completed).await,
        }
    }

    /// Whether the job put intents down: only then can there be uploads that nobody ended.
    async fn has_intents(&self, job: &JobRecord) -> Result<bool> {
        Ok(!intents::list_all(self.reports.of(&job.id)?.as_ref()).await?.is_empty())
    }

    /// A probe pass, until it succeeds or the pause has lasted too long.
    async fn while_paused(&self, job: &JobRecord) -> Result<Option<JobRecord>> {
        let now = self.ledger.now().await?;
        if transition::paused_for(job, now) > job.spec.options.pause_limit {
            let detail = "it was paused for longer than `pauseLimit`";
            return self.update(job, |job, now| transition::fail(job, StopReason::PauseLimit, detail, now)).await;
        }
        if job.passes.iter().any(|pass| pass.open && pass.kind == PassKind::Prepare) {
            return Ok(None);
        }
        self.open(job, PassKind::Prepare, vec![job.scope()]).await
    }

    /// `clean` over what the job left open, then the end. It begins when nobody writes any more: holders hear of the end
    /// with their next commit or renewal, and no lease is made longer.
    async fn clean(&self, job: &JobRecord, shards: &[ShardRecord]) -> Result<Option<JobRecord>> {
        let end = match &job.state {
            JobState::Failing { reason, detail } => JobState::Failed { reason: *reason, detail: detail.clone() },
            _ => JobState::Cancelled,
        };
        let now = self.ledger.now().await?;
        if self.is_unserved(job) {
            // Nobody is there who could write, or clean up.
            self.list_leftovers(job).await?;
            return self.end(job, &end).await;
        }
        let Some(pass) = job.last_pass(PassKind::Clean) else {
            let stands = |shard: &ShardRecord| matches!(shard.state, ShardState::Leased { until, .. } if until >= now);
            if shards.iter().any(stands) {
                return Ok(None);
            }
            return self.open(job, PassKind::Clean, vec![job.scope()]).await;
        };
        let limit = jiff::SignedDuration::try_from(self.config.clean_limit).unwrap_or_default();
        match (pass.open, now.duration_since(pass.started) > limit) {
            (true, false) => Ok(None),
            (true, true) => {
                self.list_leftovers(job).await?;
                self.end(job, &end).await
            }
            (false, _) => self.end(job, &end).await,
        }
    }

    /// Whether no worker lives that serves the job's store.
    pub(crate) fn is_unserved(&self, job: &JobRecord) -> bool {
        self.config.tickets_out == TicketsOut::TwiceTheSlots
            && !self.workers.iter().any(|worker| worker.slots > 0 && worker.stores.contains_key(&job.store_name))
    }

    /// Writes the report, then the job's last state. The state given is the one that the job is about to have.
    async fn end(&self, job: &JobRecord, state: &JobState) -> Result<Option<JobRecord>> {
        let ended = self.ledger.now().await?;
        let counts = totals(&self.ledger, job).await?.counts;
        let span = spans::step("write report", &job.id, &job.traceparent);
        let report = self.write_report(job, state, &counts, ended).instrument(span).await?;
        let result = JobResult { counts, ended, report: Some(report) };
        Ok(Some(self.ledger.end_job(&job.id, &result).await?))
    }

    async fn open(&self, job: &JobRecord, kind: PassKind, ranges: Vec<KeyRange>) -> Result<Option<JobRecord>> {
        self.open_with(job, kind, job.new_shards(ranges)).await
    }

    async fn open_with(&self, job: &JobRecord, kind: PassKind, shards: Vec<ShardRecord>) -> Result<Option<JobRecord>> {
        let span = spans::step("open pass", &job.id, &job.traceparent);
        span.record("pass.kind", tracing::field::display(kind));
        self.ledger.open_pass_with(job, kind, shards, None).instrument(span).await?;
        Ok(Some(self.ledger.job(&job.id).await?))
    }

    pub(crate) async fn update(
        &self,
        job: &JobRecord,
        change: impl Fn(&JobRecord, Timestamp) -> std::result::Result<JobRecord, keyrotate_checkpoint::Refusal>
        + Send
        + Sync,
    ) -> Result<Option<JobRecord>> {
        Ok(Some(self.ledger.update_job(&job.id, change).await?))
    }
}

/// The newest pass that wrote rows. After a failed `verifying` that somebody resumed, that is the `verify` pass, whose
/// bad rows then get their retry before the scope is listed once more.
fn last_with_rows(job: &JobRecord) -> Option<&PassRecord> {
    job.passes.iter().rfind(|pass| pass.kind.has_rows())
}

/// The pass that walked the scope.
fn walk_of(job: &JobRecord) -> keyrotate_proto::id::PassId {
    job.passes.iter().find(|pass| pass.kind == PassKind::Walk).map_or(keyrotate_proto::id::PassId(0), |pass| pass.id)
}

/// What is said of ranges that could not be listed.
fn unlisted(job: &JobRecord, ranges: u32, why: Option<&str>) -> String {
    let plural = if ranges == 1 { "" } else { "s" };
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let bucket = &job.spec.bucket;
    format!("{ranges} range{plural} of keys of the bucket `{bucket}` could not be listed{why}")
}
