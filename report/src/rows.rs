//! Rows of passes, read in key order with one part per pass in memory.

use std::collections::HashMap;
use std::sync::Arc;

use keyrotate_proto::id::PassId;
use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::part::{PartHeader, decode};
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_proto::row::Row;

use crate::chain::{PartLink, ShardParts, chain, place};
use crate::{ReportError, ReportStore};

/// All rows of one pass whose keys lie in a range, in key order.
#[derive(Debug)]
pub struct PassRows {
    store: Arc<dyn ReportStore>,
    range: KeyRange,
    shards: std::vec::IntoIter<ShardParts>,
    parts: std::vec::IntoIter<PartLink>,
    rows: std::vec::IntoIter<Row>,
    last_key: String,
    read: Option<Vec<ReadPart>>,
}

/// A part that was read, for a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadPart {
    pub(crate) name: String,
    pub(crate) header: PartHeader,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl PassRows {
    /// Reads nothing yet. Parts wholly outside `range` are never unpacked.
    #[must_use]
    pub fn open(store: Arc<dyn ReportStore>, mut shards: Vec<ShardParts>, range: KeyRange) -> Self {
        shards.retain(|shard| shard.range.overlaps(&range));
        shards.sort_by(|a, b| a.range.start.cmp(&b.range.start));
        Self {
            store,
            range,
            shards: shards.into_iter(),
            parts: Vec::new().into_iter(),
            rows: Vec::new().into_iter(),
            last_key: String::new(),
            read: None,
        }
    }

    /// The next row.
    ///
    /// # Errors
    /// When a part is missing or damaged, a chain is broken, or rows are not in key order.
    pub async fn next(&mut self) -> Result<Option<Row>, ReportError> {
        loop {
            for row in self.rows.by_ref() {
                if self.range.contains(&row.key) {
                    if row.key < self.last_key {
                        return Err(ReportError::damaged(
                            "parts",
                            format!("a row is out of order in {:?}", self.range),
                        ));
                    }
                    self.last_key.clone_from(&row.key);
                    return Ok(Some(row));
                }
            }
            if !self.next_part().await? {
                return Ok(None);
            }
        }
    }

    /// Goes on to the rows of the next part; `false` behind the last.
    async fn next_part(&mut self) -> Result<bool, ReportError> {
        loop {
            while let Some(link) = self.parts.next() {
                if !self.is_wanted(&link.header) {
                    continue;
                }
                let bytes = self.store.get(&link.name).await?;
                let (header, rows) =
                    decode(&bytes).map_err(|source| ReportError::Part { name: link.name.clone(), source })?;
                if let Some(read) = &mut self.read {
                    let (sha256, bytes) = (crate::finish::sha256(&bytes), bytes.len() as u64);
                    read.push(ReadPart { name: link.name, header, bytes, sha256 });
                }
                self.rows = rows.into_iter();
                return Ok(true);
            }
            let Some(shard) = self.shards.next() else { return Ok(false) };
            self.parts = chain(&*self.store, shard.last_part.as_deref()).await?.into_iter();
        }
    }

    fn is_wanted(&self, header: &PartHeader) -> bool {
        let start = (false, self.range.start.as_str(), false);
        place(&header.to) > start && place(&header.from) < place(&self.range.end_position())
    }
}

/// The last rows of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRows {
    /// The key.
    pub key: String,
    /// One row per version before, each from the last pass that had one, in the order in which the first pass that
    /// had it listed them.
    pub rows: Vec<LastRow>,
}

/// A row and the pass that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRow {
    /// The pass.
    pub pass: PassId,
    /// The row.
    pub row: Row,
}

/// The last row of every (key, version before) over several passes, in key order.
#[derive(Debug)]
pub struct LastRows {
    store: Arc<dyn ReportStore>,
    passes: Vec<(PassId, Vec<ShardParts>)>,
    range: KeyRange,
    filter: Option<fn(Outcome) -> bool>,
    /// In the order of the passes.
    heads: Vec<Head>,
    /// Rows of this key up to and with this version are left out.
    after: Option<(String, Option<String>)>,
}

