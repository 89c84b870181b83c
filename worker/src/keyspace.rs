//! Asks the store about its key space: which key comes first behind this one? From the answers the coordinator's
//! planner cuts the shards.

use futures::stream::{self, StreamExt, TryStreamExt};
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_plan::{KEY_SPACE_VERSION, KeySpace, Probe, next_questions};
use keyrotate_store::{ListFrom, ListPage, ListRequest, StoreError};

use crate::Worker;

/// Questions about one key space at most; one key is answered to each.
const QUESTIONS: usize = 200;

/// A scope that fits into so many pages is listed, not asked about.
const SMALL: usize = 4;

/// Keys on one page.
const PAGE: u32 = 1000;

impl Worker {
    /// Asks until the planner has no more questions.
    pub(crate) async fn ask_key_space(&self, job: &JobRecord) -> Result<KeySpace, StoreError> {
        let scope = job.scope();
        let mut space = KeySpace { version: KEY_SPACE_VERSION, probes: Vec::new() };
        if let Some(probes) = self.list_small(job).await? {
            space.probes = probes;
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

    /// The whole key space where it is small: the first key of each page, and that nothing lies before it on the page
    /// before. `None` where it is not small.
    async fn list_small(&self, job: &JobRecord) -> Result<Option<Vec<Probe>>, StoreError> {
        let (mut probes, mut from, mut last) = (Vec::new(), ListFrom::Start, job.scope().start);
        for _ in 0..SMALL {
            let page = self.list(job, from, PAGE).await?;
            let found = page.entries.first().map(|entry| entry.key.clone());
            probes.push(Probe { asked_after: last.clone(), found });
            let Some(next) = page.next else { return Ok(Some(probes)) };
            last = page.entries.into_iter().next_back().map_or(last, |entry| entry.key);
            from = next;
        }
        Ok(None)
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
