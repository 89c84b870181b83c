//! Keys in memory: no `Clone`, no `PartialEq`, no `Debug`; wiped on drop.

use aes_gcm::{Aes256Gcm, KeyInit as _};
use aws_lc_rs::rsa::{
    OaepPrivateDecryptingKey, OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey,
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes of an AES-256 key, and of every data key that is read here.
pub const KEY_BYTES: usize = 32;

/// A data key: what a body is encrypted with, or what a KMS makes.
pub struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

impl DataKey {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    /// A copy of bytes that were opened; `None` when there are not 32.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    /// The bytes, for a cipher.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Whether both are the same, in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(other.0.as_ref()).into()
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
        DataKey::from_slice(&self.0)
    }
}

/// A wrapping key: what data keys are encrypted with.
pub struct WrappingKey(pub(crate) Material);

pub(crate) enum Material {
    Aes(Box<Aes>),
    Rsa(Box<Rsa>),
}

/// An AES-256 key; `aes` wipes its schedule.
pub(crate) struct Aes {
    pub(crate) gcm: Aes256Gcm,
    pub(crate) bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// An RSA key; aws-lc wipes what it frees.
pub(crate) struct Rsa {
    pub(crate) oaep: OaepPrivateDecryptingKey,
    pub(crate) pkcs1: Pkcs1PrivateDecryptingKey,
    pub(crate) public: OaepPublicEncryptingKey,
    /// Its `SubjectPublicKeyInfo`, which is no secret.
    public_der: Vec<u8>,
}

impl WrappingKey {
    /// An AES-256 key; `None` when there are not 32 bytes.
    #[must_use]
    pub fn aes(bytes: &[u8]) -> Option<Self> {
        let DataKey(bytes) = DataKey::from_slice(bytes)?;
        let gcm = Aes256Gcm::new((&*bytes).into());
        Some(Self(Material::Aes(Box::new(Aes { gcm, bytes }))))
    }

    /// An RSA private key, PKCS#8 in DER, of 2048 to 8192 bits; `None` when it is none.
    #[must_use]
    pub fn rsa(pkcs8: &[u8]) -> Option<Self> {
        use aws_lc_rs::encoding::AsDer as _;
        use aws_lc_rs::encoding::PublicKeyX509Der;

        let read = || PrivateDecryptingKey::from_pkcs8(pkcs8).ok();
        let public = read()?.public_key();
        let der: PublicKeyX509Der<'_> = public.as_der().ok()?;
        let public_der = der.as_ref().to_vec();
        Some(Self(Material::Rsa(Box::new(Rsa {
            oaep: OaepPrivateDecryptingKey::new(read()?).ok()?,
            pkcs1: Pkcs1PrivateDecryptingKey::new(read()?).ok()?,
            public: OaepPublicEncryptingKey::new(public).ok()?,
            public_der,
        }))))
    }

    /// Sixteen hex digits by which the same key is known again wherever it is imported; it says nothing of the key itself.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match &self.0 {
            Material::Aes(aes) => crate::formulas::fingerprint(aes.bytes.as_ref()),
            Material::Rsa(rsa) => crate::formulas::fingerprint(&rsa.public_der),
        }
    }

    /// Whether it is an RSA key.
    #[must_use]
    pub fn is_rsa(&self) -> bool {
        matches!(self.0, Material::Rsa(_))
    }
}
