//! The one lock, and what is done under it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::capability::Versioning;
use keyrotate_store::{Guard, ObjectAt, Result, StoreIdentity};

use super::blob::BlobReader;
use super::errors;
use super::journal::Journal;
use super::mode::{KeyRules, Mode};
use super::object::{Content, Version};
use super::state::{Bucket, Change, State};

/// The store itself, shared by all clones.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) identity: StoreIdentity,
    pub(super) mode: Mode,
    pub(super) kms: Arc<dyn Kms>,
    pub(super) env: Env,
    /// Where large bodies lie; `None` for a store in memory.
    pub(super) bodies: Option<PathBuf>,
    /// Whether the default key is known to be there.
    pub(super) default_key_made: Mutex<bool>,
    core: Mutex<Core>,
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) state: State,
    journal: Option<Journal>,
    calls: BTreeMap<&'static str, u64>,
}

/// A version that was found, its bytes open for reading.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) version: Arc<Version>,
    pub(super) content: Content,
    pub(super) readers: Vec<BlobReader>,
    /// Whether answers name the version.
    pub(super) shows_version: bool,
}

impl Inner {
    pub(super) fn new(mode: Mode, kms: Arc<dyn Kms>, env: Env, opened: Option<(Journal, State)>, name: &str) -> Self {
        let (journal, state) = opened.map_or_else(|| (None, State::default()), |(j, state)| (Some(j), state));
        let bodies = journal.as_ref().map(|journal| journal.bodies().clone());
        let core = Mutex::new(Core { state, journal, calls: BTreeMap::new() });
        let identity = StoreIdentity(format!("{name}:model"));
        Self { identity, mode, kms, env, bodies, default_key_made: Mutex::new(false), core }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an operation was called.
    pub(super) fn count(&self, op: &'static str) {
        *self.lock().calls.entry(op).or_default() += 1;
    }

    pub(super) fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.lock().calls.clone()
    }

    /// Refuses keys that this store does not take.
    pub(super) fn check_key(&self, op: &'static str, key: &str) -> Result<()> {
        if key.len() > 1024 {
            return Err(errors::refused(op, "KeyTooLongError", "Your key is too long"));
        }
        match self.mode.keys {
            KeyRules::FileSystem if !fits_a_file_system(key) => {
                Err(errors::refused(op, "XMinioInvalidObjectName", "Object name contains unsupported characters."))
            }
            KeyRules::NoControlCharacters if key.chars().any(char::is_control) => Err(errors::no_such_key(op)),
            _ => Ok(()),
        }
    }

    /// Whether a key is one of those that MinIO keeps apart: no versions, another ETag in HEAD.
    pub(super) fn is_odd(&self, key: &str) -> bool {
        self.mode.odd_directory_keys && key.ends_with('/')
    }

    /// Finds a version as HEAD does.
    pub(super) fn look(&self, op: &'static str, at: &ObjectAt) -> Result<Found> {
        self.found(op, &self.lock(), at)
    }

    /// Finds a version and opens its bytes, as GET does.
    pub(super) fn find(&self, op: &'static str, at: &ObjectAt) -> Result<Found> {
        let core = self.lock();
        let mut found = self.found(op, &core, at)?;
        found.readers = self.readers(op, &found.content)?;
        Ok(found)
    }

    fn found(&self, op: &'static str, core: &Core, at: &ObjectAt) -> Result<Found> {
        self.check_key(op, &at.key)?;
        let bucket = core.bucket(op, &at.bucket)?;
        let version = find_version(op, bucket, at)?;
        let content = version.content.clone().ok_or_else(|| errors::delete_marker(op))?;
        let shows_version = bucket.settings.versioning.has_versions() && !self.is_odd(&at.key);
        Ok(Found { version, content, readers: Vec::new(), shows_version })
    }

    /// Fails where a condition on what is there now does not hold.
    pub(super) fn check_guard(&self, op: &'static str, newest: Option<&Version>, guard: &Guard) -> Result<()> {
        let there = newest.and_then(|version| version.content.as_ref());
        match (guard, there) {
            (Guard::None, _) | (Guard::IfAbsent, None) => Ok(()),
            (Guard::IfMatch(_), None) => Err(errors::no_such_key(op)),
            (Guard::IfMatch(etag), Some(content)) if content.guard_etag() == etag => Ok(()),
            (Guard::IfMatch(_) | Guard::IfAbsent, Some(_)) => Err(errors::precondition(op)),
        }
    }
}

impl Core {
    pub(super) fn bucket(&self, op: &'static str, name: &str) -> Result<&Bucket> {
        self.state.buckets.get(name).ok_or_else(|| errors::no_such_bucket(op))
    }

    /// Journals the changes of one step, then makes them.
    pub(super) fn commit(&mut self, op: &'static str, changes: Vec<Change>) -> Result<()> {
        let Some(journal) = &mut self.journal else {
            changes.into_iter().for_each(|change| self.state.apply(change));
            return Ok(());
        };
        journal.append(&changes).map_err(|error| errors::internal(op, &format!("the journal: {error}")))?;
        let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
        let places: Vec<Change> = changes.iter().filter_map(place_of).collect();
        places.iter().for_each(|place| before.extend(self.state.files_near(place)));
        changes.into_iter().for_each(|change| self.state.apply(change));
        if !before.is_empty() {
            places.iter().for_each(|place| after.extend(self.state.files_near(place)));
            before.difference(&after).for_each(|name| journal.remove_body(name));
        }
        Ok(())
    }
}

/// A version as reads find it: a delete marker that is the newest hides the key.
pub(super) fn find_version(op: &'static str, bucket: &Bucket, at: &ObjectAt) -> Result<Arc<Version>> {
    match &at.version {
        Some(id) => bucket.find(&at.key, id).ok_or_else(|| errors::no_such_version(op)),
        None => {
            let newest = bucket.newest(&at.key).filter(|version| version.content.is_some());
            newest.ok_or_else(|| errors::no_such_key(op))
        }
    }
}

/// Whether new objects of the bucket get version ids.
pub(super) fn is_versioned(bucket: &Bucket) -> bool {
    bucket.settings.versioning == Versioning::Enabled
}

/// Where a change takes place, without what it brings.
fn place_of(change: &Change) -> Option<Change> {
    Some(match change {
        Change::Write { bucket, key, version } => {
            Change::Remove { bucket: bucket.clone(), key: key.clone(), id: version.id.clone() }
        }
        Change::Remove { bucket, key, id } => {
            Change::Remove { bucket: bucket.clone(), key: key.clone(), id: id.clone() }
        }
        Change::Part { upload: id, .. } | Change::EndUpload { id } => Change::EndUpload { id: id.clone() },
        _ => return None,
    })
}

fn fits_a_file_system(key: &str) -> bool {
    let key = key.strip_suffix('/').unwrap_or(key);
    key.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
}

/// Opens a folder as journal and state.
pub(super) fn open(folder: &Path, sync: bool) -> io::Result<(Journal, State)> {
    std::fs::create_dir_all(folder)?;
    Journal::open(folder, sync)
}
