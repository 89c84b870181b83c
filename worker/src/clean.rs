//! The `clean` pass of a cancelled or failing job: ends the multipart uploads that its intents name, exactly those.

use std::collections::BTreeSet;

use keyrotate_checkpoint::{Commit, HeldLease};
use keyrotate_proto::intent::Intent;
use keyrotate_report::intents;
use keyrotate_store::Upload;

use crate::Worker;
use crate::pass::SliceError;

impl Worker {
    /// Works on the one shard of a `clean` pass.
    pub(crate) async fn clean(&self, mut lease: HeldLease) -> Result<(), SliceError> {
        let job = lease.job().clone();
        let reports = self.site.reports.of(&job.id)?;
        let mut ended = BTreeSet::new();
        for name in intents::list_all(reports.as_ref()).await? {
            let (_, named) = intents::read::<Intent>(reports.as_ref(), &name).await?;
            for intent in named {
                let Some(id) = intent.upload else { continue };
                if !ended.insert(id.clone()) {
                    continue;
                }
                let upload = Upload { bucket: job.spec.bucket.clone(), key: intent.key, id };
                let _permit = self.permits.call().await;
                if let Err(error) = self.site.store.abort_upload(&upload).await {
                    tracing::warn!(key = %upload.key, id = %upload.id, error = %error, "an upload of ours could not be ended");
                }
            }
        }
        let end = lease.record().range.end_position();
        let commit = Commit { cursor: end, ..Commit::of(lease.record()) };
        self.site.ledger.commit(&mut lease, commit).await?;
        Ok(self.site.ledger.finish(lease).await?)
    }
}
