//! The ciphertext format of a real KES, for keys of type AES256.
//!
//! ```text
//! sealed[len] || tag[16] || iv[16] || nonce[12]
//! k = HMAC-SHA256(key, iv); sealed || tag = AES-256-GCM(k, nonce, plaintext, aad = context)
//! ```
//! Two older encodings are still opened, told apart by their first byte: a MessagePack array (0x95) and a JSON object
//! (0x7b). What does not parse as such is taken for the raw form, as the real one does.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use keyrotate_env::Env;
use sha2::Sha256;
use zeroize::Zeroizing;

const IV: usize = 16;
const NONCE: usize = 12;

/// Seals `plaintext` under `key` with a fresh initialisation vector and nonce.
#[must_use]
pub fn seal(env: &Env, key: &[u8; 32], plaintext: &[u8], context: &[u8]) -> Vec<u8> {
    let (mut iv, mut nonce) = ([0; IV], [0; NONCE]);
    env.fill(&mut iv);
    env.fill(&mut nonce);
    seal_with(key, iv, nonce, plaintext, context)
}

/// Opens `ciphertext`; `None` when it is not authentic under this key and context.
#[must_use]
pub fn open(key: &[u8; 32], ciphertext: &[u8], context: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let parts = Parts::legacy(ciphertext).or_else(|| Parts::raw(ciphertext))?;
    let payload = Payload { msg: &parts.sealed, aad: context };
    cipher(key, &parts.iv).decrypt(&Nonce::from(parts.nonce), payload).ok().map(Zeroizing::new)
}

/// HMAC-SHA256 of `message` under `key`.
#[must_use]
pub fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn seal_with(key: &[u8; 32], iv: [u8; IV], nonce: [u8; NONCE], plaintext: &[u8], context: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: plaintext, aad: context };
    #[expect(clippy::expect_used, reason = "AES-GCM refuses only what is longer than 64 GiB")]
    let mut out = cipher(key, &iv).encrypt(&Nonce::from(nonce), payload).expect("shorter than 64 GiB");
    out.extend_from_slice(&iv);
    out.extend_from_slice(&nonce);
    out
}

fn cipher(key: &[u8; 32], iv: &[u8; IV]) -> Aes256Gcm {
    let derived = Zeroizing::new(hmac(key, iv));
    Aes256Gcm::new((&*derived).into())
}

/// A ciphertext taken apart; `sealed` ends with the tag.
struct Parts {
    sealed: Vec<u8>,
    iv: [u8; IV],
    nonce: [u8; NONCE],
}

impl Parts {
    fn raw(bytes: &[u8]) -> Option<Self> {
        let (rest, nonce) = bytes.split_last_chunk::<NONCE>()?;
        let (sealed, iv) = rest.split_last_chunk::<IV>()?;
        Some(Self { sealed: sealed.to_vec(), iv: *iv, nonce: *nonce })
    }

    fn legacy(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? {
            0x95 => Self::message_pack(bytes.get(1..)?),
            b'{' => Self::json(bytes),
            _ => None,
        }
    }

    /// The four items after the array's head: algorithm, id, iv, nonce, sealed with its tag.
    fn message_pack(mut bytes: &[u8]) -> Option<Self> {
        let algorithm = take_str(&mut bytes)?;
        if !["AES256", "AES256-GCM_SHA256", "ChaCha20", "XCHACHA20-POLY1305"].map(str::as_bytes).contains(&algorithm) {
            return None;
        }
        take_str(&mut bytes)?;
        let iv = take_bin(&mut bytes)?.try_into().ok()?;
        let nonce = take_bin(&mut bytes)?.try_into().ok()?;
        let sealed = take_bin(&mut bytes)?.to_vec();
        Some(Self { sealed, iv, nonce })
    }

