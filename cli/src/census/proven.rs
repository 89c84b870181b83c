//! What the doctor proved in a bucket, kept for the next census of it.

use std::fs;

use jiff::{Timestamp, ToSpan as _};
use keyrotate_proto::capability::{Frozen, FrozenTarget};
use keyrotate_proto::key::KeyName;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::state::BucketFolder;

/// Version of the file.
const VERSION: u32 = 1;

/// Stores change: what was proven longer ago is forgotten.
const DAYS: i64 = 30;

#[derive(Serialize, Deserialize)]
struct Proven {
    version: u32,
    at: Timestamp,
    /// The target that was asked for; `None`: the store's default.
    key: Option<String>,
    frozen: Frozen,
}

/// Keeps it.
pub(crate) fn remember(
    folder: &BucketFolder,
    key: Option<&str>,
    frozen: &Frozen,
    now: Timestamp,
) -> Result<(), Failure> {
    let proven = Proven { version: VERSION, at: now, key: key.map(str::to_owned), frozen: frozen.clone() };
    let file = folder.path().join("proven.json");
    let bytes = serde_json::to_vec_pretty(&proven).unwrap_or_default();
    let written = fs::create_dir_all(folder.path()).and_then(|()| fs::write(&file, bytes));
    written.map_err(|e| Failure::io("can't keep what was proven in", &file, &e))
}

/// What was proven there lately, and the store's default key where that was proven, too.
pub(super) fn recall(folder: &BucketFolder, now: Timestamp) -> Option<((Frozen, Timestamp), Option<KeyName>)> {
    let bytes = fs::read(folder.path().join("proven.json")).ok()?;
    let Proven { version, at, key, frozen } = serde_json::from_slice(&bytes).ok()?;
    if version != VERSION || now.checked_sub((DAYS * 24).hours()).ok()? > at {
        return None;
    }
    let default = match &frozen.target {
        FrozenTarget::SseKms { key: default, .. } if key.is_none() => Some(default.clone()),
        _ => None,
    };
    Some(((frozen, at), default))
}

#[cfg(test)]
mod tests {
    use keyrotate_proto::capability::{FROZEN_VERSION, Versioning};
    use keyrotate_store::StoreIdentity;

    use super::*;

    #[test]
    fn what_is_old_is_forgotten_and_a_named_key_is_no_default() {
        let dir = tempfile::tempdir().unwrap();
        let folder = BucketFolder::of(dir.path(), &StoreIdentity("s".into()), "b");
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
        let frozen = Frozen {
            version: FROZEN_VERSION,
            target: FrozenTarget::key(KeyName("k".into())),
            versioning: Versioning::Off,
            listing_facts: false,
            tags_announced: false,
            probed: Default::default(),
            same_bucket: true,
            proofs: Vec::new(),
            notes: Vec::new(),
            new_objects: None,
            acl_owner: None,
            retains: false,
            lease: Default::default(),
            canary: None,
            canaries: [].into(),
        };
        assert!(recall(&folder, now).is_none());
        remember(&folder, None, &frozen, now).unwrap();
        assert_eq!(recall(&folder, now), Some(((frozen.clone(), now), Some(KeyName("k".into())))));
        assert!(recall(&folder, now + (31 * 24).hours()).is_none());
        remember(&folder, Some("k"), &frozen, now).unwrap();
        assert_eq!(recall(&folder, now), Some(((frozen, now), None)));
    }
}
