//! What is written down, and under which names. Every record carries the version of its writer.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_proto::capability::Frozen;
use keyrotate_proto::id::{Epoch, JobId, Nonce, PassId, ShardId, ShardRef};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_proto::rates::Rates;
use keyrotate_proto::spec::{JobSpec, Options, Rank};
use keyrotate_proto::state::{JobState, PassKind, Phase};
use serde::{Deserialize, Serialize};

use crate::backend::RecordKey;
use crate::transition::job::next_pass;

/// Version of the records that this code writes.
pub const RECORD_VERSION: u32 = 1;

/// So many leases without progress, and the shard must be split, or its one object set aside.
pub const MAX_CHARGES: u32 = 3;

/// So many entries behind its last commit a holder has in hand at most: a window that is being closed, one that fills,
/// and what is ahead of it.
pub const MAX_AHEAD: u64 = 5_000;

/// A record that knows its version.
pub trait Record: Serialize + for<'de> Deserialize<'de> {
    /// Version of its writer.
    fn version(&self) -> u32;
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// [`RECORD_VERSION`] of the writer.
    pub version: u32,
    /// Its name.
    pub id: JobId,
    /// What it shall do. The notify token is never in here: see `sealed_token`.
    pub spec: JobSpec,
    /// The notify token, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_token: Option<String>,
    /// [`JobSpec::hash`] of `spec`.
    pub spec_hash: String,
    /// Identity of the store: scheme, host and port, or partition and account.
    pub store: String,
    /// New after any loss or roll-back: fences off everything leased before.
    pub nonce: Nonce,
    /// The run of the back-end that the nonce was drawn in.
    #[serde(default)]
    pub run: String,
    /// When it was submitted.
    pub created: Timestamp,
    /// When it began; relative times of its filters count from here.
    pub started: Timestamp,
    /// When this record last changed.
    pub updated: Timestamp,
    /// Where its probe objects live.
    #[serde(default)]
    pub probes: ProbePlace,
    /// Where it stands.
    pub state: JobState,
    /// What the first `prepare` pass found; set once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// Its passes, by number.
    #[serde(default)]
    pub passes: Vec<PassRecord>,
    /// Whoever opens a pass right now leaves a random word here, and stops when it finds another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<String>,
    /// Retry passes opened so far, since the last resume.
    #[serde(default)]
    pub attempts_used: u32,
    /// The first pass that counts for its next end: what verified or cleaned up before the last resume says nothing now.
    #[serde(default = "first_pass")]
    pub resumed_from: PassId,
    /// Milliseconds it was paused for reasons that a probe can end, the present pause left out.
    #[serde(default)]
    pub paused_ms: u64,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// Who submitted it.
    pub user: String,
    /// The fleet's name of the store.
    #[serde(default = "default_store")]
    pub store_name: String,
    /// Whoever submitted it takes the target that `prepare` finds, whichever it is.
    #[serde(default)]
    pub confirmed: bool,
    /// Whether it only foretells what it would do: it takes a census, writes nothing, and keeps no other job from its keys.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dry_run: bool,
    /// Whether a dry run looks at every object, not at a sample.
    #[serde(default, skip_serializing_if = "is_default")]
    pub full: bool,
    /// The first of the jobs that a file about several buckets began, where this is another of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<JobId>,
    /// What it adds to a bucket with versions, where that is bounded; set when it is prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Versions that had failed when `failureThreshold` paused it last: whoever resumed it knows of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures_known: u64,
    /// How much of the fleet it may take; may change while it runs.
    #[serde(default)]
    pub limits: JobLimits,
    /// W3C trace context of its submit, empty without traces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
    /// What became of the news of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified: Option<Notified>,
}

/// What became of the news of a job's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// When.
    pub at: Timestamp,
    /// Whether somebody took it; else it was given up.
    pub delivered: bool,
}

/// What a job adds to a bucket that keeps old versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// Estimate of the versions that it adds.
    pub versions: u64,
    /// Estimate of the bytes of their bodies.
    pub bytes: u64,
    /// Bytes that are, or will be, confirmed: it adds no more.
    pub bound: u64,
    /// Bytes that slices may add, or have added. What a slice that was lost did not use of it stays granted.
    pub granted: u64,
}