    fn json(bytes: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Json {
            aead: String,
            iv: String,
            nonce: String,
            bytes: String,
        }
        let json: Json = serde_json::from_slice(bytes).ok()?;
        if !["AES-256-GCM-HMAC-SHA-256", "ChaCha20Poly1305"].contains(&json.aead.as_str()) {
            return None;
        }
        let field = |text: String| STANDARD.decode(text).ok();
        Some(Self {
            sealed: field(json.bytes)?,
            iv: field(json.iv)?.try_into().ok()?,
            nonce: field(json.nonce)?.try_into().ok()?,
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(head)
}

/// A big-endian length of 1, 2 or 4 bytes, then as many bytes.
fn take_sized<'a>(bytes: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let length = take(bytes, width)?.iter().fold(0usize, |n, b| (n << 8) | usize::from(*b));
    take(bytes, length)
}

fn take_str<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    match take(bytes, 1)?[0] {
        head @ 0xa0..=0xbf => take(bytes, usize::from(head & 0x1f)),
        0xd9 => take_sized(bytes, 1),
        0xda => take_sized(bytes, 2),
        0xdb => take_sized(bytes, 4),
        _ => None,
    }
}

fn take_bin<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    match take(bytes, 1)?[0] {
        0xc4 => take_sized(bytes, 1),
        0xc5 => take_sized(bytes, 2),
        0xc6 => take_sized(bytes, 4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Ciphertexts that a real KES opened: key 00..1f, iv 40..4f, nonce 50..5b, context `ctx1`, plaintext 32 x AA.
    const RAW: &str =
        "I0tk5JTlfNA5+R7ZiZg9I/oR7U4C0Bc5zk5sLczXxr1oHxpxYDGowUfB33++x90UQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaWw==";
    const MESSAGE_PACK: &str = "laZBRVMyNTagxBBAQUJDREVGR0hJSktMTU5PxAxQUVJTVFVWV1hZWlvEMCNLZOSU5XzQOfke2YmYPSP6Ee1OAtAXOc5ObC3M18a9aB8acWAxqMFHwd9/vsfdFA==";

    fn vector_key() -> [u8; 32] {
        std::array::from_fn(|i| u8::try_from(i).unwrap())
    }

    #[test]
    fn seals_exactly_as_a_real_kes() {
        let iv = std::array::from_fn(|i| 0x40 + u8::try_from(i).unwrap());
        let nonce = std::array::from_fn(|i| 0x50 + u8::try_from(i).unwrap());
        let sealed = seal_with(&vector_key(), iv, nonce, &[0xaa; 32], b"ctx1");
        assert_eq!(STANDARD.encode(sealed), RAW);
    }

    #[test]
    fn opens_every_encoding_that_a_real_kes_opens() {
        let raw = STANDARD.decode(RAW).unwrap();
        let json = |aead: &str| {
            let b64 = |range: std::ops::Range<usize>| STANDARD.encode(&raw[range]);
            format!(
                r#"{{"aead":"{aead}","id":"x","iv":"{}","nonce":"{}","bytes":"{}"}}"#,
                b64(48..64),
                b64(64..76),
                b64(0..48)
            )
            .into_bytes()
        };
        // The label of the algorithm is not what decides: the key's type is.
        let labels = [json("AES-256-GCM-HMAC-SHA-256"), json("ChaCha20Poly1305")];
        for ciphertext in [raw.clone(), STANDARD.decode(MESSAGE_PACK).unwrap()].into_iter().chain(labels) {
            assert_eq!(open(&vector_key(), &ciphertext, b"ctx1").unwrap().as_slice(), [0xaa; 32]);
            assert!(open(&vector_key(), &ciphertext, b"ctx2").is_none());
            assert!(open(&[0; 32], &ciphertext, b"ctx1").is_none());
        }
        assert!(open(&vector_key(), &json("AES256"), b"ctx1").is_none());
    }

    #[test]
    fn what_only_looks_like_an_old_encoding_is_taken_raw() {
        // A sealed byte may happen to be 0x95 or `{`: look for nonces that make it so.
        let mut seen = 0;
        for n in 0..=u8::MAX {
            for m in 0..8 {
                let mut nonce = [n; NONCE];
                nonce[0] = m;
                let sealed = seal_with(&vector_key(), [1; IV], nonce, &[7; 32], b"");
                if matches!(sealed[0], 0x95 | b'{') {
                    seen += 1;
                    assert_eq!(open(&vector_key(), &sealed, b"").unwrap().as_slice(), [7; 32]);
                }
            }
        }
        assert!(seen > 0);
    }

    proptest::proptest! {
        #[test]
        fn nothing_foreign_opens_and_nothing_panics(bytes: Vec<u8>, head in 0usize..3) {
            let mut foreign = [vec![], vec![0x95, 0xa6], b"{".to_vec()][head].clone();
            foreign.extend(bytes);
            proptest::prop_assert!(open(&vector_key(), &foreign, b"").is_none());
        }
    }
}
