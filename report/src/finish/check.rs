//! Verifies a report by itself: hashes, sums and chains, without the store or the checkpoint.

use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;
use keyrotate_proto::outcome::{Counts, Outcome};
use serde::de::DeserializeOwned;

use super::files::{FileEntry, MANIFEST_VERSION, Manifest};
use super::summary::{SUMMARY_VERSION, Summary};
use crate::chain::chain;
use crate::{FolderStore, ReportError, ReportStore};

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Rows of the report.
    pub rows: u64,
    /// Files of the report.
    pub files: u64,
    /// Parts that it was made of.
    pub parts: u64,
}

/// [`check`] of a folder, such as one that was downloaded.
///
/// # Errors
/// As [`check`].
pub async fn check_folder(dir: &Path) -> Result<Checked, ReportError> {
    if !dir.is_dir() {
        return Err(ReportError::NotFound(dir.display().to_string()));
    }
    let store: Arc<dyn ReportStore> = Arc::new(FolderStore::open(dir)?);
    check(&store, "").await
}

/// Verifies the report below `under` (see [`super::FinishInput::under`]): every file and part has the size, the rows
/// and the hash that the manifest says, the rows add up to the summary, every chain is whole and has no other parts.
///
/// # Errors
/// The first thing that is not as it should be, by name.
pub async fn check(store: &Arc<dyn ReportStore>, under: &str) -> Result<Checked, ReportError> {
    let name = format!("{under}manifest.json");
    let manifest: Manifest = json(&name, &store.get(&name).await?)?;
    is_known(&name, manifest.version, MANIFEST_VERSION)?;
    let summary: Summary = json(&manifest.summary.name, &fetch(store, &manifest.summary).await?)?;
    is_known(&manifest.summary.name, summary.version, SUMMARY_VERSION)?;
    let rows = check_rows(store, &manifest, &summary).await?;
    let parts = check_parts(store, &manifest).await?;
    Ok(Checked { rows, files: manifest.report.len() as u64, parts })
}

async fn check_rows(store: &Arc<dyn ReportStore>, manifest: &Manifest, summary: &Summary) -> Result<u64, ReportError> {
    let mut counts = Counts::default();
    let mut last_key = String::new();
    for file in &manifest.report {
        let table = Table::of(file, fetch(store, file).await?);
        table.each(|record| {
            let at = |i: usize| record.get(i).unwrap_or_default();
            let outcome = Outcome::parse(at(5), at(6)).ok_or("a row has an unknown outcome")?;
            *counts.by_outcome.entry(outcome).or_default() += 1;
            if at(1) < last_key.as_str() {
                return Err("a row is out of order".to_owned());
            }
            last_key.clear();
            last_key.push_str(at(1));
            Ok(())
        })?;
    }
    if counts.by_outcome != summary.counts.by_outcome || counts.scanned() != summary.scanned {
        return Err(ReportError::damaged(&manifest.summary.name, "it counts other rows than the report has"));
    }
    Ok(counts.scanned())
}

async fn check_parts(store: &Arc<dyn ReportStore>, manifest: &Manifest) -> Result<u64, ReportError> {
    let mut listed = 0;
    for file in &manifest.parts {
        let mut parts = Vec::new();
        Table::of(file, fetch(store, file).await?).each(|record| {
            let [name, bytes, rows, sha256] = [0, 1, 2, 3].map(|i| record.get(i).unwrap_or_default().to_owned());
            let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
            parts.push(FileEntry { name, bytes: number(&bytes)?, rows: number(&rows)?, sha256 });
            Ok(())
        })?;
        for part in &parts {
            fetch(store, part).await?;
        }
        listed += parts.len() as u64;
    }
    let mut reached = 0;
    for head in &manifest.chains {
        reached += chain(&**store, head.last_part.as_deref()).await?.len() as u64;
    }
    if reached == listed {
        return Ok(listed);
    }
    let what = format!("it lists {listed} parts and its chains have {reached}");
    Err(ReportError::damaged("manifest.json", what))
}

/// Reads a file and compares it with its entry.
async fn fetch(store: &Arc<dyn ReportStore>, entry: &FileEntry) -> Result<Vec<u8>, ReportError> {
    let bytes = store.get(&entry.name).await?;
    if FileEntry::of(&entry.name, &bytes, entry.rows) == *entry {
        return Ok(bytes);
    }
    Err(ReportError::damaged(&entry.name, "its size or hash is not what the manifest says"))
}

/// A packed CSV file.
struct Table<'a> {
    entry: &'a FileEntry,
    bytes: Vec<u8>,
}

impl<'a> Table<'a> {
    fn of(entry: &'a FileEntry, bytes: Vec<u8>) -> Self {
        Self { entry, bytes }
    }

    /// Calls `row` for every row, and compares their number with the entry.
    fn each(self, mut row: impl FnMut(&csv::StringRecord) -> Result<(), String>) -> Result<(), ReportError> {
        let name = &self.entry.name;
        let mut rows = 0;
        for record in csv::Reader::from_reader(GzDecoder::new(self.bytes.as_slice())).records() {
            row(&record.map_err(|e| ReportError::damaged(name, e))?).map_err(|e| ReportError::damaged(name, e))?;
            rows += 1;
        }
        if rows == self.entry.rows {
            return Ok(());
        }
        Err(ReportError::damaged(name, format!("it has {rows} rows, the manifest says {}", self.entry.rows)))
    }
}

fn json<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ReportError> {
    serde_json::from_slice(bytes).map_err(|e| ReportError::damaged(name, e))
}

fn is_known(name: &str, version: u32, newest: u32) -> Result<(), ReportError> {
    if version <= newest {
        return Ok(());
    }
    Err(ReportError::damaged(name, format!("it has version {version}, this keyrotate reads up to {newest}")))
}
