//! KES behind one trait: the KMS seam, and a client of the real service.
//!
//! [`KesConfig::from_env`] reads what MinIO reads, [`KesClient`] does the calls. Everybody else knows only [`Kms`].

mod answer;
mod breaker;
pub mod client;
pub mod config;
mod ellipses;
pub mod error;
mod private_key;
mod tls;
mod transport;

use async_trait::async_trait;
use keyrotate_envelope::secret::{DataKey, Plaintext};

pub use client::KesClient;
pub use config::{ConfigError, Credential, KesConfig, Limits};
pub use error::{KmsError, KmsErrorKind};
pub use tls::{identity_of, identity_of_api_key};
pub use transport::refuses_our_certificate;

/// What a call to a KMS gives.
pub type Result<T> = std::result::Result<T, KmsError>;

/// A key management service as KES offers it: named keys that never leave it.
#[async_trait]
pub trait Kms: Send + Sync + std::fmt::Debug {
    /// Makes a key. [`KmsErrorKind::KeyExists`] when there is one of that name.
    async fn create_key(&self, key: &str) -> Result<()>;

    /// A fresh data key, in clear and sealed under `key` with `context` as associated data. Also the way to ask
    /// whether a key exists.
    async fn generate(&self, key: &str, context: &[u8]) -> Result<SealedKey>;

    /// Seals bytes under `key` with `context` as associated data: at most some 700 kB. A right of its own, which a policy that
    /// grants the others may not grant.
    async fn encrypt(&self, key: &str, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>>;

    /// Opens what [`Kms::generate`] or [`Kms::encrypt`] sealed. The bytes may be of any length.
    async fn decrypt(&self, key: &str, ciphertext: &[u8], context: &[u8]) -> Result<Plaintext>;

    /// Names of keys that begin with `prefix`, sorted. May be incomplete on servers with KES's paging defect.
    async fn list_keys(&self, prefix: &str) -> Result<Vec<String>>;

    /// Whether the service answers and can reach its key store.
    async fn status(&self) -> Result<Status>;
}

/// A data key in clear and sealed.
pub struct SealedKey {
    /// In clear.
    pub plaintext: DataKey,
    /// Sealed; opaque.
    pub ciphertext: Vec<u8>,
}

/// What the service says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its version, as it says.
    pub version: String,
    /// Whether its key store can't be reached.
    pub keystore_unreachable: bool,
}

/// Whether there is a key of that name, asked by `generate`: the one right that every policy grants.
///
/// # Errors
/// The service did not say.
pub async fn key_exists(kms: &dyn Kms, key: &str) -> Result<bool> {
    match kms.generate(key, b"").await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == KmsErrorKind::KeyNotFound => Ok(false),
        Err(error) => Err(error),
    }
}
