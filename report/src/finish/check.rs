//! Verifies a report by itself: hashes, sums and chains, without the store or the checkpoint.

use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;
use keyrotate_proto::part::{decode, parse};
use keyrotate_proto::position::Position;
use keyrotate_proto::state::JobState;
use serde::de::DeserializeOwned;

use super::files::{ChainHead, FileEntry, MANIFEST_VERSION, Manifest};
use super::summary::{SUMMARY_VERSION, Summary};
use super::tally::Tally;
use crate::chain::{chain, place};
use crate::{FolderStore, ReportError, ReportStore};

/// More faults than these are not looked for.
const FAULTS: usize = 100;

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows of the report.
    pub rows: u64,
    /// Files of the report.
    pub files: u64,
    /// Parts that it was made of.
    pub parts: u64,
}

/// [`check_all`] of a folder, such as one that was downloaded: of every report in it, for a fleet whose leaders changed may
/// have written several. Nothing is written there.
///
/// # Errors
/// All that is not as it should be, by name; that there is no report.
pub async fn check_folder(dir: &Path) -> Result<Checked, Vec<ReportError>> {
    let store: Arc<dyn ReportStore> = Arc::new(FolderStore::existing(dir));
    let names = if dir.is_dir() { store.list("").await.map_err(|e| vec![e])? } else { Vec::new() };
    let under: Vec<_> = names.iter().filter_map(|name| name.strip_suffix("manifest.json")).collect();
    if under.is_empty() {
        return Err(vec![ReportError::NotFound(dir.join("manifest.json").display().to_string())]);
    }
    let (mut checked, mut faults) = (Checked::default(), Vec::new());
    for under in under {
        match check_all(&store, under).await {
            Ok(one) => {
                checked.rows += one.rows;
                checked.files += one.files;
                checked.parts += one.parts;
            }
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(checked) } else { Err(faults) }
}

/// [`check_all`], but the first fault alone.
///
/// # Errors
/// The first thing that is not as it should be, by name.
pub async fn check(store: &Arc<dyn ReportStore>, under: &str) -> Result<Checked, ReportError> {
    let first = |faults: Vec<ReportError>| faults.into_iter().next();
    check_all(store, under).await.map_err(|faults| first(faults).unwrap_or_else(|| ReportError::NotFound(under.into())))
}

/// Verifies the report below `under` (see [`super::FinishInput::under`]): every file and part has the size, the rows
/// and the hash that the manifest says; all sums of the summary are those of the rows; every part counts what it has; every
/// chain is whole and has no other parts.
///
/// # Errors
/// All that is not as it should be, by name; at most some hundred.
pub async fn check_all(store: &Arc<dyn ReportStore>, under: &str) -> Result<Checked, Vec<ReportError>> {
    let name = format!("{under}manifest.json");
    let manifest = manifest(store, &name).await.map_err(|e| vec![e])?;
    let mut checker = Checker { store, faults: Vec::new(), checked: Checked::default() };
    let summary = checker.summary(&manifest).await;
    checker.rows(&manifest, summary.as_ref()).await;
    let listed = checker.parts(&manifest).await;
    let is_completed = summary.is_some_and(|summary| summary.result == JobState::Completed);
    checker.chains(&manifest, listed, is_completed, &name).await;
    if checker.faults.is_empty() { Ok(checker.checked) } else { Err(checker.faults) }
}

async fn manifest(store: &Arc<dyn ReportStore>, name: &str) -> Result<Manifest, ReportError> {
    let manifest: Manifest = json(name, &store.get(name).await?)?;
    is_known(name, manifest.version, MANIFEST_VERSION)?;
    Ok(manifest)
}

/// A check that goes on behind a fault.
struct Checker<'a> {
    store: &'a Arc<dyn ReportStore>,
    faults: Vec<ReportError>,
    checked: Checked,
}

