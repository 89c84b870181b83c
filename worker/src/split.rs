//! A shard is cut where slots of the fleet have nothing to do: its holder leaves them pieces of what it has not listed yet.

use std::sync::Arc;

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_manifest::Sorted;
use keyrotate_proto::position::KeyRange;
use keyrotate_store::Store;

use crate::Permits;
use crate::keyspace::Survey;
use crate::source::SourceError;

/// Knows where a job's keys may be cut.
#[derive(Debug)]
pub(crate) struct Cutter {
    store: Arc<dyn Store>,
    bucket: String,
    prefix: String,
    manifest: Option<Sorted>,
}

impl Cutter {
    /// Of the keys of a job.
    pub(crate) fn new(store: &Arc<dyn Store>, job: &JobRecord, manifest: Option<Sorted>) -> Self {
        let (bucket, prefix) = (job.spec.bucket.clone(), job.spec.prefix.clone());
        Self { store: Arc::clone(store), bucket, prefix, manifest }
    }

    /// Keys that cut a range behind its first key into one piece for us and `others` more at most, of about as many keys
    /// each. `seen` are some keys right before it, in order.
    pub(crate) async fn cuts(
        &self,
        permits: &Permits,
        range: &KeyRange,
        seen: &[String],
        others: u32,
    ) -> Result<Vec<String>, SourceError> {
        let (bucket, prefix, manifest) = (self.bucket.as_str(), self.prefix.as_str(), self.manifest.as_ref());
        let survey = Survey { store: &self.store, permits, bucket, prefix, manifest };
        survey.cuts(range, seen, others as usize + 1).await
    }
}
