//! Intents: what a window will write, put down before its first write, beside the parts.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};

use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use keyrotate_proto::id::{Epoch, PassId, ShardId, ShardRef};
use keyrotate_proto::part::part_name;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ReportError, ReportStore};

/// Version of [`IntentsHeader`] that this code writes.
pub const INTENTS_VERSION: u32 = 1;

/// Whose intents a file holds: the first line of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentsHeader {
    /// [`INTENTS_VERSION`] of the writer.
    pub version: u32,
    /// The shard.
    #[serde(flatten)]
    pub shard: ShardRef,
    /// The epoch of the lease that will write.
    pub epoch: Epoch,
    /// Counts the intents files of that lease's shard; with the epoch it makes the name.
    pub number: u64,
}

impl IntentsHeader {
    /// The name to store it under, relative to the job's folder.
    #[must_use]
    pub fn name(&self) -> String {
        part_name("intents", &self.shard, &self.epoch, self.number, "json.gz")
    }
}

/// Packs intents, one JSON line each after the header's.
///
/// # Errors
/// When an intent can't be written as JSON.
pub fn encode<I: Serialize>(header: &IntentsHeader, intents: &[I]) -> Result<Vec<u8>, ReportError> {
    let failed = |e: serde_json::Error| ReportError::damaged(&header.name(), e);
    let io_failed = |e: std::io::Error| ReportError::damaged(&header.name(), e);
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
    let mut line = serde_json::to_vec(header).map_err(failed)?;
    line.push(b'\n');
    gzip.write_all(&line).map_err(io_failed)?;
    for intent in intents {
        let mut line = serde_json::to_vec(intent).map_err(failed)?;
        line.push(b'\n');
        gzip.write_all(&line).map_err(io_failed)?;
    }
    gzip.finish().map_err(io_failed)
}

/// Unpacks what [`encode`] made; `name` is for the error.
///
/// # Errors
/// When the file is damaged, cut short, or of a newer version.
pub fn decode<I: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<(IntentsHeader, Vec<I>), ReportError> {
    let mut lines = BufReader::new(GzDecoder::new(bytes)).lines();
    let first = lines.next().ok_or_else(|| ReportError::damaged(name, "it is empty"))?;
    let first = first.map_err(|e| ReportError::damaged(name, e))?;
    let header: IntentsHeader = serde_json::from_str(&first).map_err(|e| ReportError::damaged(name, e))?;
    if header.version > INTENTS_VERSION {
        let what = format!("it has version {}, this keyrotate reads up to {INTENTS_VERSION}", header.version);
        return Err(ReportError::damaged(name, what));
    }
    let mut intents = Vec::new();
    for line in lines {
        let line = line.map_err(|e| ReportError::damaged(name, e))?;
        intents.push(serde_json::from_str(&line).map_err(|e| ReportError::damaged(name, e))?);
    }
    Ok((header, intents))
}

/// Names of all intents files of a shard, of every epoch, in the order of their bytes (within one nonce: of their
/// writing).
///
/// # Errors
/// When the store can't be listed.
pub async fn list_for_shard(store: &dyn ReportStore, shard: &ShardRef) -> Result<Vec<String>, ReportError> {
    store.list(&format!("intents/{}/{}/", shard.pass, shard.shard)).await
}

/// Names of all intents files of the job.
///
/// # Errors
/// When the store can't be listed.
pub async fn list_all(store: &dyn ReportStore) -> Result<Vec<String>, ReportError> {
    store.list("intents/").await
}

/// The shards of a pass that put intents down, by number.
///
/// # Errors
/// When the store can't be listed.
pub async fn shards(store: &dyn ReportStore, pass: PassId) -> Result<Vec<ShardId>, ReportError> {
    let under = format!("intents/{pass}/");
    let names = store.list(&under).await?;
    let shard =
        |name: &String| name.strip_prefix(&under)?.split('/').next()?.strip_prefix('s')?.parse().ok().map(ShardId);
    let shards: BTreeSet<ShardId> = names.iter().filter_map(shard).collect();
    Ok(shards.into_iter().collect())
}

/// Reads one intents file.
///
/// # Errors
/// When it is missing or damaged, or holds another file's intents.
pub async fn read<I: DeserializeOwned>(
    store: &dyn ReportStore,
    name: &str,
) -> Result<(IntentsHeader, Vec<I>), ReportError> {
    let (header, intents) = decode(name, &store.get(name).await?)?;
    if header.name() != name {
        return Err(ReportError::damaged(name, format!("its header belongs under `{}`", header.name())));
    }
    Ok((header, intents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{header as part, store};
    use serde_json::{Value, json};

    fn header(shard: u32, counter: u64, number: u64) -> IntentsHeader {
        let part = part(1, shard, ("ab", counter), number);
        IntentsHeader { version: INTENTS_VERSION, shard: part.shard, epoch: part.epoch, number }
    }

    #[tokio::test]
    async fn intents_of_a_shard_are_found_and_read_back() {
        let store = store();
        let intents = vec![json!({"key": "a\nb", "version": null}), json!({"key": "ä"})];
        for header in [header(2, 1, 0), header(2, 2, 0), header(3, 1, 0)] {
            store.put_new(&header.name(), encode(&header, &intents).unwrap()).await.unwrap();
        }
        let names = list_for_shard(&*store, &header(2, 1, 0).shard).await.unwrap();
        assert_eq!(
            names,
            ["intents/p001/s000002/ab-000001-000000.json.gz", "intents/p001/s000002/ab-000002-000000.json.gz"]
        );
        assert_eq!(read::<Value>(&*store, &names[1]).await.unwrap(), (header(2, 2, 0), intents));
        assert_eq!(list_all(&*store).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn damaged_newer_and_misplaced_files_are_refused() {
        let header = header(2, 1, 0);
        let bytes = encode(&header, &[1, 2, 3]).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode::<u8>("x", &bytes[..cut]).is_err(), "cut at {cut}");
        }
        let newer = IntentsHeader { version: INTENTS_VERSION + 1, ..header };
        assert!(decode::<u8>("x", &encode(&newer, &[1]).unwrap()).is_err());
        let store = store();
        store.put("intents/p001/other", bytes).await.unwrap();
        assert!(read::<u8>(&*store, "intents/p001/other").await.is_err());
    }

    #[test]
    fn version_1_reads_as_written() {
        let text = r#"{"version":1,"job":"00000000010000000000000000","pass":1,"shard":2,"epoch":{"nonce":"ab","counter":1},"number":0}"#;
        assert_eq!(serde_json::from_str::<IntentsHeader>(text).unwrap(), header(2, 1, 0));
        assert_eq!(serde_json::to_string(&header(2, 1, 0)).unwrap(), text);
        // The first ones named a window, too.
        let first = text.replace('}', r#","window":4}"#).replacen(r#","window":4}"#, "}", 1);
        assert_eq!(serde_json::from_str::<IntentsHeader>(&first).unwrap(), header(2, 1, 0));
    }
}
