//! Secrets that a job's record must hold (the notify token), sealed: under a data key of the KES, else under a key
//! file of this machine. Nothing of them is ever written in clear.
//!
//! AES-256-GCM under a fresh data key (KES) or the file's key, a random nonce of 96 bits each, [`AAD`] as associated
//! data. A machine seals one secret per started job, far below the 2^32 that random nonces allow.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use keyrotate_env::Env;
use keyrotate_kms::{DataKey, Kms};
use keyrotate_proto::say::chain;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::Failure;

const AAD: &[u8] = b"keyrotate notify token v1";
const KEY_FILE: &str = "secret.key";

/// A sealed secret, as the record holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    v: u32,
    /// Key of the KES and the data key sealed under it; absent: the key file.
    kes: Option<(String, String)>,
    nonce: String,
    sealed: String,
}

/// Who seals: the KES under that key, else the key file in the state folder.
pub(crate) struct Sealer<'a> {
    kes: Option<(&'a dyn Kms, &'a str)>,
    file: PathBuf,
    env: &'a Env,
}

impl<'a> Sealer<'a> {
    /// Seals under `key` of the KES where both are there, else under a key file below `root`.
    pub(crate) fn new(kms: Option<&'a dyn Kms>, key: Option<&'a str>, root: &Path, env: &'a Env) -> Self {
        Self { kes: kms.zip(key), file: root.join(KEY_FILE), env }
    }

    /// Seals a secret.
    pub(crate) async fn seal(&self, secret: &str) -> Result<String, Failure> {
        let (key, kes) = match self.kes {
            Some((kms, name)) => {
                let made = kms.generate(name, AAD).await.map_err(|e| kes_failed(&e))?;
                (made.plaintext, Some((name.to_owned(), hex::encode(made.ciphertext))))
            }
            None => (self.file_key()?, None),
        };
        let mut nonce = [0; 12];
        self.env.fill(&mut nonce);
        let payload = Payload { msg: secret.as_bytes(), aad: AAD };
        let sealed = cipher(&key).encrypt(&Nonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| Failure::refused("the notify token could not be sealed", "it is too long"))?;
        let sealed = Sealed { v: 1, kes, nonce: hex::encode(nonce), sealed: hex::encode(sealed) };
        let text = serde_json::to_string(&sealed);
        text.map_err(|e| Failure::broke("the notify token could not be sealed", &e, "this is a bug"))
    }

    /// Opens what [`Sealer::seal`] made; `None` where it does not open: another KES, another machine's key file.
    pub(crate) async fn open(&self, sealed: &str) -> Option<Zeroizing<String>> {
        let sealed: Sealed = serde_json::from_str(sealed).ok()?;
        let key = match (&sealed.kes, self.kes) {
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
    fn file_key(&self) -> Result<DataKey, Failure> {
        if !self.file.exists() {
            let mut fresh = Zeroizing::new([0; 32]);
            self.env.fill(&mut *fresh);
            let failed = |e: std::io::Error| Failure::io("can't make the key file", &self.file, &e);
            fs::create_dir_all(self.file.parent().unwrap_or(Path::new("."))).map_err(failed)?;
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file);
            opened.and_then(|mut file| file.write_all(&*fresh).and_then(|()| file.sync_all())).map_err(failed)?;
        }
        let bytes = fs::read(&self.file).map(Zeroizing::new);
        let bytes = bytes.map_err(|e| Failure::io("can't read the key file", &self.file, &e))?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            let what = format!("the key file `{}` has not 32 bytes", self.file.display());
            return Err(Failure::refused(
                what,
                "move it away: a new one is made, and tokens sealed before are asked for again",
            ));
        }
        key.copy_from_slice(&bytes);
        Ok(DataKey::new(key))
    }
}

fn cipher(key: &DataKey) -> Aes256Gcm {
    Aes256Gcm::new(key.expose().into())
}

fn kes_failed(error: &keyrotate_kms::KmsError) -> Failure {
    let mend = error.remedy().unwrap_or_else(|| "see to it that the KES answers".into());
    Failure::refused(format!("the notify token can't be sealed: {}", chain(error)), mend)
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
        for sealer in [Sealer::new(Some(&kes), Some("k"), dir.path(), &env), Sealer::new(None, None, dir.path(), &env)]
        {
            let sealed = sealer.seal("Bearer s3cr3t").await.unwrap();
            assert!(!sealed.contains("s3cr3t") && !sealed.contains(&hex::encode("s3cr3t")));
            assert_eq!(sealer.open(&sealed).await.as_deref().map(String::as_str), Some("Bearer s3cr3t"));
            assert!(
                sealer.open(&sealed.replace(":1,", ":1, ").replace("sealed\":\"", "sealed\":\"00")).await.is_none()
            );
        }
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.path().join(KEY_FILE)).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
}
