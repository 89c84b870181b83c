//! Secrets that records hold are sealed anew: after the key that seals them was changed or rotated, nothing is left that
//! only the old one opens.

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::api::{Resealed, Unsealed};
use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::say::chain;

use crate::sealed::Sealer;

/// Which secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// All.
    All,
    /// Those that another key than the present one seals.
    Stale,
}

/// Which secrets a job that has rotated objects to its target brings along: where that is the key that seals secrets,
/// those under other keys, and with `reseal`, which says that the key's own material was rotated, all of them.
pub(crate) fn due(job: &JobRecord, sealer: &Sealer) -> Option<Which> {
    let Some(FrozenTarget::SseKms { key, keys, .. }) = job.frozen.as_ref().map(|frozen| &frozen.target) else {
        return None;
    };
    let ours = KeyName(sealer.key()?.to_owned());
    let rotated = std::iter::once(key).chain(keys.values()).any(|key| key.same_key(&ours));
    rotated.then_some(if job.spec.options.reseal { Which::All } else { Which::Stale })
}

/// Seals them anew under the sealer's key, one after the other. One that does not open stays as it is, and is named.
pub(crate) async fn reseal(ledger: &Ledger, sealer: &Sealer, which: Which) -> Result<Resealed, LedgerError> {
    let mut done = Resealed::default();
    for job in ledger.jobs().await? {
        let Some(sealed) = &job.sealed_token else { continue };
        if which == Which::Stale && !sealer.is_stale(sealed) {
            done.kept += 1;
            continue;
        }
        let mut failed = |why: String| done.failed.push(Unsealed { job: job.id.clone(), why });
        let Some(secret) = sealer.open(sealed).await else {
            failed("its notify token does not open: the key that sealed it is not there any more".into());
            continue;
        };
        match sealer.seal(&secret).await {
            Ok(fresh) => {
                let change = |record: &JobRecord, _| {
                    let mut record = record.clone();
                    // Whoever gave it another token meanwhile sealed that one under the present key.
                    if record.sealed_token.as_ref() == Some(sealed) {
                        record.sealed_token = Some(fresh.clone());
                    }
                    Ok(record)
                };
                ledger.update_job(&job.id, change).await?;
                done.resealed += 1;
            }
            Err(error) => failed(format!("{}; {}", chain(&error), error.remedy())),
        }
    }
    Ok(done)
}

/// What the report of the job that brought it about says; nothing where there was nothing to do.
pub(crate) fn note(done: &Resealed, key: &str) -> Vec<String> {
    let sealed = (done.resealed > 0).then(|| {
        let tokens = if done.resealed == 1 { "notify token was" } else { "notify tokens were" };
        format!("{} {tokens} sealed anew in the records of jobs, under `{key}`", done.resealed)
    });
    let failed = done.failed.iter().map(|one| format!("not sealed anew: job {}: {}", one.job, one.why));
    sealed.into_iter().chain(failed).collect()
}
