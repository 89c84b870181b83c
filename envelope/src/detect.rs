//! Which format an envelope has, and what it says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::description::Description;
use crate::fields::{
    COMMITMENT, CONTENT_V2, CONTENT_V3, CONTEXT_V3, DESCRIPTION, DESCRIPTION_V3, Fields, IV, KEY_V1, KEY_V2, KEY_V3,
    MESSAGE_ID, TAG_LENGTH, WRAP_V2, WRAP_V3,
};
use crate::formulas::{AES_WRAP_BYTES, BOUND_GCM, BOUND_V3, COMMITMENT_BYTES, ECB_BYTES, GCM_BYTES, NONCE_BYTES};
use crate::malformed::Malformed;

/// What a reserved entry of a KMS context is called that names the content algorithm.
pub(crate) const CONTEXT_CONTENT: &str = "aws:x-amz-cek-alg";
/// What a context of the old `kms` wrap names its key by.
const CONTEXT_KEY: &str = "kms_cmk_id";

const CBC_IV_BYTES: usize = 16;
/// An RSA block has 128 bytes at least.
const LEAST_RSA_BYTES: usize = 128;

const IN_V3: [&str; 3] = [CONTENT_V3, COMMITMENT, MESSAGE_ID];
const IN_OLDER: [&str; 6] = [KEY_V1, KEY_V2, IV, WRAP_V2, CONTENT_V2, TAG_LENGTH];

/// A format of envelopes, which is not the version of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The first: `x-amz-key`.
    V1,
    /// `x-amz-key-v2`.
    V2,
    /// With key commitment: `x-amz-3`.
    V3,
}

impl Version {
    /// `V1`, `V2` or `V3`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "V1",
            Self::V2 => "V2",
            Self::V3 => "V3",
        }
    }
}

/// How a body is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// AES-256-CBC; the name that the envelope gives it, none in V1.
    Cbc(Option<&'static str>),
    /// AES-256-GCM under the data key.
    Gcm,
    /// AES-256-GCM under a key that is derived from the data key, with a commitment.
    Committing,
}

impl Content {
    /// The algorithm's name as V2 and V3 write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cbc(name) => name.unwrap_or(CBC),
            Self::Gcm => BOUND_GCM,
            Self::Committing => BOUND_V3,
        }
    }
}

const CBC: &str = "AES/CBC/PKCS5Padding";
const CBC_RUBY: &str = "AES/CBC/PKCS7Padding";

/// How a data key is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrap {
    /// AES-256-GCM under a raw key.
    AesGcm,
    /// RSA-OAEP with SHA-1, and the content algorithm behind the data key.
    RsaOaepSha1,
    /// A KMS's ciphertext, bound to a context that names the content algorithm.
    KmsContext,
    /// A KMS's ciphertext, bound to the name of its key. Only read.
    Kms,
    /// RFC 3394. Only read.
    AesWrap,
    /// RSA-OAEP with SHA-256 and MGF1 with SHA-1, bound to nothing. Only read, and by no library in use here.
    RsaOaepSha256,
    /// AES-ECB, of V1. Only read.
    AesEcb,
    /// RSA PKCS#1 v1.5, of V1. Only read.
    RsaPkcs1,
}

impl Wrap {
    /// The name as V2 writes it; of V1, which writes none, what it is.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AesGcm => "AES/GCM",
            Self::RsaOaepSha1 => "RSA-OAEP-SHA1",
            Self::KmsContext => "kms+context",
            Self::Kms => "kms",
            Self::AesWrap => "AESWrap",
            Self::RsaOaepSha256 => "RSA/ECB/OAEPWithSHA-256AndMGF1Padding",
            Self::AesEcb => "AES/ECB",
            Self::RsaPkcs1 => "RSA/PKCS1",
        }
    }

    /// Whether clients only read it, and only those that are told to.
    #[must_use]
    pub fn is_legacy(self) -> bool {
        !matches!(self, Self::AesGcm | Self::RsaOaepSha1 | Self::KmsContext)
    }

    /// Whether a KMS opens it.
    #[must_use]
    pub fn is_kms(self) -> bool {
        matches!(self, Self::KmsContext | Self::Kms)
    }

    const IN_V2: [Self; 6] =
        [Self::AesGcm, Self::RsaOaepSha1, Self::KmsContext, Self::Kms, Self::AesWrap, Self::RsaOaepSha256];
    const IN_V3: [(&'static str, Self); 3] =
        [("02", Self::AesGcm), ("22", Self::RsaOaepSha1), ("12", Self::KmsContext)];

    /// The two characters of V3; `None` for what it does not know.
    pub(crate) fn code(self) -> Option<&'static str> {
        Self::IN_V3.iter().find(|(_, wrap)| *wrap == self).map(|(code, _)| *code)
    }
}

/// Where the wrapped data key lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the object's metadata.
    Metadata,
    /// In an instruction file beside it.
    File,
}

