//! Secrets that a job's record must hold (the notify token), sealed: under a data key of the KES, else under a key
//! file of this installation. Nothing of them is ever written in clear.
//!
//! AES-256-GCM under a fresh data key (KES) or the file's key, a random nonce of 96 bits each, `AAD` as associated
//! data. A machine seals one secret per started job, far below the 2^32 that random nonces allow.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use keyrotate_env::Env;
use keyrotate_envelope::secret::DataKey;
use keyrotate_kms::Kms;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const AAD: &[u8] = b"keyrotate notify token v1";

/// A secret could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The KES gave no data key.
    #[error("the KES gives no data key to seal it with")]
    Kes(#[from] keyrotate_kms::KmsError),
    /// The key file can't be made or read.
    #[error("can't use the key file `{}`", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another file stands where the key file should be.
    #[error("the key file `{}` has not 32 bytes", .0.display())]
    NotAKey(PathBuf),
    /// It is too long to be sealed.
    #[error("it is too long")]
    TooLong,
}

impl SealError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Kes(error) => error.remedy().unwrap_or_else(|| "see to it that the KES answers".into()),
            Self::KeyFile { .. } => "check that it is there and that you may read and write it".into(),
            Self::NotAKey(_) => "move it away: a new one is made, and tokens sealed before are asked for again".into(),
            Self::TooLong => "give a shorter one".into(),
        }
    }
}

/// A sealed secret, as the record holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    v: u32,
    /// Key of the KES and the data key sealed under it; absent: the key file.
    kes: Option<(String, String)>,
    nonce: String,
    sealed: String,
}

/// Who seals: the KES under one of its keys, else a key file.
#[derive(Clone, Debug)]
pub struct Sealer {
    kes: Option<(Arc<dyn Kms>, String)>,
    file: PathBuf,
    env: Env,
}

impl Sealer {
    /// Seals under `key` of the KES where both are there, else under the key in `file`, which is made where it is not
    /// there.
    #[must_use]
    pub fn new(kms: Option<Arc<dyn Kms>>, key: Option<String>, file: PathBuf, env: Env) -> Self {
        Self { kes: kms.zip(key), file, env }
    }

    /// The key of the KES that seals; `None`: the key file does.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.kes.as_ref().map(|(_, key)| key.as_str())
    }

    /// Whether another key sealed it than would now.
    #[must_use]
    pub fn is_stale(&self, sealed: &str) -> bool {
        let under = serde_json::from_str::<Sealed>(sealed).ok().and_then(|sealed| sealed.kes).map(|(key, _)| key);
        under.as_deref() != self.key()
    }

    /// Seals a secret.
    ///
    /// # Errors
    /// When the KES, or the key file, can't be used.
    pub async fn seal(&self, secret: &str) -> Result<String, SealError> {
        let (key, kes) = match &self.kes {
            Some((kms, name)) => {
                let made = kms.generate(name, AAD).await?;
                (made.plaintext, Some((name.clone(), hex::encode(made.ciphertext))))
            }
            None => (self.file_key()?, None),
        };
        let mut nonce = [0; 12];
        self.env.fill(&mut nonce);
        let payload = Payload { msg: secret.as_bytes(), aad: AAD };
        let sealed = cipher(&key).encrypt(&Nonce::from(nonce), payload).map_err(|_| SealError::TooLong)?;
        let sealed = Sealed { v: 1, kes, nonce: hex::encode(nonce), sealed: hex::encode(sealed) };
        // A struct of strings becomes JSON.
        serde_json::to_string(&sealed).map_err(|_| SealError::TooLong)
    }

    /// Opens what [`Sealer::seal`] made; `None` where it does not open: another KES, another machine's key file.
    #[must_use = "it was opened to be used"]
    pub async fn open(&self, sealed: &str) -> Option<Zeroizing<String>> {
        let sealed: Sealed = serde_json::from_str(sealed).ok()?;
        let key = match (&sealed.kes, &self.kes) {
            (Some((name, key)), Some((kms, _))) => {
                kms.decrypt(name, &hex::decode(key).ok()?, AAD).await.ok()?.into_data_key()?
            }
            (None, _) => self.file_key().ok()?,
            (Some(_), None) => return None,
        };
        let nonce: [u8; 12] = hex::decode(&sealed.nonce).ok()?.try_into().ok()?;
        let payload = Payload { msg: &hex::decode(&sealed.sealed).ok()?, aad: AAD };
        let opened = Zeroizing::new(cipher(&key).decrypt(&Nonce::from(nonce), payload).ok()?);
        String::from_utf8(opened.to_vec()).ok().map(Zeroizing::new)
    }

    /// The key file's key; made at the first call, readable by its owner alone.
    fn file_key(&self) -> Result<DataKey, SealError> {
        let failed = |source| SealError::KeyFile { path: self.file.clone(), source };
        if !self.file.exists() {
            let mut fresh = Zeroizing::new([0; 32]);
            self.env.fill(&mut *fresh);
            fs::create_dir_all(self.file.parent().unwrap_or(Path::new("."))).map_err(failed)?;
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file);
            opened.and_then(|mut file| file.write_all(&*fresh).and_then(|()| file.sync_all())).map_err(failed)?;
        }
        let bytes = fs::read(&self.file).map(Zeroizing::new).map_err(failed)?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(SealError::NotAKey(self.file.clone()));
        }
        key.copy_from_slice(&bytes);
        Ok(DataKey::new(key))
    }
}

fn cipher(key: &DataKey) -> Aes256Gcm {
    Aes256Gcm::new(key.expose().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrotate_devstack::kes::KesModel;

    #[tokio::test]
    async fn a_secret_opens_again_and_shows_nowhere() {
        let (dir, env) = (tempfile::tempdir().unwrap(), Env::system());
        let kes = KesModel::new(env.clone());
        kes.create_key("k").await.unwrap();
        let file = dir.path().join("secret.key");
        let by_kes = Sealer::new(Some(Arc::new(kes)), Some("k".into()), file.clone(), env.clone());
        for sealer in [by_kes, Sealer::new(None, None, file.clone(), env)] {
            let sealed = sealer.seal("Bearer s3cr3t").await.unwrap();
            assert!(!sealed.contains("s3cr3t") && !sealed.contains(&hex::encode("s3cr3t")));
            assert_eq!(sealer.open(&sealed).await.as_deref().map(String::as_str), Some("Bearer s3cr3t"));
            assert!(
                sealer.open(&sealed.replace(":1,", ":1, ").replace("sealed\":\"", "sealed\":\"00")).await.is_none()
            );
        }
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(file).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
}
