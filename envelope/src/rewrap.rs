//! The rewrap: a data key is opened with one wrapping key and closed with another, and nothing else changes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::description::Description;
use crate::detect::{Content, Envelope, Version, Wrap, WrappedKey};
use crate::fields::{
    CONTENT_V2, CONTEXT_V3, DESCRIPTION, DESCRIPTION_V3, Fields, KEY_V1, KEY_V2, KEY_V3, WRAP_V2, WRAP_V3,
};
use crate::formulas::{
    NONCE_BYTES, close_gcm, close_oaep, commits, open_aes_wrap, open_ecb, open_gcm, open_oaep, open_pkcs1,
};
use crate::secret::{DataKey, Material, WrappingKey};

/// A data key that was opened, and what its wrap bound it to.
pub struct Opened {
    data_key: DataKey,
    bound: &'static str,
}

/// Why a data key was not opened, or not closed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unopened {
    /// The wrapping key is not the one, or somebody changed the envelope.
    #[error("the wrapping key does not open it")]
    WrongKey,
    /// The wrapping key is of another kind than the wrap.
    #[error("the wrapping key is of another kind")]
    OtherKind,
    /// Opened, and the object's commitment is that of another data key: the envelope is not that of this body.
    #[error("the data key is not the one that the object is committed to")]
    Commitment,
    /// A wrap that no library in use here opens.
    #[error("no library in use here opens this wrap")]
    Unsupported,
    /// What was just closed does not open to the same data key, or opens with the old key, too.
    #[error("what was just wrapped does not open as it should")]
    SelfCheck,
    /// The new wrapping key is too short for what it is to close.
    #[error("the new wrapping key is too short")]
    TooShort,
}

/// What a data key is to be closed with.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The wrapping key.
    pub key: &'a WrappingKey,
    /// What clients find it by.
    pub description: &'a Description,
}

impl Opened {
    /// What a KMS opened, of an envelope whose wrap is a KMS's.
    ///
    /// # Errors
    /// The object's commitment is that of another data key.
    pub fn by_kms(envelope: &Envelope, data_key: DataKey) -> Result<Self, Unopened> {
        checked(envelope, data_key, envelope.content.as_str())
    }

    /// The data key.
    #[must_use]
    pub fn data_key(&self) -> &DataKey {
        &self.data_key
    }
}

/// Opens an envelope's data key; in V3 it is held against the commitment of the object.
///
/// # Errors
/// Why not.
pub fn open(envelope: &Envelope, key: &WrappingKey) -> Result<Opened, Unopened> {
    let wrapped = &envelope.key.bytes;
    let first = |by: &dyn Fn(&'static str) -> Option<DataKey>| {
        envelope.bound().iter().find_map(|bound| by(bound).map(|data_key| (data_key, *bound)))
    };
    let unbound = |data_key: Option<DataKey>| data_key.map(|data_key| (data_key, envelope.bound()[0]));
    let opened = match (&key.0, envelope.key.wrap) {
        (Material::Aes(aes), Wrap::AesGcm) => first(&|bound| open_gcm(aes, wrapped, bound)),
        (Material::Rsa(rsa), Wrap::RsaOaepSha1) => first(&|bound| open_oaep(rsa, wrapped, bound)),
        (Material::Aes(aes), Wrap::AesWrap) => unbound(open_aes_wrap(aes, wrapped)),
        (Material::Aes(aes), Wrap::AesEcb) => unbound(open_ecb(aes, wrapped)),
        (Material::Rsa(rsa), Wrap::RsaPkcs1) => unbound(open_pkcs1(rsa, wrapped)),
        (Material::Rsa(_), Wrap::RsaOaepSha256) => return Err(Unopened::Unsupported),
        _ => return Err(Unopened::OtherKind),
    };
    let (data_key, bound) = opened.ok_or(Unopened::WrongKey)?;
    checked(envelope, data_key, bound)
}

fn checked(envelope: &Envelope, data_key: DataKey, bound: &'static str) -> Result<Opened, Unopened> {
    let committed = envelope.committed.as_ref();
    if committed.is_some_and(|it| !commits(&data_key, &it.message_id, &it.commitment)) {
        return Err(Unopened::Commitment);
    }
    Ok(Opened { data_key, bound })
}

/// Closes a data key anew and gives the envelope that is to be stored. What was closed is opened again at once: with the new key
/// it must give the same data key, and `old`, where it is of the same kind, must not open it. `nonce` must be random.
///
/// # Errors
/// Why not; then nothing is to be written.
pub fn rewrap(
    envelope: &Envelope,
    opened: &Opened,
    target: Target<'_>,
    old: Option<&WrappingKey>,
    nonce: [u8; NONCE_BYTES],
) -> Result<Envelope, Unopened> {
    let (wrap, bytes) = match &target.key.0 {
        Material::Aes(aes) => (Wrap::AesGcm, close_gcm(aes, nonce, opened.bound, &opened.data_key).to_vec()),
        Material::Rsa(rsa) => {
            (Wrap::RsaOaepSha1, close_oaep(rsa, opened.bound, &opened.data_key).ok_or(Unopened::TooShort)?)
        }
    };
    let new = envelope.with(WrappedKey { wrap, bytes, description: target.description.clone() });
    let again = open(&new, target.key).map_err(|_| Unopened::SelfCheck)?;
    if !again.data_key.is(&opened.data_key) || old.is_some_and(|old| open(&new, old).is_ok()) {
        return Err(Unopened::SelfCheck);
    }
    Ok(new)
}

impl Envelope {
    /// The same envelope with its data key wrapped otherwise. What is not about that stays as it is, byte for byte.
    #[must_use]
    pub fn with(&self, key: WrappedKey) -> Self {
        let mut new = Self { key, ..self.clone() };
        let wrapped = STANDARD.encode(&new.key.bytes);
        let (wrap, text) = (new.key.wrap, new.key.description.text().to_owned());
        let fields = &mut new.fields;
        match (self.version, wrap.code()) {
            (Version::V3, Some(code)) => {
                fields.set(KEY_V3, wrapped);
                fields.set(WRAP_V3, code);
                let (stands, goes) =
                    if wrap.is_kms() { (CONTEXT_V3, DESCRIPTION_V3) } else { (DESCRIPTION_V3, CONTEXT_V3) };
                if self.key.wrap.is_kms() != wrap.is_kms() {
                    fields.remove(goes);
                }
                fields.set(stands, text);
            }
            _ => {
                if self.version == Version::V1 {
                    fields.remove(KEY_V1);
                    fields.set(CONTENT_V2, self.content.as_str());
                    new.version = Version::V2;
                    new.content = Content::Cbc(Some(self.content.as_str()));
                }
                fields.set(KEY_V2, wrapped);
                fields.set(WRAP_V2, wrap.as_str());
                fields.set(DESCRIPTION, text);
            }
        }
        new
    }

    /// All fields of what holds the wrapped data key: the object's metadata, or the instruction file.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }
}
