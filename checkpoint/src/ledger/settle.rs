//! What follows a job's end: until all of it is done the job is listed as settling, and what a checkpoint need not keep
//! is forgotten.

use jiff::Timestamp;
use keyrotate_proto::id::JobId;
use keyrotate_proto::state::JobState;

use super::transact::Change;
use super::{Ledger, LedgerError};
use crate::backend::RecordKey;
use crate::record::{
    BucketRecord, JOBS, JobRecord, LiveRecord, SETTLING, bucket_key, job_key, job_shards_prefix, settling_key,
};
use crate::transition::{Refusal, bucket};

/// Records removed by one swap.
const BATCH: usize = 200;

impl Ledger {
    /// The jobs that have ended, and whose end is not settled.
    ///
    /// # Errors
    /// When the back-end does not answer, or a record can't be read.
    pub async fn settling_jobs(&self) -> Result<Vec<JobRecord>, LedgerError> {
        let names = self.scan_names(SETTLING).await?;
        let keys: Vec<_> = names.iter().map(|name| RecordKey(format!("{JOBS}{name}"))).collect();
        let view = self.view(&keys).await?;
        keys.iter().filter_map(|key| view.find(key).transpose()).collect()
    }

    /// Whether a job's end is not settled.
    ///
    /// # Errors
    /// When the back-end does not answer, or the record can't be read.
    pub async fn is_settling(&self, id: &JobId) -> Result<bool, LedgerError> {
        let key = settling_key(id);
        Ok(self.view(std::slice::from_ref(&key)).await?.find::<LiveRecord>(&key)?.is_some())
    }

    /// All that follows a job's end is done.
    ///
    /// # Errors
    /// When the back-end does not answer.
    pub async fn settled(&self, id: &JobId) -> Result<(), LedgerError> {
        let key = settling_key(id);
        self.transact(std::slice::from_ref(&key), |view| {
            let there = view.find::<LiveRecord>(&key)?.is_some();
            Ok(if there { Change::none(()).quiet().remove(&key) } else { Change::none(()) })
        })
        .await
    }

    /// Forgets the shards of a job that is over for good: its report names every part. One that failed keeps them, since it
    /// may be resumed.
    ///
    /// # Errors
    /// When the job is not over, or the back-end does not answer.
    pub async fn forget_shards(&self, id: &JobId) -> Result<(), LedgerError> {
        let (prefix, job_key) = (job_shards_prefix(id), job_key(id));
        loop {
            let page = self.page(&prefix, None).await?;
            if page.is_empty() {
                return Ok(());
            }
            for batch in page.chunks(BATCH) {
                let shards: Vec<_> = batch.iter().map(|listed| listed.key.clone()).collect();
                let mut keys = vec![job_key.clone()];
                keys.extend(shards.iter().cloned());
                self.transact(&keys, |view| {
                    match view.find::<JobRecord>(&job_key)?.map(|job| job.state) {
                        None | Some(JobState::Completed | JobState::Cancelled) => {}
                        Some(state) => return Err(Refusal::WrongState { state: state.word(), what: "forget" }.into()),
                    }
                    let writes = shards.iter().map(|key| (key.clone(), None)).collect();
                    Ok(Change { writes, ..Change::none(()).quiet() })
                })
                .await?;
            }
        }
    }

    /// Forgets a job that ended before `time`, its shards and its claim on its keys; whether it did.
    ///
    /// # Errors
    /// When the back-end does not answer, or a record can't be read.
    pub async fn forget_job(&self, id: &JobId, time: Timestamp) -> Result<bool, LedgerError> {
        let job = self.job(id).await?;
        let (job_key, bucket_key) = (job_key(id), bucket_key(&job.store, &job.spec.bucket));
        let forgotten = self
            .transact(&[job_key.clone(), bucket_key.clone()], |view| {
                let Some(job) = view.find::<JobRecord>(&job_key)? else { return Ok(Change::none(true)) };
                if !job.state.is_ended() || job.result.is_none_or(|result| result.ended >= time) {
                    return Ok(Change::none(false));
                }
                let claims: BucketRecord = view.find(&bucket_key)?.unwrap_or_default();
                Change::none(true).quiet().remove(&job_key).write(&bucket_key, &bucket::end(&claims, id, false))
            })
            .await?;
        if forgotten {
            self.forget_shards(id).await?;
        }
        Ok(forgotten)
    }
}
