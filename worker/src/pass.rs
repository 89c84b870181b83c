//! Slices of `walk`, `retry` and `verify`: which source they read, and what the end of one means for the job.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use keyrotate_checkpoint::record::{JobRecord, ShardRecord, ShardState};
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_checkpoint::transition::shard::Cuts;
use keyrotate_checkpoint::{HeldLease, LedgerError};
use keyrotate_manifest::Sorted;
use keyrotate_proto::id::{JobId, PassId};
use keyrotate_proto::position::{KeyRange, Position, right_behind};
use keyrotate_proto::say::chain;
use keyrotate_proto::state::{PassKind, PauseReason, StopReason};
use keyrotate_report::chain::ShardParts;
use keyrotate_report::rows::{LastRows, PassRows};
use keyrotate_report::{ReportError, ReportStore};
use keyrotate_rewrap::Halt;
use keyrotate_store::wrap::fenced::Deadline;
use keyrotate_telemetry::{Instrument as _, spans};
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::desk::Desk;
use crate::growth::Purse;
use crate::held::held;
use crate::intents::{self, IntentGate};
use crate::quarantine::{self, Left};
use crate::slice::{Slice, SliceEnd, Tools};
use crate::source::{Gap, Listing, Picked, Retry, Scope, Source, SourceError, Verify, gaps};
use crate::split::Cutter;
use crate::trace;

