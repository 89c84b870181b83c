//! Manifests that are written as others write them, for the tests of this crate.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use keyrotate_report::{MemoryStore, ReportStore};
use md5::{Digest as _, Md5};
use parquet::basic::Compression as Codec;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;
use tempfile::TempDir;

use crate::{Input, Limits, ManifestError, Named, Origin, Sorted, Wanted, bring_in};

pub(crate) const TINY: Limits = Limits { run: 1_000, segment: 100, at_a_time: 2 };

/// A row of an inventory: key, version, whether it is the newest.
pub(crate) type Line<'a> = (&'a str, &'a str, bool);

pub(crate) fn named(key: &str, version: Option<&str>) -> Named {
    Named { key: key.into(), version: version.map(str::to_owned) }
}

pub(crate) fn wanted(prefix: &str) -> Wanted {
    Wanted { bucket: "bucket".into(), prefix: prefix.into() }
}

/// All rows of it.
pub(crate) async fn all(sorted: &Sorted) -> Vec<Named> {
    from(sorted, "").await
}

pub(crate) async fn from(sorted: &Sorted, key: &str) -> Vec<Named> {
    let (mut rows, mut all) = (sorted.rows_from(key), Vec::new());
    while let Some(found) = rows.next_key().await.unwrap() {
        all.extend(found.versions.into_iter().map(|version| Named { key: found.key.clone(), version }));
    }
    all
}

pub(crate) async fn brought(input: Input, prefix: &str) -> Result<Sorted, ManifestError> {
    let store: Arc<dyn ReportStore> = Arc::new(MemoryStore::default());
    bring_in(input, &wanted(prefix), store, "a-1", &TINY).await
}

/// What is wrong with it.
pub(crate) async fn refusal(input: Input) -> String {
    match brought(input, "").await.unwrap_err() {
        ManifestError::Bad { what, .. } => what,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

pub(crate) fn md5(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

/// A file in a folder of its own.
pub(crate) fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> Origin {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    Origin::File(path)
}

/// An inventory of so many data files, laid out as S3 lays it out.
pub(crate) struct Inventory {
    pub(crate) dir: TempDir,
    pub(crate) format: &'static str,
    pub(crate) schema: &'static str,
    pub(crate) data: Vec<Vec<u8>>,
}

pub(crate) const CSV_SCHEMA: &str = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size";
pub(crate) const PARQUET_SCHEMA: &str = "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8); \
     optional binary version_id (UTF8); optional boolean is_latest; optional boolean is_delete_marker; \
     optional int64 size; }";

impl Inventory {
    pub(crate) fn csv(files: &[&[Line<'_>]]) -> Self {
        let line = |(key, version, latest): &Line<'_>| {
            format!("\"bucket\",\"{key}\",\"{version}\",\"{latest}\",\"false\",\"17\"\n")
        };
        let data = |lines: &&[Line<'_>]| packed(lines.iter().map(line).collect::<String>().as_bytes());
        let dir = tempfile::tempdir().unwrap();
        Self { dir, format: "CSV", schema: CSV_SCHEMA, data: files.iter().map(data).collect() }
    }

    pub(crate) fn parquet(files: &[&[Line<'_>]], codec: Codec) -> Self {
        let data = files.iter().map(|lines| parquet(lines, codec)).collect();
        Self { dir: tempfile::tempdir().unwrap(), format: "Parquet", schema: PARQUET_SCHEMA, data }
    }

    fn key(&self, n: usize) -> String {
        format!("inventories/bucket/all/data/{n}.{}", self.format.to_lowercase())
    }

    pub(crate) fn data_path(&self, n: usize) -> PathBuf {
        self.dir.path().join(self.key(n))
    }

    pub(crate) fn manifest_path(&self) -> PathBuf {
        self.dir.path().join("inventories/bucket/all/2026-11-29T01-00Z/manifest.json")
    }

    pub(crate) fn write(&self) -> Origin {
        let files: Vec<_> = (0..self.data.len())
            .map(|n| json!({"key": self.key(n), "size": self.data[n].len(), "MD5checksum": md5(&self.data[n])}))
            .collect();
        let manifest = json!({
            "sourceBucket": "bucket", "destinationBucket": "arn:aws:s3:::bucket", "version": "2016-11-30",
            "creationTimestamp": "1514944800000", "fileFormat": self.format, "fileSchema": self.schema, "files": files,
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let write = |path: &Path, bytes: &[u8]| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        (0..self.data.len()).for_each(|n| write(&self.data_path(n), &self.data[n]));
        write(&self.manifest_path().with_file_name("manifest.checksum"), format!("{}\n", md5(&manifest)).as_bytes());
        write(&self.manifest_path(), &manifest);
        Origin::File(self.manifest_path())
    }
}

fn parquet(lines: &[Line<'_>], codec: Codec) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(PARQUET_SCHEMA).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let text = |of: &dyn Fn(&Line<'_>) -> String| -> Vec<ByteArray> {
        lines.iter().map(|line| ByteArray::from(of(line).into_bytes())).collect()
    };
    let some = vec![1; lines.len()];
    let mut group = writer.next_row_group().unwrap();
    for column in 0..6 {
        let mut write = group.next_column().unwrap().unwrap();
        match column {
            0 => write.typed::<ByteArrayType>().write_batch(&text(&|_| "bucket".into()), None, None),
            1 => write.typed::<ByteArrayType>().write_batch(&text(&|line| line.0.into()), None, None),
            2 => {
                let there: Vec<i16> = lines.iter().map(|line| i16::from(!line.1.is_empty())).collect();
                let mut ids = text(&|line| line.1.into());
                ids.retain(|id| !id.is_empty());
                write.typed::<ByteArrayType>().write_batch(&ids, Some(&there), None)
            }
            3 => {
                let latest: Vec<bool> = lines.iter().map(|line| line.2).collect();
                write.typed::<BoolType>().write_batch(&latest, Some(&some), None)
            }
            4 => write.typed::<BoolType>().write_batch(&vec![false; lines.len()], Some(&some), None),
            _ => write.typed::<Int64Type>().write_batch(&vec![17; lines.len()], Some(&some), None),
        }
        .unwrap();
        write.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}
