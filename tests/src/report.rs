//! A job's report, read as a user's script would: JSON and CSV, without keyrotate's own types.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

/// A row of the CSV by the names of its columns.
pub type Row = BTreeMap<String, String>;

/// Summary and rows.
#[derive(Clone, Debug)]
pub struct Report {
    /// `summary.json`.
    pub summary: Value,
    /// All rows, in the order of the files.
    pub rows: Vec<Row>,
}

impl Report {
    /// Reads the report of a job below a state folder.
    ///
    /// # Panics
    /// When it is not there or can't be read.
    #[must_use]
    #[track_caller]
    pub fn read(state: &Path, job: &str) -> Self {
        let folder = find(state, job).unwrap_or_else(|| panic!("no folder of job {job} below {}", state.display()));
        let end = folder.join(under(&folder));
        let text = std::fs::read(end.join("summary.json")).expect("the report has a summary");
        let summary = serde_json::from_slice(&text).expect("the summary is JSON");
        let mut files: Vec<PathBuf> = entries(&end.join("report"));
        // Beside the rows lie the lists of the parts that they come from.
        let is_rows = |name: &str| name.ends_with(".csv.gz") && !name.starts_with("parts-");
        files.retain(|path| path.file_name().is_some_and(|name| is_rows(&name.to_string_lossy())));
        files.sort();
        Self { summary, rows: files.iter().flat_map(|path| rows(path)).collect() }
    }

    /// All rows but those of delete markers, which have no content.
    pub fn contents(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row["reason"] != "delete-marker")
    }

    /// A number of the summary, by the names on the way to it; 0 where there is none.
    #[must_use]
    pub fn number(&self, pointer: &str) -> u64 {
        self.summary.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
    }

    /// How many versions had that outcome, whatever the reason.
    #[must_use]
    pub fn count(&self, word: &str) -> u64 {
        let of_word = self.by_outcome().into_iter().filter(|(name, _)| name.split('/').next() == Some(word));
        of_word.map(|(_, n)| n).sum()
    }

    /// `outcome/reason` and how many.
    #[must_use]
    pub fn by_outcome(&self) -> BTreeMap<String, u64> {
        let counts = self.summary.pointer("/counts/by_outcome").and_then(Value::as_object);
        let pairs = counts.into_iter().flatten();
        pairs.map(|(name, n)| (name.clone(), n.as_u64().unwrap_or(0))).collect()
    }

    /// The rows of a key.
    pub fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row["key"] == key)
    }

    /// `outcome/reason` of the only row of a key.
    ///
    /// # Panics
    /// When there is none or more than one.
    #[must_use]
    #[track_caller]
    pub fn outcome(&self, key: &str) -> String {
        let rows: Vec<_> = self.of(key).collect();
        assert_eq!(rows.len(), 1, "rows of {key}: {rows:?}");
        outcome(rows[0])
    }
}

/// `outcome/reason` of a row, without `/` where there is no reason.
#[must_use]
pub fn outcome(row: &Row) -> String {
    let name = format!("{}/{}", row["outcome"], row["reason"]);
    name.trim_end_matches('/').to_owned()
}

/// A version id as snapshots have it.
#[must_use]
pub fn plain(id: &str) -> &str {
    if id == "null" { "" } else { id }
}

/// The folder of a job: `STATE/STORE/BUCKET/jobs/JOB`.
#[must_use]
pub fn find(state: &Path, job: &str) -> Option<PathBuf> {
    let buckets = entries(state).into_iter().flat_map(|store| entries(&store));
    buckets.map(|bucket| bucket.join("jobs").join(job)).find(|folder| folder.is_dir())
}

/// Below what name in a job's folder its valid end lies, as its last record says: one of a fleet is written by a leader, and
/// one that was lost amid it may have left a part of another.
#[must_use]
pub fn under(folder: &Path) -> String {
    let record = std::fs::read(folder.join("job.json")).unwrap_or_default();
    let record: Value = serde_json::from_slice(&record).unwrap_or_default();
    let summary = record.pointer("/result/report").and_then(Value::as_str).unwrap_or_default();
    summary.strip_suffix("summary.json").unwrap_or_default().to_owned()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn rows(path: &Path) -> Vec<Row> {
    let mut text = Vec::new();
    let packed = std::fs::read(path).expect("the report's files can be read");
    MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut text).expect("the report's files are gzip");
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let rows = reader.deserialize::<Row>();
    rows.map(|row| row.expect("the report's files are CSV")).collect()
}
