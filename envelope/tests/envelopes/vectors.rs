//! Envelopes that clients of others wrote: read, and rewrapped.
//!
//! The wrapping key is 32 bytes of 0x11. `V1` and the `V2` file are from Ruby's `aws-sdk-s3` 1.117.2, the others from the client
//! for Java, 4.0.1.

use crate::world::{Stored, VECTORS, bytes, decode, fields};
use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt as _, KeyInit as _};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, Payload};
use keyrotate_envelope::secret::WrappingKey;
use keyrotate_envelope::{Content, Description, Envelope, Found, Place, Target, Unopened, Version, Wrap, open, rewrap};

fn key(byte: u8) -> WrappingKey {
    WrappingKey::aes(&[byte; 32]).unwrap()
}

/// The plaintext of a body, by the formulas of the format.
fn body(envelope: &Envelope, stored: &Stored, data_key: &[u8; 32]) -> Option<Vec<u8>> {
    let sealed = decode(stored.body);
    match envelope.content {
        Content::Cbc(_) => {
            let cipher = Aes256::new(data_key.into());
            let mut before = decode(stored.value("x-amz-iv"));
            let mut plain = Vec::new();
            for block in sealed.chunks(16) {
                let mut opened: [u8; 16] = block.try_into().unwrap();
                cipher.decrypt_block((&mut opened).into());
                plain.extend(opened.iter().zip(&before).map(|(a, b)| a ^ b));
                before = block.to_vec();
            }
            let padding = usize::from(*plain.last()?);
            plain.truncate(plain.len().checked_sub(padding)?);
            Some(plain)
        }
        Content::Gcm => gcm(data_key, &decode(stored.value("x-amz-iv")), b"", &sealed),
        Content::Committing => {
            let message_id = decode(stored.value("x-amz-i"));
            let derived = crate::world::derived(&message_id, data_key);
            gcm(&derived, &[1; 12], b"\x00\x73", &sealed)
        }
    }
}

fn gcm(key: &[u8; 32], nonce: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let nonce: &[u8; 12] = nonce.try_into().unwrap();
    Aes256Gcm::new(key.into()).decrypt(nonce.into(), Payload { msg: sealed, aad }).ok()
}

#[test]
fn what_other_clients_wrote_opens_to_the_key_of_its_body() {
    for stored in VECTORS {
        let envelope = stored.read().unwrap();
        let opened = open(&envelope, &key(0x11)).unwrap_or_else(|error| panic!("{}: {error}", stored.name));
        let plain = body(&envelope, stored, opened.data_key().expose()).unwrap();
        assert_eq!(String::from_utf8(plain).unwrap(), stored.plain, "{}", stored.name);
        if let Some(data_key) = stored.data_key {
            assert_eq!(opened.data_key().expose().as_slice(), bytes(data_key), "{}", stored.name);
        }
        assert_eq!(open(&envelope, &key(0x12)).err(), Some(Unopened::WrongKey), "{}", stored.name);
    }
}

