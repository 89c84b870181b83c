//! What a manifest names, picked out of the listing: so that each entry carries everything that a listing gives, and what is
//! done with it does not differ. Where the manifest names most of what is listed, page follows page; where it names little
//! of it, each key is sought, with a short page.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use keyrotate_manifest::{Key, Rows, Sorted};
use keyrotate_proto::position::{KeyRange, Position, right_behind};
use keyrotate_store::{Entry, ListFrom, ListRequest, ObjectAt, Store};

use super::{Item, Scope, Source, SourceError, Task, from_key};
use crate::bucket_lease::LEASE_KEY;

/// Entries of the longest page, and items that are given at a time.
const PAGE: u32 = 1000;

/// Entries of the first page, and of the shortest.
const FIRST: u32 = 64;
const LEAST: u32 = 8;

/// A manifest, and the listing of its keys in `[cursor, range.end)`.
pub(crate) struct Picked {
    store: Arc<dyn Store>,
    scope: Scope,
    end: Option<String>,
    rows: Rows,
    /// The first key of which not all is found; what is found of it is taken out.
    at: Option<Wanted>,
    begun: bool,
    covered: Option<(String, BTreeSet<String>)>,
    listing: Listed,
}

/// A key of the manifest.
struct Wanted {
    key: Key,
    /// Rows that no entry was found for yet.
    missing: Vec<Option<String>>,
}

/// How far the store has listed.
#[derive(Default)]
struct Listed {
    entries: VecDeque<Entry>,
    next: Option<ListFrom>,
    through: bool,
    /// The last key of the last page.
    last: Option<String>,
    limit: u32,
    /// Keys on the last page, and those of the manifest that were done with by it.
    shown: u32,
    done: u32,
}

/// What became of a row of the manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// The entry that it names by its version.
    Version(Entry),
    /// The current version of a key, and the others of that key that are named.
    Current(Entry, Vec<String>),
    /// Nothing in the listing: the key, and the version where one was named.
    Missing(String, Option<String>),
}

impl Picked {
    /// Begins at `cursor`, as a listing does.
    #[must_use]
    pub(crate) fn new(
        store: Arc<dyn Store>,
        scope: Scope,
        manifest: &Sorted,
        range: &KeyRange,
        cursor: &Position,
        covered: BTreeSet<String>,
    ) -> Self {
        let mut inside = None;
        let from = match cursor {
            Position::Before(key) => key.clone(),
            Position::After(key, None) => right_behind(key),
            Position::After(key, Some(_)) => {
                inside = Some((key.clone(), covered));
                key.clone()
            }
            Position::End => String::new(),
        };
        let rows = manifest.rows_from(from.as_str().max(&range.start));
        let listing = Listed { limit: FIRST, ..Listed::default() };
        let end = range.end.clone();
        // Nothing lies behind the end: there, nothing is wanted any more.
        let begun = *cursor == Position::End;
        Self { store, scope, end, rows, at: None, begun, covered: inside, listing }
    }

    /// The key that is to be found next; `None` where there is none, and before the first page.
    pub(crate) fn next_key(&self) -> Option<&str> {
        self.at.as_ref().map(|at| at.key.key.as_str())
    }

    /// What is found by one page of the listing at most, in order; `None` at the end.
    pub(crate) async fn found(&mut self) -> Result<Option<Vec<Found>>, SourceError> {
        if !std::mem::replace(&mut self.begun, true) {
            self.advance().await?;
        }
        if self.at.is_none() {
            return Ok(None);
        }
        let (mut found, mut asked) = (Vec::new(), false);
        while let Some(at) = &mut self.at
            && found.len() < PAGE as usize
        {
            match self.listing.entries.front() {
                Some(entry) if entry.key < at.key.key => drop(self.listing.entries.pop_front()),
                Some(entry) if entry.key == at.key.key => {
                    let Some(entry) = self.listing.entries.pop_front() else { break };
                    found.extend(at.pick(entry).filter(|found| !is_covered(self.covered.as_ref(), found)));
                }
                None if !self.listing.through && asked => break,
                None if !self.listing.through => {
                    asked = true;
                    self.list().await?;
                }
                _ => {
                    let missing = at.missing().filter(|found| !is_covered(self.covered.as_ref(), found));
                    found.extend(missing);
                    self.listing.done += 1;
                    self.advance().await?;
                }
            }
        }
        Ok(Some(found))
    }