/// How much of the fleet a job may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobLimits {
    /// Objects per second at most, in place of the job file's, at all hours.
    pub rate: Option<f64>,
    /// Bytes per second that it writes at most, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_rate: Option<f64>,
    /// Calls to the KMS per second at most, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_rate: Option<f64>,
    /// Store calls at a time at most, over all workers.
    pub permits: Option<u32>,
    /// Jobs of a higher one go first; 0 for those of which nobody said anything.
    pub priority: i32,
    /// Among jobs of one priority: slots in proportion to it; 1 for those of which nobody said anything.
    pub weight: u32,
}

impl Default for JobLimits {
    fn default() -> Self {
        let Rank { priority, weight } = Rank::default();
        Self { rate: None, byte_rate: None, kms_rate: None, permits: None, priority, weight }
    }
}

impl JobLimits {
    /// What the job may do per second at that time: what is set here stands before what its file says.
    #[must_use]
    pub fn rates_at(&self, file: &Options, now: Timestamp) -> Rates {
        let file = file.rates_at(now);
        Rates {
            objects: self.rate.or(file.objects),
            bytes: self.byte_rate.or(file.bytes),
            kms: self.kms_rate.or(file.kms),
        }
    }
}

impl JobRecord {
    /// A job that has not begun. Takes the notify token out of the spec: whoever submits seals it first.
    #[must_use]
    pub fn new(id: JobId, mut spec: JobSpec, store: String, nonce: Nonce, user: String, now: Timestamp) -> Self {
        let spec_hash = spec.hash();
        if let Some(notify) = &mut spec.notify {
            notify.token = None;
        }
        Self {
            version: RECORD_VERSION,
            id,
            spec,
            sealed_token: None,
            spec_hash,
            store,
            nonce,
            run: String::new(),
            created: now,
            started: now,
            updated: now,
            probes: ProbePlace::default(),
            state: JobState::Live { phase: Phase::Queued },
            frozen: None,
            passes: Vec::new(),
            opening: None,
            attempts_used: 0,
            resumed_from: first_pass(),
            paused_ms: 0,
            result: None,
            user,
            store_name: default_store(),
            confirmed: false,
            dry_run: false,
            full: false,
            group: None,
            failures_known: 0,
            growth: None,
            limits: JobLimits::default(),
            traceparent: String::new(),
            notified: None,
        }
    }

    /// What it may do per second at that time.
    #[must_use]
    pub fn rates_at(&self, now: Timestamp) -> Rates {
        self.limits.rates_at(&self.spec.options, now)
    }

    /// The keys it works on.
    #[must_use]
    pub fn scope(&self) -> KeyRange {
        KeyRange::of_prefix(&self.spec.prefix)
    }

    /// Shards of its next pass that nobody has touched, one per range.
    #[must_use]
    pub fn new_shards(&self, ranges: Vec<KeyRange>) -> Vec<ShardRecord> {
        let pass = next_pass(self);
        let shard = |(range, n)| {
            let shard = ShardRef { job: self.id.clone(), pass, shard: ShardId(n) };
            ShardRecord::new(shard, range, self.nonce.clone())
        };
        ranges.into_iter().zip(0..).map(shard).collect()
    }

    /// The bucket of its probe objects, and the prefix of their keys.
    #[must_use]
    pub fn probe_place(&self) -> (&str, &str) {
        (self.probes.bucket.as_deref().unwrap_or(&self.spec.bucket), &self.probes.prefix)
    }

    /// Its newest pass of that kind since it was last resumed.
    #[must_use]
    pub fn last_pass(&self, kind: PassKind) -> Option<&PassRecord> {
        self.passes.iter().rfind(|pass| pass.kind == kind && pass.id >= self.resumed_from)
    }

    /// One of its passes.
    #[must_use]
    pub fn pass(&self, id: PassId) -> Option<&PassRecord> {
        self.passes.iter().find(|p| p.id == id)
    }
}

impl Record for JobRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Where probe objects live, if nobody says otherwise.
pub const PROBE_PREFIX: &str = ".keyrotate/";

/// Where a job's probe objects live: whoever ends the job, or begins another one after it, must find what it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePlace {
    /// Prefix of their keys, with its `/`.
    pub prefix: String,
    /// Their bucket, where it is not the job's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
}

