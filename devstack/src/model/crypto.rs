//! How bodies and object keys are sealed.
//!
//! - object key: 32 random bytes, sealed with AES-256-GCM under a data key of the KMS, random nonce, the encryption
//!   context as associated data.
//! - body key: `HMAC-SHA256(object key, "keyrotate devstack body" || salt)`, the salt random per written part.
//! - body: chunks of 64 KiB, AES-256-GCM under the body key, nonce `0^4 || be64(index)`, associated data
//!   `be64(size of the part) || be64(index) || "bucket/key"`.

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use keyrotate_env::Env;
use keyrotate_envelope::secret::DataKey;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Plaintext bytes of a chunk.
pub(super) const CHUNK: usize = 64 << 10;
const TAG: usize = 16;

/// An object key, sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seal {
    /// The key's name in the KMS.
    pub(super) kms_key: String,
    /// The KMS's ciphertext of the data key.
    #[serde(with = "base64_bytes")]
    pub(super) data_key: Vec<u8>,
    /// Canonical JSON: the associated data of both seals.
    pub(super) context: String,
    #[serde(with = "base64_bytes")]
    nonce: Vec<u8>,
    #[serde(with = "base64_bytes")]
    object_key: Vec<u8>,
}

impl Seal {
    /// Seals `object_key` under `data_key`, whose ciphertext is kept beside it.
    pub(super) fn new(
        kms_key: &str,
        context: String,
        data_key: (&DataKey, Vec<u8>),
        object_key: &DataKey,
        env: &Env,
    ) -> Option<Self> {
        let mut nonce = [0; 12];
        env.fill(&mut nonce);
        let message = Payload { msg: object_key.expose(), aad: context.as_bytes() };
        let sealed = cipher(data_key.0.expose()).encrypt(&Nonce::from(nonce), message).ok()?;
        let kms_key = kms_key.to_owned();
        Some(Self { kms_key, data_key: data_key.1, context, nonce: nonce.to_vec(), object_key: sealed })
    }

    /// The object key; `None` when it does not authenticate.
    pub(super) fn open(&self, data_key: &DataKey) -> Option<DataKey> {
        let nonce = <[u8; 12]>::try_from(self.nonce.as_slice()).ok()?;
        let message = Payload { msg: &self.object_key, aad: self.context.as_bytes() };
        let opened = Zeroizing::new(cipher(data_key.expose()).decrypt(&Nonce::from(nonce), message).ok()?);
        let mut key = Zeroizing::new([0; 32]);
        if opened.len() != key.len() {
            return None;
        }
        key.copy_from_slice(&opened);
        Some(DataKey::new(key))
    }
}

/// The associated data of a seal: the user's context and, as MinIO does, the object's path under the bucket's name.
pub(super) fn context_of(bucket: &str, key: &str, user: Option<&BTreeMap<String, String>>) -> String {
    let mut context = user.cloned().unwrap_or_default();
    context.entry(bucket.to_owned()).or_insert_with(|| format!("{bucket}/{key}"));
    serde_json::to_string(&context).unwrap_or_default()
}

/// A new random key.
pub(super) fn random_key(env: &Env) -> DataKey {
    let mut bytes = Zeroizing::new([0; 32]);
    env.fill(&mut *bytes);
    DataKey::new(bytes)
}

/// Seals and opens the chunks of one part; without an object key they lie in clear.
pub(super) struct BodyCipher {
    cipher: Option<Aes256Gcm>,
    path: String,
    size: u64,
}

impl BodyCipher {
    pub(super) fn new(object_key: Option<&DataKey>, salt: &[u8], path: &str, size: u64) -> Option<Self> {
        let cipher = match object_key {
            Some(key) => Some(cipher(&*body_key(key, salt)?)),
            None => None,
        };
        Some(Self { cipher, path: path.to_owned(), size })
    }

    /// Stored bytes of every chunk but the last.
    pub(super) fn stored_chunk(&self) -> usize {
        if self.cipher.is_some() { CHUNK + TAG } else { CHUNK }
    }

    /// Stored bytes of a chunk with that many plaintext bytes.
    pub(super) fn stored_len(&self, plain: usize) -> usize {
        plain + self.stored_chunk() - CHUNK
    }

    pub(super) fn seal(&self, index: u64, chunk: &[u8]) -> Option<Vec<u8>> {
        match &self.cipher {
            None => Some(chunk.to_vec()),
            Some(cipher) => cipher.encrypt(&nonce(index), Payload { msg: chunk, aad: &self.aad(index) }).ok(),
        }
    }

    pub(super) fn open(&self, index: u64, stored: Bytes) -> Option<Bytes> {
        match &self.cipher {
            None => Some(stored),
            Some(cipher) => {
                let message = Payload { msg: &stored, aad: &self.aad(index) };
                cipher.decrypt(&nonce(index), message).ok().map(Bytes::from)
            }
        }
    }

    fn aad(&self, index: u64) -> Vec<u8> {
        [&self.size.to_be_bytes()[..], &index.to_be_bytes(), self.path.as_bytes()].concat()
    }
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(&(*key).into())
}

fn body_key(object_key: &DataKey, salt: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(object_key.expose()).ok()?;
    mac.update(b"keyrotate devstack body");
    mac.update(salt);
    Some(Zeroizing::new(mac.finalize().into_bytes().into()))
}

fn nonce(index: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&index.to_be_bytes());
    Nonce::from(nonce)
}

/// Bytes as base64 text, for the journal.
pub(super) mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::model) fn serialize<S: Serializer>(bytes: impl AsRef<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>, T: From<Vec<u8>>>(from: D) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(T::from).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_canonical_and_carries_the_path() {
        let user = BTreeMap::from([("z".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]);
        assert_eq!(context_of("b", "k/l", Some(&user)), r#"{"a":"2","b":"b/k/l","z":"1"}"#);
        assert_eq!(context_of("b", "k", None), r#"{"b":"b/k"}"#);
        let own = BTreeMap::from([("b".to_owned(), "mine".to_owned())]);
        assert_eq!(context_of("b", "k", Some(&own)), r#"{"b":"mine"}"#);
    }

    #[test]
    fn chunks_open_only_where_they_were_sealed() {
        let env = Env::system();
        let key = random_key(&env);
        let body = |salt: &[u8], path: &str, size| BodyCipher::new(Some(&key), salt, path, size).unwrap();
        let sealed = Bytes::from(body(b"salt", "b/k", 5).seal(3, b"hello").unwrap());
        assert_eq!(sealed.len(), body(b"salt", "b/k", 5).stored_len(5));
        assert_eq!(body(b"salt", "b/k", 5).open(3, sealed.clone()).unwrap(), "hello");
        assert!(body(b"salt", "b/k", 5).open(2, sealed.clone()).is_none());
        assert!(body(b"salt", "b/l", 5).open(3, sealed.clone()).is_none());
        assert!(body(b"salt", "b/k", 6).open(3, sealed.clone()).is_none());
        assert!(body(b"pepper", "b/k", 5).open(3, sealed).is_none());
    }
}
