//! Parts: the rows of one window in a file of their own, chained by name.
//!
//! A part is one gzip member. Its header is JSON in the gzip comment field, so that `zcat` prints clean CSV and the
//! header can be read without unpacking the rows. Names hold pass, shard, epoch and number, so no two workers ever
//! write the same name.

use std::io::{Read, Write};

use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{Epoch, PassId, ShardRef};
use crate::outcome::{Counts, Note, Outcome, Strategy};
use crate::position::Position;
use crate::row::{Row, Seal};
use crate::state::PassKind;

/// Version of [`PartHeader`] that this code writes.
pub const PART_VERSION: u32 = 1;

/// Columns of the CSV, in order.
pub const COLUMNS: [&str; 15] = [
    "bucket",
    "key",
    "version",
    "version_after",
    "size",
    "outcome",
    "reason",
    "strategy",
    "before",
    "after",
    "etag",
    "last_modified",
    "detail",
    "pass",
    "notes",
];

/// What a part covers, and the part before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHeader {
    /// [`PART_VERSION`] of the writer.
    pub version: u32,
    /// The shard.
    #[serde(flatten)]
    pub shard: ShardRef,
    /// What its pass does. `None` in parts of older writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PassKind>,
    /// The epoch it was written under.
    pub epoch: Epoch,
    /// Counts the parts of this shard from 0.
    pub number: u64,
    /// Where its interval begins: where the part before it ends, or before the shard's start.
    pub from: Position,
    /// Where its interval ends. Every entry of the source between `from` and `to` has a row here.
    pub to: Position,
    /// Sum of its rows.
    pub counts: Counts,
    /// Sum of the rows of earlier passes that its rows replace.
    pub replaced: Counts,
    /// Entries that the shard's source had shown up to `to`, from the shard's first on; those of a key that `to`
    /// stands inside of are left out, for it is listed again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub listed: u64,
    /// Name of the part before it; `None` for a shard's first.
    pub previous: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// When it was written, by its writer's clock: for pictures only. `None` in parts of older writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Timestamp>,
}

impl PartHeader {
    /// The name to store it under, relative to the job's folder.
    #[must_use]
    pub fn name(&self) -> String {
        part_name("parts", &self.shard, &self.epoch, self.number, "csv.gz")
    }
}

/// `KIND/PASS/SHARD/NONCE-COUNTER-NUMBER.SUFFIX`.
#[must_use]
pub fn part_name(kind: &str, shard: &ShardRef, epoch: &Epoch, number: u64, suffix: &str) -> String {
    format!("{kind}/{}/{}/{}-{:06}-{number:06}.{suffix}", shard.pass, shard.shard, epoch.nonce.0, epoch.counter)
}

/// A part could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// Not gzip, or cut short.
    #[error("the part is no whole gzip file")]
    Gzip(#[source] std::io::Error),
    /// No header in the gzip comment, or not one of ours.
    #[error("the part's header can't be read: {0}")]
    Header(String),
    /// Written by a newer keyrotate.
    #[error("the part has version {0}, this keyrotate reads up to {PART_VERSION}")]
    Version(u32),
    /// A row is not as [`COLUMNS`] says.
    #[error("row {row} of the part: {what}")]
    Row {
        /// Counted from 1, the heading left out.
        row: usize,
        /// What is wrong.
        what: String,
    },
    /// The header's counts are not the sum of its rows.
    #[error("the part's header counts other rows than it has")]
    Counts,
}