impl Default for ProbePlace {
    fn default() -> Self {
        Self { prefix: PROBE_PREFIX.into(), bucket: None }
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// Each version's last outcome, counted once.
    pub counts: Counts,
    /// When.
    pub ended: Timestamp,
    /// Name of the valid summary in the report store; `None` when none could be written.
    pub report: Option<String>,
}

/// One walk over the scope or part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassRecord {
    /// Its number.
    pub id: PassId,
    /// What it does.
    pub kind: PassKind,
    /// How many shards it has, which is the number that the next one gets.
    pub shards: u32,
    /// Whether shards may still be leased.
    pub open: bool,
    /// Nothing of it is leased earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// When it was opened.
    pub started: Timestamp,
    /// When it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The number that the next pass was going to get when it was closed: what begins after it is told from what ran
    /// beside it without a clock, which may be set back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PassId>,
    /// Sum over its shards, filled when it is closed.
    #[serde(default)]
    pub counts: Counts,
    /// Sum of the earlier rows that its rows replace, filled when it is closed.
    #[serde(default)]
    pub replaced: Counts,
    /// How many entries its shards' sources showed, filled when it is closed.
    #[serde(default)]
    pub listed: u64,
    /// How many of its shards were given up, filled when it is closed.
    #[serde(default)]
    pub abandoned: u32,
}

/// One shard of a pass. Field names are short on the wire: one shard shall fit into 1 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// [`RECORD_VERSION`] of the writer.
    #[serde(rename = "v")]
    pub version: u32,
    /// Which one.
    #[serde(flatten)]
    pub shard: ShardRef,
    /// Its keys. The end may come nearer by a split.
    #[serde(rename = "r")]
    pub range: KeyRange,
    /// Who works on it.
    #[serde(rename = "st")]
    pub state: ShardState,
    /// Grows by one at each lease.
    #[serde(rename = "e")]
    pub epoch: Epoch,
    /// Everything of the shard up to here has a recorded outcome.
    #[serde(rename = "c")]
    pub cursor: Position,
    /// Sum of its rows.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub counts: Counts,
    /// Sum of the rows of earlier passes that its rows replace.
    #[serde(rename = "x", default, skip_serializing_if = "is_default")]
    pub replaced: Counts,
    /// Entries that its source showed up to the cursor. Those of a key that the cursor stands inside of count only
    /// when it has left it: the next lease lists that key again.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    pub listed: u64,
    /// Name of its last part; the others are found from there.
    #[serde(rename = "lp", default, skip_serializing_if = "Option::is_none")]
    pub last_part: Option<String>,
    /// How many parts it has.
    #[serde(rename = "ps", default, skip_serializing_if = "is_default")]
    pub parts: u64,
    /// Leases in a row that ended without progress and were not given back.
    #[serde(rename = "ch", default, skip_serializing_if = "is_default")]
    pub charges: u32,
    /// Those of the charges in which the source itself could not be listed.
    #[serde(rename = "ul", default, skip_serializing_if = "is_default")]
    pub unlisted: u32,
    /// Why it could not, the last time.
    #[serde(rename = "uw", default, skip_serializing_if = "Option::is_none")]
    pub unlisted_why: Option<String>,
    /// A ticket is under way, and is taken for lost at this time.
    #[serde(rename = "to", default, skip_serializing_if = "Option::is_none", with = "millis::option")]
    pub ticket_out_until: Option<Timestamp>,
    /// What the coordinator wants of whoever holds it; forgotten with the lease.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Entries up to this count, as [`Self::listed`] counts them, may still be written by a holder that went without
    /// its last word.
    #[serde(rename = "d", default, skip_serializing_if = "is_default")]
    pub doubted_to: u64,
    /// The shards that it was cut from where their holders may have put intents down for its keys.
    #[serde(rename = "cf", default, skip_serializing_if = "Vec::is_empty")]
    pub cut_from: Vec<ShardId>,
    /// Who held it last.
    #[serde(rename = "lh", default, skip_serializing_if = "Option::is_none")]
    pub last_holder: Option<String>,
}

impl ShardRecord {
    /// A shard that nobody has touched.
    #[must_use]
    pub fn new(shard: ShardRef, range: KeyRange, nonce: Nonce) -> Self {
        Self {
            version: RECORD_VERSION,
            shard,
            cursor: Position::Before(range.start.clone()),
            range,
            state: ShardState::Waiting,
            epoch: Epoch { nonce, counter: 0 },
            counts: Counts::default(),
            replaced: Counts::default(),
            listed: 0,
            last_part: None,
            parts: 0,
            charges: 0,
            unlisted: 0,
            unlisted_why: None,
            ticket_out_until: None,
            asked: None,
            doubted_to: 0,
            cut_from: Vec::new(),
            last_holder: None,
        }
    }

