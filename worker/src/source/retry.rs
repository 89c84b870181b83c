//! The last rows `failed` and `conflict` of earlier passes, and the ranges that abandoned shards left unlisted.

use std::collections::VecDeque;

use async_trait::async_trait;

use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_report::rows::LastRows;
use keyrotate_store::ObjectAt;

use super::{Item, Listing, Source, SourceError, Task};

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

/// Rows that want another try, then the gaps of the range.
pub(crate) struct Retry {
    bucket: String,
    rows: Option<LastRows>,
    gaps: VecDeque<Listing>,
}

impl Retry {
    /// What `rows` still gives of rows that want another try, then `gaps` (each a listing that begins behind all rows
    /// of the range before it). In a range with gaps all rows lie before them: an abandoned shard has none behind its
    /// cursor.
    #[must_use]
    pub(crate) fn new(bucket: String, rows: LastRows, gaps: VecDeque<Listing>) -> Self {
        Self { bucket, rows: Some(rows.filtered(Outcome::wants_retry)), gaps }
    }
}

#[async_trait]
impl Source for Retry {
    async fn page(&mut self) -> Result<Option<Vec<Item>>, SourceError> {
        if let Some(rows) = &mut self.rows {
            let mut items = Vec::new();
            while let Some(group) = rows.next_key().await? {
                for row in group.rows.into_iter().map(|last| last.row) {
                    let at =
                        ObjectAt { bucket: self.bucket.clone(), key: row.key.clone(), version: row.version.clone() };
                    let after = Position::After(row.key.clone(), row.version.clone());
                    items.push(Item { after, task: Task::Again(at, Box::new(row)) });
                }
                if items.len() >= 1000 {
                    return Ok(Some(items));
                }
            }
            self.rows = None;
            return Ok(Some(items));
        }
        while let Some(listing) = self.gaps.front_mut() {
            match listing.page().await? {
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
