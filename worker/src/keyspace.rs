//! Asks the store about its key space: which key comes first behind this one? From the answers the coordinator's
//! planner cuts the shards, and a census knows where to look. Of a job with a manifest, the manifest is asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use keyrotate_manifest::Sorted;
use keyrotate_plan::{KeySpace, Probe, STRIDES, Stretch, behind_folder, gallop, guess_count, next_questions, plan};
use keyrotate_proto::estimate::Estimate;
use keyrotate_proto::position::{KeyRange, Position, right_behind};
use keyrotate_store::{Entry, ListFrom, ListPage, ListRequest, Store, StoreError};

use crate::Permits;
use crate::source::{Found, Picked, Scope, SourceError, from_key};

/// Questions about one key space at most; one key is answered to each.
const QUESTIONS: usize = 200;

/// Questions about each piece that a shard is to be cut into.
const QUESTIONS_A_PIECE: usize = 4;

/// A scope that fits into so many pages is listed, not asked about.
const SMALL: usize = 4;

/// Stretches of a scope of which a page is looked at to guess how much there is.
const STRETCHES: usize = 32;

/// Keys on one page.
pub(crate) const PAGE: u32 = 1000;

/// Pages that are listed for one page of what a manifest names, where that is little of each.
const PICKED_PAGES: u64 = 16;

/// A key space that can be asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survey<'a> {
    /// The store.
    pub(crate) store: &'a Arc<dyn Store>,
    /// What calls take.
    pub(crate) permits: &'a Permits,
    /// The bucket.
    pub(crate) bucket: &'a str,
    /// What the keys begin with.
    pub(crate) prefix: &'a str,
    /// Only what it names, where there is one.
    pub(crate) manifest: Option<&'a Sorted>,
}

