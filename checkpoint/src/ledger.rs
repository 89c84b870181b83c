//! The checkpoint as workers and the coordinator see it.
//!
//! Each call reads the records that it needs, asks a pure [`transition`], and swaps. Where another came first it
//! reads again; where an answer was lost it looks whether its own values stand, and only then decides.

mod kept;
mod lead;
mod lease;
mod passes;
mod settle;
mod transact;
mod workers;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use keyrotate_env::Env;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::state::JobState;

pub use self::lease::{HeldLease, LeaseRefusal, Signal};
use self::transact::{Change, View, encode};
pub use self::workers::WORKER_GONE_AFTER;
use crate::backend::{Backend, BackendError, Bell, RecordKey};
use crate::record::{
    BucketRecord, JOBS, JobRecord, JobResult, LIVE, LiveRecord, RECORD_VERSION, SubmitRecord, bucket_key, job_key,
    live_key, settling_key, submit_key,
};
pub use crate::transition::job::Prepared;
use crate::transition::leader::Leading;
pub use crate::transition::shard::Commit;
use crate::transition::{self, Refusal, bucket};

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A rule forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A record that must be there is not: the checkpoint lost something, or never had it.
    #[error("the checkpoint has no record `{0}`")]
    Lost(RecordKey),
    /// A record can't be read.
    #[error("the record `{key}` can't be read")]
    Corrupt {
        /// Its name.
        key: RecordKey,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A record was written by a newer keyrotate.
    #[error("the record `{key}` has version {version}, this keyrotate reads up to {}", crate::record::RECORD_VERSION)]
    Newer {
        /// Its name.
        key: RecordKey,
        /// Its version.
        version: u32,
    },
    /// Others changed the same records again and again.
    #[error("the record `{0}` changes too often")]
    Busy(RecordKey),
    /// The back-end could not answer, for all our patience.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Typed access to the checkpoint. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    backend: Arc<dyn Backend>,
    env: Env,
    leading: Option<Leading>,
    /// Records that can't be read here, each told of once.
    unreadable: Arc<Mutex<BTreeSet<RecordKey>>>,
}