    /// Goes on to the next key.
    async fn advance(&mut self) -> Result<(), SourceError> {
        loop {
            let next = self.rows.next_key().await?;
            let inside = |key: &Key| self.end.as_ref().is_none_or(|end| key.key < *end);
            self.at = next.filter(inside).map(|key| Wanted { missing: key.versions.clone(), key });
            // The object that says who works on the bucket comes and goes: listings leave it out, too.
            if self.next_key() != Some(LEASE_KEY) {
                return Ok(());
            }
        }
    }

    async fn list(&mut self) -> Result<(), SourceError> {
        let Some(at) = &self.at else { return Ok(()) };
        let from = self.listing.turn_to(&self.scope.prefix, &at.key.key);
        let request = ListRequest {
            bucket: self.scope.bucket.clone(),
            prefix: self.scope.prefix.clone(),
            versions: self.scope.versions,
            from,
            limit: self.listing.limit,
            with_facts: self.scope.with_facts,
        };
        let page = self.store.list(request).await?;
        for entry in &page.entries {
            self.listing.note(&entry.key);
        }
        self.listing.through = page.next.is_none();
        self.listing.next = page.next;
        self.listing.entries = page.entries.into();
        Ok(())
    }
}

impl Listed {
    /// Where the next page begins, and how long it is, from what the last one was good for.
    fn turn_to(&mut self, prefix: &str, key: &str) -> ListFrom {
        let goes_on = self.last.as_deref() == Some(key);
        let dense = self.done * 4 >= self.shown;
        if self.last.is_some() {
            let longer = goes_on || dense || self.done == 0;
            self.limit = if longer { (self.limit * 4).min(PAGE) } else { (self.limit / 4).max(LEAST) };
        }
        (self.shown, self.done) = (0, 0);
        match (self.next.take(), from_key(prefix, key)) {
            (Some(next), ListFrom::AfterKey(place)) => {
                let seeks = !goes_on && !dense && self.last.as_ref().is_some_and(|last| *last < place);
                if seeks { ListFrom::AfterKey(place) } else { next }
            }
            (Some(next), _) => next,
            (None, place) => place,
        }
    }

    /// Counts the keys of a page.
    fn note(&mut self, key: &str) {
        if self.last.as_deref() != Some(key) {
            self.shown += 1;
            self.last = Some(key.to_owned());
        }
    }
}

impl Wanted {
    /// The entry, where a row names it.
    fn pick(&mut self, entry: Entry) -> Option<Found> {
        // Where nothing has a version, the only one is what was written while versioning was off.
        let id = entry.version.as_deref().unwrap_or("null");
        let is_named = |row: &Option<String>| row.as_deref().is_some_and(|named| named == id);
        let is_current = |row: &Option<String>| row.is_none() && entry.latest;
        self.missing.retain(|row| !is_named(row) && !is_current(row));
        let named = self.key.versions.iter().any(is_named);
        match self.key.versions.iter().any(is_current) {
            _ if named => Some(Found::Version(entry)),
            true => Some(Found::Current(entry, self.key.versions.iter().flatten().cloned().collect())),
            false => None,
        }
    }

    /// The rows without an entry; that without a version last, since its position is behind all of the key.
    fn missing(&mut self) -> impl Iterator<Item = Found> {
        self.missing.sort_by_key(Option::is_none);
        let key = self.key.key.clone();
        std::mem::take(&mut self.missing).into_iter().map(move |version| Found::Missing(key.clone(), version))
    }
}

/// Whether a row of the shard speaks of it.
fn is_covered(covered: Option<&(String, BTreeSet<String>)>, found: &Found) -> bool {
    let (key, version) = match found {
        Found::Version(entry) | Found::Current(entry, _) => (&entry.key, &entry.version),
        Found::Missing(key, version) => (key, version),
    };
    covered.is_some_and(|(at, versions)| at == key && version.as_ref().is_some_and(|id| versions.contains(id)))
}

#[async_trait]
impl Source for Picked {
    async fn page(&mut self) -> Result<Option<Vec<Item>>, SourceError> {
        let bucket = self.scope.bucket.clone();
        let after = |entry: &Entry| Position::After(entry.key.clone(), entry.version.clone());
        let item = |found| match found {
            Found::Version(entry) => Item { after: after(&entry), task: Task::Look(Box::new(entry)) },
            Found::Current(entry, named) => Item { after: after(&entry), task: Task::Current(Box::new(entry), named) },
            Found::Missing(key, version) => {
                let after = Position::After(key.clone(), version.clone());
                Item { after, task: Task::Missing(ObjectAt { bucket: bucket.clone(), key, version }) }
            }
        };
        Ok(self.found().await?.map(|found| found.into_iter().map(item).collect()))
    }
}

#[cfg(test)]
mod tests;
