//! What must hold whatever bytes come from elsewhere: no parser panics, what is refused is refused with words, and what is
//! taken can be used. Each target is run by libFuzzer (`fuzz_targets/`) and, with changed seeds, by `tests/tests/parsers`.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use keyrotate_checkpoint::record::{
    BucketRecord, JobRecord, LeaderRecord, LiveRecord, PaceRecord, ShardRecord, WorkerRecord,
};
use keyrotate_config::{Given, load};
use keyrotate_envelope::keyring::Keyring;
use keyrotate_envelope::{Envelope, Fields, Found};
use keyrotate_manifest::{Input, Limits, Origin, Wanted, bring_in};
use keyrotate_proto::api::LimitsChange;
use keyrotate_proto::forecast::Forecast;
use keyrotate_proto::intent::Intent;
use keyrotate_proto::ticket::Ticket;
use keyrotate_proto::{job, part};
use keyrotate_report::finish::{Manifest, Summary};
use keyrotate_report::{MemoryStore, intents};
use md5::{Digest as _, Md5};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What bytes are given to.
pub(crate) type Target = fn(&[u8]);

/// The job file: what is refused is refused with a place and in one line each.
pub(crate) fn job_file(bytes: &[u8]) {
    match job::parse(bytes, "fuzz") {
        Ok(parsed) => {
            let start = "2026-11-21T00:00:00Z".parse().expect("a fixed date");
            assert!(parsed.at_start(start).iter().all(|problem| problem.line > 0));
            assert!(!job::describe(&parsed.spec).is_empty());
            assert_eq!(parsed.spec.hash().len(), 64);
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            assert!(errors.0.iter().all(|problem| problem.line > 0 && problem.column > 0));
            assert_eq!(errors.to_string().lines().count(), errors.0.len());
        }
    }
}

/// The configuration file.
pub(crate) fn configuration(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, bytes).expect("the folder can be written");
    if let Err(error) = load(&Given { file: Some(file), ..Given::default() }) {
        assert!(!error.to_string().is_empty());
    }
}

/// A part of a report, as it lies in the store, and what is in it, packed as it should be.
pub(crate) fn part_file(bytes: &[u8]) {
    for bytes in [bytes, &packed(bytes)] {
        if let Ok((header, rows)) = part::decode(bytes) {
            assert_eq!(part::decode_header(bytes).expect("it was read as a whole"), header);
            assert!(rows.iter().all(|row| !format!("{row:?}").is_empty()));
        }
    }
}

/// A file of intents, likewise.
pub(crate) fn intents_file(bytes: &[u8]) {
    for bytes in [bytes, &packed(bytes)] {
        let _refused = intents::decode::<Intent>("fuzz", bytes);
    }
}

/// A client-side envelope, as metadata and as an instruction file, and a keyring: what is taken is written as it was read.
pub(crate) fn envelope(bytes: &[u8]) {
    if let Ok(fields) = Fields::of_file(bytes) {
        let mut read = vec![Envelope::of_file(None, &fields)];
        match Found::of(&fields) {
            Ok(Found::Here(envelope)) => read.push(Ok(*envelope)),
            Ok(Found::Split(split)) => read.push(Envelope::of_file(Some(&split), &fields)),
            Ok(Found::Nothing) => {}
            Err(error) => read.push(Err(error)),
        }
        for read in read {
            match read {
                Ok(envelope) => {
                    assert_eq!(Fields::of_file(&envelope.fields().to_file()).as_ref(), Ok(envelope.fields()));
                    assert_eq!(envelope.with(envelope.key.clone()).key, envelope.key);
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
    if let Ok(keyring) = Keyring::parse(bytes) {
        assert_eq!(Keyring::parse(keyring.text().as_bytes()), Ok(keyring));
    }
}

/// Records, tickets, summaries and what the API is sent: what is read is written and read again as the same.
pub(crate) fn json(bytes: &[u8]) {
    fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
        let Ok(read) = serde_json::from_slice::<T>(bytes) else { return };
        let written = serde_json::to_vec(&read).expect("what was read can be written");
        let again: T = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("and written again"), written);
    }
    let all: [Target; 12] = [
        read::<JobRecord>,
        read::<ShardRecord>,
        read::<BucketRecord>,
        read::<WorkerRecord>,
        read::<PaceRecord>,
        read::<LeaderRecord>,
        read::<LiveRecord>,
        read::<Ticket>,
        read::<Summary>,
        read::<Manifest>,
        read::<Forecast>,
        read::<LimitsChange>,
    ];
    all.iter().for_each(|read| read(bytes));
}

/// A list of objects: as it is, packed, as `manifest.json` of an inventory, and as its only data file in each format.
pub(crate) fn manifest(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("the folder can be written");
        Origin::File(path)
    };
    let read = |input: Input| {
        let wanted = Wanted { bucket: "bucket".into(), prefix: String::new() };
        let store = Arc::new(MemoryStore::default());
        if let Err(error) = runtime.block_on(bring_in(input, &wanted, store, "a-1", &Limits::default())) {
            assert!(!error.to_string().is_empty());
        }
    };
    read(Input::Csv(write("list.csv", bytes)));
    read(Input::Csv(write("list.csv.gz", &packed(bytes))));
    let checked = |manifest: &[u8]| {
        write("manifest.checksum", md5(manifest).as_bytes());
        Input::Inventory(write("manifest.json", manifest))
    };
    read(checked(bytes));
    for (format, schema, data) in [
        ("CSV", "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size", packed(bytes)),
        ("CSV", "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size", bytes.to_vec()),
        ("Parquet", "message s3.inventory { required binary bucket (UTF8); }", bytes.to_vec()),
    ] {
        write("data", &data);
        let size = data.len();
        let files = serde_json::json!([{ "key": "data", "size": size, "MD5checksum": md5(&data) }]);
        let manifest = serde_json::json!({
            "sourceBucket": "bucket", "destinationBucket": "arn:aws:s3:::bucket", "version": "2016-11-30",
            "creationTimestamp": "1514944800000", "fileFormat": format, "fileSchema": schema, "files": files,
        });
        read(checked(manifest.to_string().as_bytes()));
    }
}

/// All targets by the names that libFuzzer knows them by, each with the files and folders of its seeds, from the
/// repository's root.
pub(crate) const ALL: [(&str, Target, &[&str]); 7] = [
    ("job_file", job_file, &["proto/tests/samples/valid", "proto/tests/samples/invalid"]),
    ("configuration", configuration, &["fuzz/seeds/configuration"]),
    ("part_file", part_file, &["coordinator/tests/fleet/stored/1/part.csv.gz"]),
    ("intents_file", intents_file, &["coordinator/tests/fleet/stored/1/intents.json.gz"]),
    ("json", json, &["coordinator/tests/fleet/stored/1"]),
    ("manifest", manifest, &["fuzz/seeds/manifest"]),
    ("envelope", envelope, &["fuzz/seeds/envelope"]),
];

/// Files that seeds are read from, of a file or a folder.
#[must_use]
pub(crate) fn seeds_in(path: &Path) -> Vec<Vec<u8>> {
    if path.is_file() {
        return vec![std::fs::read(path).expect("a seed can be read")];
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("seeds can be listed").path()).collect();
    files.sort();
    files.iter().filter(|file| file.is_file()).map(|file| std::fs::read(file).expect("a seed can be read")).collect()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("memory can be written")
}

fn md5(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}
