//! The audit record of a job, in its report store.

use jiff::Timestamp;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_proto::audit::{AUDIT, AUDIT_VERSION, Entry, chain, hash};
use keyrotate_report::{ReportError, ReportRoot};

/// So many others may be writing an entry at the same moment.
const TRIES: usize = 20;

/// Adds an entry: what `who` asked for, with which detail.
pub(crate) async fn note(
    reports: &dyn ReportRoot,
    job: &JobRecord,
    who: &str,
    (what, detail): (&str, &str),
    at: Timestamp,
) -> Result<(), ReportError> {
    let files = reports.of(&job.id)?;
    let mut taken = ReportError::Exists(Entry::file(0));
    for _ in 0..TRIES {
        let names = files.list(AUDIT).await?;
        let previous = match names.last() {
            Some(last) => hash(&files.get(last).await?),
            None => job.spec_hash.clone(),
        };
        let number = u32::try_from(names.len()).unwrap_or(u32::MAX);
        let (who, what, detail) = (who.to_owned(), what.to_owned(), detail.to_owned());
        let state = job.state.word().to_owned();
        let entry = Entry { version: AUDIT_VERSION, number, at, who, what, detail, state, previous };
        let name = Entry::file(number);
        let bytes = serde_json::to_vec(&entry).map_err(|error| ReportError::damaged(&name, error))?;
        match files.put_new(&name, bytes).await {
            Err(error @ ReportError::Exists(_)) => taken = error,
            other => return other,
        }
    }
    Err(taken)
}

/// All entries, and what is wrong with their chain, if anything is.
pub(crate) async fn read(
    reports: &dyn ReportRoot,
    job: &JobRecord,
) -> Result<(Vec<Entry>, Option<String>), ReportError> {
    let files = reports.of(&job.id)?;
    let mut bytes = Vec::new();
    for name in files.list(AUDIT).await? {
        bytes.push(files.get(&name).await?);
    }
    Ok(chain(&job.spec_hash, &bytes))
}
