//! The finisher: a job's report, from its parts.

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::capability::Frozen;
use keyrotate_proto::id::PassId;
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::state::{JobState, PassKind};
use keyrotate_report::chain::ShardParts;
use keyrotate_report::finish::{FinishInput, finish};
use keyrotate_report::leftovers::{self, Unended};

use crate::{Crew, Result, reseal};

impl Crew {
    /// Writes the report of a job that ends in `state`; gives the name of its summary. Of two that both think they lead,
    /// each writes its own, and the job's record names the one that counts.
    pub(crate) async fn write_report(
        &self,
        job: &JobRecord,
        state: &JobState,
        counts: &Counts,
        ended: Timestamp,
    ) -> Result<String> {
        let under = self.led.as_ref().map(|epoch| format!("ends/{epoch}/")).unwrap_or_default();
        let input = FinishInput {
            under: under.clone(),
            job: job.id.clone(),
            spec: job.spec.clone(),
            store: job.store.clone(),
            endpoint: job.store.starts_with("http").then(|| job.store.clone()),
            is_minio: job.frozen.as_ref().is_some_and(Frozen::shows_minio),
            target: job.frozen.as_ref().map(|frozen| frozen.target.clone()),
            state: state.clone(),
            started: job.started,
            ended,
            passes: parts_of(&self.ledger, job).await?,
            counts: counts.clone(),
            checked: checked(job, state),
            leftovers: leftovers::read(self.reports.of(&job.id)?.as_ref()).await?,
            notes: [self.notes(job).await?, self.reseal(job, state).await?].concat(),
        };
        finish(&self.reports.of(&job.id)?, input).await?;
        Ok(format!("{under}summary.json"))
    }

    /// A job that has brought everything under the key that seals secrets takes these along.
    async fn reseal(&self, job: &JobRecord, state: &JobState) -> Result<Vec<String>> {
        let sealer = self.notifier.as_ref().and_then(|notifier| notifier.sealer());
        let (Some(sealer), JobState::Completed, false) = (sealer, state, job.dry_run) else { return Ok(Vec::new()) };
        let (Some(which), Some(key)) = (reseal::due(job, sealer), sealer.key()) else { return Ok(Vec::new()) };
        Ok(reseal::note(&reseal::reseal(&self.ledger, sealer, which).await?, key))
    }

    /// What nobody is there to end is listed: the uploads that the job's intents name.
    pub(crate) async fn list_leftovers(&self, job: &JobRecord) -> Result<()> {
        let reports = self.reports.of(&job.id)?;
        let unended = self.unended(job).await?;
        // What a `clean` pass listed that was cut off may have no intent any more that says so.
        let mut all: BTreeSet<_> = leftovers::read(reports.as_ref()).await?.into_iter().collect();
        all.extend(unended.ours);
        Ok(leftovers::write(reports.as_ref(), &all).await?)
    }

    async fn unended(&self, job: &JobRecord) -> Result<Unended> {
        let (reports, mut unended) = (self.reports.of(&job.id)?, Unended::default());
        for pass in &job.passes {
            for shard in self.ledger.shards(&job.id, pass.id).await? {
                let parts = ShardParts { range: shard.range, last_part: shard.last_part };
                leftovers::collect(&reports, &shard.shard, parts, &mut unended).await?;
            }
        }
        Ok(unended)
    }

    /// What `prepare` noted; where nobody cleaned up, on how many keys an upload of ours may be open that only the store
    /// can name.
    async fn notes(&self, job: &JobRecord) -> Result<Vec<String>> {
        let mut notes: Vec<_> = job.frozen.iter().flat_map(Frozen::said).collect();
        let ends_early = matches!(job.state, JobState::Cancelling | JobState::Failing { .. });
        if ends_early && !job.passes.is_empty() && job.last_pass(PassKind::Clean).is_none_or(|clean| clean.open) {
            let left = "open uploads, probe objects and the entry of the job in `.keyrotate/lease.json` may be left";
            notes.push(format!("nobody was there to clean up: {left}; the entry runs out within half an hour"));
            let unnamed = self.unended(job).await?.unnamed.len();
            if unnamed > 0 {
                notes.push(format!(
                    "an upload may be open on {unnamed} more keys, under ids that were not put down: \
                     `aws s3api list-multipart-uploads --bucket {}` shows them",
                    job.spec.bucket
                ));
            }
        }
        Ok(notes)
    }
}

/// The parts of all passes with rows, as the checkpoint names them.
pub(crate) async fn parts_of(
    ledger: &Ledger,
    job: &JobRecord,
) -> std::result::Result<Vec<(PassId, Vec<ShardParts>)>, LedgerError> {
    let mut passes = Vec::new();
    for pass in job.passes.iter().filter(|pass| pass.kind.has_rows()) {
        let shards = ledger.shards(&job.id, pass.id).await?;
        let parts = shards.into_iter().map(|shard| ShardParts { range: shard.range, last_part: shard.last_part });
        passes.push((pass.id, parts.collect()));
    }
    Ok(passes)
}

/// When `verifying` had listed the scope to its end, and how many versions it was shown. With a manifest it lists no scope.
fn checked(job: &JobRecord, state: &JobState) -> Option<(Timestamp, u64)> {
    if job.spec.manifest.is_some() {
        return None;
    }
    let verify = job.passes.iter().rfind(|pass| pass.kind == PassKind::Verify)?;
    (*state == JobState::Completed).then_some(())?;
    Some((verify.ended?, verify.listed))
}
