//! Manifests in CSV, packed or not, as S3 Inventory and S3 Batch Operations write them: without a heading, keys URL-encoded.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};
use flate2::read::MultiGzDecoder;

use crate::content::Content;
use crate::error::{ManifestError, Result};
use crate::read::{Columns, Found, Sink};

/// Bytes of a row: a quote that is never closed must not lead to all of a file in memory.
const LONGEST_ROW: usize = 1 << 20;

/// Reads all rows.
pub(crate) fn read(content: &Content, columns: &Columns, sink: &mut Sink<'_>) -> Result<()> {
    let left = Rc::new(Cell::new(LONGEST_ROW));
    let rows = Bounded { read: unpacked(content)?, left: Rc::clone(&left) };
    let mut rows = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(rows);
    let mut record = ByteRecord::new();
    loop {
        left.set(LONGEST_ROW);
        let line = rows.position().line();
        if !rows.read_byte_record(&mut record).map_err(|e| content.broke(&At(line, e)))? {
            return Ok(());
        }
        let line = record.position().map_or(line, csv::Position::line);
        let bad = |what: String| {
            let place = format!("`{}`, line {line}: {what}", content.name());
            ManifestError::bad(place, format!("a row is `{}`, keys URL-encoded, without a heading", columns.shape()))
        };
        let found = found(&record, columns).map_err(bad)?;
        sink.take(found).map_err(|refused| refused.at(bad))?;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("line {0}: {1}")]
struct At(u64, csv::Error);

/// Whether it is packed, its first bytes say.
fn unpacked(content: &Content) -> Result<Box<dyn Read>> {
    let mut first = Vec::new();
    content.reader(0).take(2).read_to_end(&mut first).map_err(|e| content.broke(&e))?;
    let reader = content.reader(0);
    Ok(if first == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) })
}

fn found(record: &ByteRecord, columns: &Columns) -> std::result::Result<Found, String> {
    if !columns.fits(record.len()) {
        return Err(format!("it has {} fields", record.len()));
    }
    let text = |n: usize| {
        let field = record.get(n).unwrap_or_default();
        std::str::from_utf8(field).map_err(|_| format!("field {} is not UTF-8", n + 1))
    };
    let optional = |n: Option<usize>| n.map(text).transpose().map(Option::unwrap_or_default);
    Ok(Found {
        bucket: text(columns.bucket)?.to_owned(),
        key: decoded(text(columns.key)?)?,
        version: optional(columns.version)?.to_owned(),
        is_latest: !optional(columns.latest)?.eq_ignore_ascii_case("false"),
    })
}

/// Text of a URL's query: `%2F` is a slash, `+` a space.
fn decoded(text: &str) -> std::result::Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let byte = rest.get(..2).and_then(|hex| hex::decode(hex).ok());
                let byte = byte.ok_or("its key is not URL-encoded: a `%` itself is `%25`")?;
                bytes.extend(byte);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| "its key is not UTF-8".to_owned())
}

/// Gives so many bytes at most until it is told to give more.
struct Bounded {
    read: Box<dyn Read>,
    left: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other(format!("a row has more than {LONGEST_ROW} bytes")));
        }
        let length = self.read.read(into)?;
        self.left.set(self.left.get().saturating_sub(length));
        Ok(length)
    }
}
