//! Asks the store about its key space: which key comes first behind this one? From the answers the coordinator's
//! planner cuts the shards, and a census knows where to look.

use futures::stream::{self, StreamExt, TryStreamExt};
use keyrotate_plan::{KEY_SPACE_VERSION, KeySpace, Probe, Stretch, guess_count, next_questions, plan};
use keyrotate_proto::estimate::Estimate;
use keyrotate_proto::position::KeyRange;
use keyrotate_store::{ListFrom, ListPage, ListRequest, Store, StoreError};

use crate::Permits;
use crate::source::from_key;

/// Questions about one key space at most; one key is answered to each.
const QUESTIONS: usize = 200;

/// A scope that fits into so many pages is listed, not asked about.
const SMALL: usize = 4;

/// Stretches of a scope of which a page is looked at to guess how much there is.
const STRETCHES: usize = 32;

/// Keys on one page.
pub(crate) const PAGE: u32 = 1000;

/// A key space that can be asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survey<'a> {
    /// The store.
    pub(crate) store: &'a dyn Store,
    /// What calls take.
    pub(crate) permits: &'a Permits,
    /// The bucket.
    pub(crate) bucket: &'a str,
    /// What the keys begin with.
    pub(crate) prefix: &'a str,
}

impl Survey<'_> {
    /// Asks until the planner has no more questions.
    pub(crate) async fn key_space(&self) -> Result<KeySpace, StoreError> {
        let scope = self.scope();
        let mut space = KeySpace { version: KEY_SPACE_VERSION, probes: Vec::new() };
        if let Some(probes) = self.list_small().await? {
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
                let page = self.list_one(ListFrom::AfterKey(after.clone())).await?;
                let found = page.entries.into_iter().next().map(|entry| entry.key);
                Ok::<_, StoreError>(Probe { asked_after: after, found })
            }));
            space.probes.extend(answers.buffered(16).try_collect::<Vec<_>>().await?);
        }
    }

    /// Every key that may lie in it.
    pub(crate) fn scope(&self) -> KeyRange {
        KeyRange::of_prefix(self.prefix)
    }

    /// The whole key space where it is small: the first key of each page, and that nothing lies before it on the page
    /// before. `None` where it is not small.
    async fn list_small(&self) -> Result<Option<Vec<Probe>>, StoreError> {
        let (mut probes, mut from, mut last) = (Vec::new(), ListFrom::Start, self.scope().start);
        for _ in 0..SMALL {
            let page = self.list(from, PAGE).await?;
            let found = page.entries.first().map(|entry| entry.key.clone());
            probes.push(Probe { asked_after: last.clone(), found });
            let Some(next) = page.next else { return Ok(Some(probes)) };
            last = page.entries.into_iter().next_back().map_or(last, |entry| entry.key);
            from = next;
        }
        Ok(None)
    }

    /// How much lies in the scope, guessed from one page of each of its stretches.
    pub(crate) async fn estimate(&self, space: &KeySpace) -> Result<Estimate, StoreError> {
        let stretches =
            stream::iter(plan(&self.scope(), &space.probes, STRETCHES).into_iter().map(|range| async move {
                let _permit = self.permits.call().await;
                self.stretch(range).await
            }));
        let sampled: Vec<(Stretch, u64)> = stretches.buffered(16).try_collect().await?;
        let (stretches, bytes): (Vec<Stretch>, Vec<u64>) = sampled.into_iter().unzip();
        let seen: u64 = stretches.iter().map(|stretch| stretch.first.len() as u64).sum();
        let (objects, bytes): (u64, u64) = (guess_count(&stretches), bytes.iter().sum());
        let bytes = u128::from(bytes) * u128::from(objects) / u128::from(seen.max(1));
        Ok(Estimate { objects, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) })
    }

    /// The first keys of a range, and the bytes of their objects.
    async fn stretch(&self, range: KeyRange) -> Result<(Stretch, u64), StoreError> {
        let page = self.list(from_key(self.prefix, &range.start), PAGE).await?;
        let crossed = page.entries.last().is_some_and(|last| range.end.as_ref().is_some_and(|end| last.key >= *end));
        let whole = page.next.is_none() || crossed;
        let inside: Vec<_> = page.entries.into_iter().filter(|entry| range.contains(&entry.key)).collect();
        let bytes = inside.iter().map(|entry| entry.size).sum();
        let first = inside.into_iter().map(|entry| entry.key).collect();
        Ok((Stretch { range, first, whole }, bytes))
    }

    /// One key of the scope.
    pub(crate) async fn list_one(&self, from: ListFrom) -> Result<ListPage, StoreError> {
        self.list(from, 1).await
    }

    async fn list(&self, from: ListFrom, limit: u32) -> Result<ListPage, StoreError> {
        let (bucket, prefix) = (self.bucket.to_owned(), self.prefix.to_owned());
        self.store.list(ListRequest { bucket, prefix, versions: false, from, limit, with_facts: false }).await
    }
}
