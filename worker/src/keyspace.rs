//! Asks the store about its key space: which key comes first behind this one? From the answers the coordinator's
//! planner cuts the shards.

use futures::stream::{self, StreamExt, TryStreamExt};
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_plan::{KEY_SPACE_VERSION, KeySpace, Probe, next_questions};
use keyrotate_store::{ListFrom, ListPage, ListRequest, StoreError};

use crate::Worker;

/// Questions about one key space at most; one key is answered to each.
const QUESTIONS: usize = 200;

/// A scope that fits into so many entries is one shard.
const SMALL: u32 = 1000;

impl Worker {
    /// Asks until the planner has no more questions.
    pub(crate) async fn ask_key_space(&self, job: &JobRecord) -> Result<KeySpace, StoreError> {
        let first = self.list(job, ListFrom::Start, SMALL).await?;
        let scope = job.scope();
        let mut space = KeySpace { version: KEY_SPACE_VERSION, probes: Vec::new() };
        if first.next.is_none() {
            return Ok(space);
        }
        loop {
            let questions = next_questions(&space.probes, &scope, QUESTIONS.saturating_sub(space.probes.len()));
            if questions.is_empty() {
                return Ok(space);
            }
            let answers = stream::iter(questions.into_iter().map(|after| async move {
                let _permit = self.permits.call().await;
                let page = self.list_one(job, ListFrom::AfterKey(after.clone())).await?;
                let found = page.entries.into_iter().next().map(|entry| entry.key);
                Ok::<_, StoreError>(Probe { asked_after: after, found })
            }));
            space.probes.extend(answers.buffered(16).try_collect::<Vec<_>>().await?);
        }
    }

    /// One key of the job's scope.
    pub(crate) async fn list_one(&self, job: &JobRecord, from: ListFrom) -> Result<ListPage, StoreError> {
        self.list(job, from, 1).await
    }

    async fn list(&self, job: &JobRecord, from: ListFrom, limit: u32) -> Result<ListPage, StoreError> {
        let (bucket, prefix) = (job.spec.bucket.clone(), job.spec.prefix.clone());
        self.site.store.list(ListRequest { bucket, prefix, versions: false, from, limit, with_facts: false }).await
    }
}
