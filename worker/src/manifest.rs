//! The manifest of a job: brought into its report store before anything else is asked, read from there by whoever works.

use std::path::PathBuf;
use std::sync::Arc;

use keyrotate_checkpoint::LedgerError;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_manifest::{Input, Limits, ManifestError, Origin, Sorted, Wanted};
use keyrotate_proto::id::JobId;
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::say::chain;
use keyrotate_proto::spec::{JobSpec, Location, Manifest};
use keyrotate_proto::state::PauseReason;
use keyrotate_report::rows::LastRows;
use keyrotate_report::{ReportError, ReportStore, finish};
use keyrotate_rewrap::probe::Refusal;
use keyrotate_store::Store;
use tokio::runtime::Handle;

use crate::desk::Desk;

/// Why there is no manifest.
#[derive(Debug)]
pub enum NoManifest {
    /// What is wrong, and whether time may mend it.
    Refused(Refusal),
    /// The report store can't be read or written.
    Report(ReportError),
}

impl From<ManifestError> for NoManifest {
    fn from(error: ManifestError) -> Self {
        let (what, mend, pause) = match error {
            ManifestError::Report(error) => return Self::Report(error),
            ManifestError::Bad { what, mend } => (what, mend, None),
            ManifestError::Store { ref source, .. } => {
                let pause = match keyrotate_rewrap::halt_of(source) {
                    Some(keyrotate_rewrap::Halt::Pause { reason, .. }) => Some(reason),
                    _ => None,
                };
                (chain(&error), "does it lie there, and may it be read?".to_owned(), pause)
            }
            ManifestError::Unwanted => (chain(&error), "start again".to_owned(), Some(PauseReason::StoreDown)),
        };
        Self::Refused(Refusal { what, mend, pause })
    }
}

impl From<ReportError> for NoManifest {
    fn from(error: ReportError) -> Self {
        Self::Report(error)
    }
}

/// Brings the file that a manifest is into a report store. `local`: whether files of this machine are read. `attempt` is a
/// name that no other attempt has.
///
/// # Errors
/// When it can't be read, or not be worked on.
pub async fn bring_in(
    spec: &JobSpec,
    manifest: &Manifest,
    store: Arc<dyn Store>,
    local: bool,
    reports: Arc<dyn ReportStore>,
    attempt: &str,
) -> Result<Sorted, NoManifest> {
    let origin = match manifest.location() {
        Some(Location::File(path)) if local => Origin::File(PathBuf::from(path)),
        Some(Location::Object { bucket, key }) => {
            Origin::Object { store, bucket: bucket.clone(), key: key.clone(), runtime: Handle::current() }
        }
        Some(Location::File(path)) => {
            let what = format!("the manifest `{path}` lies on one machine, and any worker may have to read it");
            return Err(refused(what, "put it into a bucket of the job's store and name it as `s3://BUCKET/KEY`"));
        }
        None => {
            let what = "what a former job could not do is known only where its report is".to_owned();
            return Err(refused(what, "start a job with it"));
        }
    };
    let input = match manifest {
        Manifest::Inventory { .. } => Input::Inventory(origin),
        Manifest::Csv { .. } | Manifest::FailedOf { .. } => Input::Csv(origin),
    };
    sort(spec, input, reports, attempt).await
}

async fn sort(
    spec: &JobSpec,
    input: Input,
    reports: Arc<dyn ReportStore>,
    attempt: &str,
) -> Result<Sorted, NoManifest> {
    let wanted = Wanted { bucket: spec.bucket.clone(), prefix: spec.prefix.clone() };
    Ok(keyrotate_manifest::bring_in(input, &wanted, reports, attempt, &Limits::default()).await?)
}

/// What is said about rows that count for nothing.
pub(crate) fn note(sorted: &Sorted) -> String {
    let left = sorted.left();
    format!(
        "the manifest names {} objects; rows left out: {} outside of the prefix, {} that say what another one says",
        sorted.count(),
        left.outside,
        left.duplicates
    )
}

fn refused(what: impl Into<String>, mend: &str) -> NoManifest {
    NoManifest::Refused(Refusal { what: what.into(), mend: mend.to_owned(), pause: None })
}

impl Desk {
    /// The job's manifest as it was brought in; `None` where it has none.
    pub(crate) async fn manifest(&self, job: &JobRecord) -> Result<Option<Sorted>, ReportError> {
        if job.spec.manifest.is_none() {
            return Ok(None);
        }
        let sorted = Sorted::open(self.site.reports.of(&job.id)?).await?;
        sorted.map(Some).ok_or_else(|| ReportError::NotFound("manifest/".to_owned()))
    }

    /// Brings it in, where the job has one.
    pub(crate) async fn bring_in(&self, job: &JobRecord, attempt: &str) -> Result<Option<Sorted>, NoManifest> {
        let Some(manifest) = &job.spec.manifest else { return Ok(None) };
        let reports = self.site.reports.of(&job.id)?;
        let sorted = match manifest {
            Manifest::FailedOf { job: former } => {
                let rows = self.rows_of(former, job).await?;
                sort(&job.spec, Input::FailedOf(rows), reports, attempt).await?
            }
            file => bring_in(&job.spec, file, self.store.clone(), self.config.local_files, reports, attempt).await?,
        };
        Ok(Some(sorted))
    }

    /// All last rows of a job that has ended.
    async fn rows_of(&self, former: &JobId, job: &JobRecord) -> Result<LastRows, NoManifest> {
        let record = match self.site.ledger.job(former).await {
            Ok(record) => record,
            Err(LedgerError::Lost(_)) => {
                return Err(refused(format!("there is no job {former}"), "`keyrotate list` shows all"));
            }
            Err(error) => {
                let (what, mend) = (chain(&error), "the job looks again by itself".to_owned());
                return Err(NoManifest::Refused(Refusal { what, mend, pause: Some(PauseReason::StoreDown) }));
            }
        };
        if (&record.store, &record.spec.bucket) != (&job.store, &job.spec.bucket) {
            let what = format!("job {former} was on the bucket `{}` of {}", record.spec.bucket, record.store);
            return Err(refused(what, "name a job on the same bucket"));
        }
        let summary = record.result.as_ref().and_then(|result| result.report.as_deref());
        let Some(summary) = summary else {
            return Err(refused(
                format!("job {former} is {} and has no report", record.state.word()),
                "wait for its end",
            ));
        };
        let reports = self.site.reports.of(former)?;
        let passes = finish::Manifest::read(reports.as_ref(), summary).await?.passes();
        Ok(LastRows::open(reports, passes, KeyRange { start: String::new(), end: None }))
    }
}
