//! Where the keys of a [`super::KesModel`] lie: in memory and, when it was opened on a folder, in one file per key.
//!
//! A file is written whole beside its place, synced and renamed, so that what was acknowledged survives a kill at any
//! moment. Its JSON is the older of the two forms that a real KES reads from its own folder; `hmac` is ours.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// One key at rest.
pub(super) struct StoredKey {
    pub(super) material: Zeroizing<[u8; 32]>,
    /// The key of `hmac`; keys of the older form have none.
    pub(super) hmac: Option<Zeroizing<[u8; 32]>>,
    pub(super) created_at: Timestamp,
    /// Identity of the creator; empty where nobody is known.
    pub(super) created_by: String,
}

/// All keys.
pub(super) struct Shelf {
    folder: Option<PathBuf>,
    keys: Mutex<BTreeMap<String, Arc<StoredKey>>>,
}

impl Shelf {
    pub(super) fn in_memory() -> Self {
        Self { folder: None, keys: Mutex::default() }
    }

    /// Reads the keys of `folder`, which is made if it is missing.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if super::model::is_key_name(name) {
                keys.insert(name.to_owned(), Arc::new(read(&path)?));
            }
        }
        Ok(Self { folder: Some(folder.to_owned()), keys: Mutex::new(keys) })
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<StoredKey>> {
        self.lock().get(name).cloned()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// `false` when there is a key of that name, which then stays.
    pub(super) fn insert(&self, name: &str, key: impl Into<Arc<StoredKey>>) -> io::Result<bool> {
        let key = key.into();
        let mut keys = self.lock();
        if keys.contains_key(name) {
            return Ok(false);
        }
        if let Some(folder) = &self.folder {
            write(folder, name, &key)?;
        }
        keys.insert(name.to_owned(), key);
        Ok(true)
    }

    /// `false` when there is no key of that name.
    pub(super) fn remove(&self, name: &str) -> io::Result<bool> {
        let mut keys = self.lock();
        if !keys.contains_key(name) {
            return Ok(false);
        }
        if let Some(folder) = &self.folder {
            fs::remove_file(folder.join(name))?;
            File::open(folder)?.sync_all()?;
        }
        keys.remove(name);
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<StoredKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    bytes: String,
    algorithm: String,
    created_at: Timestamp,
    #[serde(default)]
    created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hmac: Option<String>,
}

fn write(folder: &Path, name: &str, key: &StoredKey) -> io::Result<()> {
    let encode = |bytes: &[u8; 32]| STANDARD.encode(bytes);
    let on_disk = OnDisk {
        bytes: encode(&key.material),
        algorithm: "AES256".to_owned(),
        created_at: key.created_at,
        created_by: key.created_by.clone(),
        hmac: key.hmac.as_deref().map(encode),
    };
    let text = Zeroizing::new(serde_json::to_vec(&on_disk).map_err(io::Error::other)?);
    // A dot is not allowed in a key's name, so a left-over of a killed process is never taken for a key.
    let beside = folder.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    File::open(folder)?.sync_all()
}

fn read(path: &Path) -> io::Result<StoredKey> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    let text = Zeroizing::new(fs::read(path)?);
    let on_disk: OnDisk = serde_json::from_slice(&text).map_err(|_| broken("this is not a key"))?;
    if on_disk.algorithm != "AES256" {
        return Err(broken("only keys of type AES256 are supported"));
    }
    let decode = |text: &str| -> io::Result<Zeroizing<[u8; 32]>> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| broken("the key is not base64"))?);
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(broken("the key has not 32 bytes"));
        }
        key.copy_from_slice(&bytes);
        Ok(key)
    };
    Ok(StoredKey {
        material: decode(&on_disk.bytes)?,
        hmac: on_disk.hmac.as_deref().map(decode).transpose()?,
        created_at: on_disk.created_at,
        created_by: on_disk.created_by,
    })
}