    /// How many entries from the cursor on an earlier holder may still be writing. Whatever is written again in a pass
    /// behind the walk may have been written before.
    #[must_use]
    pub fn doubted(&self, kind: PassKind) -> u64 {
        match kind {
            PassKind::Walk => self.doubted_to.saturating_sub(self.listed),
            _ => u64::MAX,
        }
    }

    /// Whether leases ended on it without progress so often that it must be split, or its one object set aside.
    #[must_use]
    pub fn needs_split(&self) -> bool {
        self.charges >= MAX_CHARGES && !self.state.is_over()
    }

    /// Whether it was leased under a nonce of the job's that is no more. Where a write has no guard of its own, its
    /// holder's time must be over all the same.
    #[must_use]
    pub fn is_fenced_off(&self, job: &JobRecord) -> bool {
        self.epoch.nonce != job.nonce && !job.spec.options.allow_unguarded
    }

    /// Whether nobody works on it at `now` and no ticket for it is under way.
    #[must_use]
    pub fn wants_ticket(&self, job: &JobRecord, now: Timestamp) -> bool {
        let free = match &self.state {
            ShardState::Waiting => true,
            ShardState::Leased { until, .. } => *until < now || self.is_fenced_off(job),
            ShardState::Done | ShardState::Abandoned => false,
        };
        free && self.ticket_out_until.is_none_or(|until| until < now)
    }
}

impl Record for ShardRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

/// What the coordinator wants of a shard's holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// To give it back after its next window: another job has more right to the slot.
    Yield,
    /// To leave others so many pieces of what it has not listed yet, at most.
    Split(u32),
}

/// State of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShardState {
    /// Nobody works on it.
    Waiting,
    /// Somebody may work on it.
    Leased {
        /// Who.
        owner: String,
        /// Random, made for this lease: after an answer that was lost, it tells whether the lease is ours.
        token: String,
        /// Till when, by the back-end's time.
        #[serde(with = "millis")]
        until: Timestamp,
        /// Whether its cursor moved, or a part of a recorded upload was added, under this lease.
        #[serde(default, skip_serializing_if = "is_default")]
        progressed: bool,
    },
    /// Its cursor is at its end.
    Done,
    /// Its source could not be listed; what lies behind the cursor is for a retry pass.
    Abandoned,
}

impl ShardState {
    /// Whether nobody will work on it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::Abandoned)
    }
}

/// Which scopes of one bucket are worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRecord {
    /// [`RECORD_VERSION`] of the writer.
    pub version: u32,
    /// Each live job and each failed one that could be resumed.
    pub entries: Vec<ScopeEntry>,
}

impl Default for BucketRecord {
    fn default() -> Self {
        Self { version: RECORD_VERSION, entries: Vec::new() }
    }
}

impl Record for BucketRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

/// A job's claim on keys of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeEntry {
    /// The job.
    pub job: JobId,
    /// Its keys.
    pub range: KeyRange,
    /// It failed: an operator may resume it until another job begins on these keys.
    pub failed: bool,
}

/// What a submit under an idempotency key began, so that the same submit begins nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitRecord {
    /// [`RECORD_VERSION`] of the writer.
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// Hash of all that was asked for.
    pub asked: String,
    /// How long it is remembered.
    pub until: Timestamp,
}

impl Record for SubmitRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Prefix of all jobs' names.
pub const JOBS: &str = "job/";

/// Prefix of the names of the records of jobs that have not ended.
pub const LIVE: &str = "live/";

/// Says that a job has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// [`RECORD_VERSION`] of the writer.
    pub version: u32,
}

impl Default for LiveRecord {
    fn default() -> Self {
        Self { version: RECORD_VERSION }
    }
}

impl Record for LiveRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Name of a job's live record.
#[must_use]
pub fn live_key(job: &JobId) -> RecordKey {
    RecordKey(format!("{LIVE}{job}"))
}

/// Prefix of the names of the records of jobs that have ended, and whose end is not settled yet.
pub const SETTLING: &str = "settling/";

/// Name of the record that says that a job's end is not settled.
#[must_use]
pub fn settling_key(job: &JobId) -> RecordKey {
    RecordKey(format!("{SETTLING}{job}"))
}

