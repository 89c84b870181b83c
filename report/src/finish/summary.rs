//! What a job came to, on a page.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::id::JobId;
use keyrotate_proto::outcome::{Counts, Strategy};
use keyrotate_proto::row::Row;
use keyrotate_proto::spec::JobSpec;
use keyrotate_proto::state::JobState;
use serde::{Deserialize, Serialize};

use super::FinishInput;
use super::tally::{KeyTally, Tally};

/// Version of [`Summary`] that this code writes.
pub const SUMMARY_VERSION: u32 = 1;

/// What no job looks at.
const NOT_LOOKED_AT: &str = "Other buckets, replicas, backups and the store's own data were not looked at: a key that \
     is not needed in this scope may be needed there.";

/// What MinIO seals by its default key.
const MINIO: &str = "On MinIO and AIStor, IAM, server, tier and bucket configuration are sealed by the deployment's \
     default key. They were not touched and keep the old key needed until the vendor's tool has re-encrypted them.";

/// What a job came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// [`SUMMARY_VERSION`] of the writer.
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// The spec, without its notify token.
    pub spec: JobSpec,
    /// The spec's hash.
    pub spec_hash: String,
    /// Which store.
    pub store: String,
    /// The bucket.
    pub bucket: String,
    /// Only keys that begin with it.
    pub prefix: String,
    /// The target as every write named it; `null` where the job ended before it was known.
    pub target: Option<FrozenTarget>,
    /// How the job ended.
    pub result: JobState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Versions scanned: the sum of the outcomes.
    pub scanned: u64,
    /// Last rows by outcome and reason.
    pub counts: Counts,
    /// What the checkpoint counted, where that is something else: a fault of keyrotate that somebody must look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_counts: Option<Counts>,
    /// Versions that could not be done, by reason.
    pub exceptions: BTreeMap<String, u64>,
    /// The first rows that failed or are in conflict.
    pub failed: Vec<Sample>,
    /// What was rotated how.
    pub strategies: BTreeMap<Strategy, StrategyCount>,
    /// Every key seen that is not the target.
    pub old_keys: Vec<OldKey>,
    /// Versions whose key nobody looked at, because the listing alone decided, by outcome and reason.
    pub unknown_keys: BTreeMap<String, u64>,
    /// What the verdicts on keys do not cover.
    pub scope_notes: Vec<String>,
    /// Open uploads that nobody ended.
    pub leftover_uploads: Vec<LeftoverUpload>,
    /// Lines for people.
    pub notes: Vec<String>,
    /// When `verifying` had listed the scope again; `None` where the job ended before, or in summaries of older writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// How many versions were under which encryption before and after; the commonest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_flows: Vec<KeyFlow>,
    /// When the outcomes were written down; `None` where the parts do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
}

/// The second listing of the scope, which the rows were compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// When that listing ended.
    pub checked_at: Timestamp,
    /// How many versions it showed, delete markers and what the file's rules leave out with them.
    pub versions_listed: u64,
}

/// Versions that were under one encryption before the job and are under the same or another after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyFlow {
    /// Before, as the rows name it; `(others)` for all beyond the first 1,000 pairs.
    pub before: String,
    /// After.
    pub after: String,
    /// How many versions.
    pub versions: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Outcomes over the time from the job's start to its end, in steps of equal length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Length of a step, in milliseconds.
    pub step_ms: u64,
    /// The steps; the first begins with the job.
    pub steps: Vec<Step>,
}

/// What became known in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Versions that got an outcome.
    pub scanned: u64,
    /// Those of them that were rotated.
    pub rotated: u64,
}

/// A row that failed or is in conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// The key.
    pub key: String,
    /// The version.
    pub version: Option<String>,
    /// `failed` or `conflict`.
    pub outcome: String,
    /// Why, where it failed.
    pub reason: String,
    /// What the store said.
    pub detail: String,
}

/// What one strategy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StrategyCount {
    /// Versions rotated.
    pub versions: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// A key that is not the target, and who needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OldKey {
    /// Its name; `sse-s3` for the store's own, `(others)` for all beyond the first 10,000 names.
    pub key: String,
    /// Versions that left it.
    pub left: u64,
    /// Versions in scope that are still under it.
    pub still: Left,
    /// Whether this scope needs it.
    pub verdict: Verdict,
}

/// Versions that are still under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// How many.
    pub versions: u64,
    /// The same by outcome and reason.
    pub by_reason: BTreeMap<String, u64>,
}

/// What versions are under whose key is the store's own.
const SSE_S3: &str = "sse-s3";

/// Whether a scope needs a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Verdict {
    /// Versions in scope are still under it.
    #[serde(rename = "needed")]
    Needed,
    /// The scope was listed again after the work and no version in it needs the key.
    #[serde(rename = "not needed in this scope")]
    NotNeeded {
        /// When that listing ended.
        checked_at: Timestamp,
        /// How many versions it showed, delete markers and what the file's rules leave out with them.
        versions_listed: u64,
    },
    /// None was seen, but not all was seen.
    #[serde(rename = "not known")]
    NotKnown {
        /// Why.
        why: String,
    },
}

/// An open upload that nobody ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftoverUpload {
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// What removes it.
    pub command: String,
}

impl Sample {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            key: row.key.clone(),
            version: row.version.clone(),
            outcome: row.outcome.word().to_owned(),
            reason: row.outcome.reason().to_owned(),
            detail: row.detail.clone(),
        }
    }
}