#[test]
fn what_was_rewrapped_opens_with_the_new_key_alone_and_nothing_else_changed() {
    let description = Description::parse(r#"{"kid":"k2"}"#).unwrap();
    let (old, new) = (key(0x11), key(0x22));
    for stored in VECTORS {
        let envelope = stored.read().unwrap();
        let opened = open(&envelope, &old).unwrap();
        let target = Target { key: &new, description: &description };
        let written = rewrap(&envelope, &opened, target, Some(&old), [7; 12]).unwrap();
        assert_eq!(written.key.wrap, Wrap::AesGcm);
        assert_eq!(written.key.description, description);

        let again = stored.with(&written).read().unwrap();
        assert_eq!(again, written, "{}: it reads as it was written", stored.name);
        assert_eq!(open(&again, &old).err(), Some(Unopened::WrongKey), "{}", stored.name);
        let opened = open(&again, &new).unwrap();
        let plain = body(&again, &stored.with(&written), opened.data_key().expose()).unwrap();
        assert_eq!(String::from_utf8(plain).unwrap(), stored.plain, "{}", stored.name);

        let owned = ["x-amz-key", "x-amz-key-v2", "x-amz-3", "x-amz-wrap-alg", "x-amz-w", "x-amz-matdesc", "x-amz-m"];
        let of_v1 = ["x-amz-cek-alg"];
        let foreign = |envelope: &Envelope| -> Vec<(String, String)> {
            let own = |name: &str| owned.contains(&name) || stored.name == "V1" && of_v1.contains(&name);
            envelope.fields().iter().filter(|(name, _)| !own(name)).map(|(n, v)| (n.into(), v.into())).collect()
        };
        assert_eq!(foreign(&written), foreign(&envelope), "{}: what is not ours stays as it is", stored.name);
    }
}

/// Names are changed in their place, and nothing stands between or behind them: there are clients that read no further than the
/// first space.
#[test]
fn an_instruction_file_is_written_as_clients_read_it() {
    let stored = VECTORS.iter().find(|stored| stored.name == "V2 file").unwrap();
    let envelope = stored.read().unwrap();
    assert_eq!(envelope.place, Place::File);
    assert_eq!(envelope.fields().to_file(), stored.file.unwrap().as_bytes(), "what is kept is kept byte for byte");
    let (old, new) = (key(0x11), key(0x22));
    let description = Description::parse(r#"{"kid":"k2"}"#).unwrap();
    let opened = open(&envelope, &old).unwrap();
    let written = rewrap(&envelope, &opened, Target { key: &new, description: &description }, None, [7; 12]).unwrap();
    let text = String::from_utf8(written.fields().to_file()).unwrap();
    let names: Vec<_> = written.fields().iter().map(|(name, _)| name.to_owned()).collect();
    let before: Vec<_> = envelope.fields().iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, before);
    assert!(text.ends_with(r#""x-amz-matdesc":"{\"kid\":\"k2\"}"}"#), "{text}");
    assert!(!text.contains([' ', '\n']), "{text}");
}

/// The one change of names: V1 has no place for a current wrap.
#[test]
fn v1_comes_out_with_the_names_of_v2_as_java_writes_them() {
    let stored = VECTORS.iter().find(|stored| stored.name == "V1").unwrap();
    let envelope = stored.read().unwrap();
    assert_eq!((envelope.version, envelope.key.wrap), (Version::V1, Wrap::AesEcb));
    let opened = open(&envelope, &key(0x11)).unwrap();
    let (new, description) = (key(0x22), Description::default());
    let written = rewrap(&envelope, &opened, Target { key: &new, description: &description }, None, [7; 12]).unwrap();
    let fields = written.fields();
    assert_eq!(fields.get("x-amz-key"), None);
    assert_eq!(fields.get("x-amz-cek-alg"), Some("AES/CBC/PKCS5Padding"));
    assert_eq!(fields.get("x-amz-wrap-alg"), Some("AES/GCM"));
    assert_eq!(fields.get("x-amz-tag-len"), None);
    assert_eq!(fields.get("x-amz-iv"), envelope.fields().get("x-amz-iv"));
}

/// A V3 envelope whose message id is another object's: the data key opens, and the object is not committed to it.
#[test]
fn a_data_key_that_the_object_is_not_committed_to_is_refused() {
    let [one, other] = ["V3", "V3 file"].map(|name| VECTORS.iter().find(|stored| stored.name == name).unwrap());
    let swapped = |name| if name == "x-amz-d" { other.value(name) } else { one.value(name) };
    let metadata: Vec<_> = one.metadata.iter().map(|(name, _)| (*name, swapped(name))).collect();
    let Ok(Found::Here(envelope)) = Found::of(&fields(&metadata)) else { panic!("it is whole") };
    assert_eq!(open(&envelope, &key(0x11)).err(), Some(Unopened::Commitment));
}
