//! Keyrings: wrapping keys in a file, each sealed by a key of a KMS. Nothing in the file is in clear but what the keys are called
//! and what clients find them by, and all of that is bound to what is sealed: a file that somebody edited does not open.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::description::Description;
use crate::secret::WrappingKey;

/// Version of [`Keyring`] that this code writes.
pub const KEYRING_VERSION: u32 = 1;

/// Longest name of a key.
const LONGEST_NAME: usize = 64;

/// A keyring file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keyring {
    /// [`KEYRING_VERSION`] of the writer.
    pub version: u32,
    /// Its keys, in the order in which they came.
    pub keys: Vec<SealedWrappingKey>,
}

/// What a wrapping key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// 32 bytes.
    #[serde(rename = "AES-256")]
    Aes256,
    /// A private key, PKCS#8.
    #[serde(rename = "RSA")]
    Rsa,
}

impl Kind {
    /// `AES-256` or `RSA`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES-256",
            Self::Rsa => "RSA",
        }
    }
}

/// A wrapping key as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedWrappingKey {
    /// What job files call it: letters, digits, `-`, `_` and `.`, 64 at most.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// By what the same key is known again ([`WrappingKey::fingerprint`]).
    pub fingerprint: String,
    /// The material description that clients find it by.
    pub description: BTreeMap<String, String>,
    /// The KMS key that seals it.
    pub kes_key: String,
    /// Sealed, base64.
    pub sealed: String,
}

/// Why a keyring, or a key of it, can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// It is no JSON of a keyring.
    #[error("it is no keyring: {0}")]
    Malformed(String),
    /// A newer keyrotate wrote it.
    #[error("it is a keyring of version {0}, and this keyrotate reads version {KEYRING_VERSION}")]
    Version(u32),
    /// A name that is none.
    #[error("`{0}` is no name of a key: letters, digits, `-`, `_` and `.`, {LONGEST_NAME} at most")]
    Name(String),
    /// Two keys of one name.
    #[error("it has a key `{0}` already")]
    Taken(String),
    /// Two keys of one description, which no client could tell apart.
    #[error("its key `{0}` has the same description, and clients find keys by that")]
    Described(String),
    /// The same key twice.
    #[error("its key `{0}` is the same key")]
    Same(String),
    /// What was opened is not what the file says.
    #[error(
        "what `{0}` opened to is not the key that the file says: somebody changed the file, or the KMS key was replaced"
    )]
    NotThatKey(String),
}

impl Default for Keyring {
    fn default() -> Self {
        Self { version: KEYRING_VERSION, keys: Vec::new() }
    }
}