impl Summary {
    pub(super) fn of(input: &FinishInput, tally: Tally) -> Self {
        let mut spec = input.spec.clone();
        if let Some(notify) = &mut spec.notify {
            notify.token = None;
        }
        let doubt = Doubt { named: input.spec.manifest.is_some(), ..Doubt::of(&tally, input.is_minio) };
        let old_keys = old_keys(tally.keys, &doubt, input.checked);
        let command = |(key, upload_id): &(String, String)| LeftoverUpload {
            key: key.clone(),
            upload_id: upload_id.clone(),
            command: abort_command(input.endpoint.as_deref(), &input.spec.bucket, key, upload_id),
        };
        let scope_notes = [Some(NOT_LOOKED_AT), input.is_minio.then_some(MINIO)];
        Self {
            version: SUMMARY_VERSION,
            job: input.job.clone(),
            spec_hash: spec.hash(),
            store: input.store.clone(),
            bucket: spec.bucket.clone(),
            prefix: spec.prefix.clone(),
            spec,
            target: input.target.clone(),
            result: input.state.clone(),
            started: input.started,
            ended: input.ended,
            scanned: tally.counts.scanned(),
            checkpoint_counts: (input.counts != tally.counts).then(|| input.counts.clone()),
            counts: tally.counts,
            exceptions: tally.exceptions,
            failed: tally.failed,
            strategies: tally.strategies,
            old_keys,
            unknown_keys: tally.unknown,
            scope_notes: scope_notes.into_iter().flatten().map(str::to_owned).collect(),
            leftover_uploads: input.leftovers.iter().map(command).collect(),
            notes: input.notes.clone(),
            verified: input.checked.map(|(checked_at, versions_listed)| Verified { checked_at, versions_listed }),
            key_flows: tally.flows.ended(),
            timeline: tally.times.map(super::flow::Times::ended),
        }
    }
}

impl Summary {
    /// Which of its sums are not those of the rows, by their names.
    pub(super) fn differs_from(&self, tally: Tally) -> Vec<&'static str> {
        let verdicts = self.verified.map(|verified| (verified.checked_at, verified.versions_listed));
        let same = |ours: &[OldKey], theirs: &[OldKey]| {
            let sums = |old: &OldKey| (old.key.clone(), old.left, old.still.clone());
            ours.iter().map(sums).eq(theirs.iter().map(sums))
        };
        let flows = tally.flows.ended();
        let sums = [
            ("`counts`", self.counts == tally.counts),
            ("versions `scanned`", self.scanned == tally.counts.scanned()),
            ("`exceptions`", self.exceptions == tally.exceptions),
            ("samples `failed`", self.failed == tally.failed),
            ("`strategies`", self.strategies == tally.strategies),
            ("`unknownKeys`", self.unknown_keys == tally.unknown),
            // Older writers have none.
            ("`keyFlows`", self.key_flows.is_empty() || self.key_flows == flows),
            ("`oldKeys`", same(&self.old_keys, &old_keys(tally.keys, &Doubt::default(), verdicts))),
        ];
        sums.into_iter().filter(|(_, fits)| !fits).map(|(name, _)| name).collect()
    }
}

/// The command that removes an open upload, for a POSIX shell.
#[must_use]
pub fn abort_command(endpoint: Option<&str>, bucket: &str, key: &str, upload_id: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let endpoint = endpoint.map(|e| format!(" --endpoint-url {}", quoted(e))).unwrap_or_default();
    format!(
        "aws{endpoint} s3api abort-multipart-upload --bucket {} --key={} --upload-id={}",
        quoted(bucket),
        quoted(key),
        quoted(upload_id)
    )
}

/// Versions that may be under a key though nobody saw it.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    /// Nobody looked.
    unknown: u64,
    /// Under SSE-S3 on a store that seals it by its default KMS key, which it does not show: MinIO does.
    sse_s3: u64,
    /// Whether only what a manifest names was looked at.
    named: bool,
}

impl Doubt {
    fn of(tally: &Tally, is_minio: bool) -> Self {
        let sse_s3 = tally.keys.get(SSE_S3).filter(|_| is_minio);
        let sse_s3 = sse_s3.map_or(0, |kept| kept.still.values().sum());
        Self { unknown: tally.unknown.values().sum(), sse_s3, named: false }
    }
}

fn old_keys(keys: BTreeMap<String, KeyTally>, doubt: &Doubt, checked: Option<(Timestamp, u64)>) -> Vec<OldKey> {
    keys.into_iter().map(|(key, counts)| old_key(key, counts, checked, doubt)).collect()
}

fn old_key(key: String, counts: KeyTally, checked: Option<(Timestamp, u64)>, doubt: &Doubt) -> OldKey {
    let versions: u64 = counts.still.values().sum();
    let verdict = match checked {
        _ if versions > 0 => Verdict::Needed,
        None if doubt.named => Verdict::NotKnown {
            why: "the job looked at what its manifest names, and at nothing else that may be under it".to_owned(),
        },
        None => Verdict::NotKnown { why: "the job ended before the scope was listed again".to_owned() },
        Some(_) if doubt.unknown > 0 => Verdict::NotKnown {
            why: format!("the file's filters left out {} versions whose key nobody looked at", doubt.unknown),
        },
        Some(_) if doubt.sse_s3 > 0 && key != SSE_S3 => Verdict::NotKnown {
            why: format!(
                "{} versions are under SSE-S3, which this store seals by its default key and never names: if that is this \
                 key, it is needed",
                doubt.sse_s3
            ),
        },
        Some((checked_at, versions_listed)) => Verdict::NotNeeded { checked_at, versions_listed },
    };
    OldKey { key, left: counts.left, still: Left { versions, by_reason: counts.still }, verdict }
}
