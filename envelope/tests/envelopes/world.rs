//! Stored envelopes.

use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyrotate_envelope::{Envelope, Fields, Found, Malformed, Place};

/// An encrypted object as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) name: &'static str,
    pub(crate) plain: &'static str,
    /// In hex, where the client told it.
    pub(crate) data_key: Option<&'static str>,
    pub(crate) metadata: &'static [(&'static str, &'static str)],
    pub(crate) file: Option<&'static str>,
    pub(crate) body: &'static str,
}

pub(crate) const VECTORS: &[Stored] = &[
    Stored {
        name: "V1",
        plain: "vector v1",
        data_key: None,
        metadata: &[
            ("x-amz-key", "zxD7fP4uWqF7cMwqBCvMufGvvpxkcSXZXi0PFA0YcK+Ng7wNYpwgZTyfzdgXZ68N"),
            ("x-amz-iv", "fq7QnKF6DDbrP9AUOf11wA=="),
            ("x-amz-matdesc", "{}"),
        ],
        file: None,
        body: "YFJuSFzZW2gRNwoEr2z2rg==",
    },
    Stored {
        name: "V2",
        plain: "vector v2",
        data_key: Some("14cab6c201cb97fdc332b1e0375fca59331d4444e970acacf2da4eb65a4427c3"),
        metadata: &[
            ("x-amz-key-v2", "/SVpppuDYwFOGfMDvr9AE3JelAfjedPgkG8gskjLjfoRtlyDIhm6QWHrnBCnwvql47Oal8gkeZFzx1Cz"),
            ("x-amz-iv", "/GY2Uxv3YCJuaqNR"),
            ("x-amz-wrap-alg", "AES/GCM"),
            ("x-amz-cek-alg", "AES/GCM/NoPadding"),
            ("x-amz-tag-len", "128"),
            ("x-amz-matdesc", r#"{"kid":"k1"}"#),
            ("department", "finance"),
        ],
        file: None,
        body: "V+SehA8C5y79943U+o7juvx8is3C9B+iCg==",
    },
    Stored {
        name: "V2 file",
        plain: "vector v2 instr",
        data_key: None,
        metadata: &[("x-amz-unencrypted-content-length", "15")],
        file: Some(concat!(
            r#"{"x-amz-key-v2":"rjDJ6m3F6GqNSysvF3t4R+aynVvUKgJTElKlHuh8his4t4F5ZDOs1HDAPzy0Z+2nM+wG4PIGs1kENCOo","#,
            r#""x-amz-cek-alg":"AES/GCM/NoPadding","x-amz-tag-len":"128","x-amz-wrap-alg":"AES/GCM","#,
            r#""x-amz-iv":"kCDQ9pDnKXnwvwWA","x-amz-matdesc":"{}"}"#
        )),
        body: "kWoKkeD+tRCs2PsmB3ZVLOcg+rvPijj8zQGPzP9sDg==",
    },
    Stored {
        name: "V3",
        plain: "vector v3",
        data_key: Some("f2db7661c9eea68403434c5c7e7706f7be1c14dc2a4dc2c6ceebd5fa20f98931"),
        metadata: &[
            ("x-amz-c", "115"),
            ("x-amz-w", "02"),
            ("x-amz-m", r#"{"kid":"k1"}"#),
            ("x-amz-d", "h5D97Vd2jGTbhq/gp2JFJVh4fJX8RORmWdtCGg=="),
            ("x-amz-i", "JpzlxBWzjNO7qxq1RIBOCW4V8HCW+VXfLhsUlQ=="),
            ("x-amz-3", "BRSRb3nRvay3BEKgTKSOicAtLhQDw3O18EQ9C1WfRbOytJpTHZmuD8ten1TBUFXvkYtka404JSkXDUMQ"),
        ],
        file: None,
        body: "xtVD64SwmwieRyJ4cE25HCUUw2g6i8NS+w==",
    },
    Stored {
        name: "V3 file",
        plain: "vector v3 instr",
        data_key: None,
        metadata: &[
            ("x-amz-c", "115"),
            ("x-amz-d", "rG/46g+mogEOMu5vSNvE5OHhPTaAlPS0IambTg=="),
            ("x-amz-i", "VN5RQ14TC1H7wFaYEs3NnQUC0+YEAxFqDgBWJw=="),
        ],
        file: Some(concat!(
            r#"{"x-amz-w":"02","x-amz-m":"{\"kid\":\"k1\"}","#,
            r#""x-amz-3":"hprhHsznTOP9nYiDvIeWE0vvkJCrO7R246LD/nfo2Pwd2s01lrmiFbUUkQyGqu2djPnVCbuDUgqh9rTe"}"#
        )),
        body: "fkuuTABhEDz+54w4R0z8Ugcwwyf2E7SG3DlDiNDOHw==",
    },
];

impl Stored {
    /// Reads it as whoever rotates it does.
    pub(crate) fn read(&self) -> Result<Envelope, Malformed> {
        read(&fields(self.metadata), self.file.map(str::as_bytes))
    }

    /// With the envelope that was written in the place of its own.
    pub(crate) fn with(&self, written: &Envelope) -> Self {
        let keep = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        match written.place {
            Place::Metadata => {
                let metadata: Vec<_> = written.fields().iter().map(|(n, v)| (keep(n), keep(v))).collect();
                Self { metadata: Box::leak(metadata.into_boxed_slice()), ..self.clone() }
            }
            Place::File => {
                let file = String::from_utf8(written.fields().to_file()).unwrap();
                Self { file: Some(keep(&file)), ..self.clone() }
            }
        }
    }

    /// A value of the metadata, or else of the file.
    pub(crate) fn value(&self, name: &str) -> &'static str {
        let here = self.metadata.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        here.unwrap_or_else(|| {
            let file = Fields::of_file(self.file.unwrap().as_bytes()).unwrap();
            Box::leak(file.get(name).unwrap().to_owned().into_boxed_str())
        })
    }
}

/// Reads metadata, and the file that it asks for.
pub(crate) fn read(metadata: &Fields, file: Option<&[u8]>) -> Result<Envelope, Malformed> {
    let file = |split| Envelope::of_file(split, &Fields::of_file(file.unwrap_or(b"{}"))?);
    match Found::of(metadata)? {
        Found::Here(envelope) => Ok(*envelope),
        Found::Split(split) => file(Some(&split)),
        Found::Nothing => file(None),
    }
}

pub(crate) fn fields(pairs: &[(&str, &str)]) -> Fields {
    let owned: Vec<(String, String)> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Fields::of_metadata(owned.iter().map(|(n, v)| (n, v)))
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

/// The key of a V3 body: HKDF-SHA-512, info `00 73 ‖ "DERIVEKEY"`.
pub(crate) fn derived(message_id: &[u8], data_key: &[u8; 32]) -> [u8; 32] {
    struct Bytes;
    impl KeyType for Bytes {
        fn len(&self) -> usize {
            32
        }
    }
    let mut out = [0; 32];
    let key = Salt::new(HKDF_SHA512, message_id).extract(data_key);
    key.expand(&[b"\x00\x73DERIVEKEY"], Bytes).unwrap().fill(&mut out).unwrap();
    out
}
