//! A manifest as it lies in the report store: segments in the order of the keys, and an index of their first keys.
//!
//! A segment is packed CSV, `key,version` in each row, and some MiB of it: whoever looks for a key reads the index and one
//! segment.

use std::io::Read as _;
use std::sync::Arc;

use csv::{ReaderBuilder, Writer};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use keyrotate_report::{ReportError, ReportStore};
use serde::{Deserialize, Serialize};

use crate::Named;

/// Version of [`Index`] that this code writes.
pub(crate) const INDEX_VERSION: u32 = 1;

/// Everything of a manifest lies below.
pub(crate) const FOLDER: &str = "manifest/";

/// Written last: what it names is whole.
pub(crate) const INDEX: &str = "manifest/index.json";

/// What of a manifest is not in it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Rows whose keys the job's prefix leaves out.
    pub outside: u64,
    /// Rows that say what another one says.
    pub duplicates: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// [`INDEX_VERSION`] of the writer.
    pub(crate) version: u32,
    pub(crate) left: Left,
    pub(crate) segments: Vec<Segment>,
}

/// One file of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) first: String,
    pub(crate) rows: u64,
}

/// A manifest in the order of its keys.
#[derive(Clone, Debug)]
pub struct Sorted {
    store: Arc<dyn ReportStore>,
    index: Arc<Index>,
}

impl Sorted {
    /// The one that was brought into a job's report store; `None` where none was, or not to its end.
    ///
    /// # Errors
    /// When the store can't be read, or the index is damaged or of a newer version.
    pub async fn open(store: Arc<dyn ReportStore>) -> Result<Option<Self>, ReportError> {
        let bytes = match store.get(INDEX).await {
            Ok(bytes) => bytes,
            Err(ReportError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| ReportError::damaged(INDEX, e))?;
        if index.version > INDEX_VERSION {
            let what = format!("version {}, this one knows {INDEX_VERSION}", index.version);
            return Err(ReportError::damaged(INDEX, what));
        }
        Ok(Some(Self { store, index: Arc::new(index) }))
    }

    /// How many objects it names.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.index.segments.iter().map(|segment| segment.rows).sum()
    }

    /// What of the manifest was left out.
    #[must_use]
    pub fn left(&self) -> Left {
        self.index.left
    }

    /// Its rows from a key on, that key with them. Reads nothing yet.
    #[must_use]
    pub fn rows_from(&self, key: &str) -> Rows {
        let segments = &self.index.segments;
        // A key may begin in the segment before the one that begins with it.
        let begin = segments.partition_point(|segment| segment.first.as_str() < key).saturating_sub(1);
        Rows::of(Arc::clone(&self.store), segments[begin..].to_vec(), key.to_owned())
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.index.segments
    }
}

/// What a manifest names of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub key: String,
    /// Its versions, sorted; `None` is the current one.
    pub versions: Vec<Option<String>>,
}

/// Rows in order, a segment of them in memory.
#[derive(Debug)]
pub struct Rows {
    store: Arc<dyn ReportStore>,
    segments: std::vec::IntoIter<Segment>,
    rows: std::vec::IntoIter<Named>,
    from: String,
    next: Option<Named>,
}

impl Rows {
    pub(crate) fn of(store: Arc<dyn ReportStore>, segments: Vec<Segment>, from: String) -> Self {
        Self { store, segments: segments.into_iter(), rows: Vec::new().into_iter(), from, next: None }
    }

    /// The next key; `None` behind the last.
    ///
    /// # Errors
    /// When a segment is missing or damaged.
    pub async fn next_key(&mut self) -> Result<Option<Key>, ReportError> {
        let first = match self.next.take() {
            Some(named) => named,
            None => match self.next().await? {
                Some(named) => named,
                None => return Ok(None),
            },
        };
        let mut found = Key { key: first.key, versions: vec![first.version] };
        while let Some(named) = self.next().await? {
            if named.key != found.key {
                self.next = Some(named);
                break;
            }
            found.versions.push(named.version);
        }
        Ok(Some(found))
    }

    /// The next row.
    pub(crate) async fn next(&mut self) -> Result<Option<Named>, ReportError> {
        loop {
            let next = self.rows.by_ref().find(|named| named.key >= self.from);
            if next.is_some() {
                return Ok(next);
            }
            let Some(segment) = self.segments.next() else { return Ok(None) };
            let packed = self.store.get(&segment.name).await?;
            self.rows = unpack(&segment, &packed)?.into_iter();
        }
    }
}

fn unpack(segment: &Segment, packed: &[u8]) -> Result<Vec<Named>, ReportError> {
    let damaged = |what: &dyn std::fmt::Display| ReportError::damaged(&segment.name, what);
    let mut text = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut text).map_err(|e| damaged(&e))?;
    let mut rows = ReaderBuilder::new().has_headers(false).from_reader(text.as_slice());
    let rows: Result<Vec<Named>, _> = rows.deserialize().collect();
    let rows = rows.map_err(|e| damaged(&e))?;
    if rows.len() as u64 != segment.rows {
        return Err(damaged(&format!("{} rows, the index says {}", rows.len(), segment.rows)));
    }
    Ok(rows)
}

/// Bytes of a segment that is not stored yet.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) first: String,
    pub(crate) rows: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Packs sorted rows into segments.
pub(crate) struct Packer {
    limit: usize,
    open: Option<Open>,
}

struct Open {
    first: String,
    rows: u64,
    size: usize,
    csv: Writer<GzEncoder<Vec<u8>>>,
}

impl Packer {
    /// Segments of about so many bytes before they are packed.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, open: None }
    }

    /// Adds a row; gives the segment that is full with it.
    #[expect(clippy::expect_used, reason = "two fields of text are always CSV, and memory takes what is written")]
    pub(crate) fn push(&mut self, named: &Named) -> Option<Packed> {
        let open = self.open.get_or_insert_with(|| Open {
            first: named.key.clone(),
            rows: 0,
            size: 0,
            csv: Writer::from_writer(GzEncoder::new(Vec::new(), Compression::fast())),
        });
        let fields = [named.key.as_str(), named.version.as_deref().unwrap_or_default()];
        open.csv.write_record(fields).expect("text is CSV");
        open.rows += 1;
        open.size += fields.iter().map(|field| field.len() + 1).sum::<usize>();
        if open.size >= self.limit { self.end() } else { None }
    }

    /// The segment that is not full.
    #[expect(clippy::expect_used, reason = "memory takes what is written")]
    pub(crate) fn end(&mut self) -> Option<Packed> {
        let open = self.open.take()?;
        let gzip = open.csv.into_inner().expect("memory takes it");
        let bytes = gzip.finish().expect("memory takes it");
        Some(Packed { first: open.first, rows: open.rows, bytes })
    }
}
