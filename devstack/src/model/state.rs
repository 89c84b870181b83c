//! Everything the store knows, and the changes that make it: the same ones live and from the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bucket::BucketSettings;
use super::object::{Content, Segment, Version, files_of};
use super::synthetic::SyntheticKeys;

/// Versions of one key, newest first.
pub(super) type Versions = Vec<Arc<Version>>;

/// All buckets and open uploads.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) uploads: BTreeMap<String, OpenUpload>,
    seq: u64,
}

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) settings: BucketSettings,
    synthetic: Option<SyntheticKeys>,
    /// In a synthetic bucket a key with no version is one that was deleted.
    keys: BTreeMap<String, Versions>,
}

/// A multipart upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OpenUpload {
    pub(super) bucket: String,
    pub(super) key: String,
    /// In place: the version it replaces.
    pub(super) version: Option<String>,
    /// What the object will have, its bytes apart. A checksum in it is the one to compute, with its value if one was
    /// given.
    pub(super) content: Content,
    pub(super) parts: BTreeMap<u32, OpenPart>,
    pub(super) created: Timestamp,
}

/// One part of an open upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OpenPart {
    pub(super) etag: String,
    pub(super) segment: Segment,
    /// Of the upload's algorithm.
    pub(super) checksum: Option<Vec<u8>>,
}

/// One step of the store, as the journal has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Change {
    Bucket {
        name: String,
        settings: BucketSettings,
        synthetic: Option<SyntheticKeys>,
    },
    Settings {
        name: String,
        settings: BucketSettings,
    },
    DropBucket {
        name: String,
    },
    /// Adds a version, or replaces the one of the same id.
    Write {
        bucket: String,
        key: String,
        version: Version,
    },
    Remove {
        bucket: String,
        key: String,
        id: String,
    },
    Upload {
        id: String,
        upload: OpenUpload,
    },
    Part {
        upload: String,
        number: u32,
        part: OpenPart,
    },
    EndUpload {
        id: String,
    },
}

impl State {
    /// A number larger than any before.
    pub(super) fn next_seq(&self) -> u64 {
        self.seq + 1
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Bucket { name, settings, synthetic } => {
                self.buckets.insert(name, Bucket { settings, synthetic, keys: BTreeMap::new() });
            }
            Change::Settings { name, settings } => {
                if let Some(bucket) = self.buckets.get_mut(&name) {
                    bucket.settings = settings;
                }
            }
            Change::DropBucket { name } => {
                self.buckets.remove(&name);
            }
            Change::Write { bucket, key, version } => {
                self.seq = self.seq.max(version.seq);
                if let Some(bucket) = self.buckets.get_mut(&bucket) {
                    bucket.write(key, version);
                }
            }
            Change::Remove { bucket, key, id } => {
                if let Some(bucket) = self.buckets.get_mut(&bucket) {
                    bucket.remove(&key, &id);
                }
            }
            Change::Upload { id, upload } => {
                self.uploads.insert(id, upload);
            }
            Change::Part { upload, number, part } => {
                if let Some(upload) = self.uploads.get_mut(&upload) {
                    upload.parts.insert(number, part);
                }
            }
            Change::EndUpload { id } => {
                self.uploads.remove(&id);
            }
        }
    }

    /// Names of the files that hold bytes of what a change touches.
    pub(super) fn files_near(&self, change: &Change) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        match change {
            Change::Write { bucket, key, .. } | Change::Remove { bucket, key, .. } => {
                let versions = self.buckets.get(bucket).and_then(|b| b.keys.get(key));
                files.extend(versions.into_iter().flatten().flat_map(|v| v.files()).cloned());
            }
            Change::Part { upload: id, .. } | Change::EndUpload { id } => {
                files.extend(self.uploads.get(id).into_iter().flat_map(OpenUpload::files).cloned());
            }
            _ => {}
        }
        files
    }

    /// Names of all files that hold bytes.
    pub(super) fn files(&self) -> BTreeSet<String> {
        let versions = self.buckets.values().flat_map(|bucket| bucket.keys.values().flatten());
        let of_versions = versions.flat_map(|v| v.files());
        of_versions.chain(self.uploads.values().flat_map(OpenUpload::files)).cloned().collect()
    }

    /// The changes that make this state from an empty one.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change> {
        let buckets = self.buckets.iter().flat_map(|(name, bucket)| bucket.changes(name));
        let uploads = self.uploads.iter();
        buckets.chain(uploads.map(|(id, upload)| Change::Upload { id: id.clone(), upload: upload.clone() }))
    }
}

