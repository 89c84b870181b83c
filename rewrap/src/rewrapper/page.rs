//! Reading a window's writes back by a listing with facts: one call per thousand objects instead of one each.

use std::collections::{BTreeMap, VecDeque};

use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::position::right_before;
use keyrotate_proto::row::Row;
use keyrotate_store::{Entry, ListFrom, ListRequest};

use super::write::{Attempt, rotated};
use super::{Rewrapper, unwritten};
use crate::classify::halt;
use crate::halt::Halt;
use crate::plan::{Look, Settled, Unread};
use crate::readback::{Seen, compare};

/// With fewer in one page than this, HEAD is cheaper: a page with facts costs the store as much as a hundred HEADs.
const WORTH_A_PAGE: usize = 20;

impl Rewrapper {
    /// Reads a window's writes back by a listing with facts: the rows of those that it shows beyond doubt, in no
    /// order, and the rest, which [`Rewrapper::read_back_by_head`] settles.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn read_back_by_pages(&self, mut unread: Vec<Unread>) -> Result<(Vec<Row>, Vec<Unread>), Halt> {
        let mut rows = Vec::with_capacity(unread.len());
        unread.sort_by(|a, b| a.key().cmp(b.key()));
        let mut left: VecDeque<Unread> = unread.into();
        let mut doubtful = Vec::new();
        let mut next: Option<ListFrom> = None;
        while left.len() >= WORTH_A_PAGE {
            let first = left.front().map(|u| u.key().to_owned()).unwrap_or_default();
            let Some(from) = next.take().or_else(|| right_before(&first).map(ListFrom::AfterKey)) else {
                doubtful.extend(left.pop_front());
                continue;
            };
            let page = self.page(from).await?;
            let Some(last) = page.entries.last().map(|e| e.key.clone()) else { break };
            let mut listed: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
            for entry in page.entries {
                listed.entry(entry.key.clone()).or_default().push(entry);
            }
            let before = left.len();
            // Versions of the last key may go on in the next page.
            while left.front().is_some_and(|u| u.key() < last.as_str() || (page.next.is_none() && u.key() == last)) {
                let Some(unread) = left.pop_front() else { break };
                match settled(&unread, listed.get(unread.key())) {
                    Some(row) => rows.push(row),
                    None => doubtful.push(unread),
                }
            }
            if before - left.len() < WORTH_A_PAGE || page.next.is_none() {
                break;
            }
            // Far ahead, a new place saves the pages between; else the listing goes on where it was.
            next = page.next.filter(|_| left.front().is_some_and(|u| u.key() == last));
        }
        doubtful.extend(left);
        Ok((rows, doubtful))
    }

    /// Reads one write back by HEAD.
    ///
    /// # Errors
    /// What says nothing about the object, and what must stop the job.
    pub async fn read_back_by_head(&self, unread: Unread) -> Result<Row, Halt> {
        let Unread { plan, expected } = unread;
        let detail = match self.confirm(&plan, &expected, None).await? {
            Attempt::Settled(Settled::Row(row)) => return Ok(row),
            Attempt::Settled(Settled::Unread(_)) => "it was not read back".to_owned(),
            Attempt::Changed(detail) => detail,
        };
        // Somebody wrote after us; their write stands, and may be right already.
        match self.look_again(&plan.facts.at).await? {
            Look::Settled(row) => Ok(row),
            Look::Write(next) => Ok(unwritten(&next.facts, Outcome::Conflict, detail)),
        }
    }

    async fn page(&self, from: ListFrom) -> Result<keyrotate_store::ListPage, Halt> {
        let request = ListRequest {
            bucket: self.rules.spec.bucket.clone(),
            prefix: self.rules.spec.prefix.clone(),
            versions: self.rules.frozen.versioning.has_versions(),
            from,
            limit: 1_000,
            with_facts: true,
        };
        self.store.list(request).await.map_err(|e| halt(&e))
    }
}

/// The row, where the listing shows the object as it was written; `None` where there is any doubt.
fn settled(unread: &Unread, entries: Option<&Vec<Entry>>) -> Option<Row> {
    let Unread { plan, expected } = unread;
    let version = expected.version.as_ref();
    let entry = entries?.iter().find(|e| match (version, &e.version) {
        (Some(wanted), Some(shown)) => wanted == shown,
        _ => e.latest,
    })?;
    let seen = Seen::listed(entry.clone())?;
    // A listing shows the date to the millisecond.
    if expected.date.is_some_and(|date| date.as_millisecond() != seen.last_modified.as_millisecond()) {
        return None;
    }
    let mut expected = expected.clone();
    // Only HEAD is sure to show these.
    let headers = &mut expected.headers;
    if headers.website_redirect.take().is_some() || headers.expires.take().is_some() {
        return None;
    }
    let proof = compare(plan.key(), &expected, &seen).ok()?;
    Some(rotated(plan, &expected, &seen, &proof))
}
