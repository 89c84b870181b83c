//! The last rows of earlier passes, and the ranges that abandoned shards left unlisted: those `failed` and `conflict`, to be
//! tried again; or all, to be read again, where a manifest names what a job is about.

use std::collections::{BTreeSet, VecDeque};

use async_trait::async_trait;

use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_proto::row::Row;
use keyrotate_report::rows::LastRows;
use keyrotate_store::ObjectAt;

use super::{Item, Source, SourceError, Task};

/// A range that no pass has listed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Where an abandoned shard stood.
    pub(crate) from: Position,
    /// First key behind the gap; `None`: no end.
    pub(crate) end: Option<String>,
}

/// Shards that a pass abandoned: cursor and range of each.
pub(crate) type Abandoned = Vec<(Position, KeyRange)>;

/// What is left unlisted after a walk and retry passes, given the abandoned shards of each in order: what the first
/// one left, less what the later ones went through.
#[must_use]
pub(crate) fn gaps(passes: &[Abandoned]) -> Vec<Gap> {
    let Some((walk, retries)) = passes.split_first() else { return Vec::new() };
    let mut left: Vec<Gap> = walk.iter().map(|(at, range)| Gap { from: at.clone(), end: range.end.clone() }).collect();
    for abandoned in retries {
        left =
            left.iter().flat_map(|gap| abandoned.iter().filter_map(|(at, range)| still_left(gap, at, range))).collect();
    }
    left
}

/// The part of `gap` behind the place `at` where a shard of `range` was abandoned.
fn still_left(gap: &Gap, at: &Position, range: &KeyRange) -> Option<Gap> {
    let start = |position: &Position| position.key().map(str::to_owned);
    let (gap_key, at_key) = (start(&gap.from)?, start(at)?);
    let from = if at_key >= gap_key { at.clone() } else { gap.from.clone() };
    let end = match (&gap.end, &range.end) {
        (Some(a), Some(b)) => Some(a.min(b).clone()),
        (a, b) => a.clone().or_else(|| b.clone()),
    };
    let empty = end.as_deref().is_some_and(|end| from.key().is_none_or(|key| key >= end));
    (!empty).then_some(Gap { from, end })
}

/// Rows, then the gaps of the range.
pub(crate) struct Retry {
    bucket: String,
    rows: Option<LastRows>,
    gaps: VecDeque<Box<dyn Source>>,
    again: Again,
}

/// What is done about the rows.
enum Again {
    /// Those that want it are tried again.
    Try,
    /// Each is read again; of this key not those that a row of the pass itself speaks of, by their versions.
    Read(Option<(String, BTreeSet<String>)>),
}

impl Retry {
    /// What `rows` still gives of rows that want another try, then `gaps` (each a source that begins behind all rows
    /// of the range before it). In a range with gaps all rows lie before them: an abandoned shard has none behind its
    /// cursor.
    #[must_use]
    pub(crate) fn new(bucket: String, rows: LastRows, gaps: VecDeque<Box<dyn Source>>) -> Self {
        Self { bucket, rows: Some(rows.filtered(Outcome::wants_retry)), gaps, again: Again::Try }
    }

    /// All rows that `rows` still gives, to be read again, then `gaps`; of the cursor's key, where it stands inside of one,
    /// without the versions in `covered`.
    #[must_use]
    pub(crate) fn reading(
        bucket: String,
        rows: LastRows,
        gaps: VecDeque<Box<dyn Source>>,
        cursor: &Position,
        covered: BTreeSet<String>,
    ) -> Self {
        let inside = match cursor {
            Position::After(key, Some(_)) => Some((key.clone(), covered)),
            _ => None,
        };
        Self { bucket, rows: Some(rows), gaps, again: Again::Read(inside) }
    }

    fn item(&self, row: Row) -> Option<Item> {
        let at = ObjectAt { bucket: self.bucket.clone(), key: row.key.clone(), version: row.version.clone() };
        let after = Position::After(row.key.clone(), row.version.clone());
        let task = match &self.again {
            Again::Try => Task::Again(at, Box::new(row)),
            Again::Read(covered) => {
                let version = row.version_after.clone().or_else(|| row.version.clone());
                let is_at = |(key, _): &&(String, BTreeSet<String>)| *key == row.key;
                if covered
                    .as_ref()
                    .filter(is_at)
                    .zip(version.as_ref())
                    .is_some_and(|((_, known), id)| known.contains(id))
                {
                    return None;
                }
                Task::Reread(at.at_version(version), Box::new(row))
            }
        };
        Some(Item { after, task })
    }
}

#[async_trait]
impl Source for Retry {
    async fn page(&mut self) -> Result<Option<Vec<Item>>, SourceError> {
        if let Some(mut rows) = self.rows.take() {
            let mut items = Vec::new();
            while let Some(mut group) = rows.next_key().await? {
                if matches!(self.again, Again::Read(_)) {
                    // A position without a version is behind all of its key.
                    group.rows.sort_by_key(|last| last.row.version.is_none());
                }
                items.extend(group.rows.into_iter().filter_map(|last| self.item(last.row)));
                if items.len() >= 1000 {
                    self.rows = Some(rows);
                    return Ok(Some(items));
                }
            }
            return Ok(Some(items));
        }
        while let Some(gap) = self.gaps.front_mut() {
            match gap.page().await? {
                Some(items) => return Ok(Some(items)),
                None => self.gaps.pop_front(),
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> KeyRange {
        KeyRange { start: start.into(), end: (!end.is_empty()).then(|| end.to_owned()) }
    }

    #[test]
    fn a_retry_that_is_abandoned_too_leaves_only_what_it_did_not_list() {
        let after = |key: &str| Position::After(key.into(), None);
        let walk = vec![(after("c"), range("a", "m")), (after("q"), range("m", ""))];
        assert_eq!(gaps(std::slice::from_ref(&walk)).len(), 2);
        let retry = vec![(after("f"), range("a", "m"))];
        assert_eq!(gaps(&[walk.clone(), retry]), [Gap { from: after("f"), end: Some("m".into()) }]);
        let early = vec![(Position::Before("a".into()), range("a", "m"))];
        assert_eq!(gaps(&[walk.clone(), early]), [Gap { from: after("c"), end: Some("m".into()) }]);
        assert_eq!(gaps(&[walk, Vec::new()]), []);
    }
}