impl Ledger {
    /// On a back-end.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, env: Env) -> Self {
        Self { backend, env, leading: None, unreadable: Arc::default() }
    }

    /// The back-end's time, by which all leases are judged.
    ///
    /// # Errors
    /// When the back-end does not answer.
    pub async fn now(&self) -> Result<Timestamp, LedgerError> {
        Ok(self.backend.read(&[]).await?.now)
    }

    /// A bell that hears of every change that a coordinator has to act on.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.backend.bell()
    }

    /// Writes down a new job and its claim on its keys; failed jobs that it overlaps can't be resumed any more.
    ///
    /// # Errors
    /// [`Refusal::Overlap`] names the live job that works on some of the same keys.
    pub async fn begin_job(&self, job: JobRecord) -> Result<(), LedgerError> {
        self.begin(job, None).await.map(drop)
    }

    /// [`Ledger::begin_job`], unless the same submit began one before: the name of the job that is there now.
    ///
    /// # Errors
    /// [`Refusal::KeyReused`] where the key came with something else before.
    pub async fn begin_job_once(&self, job: JobRecord, submit: &Submit) -> Result<JobId, LedgerError> {
        self.begin(job, Some(submit)).await
    }

    /// The job that the same submit began before, if it did.
    ///
    /// # Errors
    /// [`Refusal::KeyReused`] where the key came with something else.
    pub async fn submitted(&self, submit: &Submit) -> Result<Option<JobId>, LedgerError> {
        let key = submit_key(&submit.key);
        submit.again(&self.view(std::slice::from_ref(&key)).await?, &key)
    }

    async fn begin(&self, job: JobRecord, submit: Option<&Submit>) -> Result<JobId, LedgerError> {
        if job.spec.notify.as_ref().is_some_and(|notify| notify.token.is_some()) {
            return Err(Refusal::SecretInSpec.into());
        }
        let (job_key, bucket_key) = (job_key(&job.id), bucket_key(&job.store, &job.spec.bucket));
        let submit_key = submit.map(|submit| submit_key(&submit.key));
        let mut keys = vec![job_key.clone(), bucket_key.clone()];
        keys.extend(submit_key.clone());
        self.transact(&keys, |view| {
            if let Some(there) = view.find::<JobRecord>(&job_key)? {
                let same = there.created == job.created && there.spec_hash == job.spec_hash && there.nonce == job.nonce;
                return if same { Ok(Change::none(job.id.clone())) } else { Err(Refusal::Exists.into()) };
            }
            let mut change = Change::none(job.id.clone());
            if let Some((submit, key)) = submit.zip(submit_key.as_ref()) {
                if let Some(begun) = submit.again(view, key)? {
                    return Ok(Change::none(begun));
                }
                change = change.write(key, &submit.record(&job.id, view.now))?;
            }
            let claims = bucket::begin(&view.find(&bucket_key)?.unwrap_or_default(), &job)?;
            let job = JobRecord { run: view.run.clone(), ..job.clone() };
            let change = change.write(&job_key, &job)?.write(&bucket_key, &claims)?;
            change.write(&live_key(&job.id), &LiveRecord::default())
        })
        .await
    }

    /// One job.
    ///
    /// # Errors
    /// [`LedgerError::Lost`] when there is none of that name.
    pub async fn job(&self, id: &JobId) -> Result<JobRecord, LedgerError> {
        let key = job_key(id);
        self.view(std::slice::from_ref(&key)).await?.get(&key)
    }

    /// All jobs, in the order of their making. One whose record can't be read here hides no other.
    ///
    /// # Errors
    /// When the back-end does not answer.
    pub async fn jobs(&self) -> Result<Vec<JobRecord>, LedgerError> {
        self.scan_readable(JOBS).await
    }

    /// The jobs that have not ended, in the order of their making. One whose record is gone, or can't be read here, keeps
    /// no other from its work.
    ///
    /// # Errors
    /// When the back-end does not answer.
    pub async fn live_jobs(&self) -> Result<Vec<JobRecord>, LedgerError> {
        let live = self.scan_names(LIVE).await?;
        let keys: Vec<_> = live.iter().map(|name| RecordKey(format!("{JOBS}{name}"))).collect();
        let view = self.view(&keys).await?;
        keys.iter().filter_map(|key| self.readable(key, view.find(key)).transpose()).collect()
    }

    /// What another version wrote, and this one can't read, is left to that one, and told of once.
    fn readable<T>(&self, key: &RecordKey, read: Result<Option<T>, LedgerError>) -> Result<Option<T>, LedgerError> {
        let Err(error @ (LedgerError::Corrupt { .. } | LedgerError::Newer { .. })) = read else { return read };
        if self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a record can't be read here and is left alone: is a newer keyrotate at work?");
        }
        Ok(None)
    }

    /// Takes a failed job up again that the back-end has lost, as somebody else kept it; it can be resumed then. One that is
    /// there is left alone.
    ///
    /// # Errors
    /// [`Refusal::Overlap`] names the live job that works on some of its keys.
    pub async fn reinstate(&self, job: &JobRecord) -> Result<(), LedgerError> {
        let (job_key, bucket_key) = (job_key(&job.id), bucket_key(&job.store, &job.spec.bucket));
        let (live, nonce) = (live_key(&job.id), Nonce(self.env.random_hex(8)));
        self.transact(&[job_key.clone(), bucket_key.clone(), live.clone()], |view| {
            if view.find::<JobRecord>(&job_key)?.is_some() {
                return Ok(Change::none(()));
            }
            let claims = bucket::begin(&view.find(&bucket_key)?.unwrap_or_default(), job)?;
            let claims = bucket::end(&claims, &job.id, true);
            let job = JobRecord { run: view.run.clone(), nonce: nonce.clone(), updated: view.now, ..job.clone() };
            Ok(Change::none(()).write(&job_key, &job)?.write(&bucket_key, &claims)?.remove(&live))
        })
        .await
    }

    /// Which jobs have a claim on keys of a bucket.
    ///
    /// # Errors
    /// When the back-end does not answer, or the record can't be read.
    pub async fn bucket(&self, store: &str, bucket: &str) -> Result<BucketRecord, LedgerError> {
        let key = bucket_key(store, bucket);
        Ok(self.view(std::slice::from_ref(&key)).await?.find(&key)?.unwrap_or_default())
    }

    /// Changes a job by one of [`transition::job`]'s functions; `change` may be asked more than once and gets the
    /// back-end's time. Ends and resumes of failed jobs have calls of their own: they touch the bucket's record.
    ///
    /// # Errors
    /// What `change` refuses.
    pub async fn update_job(
        &self,
        id: &JobId,
        change: impl Fn(&JobRecord, Timestamp) -> Result<JobRecord, Refusal> + Send + Sync,
    ) -> Result<JobRecord, LedgerError> {
        let key = job_key(id);
        self.transact(std::slice::from_ref(&key), |view| {
            let job: JobRecord = view.get(&key)?;
            let next = change(&job, view.now)?;
            if next == job { Ok(Change::none(next)) } else { Change::none(next.clone()).write(&key, &next) }
        })
        .await
    }

    /// The job's last step, to `completed`, `cancelled` or `failed`; gives its keys free.
    ///
    /// # Errors
    /// When it is not that far.
    pub async fn end_job(&self, id: &JobId, result: &JobResult) -> Result<JobRecord, LedgerError> {
        self.with_bucket(id, |job, claims, now| {
            let next = transition::job::end(job, result, now)?;
            let failed = matches!(next.state, JobState::Failed { .. });
            Ok((next, bucket::end(claims, id, failed)))
        })
        .await
    }

    /// After another run of the back-end began: the job gets a new nonce, which fences off whatever was leased before.
    ///
    /// # Errors
    /// When the back-end does not answer.
    pub async fn adopt(&self, id: &JobId) -> Result<JobRecord, LedgerError> {
        let (key, nonce) = (job_key(id), Nonce(self.env.random_hex(8)));
        self.transact(std::slice::from_ref(&key), |view| {
            let job: JobRecord = view.get(&key)?;
            let next = transition::job::adopt(&job, &view.run, &nonce, view.now);
            if next == job { Ok(Change::none(next)) } else { Change::none(next.clone()).write(&key, &next) }
        })
        .await
    }

    /// An operator resumes a failed job, under a new nonce.
    ///
    /// # Errors
    /// When it has not failed, or another job began on its keys since.
    pub async fn resume_job(&self, id: &JobId) -> Result<JobRecord, LedgerError> {
        let nonce = Nonce(self.env.random_hex(8));
        self.with_bucket(id, |job, claims, now| {
            // Only this call drew this nonce: it is already done.
            if job.nonce == nonce {
                return Ok((job.clone(), claims.clone()));
            }
            Ok((transition::job::resume_failed(job, nonce.clone(), now)?, bucket::resume(claims, id)?))
        })
        .await
    }

    async fn with_bucket(
        &self,
        id: &JobId,
        change: impl Fn(&JobRecord, &BucketRecord, Timestamp) -> Result<(JobRecord, BucketRecord), Refusal> + Send + Sync,
    ) -> Result<JobRecord, LedgerError> {
        // Store and bucket of a job never change.
        let job = self.job(id).await?;
        let (job_key, bucket_key) = (job_key(id), bucket_key(&job.store, &job.spec.bucket));
        let (live, settling) = (live_key(id), settling_key(id));
        self.transact(&[job_key.clone(), bucket_key.clone(), live.clone(), settling.clone()], |view| {
            let job: JobRecord = view.get(&job_key)?;
            let (next, claims) = change(&job, &view.get(&bucket_key)?, view.now)?;
            let change = Change::none(next.clone()).write(&job_key, &next)?.write(&bucket_key, &claims)?;
            match next.state.is_ended() {
                true if next == job => Ok(Change::none(next)),
                true => change.remove(&live).write(&settling, &LiveRecord::default()),
                false => change.remove(&settling).write(&live, &LiveRecord::default()),
            }
        })
        .await
    }

    /// Keys, values and time as one view; for reading only.
    async fn view(&self, keys: &[RecordKey]) -> Result<View, LedgerError> {
        Ok(View::new(keys, self.patient_read(keys).await?))
    }
}

/// A submit that may come twice, and shall begin one job.
#[derive(Clone, Debug)]
pub struct Submit {
    /// Hash of who asks and his idempotency key.
    pub key: String,
    /// Hash of all that is asked for.
    pub asked: String,
    /// How long it is remembered.
    pub remember: std::time::Duration,
}

impl Submit {
    /// The job that it began before, if it did and that is remembered.
    fn again(&self, view: &View, key: &RecordKey) -> Result<Option<JobId>, LedgerError> {
        match view.find::<SubmitRecord>(key)?.filter(|there| there.until >= view.now) {
            Some(there) if there.asked == self.asked => Ok(Some(there.job)),
            Some(there) => Err(Refusal::KeyReused(there.job).into()),
            None => Ok(None),
        }
    }

    fn record(&self, job: &JobId, now: Timestamp) -> SubmitRecord {
        let until = now.checked_add(self.remember).unwrap_or(Timestamp::MAX);
        let until = Timestamp::from_millisecond(until.as_millisecond()).unwrap_or(until);
        SubmitRecord { version: RECORD_VERSION, job: job.clone(), asked: self.asked.clone(), until }
    }
}

#[cfg(test)]
mod tests;
