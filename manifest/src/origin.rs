//! Where the files of a manifest lie: on this machine, or in a bucket.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use keyrotate_store::Store;
use tokio::runtime::Handle;

use crate::content::Content;
use crate::error::{ManifestError, Result};

/// One file of a manifest.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file of this machine.
    File(PathBuf),
    /// An object.
    Object {
        /// Its store.
        store: Arc<dyn Store>,
        /// Its bucket.
        bucket: String,
        /// Its key.
        key: String,
        /// Where the store is asked; whoever reads a manifest is a thread of its own.
        runtime: Handle,
    },
}

impl Origin {
    /// As people know it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Object { bucket, key, .. } => format!("s3://{bucket}/{key}"),
        }
    }

    pub(crate) fn open(&self) -> Result<Content> {
        Content::open(self)
    }

    /// The file of that name in the same folder.
    pub(crate) fn beside(&self, name: &str) -> Self {
        match self {
            Self::File(path) => Self::File(path.with_file_name(name)),
            Self::Object { key, .. } => {
                let folder = key.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
                self.object(format!("{folder}{name}"))
            }
        }
    }

    /// A file that an inventory's `manifest.json` names by its key: in its bucket. Of a copy on a machine it is looked for
    /// under that key below the folders above `manifest.json`, and beside it.
    pub(crate) fn of_inventory(&self, key: &str) -> Result<Self> {
        let Self::File(path) = self else { return Ok(self.object(key.to_owned())) };
        let plain = |part| matches!(part, Component::Normal(_));
        let (wanted, folder) = (Path::new(key), path.parent().unwrap_or(Path::new(".")));
        let name = wanted.file_name().filter(|_| wanted.components().all(plain));
        let name = name.ok_or_else(|| {
            let what = format!("`{}` names a data file `{}`, which is no plain path", self.name(), key.escape_debug());
            ManifestError::bad(what, "name the inventory in its bucket, as `s3://BUCKET/…/manifest.json`")
        })?;
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let below = folder.ancestors().map(|above| above.join(wanted)).find(|path| path.is_file());
        Ok(Self::File(below.unwrap_or_else(|| folder.join(name))))
    }

    fn object(&self, key: String) -> Self {
        match self {
            Self::File(_) => Self::File(key.into()),
            Self::Object { store, bucket, runtime, .. } => {
                Self::Object { store: Arc::clone(store), bucket: bucket.clone(), key, runtime: runtime.clone() }
            }
        }
    }
}