impl Survey<'_> {
    /// Asks until the planner has no more questions.
    pub(crate) async fn key_space(&self) -> Result<KeySpace, SourceError> {
        let scope = self.scope();
        let small = match self.manifest {
            Some(manifest) => name_small(manifest, &scope).await?,
            None => self.list_small().await?,
        };
        Ok(KeySpace::of(match small {
            Some(probes) => probes,
            None => self.ask(&scope, Vec::new(), QUESTIONS).await?,
        }))
    }

    /// Asks about a range, of which some is known, until the planner has no more questions, `most` at most.
    async fn ask(&self, range: &KeyRange, mut probes: Vec<Probe>, mut most: usize) -> Result<Vec<Probe>, SourceError> {
        loop {
            let questions = next_questions(&probes, range, most);
            if questions.is_empty() {
                return Ok(probes);
            }
            most -= questions.len();
            probes.extend(self.answers(questions).await?);
        }
    }

    async fn answers(&self, questions: Vec<String>) -> Result<Vec<Probe>, SourceError> {
        let answers = stream::iter(questions.into_iter().map(|after| async move {
            let found = self.first_behind(&after).await?;
            Ok::<_, SourceError>(Probe { asked_after: after, found })
        }));
        answers.buffered(16).try_collect().await
    }

    /// Keys inside a range, in order, that cut it into so many pieces at most, of about as many keys each as far as a few
    /// questions tell. `seen` are some keys right before it, in order: they tell how dense it is where it begins, and what its
    /// keys look like.
    pub(crate) async fn cuts(
        &self,
        range: &KeyRange,
        seen: &[String],
        pieces: usize,
    ) -> Result<Vec<String>, SourceError> {
        let mut probes = self.strides(range, seen).await?;
        let known = |pair: &[String]| Probe { asked_after: pair[0].clone(), found: Some(pair[1].clone()) };
        probes.extend(seen.windows(2).map(known));
        let probes = self.ask(range, probes, pieces.saturating_mul(QUESTIONS_A_PIECE).min(QUESTIONS)).await?;
        Ok(plan(range, &probes, pieces).into_iter().skip(1).map(|piece| piece.start).collect())
    }

    /// Goes on behind keys that are known, in ever longer strides, until nothing is there; the furthest first, so that what is
    /// nearer is told apart within the bounds that it sets.
    async fn strides(&self, range: &KeyRange, seen: &[String]) -> Result<Vec<Probe>, SourceError> {
        let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
        let folder = behind_folder(&seen, range).into_iter().collect();
        let mut probes = self.answers(folder).await?;
        for round in 0.. {
            let questions = gallop(&seen, range, round * STRIDES);
            let few = questions.len() < STRIDES as usize;
            let answers = self.answers(questions).await?;
            let ended = answers.iter().any(|probe| probe.found.as_ref().is_none_or(|key| !range.contains(key)));
            probes.extend(answers);
            if few || ended {
                break;
            }
        }
        probes.sort_by(|a, b| b.asked_after.cmp(&a.asked_after));
        Ok(probes)
    }

    /// The first key behind a text.
    async fn first_behind(&self, text: &str) -> Result<Option<String>, SourceError> {
        if let Some(manifest) = self.manifest {
            let next = manifest.rows_from(&right_behind(text)).next_key().await?;
            return Ok(next.map(|found| found.key));
        }
        let _permit = self.permits.call().await;
        let page = self.list_one(ListFrom::AfterKey(text.to_owned())).await?;
        Ok(page.entries.into_iter().next().map(|entry| entry.key))
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
    pub(crate) async fn estimate(&self, space: &KeySpace) -> Result<Estimate, SourceError> {
        let stretches = stream::iter(
            plan(&self.scope(), &space.probes, STRETCHES)
                .into_iter()
                .map(|range| async move { self.stretch(range).await }),
        );
        let sampled: Vec<(Stretch, u64)> = stretches.buffered(16).try_collect().await?;
        let (stretches, bytes): (Vec<Stretch>, Vec<u64>) = sampled.into_iter().unzip();
        let seen: u64 = stretches.iter().map(|stretch| stretch.first.len() as u64).sum();
        let objects = self.manifest.map_or_else(|| guess_count(&stretches), Sorted::count);
        let bytes: u64 = bytes.iter().sum();
        let bytes = u128::from(bytes) * u128::from(objects) / u128::from(seen.max(1));
        Ok(Estimate { objects, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) })
    }

    /// The first keys of a range, and the bytes of their objects.
    async fn stretch(&self, range: KeyRange) -> Result<(Stretch, u64), SourceError> {
        if self.manifest.is_some() {
            let (entries, rest, _) = self.picked_page(&range, true).await?;
            let bytes = entries.iter().map(|entry| entry.size).sum();
            let first = entries.into_iter().map(|entry| entry.key).collect();
            return Ok((Stretch { range, first, whole: rest.is_none() }, bytes));
        }
        let _permit = self.permits.call().await;
        let page = self.list(from_key(self.prefix, &range.start), PAGE).await?;
        let crossed = page.entries.last().is_some_and(|last| range.end.as_ref().is_some_and(|end| last.key >= *end));
        let whole = page.next.is_none() || crossed;
        let inside: Vec<_> = page.entries.into_iter().filter(|entry| range.contains(&entry.key)).collect();
        let bytes = inside.iter().map(|entry| entry.size).sum();
        let first = inside.into_iter().map(|entry| entry.key).collect();
        Ok((Stretch { range, first, whole }, bytes))
    }

    /// What the manifest names, from the beginning of a range on: a page of it, or what some pages of the listing show; where
    /// the rest begins, if there is any; and how many pages were listed. Of no key only some versions.
    pub(crate) async fn picked_page(
        &self,
        range: &KeyRange,
        versions: bool,
    ) -> Result<(Vec<Entry>, Option<String>, u64), SourceError> {
        let Some(manifest) = self.manifest else { return Ok((Vec::new(), None, 0)) };
        let (bucket, prefix) = (self.bucket.to_owned(), self.prefix.to_owned());
        let scope = Scope { bucket, prefix, versions, with_facts: false };
        let begin = Position::Before(range.start.clone());
        let mut picked = Picked::new(Arc::clone(self.store), scope, manifest, range, &begin, BTreeSet::new());
        let (mut entries, mut pages) = (Vec::new(), 0);
        loop {
            let found = {
                let _permit = self.permits.call().await;
                picked.found().await?
            };
            pages += 1;
            let Some(found) = found else { return Ok((entries, None, pages)) };
            entries.extend(found.into_iter().filter_map(|found| match found {
                Found::Version(entry) | Found::Current(entry, _) => Some(entry),
                Found::Missing(..) => None,
            }));
            let Some(rest) = picked.next_key().map(str::to_owned) else { return Ok((entries, None, pages)) };
            if (entries.len() >= PAGE as usize || pages >= PICKED_PAGES) && rest > range.start {
                entries.truncate(entries.partition_point(|entry| entry.key < rest));
                return Ok((entries, Some(rest), pages));
            }
        }
    }

    /// The first object of the scope.
    pub(crate) async fn first(&self, versions: bool) -> Result<Option<Entry>, SourceError> {
        if self.manifest.is_none() {
            return Ok(self.list_one(ListFrom::Start).await?.entries.into_iter().next());
        }
        Ok(self.picked_page(&self.scope(), versions).await?.0.into_iter().next())
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

/// The whole key space of a small manifest, as if it were listed: the first key of each page. `None` where it is not small.
async fn name_small(manifest: &Sorted, scope: &KeyRange) -> Result<Option<Vec<Probe>>, SourceError> {
    if manifest.count() > SMALL as u64 * u64::from(PAGE) {
        return Ok(None);
    }
    let (mut probes, mut last) = (Vec::new(), scope.start.clone());
    let (mut rows, mut n) = (manifest.rows_from(&scope.start), 0u32);
    while let Some(found) = rows.next_key().await? {
        if n.is_multiple_of(PAGE) {
            probes.push(Probe { asked_after: last.clone(), found: Some(found.key.clone()) });
        }
        last = found.key;
        n += 1;
    }
    Ok(Some(probes))
}