/// A data key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// How it is wrapped.
    pub wrap: Wrap,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What says which key wraps it; a KMS's context.
    pub description: Description,
}

/// An envelope: what it says, and the fields that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Its format.
    pub version: Version,
    /// How the body is encrypted.
    pub content: Content,
    /// The data key.
    pub key: WrappedKey,
    /// Where it lies.
    pub place: Place,
    /// What V3 says of its data key.
    pub(crate) committed: Option<Committed>,
    /// What holds the wrapped data key: all of the metadata, or of the file.
    pub(crate) fields: Fields,
}

/// V3's message id and commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) message_id: Vec<u8>,
    pub(crate) commitment: Vec<u8>,
}

/// V3's half that lies with the object where the other lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split(Committed);

/// What an object's metadata tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The envelope is there.
    Here(Box<Envelope>),
    /// Half of it is there: there must be an instruction file.
    Split(Split),
    /// Nothing is there: there may be an instruction file.
    Nothing,
}

/// The key of an object's instruction file.
#[must_use]
pub fn file_of(key: &str, suffix: &str) -> String {
    format!("{key}{suffix}")
}

impl Found {
    /// Reads an object's metadata.
    ///
    /// # Errors
    /// What is wrong with the envelope that is there.
    pub fn of(metadata: &Fields) -> Result<Self, Malformed> {
        let keys: Vec<_> = [KEY_V1, KEY_V2, KEY_V3].into_iter().filter(|name| metadata.has(name)).collect();
        if let [one, other, ..] = keys[..] {
            return Err(Malformed::Mixed(one, other));
        }
        if let Some(name) = metadata.first_of(&IN_V3) {
            if let Some(other) = metadata.first_of(&IN_OLDER) {
                return Err(Malformed::Mixed(other, name));
            }
            let committed = Committed::of(metadata)?;
            if !metadata.has(KEY_V3) {
                return Ok(Self::Split(Split(committed)));
            }
            return v3(metadata, committed, Place::Metadata).map(|envelope| Self::Here(Box::new(envelope)));
        }
        if metadata.has(KEY_V3) {
            return Err(Malformed::Missing(CONTENT_V3));
        }
        if keys.is_empty() {
            return Ok(Self::Nothing);
        }
        older(metadata, Place::Metadata).map(|envelope| Self::Here(Box::new(envelope)))
    }
}

impl Envelope {
    /// Reads an instruction file, of an object of which [`Found::of`] gave no whole envelope.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_file(split: Option<&Split>, file: &Fields) -> Result<Self, Malformed> {
        if let Some(name) = file.first_of(&IN_V3) {
            return Err(Malformed::FileHolds(name));
        }
        let keys: Vec<_> = [KEY_V1, KEY_V2, KEY_V3].into_iter().filter(|name| file.has(name)).collect();
        match (split, &keys[..]) {
            (_, [one, other, ..]) => Err(Malformed::Mixed(one, other)),
            (Some(_), [older]) if *older != KEY_V3 => Err(Malformed::Mixed(older, CONTENT_V3)),
            (Some(Split(committed)), _) => {
                if let Some(other) = file.first_of(&IN_OLDER) {
                    return Err(Malformed::Mixed(other, CONTENT_V3));
                }
                v3(file, committed.clone(), Place::File)
            }
            (None, [KEY_V3]) => Err(Malformed::Missing(CONTENT_V3)),
            (None, []) => Err(Malformed::Missing(KEY_V2)),
            (None, _) => older(file, Place::File),
        }
    }

    /// Whether an instruction file's content is that of one: it has one wrapped data key.
    #[must_use]
    pub fn is_in(file: &Fields) -> bool {
        [KEY_V1, KEY_V2, KEY_V3].into_iter().filter(|name| file.has(name)).count() == 1
    }

    /// What the wrap binds the data key to, the likelier first.
    pub(crate) fn bound(&self) -> &'static [&'static str] {
        match self.content {
            Content::Committing => &[BOUND_V3],
            Content::Gcm => &[BOUND_GCM],
            Content::Cbc(Some(CBC_RUBY)) => &[CBC_RUBY, BOUND_GCM],
            Content::Cbc(_) => &[CBC, BOUND_GCM],
        }
    }

    /// Whether what is wrapped by a KMS is from Amazon's: those begin with their own version and layout, and KES's are random.
    #[must_use]
    pub fn is_of_aws_kms(&self) -> bool {
        matches!(self.key.bytes[..], [1, 1 | 2, _, 0, 0x78, ..]) && self.key.wrap.is_kms()
    }
}

impl Committed {
    fn of(metadata: &Fields) -> Result<Self, Malformed> {
        if metadata.needs(CONTENT_V3)? != BOUND_V3 {
            return Err(Malformed::Content(CONTENT_V3));
        }
        let exact = |name| decoded(metadata, name).and_then(|bytes| of_length(name, bytes, COMMITMENT_BYTES));
        Ok(Self { commitment: exact(COMMITMENT)?, message_id: exact(MESSAGE_ID)? })
    }
}