/// Packs rows and header into a part's bytes.
///
/// # Errors
/// [`PartError::Counts`] when the header does not sum up the rows.
pub fn encode(header: &PartHeader, rows: &[Row]) -> Result<Vec<u8>, PartError> {
    let mut counts = Counts::default();
    rows.iter().for_each(|row| row.count_into(&mut counts));
    if counts != header.counts {
        return Err(PartError::Counts);
    }
    let comment = ascii_json(header).map_err(|e| PartError::Header(e.to_string()))?;
    let gzip = GzBuilder::new().comment(comment).write(Vec::new(), Compression::fast());
    let mut csv = csv::Writer::from_writer(gzip);
    let failed = |e: csv::Error| PartError::Gzip(std::io::Error::other(e));
    csv.write_record(COLUMNS).map_err(failed)?;
    for row in rows {
        csv.write_record(fields(&header.bucket, header.shard.pass, row)).map_err(failed)?;
    }
    let mut gzip = csv.into_inner().map_err(|e| PartError::Gzip(std::io::Error::other(e.to_string())))?;
    gzip.flush().map_err(PartError::Gzip)?;
    gzip.finish().map_err(PartError::Gzip)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Reads only the header.
///
/// # Errors
/// When the bytes are no part, or of a newer version.
pub fn decode_header(bytes: &[u8]) -> Result<PartHeader, PartError> {
    let gzip = GzDecoder::new(bytes);
    let comment = gzip.header().and_then(|h| h.comment()).ok_or_else(|| PartError::Header("there is none".into()))?;
    let header: PartHeader = serde_json::from_slice(comment).map_err(|e| PartError::Header(e.to_string()))?;
    if header.version > PART_VERSION {
        return Err(PartError::Version(header.version));
    }
    Ok(header)
}

/// Reads header and rows, and checks that they agree.
///
/// # Errors
/// When the bytes are no whole part, or of a newer version, or the counts differ.
pub fn decode(bytes: &[u8]) -> Result<(PartHeader, Vec<Row>), PartError> {
    let header = decode_header(bytes)?;
    let mut text = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut text).map_err(PartError::Gzip)?;
    let mut rows = Vec::new();
    let mut counts = Counts::default();
    for (i, record) in csv::Reader::from_reader(text.as_slice()).records().enumerate() {
        let bad = |what: String| PartError::Row { row: i + 1, what };
        let row = parse(&record.map_err(|e| bad(e.to_string()))?).map_err(bad)?;
        row.count_into(&mut counts);
        rows.push(row);
    }
    if counts != header.counts {
        return Err(PartError::Counts);
    }
    Ok((header, rows))
}

/// JSON in ASCII: the gzip comment is Latin-1 and ends at a zero byte.
fn ascii_json(header: &PartHeader) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(header)?;
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(ascii)
}

/// A row as the fields of [`COLUMNS`].
#[must_use]
pub fn fields(bucket: &str, pass: PassId, row: &Row) -> [String; 15] {
    let text = |o: &Option<String>| o.clone().unwrap_or_default();
    [
        bucket.to_owned(),
        row.key.clone(),
        text(&row.version),
        text(&row.version_after),
        row.size.to_string(),
        row.outcome.word().to_owned(),
        row.outcome.reason().to_owned(),
        row.strategy.map(|s| s.as_str().to_owned()).unwrap_or_default(),
        row.before.to_string(),
        row.after.to_string(),
        row.etag.clone(),
        row.last_modified.to_string(),
        row.detail.clone(),
        pass.to_string(),
        row.notes.iter().map(|note| note.as_str()).collect::<Vec<_>>().join(" "),
    ]
}

/// A row of the fields of [`COLUMNS`].
///
/// # Errors
/// What is wrong with it.
pub fn parse(record: &csv::StringRecord) -> Result<Row, String> {
    let at = |i: usize| record.get(i).ok_or_else(|| format!("has no column `{}`", COLUMNS[i]));
    let optional = |i: usize| at(i).map(|s| (!s.is_empty()).then(|| s.to_owned()));
    let (word, reason) = (at(5)?, at(6)?);
    Ok(Row {
        key: at(1)?.to_owned(),
        version: optional(2)?,
        version_after: optional(3)?,
        size: at(4)?.parse().map_err(|_| "`size` is no number".to_owned())?,
        outcome: Outcome::parse(word, reason).ok_or_else(|| format!("unknown outcome `{word}/{reason}`"))?,
        strategy: match at(7)? {
            "" => None,
            name => Some(Strategy::parse(name).ok_or_else(|| format!("unknown strategy `{name}`"))?),
        },
        before: Seal::try_from(at(8)?.to_owned())?,
        after: Seal::try_from(at(9)?.to_owned())?,
        etag: at(10)?.to_owned(),
        last_modified: at(11)?.parse::<Timestamp>().map_err(|e| e.to_string())?,
        detail: at(12)?.to_owned(),
        // Parts of older writers have no such column.
        notes: record.get(14).unwrap_or_default().split_whitespace().map(note).collect::<Result<_, _>>()?,
    })
}

