//! The report that a person gets: files of last rows in key order, a summary, and a manifest with their hashes.

mod check;
mod files;
mod flow;
mod summary;
mod tally;

use std::sync::Arc;

use jiff::Timestamp;
use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::id::{JobId, PassId};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::part::{COLUMNS, fields};
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::spec::JobSpec;
use keyrotate_proto::state::JobState;
use sha2::{Digest, Sha256};

use crate::chain::ShardParts;
use crate::rows::LastRows;
use crate::{ReportError, ReportStore};

pub use check::{Checked, check, check_all, check_folder, listed_parts};
pub use files::{ChainHead, FileEntry, MANIFEST_VERSION, Manifest};
pub use summary::{
    KeyFlow, Left, LeftoverUpload, OldKey, SUMMARY_VERSION, Sample, Step, StrategyCount, Summary, Timeline, Verdict,
    Verified, abort_command,
};

/// Rows in one file of the report.
const ROWS_PER_FILE: u64 = 100_000;

/// Parts in one file that lists them.
const PARTS_PER_FILE: u64 = 10_000;

/// Columns of the files that list parts.
const PART_COLUMNS: [&str; 4] = ["name", "bytes", "rows", "sha256"];

/// What the report is made of.
#[derive(Clone, Debug)]
pub struct FinishInput {
    /// Folder for the report's files in the job's folder, ending in `/`; empty: the job's folder itself. Of two
    /// coordinators that both write a report, each has its own.
    pub under: String,
    /// The job.
    pub job: JobId,
    /// The spec; its notify token is left out.
    pub spec: JobSpec,
    /// Which store, as it names itself.
    pub store: String,
    /// The endpoint, for commands that a person can type; `None`: the command line's default.
    pub endpoint: Option<String>,
    /// Whether it is MinIO or AIStor.
    pub is_minio: bool,
    /// The target as every write named it; `None` where the job ended before it was known.
    pub target: Option<FrozenTarget>,
    /// How the job ended.
    pub state: JobState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended. Given, not asked of a clock: a report that is written again has the same bytes.
    pub ended: Timestamp,
    /// All passes that wrote rows, with their shards.
    pub passes: Vec<(PassId, Vec<ShardParts>)>,
    /// What the checkpoint counts; the report says so where its rows count otherwise.
    pub counts: Counts,
    /// When `verifying` had listed the scope to its end, and how many entries that listing had; `None` where it did not.
    pub checked: Option<(Timestamp, u64)>,
    /// Open uploads that nobody ended: key and upload id.
    pub leftovers: Vec<(String, String)>,
    /// Lines for people: what was found out about the store, why strategies were or were not used.
    pub notes: Vec<String>,
}

/// Writes `report/00001.csv.gz …` (last rows in key order), `report/parts-00001.csv.gz …` (all parts with their
/// hashes), `summary.json` and, last, `manifest.json`. Written again with the same input it has the same bytes.
///
/// # Errors
/// When a part is missing, damaged or out of its chain, or the store can't be written.
pub async fn finish(store: &Arc<dyn ReportStore>, input: FinishInput) -> Result<Summary, ReportError> {
    let whole = KeyRange { start: String::new(), end: None };
    let mut last_rows = LastRows::open(Arc::clone(store), input.passes.clone(), whole);
    last_rows.note_parts();
    let mut rows = files::Rolling::new(store, format!("{}report/", input.under), &COLUMNS, ROWS_PER_FILE);
    let mut parts = files::Rolling::new(store, format!("{}report/parts-", input.under), &PART_COLUMNS, PARTS_PER_FILE);
    let mut tally = tally::Tally::new(input.target.clone());
    loop {
        let next = last_rows.next_key().await?;
        for part in last_rows.take_parts() {
            tally.note(&part.header, (input.started, input.ended));
            let rows = part.header.counts.scanned().to_string();
            parts.write(&[&part.name, &part.bytes.to_string(), &rows, &part.sha256]).await?;
        }
        let Some(key) = next else { break };
        for last in key.rows {
            tally.add(&last.row);
            rows.write(&fields(&input.spec.bucket, last.pass, &last.row)).await?;
        }
    }
    let (report, parts) = (rows.end().await?, parts.end().await?);
    let summary = Summary::of(&input, tally);
    let name = format!("{}summary.json", input.under);
    let summary_file = files::put_json(store, &name, &summary).await?;
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        job: input.job.clone(),
        summary: summary_file,
        report,
        parts,
        chains: chain_heads(&input.passes),
    };
    files::put_json(store, &format!("{}manifest.json", input.under), &manifest).await?;
    Ok(summary)
}

fn chain_heads(passes: &[(PassId, Vec<ShardParts>)]) -> Vec<ChainHead> {
    let head = |pass: PassId, shard: &ShardParts| ChainHead {
        pass,
        range: shard.range.clone(),
        last_part: shard.last_part.clone(),
    };
    passes.iter().flat_map(|(pass, shards)| shards.iter().map(move |shard| head(*pass, shard))).collect()
}

/// Lower-case hex SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests;
