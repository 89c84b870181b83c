//! A shard's books: which part comes next in its chain, and the sums so far. A window's rows become a part, the part
//! is stored, then one commit names it; in this order, so that a part is true whether or not its commit was seen.

use std::sync::Arc;

use keyrotate_checkpoint::Commit;
use keyrotate_checkpoint::record::ShardRecord;
use keyrotate_proto::id::{Epoch, ShardRef};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::part::{self, PART_VERSION, PartHeader};
use keyrotate_proto::position::Position;
use keyrotate_proto::row::Row;
use keyrotate_report::{ReportError, ReportStore};

/// The chain of one shard as far as its holder has written it.
#[derive(Debug)]
pub(crate) struct Books {
    reports: Arc<dyn ReportStore>,
    bucket: String,
    shard: ShardRef,
    epoch: Epoch,
    parts: u64,
    previous: Option<String>,
    from: Position,
    counts: Counts,
    replaced: Counts,
}

impl Books {
    /// Goes on where the shard's record stands.
    pub(crate) fn open(reports: Arc<dyn ReportStore>, bucket: String, record: &ShardRecord) -> Self {
        Self {
            reports,
            bucket,
            shard: record.shard.clone(),
            epoch: record.epoch.clone(),
            parts: record.parts,
            previous: record.last_part.clone(),
            from: record.cursor.clone(),
            counts: record.counts.clone(),
            replaced: record.replaced.clone(),
        }
    }

    /// The bucket that the rows are of.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Writes a window's rows as the next part and gives the commit that names it. A window without rows that does
    /// not end the shard gets no part of its own: the next one's interval covers it.
    pub(crate) async fn enter(
        &mut self,
        to: Position,
        rows: &[Row],
        replaced: &Counts,
        last: bool,
    ) -> Result<Commit, ReportError> {
        let mut counts = Counts::default();
        rows.iter().for_each(|row| row.count_into(&mut counts));
        if last || !rows.is_empty() {
            self.write_part(to.clone(), rows, counts.clone(), replaced.clone()).await?;
        }
        self.counts.add(&counts);
        self.replaced.add(replaced);
        Ok(Commit {
            cursor: to.clone(),
            counts: self.counts.clone(),
            replaced: self.replaced.clone(),
            last_part: self.previous.clone(),
            parts: self.parts,
            uploads: Vec::new(),
            listed_to: to,
            split_at: None,
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
            epoch: self.epoch.clone(),
            number: self.parts,
            from: self.from.clone(),
            to: to.clone(),
            counts,
            replaced,
            previous: self.previous.clone(),
            bucket: self.bucket.clone(),
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