/// A pass and its next row.
#[derive(Debug)]
struct Head {
    pass: PassId,
    rows: PassRows,
    next: Option<Row>,
    begun: bool,
}

impl LastRows {
    /// Merges the passes, later ones win. Reads nothing yet.
    #[must_use]
    pub fn open(store: Arc<dyn ReportStore>, mut passes: Vec<(PassId, Vec<ShardParts>)>, range: KeyRange) -> Self {
        passes.sort_by_key(|(pass, _)| *pass);
        let mut rows = Self { store, passes, range, filter: None, heads: Vec::new(), after: None };
        rows.heads = rows.heads_from(rows.range.start.clone());
        rows
    }

    /// Gives only last rows with such an outcome: for a retry pass, [`Outcome::wants_retry`].
    #[must_use]
    pub fn filtered(mut self, wanted: fn(Outcome) -> bool) -> Self {
        self.filter = Some(wanted);
        self
    }

    /// Goes on behind `position`. Where it stands behind a version that has no row, with all rows of its key.
    pub fn seek(&mut self, position: &Position) {
        let key = position.key().map(str::to_owned);
        self.after = match position {
            Position::After(key, version) => Some((key.clone(), version.clone())),
            Position::Before(_) | Position::End => None,
        };
        self.heads = match key {
            Some(key) => self.heads_from(key.max(self.range.start.clone())),
            None => Vec::new(),
        };
    }

    /// The next key that has rows.
    ///
    /// # Errors
    /// As [`PassRows::next`].
    pub async fn next_key(&mut self) -> Result<Option<KeyRows>, ReportError> {
        loop {
            let Some(mut found) = self.merge_next().await? else { return Ok(None) };
            if let Some((key, version)) = self.after.take_if(|(key, _)| *key == found.key) {
                debug_assert_eq!(key, found.key);
                let covered = found.rows.iter().position(|last| last.row.version == version);
                found.rows.drain(..covered.map_or(0, |i| i + 1));
            }
            if let Some(wanted) = self.filter {
                found.rows.retain(|last| wanted(last.row.outcome));
            }
            if !found.rows.is_empty() {
                return Ok(Some(found));
            }
        }
    }

    /// Notes every part that is read, for a manifest.
    pub(crate) fn note_parts(&mut self) {
        self.heads.iter_mut().for_each(|head| head.rows.read = Some(Vec::new()));
    }

    /// The parts read since the last call.
    pub(crate) fn take_parts(&mut self) -> Vec<ReadPart> {
        self.heads.iter_mut().filter_map(|head| head.rows.read.as_mut()).flat_map(std::mem::take).collect()
    }

    fn heads_from(&self, start: String) -> Vec<Head> {
        let range = KeyRange { start, end: self.range.end.clone() };
        let open = |(pass, shards): &(PassId, Vec<ShardParts>)| Head {
            pass: *pass,
            rows: PassRows::open(Arc::clone(&self.store), shards.clone(), range.clone()),
            next: None,
            begun: false,
        };
        self.passes.iter().map(open).collect()
    }

    /// All last rows of the next key.
    async fn merge_next(&mut self) -> Result<Option<KeyRows>, ReportError> {
        for head in self.heads.iter_mut().filter(|head| !head.begun) {
            head.next = head.rows.next().await?;
            head.begun = true;
        }
        let Some(key) = self.heads.iter().filter_map(|head| head.next.as_ref()).map(|row| &row.key).min().cloned()
        else {
            return Ok(None);
        };
        let mut rows: Vec<LastRow> = Vec::new();
        let mut at: HashMap<Option<String>, usize> = HashMap::new();
        for head in &mut self.heads {
            while let Some(row) = head.next.take_if(|row| row.key == key) {
                let last = LastRow { pass: head.pass, row };
                match at.get(&last.row.version) {
                    Some(i) => rows[*i] = last,
                    None => {
                        at.insert(last.row.version.clone(), rows.len());
                        rows.push(last);
                    }
                }
                head.next = head.rows.next().await?;
            }
        }
        Ok(Some(KeyRows { key, rows }))
    }
}

#[cfg(test)]
mod tests;