fn v3(fields: &Fields, committed: Committed, place: Place) -> Result<Envelope, Malformed> {
    let bytes = decoded(fields, KEY_V3)?;
    let code = fields.needs(WRAP_V3)?;
    let (_, wrap) = *Wrap::IN_V3.iter().find(|(known, _)| *known == code).ok_or(Malformed::Wrap(WRAP_V3))?;
    let name = if wrap.is_kms() { CONTEXT_V3 } else { DESCRIPTION_V3 };
    let key = wrapped(fields, place, (KEY_V3, bytes), name, wrap)?;
    checked(Envelope {
        version: Version::V3,
        content: Content::Committing,
        key,
        place,
        committed: Some(committed),
        fields: fields.clone(),
    })
}

/// V1 and V2.
fn older(fields: &Fields, place: Place) -> Result<Envelope, Malformed> {
    let (version, name) = if fields.has(KEY_V1) { (Version::V1, KEY_V1) } else { (Version::V2, KEY_V2) };
    let bytes = decoded(fields, name)?;
    let iv = decoded(fields, IV)?;
    let (content, wrap) = match version {
        Version::V2 => (content_of(fields)?, wrap_of(fields)?),
        _ if bytes.len() == ECB_BYTES => (Content::Cbc(None), Wrap::AesEcb),
        _ => (Content::Cbc(None), Wrap::RsaPkcs1),
    };
    of_length(IV, iv, if content == Content::Gcm { NONCE_BYTES } else { CBC_IV_BYTES })?;
    let key = wrapped(fields, place, (name, bytes), DESCRIPTION, wrap)?;
    checked(Envelope { version, content, key, place, committed: None, fields: fields.clone() })
}

fn content_of(fields: &Fields) -> Result<Content, Malformed> {
    let content = match fields.needs(CONTENT_V2)? {
        BOUND_GCM => Content::Gcm,
        CBC => Content::Cbc(Some(CBC)),
        CBC_RUBY => Content::Cbc(Some(CBC_RUBY)),
        _ => return Err(Malformed::Content(CONTENT_V2)),
    };
    // Java's own re-encryption writes `0` beside CBC.
    match (content, fields.get(TAG_LENGTH)) {
        (_, None) | (Content::Gcm, Some("128")) | (Content::Cbc(_), Some("0")) => Ok(content),
        _ => Err(Malformed::TagLength),
    }
}

fn wrap_of(fields: &Fields) -> Result<Wrap, Malformed> {
    let name = fields.needs(WRAP_V2)?;
    Wrap::IN_V2.into_iter().find(|wrap| wrap.as_str() == name).ok_or(Malformed::Wrap(WRAP_V2))
}

fn wrapped(
    fields: &Fields,
    place: Place,
    (name, bytes): (&'static str, Vec<u8>),
    described: &'static str,
    wrap: Wrap,
) -> Result<WrappedKey, Malformed> {
    let wanted = match wrap {
        Wrap::AesGcm => Some(GCM_BYTES),
        Wrap::AesWrap => Some(AES_WRAP_BYTES),
        Wrap::AesEcb => Some(ECB_BYTES),
        Wrap::RsaOaepSha1 | Wrap::RsaOaepSha256 | Wrap::RsaPkcs1 if bytes.len() < LEAST_RSA_BYTES => {
            return Err(Malformed::Length(name, bytes.len()));
        }
        _ => None,
    };
    let bytes = match wanted {
        Some(wanted) => of_length(name, bytes, wanted)?,
        None => bytes,
    };
    let text = fields.get(described).unwrap_or_default();
    if place == Place::Metadata && !text.is_ascii() {
        return Err(Malformed::NotAscii(described));
    }
    let description = Description::parse(text).ok_or(Malformed::Description(described))?;
    Ok(WrappedKey { wrap, bytes, description })
}

/// What a KMS's context must say.
fn checked(envelope: Envelope) -> Result<Envelope, Malformed> {
    let name = if envelope.version == Version::V3 { CONTEXT_V3 } else { DESCRIPTION };
    let entries = envelope.key.description.entries();
    let says = match envelope.key.wrap {
        Wrap::KmsContext => entries.get(CONTEXT_CONTENT).is_some_and(|text| text == envelope.content.as_str()),
        Wrap::Kms => entries.contains_key(CONTEXT_KEY),
        _ => true,
    };
    if says { Ok(envelope) } else { Err(Malformed::Context(name)) }
}

fn decoded(fields: &Fields, name: &'static str) -> Result<Vec<u8>, Malformed> {
    STANDARD.decode(fields.needs(name)?).map_err(|_| Malformed::Base64(name))
}

fn of_length(name: &'static str, bytes: Vec<u8>, wanted: usize) -> Result<Vec<u8>, Malformed> {
    if bytes.len() == wanted { Ok(bytes) } else { Err(Malformed::Length(name, bytes.len())) }
}