impl Checker<'_> {
    /// Notes what went wrong.
    fn note<T>(&mut self, result: Result<T, ReportError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                self.faults.push(fault);
                None
            }
        }
    }

    fn is_enough(&self) -> bool {
        self.faults.len() >= FAULTS
    }

    async fn summary(&mut self, manifest: &Manifest) -> Option<Summary> {
        let entry = &manifest.summary;
        let bytes = self.store.get(&entry.name).await;
        let bytes = self.note(bytes)?;
        // What it says is compared with the rows also where its hash is wrong.
        let fits = is_as_listed(entry, &bytes);
        self.note(fits);
        let summary: Option<Summary> = self.note(json(&entry.name, &bytes));
        summary.filter(|summary| self.note(is_known(&entry.name, summary.version, SUMMARY_VERSION)).is_some())
    }

    /// Adds all rows up anew, as the finisher did.
    async fn rows(&mut self, manifest: &Manifest, summary: Option<&Summary>) {
        let mut tally = Tally::new(summary.and_then(|summary| summary.target.clone()));
        let (mut last_key, before) = (String::new(), self.faults.len());
        for file in &manifest.report {
            let bytes = fetch(self.store, file).await;
            let Some(bytes) = self.note(bytes) else { continue };
            let read = each(file, &bytes, |record| {
                let row = parse(record)?;
                if row.key < last_key {
                    return Err("a row is out of order".to_owned());
                }
                tally.add(&row);
                last_key = row.key;
                Ok(())
            });
            self.note(read);
            self.checked.files += 1;
        }
        self.checked.rows = tally.counts.scanned();
        // Sums over rows that could not all be read say nothing.
        if let Some(summary) = summary.filter(|_| self.faults.len() == before) {
            for what in summary.differs_from(tally) {
                let what = format!("its {what} are not the sum of the rows in report/");
                self.faults.push(ReportError::damaged(&manifest.summary.name, what));
            }
        }
    }

    /// Reads every part once; gives how many are listed.
    async fn parts(&mut self, manifest: &Manifest) -> u64 {
        let mut listed = 0;
        for file in &manifest.parts {
            let bytes = fetch(self.store, file).await;
            let Some(bytes) = self.note(bytes) else { continue };
            let Some(parts) = self.note(listed_parts(file, &bytes)) else { continue };
            listed += parts.len() as u64;
            for part in parts {
                if self.is_enough() {
                    return listed;
                }
                let checked = check_part(self.store, &part).await;
                self.checked.parts += u64::from(self.note(checked).is_some());
            }
        }
        listed
    }

    async fn chains(&mut self, manifest: &Manifest, listed: u64, is_completed: bool, name: &str) {
        let (mut reached, before) = (0, self.faults.len());
        for head in &manifest.chains {
            if self.is_enough() {
                return;
            }
            let links = chain(&**self.store, head.last_part.as_deref()).await;
            let Some(links) = self.note(links) else { continue };
            reached += links.len() as u64;
            let ends = links.first().map(|link| &link.header.from).zip(links.last().map(|link| &link.header.to));
            if is_completed && let Some(ends) = ends {
                self.note(covers(head, ends));
            }
        }
        // A part that is missing was named already.
        if reached != listed && self.faults.len() == before {
            let what = format!("it lists {listed} parts and its chains have {reached}");
            self.faults.push(ReportError::damaged(name, what));
        }
    }
}

/// A chain of a completed job begins where its shard does, and ends where that ends.
fn covers(head: &ChainHead, (from, to): (&Position, &Position)) -> Result<(), ReportError> {
    let start = (false, head.range.start.as_str(), false);
    if place(from) <= start && place(to) >= place(&head.range.end_position()) {
        return Ok(());
    }
    let what = format!(
        "its chain does not cover the range of its shard, which begins at `{}`",
        head.range.start.escape_debug()
    );
    Err(ReportError::damaged(head.last_part.as_deref().unwrap_or("manifest.json"), what))
}

/// The parts that a file of parts lists.
///
/// # Errors
/// When it is no such file.
pub fn listed_parts(file: &FileEntry, bytes: &[u8]) -> Result<Vec<FileEntry>, ReportError> {
    let mut parts = Vec::new();
    each(file, bytes, |record| {
        let [name, bytes, rows, sha256] = [0, 1, 2, 3].map(|i| record.get(i).unwrap_or_default().to_owned());
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
        parts.push(FileEntry { name, bytes: number(&bytes)?, rows: number(&rows)?, sha256 });
        Ok(())
    })?;
    Ok(parts)
}

/// A part is the file that was listed, and has the rows that its header and its list count.
async fn check_part(store: &Arc<dyn ReportStore>, part: &FileEntry) -> Result<(), ReportError> {
    let bytes = fetch(store, part).await?;
    let (_, rows) = decode(&bytes).map_err(|source| ReportError::Part { name: part.name.clone(), source })?;
    if rows.len() as u64 == part.rows {
        return Ok(());
    }
    Err(ReportError::damaged(&part.name, format!("it has {} rows, its list says {}", rows.len(), part.rows)))
}

/// Reads a file and compares it with its entry.
async fn fetch(store: &Arc<dyn ReportStore>, entry: &FileEntry) -> Result<Vec<u8>, ReportError> {
    let bytes = store.get(&entry.name).await?;
    is_as_listed(entry, &bytes)?;
    Ok(bytes)
}

fn is_as_listed(entry: &FileEntry, bytes: &[u8]) -> Result<(), ReportError> {
    if FileEntry::of(&entry.name, bytes, entry.rows) == *entry {
        return Ok(());
    }
    Err(ReportError::damaged(&entry.name, "its size or hash is not what the manifest says"))
}

/// Calls `row` for every row of a packed table, and compares their number with the entry.
fn each(
    entry: &FileEntry,
    bytes: &[u8],
    mut row: impl FnMut(&csv::StringRecord) -> Result<(), String>,
) -> Result<(), ReportError> {
    let (name, mut rows) = (&entry.name, 0);
    for record in csv::Reader::from_reader(GzDecoder::new(bytes)).records() {
        row(&record.map_err(|e| ReportError::damaged(name, e))?).map_err(|e| ReportError::damaged(name, e))?;
        rows += 1;
    }
    if rows == entry.rows {
        return Ok(());
    }
    Err(ReportError::damaged(name, format!("it has {rows} rows, the manifest says {}", entry.rows)))
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
