//! The state folder: one folder per store and bucket, with one lock, one checkpoint, and a folder per job.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use keyrotate_proto::id::JobId;
use keyrotate_store::StoreIdentity;
use serde::{Deserialize, Serialize};

use crate::args::StateArgs;
use crate::failure::Failure;

/// The state folder of this user, or as asked for.
pub(crate) fn root(args: &StateArgs) -> Result<PathBuf, Failure> {
    if let Some(dir) = &args.state {
        return Ok(dir.clone());
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    let hint = "set --state DIR, or HOME";
    base.map(|base| base.join("keyrotate"))
        .ok_or_else(|| Failure::usage("there is no place for the state folder", hint))
}

/// Folder of one bucket of one store.
#[derive(Clone, Debug)]
pub(crate) struct BucketFolder(PathBuf);

impl BucketFolder {
    /// Its place below the state folder.
    pub(crate) fn of(root: &Path, store: &StoreIdentity, bucket: &str) -> Self {
        Self(root.join(file_name(&store.0)).join(file_name(bucket)))
    }

    /// Every bucket folder below the state folder.
    pub(crate) fn all(root: &Path) -> Vec<Self> {
        let folders = |dir: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        };
        let mut all: Vec<_> = folders(root).iter().flat_map(|store| folders(store)).map(Self).collect();
        all.retain(|folder| folder.checkpoint().exists());
        all
    }

    /// The checkpoint's file.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint.redb")
    }

    /// The folder of a job's parts and report.
    pub(crate) fn job(&self, job: &JobId) -> PathBuf {
        self.0.join("jobs").join(job.as_str())
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Notes under which name its store was reached, for verbs that are only given a job's id.
    pub(crate) fn note_store(&self, name: Option<&str>) -> Result<(), Failure> {
        let path = self.0.join("store");
        fs::write(&path, name.unwrap_or_default()).map_err(|e| Failure::io("can't write", &path, &e))
    }

    /// The name that was noted; `None`: that of the environment.
    pub(crate) fn noted_store(&self) -> Option<String> {
        fs::read_to_string(self.0.join("store")).ok().filter(|name| !name.is_empty())
    }

    /// Takes the folder for this process until the lock is dropped or the process ends, however it ends.
    pub(crate) fn lock(&self, holder: &Holder) -> Result<Lock, Failure> {
        let made = fs::create_dir_all(self.0.join("jobs"));
        made.map_err(|e| Failure::io("can't make the state folder", &self.0, &e))?;
        let path = self.0.join("lock");
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = opened.map_err(|e| Failure::io("can't open the lock", &path, &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.held()),
            Err(TryLockError::Error(e)) => return Err(Failure::io("can't take the lock", &path, &e)),
        }
        let text = serde_json::to_vec(holder).unwrap_or_default();
        let written = file.set_len(0).and_then(|()| file.write_all(&text)).and_then(|()| file.sync_all());
        written.map_err(|e| Failure::io("can't write the lock", &path, &e))?;
        Ok(Lock { _file: file })
    }

    /// Who holds the folder, as far as can be read.
    pub(crate) fn holder(&self) -> Option<Holder> {
        serde_json::from_slice(&fs::read(self.0.join("lock")).ok()?).ok()
    }

    fn held(&self) -> Failure {
        let who = self.holder().map_or_else(
            || "another keyrotate".to_owned(),
            |holder| format!("process {} (`{}`, since {})", holder.pid, holder.what, holder.since),
        );
        let what = format!("{who} works on this bucket");
        Failure::refused(what, "wait for it, or `keyrotate cancel JOB` (its id is in the first line it printed)")
    }
}

/// Who holds a bucket's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// Its process.
    pub(crate) pid: u32,
    /// The job file or verb.
    pub(crate) what: String,
    /// Since when.
    pub(crate) since: jiff::Timestamp,
}

/// The folder is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// A file name for a store's or bucket's name: everything but letters, digits, `.`, `-` and `_` becomes `%XX`.
fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if i > 0 => name.push('.'),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_stores_and_buckets_become_one_folder_each() {
        let root = Path::new("/s");
        let folder = |store: &str, bucket: &str| {
            BucketFolder::of(root, &StoreIdentity(store.into()), bucket).path().to_string_lossy().into_owned()
        };
        assert_eq!(folder("http://127.0.0.1:9000", "b"), "/s/http%3A%2F%2F127.0.0.1%3A9000/b");
        assert_eq!(folder("aws", ".."), "/s/aws/%2E.");
        assert_ne!(folder("a", "b/c"), folder("a/b", "c"));
    }

    #[test]
    fn the_stores_name_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let folder = BucketFolder::of(dir.path(), &StoreIdentity("s".into()), "b");
        fs::create_dir_all(folder.path()).unwrap();
        assert_eq!(folder.noted_store(), None);
        folder.note_store(Some("prod")).unwrap();
        assert_eq!(folder.noted_store(), Some("prod".into()));
        folder.note_store(None).unwrap();
        assert_eq!(folder.noted_store(), None);
    }

    #[test]
    fn the_second_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = BucketFolder::of(dir.path(), &StoreIdentity("s".into()), "b");
        let holder = Holder { pid: 42, what: "job.yaml".into(), since: jiff::Timestamp::UNIX_EPOCH };
        let lock = folder.lock(&holder).unwrap();
        let refused = folder.lock(&holder).unwrap_err();
        assert!(refused.to_string().contains("process 42 (`job.yaml`"), "{refused}");
        drop(lock);
        folder.lock(&holder).unwrap();
    }
}