/// A slice could not say its last word.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// The checkpoint refused, or could not be reached.
    #[error("the checkpoint refused or could not be reached")]
    Ledger(#[from] LedgerError),
    /// The report store could not be read.
    #[error("the report store could not be read")]
    Report(#[from] ReportError),
}

impl Desk {
    /// Works on a shard until its lease is to be given back, and gives it back.
    pub(crate) async fn slice(&self, mut lease: HeldLease, stop: CancellationToken) -> Result<(), SliceError> {
        let (record, job, kind) = (lease.record().clone(), lease.job().clone(), lease.kind());
        let reports = self.site.reports.of(&job.id)?;
        let Some(rewrapper) = self.rewrapper(&job) else {
            return Ok(self.site.ledger.give_back(lease).await?);
        };
        if let Err(halt) = self.sing_if_due(&job).instrument(spans::part_of_slice("canary")).await {
            self.halt(&job.id, &halt).await?;
            return Ok(self.site.ledger.give_back(lease).await?);
        }
        if !self.keeps_bucket(&mut lease, &job, &stop).await? {
            return Ok(self.site.ledger.give_back(lease).await?);
        }
        let allotment = self.allotment(&job, lease.shard());
        if !allotment.renew(&job.limits).await? {
            return Ok(self.site.ledger.give_back(lease).await?);
        }
        let read = async {
            let covered = Covered::read(&reports, &record).await?;
            let (bucket, env) = (job.spec.bucket.clone(), self.env.clone());
            let books = Books::open(Arc::clone(&reports), bucket, &record, kind, covered.rows, env).await?;
            Ok((covered.versions, books, intents::left(reports.as_ref(), &record).await?))
        };
        let (covered, books, left_intents) = match read.instrument(spans::part_of_slice("read shard")).await {
            Ok(read) => read,
            Err(error) => return self.after(lease, &job.id, SliceEnd::Report(error)).await,
        };
        let manifest = match self.manifest(&job).await {
            Ok(manifest) => manifest,
            Err(error) => return self.after(lease, &job.id, SliceEnd::Source(error.into())).await,
        };
        let (source, left) = match self.source(&job, kind, &record, covered, &reports, manifest.as_ref()).await {
            Ok(source) => source,
            Err(error) => return self.after(lease, &job.id, SliceEnd::Source(error)).await,
        };
        if let Some(Left::Others(cuts)) = &left
            && !cuts.is_empty()
        {
            let pieces = cuts.len() + 1;
            tracing::warn!(shard = %record.shard, pieces, "three leases in a row ended without progress: it is cut into pieces");
            let cuts = Cuts { at: cuts, begun_to: &record.cursor, intents: true };
            self.site.ledger.split(&mut lease, cuts).await?;
        }
        let purse = Arc::new(Purse::new(&self.site.ledger, &job));
        let deadline = Deadline::new(self.env.clone(), lease.deadline(), lease.ttl());
        // However long the shard's lease is made: the bucket's ends then.
        deadline.end_within(self.bucket_left(&job));
        let tools = Tools {
            job: job.id.clone(),
            ledger: self.site.ledger.clone(),
            store: Arc::clone(&self.store),
            touched: AtomicBool::new(false),
            left_intents,
            sets_aside: left == Some(Left::OneObject),
            cutter: Cutter::new(&self.store, &job, manifest),
            gate: IntentGate::open(reports, record.shard.clone(), record.epoch.clone()),
            rewrapper,
            permits: self.permits.of_slice(allotment.share()),
            allotment,
            purse: Arc::clone(&purse),
            meter: Arc::clone(&self.meter),
            part_added: Arc::default(),
            deadline,
            limits: self.config.limits.clone(),
            stop,
            ending: CancellationToken::new(),
        };
        let (end, lease) = Slice::new(Arc::new(tools), lease, books).run(source).await;
        // What is not given back stays granted, which costs nobody anything but a question.
        if let Err(error) = purse.give_back().await {
            tracing::debug!(job = %job.id, error = &error as &dyn std::error::Error, "what may be added was not given back");
        }
        self.after(lease, &job.id, end).await
    }

    /// Whether the job still may write in its bucket, for longer than a slice.
    async fn keeps_bucket(
        &self,
        lease: &mut HeldLease,
        job: &JobRecord,
        stop: &CancellationToken,
    ) -> Result<bool, SliceError> {
        if !self.must_renew(job) {
            return Ok(true);
        }
        match held(&self.site.ledger, &self.env, lease, stop, self.keep_bucket(job)).await? {
            Some(Ok(())) => Ok(true),
            Some(Err(halt)) => {
                self.halt(&job.id, &halt).await?;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    async fn after(&self, lease: HeldLease, job: &JobId, end: SliceEnd) -> Result<(), SliceError> {
        trace::slice_ended(&end);
        let ledger = &self.site.ledger;
        match end {
            SliceEnd::Through => ledger.finish(lease).await?,
            SliceEnd::Stopped => ledger.give_back(lease).await?,
            SliceEnd::Halted(halt) => {
                self.halt(job, &halt).await?;
                ledger.give_back(lease).await?;
            }
            SliceEnd::Report(error) => {
                let detail = chain(&error);
                self.halt(job, &Halt::Pause { reason: PauseReason::ReportStore, detail }).await?;
                ledger.give_back(lease).await?;
            }
            SliceEnd::Source(error) => self.source_failed(lease, job, &error).await?,
            SliceEnd::LeaseOver => tracing::warn!(shard = %lease.shard(), "the lease ran out under the work"),
            SliceEnd::Lost(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// A source that can't be read is about the job where the store says so, else it charges the shard: three times,
    /// and the shard is abandoned to a retry pass.
    async fn source_failed(&self, lease: HeldLease, job: &JobId, error: &SourceError) -> Result<(), SliceError> {
        // Its text may name keys.
        tracing::warn!(shard = %lease.shard(), "its source can't be read");
        tracing::debug!(shard = %lease.shard(), error = error as &dyn std::error::Error, "its source can't be read");
        let halt = match error {
            SourceError::Store(error) => keyrotate_rewrap::halt_of(error),
            SourceError::Rows(error) => Some(Halt::Pause { reason: PauseReason::ReportStore, detail: chain(error) }),
            SourceError::Checkpoint(_) => None,
        };
        match halt {
            Some(halt) => {
                self.halt(job, &halt).await?;
                self.site.ledger.give_back(lease).await?;
            }
            None => {
                let why = match error {
                    SourceError::Store(error) => chain(error),
                    error => chain(error),
                };
                self.site.ledger.abandon(lease, &why).await?;
            }
        }
        Ok(())
    }

    /// What was seen says something about the job: it pauses or stops.
    pub(crate) async fn halt(&self, job: &JobId, halt: &Halt) -> Result<(), LedgerError> {
        let (what, reason, detail) = match halt {
            Halt::Pause { reason, detail } => ("the job pauses", reason.as_str(), detail),
            Halt::Stop { reason, detail } => ("the job stops", reason.as_str(), detail),
            Halt::LeaseOver => return Ok(()),
        };
        if names_no_object(halt) {
            tracing::warn!(%job, reason, detail, "{what}");
        } else {
            // It stands in the job's record, for those who may know.
            tracing::warn!(%job, reason, "{what}");
            tracing::debug!(%job, detail, "{what}");
        }
        spans::failed(&spans::Span::current(), reason);
        if matches!(halt, Halt::Stop { .. }) {
            self.stop_writes(job, halt);
        }
        let change = |job: &JobRecord, now| match halt {
            Halt::Pause { reason, detail } => transition::pause(job, *reason, detail, now),
            Halt::Stop { reason, detail } => transition::fail(job, *reason, detail, now),
            Halt::LeaseOver => Ok(job.clone()),
        };
        match self.site.ledger.update_job(job, change).await {
            Err(LedgerError::Refused(_)) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The job can't go on for a reason of its own.
    pub(crate) async fn refuse(&self, job: &JobId, detail: String) -> Result<(), LedgerError> {
        self.halt(job, &Halt::Stop { reason: StopReason::Refused, detail }).await
    }

    /// What a shard reads; and what is left of it, where too many leases ended over it without progress.
    async fn source(
        &self,
        job: &JobRecord,
        kind: PassKind,
        shard: &ShardRecord,
        covered: BTreeSet<String>,
        reports: &Arc<dyn ReportStore>,
        manifest: Option<&Sorted>,
    ) -> Result<(Box<dyn Source>, Option<Left>), SourceError> {
        let source = self.source_of(job, kind, shard, covered, reports, manifest).await?;
        if !shard.needs_split() {
            return Ok((source, None));
        }
        let _permit = self.permits.call().await;
        let (source, left) = quarantine::what_is_left(source).await?;
        Ok((source, Some(left)))
    }

    async fn source_of(
        &self,
        job: &JobRecord,
        kind: PassKind,
        shard: &ShardRecord,
        covered: BTreeSet<String>,
        reports: &Arc<dyn ReportStore>,
        manifest: Option<&Sorted>,
    ) -> Result<Box<dyn Source>, SourceError> {
        let listing = |range: &KeyRange, from: &Position| self.listing(job, range, from, covered.clone());
        let scope = |range: &KeyRange, from: &Position| -> Box<dyn Source> {
            match manifest {
                Some(manifest) => {
                    let store = Arc::clone(&self.store);
                    Box::new(Picked::new(store, scope_of(job), manifest, range, from, covered.clone()))
                }
                None => Box::new(listing(range, from)),
            }
        };
        if kind == PassKind::Walk {
            return Ok(scope(&shard.range, &shard.cursor));
        }
        let earlier = self.earlier(job, shard.shard.pass).await?;
        let mut rows = last_rows(Arc::clone(reports), &earlier, shard.range.clone());
        let bucket = job.spec.bucket.clone();
        let gaps: VecDeque<_> = unlisted(&earlier, &shard.range)
            .into_iter()
            .map(|gap| {
                (KeyRange { start: shard.range.start.clone(), end: gap.end.clone() }, later(&gap.from, &shard.cursor))
            })
            .map(|(range, from)| scope(&range, &from))
            .collect();
        if kind == PassKind::Verify {
            // A version that agreed left no row of this pass: the key that the cursor stands in is listed and held
            // against all its rows once more.
            rows.seek(&before_key(&shard.cursor));
            if manifest.is_some() {
                return Ok(Box::new(Retry::reading(bucket, rows, gaps, &shard.cursor, covered)));
            }
            return Ok(Box::new(Verify::new(bucket, listing(&shard.range, &shard.cursor), rows)));
        }
        rows.seek(&shard.cursor);
        Ok(Box::new(Retry::new(bucket, rows, gaps)))
    }

    fn listing(&self, job: &JobRecord, range: &KeyRange, from: &Position, covered: BTreeSet<String>) -> Listing {
        Listing::new(Arc::clone(&self.store), scope_of(job), range.clone(), from, covered)
    }

    /// Passes with rows before this one, with their shards.
    pub(crate) async fn earlier(&self, job: &JobRecord, pass: PassId) -> Result<Vec<Earlier>, SourceError> {
        let mut earlier = Vec::new();
        for pass in job.passes.iter().filter(|one| one.id < pass && one.kind.has_rows()) {
            let shards = self.site.ledger.shards(&job.id, pass.id).await.map_err(SourceError::Checkpoint)?;
            earlier.push((pass.id, pass.kind, shards));
        }
        Ok(earlier)
    }
}

/// What of the bucket is listed for a job.
fn scope_of(job: &JobRecord) -> Scope {
    let frozen = job.frozen.as_ref();
    Scope {
        bucket: job.spec.bucket.clone(),
        prefix: job.spec.prefix.clone(),
        versions: frozen.is_some_and(|frozen| frozen.versioning.has_versions()),
        with_facts: frozen.is_some_and(|frozen| frozen.listing_facts),
    }
}

/// Whether what was seen is about the job as a whole, so that no object can be named in it.
fn names_no_object(halt: &Halt) -> bool {
    use PauseReason::{BucketGone, ClockSkew, Credentials, NoWorker, OtherJob, ReportStore};
    match halt {
        Halt::Pause { reason, .. } => {
            matches!(reason, BucketGone | ClockSkew | Credentials | NoWorker | OtherJob | ReportStore)
        }
        Halt::Stop { reason, .. } => matches!(reason, StopReason::Refused),
        Halt::LeaseOver => true,
    }
}

pub(crate) type Earlier = (PassId, PassKind, Vec<ShardRecord>);

pub(crate) fn parts_of(shard: &ShardRecord) -> ShardParts {
    ShardParts { range: shard.range.clone(), last_part: shard.last_part.clone() }
}

/// The last rows of those passes whose keys lie in a range.
pub(crate) fn last_rows(reports: Arc<dyn ReportStore>, passes: &[Earlier], range: KeyRange) -> LastRows {
    let parts = passes.iter().map(|(pass, _, shards)| (*pass, shards.iter().map(parts_of).collect()));
    LastRows::open(reports, parts.collect(), range)
}

/// What earlier walk and retry passes left unlisted of a range.
fn unlisted(earlier: &[Earlier], range: &KeyRange) -> Vec<Gap> {
    let lists = |kind| matches!(kind, PassKind::Walk | PassKind::Retry);
    let abandoned = |shards: &[ShardRecord]| {
        let inside = shards.iter().filter(|s| s.state == ShardState::Abandoned && s.range.overlaps(range));
        inside.map(|shard| (shard.cursor.clone(), shard.range.clone())).collect()
    };
    let passes: Vec<_> =
        earlier.iter().filter(|(_, kind, _)| lists(*kind)).map(|(_, _, shards)| abandoned(shards)).collect();
    gaps(&passes)
}

/// The later of two positions of one shard.
fn later(a: &Position, b: &Position) -> Position {
    match keyrotate_checkpoint::transition::order(a, b) {
        Some(std::cmp::Ordering::Less) => b.clone(),
        _ => a.clone(),
    }
}

/// The place before the key that a position stands inside of; any other position as it is.
fn before_key(position: &Position) -> Position {
    match position {
        Position::After(key, Some(_)) => Position::Before(key.clone()),
        other => other.clone(),
    }
}

/// What of the cursor's key already has a row in this shard, where the cursor stands inside a key.
#[derive(Default)]
struct Covered {
    /// Versions that the rows speak of.
    versions: BTreeSet<String>,
    rows: u64,
}

impl Covered {
    async fn read(reports: &Arc<dyn ReportStore>, shard: &ShardRecord) -> Result<Self, ReportError> {
        let mut covered = Self::default();
        let Position::After(key, Some(_)) = &shard.cursor else { return Ok(covered) };
        let only = KeyRange { start: key.clone(), end: Some(right_behind(key)) };
        let mut rows = PassRows::open(Arc::clone(reports), vec![parts_of(shard)], only);
        while let Some(row) = rows.next().await? {
            covered.rows += 1;
            covered.versions.extend(row.version);
            covered.versions.extend(row.version_after);
        }
        Ok(covered)
    }
}
