//! The listing of a range of keys, from a cursor on. The object that says who works on the bucket is none of them: its
//! versions come and go while a job runs, and a row would speak of what is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use keyrotate_proto::position::{KeyRange, Position, right_before};
use keyrotate_store::{Entry, ListFrom, ListRequest, Store};

use super::{Item, Source, SourceError, Task};
use crate::bucket_lease::LEASE_KEY;

const PAGE: u32 = 1000;

/// What of a bucket a job lists, and how.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The bucket.
    pub(crate) bucket: String,
    /// Only keys that begin with it.
    pub(crate) prefix: String,
    /// Whether all versions are listed.
    pub(crate) versions: bool,
    /// Whether the listing shows every fact.
    pub(crate) with_facts: bool,
}

/// A listing of `[cursor, range.end)`.
pub(crate) struct Listing {
    store: Arc<dyn Store>,
    scope: Scope,
    range: KeyRange,
    next: Option<ListFrom>,
    covered: Option<(String, BTreeSet<String>)>,
}

impl Listing {
    /// Begins at `cursor`. Where the cursor stands inside a key, that key is listed from its newest version and the
    /// versions in `covered` are left out: the version that the cursor names may be gone meanwhile.
    #[must_use]
    pub(crate) fn new(
        store: Arc<dyn Store>,
        scope: Scope,
        range: KeyRange,
        cursor: &Position,
        covered: BTreeSet<String>,
    ) -> Self {
        let mut inside = None;
        let next = match cursor {
            Position::Before(key) => Some(from_key(&scope.prefix, key)),
            Position::After(key, None) => Some(ListFrom::AfterKey(key.clone())),
            Position::After(key, Some(_)) => {
                inside = Some((key.clone(), covered));
                Some(from_key(&scope.prefix, key))
            }
            Position::End => None,
        };
        Self { store, scope, range, next, covered: inside }
    }

    /// The next entries of the range, in order; `None` at the end.
    pub(crate) async fn entries(&mut self) -> Result<Option<Vec<Entry>>, SourceError> {
        let Some(from) = self.next.take() else { return Ok(None) };
        let request = ListRequest {
            bucket: self.scope.bucket.clone(),
            prefix: self.scope.prefix.clone(),
            versions: self.scope.versions,
            from,
            limit: PAGE,
            with_facts: self.scope.with_facts,
        };
        let page = self.store.list(request).await?;
        let mut entries = Vec::with_capacity(page.entries.len());
        let mut ended = false;
        for entry in page.entries {
            if self.range.end.as_deref().is_some_and(|end| entry.key.as_str() >= end) {
                ended = true;
                break;
            }
            let is_ours = entry.key == LEASE_KEY;
            if entry.key.as_str() >= self.range.start.as_str() && !is_ours && !self.is_covered(&entry) {
                entries.push(entry);
            }
        }
        self.next = if ended { None } else { page.next };
        Ok(Some(entries))
    }

    fn is_covered(&self, entry: &Entry) -> bool {
        let Some((key, versions)) = &self.covered else { return false };
        entry.key < *key || (entry.key == *key && entry.version.as_ref().is_some_and(|v| versions.contains(v)))
    }
}

#[async_trait]
impl Source for Listing {
    async fn page(&mut self) -> Result<Option<Vec<Item>>, SourceError> {
        let item = |entry: Entry| Item {
            after: Position::After(entry.key.clone(), entry.version.clone()),
            task: Task::Look(Box::new(entry)),
        };
        Ok(self.entries().await?.map(|entries| entries.into_iter().map(item).collect()))
    }
}

/// A place to begin listing from such that `key` itself is listed, if it is there. Keys before it may be listed too
/// and have to be left out.
pub(crate) fn from_key(prefix: &str, key: &str) -> ListFrom {
    if key <= prefix { ListFrom::Start } else { right_before(key).map_or(ListFrom::Start, ListFrom::AfterKey) }
}
