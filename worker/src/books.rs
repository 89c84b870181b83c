//! A shard's books: which part comes next in its chain, and the sums so far. A window's rows become a part, the part
//! is stored, then one commit names it; in this order, so that a part is true whether or not its commit was seen.

use std::sync::Arc;

use jiff::Timestamp;
use keyrotate_checkpoint::Commit;
use keyrotate_checkpoint::record::ShardRecord;
use keyrotate_env::Env;
use keyrotate_proto::id::{Epoch, ShardRef};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::part::{self, PART_VERSION, PartHeader};
use keyrotate_proto::position::Position;
use keyrotate_proto::row::Row;
use keyrotate_proto::state::PassKind;
use keyrotate_report::chain::read_header;
use keyrotate_report::{ReportError, ReportStore};

use crate::listed::Listed;

/// The chain of one shard as far as its holder has written it.
#[derive(Debug)]
pub(crate) struct Books {
    reports: Arc<dyn ReportStore>,
    bucket: String,
    shard: ShardRef,
    kind: PassKind,
    epoch: Epoch,
    parts: u64,
    previous: Option<String>,
    from: Position,
    counts: Counts,
    replaced: Counts,
    listed: Listed,
    env: Env,
}

impl Books {
    /// Goes on where the shard's record stands. The next part begins where the last one ends, which may lie before the
    /// cursor: windows without rows have no part. `with_row`: entries of the cursor's key that the shard has a row of.
    ///
    /// # Errors
    /// When the last part can't be read.
    pub(crate) async fn open(
        reports: Arc<dyn ReportStore>,
        bucket: String,
        record: &ShardRecord,
        kind: PassKind,
        with_row: u64,
        env: Env,
    ) -> Result<Self, ReportError> {
        let from = match &record.last_part {
            Some(name) => read_header(reports.as_ref(), name).await?.to,
            None => Position::Before(record.range.start.clone()),
        };
        Ok(Self {
            reports,
            bucket,
            shard: record.shard.clone(),
            kind,
            epoch: record.epoch.clone(),
            parts: record.parts,
            previous: record.last_part.clone(),
            from,
            counts: record.counts.clone(),
            replaced: record.replaced.clone(),
            listed: Listed::open(record.listed, &record.cursor, with_row),
            env,
        })
    }

    /// The bucket that the rows are of.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Counts an entry of the source that the next window will cover, by the position behind it.
    pub(crate) fn list(&mut self, entry: &Position) {
        self.listed.enter(entry);
    }

    /// Writes a window's rows as the next part and gives the commit that names it. A window without rows that does
    /// not end the shard gets no part of its own: the next one's interval covers it. Nor does one behind the shard's end,
    /// where a slice stopped between its last window and the end of the shard: the chain is whole.
    pub(crate) async fn enter(
        &mut self,
        to: Position,
        rows: &[Row],
        replaced: &Counts,
        last: bool,
    ) -> Result<Commit, ReportError> {
        let mut counts = Counts::default();
        rows.iter().for_each(|row| row.count_into(&mut counts));
        if last && self.from != to || !rows.is_empty() {
            self.write_part(to.clone(), rows, counts.clone(), replaced.clone()).await?;
        }
        self.counts.add(&counts);
        self.replaced.add(replaced);
        let listed = self.listed.at(&to);
        Ok(Commit {
            cursor: to,
            counts: self.counts.clone(),
            replaced: self.replaced.clone(),
            listed,
            last_part: self.previous.clone(),
            parts: self.parts,
        })
    }

    async fn write_part(
        &mut self,
        to: Position,
        rows: &[Row],
        counts: Counts,
        replaced: Counts,
    ) -> Result<(), ReportError> {
        let header = PartHeader {
            version: PART_VERSION,
            shard: self.shard.clone(),
            kind: Some(self.kind),
            epoch: self.epoch.clone(),
            number: self.parts,
            from: self.from.clone(),
            to: to.clone(),
            counts,
            replaced,
            listed: self.listed.at(&to),
            previous: self.previous.clone(),
            bucket: self.bucket.clone(),
            written: Timestamp::from_millisecond(self.env.now().as_millisecond()).ok(),
        };
        let name = header.name();
        let bytes = part::encode(&header, rows).map_err(|source| ReportError::Part { name: name.clone(), source })?;
        self.reports.put_new(&name, bytes).await?;
        self.parts += 1;
        self.previous = Some(name);
        self.from = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrotate_proto::id::{JobId, Nonce, PassId, ShardId};
    use keyrotate_proto::position::KeyRange;
    use keyrotate_report::MemoryStore;
    use keyrotate_report::chain::chain;

    /// `verifying` has windows in which everything agrees, and slices that end behind one.
    #[tokio::test]
    async fn a_chain_is_whole_also_where_leases_end_behind_windows_without_rows() {
        let reports: Arc<dyn ReportStore> = Arc::new(MemoryStore::default());
        let shard = ShardRef { job: JobId::new(1, [0; 10]), pass: PassId(3), shard: ShardId(0) };
        let range = KeyRange { start: "a".into(), end: None };
        let mut record = ShardRecord::new(shard, range, Nonce("n".into()));
        for (to, last) in [("b", false), ("c", true), ("d", false), ("e", false), ("f", true)] {
            record.epoch.counter += 1;
            let mut books =
                Books::open(Arc::clone(&reports), "bucket".into(), &record, PassKind::Verify, 0, Env::system())
                    .await
                    .unwrap();
            let to = Position::After(to.into(), None);
            let commit = books.enter(to, &[], &Counts::default(), last).await.unwrap();
            (record.cursor, record.parts, record.last_part) = (commit.cursor, commit.parts, commit.last_part);
        }
        let ends = |p: &Position| p.key().map(str::to_owned).unwrap_or_default();
        let links = chain(reports.as_ref(), record.last_part.as_deref()).await.unwrap();
        let intervals: Vec<_> = links.iter().map(|link| (ends(&link.header.from), ends(&link.header.to))).collect();
        assert_eq!(intervals, [("a".to_owned(), "c".to_owned()), ("c".to_owned(), "f".to_owned())]);
    }

    #[tokio::test]
    async fn a_chain_that_is_at_its_end_gets_no_further_part() {
        let reports: Arc<dyn ReportStore> = Arc::new(MemoryStore::default());
        let shard = ShardRef { job: JobId::new(1, [0; 10]), pass: PassId(3), shard: ShardId(0) };
        let range = KeyRange { start: "a".into(), end: None };
        let mut record = ShardRecord::new(shard, range, Nonce("n".into()));
        for _ in 0..2 {
            record.epoch.counter += 1;
            let mut books =
                Books::open(Arc::clone(&reports), "bucket".into(), &record, PassKind::Verify, 0, Env::system())
                    .await
                    .unwrap();
            let commit = books.enter(Position::End, &[], &Counts::default(), true).await.unwrap();
            (record.cursor, record.parts, record.last_part) = (commit.cursor, commit.parts, commit.last_part);
        }
        assert_eq!((record.parts, record.cursor), (1, Position::End));
        assert_eq!(chain(reports.as_ref(), record.last_part.as_deref()).await.unwrap().len(), 1);
    }
}
