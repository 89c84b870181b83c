//! S3 Inventory in Parquet: of each row group only the columns that are needed. Keys are as they are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use crate::content::Content;
use crate::error::{ManifestError, Result};
use crate::read::{Found, Sink};

const NEEDED: [&str; 2] = ["bucket", "key"];
const USED: [&str; 4] = ["bucket", "key", "version_id", "is_latest"];

/// Reads all rows. The reader is much code for a format of many corners: a panic in it is an error about the file.
pub(crate) fn read(content: &Content, sink: &mut Sink<'_>) -> Result<()> {
    let read = catch_unwind(AssertUnwindSafe(|| read_rows(content, sink)));
    read.unwrap_or_else(|_| Err(content.broke(&ParquetError::General("it is no Parquet file".into()))))
}

fn read_rows(content: &Content, sink: &mut Sink<'_>) -> Result<()> {
    let broke = |e: ParquetError| content.broke(&e);
    let file = SerializedFileReader::new(content.clone()).map_err(broke)?;
    let schema = file.metadata().file_metadata().schema();
    let fields: Vec<_> =
        schema.get_fields().iter().filter(|field| USED.contains(&field.name())).map(Arc::clone).collect();
    if let Some(missing) = NEEDED.iter().find(|name| !fields.iter().any(|field| field.name() == **name)) {
        let what = format!("`{}` has no column `{missing}`", content.name());
        return Err(ManifestError::bad(what, "is it a data file of S3 Inventory?"));
    }
    let columns = Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(broke)?;
    let rows = file.get_row_iter(Some(columns)).map_err(broke)?;
    for (n, row) in rows.enumerate() {
        let row = row.map_err(broke)?;
        let bad = |what: String| {
            let place = format!("`{}`, row {}: {what}", content.name(), n + 1);
            ManifestError::bad(place, "is it a data file of S3 Inventory?")
        };
        let found = found(row).map_err(bad)?;
        sink.take(found).map_err(|refused| refused.at(bad))?;
    }
    Ok(())
}

fn found(row: Row) -> std::result::Result<Found, String> {
    let mut found = Found { bucket: String::new(), key: String::new(), version: String::new(), is_latest: true };
    for (name, field) in row.into_columns() {
        match (name.as_str(), field) {
            ("is_latest", Field::Bool(latest)) => found.is_latest = latest,
            (_, Field::Null) => {}
            ("bucket", field) => found.bucket = text(&name, field)?,
            ("key", field) => found.key = text(&name, field)?,
            ("version_id", field) => found.version = text(&name, field)?,
            _ => return Err(format!("its column `{name}` is of another kind")),
        }
    }
    Ok(found)
}

fn text(name: &str, field: Field) -> std::result::Result<String, String> {
    match field {
        Field::Str(text) => Ok(text),
        Field::Bytes(bytes) => {
            String::from_utf8(bytes.data().to_vec()).map_err(|_| format!("its column `{name}` is not UTF-8"))
        }
        _ => Err(format!("its column `{name}` is no text")),
    }
}
