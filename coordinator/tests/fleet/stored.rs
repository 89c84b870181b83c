//! What each version of keyrotate wrote to checkpoint, queue and report store, kept in `stored/VERSION/` and read by this one.
//!
//! A format that changes gets a version more, and a folder more: with `UPDATE_STORED=1` what the newest folder lacks is
//! written from a job of this version. What is there is never written again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use keyrotate_checkpoint::backend::{Backend as _, RecordKey};
use keyrotate_checkpoint::record::{
    BucketRecord, JobRecord, LeaderRecord, LiveRecord, PaceRecord, Record, ShardRecord, WorkerRecord,
};
use keyrotate_devstack::model::{Action, Rule};
use keyrotate_proto::forecast::Forecast;
use keyrotate_proto::intent::Intent;
use keyrotate_proto::part;
use keyrotate_proto::ticket::Ticket;
use keyrotate_report::ReportRoot as _;
use keyrotate_report::finish::{Manifest, Summary};
use keyrotate_report::intents;
use keyrotate_store::ErrorKind;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::walking;
use crate::world::{Process, World};

/// The newest folder.
const NEWEST: &str = "1";

/// A file's name, and how it is read and written again, where that is JSON.
type Kind = (&'static str, fn(&[u8]) -> Result<Option<Vec<u8>>, String>);

/// All kinds of files that outlive a process.
const KINDS: [Kind; 15] = [
    ("record-job.json", record::<JobRecord>),
    ("record-shard.json", record::<ShardRecord>),
    ("record-bucket.json", record::<BucketRecord>),
    ("record-worker.json", record::<WorkerRecord>),
    ("record-pace.json", record::<PaceRecord>),
    ("record-leader.json", record::<LeaderRecord>),
    ("record-live.json", record::<LiveRecord>),
    ("ticket.json", json::<Ticket>),
    ("part.csv.gz", |bytes| part::decode(bytes).map(|_| None).map_err(|e| e.to_string())),
    ("intents.json.gz", |bytes| intents::decode::<Intent>("intents", bytes).map(|_| None).map_err(|e| e.to_string())),
    ("spec.json", record::<JobRecord>),
    ("job.json", record::<JobRecord>),
    ("summary.json", json::<Summary>),
    ("manifest.json", json::<Manifest>),
    ("forecast.json", json::<Forecast>),
];

fn record<R: Record + DeserializeOwned>(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    json::<R>(bytes)
}

fn json<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let read: T = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    serde_json::to_vec(&read).map(Some).map_err(|e| e.to_string())
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fleet/stored"))
}

#[test]
fn what_every_version_wrote_is_read() {
    let versions: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(versions.iter().any(|version| version.ends_with(NEWEST)));
    for version in versions {
        for entry in std::fs::read_dir(&version).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let (_, read) =
                KINDS.iter().find(|(kind, _)| *kind == name).unwrap_or_else(|| panic!("{name}: no such kind"));
            let bytes = std::fs::read(&path).unwrap();
            let again = read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            // Whatever stood in it is understood, not only passed over.
            let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
            if let Some(again) = again {
                assert_eq!(value(&again), value(&bytes), "{}", path.display());
            }
        }
    }
}

#[test]
fn the_newest_version_has_an_example_of_every_kind() {
    for (kind, _) in KINDS {
        assert!(folder().join(NEWEST).join(kind).exists(), "{kind}: UPDATE_STORED=1 writes one");
    }
}

/// One of each kind, as a fleet at work leaves them. Of records the longest one, which says most.
async fn examples() -> BTreeMap<&'static str, Vec<u8>> {
    let world = World::without_update_encryption(31, 400).await;
    let workers = [world.worker("w1"), world.worker("w2")];
    workers[0].faults.add(Rule::on("*", Action::FailBefore(ErrorKind::Throttled)).times(1));
    let coordinator = world.coordinator("c1");
    let id = world
        .submit_with("pauseLimit: 10m, rate: 400, reseal: true, windows: [{from: '22:00', until: '06:00', zone: UTC}]")
        .await;
    let mut found: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
    let mut keep = |kind: &'static str, bytes: Vec<u8>| {
        let longest = found.entry(kind).or_default();
        if bytes.len() > longest.len() {
            *longest = bytes;
        }
    };
    world.until(&id, walking).await;
    while !world.job(&id).await.state.is_ended() {
        for listed in world.backend.scan("", None, 500).await.unwrap() {
            if let Some(kind) = kind_of(&listed.key) {
                keep(kind, listed.bytes);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    world.completed(&id, 400).await;
    let dry = world.submit_dry().await;
    world.until(&dry, |job| job.state.is_ended()).await;
    for job in [&id, &dry] {
        let reports = world.reports.of(job).unwrap();
        for name in reports.list("").await.unwrap() {
            let last = name.rsplit('/').next().unwrap();
            let kind = match name.split('/').next().unwrap() {
                "parts" => Some("part.csv.gz"),
                "intents" => Some("intents.json.gz"),
                _ => KINDS.iter().map(|(kind, _)| *kind).find(|kind| *kind == last),
            };
            if let Some(kind) = kind {
                keep(kind, reports.get(&name).await.unwrap());
            }
        }
    }
    workers.iter().chain([&coordinator]).for_each(Process::kill);
    found
}

fn kind_of(key: &RecordKey) -> Option<&'static str> {
    let word = key.as_str().split('/').next()?;
    KINDS.iter().map(|(kind, _)| *kind).find(|kind| *kind == format!("record-{word}.json"))
}

#[tokio::test(start_paused = true)]
async fn what_this_version_writes_is_of_the_kinds_that_are_kept() {
    let examples = examples().await;
    let newest = folder().join(NEWEST);
    for (kind, read) in KINDS {
        let Some(bytes) = examples.get(kind) else { continue };
        read(bytes).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let path = newest.join(kind);
        if std::env::var_os("UPDATE_STORED").is_some() && !path.exists() {
            std::fs::create_dir_all(&newest).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    let missing: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).filter(|kind| !examples.contains_key(kind)).collect();
    assert_eq!(missing, ["ticket.json"], "no job leaves those");
}
