//! The `prepare` pass: preflight, probes of the store, answers about the key space. While a job is paused the same
//! pass is its probe, and while it runs, its canary.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use keyrotate_checkpoint::ledger::Prepared;
use keyrotate_checkpoint::record::{Growth, JobRecord};
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_checkpoint::{HeldLease, LedgerError};
use keyrotate_plan::KEY_SPACE;
use keyrotate_proto::capability::{Frozen, FrozenTarget};
use keyrotate_proto::forecast::{FORECAST, Forecast};
use keyrotate_proto::id::PassId;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::say::chain;
use keyrotate_proto::state::{JobState, PauseReason, Phase};
use keyrotate_report::ReportError;
use keyrotate_rewrap::Halt;
use keyrotate_rewrap::probe::{self, ProbeSettings, Refusal, effects};
use keyrotate_store::{ListFrom, ObjectAt, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bucket_lease::{Trouble, is_through};
use crate::census::{Census, CensusError, Count, Question, SAMPLE};
use crate::desk::Desk;
use crate::held::held;
use crate::keyspace::Survey;
use crate::manifest::{NoManifest, note};
use crate::pass::{SliceError, last_rows};
use crate::permits::Share;
use crate::source::SourceError;

/// How often the canary is opened while a job works.
const CANARY_EVERY: Duration = Duration::from_secs(180);

/// Keys whose rows are searched for an object under the target key.
const KEYS_SEARCHED: usize = 20_000;

/// Where a census of every object is kept while it is taken, in the job's reports, and how often.
const COUNT: &str = "census.json";
const KEEP_EVERY: Duration = Duration::from_secs(20);

/// Written and written over to see whether the report store can be written.
const WRITABLE: &str = "writable";

/// Why a job can't begin yet, or at all.
#[derive(Debug)]
enum Unready {
    Refused(Refusal),
    Unlisted(StoreError),
    Leased(Trouble),
    Report(ReportError),
}

impl From<Refusal> for Unready {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NoManifest> for Unready {
    fn from(error: NoManifest) -> Self {
        match error {
            NoManifest::Refused(refusal) => Self::Refused(refusal),
            NoManifest::Report(error) => Self::Report(error),
        }
    }
}

impl From<SourceError> for Unready {
    fn from(error: SourceError) -> Self {
        CensusError::from(error).into()
    }
}

impl From<CensusError> for Unready {
    fn from(error: CensusError) -> Self {
        match error {
            CensusError::Refused(refusal) => Self::Refused(refusal),
            CensusError::Listing(error) => Self::Unlisted(error),
            CensusError::Report(error) => Self::Report(error),
            CensusError::Reading(error) => {
                let what = format!("the manifest can't be held against the bucket: {}", chain(error.as_ref()));
                Self::Refused(Refusal { what, mend: "begin anew".to_owned(), pause: None })
            }
            CensusError::Halted(halt) => {
                let pause = match halt {
                    Halt::Pause { reason, .. } => Some(reason),
                    Halt::Stop { .. } | Halt::LeaseOver => None,
                };
                let mend = "mend that; the job looks again by itself".to_owned();
                Self::Refused(Refusal { what: format!("looking at what the job adds: {halt}"), mend, pause })
            }
        }
    }
}

impl From<ReportError> for Unready {
    fn from(error: ReportError) -> Self {
        Self::Report(error)
    }
}

impl From<Trouble> for Unready {
    fn from(trouble: Trouble) -> Self {
        Self::Leased(trouble)
    }
}

impl From<StoreError> for Unready {
    fn from(error: StoreError) -> Self {
        Self::Unlisted(error)
    }
}

impl Desk {
    /// Works on the one shard of a `prepare` pass.
    pub(crate) async fn prepare(&self, lease: HeldLease, stop: &CancellationToken) -> Result<(), SliceError> {
        let job = lease.job().clone();
        match &job.state {
            JobState::Live { phase: Phase::Preparing } => self.first_prepare(lease, &job, stop).await,
            JobState::Paused { phase, reason, .. } => {
                let (phase, reason) = (*phase, *reason);
                self.probe_pause(lease, &job, (phase, reason), stop).await
            }
            _ => self.sing(lease, &job, stop).await,
        }
    }

    /// Preflight and probes; ends with the target frozen in the job record.
    async fn first_prepare(
        &self,
        mut lease: HeldLease,
        job: &JobRecord,
        stop: &CancellationToken,
    ) -> Result<(), SliceError> {
        if job.dry_run {
            return self.foretell(lease, job, stop).await;
        }
        let attempt = attempt(&lease);
        let found = held(&self.site.ledger, &self.env, &mut lease, stop, self.find_out(job, &attempt)).await?;
        let (frozen, bytes, growth) = match found {
            Some(Ok(found)) => found,
            Some(Err(Unready::Refused(refusal))) => return self.refused(lease, job, refusal).await,
            Some(Err(Unready::Leased(trouble))) => return self.not_alone(lease, job, &trouble).await,
            Some(Err(Unready::Unlisted(error))) => return self.after_listing_failed(lease, job, &error).await,
            Some(Err(Unready::Report(error))) => return Err(error.into()),
            None => return Ok(self.site.ledger.give_back(lease).await?),
        };
        self.site.reports.of(&job.id)?.put(KEY_SPACE, bytes).await?;
        let grows =
            growth.as_ref().is_some_and(|growth| growth.versions > 0) && job.spec.options.max_added_bytes.is_none();
        let asks = !(self.config.confirmed || job.confirmed) && (names_no_key(job) || grows);
        let must_confirm = asks || job.spec.options.approval;
        let asked = self.site.ledger.freeze(lease, &Prepared { frozen, must_confirm, growth }).await;
        Ok(asked.map(drop)?)
    }

    /// A dry run's only pass: takes a census of its scope.
    async fn foretell(
        &self,
        mut lease: HeldLease,
        job: &JobRecord,
        stop: &CancellationToken,
    ) -> Result<(), SliceError> {
        let attempt = attempt(&lease);
        let looked = held(&self.site.ledger, &self.env, &mut lease, stop, self.census(job, &attempt)).await?;
        let forecast = match looked {
            Some(Ok(forecast)) => forecast,
            Some(Err(Unready::Report(error))) => {
                self.halt(&job.id, &unreadable(&error)).await?;
                return Ok(self.site.ledger.give_back(lease).await?);
            }
            Some(Err(Unready::Refused(refusal))) => return self.refused(lease, job, refusal).await,
            Some(Err(Unready::Leased(trouble))) => return self.not_alone(lease, job, &trouble).await,
            Some(Err(Unready::Unlisted(error))) => return self.after_listing_failed(lease, job, &error).await,
            None => return Ok(self.site.ledger.give_back(lease).await?),
        };
        #[expect(clippy::expect_used, reason = "names and numbers are always JSON")]
        let bytes = serde_json::to_vec(&forecast).expect("a forecast is JSON");
        self.site.reports.of(&job.id)?.put(FORECAST, bytes).await?;
        self.end_probe(lease).await
    }

    /// A dry run's census. One of every object is kept in the report store while it is taken, and gone on from by whoever
    /// has the job next.
    async fn census(&self, job: &JobRecord, attempt: &str) -> Result<Forecast, Unready> {
        let manifest = self.bring_in(job, attempt).await?;
        let rates = |job: &JobRecord| job.rates_at(self.env.now());
        let share = Arc::new(Share::unlimited());
        // Nobody else works on it, so that nothing is to be shared.
        let bound = |job: &JobRecord| share.set(job.limits.permits.map(|permits| permits as usize), rates(job));
        bound(job);
        let permits = self.permits.of_slice(Arc::clone(&share));
        let question =
            Question { spec: job.spec.clone(), rate: rates(job).objects, proven: None, default_key: None, manifest };
        let census = Census::begin(self.store.clone(), permits, question, self.env.clone()).await?;
        if !job.full {
            return Ok(census.sample(SAMPLE).await?);
        }
        let reports = self.site.reports.of(&job.id)?;
        let earlier = match reports.get(COUNT).await {
            // One that another version kept is begun anew.
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(ReportError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let (latest, mut counted) = watch::channel(None);
        let keep = async {
            loop {
                tokio::time::sleep(KEEP_EVERY).await;
                let count: Option<Count> = counted.borrow_and_update().clone();
                if let Some(count) = count {
                    #[expect(clippy::expect_used, reason = "names and numbers are always JSON")]
                    let bytes = serde_json::to_vec(&count).expect("a count is JSON");
                    if let Err(error) = reports.put(COUNT, bytes).await {
                        break error;
                    }
                }
                if let Ok(job) = self.site.ledger.job(&job.id).await {
                    bound(&job);
                }
            }
        };
        tokio::select! {
            biased;
            counted = census.full(earlier, |count| { latest.send_replace(Some(count.clone())); }) => Ok(counted?),
            error = keep => Err(error.into()),
        }
    }

    /// Everything that is asked before the first object is touched: what is frozen, the key space as it is stored, and what
    /// the job adds where that is bounded.
    async fn find_out(&self, job: &JobRecord, attempt: &str) -> Result<(Frozen, Vec<u8>, Option<Growth>), Unready> {
        self.look_for_others(job).await?;
        let manifest = self.bring_in(job, attempt).await?;
        let mut frozen = self.probe(job).await?;
        frozen.notes.extend(manifest.as_ref().map(note));
        let survey = Survey { manifest: manifest.as_ref(), ..self.survey(job) };
        let space = survey.key_space().await?;
        if probe::only_rewrite(&frozen, &job.spec) {
            let scope = survey.estimate(&space).await?;
            probe::must_pass(&mut frozen, &job.spec, scope)?;
        }
        let effects = effects::ask(self.store.as_ref(), &job.spec, &frozen).await;
        let scope = if effects::follow(&effects) { Some(survey.estimate(&space).await?) } else { None };
        frozen.notes.extend(effects::notes(&effects, scope));
        let growth = self.growth(job, &frozen, &space, manifest.as_ref()).await?;
        self.take_lease(job, &mut frozen).await?;
        #[expect(clippy::expect_used, reason = "keys and numbers are always JSON")]
        let bytes = serde_json::to_vec(&space).expect("the key space is JSON");
        Ok((frozen, bytes, growth))
    }

    async fn probe(&self, job: &JobRecord) -> Result<Frozen, Refusal> {
        let (store, kms) = (self.store.as_ref(), self.site.kms.as_deref());
        // Without the list of them, what ended jobs left is only swept when it is old.
        let mut jobs = self.site.ledger.jobs().await.unwrap_or_default();
        jobs.retain(|job| job.state.is_ended());
        let gone: BTreeSet<_> = jobs.iter().map(|job| job.id.clone()).collect();
        let near = |old: &&JobRecord| old.store == job.store && old.spec.bucket == job.spec.bucket;
        let mut places: BTreeSet<_> = jobs.iter().filter(near).map(JobRecord::probe_place).collect();
        // In its own place the job looks by itself, and can't begin where that fails.
        places.remove(&job.probe_place());
        for place in places {
            self.sweep(place, &gone).await;
        }
        let settings = ProbeSettings { gone, ..self.probe_settings(job) };
        Box::pin(probe::prepare(store, kms, &job.spec, &settings, &self.env)).await
    }

    async fn refused(&self, lease: HeldLease, job: &JobRecord, refusal: Refusal) -> Result<(), SliceError> {
        let detail = format!("{}; {}", refusal.what, refusal.mend);
        // A job that never began is refused where only a person can mend it, and waits where time may.
        let waits = |reason: &PauseReason| matches!(reason, PauseReason::StoreDown | PauseReason::KmsDown);
        match refusal.pause.filter(waits) {
            Some(reason) => self.halt(&job.id, &Halt::Pause { reason, detail }).await?,
            None => self.refuse(&job.id, detail).await?,
        }
        Ok(self.site.ledger.give_back(lease).await?)
    }

    /// Another installation works on the same keys, or nobody knows whether one does. Who begins beside it does not wait for
    /// its end.
    async fn not_alone(&self, lease: HeldLease, job: &JobRecord, trouble: &Trouble) -> Result<(), SliceError> {
        match trouble.halt() {
            Halt::Pause { reason: PauseReason::OtherJob, detail } => self.refuse(&job.id, detail).await?,
            halt => self.halt(&job.id, &halt).await?,
        }
        Ok(self.site.ledger.give_back(lease).await?)
    }

    async fn after_listing_failed(
        &self,
        lease: HeldLease,
        job: &JobRecord,
        error: &StoreError,
    ) -> Result<(), SliceError> {
        match keyrotate_rewrap::halt_of(error) {
            Some(halt) => self.halt(&job.id, &halt).await?,
            None => {
                let refusal = Refusal::store(&format!("listing the bucket `{}`", job.spec.bucket), error);
                self.refuse(&job.id, refusal.to_string()).await?;
            }
        }
        Ok(self.site.ledger.give_back(lease).await?)
    }

    /// Whether what paused the job is mended: then it goes on.
    async fn probe_pause(
        &self,
        mut lease: HeldLease,
        job: &JobRecord,
        (phase, reason): (Phase, PauseReason),
        stop: &CancellationToken,
    ) -> Result<(), SliceError> {
        let look = async {
            match &job.frozen {
                Some(frozen) => {
                    let still = self.mended(job, frozen, reason).await.err();
                    if still.is_none() {
                        self.leave_when_through(job).await;
                    }
                    still
                }
                None => self.probe(job).await.err().and_then(|refusal| {
                    let detail = format!("{}; {}", refusal.what, refusal.mend);
                    refusal.pause.map(|reason| Halt::Pause { reason, detail })
                }),
            }
        };
        let Some(still) = held(&self.site.ledger, &self.env, &mut lease, stop, look).await? else {
            return Ok(self.site.ledger.give_back(lease).await?);
        };
        if still.is_some() {
            tracing::info!(job = %job.id, "what paused the job is still so");
            return Ok(self.site.ledger.give_back(lease).await?);
        }
        match self.site.ledger.update_job(&job.id, |job, now| transition::resume(job, false, now)).await {
            Ok(_) | Err(LedgerError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if phase == Phase::Preparing {
            return Ok(self.site.ledger.give_back(lease).await?);
        }
        self.end_probe(lease).await
    }

    /// Tries what the reason is about: a pause that is lifted unproven comes back at once.
    async fn mended(&self, job: &JobRecord, frozen: &Frozen, reason: PauseReason) -> Result<(), Halt> {
        self.canary(job, frozen).await?;
        let (store, settings) = (self.store.as_ref(), self.probe_settings(job));
        let (bucket, _) = job.probe_place();
        match reason {
            PauseReason::KmsDown | PauseReason::TargetKeyGone => {
                probe::writes(store, bucket, &settings, &frozen.target).await?;
                self.touch_done(job, frozen).await
            }
            PauseReason::Denied => {
                self.look_first(job).await?;
                probe::writes(store, bucket, &settings, &frozen.target).await
            }
            PauseReason::OtherJob => self.keep_bucket(job).await,
            PauseReason::ReportStore => match self.site.reports.of(&job.id) {
                Ok(reports) => reports.put(WRITABLE, Vec::new()).await.map_err(|e| unreadable(&e)),
                Err(error) => Err(unreadable(&error)),
            },
            _ => Ok(()),
        }
    }

    /// The first object of the scope may be looked at, by each call that the job looks with.
    async fn look_first(&self, job: &JobRecord) -> Result<(), Halt> {
        let manifest = self.manifest(job).await.map_err(|error| unreadable(&error))?;
        let survey = Survey { manifest: manifest.as_ref(), ..self.survey(job) };
        let versions = job.frozen.as_ref().is_some_and(|frozen| frozen.versioning.has_versions());
        let first = match survey.first(versions).await {
            Ok(first) => first,
            Err(SourceError::Store(error)) => return keyrotate_rewrap::halt_of(&error).map_or(Ok(()), Err),
            Err(error) => return Err(unreadable(&error)),
        };
        let (Some(first), Some(rewrapper)) = (first, self.rewrapper(job)) else { return Ok(()) };
        match rewrapper.denied(&first).await? {
            Some(detail) => Err(Halt::Pause { reason: PauseReason::Denied, detail }),
            None => Ok(()),
        }
    }

    /// One byte of an object that is under the target key by the job's own rows is read through the store: a key that
    /// was deleted and made anew under its name shows in no HEAD, and in no KES where the store has a KMS of its own.
    async fn touch_done(&self, job: &JobRecord, frozen: &Frozen) -> Result<(), Halt> {
        match self.some_done(job, frozen).await {
            Ok(Some(at)) => probe::touch(self.store.as_ref(), &at).await,
            Ok(None) => Ok(()),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// The first object under the target key, among the first rows.
    async fn some_done(&self, job: &JobRecord, frozen: &Frozen) -> Result<Option<ObjectAt>, SourceError> {
        if frozen.target == FrozenTarget::SseS3 {
            return Ok(None);
        }
        let earlier = self.earlier(job, PassId(u32::MAX)).await?;
        let reports = self.site.reports.of(&job.id)?;
        let mut rows = last_rows(reports, &earlier, KeyRange { start: String::new(), end: None });
        for _ in 0..KEYS_SEARCHED {
            let Some(of_key) = rows.next_key().await? else { return Ok(None) };
            let done = of_key.rows.into_iter().map(|last| last.row).find(|row| {
                let right = matches!(row.outcome, Outcome::Rotated(_) | Outcome::Current) && row.size > 0;
                right && row.after.kms_key().is_some_and(|seen| frozen.target.has(seen))
            });
            if let Some(row) = done {
                let version = row.version_after.or(row.version);
                return Ok(Some(ObjectAt { bucket: job.spec.bucket.clone(), key: row.key, version }));
            }
        }
        Ok(None)
    }

    /// The last of a job's steps in its bucket is the canary, whether a pause came in between or not. Probes may be left of an
    /// attempt to prepare whose process was killed, or given up and late.
    async fn leave_when_through(&self, job: &JobRecord) {
        if is_through(job) {
            self.sweep_own(job).await;
            self.leave_bucket(job).await;
        }
    }

    /// The canary of a running job.
    async fn sing(&self, mut lease: HeldLease, job: &JobRecord, stop: &CancellationToken) -> Result<(), SliceError> {
        let opens = async {
            let Some(frozen) = &job.frozen else { return Ok(()) };
            self.canary(job, frozen).await?;
            self.touch_done(job, frozen).await?;
            self.leave_when_through(job).await;
            Ok(())
        };
        let Some(opened) = held(&self.site.ledger, &self.env, &mut lease, stop, opens).await? else {
            return Ok(self.site.ledger.give_back(lease).await?);
        };
        if let Err(halt) = opened {
            self.halt(&job.id, &halt).await?;
            return Ok(self.site.ledger.give_back(lease).await?);
        }
        self.end_probe(lease).await
    }

    /// The canary of a job at work: at the beginning of a slice, when the last was more than [`CANARY_EVERY`] ago.
    pub(crate) async fn sing_if_due(&self, job: &JobRecord) -> Result<(), Halt> {
        let (Some(kms), Some(frozen)) = (&self.site.kms, &job.frozen) else { return Ok(()) };
        let now = Instant::now();
        {
            let mut sang = self.sang.lock().unwrap_or_else(PoisonError::into_inner);
            if sang.get(&job.id).is_some_and(|last| now - *last < CANARY_EVERY) {
                return Ok(());
            }
            sang.insert(job.id.clone(), now);
        }
        probe::canary(kms.as_ref(), frozen).await
    }

    /// The canary's ciphertext still opens, and the store still lists the bucket.
    async fn canary(&self, job: &JobRecord, frozen: &Frozen) -> Result<(), Halt> {
        if let Some(kms) = &self.site.kms {
            probe::canary(kms.as_ref(), frozen).await?;
        }
        match self.survey(job).list_one(ListFrom::Start).await {
            Ok(_) => Ok(()),
            Err(error) => Err(keyrotate_rewrap::halt_of(&error)
                .unwrap_or(Halt::Pause { reason: PauseReason::StoreDown, detail: chain(&error) })),
        }
    }

    async fn end_probe(&self, mut lease: HeldLease) -> Result<(), SliceError> {
        let end = lease.record().range.end_position();
        let commit = keyrotate_checkpoint::Commit { cursor: end, ..keyrotate_checkpoint::Commit::of(lease.record()) };
        self.site.ledger.commit(&mut lease, commit).await?;
        Ok(self.site.ledger.finish(lease).await?)
    }

    /// The key space of a job, its manifest left out of account.
    fn survey<'a>(&'a self, job: &'a JobRecord) -> Survey<'a> {
        let (store, permits) = (&self.store, &self.permits);
        Survey { store, permits, bucket: &job.spec.bucket, prefix: &job.spec.prefix, manifest: None }
    }

    /// How probes are made for a job.
    pub(crate) fn probe_settings(&self, job: &JobRecord) -> ProbeSettings {
        ProbeSettings {
            prefix: job.probes.prefix.clone(),
            attempt: self.env.random_hex(4),
            probe_bucket: job.probes.bucket.clone(),
            default_key: self.config.default_key.clone().map(KeyName),
            part: self.config.probe_part,
            ..ProbeSettings::new(job.id.clone())
        }
    }
}

/// A name that no other attempt to prepare a job has.
fn attempt(lease: &HeldLease) -> String {
    format!("{}-{}", lease.epoch().nonce.0, lease.epoch().counter)
}

fn unreadable(error: &dyn std::error::Error) -> Halt {
    Halt::Pause { reason: PauseReason::ReportStore, detail: chain(error) }
}

/// Whether a person must confirm the target because the file names none.
fn names_no_key(job: &JobRecord) -> bool {
    !job.spec.names_target()
        && job.frozen.as_ref().is_none_or(|frozen| matches!(frozen.target, FrozenTarget::SseKms { .. }))
}
