//! Files of a report: CSV in pieces of bounded size, and the manifest that names them.

use std::sync::Arc;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use keyrotate_proto::id::{JobId, PassId};
use keyrotate_proto::position::KeyRange;
use serde::{Deserialize, Serialize};

use crate::chain::ShardParts;
use crate::{ReportError, ReportStore};

/// Version of [`Manifest`] that this code writes.
pub const MANIFEST_VERSION: u32 = 1;

/// What belongs to a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`MANIFEST_VERSION`] of the writer.
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// The summary.
    pub summary: FileEntry,
    /// The files of last rows, in key order.
    pub report: Vec<FileEntry>,
    /// The files that list all parts with bytes, rows and hash.
    pub parts: Vec<FileEntry>,
    /// The newest part of every shard.
    pub chains: Vec<ChainHead>,
}

impl Manifest {
    /// The one beside a summary, by the summary's name.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn read(store: &dyn ReportStore, summary: &str) -> Result<Self, ReportError> {
        let name = Self::name_beside(summary);
        serde_json::from_slice(&store.get(&name).await?).map_err(|e| ReportError::damaged(&name, e))
    }

    /// Its name, by that of the summary beside it.
    #[must_use]
    pub fn name_beside(summary: &str) -> String {
        let folder = summary.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
        format!("{folder}manifest.json")
    }

    /// All passes with rows.
    #[must_use]
    pub fn passes(&self) -> Vec<(PassId, Vec<ShardParts>)> {
        let mut passes: Vec<(PassId, Vec<ShardParts>)> = Vec::new();
        for chain in &self.chains {
            let parts = ShardParts { range: chain.range.clone(), last_part: chain.last_part.clone() };
            match passes.iter_mut().find(|(pass, _)| *pass == chain.pass) {
                Some((_, shards)) => shards.push(parts),
                None => passes.push((chain.pass, vec![parts])),
            }
        }
        passes
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the job's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its rows, the heading left out; 0 for a file that is no table.
    pub rows: u64,
    /// Lower-case hex SHA-256 of the file.
    pub sha256: String,
}

impl FileEntry {
    /// Of a file's bytes.
    #[must_use]
    pub fn of(name: &str, bytes: &[u8], rows: u64) -> Self {
        Self { name: name.to_owned(), bytes: bytes.len() as u64, rows, sha256: super::sha256(bytes) }
    }
}

/// Where the parts of a shard are found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainHead {
    /// The pass.
    pub pass: PassId,
    /// The shard's range.
    pub range: KeyRange,
    /// Its newest part; `None` where it has none.
    pub last_part: Option<String>,
}

/// Writes a table as files of bounded size, one of them in memory, packed.
pub(super) struct Rolling<'a> {
    store: &'a Arc<dyn ReportStore>,
    beginning: String,
    columns: &'static [&'static str],
    rows_per_file: u64,
    open: Option<csv::Writer<GzEncoder<Vec<u8>>>>,
    rows: u64,
    done: Vec<FileEntry>,
}

impl<'a> Rolling<'a> {
    /// Files named `beginning` + a number from 00001 + `.csv.gz`.
    pub(super) fn new(
        store: &'a Arc<dyn ReportStore>,
        beginning: String,
        columns: &'static [&'static str],
        rows_per_file: u64,
    ) -> Self {
        Self { store, beginning, columns, rows_per_file, open: None, rows: 0, done: Vec::new() }
    }

    pub(super) async fn write<S: AsRef<[u8]>>(&mut self, fields: &[S]) -> Result<(), ReportError> {
        let failed = |e: csv::Error| ReportError::damaged(&self.beginning, e);
        let writer = match &mut self.open {
            Some(writer) => writer,
            none => {
                let mut writer = csv::Writer::from_writer(GzBuilder::new().write(Vec::new(), Compression::fast()));
                writer.write_record(self.columns).map_err(failed)?;
                none.insert(writer)
            }
        };
        writer.write_record(fields).map_err(failed)?;
        self.rows += 1;
        if self.rows == self.rows_per_file { self.roll().await } else { Ok(()) }
    }

    /// All files written.
    pub(super) async fn end(mut self) -> Result<Vec<FileEntry>, ReportError> {
        self.roll().await?;
        Ok(self.done)
    }

    async fn roll(&mut self) -> Result<(), ReportError> {
        let Some(writer) = self.open.take() else { return Ok(()) };
        let name = format!("{}{:05}.csv.gz", self.beginning, self.done.len() + 1);
        let gzip = writer.into_inner().map_err(|e| ReportError::damaged(&name, e))?;
        let bytes = gzip.finish().map_err(|e| ReportError::damaged(&name, e))?;
        self.done.push(FileEntry::of(&name, &bytes, self.rows));
        self.rows = 0;
        self.store.put(&name, bytes).await
    }
}

/// Writes JSON for people and machines.
pub(super) async fn put_json(
    store: &Arc<dyn ReportStore>,
    name: &str,
    value: &impl Serialize,
) -> Result<FileEntry, ReportError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| ReportError::damaged(name, e))?;
    bytes.push(b'\n');
    let entry = FileEntry::of(name, &bytes, 0);
    store.put(name, bytes).await?;
    Ok(entry)
}