/// Prefix of the names of workers' records.
pub const WORKERS: &str = "worker/";

/// A worker, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// [`RECORD_VERSION`] of the writer.
    pub version: u32,
    /// Its name in leases.
    pub owner: String,
    /// The stores that it serves, by name, each with its identity.
    pub stores: BTreeMap<String, String>,
    /// Slices at a time.
    pub slots: u32,
    /// When it last said so, by the back-end's time.
    pub seen: Timestamp,
    /// What it has done since it began.
    #[serde(default)]
    pub done: WorkDone,
}

/// Name of the record of how often a store asked its workers for less.
#[must_use]
pub fn pace_key(store: &str) -> RecordKey {
    RecordKey(format!("pace/{store}"))
}

/// A store asked for less: whoever was asked writes it down, and all who serve the store read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceRecord {
    /// [`RECORD_VERSION`] of the writer.
    pub version: u32,
    /// How often so far.
    pub slowed: u64,
    /// Who was asked last.
    pub by: String,
    /// When, by the back-end's time.
    #[serde(with = "millis")]
    pub at: Timestamp,
}

impl Record for PaceRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

/// What a worker has done since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkDone {
    /// Objects.
    pub objects: u64,
    /// Bytes of objects that were written.
    pub bytes: u64,
}

impl WorkerRecord {
    /// Whether it said so within `patience`.
    #[must_use]
    pub fn lives(&self, now: Timestamp, patience: Duration) -> bool {
        self.seen.checked_add(patience).is_ok_and(|until| now <= until)
    }
}

impl Record for WorkerRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Name of a worker's record.
#[must_use]
pub fn worker_key(owner: &str) -> RecordKey {
    RecordKey(format!("{WORKERS}{owner}"))
}

/// Who leads the coordinators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// [`RECORD_VERSION`] of the writer.
    pub version: u32,
    /// Grows by one with each lead.
    pub epoch: Epoch,
    /// Who.
    pub owner: String,
    /// Random, made for this lead.
    pub token: String,
    /// The run of the back-end that gave it.
    pub run: String,
    /// Till when, by the back-end's time.
    pub until: Timestamp,
}

impl Record for LeaderRecord {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Name of the leader's record.
#[must_use]
pub fn leader_key() -> RecordKey {
    RecordKey("leader".to_owned())
}

/// Name of a job's record.
#[must_use]
pub fn job_key(job: &JobId) -> RecordKey {
    RecordKey(format!("{JOBS}{job}"))
}

/// Name of a bucket's record. A bucket's name has no slash, so no two of them meet.
#[must_use]
pub fn bucket_key(store: &str, bucket: &str) -> RecordKey {
    RecordKey(format!("bucket/{bucket}/{store}"))
}

/// Name of the record of a submit: `key` is a hash of who asked and his idempotency key.
#[must_use]
pub fn submit_key(key: &str) -> RecordKey {
    RecordKey(format!("submit/{key}"))
}

/// Name of a shard's record.
#[must_use]
pub fn shard_key(shard: &ShardRef) -> RecordKey {
    let ShardId(number) = shard.shard;
    RecordKey(format!("{}{number:010}", shards_prefix(&shard.job, shard.pass)))
}

/// Prefix of the names of all shards of a job.
#[must_use]
pub fn job_shards_prefix(job: &JobId) -> String {
    format!("shard/{job}/")
}

/// Prefix of the names of a pass's shards: they sort by number.
#[must_use]
pub fn shards_prefix(job: &JobId, pass: PassId) -> String {
    format!("shard/{job}/{:010}/", pass.0)
}

fn first_pass() -> PassId {
    PassId(0)
}

fn default_store() -> String {
    "default".to_owned()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Times as milliseconds since 1970, half as long as text.
mod millis {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(time.as_millisecond())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        Timestamp::from_millisecond(i64::deserialize(d)?).map_err(D::Error::custom)
    }

    pub(super) mod option {
        use super::{Deserialize, Deserializer, Error, Serializer, Timestamp};

        pub(in super::super) fn serialize<S: Serializer>(time: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => s.serialize_some(&time.as_millisecond()),
                None => s.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
            let millis = Option::<i64>::deserialize(d)?;
            millis.map(|ms| Timestamp::from_millisecond(ms).map_err(D::Error::custom)).transpose()
        }
    }
}
