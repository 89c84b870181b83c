//! Secrets in memory: no `Clone`, no `PartialEq`, nothing to print, wiped on drop.

use std::fmt;

use zeroize::Zeroizing;

/// A data key of 32 bytes.
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes, for a cipher.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// Opened bytes of any length.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// As a data key; `None` when it has not 32 bytes.
    #[must_use]
    pub fn into_data_key(self) -> Option<DataKey> {
        let mut key = Zeroizing::new([0; 32]);
        if self.0.len() != key.len() {
            return None;
        }
        key.copy_from_slice(&self.0);
        Some(DataKey(key))
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plaintext(..)")
    }
}
