//! Every derivation, associated datum and byte layout of the formats.
//!
//! | what | formula | source |
//! |---|---|---|
//! | `AES/GCM`, `02` | `nonce[12] ‖ AES-256-GCM(KEK, nonce, aad = bound, DK)[32] ‖ tag[16]` | specification, "AES/GCM" keyring |
//! | `RSA-OAEP-SHA1`, `22` | `RSAES-OAEP(SHA-1, MGF1-SHA-1, no label)` of `len(DK)[1] ‖ DK ‖ bound` | the client for Java, `RsaKeyring` |
//! | *bound* | `115` in V3, else the content algorithm's name, `AES/GCM/NoPadding` | both |
//! | commitment of V3 | HKDF-SHA-512 (RFC 5869): salt = message id, IKM = DK, info = `00 73 ‖ "COMMITKEY"`, 28 bytes | specification, "Key commitment" |
//! | `AESWrap` | RFC 3394 with its default IV | the client for Java, legacy |
//! | V1, AES key | AES-256-ECB of DK with PKCS#7 | the client of version 1 |
//! | V1, RSA key | RSAES-PKCS1-v1_5 of DK | the client of version 1 |
//!
//! With a body in CBC the clients disagree about what is bound: Java's newer ones take `AES/GCM/NoPadding`, all others the
//! content algorithm's name. Whoever opens tries both, and closes with the one that opened.

use aes::cipher::{BlockCipherDecrypt as _, KeyInit as _};
use aes_gcm::aead::AeadInOut as _;
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use aws_lc_rs::rsa::OAEP_SHA1_MGF1SHA1;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::secret::{Aes, DataKey, KEY_BYTES, Rsa};

/// Bytes of a data key that is wrapped with `AES/GCM`.
pub const GCM_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;
/// Bytes of the nonce of one wrap.
pub const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Bytes of a data key that is wrapped with `AESWrap`.
pub const AES_WRAP_BYTES: usize = KEY_BYTES + 8;
/// Bytes of a data key that is wrapped by version 1 under an AES key.
pub const ECB_BYTES: usize = KEY_BYTES + BLOCK_BYTES;
const BLOCK_BYTES: usize = 16;
/// Bytes of V3's message id, and of its commitment.
pub const COMMITMENT_BYTES: usize = 28;

/// What `AES/GCM` and `RSA-OAEP-SHA1` bind a data key to in V3.
pub const BOUND_V3: &str = "115";
/// The same in V2 where the body is in GCM.
pub const BOUND_GCM: &str = "AES/GCM/NoPadding";

const COMMIT_INFO: &[u8] = b"\x00\x73COMMITKEY";

/// Wraps with AES-GCM. `nonce` must be random, and never used twice with a key.
pub(crate) fn close_gcm(key: &Aes, nonce: [u8; NONCE_BYTES], bound: &str, data_key: &DataKey) -> [u8; GCM_BYTES] {
    let mut out = [0; GCM_BYTES];
    out[..NONCE_BYTES].copy_from_slice(&nonce);
    let (body, tag_place) = out[NONCE_BYTES..].split_at_mut(KEY_BYTES);
    body.copy_from_slice(data_key.expose());
    #[expect(clippy::expect_used, reason = "AES-GCM takes 64 GiB")]
    let tag = key
        .gcm
        .encrypt_inout_detached((&nonce).into(), bound.as_bytes(), body.into())
        .expect("a data key is short enough for AES-GCM");
    tag_place.copy_from_slice(&tag);
    out
}

/// Opens what [`close_gcm`] closed; `None` where it was not this key, or not bound to this.
pub(crate) fn open_gcm(key: &Aes, wrapped: &[u8], bound: &str) -> Option<DataKey> {
    let wrapped: &[u8; GCM_BYTES] = wrapped.try_into().ok()?;
    let (nonce, rest) = wrapped.split_at(NONCE_BYTES);
    let (body, tag) = rest.split_at(KEY_BYTES);
    let nonce: &[u8; NONCE_BYTES] = nonce.try_into().ok()?;
    let tag: &[u8; TAG_BYTES] = tag.try_into().ok()?;
    let mut opened = Zeroizing::new([0; KEY_BYTES]);
    opened.copy_from_slice(body);
    key.gcm.decrypt_inout_detached(nonce.into(), bound.as_bytes(), opened.as_mut_slice().into(), tag.into()).ok()?;
    Some(DataKey::new(opened))
}

