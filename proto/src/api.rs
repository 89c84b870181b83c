//! Bodies of the coordinator's API, as server and command line know them. Fields are only ever added.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::audit::Entry;
use crate::id::JobId;
use crate::job;

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobBrief {
    /// Its name.
    #[schemars(with = "String")]
    pub id: JobId,
    /// What kind of job it is: `keyrotate`, or `census` for a dry run.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who submitted it.
    pub user: String,
    /// When it began.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// Its state's word, such as `running`, `paused`, `completed`.
    pub state: String,
    /// The fleet's name of the store.
    pub store: String,
    /// The bucket.
    pub bucket: String,
    /// Only keys that begin with it; empty: all.
    pub prefix: String,
    /// The first of the jobs that one file about several buckets began, where this is another of them.
    #[schemars(with = "Option<String>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<JobId>,
}

/// A page of jobs, in the order of their making.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<JobBrief>,
    /// What to give as `after` for the next page; `null` behind the last.
    #[schemars(with = "Option<String>")]
    pub next: Option<JobId>,
}

/// A job that was submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Submitted {
    /// Its name.
    #[schemars(with = "String")]
    pub id: JobId,
    /// What was taken, but should be looked at.
    pub warnings: Vec<FileProblem>,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// The job.
    #[serde(flatten)]
    pub job: JobBrief,
    /// Where it goes on, in a paused job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why it is paused, failing or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ended: Option<Timestamp>,
    /// Object versions with an outcome.
    pub scanned: u64,
    /// Versions by outcome and reason: `rotated/read-back`, `current`, `skipped/sse-c`.
    pub outcomes: BTreeMap<String, u64>,
    /// Versions in scope that could not be done.
    pub exceptions: u64,
    /// Old versions that are kept under their old key.
    pub superseded: u64,
    /// Versions by what else is to be known about them: `checksum-lost`, `withdrawn`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, u64>,
    /// Bytes of the bodies of rotated versions.
    pub rotated_bytes: u64,
    /// About how much of the key space is through in the present pass, 0 to 1; `null` where nothing is walked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Seconds until the present pass is through, if it goes on like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Versions per second over the last seconds; only in events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_per_second: Option<f64>,
    /// Bytes per second over the last seconds; only in events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// Who works on it right now.
    pub workers: Vec<WorkerLine>,
    /// How much of the fleet it may take.
    pub limits: Limits,
    /// What it adds to a bucket with versions, where that is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// What `prepare` found, a line each; empty before.
    pub findings: Vec<String>,
    /// Whether the report can be read.
    pub report: bool,
    /// What `keyrotate start --wait` ends with; only of a job that nothing changes any more, or that is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

impl JobStatus {
    /// Whether nothing will change any more by itself.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.job.state.as_str(), "completed" | "cancelled" | "failed")
    }

    /// Whether `prepare` is still to come or at work.
    #[must_use]
    pub fn is_preparing(&self) -> bool {
        matches!(self.job.state.as_str(), "queued" | "preparing")
    }
}

/// A worker that works on a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerLine {
    /// Who.
    pub name: String,
    /// Slices it holds.
    pub slices: u64,
}

/// The workers that live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerList {
    /// In the order of their names.
    pub workers: Vec<Worker>,
}

/// A worker that lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// Its name, as jobs show it.
    pub name: String,
    /// The stores that it serves.
    pub stores: Vec<String>,
    /// Slices at a time.
    pub slots: u32,
    /// Objects that it has worked on since it began.
    pub objects: u64,
    /// Bytes that it has written since it began.
    pub bytes: u64,
    /// When it last said that it lives.
    #[schemars(with = "String")]
    pub seen: Timestamp,
}

/// Messages that no worker could work on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterList {
    /// The first ones.
    pub letters: Vec<DeadLetter>,
    /// Whether there are more.
    pub more: bool,
}

/// A message that no worker could work on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Its name; foreign messages without one share one.
    pub id: String,
    /// Why, in words.
    pub reason: String,
    /// The queue that it lay in.
    pub queue: String,
    /// The shard that it is for, as job, pass and number; `null` where it is no ticket.
    pub shard: Option<String>,
    /// Bytes of its body.
    pub bytes: u64,
}

/// Which dead letters to settle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequeueRequest {
    /// These.
    pub ids: Vec<String>,
    /// All.
    pub all: bool,
    /// Also take away what is no ticket, for good.
    pub drop: bool,
}

/// What became of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requeued {
    /// Their shards wait: fresh tickets go out for them, and the letters are gone.
    pub requeued: u64,
    /// Their shards are over or in work, or their jobs have ended: the letters are gone.
    pub not_wanted: u64,
    /// No tickets, taken away as it was asked for.
    pub dropped: u64,
    /// No tickets, and still there.
    pub kept: u64,
    /// Asked for by name, and not there.
    pub missing: Vec<String>,
}