impl Keyring {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, KeyringError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let malformed = |error: serde_json::Error| KeyringError::Malformed(error.to_string());
        let Versioned { version } = serde_json::from_slice(text).map_err(malformed)?;
        if version != KEYRING_VERSION {
            return Err(KeyringError::Version(version));
        }
        let read: Self = serde_json::from_slice(text).map_err(malformed)?;
        let mut keyring = Self::default();
        read.keys.into_iter().try_for_each(|key| keyring.add(key))?;
        Ok(keyring)
    }

    /// As a file.
    #[must_use]
    pub fn text(&self) -> String {
        #[expect(clippy::expect_used, reason = "text and maps of text are always JSON")]
        let text = serde_json::to_string_pretty(self).expect("a keyring is JSON");
        text + "\n"
    }

    /// Adds a key.
    ///
    /// # Errors
    /// It could be taken for one that is there, or its name is none.
    pub fn add(&mut self, key: SealedWrappingKey) -> Result<(), KeyringError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if key.name.is_empty() || key.name.len() > LONGEST_NAME || !key.name.chars().all(fits) {
            return Err(KeyringError::Name(key.name));
        }
        for known in &self.keys {
            if known.name == key.name {
                return Err(KeyringError::Taken(key.name));
            }
            if known.fingerprint == key.fingerprint {
                return Err(KeyringError::Same(known.name.clone()));
            }
            if known.kind == key.kind && known.description == key.description {
                return Err(KeyringError::Described(known.name.clone()));
            }
        }
        self.keys.push(key);
        Ok(())
    }

    /// The key of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&SealedWrappingKey> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl SealedWrappingKey {
    /// A key that is still to be sealed: [`Self::context`] says with what, [`Self::seal`] takes what came of it.
    #[must_use]
    pub fn unsealed(name: &str, key: &WrappingKey, description: BTreeMap<String, String>, kes_key: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: if key.is_rsa() { Kind::Rsa } else { Kind::Aes256 },
            fingerprint: key.fingerprint(),
            description,
            kes_key: kes_key.to_owned(),
            sealed: String::new(),
        }
    }

    /// What the KMS binds to the sealed key: everything else that stands in the file about it, as canonical JSON.
    #[must_use]
    pub fn context(&self) -> String {
        let own = [
            ("purpose", "keyrotate keyring"),
            ("name", &self.name),
            ("kind", self.kind.as_str()),
            ("description", &Description::of(self.description.clone()).canonical()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Description::of(own.into_iter().collect()).canonical()
    }

    /// Takes the sealed bytes.
    #[must_use]
    pub fn seal(self, sealed: &[u8]) -> Self {
        Self { sealed: STANDARD.encode(sealed), ..self }
    }

    /// The sealed bytes.
    ///
    /// # Errors
    /// They are not base64.
    pub fn sealed_bytes(&self) -> Result<Vec<u8>, KeyringError> {
        let malformed = |_| KeyringError::Malformed(format!("what is sealed of `{}` is not base64", self.name));
        STANDARD.decode(&self.sealed).map_err(malformed)
    }

    /// The wrapping key, from what the KMS opened.
    ///
    /// # Errors
    /// It is not the key that the file says.
    pub fn opened(&self, plain: &[u8]) -> Result<WrappingKey, KeyringError> {
        let key = match self.kind {
            Kind::Aes256 => WrappingKey::aes(plain),
            Kind::Rsa => WrappingKey::rsa(plain),
        };
        let is = |key: &WrappingKey| key.fingerprint() == self.fingerprint;
        key.filter(is).ok_or_else(|| KeyringError::NotThatKey(self.name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, byte: u8, kid: &str) -> SealedWrappingKey {
        let description = BTreeMap::from([("kid".to_owned(), kid.to_owned())]);
        SealedWrappingKey::unsealed(name, &WrappingKey::aes(&[byte; 32]).unwrap(), description, "kes-key").seal(b"...")
    }

    /// The file's format, and the fingerprint of 32 bytes of 0x11.
    #[test]
    fn version_1_reads_as_written() {
        let text = r#"{
  "version": 1,
  "keys": [
    {
      "name": "old",
      "kind": "AES-256",
      "fingerprint": "FINGERPRINT",
      "description": {
        "kid": "1"
      },
      "kesKey": "kes-key",
      "sealed": "Li4u"
    }
  ]
}
"#;
        let fingerprint = WrappingKey::aes(&[0x11; 32]).unwrap().fingerprint();
        let text = text.replace("FINGERPRINT", &fingerprint);
        let keyring = Keyring::parse(text.as_bytes()).unwrap();
        assert_eq!(keyring.text(), text);
        let old = keyring.find("old").unwrap();
        assert_eq!(old, &key("old", 0x11, "1"));
        let context =
            r#"{"description":"{\"kid\":\"1\"}","kind":"AES-256","name":"old","purpose":"keyrotate keyring"}"#;
        assert_eq!(old.context(), context);
        assert_eq!(old.sealed_bytes().unwrap(), b"...");
        assert!(old.opened(&[0x11; 32]).is_ok());
        assert_eq!(old.opened(&[0x12; 32]).err(), Some(KeyringError::NotThatKey("old".into())));
    }

    #[test]
    fn no_two_keys_can_be_taken_for_each_other() {
        let mut keyring = Keyring::default();
        keyring.add(key("old", 1, "1")).unwrap();
        assert_eq!(keyring.add(key("old", 2, "2")), Err(KeyringError::Taken("old".into())));
        assert_eq!(keyring.add(key("new", 1, "2")), Err(KeyringError::Same("old".into())));
        assert_eq!(keyring.add(key("new", 2, "1")), Err(KeyringError::Described("old".into())));
        assert_eq!(keyring.add(key("a key", 2, "2")), Err(KeyringError::Name("a key".into())));
        keyring.add(key("new", 2, "2")).unwrap();
    }

    #[test]
    fn what_is_no_keyring_is_refused() {
        for text in ["", "[]", "{}", r#"{"version":1}"#, r#"{"version":1,"keys":[{}]}"#] {
            assert!(matches!(Keyring::parse(text.as_bytes()), Err(KeyringError::Malformed(_))), "{text}");
        }
        assert_eq!(Keyring::parse(br#"{"version":2,"kegs":[]}"#), Err(KeyringError::Version(2)));
    }
}
