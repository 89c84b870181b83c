//! S3 Inventory: `manifest.json`, its checksum beside it, and the data files that it names.

use serde::Deserialize;

use crate::content::Content;
use crate::error::{ManifestError, Result};
use crate::origin::Origin;
use crate::read::{Columns, Sink};
use crate::{csv_file, parquet_file};

/// `manifest.json` has some 150 bytes for each data file.
const LARGEST: u64 = 64 << 20;

/// Where the MD5 of `manifest.json` stands.
const CHECKSUM: &str = "manifest.checksum";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    source_bucket: String,
    file_format: String,
    file_schema: String,
    files: Vec<DataFile>,
}

#[derive(Debug, Deserialize)]
struct DataFile {
    key: String,
    #[serde(rename = "MD5checksum")]
    md5: String,
}

/// Reads the rows of all data files, each when its checksum has shown that it is whole.
pub(crate) fn read(origin: &Origin, sink: &mut Sink<'_>) -> Result<()> {
    let content = origin.open()?;
    let description = describe(origin, &content)?;
    sink.check_bucket(&description.source_bucket).map_err(|refused| {
        refused
            .at(|what| ManifestError::bad(format!("`{}`: {what}", content.name()), "name the bucket's own inventory"))
    })?;
    let format = Format::of(&description, &content)?;
    for file in &description.files {
        let data = origin.of_inventory(&file.key)?.open()?;
        check(&data, &file.md5, &content)?;
        match &format {
            Format::Csv(columns) => csv_file::read(&data, columns, sink)?,
            Format::Parquet => parquet_file::read(&data, sink)?,
        }
    }
    Ok(())
}

fn describe(origin: &Origin, content: &Content) -> Result<Description> {
    let bytes = content.whole(LARGEST)?;
    let checksum = origin.beside(CHECKSUM).open()?;
    let wanted = checksum.whole(1024)?;
    check(content, &String::from_utf8_lossy(&wanted), &checksum)?;
    serde_json::from_slice(&bytes).map_err(|e| {
        let what = format!("`{}` is no `manifest.json` of S3 Inventory: {e}", content.name());
        ManifestError::bad(what, "for a list of objects say `format: csv`")
    })
}

fn check(content: &Content, wanted: &str, says: &Content) -> Result<()> {
    let (wanted, md5) = (wanted.trim(), content.md5()?);
    if md5.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let what =
        format!("the MD5 of `{}` is {md5}, and `{}` says {}", content.name(), says.name(), wanted.escape_debug());
    Err(ManifestError::bad(what, "it is damaged or was changed: bring it from the inventory's bucket again"))
}

enum Format {
    Csv(Columns),
    Parquet,
}

impl Format {
    fn of(description: &Description, content: &Content) -> Result<Self> {
        let bad =
            |what: &str| ManifestError::bad(format!("`{}`: {what}", content.name()), "write it as CSV or Parquet");
        match description.file_format.to_ascii_uppercase().as_str() {
            "CSV" => {
                let names: Vec<_> = description.file_schema.split(',').map(str::trim).collect();
                let place = |wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
                let (Some(bucket), Some(key)) = (place("Bucket"), place("Key")) else {
                    return Err(bad("its `fileSchema` names no `Bucket` or no `Key`"));
                };
                let (version, latest) = (place("VersionId"), place("IsLatest"));
                Ok(Self::Csv(Columns { bucket, key, version, latest, count: names.len(), least: names.len() }))
            }
            "PARQUET" => Ok(Self::Parquet),
            "ORC" => Err(bad("its data files are ORC, which keyrotate does not read")),
            other => Err(bad(&format!("`{}` is no format of S3 Inventory", other.escape_debug()))),
        }
    }
}
