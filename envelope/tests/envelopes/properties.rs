//! Of any envelope: rewrapped, it opens with the new key to the same data key, with the old one not at all, and nothing else in
//! it changed. And no bytes make a reader panic.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::world::{VECTORS, read};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use keyrotate_envelope::secret::WrappingKey;
use keyrotate_envelope::{Description, Envelope, Fields, Found, Place, Target, Unopened, Wrap, open, rewrap};
use proptest::prelude::*;

/// Two RSA keys, which take long to make.
static RSA: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    [(); 2].map(|()| {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        der.as_ref().to_vec()
    })
});

#[derive(Clone, Debug)]
enum Key {
    Aes([u8; 32]),
    Rsa(usize),
}

impl Key {
    fn load(&self) -> WrappingKey {
        match self {
            Self::Aes(bytes) => WrappingKey::aes(bytes).unwrap(),
            Self::Rsa(n) => WrappingKey::rsa(&RSA[*n]).unwrap(),
        }
    }
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![4 => any::<[u8; 32]>().prop_map(Key::Aes), 1 => (0..2usize).prop_map(Key::Rsa)]
}

fn description() -> impl Strategy<Value = Description> {
    proptest::collection::btree_map("[ -~]{0,8}", "[ -~]{0,8}", 0..4).prop_map(Description::of)
}

/// Stored anew, and read again.
fn stored(metadata: &[(&str, &str)], envelope: &Envelope) -> Envelope {
    let owned = |pairs: &mut dyn Iterator<Item = (&str, &str)>| -> BTreeMap<String, String> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    match envelope.place {
        Place::Metadata => {
            let Ok(Found::Here(read)) = Found::of(&Fields::of_metadata(&owned(&mut envelope.fields().iter()))) else {
                panic!("it is whole")
            };
            *read
        }
        Place::File => {
            let metadata = Fields::of_metadata(&owned(&mut metadata.iter().copied()));
            read(&metadata, Some(&envelope.fields().to_file())).unwrap()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn from_key_to_key(
        vector in 0..VECTORS.len(),
        way in proptest::collection::vec((key(), description(), any::<[u8; 12]>()), 1..4),
    ) {
        let vector = &VECTORS[vector];
        let mut envelope = vector.read().unwrap();
        let mut old = WrappingKey::aes(&[0x11; 32]).unwrap();
        let first = open(&envelope, &old).unwrap();
        for (key, description, nonce) in way {
            let new = key.load();
            if new.fingerprint() == old.fingerprint() {
                continue;
            }
            let opened = open(&envelope, &old).unwrap();
            prop_assert!(opened.data_key().is(first.data_key()));
            let target = Target { key: &new, description: &description };
            let written = rewrap(&envelope, &opened, target, Some(&old), nonce).unwrap();
            let again = stored(vector.metadata, &written);
            prop_assert_eq!(&again.key, &written.key);
            prop_assert_eq!(&again.key.description, &description);
            prop_assert!(open(&again, &new).unwrap().data_key().is(first.data_key()));
            let refused = open(&again, &old).err();
            prop_assert!(matches!(refused, Some(Unopened::WrongKey | Unopened::OtherKind)), "{refused:?}");
            prop_assert_eq!(again.key.wrap, if new.is_rsa() { Wrap::RsaOaepSha1 } else { Wrap::AesGcm });
            (envelope, old) = (again, new);
        }
    }

    #[test]
    fn no_metadata_and_no_file_makes_a_reader_panic(
        metadata in proptest::collection::btree_map("x-amz-(key|key-v2|3|iv|w|c|i|d|m|t|wrap-alg|cek-alg|tag-len|matdesc)", ".{0,90}", 0..8),
        file in ".{0,200}",
    ) {
        let metadata = Fields::of_metadata(&metadata);
        let _refused = read(&metadata, Some(file.as_bytes()));
    }
}
