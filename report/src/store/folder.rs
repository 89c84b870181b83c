//! A report store in a folder of this machine.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::{ReportError, ReportStore, check_name};

/// Where files are written before they get their name; below the folder, so that a link to there is possible.
const UNFINISHED: &str = ".unfinished";

/// Whoever swaps a file holds this one, beside the unfinished ones.
const SWAP_LOCK: &str = "swap.lock";

/// Files below one folder. A file gets its name only when all of it is on the disk, and a call ends only when the
/// name is, too.
#[derive(Clone, Debug)]
pub struct FolderStore {
    dir: PathBuf,
}

impl FolderStore {
    /// The store in `dir`, which is made where it is missing.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, ReportError> {
        let dir = dir.into();
        let failed = |e| ReportError::store("open", dir.display().to_string(), e);
        make_folder(&dir).map_err(failed)?;
        make_folder(&dir.join(UNFINISHED)).map_err(failed)?;
        Ok(Self { dir })
    }

    /// The store in `dir`, for reading: nothing is made there.
    #[must_use]
    pub fn existing(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    async fn write(&self, name: &str, bytes: Vec<u8>, overwrite: bool) -> Result<(), ReportError> {
        check_name(name)?;
        let (dir, path) = (self.dir.clone(), self.dir.join(name));
        match blocking(move || write_durably(&dir, &path, &bytes, overwrite)).await {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(ReportError::Exists(name.to_owned())),
            other => other.map_err(|e| ReportError::store("write", name, e)),
        }
    }

    async fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, ReportError> {
        check_name(name)?;
        let path = self.dir.join(name);
        let read = move || {
            let mut bytes = Vec::new();
            File::open(path)?.take(limit).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        blocking(read).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
                ReportError::NotFound(name.to_owned())
            }
            _ => ReportError::store("read", name, e),
        })
    }
}

#[async_trait]
impl ReportStore for FolderStore {
    async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError> {
        self.write(name, bytes, false).await
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ReportError> {
        self.write(name, bytes, true).await
    }

    async fn swap(&self, name: &str, seen: Option<&[u8]>, bytes: Vec<u8>) -> Result<bool, ReportError> {
        check_name(name)?;
        let (dir, path, seen) = (self.dir.clone(), self.dir.join(name), seen.map(<[u8]>::to_vec));
        blocking(move || swap(&dir, &path, seen.as_deref(), &bytes))
            .await
            .map_err(|e| ReportError::store("write", name, e))
    }

    async fn get(&self, name: &str) -> Result<Vec<u8>, ReportError> {
        self.read(name, u64::MAX).await
    }

    async fn get_start(&self, name: &str, limit: usize) -> Result<Vec<u8>, ReportError> {
        self.read(name, u64::try_from(limit).unwrap_or(u64::MAX)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, ReportError> {
        let (dir, wanted) = (self.dir.clone(), prefix.to_owned());
        let walk = move || {
            let folder = wanted.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut names = Vec::new();
            if folder.is_empty() || check_name(folder).is_ok() {
                collect(&dir.join(folder), folder, &mut names)?;
            }
            names.retain(|name| name.starts_with(&wanted));
            names.sort_unstable();
            Ok(names)
        };
        blocking(walk).await.map_err(|e| ReportError::store("list", prefix, e))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// Writes beside, syncs, then gives the name: by a link, which fails where the name is taken, or by a rename.
fn write_durably(dir: &Path, path: &Path, bytes: &[u8], overwrite: bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(dir);
    make_folder(folder)?;
    let (mut file, unfinished) = unfinished_file(&dir.join(UNFINISHED))?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| if overwrite { fs::rename(&unfinished, path) } else { fs::hard_link(&unfinished, path) });
    if !overwrite || written.is_err() {
        // What stays here after a kill is never listed and never read.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    sync_folder(folder)
}

/// Compares and writes while no other process does either.
fn swap(dir: &Path, path: &Path, seen: Option<&[u8]>, bytes: &[u8]) -> io::Result<bool> {
    let lock = File::options().create(true).append(true).open(dir.join(UNFINISHED).join(SWAP_LOCK))?;
    // Held until the file is closed.
    lock.lock()?;
    let there = match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        other => Some(other?),
    };
    if there.as_deref() != seen {
        return Ok(false);
    }
    write_durably(dir, path, bytes, true)?;
    Ok(true)
}

/// A new file. Never one that is there: a kill may have left it as a second name of a file that counts.
fn unfinished_file(folder: &Path) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{}-{number}", std::process::id()));
        match File::create_new(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => return other.map(|file| (file, path)),
        }
    }
}

/// Makes a folder and all above it, and syncs the folder above each new one.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(above)?;
    match fs::create_dir(folder) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
        _ => sync_folder(above),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Adds the names of all files below `folder`, `name` being that folder's own.
fn collect(folder: &Path, name: &str, names: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(piece) = entry.file_name().into_string() else { continue };
        if check_name(&piece).is_err() {
            continue;
        }
        let name = if name.is_empty() { piece } else { format!("{name}/{piece}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), &name, names)?;
        } else if kind.is_file() {
            names.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn folder_store_conforms() {
        let root = tempfile::tempdir().unwrap();
        let number = AtomicU64::new(0);
        super::super::conformance::all(|| {
            let dir = root.path().join(number.fetch_add(1, Ordering::Relaxed).to_string()).join("deep");
            async { Arc::new(FolderStore::open(dir).unwrap()) as Arc<dyn ReportStore> }
        })
        .await;
    }

    #[tokio::test]
    async fn what_a_kill_leaves_is_not_listed_and_links_out_are_not_followed_by_names() {
        let root = tempfile::tempdir().unwrap();
        let store = FolderStore::open(root.path()).unwrap();
        fs::write(root.path().join(UNFINISHED).join("1-1"), b"half").unwrap();
        store.put_new("parts/a", vec![1]).await.unwrap();
        assert_eq!(store.list("").await.unwrap(), ["parts/a"]);
        assert_eq!(store.list("../").await.unwrap(), Vec::<String>::new());
        assert_eq!(fs::read_dir(root.path().join(UNFINISHED)).unwrap().count(), 1);
    }
}