fn note(name: &str) -> Result<Note, String> {
    Note::parse(name).ok_or_else(|| format!("unknown note `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{JobId, Nonce, PassId, ShardId};
    use crate::key::KeyName;
    use crate::outcome::{Evidence, FailReason};
    use proptest::prelude::{Just, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::strategy::Strategy as Generator;

    fn row() -> impl Generator<Value = Row> {
        let outcome = prop_oneof![
            Just(Outcome::Rotated(Evidence::Key)),
            Just(Outcome::Current),
            Just(Outcome::Failed(FailReason::Store)),
        ];
        let version = || proptest::option::of("[a-z0-9]{1,5}");
        (".{1,20}", version(), version(), any::<u64>(), outcome, ".{0,9}", ".{0,20}", 0i64..4_000_000_000).prop_map(
            |(key, version, version_after, size, outcome, etag, detail, seconds)| Row {
                key,
                version,
                version_after,
                size: size % (1 << 50),
                outcome,
                strategy: Some(crate::outcome::Strategy::Copy),
                before: Seal::Plaintext,
                after: Seal::SseKms(KeyName("k:1".into())),
                etag,
                last_modified: Timestamp::from_second(seconds).unwrap(),
                detail,
                notes: if size % 3 == 0 { [Note::PartsLost, Note::ChecksumLost].into() } else { [].into() },
            },
        )
    }

    fn header(rows: &[Row], to: Position) -> PartHeader {
        let mut counts = Counts::default();
        rows.iter().for_each(|r| r.count_into(&mut counts));
        PartHeader {
            version: PART_VERSION,
            shard: ShardRef { job: JobId::new(1, [0; 10]), pass: PassId(1), shard: ShardId(2) },
            kind: None,
            epoch: Epoch { nonce: Nonce("ab12".into()), counter: 3 },
            number: 4,
            from: Position::Before(String::new()),
            to,
            counts,
            replaced: Counts::default(),
            listed: 0,
            previous: None,
            bucket: "b".into(),
            written: None,
        }
    }

    proptest! {
        #[test]
        fn parts_read_back(rows in proptest::collection::vec(row(), 0..20), to in ".{0,10}") {
            let header = header(&rows, Position::After(to, None));
            let bytes = encode(&header, &rows).unwrap();
            prop_assert_eq!(decode_header(&bytes).unwrap(), header.clone());
            prop_assert_eq!(decode(&bytes).unwrap(), (header, rows));
        }

        #[test]
        fn damaged_parts_are_refused_not_believed(rows in proptest::collection::vec(row(), 1..5), cut in 1usize..200) {
            let bytes = encode(&header(&rows, Position::End), &rows).unwrap();
            let cut = cut % (bytes.len() - 1) + 1;
            prop_assert!(decode(&bytes[..bytes.len() - cut]).is_err());
        }
    }

    #[test]
    fn version_1_name_and_header_are_as_ever() {
        let header = header(&[], Position::End);
        assert_eq!(header.name(), "parts/p001/s000002/ab12-000003-000004.csv.gz");
        let text = r#"{"version":1,"job":"00000000010000000000000000","pass":1,"shard":2,"epoch":{"nonce":"ab12","counter":3},"number":4,"from":{"before":""},"to":"end","counts":{"by_outcome":{},"rotated_bytes":0,"superseded":0},"replaced":{"by_outcome":{},"rotated_bytes":0,"superseded":0},"previous":null,"bucket":"b"}"#;
        assert_eq!(serde_json::from_str::<PartHeader>(text).unwrap(), header);
        let kind = Some(PassKind::Walk);
        let header = PartHeader { kind, listed: 7, written: Some(Timestamp::UNIX_EPOCH), ..header };
        let text = serde_json::to_string(&header).unwrap();
        assert!(text.contains(r#""kind":"walk""#), "{text}");
        assert!(text.contains(r#""listed":7"#) && text.contains(r#""written":"1970-01-01T00:00:00Z""#), "{text}");
    }
}
