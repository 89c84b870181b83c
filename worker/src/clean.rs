//! The `clean` pass of a cancelled or failing job: ends the multipart uploads that its intents name, exactly those.

use std::collections::BTreeSet;

use keyrotate_checkpoint::{Commit, HeldLease};
use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::Strategy;
use keyrotate_report::intents::{self, LEFTOVERS};
use keyrotate_store::Upload;

use crate::Worker;
use crate::pass::SliceError;

impl Worker {
    /// Works on the one shard of a `clean` pass.
    pub(crate) async fn clean(&self, mut lease: HeldLease) -> Result<(), SliceError> {
        let job = lease.job().clone();
        let reports = self.site.reports.of(&job.id)?;
        let (mut ours, mut unnamed) = (BTreeSet::new(), BTreeSet::new());
        for name in intents::list_all(reports.as_ref()).await? {
            let (_, named) = intents::read::<Intent>(reports.as_ref(), &name).await?;
            for intent in named.into_iter().filter(|intent| intent.strategy == Strategy::CopyMultipart) {
                match intent.upload {
                    Some(id) => ours.insert((intent.key, id)),
                    None => unnamed.insert(intent.key),
                };
            }
        }
        let mut left = self.end_uploads(&job.spec.bucket, &ours).await;
        for key in unnamed {
            left.extend(self.open_uploads(&job.spec.bucket, &key).await.into_iter().filter(|one| !ours.contains(one)));
        }
        reports.put(LEFTOVERS, serde_json::to_vec(&left).unwrap_or_default()).await?;
        let end = lease.record().range.end_position();
        let commit = Commit { cursor: end, ..Commit::of(lease.record()) };
        self.site.ledger.commit(&mut lease, commit).await?;
        Ok(self.site.ledger.finish(lease).await?)
    }

    /// Ends the uploads that are ours; gives those that could not be ended.
    async fn end_uploads(&self, bucket: &str, ours: &BTreeSet<(String, String)>) -> Vec<(String, String)> {
        let mut left = Vec::new();
        for (key, id) in ours {
            let upload = Upload { bucket: bucket.to_owned(), key: key.clone(), id: id.clone() };
            let _permit = self.permits.call().await;
            if let Err(error) = self.site.store.abort_upload(&upload).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "an upload of ours could not be ended");
                left.push((key.clone(), id.clone()));
            }
        }
        left
    }

    /// Uploads on a key of ours whose id was never put down: perhaps ours, perhaps a user's. They are listed, not ended.
    async fn open_uploads(&self, bucket: &str, key: &str) -> Vec<(String, String)> {
        let _permit = self.permits.call().await;
        let open = self.site.store.uploads(bucket, key).await.unwrap_or_default();
        open.into_iter().filter(|upload| upload.key == key).map(|upload| (upload.key, upload.id)).collect()
    }
}