impl OpenUpload {
    fn files(&self) -> impl Iterator<Item = &String> {
        self.parts.values().flat_map(|part| files_of(std::slice::from_ref(&part.segment)))
    }
}

impl Bucket {
    /// All versions of a key, newest first.
    pub(super) fn versions(&self, key: &str) -> Versions {
        match self.keys.get(key) {
            Some(versions) => versions.clone(),
            None => self.computed(key),
        }
    }

    /// The newest version of a key, which may be a delete marker.
    pub(super) fn newest(&self, key: &str) -> Option<Arc<Version>> {
        match self.keys.get(key) {
            Some(versions) => versions.first().cloned(),
            None => self.computed(key).pop(),
        }
    }

    pub(super) fn find(&self, key: &str, id: &str) -> Option<Arc<Version>> {
        self.versions(key).into_iter().find(|version| version.id == id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys_from(Bound::Unbounded).next().is_none()
    }

    /// Keys and their versions, in order, from a place on.
    pub(super) fn keys_from(&self, start: Bound<&str>) -> impl Iterator<Item = (String, Versions)> {
        let stored = self.keys.range::<str, _>((start, Bound::Unbounded)).map(|(k, v)| (k.clone(), v.clone()));
        let computed = self.synthetic.iter().flat_map(move |synthetic| {
            let first = match start {
                Bound::Unbounded => 0,
                Bound::Included(key) => synthetic.first_from(key),
                Bound::Excluded(key) => synthetic.first_from(&format!("{key}\0")),
            };
            (first..synthetic.count).map(|index| (synthetic.key(index), vec![Arc::new(synthetic.version(index))]))
        });
        merge(stored, computed).filter(|(_, versions)| !versions.is_empty())
    }

    fn computed(&self, key: &str) -> Versions {
        let found = self.synthetic.as_ref().and_then(|s| s.index(key).map(|index| s.version(index)));
        found.map(Arc::new).into_iter().collect()
    }

    fn write(&mut self, key: String, version: Version) {
        let mut versions = self.versions(&key);
        versions.retain(|old| old.id != version.id);
        let place = versions.partition_point(|other| other.is_newer_than(&version));
        versions.insert(place, Arc::new(version));
        self.keys.insert(key, versions);
    }

    fn remove(&mut self, key: &str, id: &str) {
        let mut versions = self.versions(key);
        versions.retain(|version| version.id != id);
        if versions.is_empty() && self.synthetic.is_none() {
            self.keys.remove(key);
        } else {
            self.keys.insert(key.to_owned(), versions);
        }
    }

    fn changes(&self, name: &str) -> impl Iterator<Item = Change> {
        let (bucket, settings, synthetic) = (name.to_owned(), self.settings.clone(), self.synthetic.clone());
        let write =
            |key: &String, version: Version| Change::Write { bucket: name.to_owned(), key: key.clone(), version };
        let mut changes = vec![Change::Bucket { name: bucket, settings, synthetic }];
        for (key, versions) in &self.keys {
            for computed in self.computed(key) {
                let (key, id) = (key.clone(), computed.id.clone());
                changes.push(Change::Remove { bucket: name.to_owned(), key, id });
            }
            changes.extend(versions.iter().rev().map(|version| write(key, Version::clone(version))));
        }
        changes.into_iter()
    }
}

/// Both in order; where a key is in both, the first has it.
fn merge<V>(
    a: impl Iterator<Item = (String, V)>,
    b: impl Iterator<Item = (String, V)>,
) -> impl Iterator<Item = (String, V)> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some((left, _)), Some((right, _))) if left == right => {
            b.next();
            a.next()
        }
        (Some((left, _)), Some((right, _))) if right < left => b.next(),
        (None, _) => b.next(),
        _ => a.next(),
    })
}
