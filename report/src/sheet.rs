//! Rows for a spreadsheet. A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return would be taken for a
//! formula: it gets a single quote before it, which spreadsheets take for "this is text". Stored files stay as they are.

use std::io::{self, Write};

use flate2::bufread::GzDecoder;

use crate::ReportError;

/// Unpacks a file of rows into `out`, safe to open; with its heading or, behind other files, without it. A row at a time.
///
/// # Errors
/// When the file is no packed table; when `out` can't be written to, as [`ReportError::Store`].
pub fn unpack(name: &str, packed: &[u8], heading: bool, out: &mut dyn Write) -> Result<(), ReportError> {
    let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(GzDecoder::new(packed));
    let mut safe = csv::Writer::from_writer(out);
    let mut record = csv::StringRecord::new();
    let mut is_heading = true;
    while rows.read_record(&mut record).map_err(|e| ReportError::damaged(name, e))? {
        if !std::mem::take(&mut is_heading) || heading {
            safe.write_record(record.iter().map(cell)).map_err(|e| ReportError::store("unpack", name, unwritten(e)))?;
        }
    }
    safe.flush().map_err(|e| ReportError::store("unpack", name, e))
}

/// A cell that no spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    let risky = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if risky { format!("'{text}") } else { text.to_owned() }
}

fn unwritten(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_every_row_comes_once() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"key,detail\n=1+1,\"+a,\n\"\n-b,@c\n\"\td\",\"\re\"\nf=g,'h\n").unwrap();
        let packed = gzip.finish().unwrap();
        let mut out = Vec::new();
        unpack("f", &packed, true, &mut out).unwrap();
        unpack("f", &packed, false, &mut out).unwrap();
        let once = "'=1+1,\"'+a,\n\"\n'-b,'@c\n'\td,\"'\re\"\nf=g,'h\n";
        assert_eq!(String::from_utf8(out).unwrap(), format!("key,detail\n{once}{once}"));
        assert!(unpack("f", &packed[..20], true, &mut Vec::new()).is_err());
        assert!(unpack("f", b"plain", true, &mut Vec::new()).is_err());
    }
}
