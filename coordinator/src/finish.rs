//! The finisher: a job's report, from its parts.

use jiff::Timestamp;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::capability::Frozen;
use keyrotate_proto::id::PassId;
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::state::{JobState, PassKind};
use keyrotate_report::chain::ShardParts;
use keyrotate_report::finish::{FinishInput, finish};
use keyrotate_report::leftovers;

use crate::{Coordinator, Result};

impl Coordinator {
    /// Writes the report of a job that ends in `state`; gives the name of its summary. Written again it is the same.
    pub(crate) async fn write_report(
        &self,
        job: &JobRecord,
        state: &JobState,
        counts: &Counts,
        ended: Timestamp,
    ) -> Result<String> {
        let input = FinishInput {
            under: String::new(),
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
            notes: job.frozen.as_ref().map(|frozen| frozen.notes.clone()).unwrap_or_default(),
        };
        finish(&self.reports.of(&job.id)?, input).await?;
        Ok("summary.json".to_owned())
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

/// When `verifying` had listed the scope to its end, and how many versions it was shown.
fn checked(job: &JobRecord, state: &JobState) -> Option<(Timestamp, u64)> {
    let verify = job.passes.iter().rfind(|pass| pass.kind == PassKind::Verify)?;
    (*state == JobState::Completed).then_some(())?;
    Some((verify.ended?, verify.listed))
}