/// What became of the secrets in the records of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resealed {
    /// Sealed anew, under the key that the coordinator's configuration names now.
    pub resealed: u64,
    /// Left as they are: under that key already.
    #[serde(default)]
    pub kept: u64,
    /// Could not be sealed anew, and stay as they are.
    pub failed: Vec<Unsealed>,
}

/// A secret that could not be sealed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsealed {
    /// Whose.
    #[schemars(with = "String")]
    pub job: JobId,
    /// Why.
    pub why: String,
}

/// What a job adds to a bucket that keeps old versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Growth {
    /// Estimate of the versions that it adds.
    pub versions: u64,
    /// Estimate of the bytes of their bodies.
    pub bytes: u64,
    /// It adds no more bytes than these.
    pub bound: u64,
    /// Bytes that it has added, or may add without asking again.
    pub granted: u64,
}

/// Who did what to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// The job.
    #[schemars(with = "String")]
    pub job: JobId,
    /// The hash of its spec, which the first entry names.
    pub spec_hash: String,
    /// All entries, in order.
    pub entries: Vec<Entry>,
    /// Where the chain of the entries' hashes is broken, if it is: one was changed, or taken out.
    pub broken: Option<String>,
}

/// How much of the fleet a job may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Objects per second at most, at present; `null`: no limit.
    pub rate: Option<f64>,
    /// Bytes per second that it writes at most, at present; `null`: no limit.
    #[serde(default)]
    pub byte_rate: Option<f64>,
    /// Calls to the KMS per second at most, at present; `null`: no limit.
    #[serde(default)]
    pub kms_rate: Option<f64>,
    /// Store calls at a time at most, over all workers; `null`: no limit.
    pub permits: Option<u32>,
    /// Jobs of a higher one get the fleet's slots first; each of the others keeps one.
    pub priority: i32,
    /// Jobs of one priority share the slots in proportion to it.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// A change of limits: what is left out stays, `null` takes a limit away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LimitsChange {
    /// Objects per second at most.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub rate: Option<Option<f64>>,
    /// Bytes per second that it writes at most.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub byte_rate: Option<Option<f64>>,
    /// Calls to the KMS per second at most.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub kms_rate: Option<Option<f64>>,
    /// Store calls at a time at most, over all workers.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub permits: Option<Option<u32>>,
    /// Jobs of a higher one get the fleet's slots first; each of the others keeps one: -100 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Jobs of one priority share the slots in proportion to it: 1 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Bytes that the versions which it adds may have in all. A job that is paused because of it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_added_bytes: Option<u64>,
}

/// Keeps `null` apart from what is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(d).map(Some)
}

/// What a job was asked to do, and what it will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobDescription {
    /// How it stands.
    pub status: JobStatus,
    /// The job file as it was read, its defaults filled in, without the notify token.
    pub spec: Value,
    /// What it does to which objects: a heading and a line each.
    pub rules: Vec<(String, String)>,
    /// Its passes.
    pub passes: Vec<PassLine>,
}

/// A pass of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PassLine {
    /// Its number.
    pub number: u32,
    /// `prepare`, `walk`, `retry`, `verify` or `clean`.
    pub kind: String,
    /// When it was opened.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// When it was closed.
    #[schemars(with = "Option<String>")]
    pub ended: Option<Timestamp>,
    /// Its shards.
    pub shards: u32,
    /// Versions that got an outcome in it; 0 while it is open.
    pub scanned: u64,
}

/// A page of versions that failed, are in conflict, or could not be done, in key order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedPage {
    /// The versions.
    pub rows: Vec<FailedRow>,
    /// What to give as `after` for the next page; `null` behind the last. A page may have few rows, or none, and yet a
    /// next one.
    pub next: Option<String>,
}

/// A version that failed, is in conflict, or could not be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedRow {
    /// The key.
    pub key: String,
    /// The version.
    pub version: Option<String>,
    /// `failed`, `conflict` or `skipped`.
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// What the store said.
    pub detail: String,
}

/// The files of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportFiles {
    /// Summary, rows, and lists of parts.
    pub files: Vec<ReportFile>,
}

/// A file of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportFile {
    /// Its name: what to put behind `/report/files/`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its rows; 0 for a file that is no table.
    pub rows: u64,
    /// Lower-case hex SHA-256.
    pub sha256: String,
}

/// Something went wrong (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A stable name: `urn:keyrotate:problem:…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Everything that is wrong with a job file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FileProblem>,
    /// The job that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub job: Option<JobId>,
}

/// Something about a job file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileProblem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The field.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl From<&job::Problem> for FileProblem {
    fn from(problem: &job::Problem) -> Self {
        let job::Problem { line, column, path, message, hint, .. } = problem.clone();
        Self { line, column, path, message, hint }
    }
}

impl FileProblem {
    /// The problem in a file of that name.
    #[must_use]
    pub fn of_file(&self, file: &str) -> job::Problem {
        let Self { line, column, path, message, hint } = self.clone();
        job::Problem { file: file.to_owned(), line, column, path, message, hint }
    }
}