/// Wraps with RSA-OAEP; `None` where the key is too short for it.
pub(crate) fn close_oaep(key: &Rsa, bound: &str, data_key: &DataKey) -> Option<Vec<u8>> {
    let length = u8::try_from(KEY_BYTES).ok()?;
    let plain = Zeroizing::new([&[length], data_key.expose().as_slice(), bound.as_bytes()].concat());
    let mut out = vec![0; key.public.ciphertext_size()];
    let length = key.public.encrypt(&OAEP_SHA1_MGF1SHA1, &plain, &mut out, None).ok()?.len();
    out.truncate(length);
    Some(out)
}

/// Opens what [`close_oaep`] closed. Nothing may stand behind what it is bound to.
pub(crate) fn open_oaep(key: &Rsa, wrapped: &[u8], bound: &str) -> Option<DataKey> {
    if wrapped.len() != key.oaep.key_size_bytes() {
        return None;
    }
    let mut buffer = Zeroizing::new(vec![0; key.oaep.min_output_size()]);
    let plain = key.oaep.decrypt(&OAEP_SHA1_MGF1SHA1, wrapped, &mut buffer, None).ok()?;
    let (length, rest) = plain.split_first()?;
    let (data_key, suffix) = rest.split_at_checked(usize::from(*length))?;
    (suffix == bound.as_bytes()).then(|| DataKey::from_slice(data_key)).flatten()
}

/// Opens RFC 3394.
pub(crate) fn open_aes_wrap(key: &Aes, wrapped: &[u8]) -> Option<DataKey> {
    let wrapped: &[u8; AES_WRAP_BYTES] = wrapped.try_into().ok()?;
    let kek = AesKek::new(&AES_256, key.bytes.as_ref()).ok()?;
    let mut buffer = Zeroizing::new([0; AES_WRAP_BYTES]);
    let plain = kek.unwrap(wrapped, buffer.as_mut_slice()).ok()?;
    DataKey::from_slice(plain)
}

/// Opens version 1 under an AES key. A data key fills its blocks, so that the padding is a block of its own: a wrong key passes
/// once in 2^128.
pub(crate) fn open_ecb(key: &Aes, wrapped: &[u8]) -> Option<DataKey> {
    let wrapped: &[u8; ECB_BYTES] = wrapped.try_into().ok()?;
    let cipher = aes::Aes256::new((&*key.bytes).into());
    let mut plain = Zeroizing::new(*wrapped);
    for block in plain.chunks_exact_mut(BLOCK_BYTES) {
        cipher.decrypt_block(block.try_into().ok()?);
    }
    let (data_key, padding) = plain.split_at(KEY_BYTES);
    bool::from(padding.ct_eq(&[0x10; BLOCK_BYTES])).then(|| DataKey::from_slice(data_key)).flatten()
}

/// Opens version 1 under an RSA key. Nothing authenticates it but its padding and its length: whoever writes on the strength of
/// it looks at the body's padding first.
pub(crate) fn open_pkcs1(key: &Rsa, wrapped: &[u8]) -> Option<DataKey> {
    if wrapped.len() != key.pkcs1.key_size_bytes() {
        return None;
    }
    let mut buffer = Zeroizing::new(vec![0; key.pkcs1.min_output_size()]);
    let plain = key.pkcs1.decrypt(wrapped, &mut buffer).ok()?;
    DataKey::from_slice(plain)
}

/// Whether V3's commitment is that of this data key, in constant time.
#[must_use]
pub fn commits(data_key: &DataKey, message_id: &[u8], commitment: &[u8]) -> bool {
    expand::<COMMITMENT_BYTES>(message_id, data_key.expose(), COMMIT_INFO)
        .is_some_and(|wanted| wanted.ct_eq(commitment).into())
}

/// By what a wrapping key is known again: HKDF-SHA-512 of it under a text of ours, the first eight bytes in hex. Of our own
/// making; no client knows it.
pub(crate) fn fingerprint(key: &[u8]) -> String {
    expand::<8>(b"keyrotate", key, b"fingerprint of a wrapping key").map(hex::encode).unwrap_or_default()
}

fn expand<const N: usize>(salt: &[u8], secret: &[u8], info: &[u8]) -> Option<[u8; N]> {
    struct Bytes(usize);
    impl KeyType for Bytes {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = [0; N];
    Salt::new(HKDF_SHA512, salt).extract(secret).expand(&[info], Bytes(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}
