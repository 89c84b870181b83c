//! The five checksum algorithms of S3, and MD5 for ETags.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyrotate_store::Checksum;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

const CRC32C: [u64; 256] = table(0x82F6_3B78);
const CRC64NVME: [u64; 256] = table(0x9A6C_9329_AC4B_C9B5);

/// One checksum over bytes that come one after the other.
pub(super) enum Hasher {
    Crc32(crc32fast::Hasher),
    Crc32c(u64),
    Crc64Nvme(u64),
    Sha1(Sha1),
    Sha256(Sha256),
    Md5(Md5),
}

impl Hasher {
    /// The algorithm as S3 writes it; `None` for one that is not known.
    pub(super) fn named(algorithm: &str) -> Option<Self> {
        Some(match algorithm {
            "CRC32" => Self::Crc32(crc32fast::Hasher::new()),
            "CRC32C" => Self::Crc32c(u64::from(u32::MAX)),
            "CRC64NVME" => Self::Crc64Nvme(u64::MAX),
            "SHA1" => Self::Sha1(Sha1::new()),
            "SHA256" => Self::Sha256(Sha256::new()),
            "MD5" => Self::Md5(Md5::new()),
            _ => return None,
        })
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(hasher) => hasher.update(bytes),
            Self::Crc32c(crc) => *crc = step(&CRC32C, *crc, bytes),
            Self::Crc64Nvme(crc) => *crc = step(&CRC64NVME, *crc, bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc32(hasher) => hasher.finalize().to_be_bytes().to_vec(),
            Self::Crc32c(crc) => (!crc).to_be_bytes()[4..].to_vec(),
            Self::Crc64Nvme(crc) => (!crc).to_be_bytes().to_vec(),
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Md5(hasher) => hasher.finalize().to_vec(),
        }
    }
}

/// A checksum as S3 writes it: of a whole body.
pub(super) fn of_whole(algorithm: &str, raw: &[u8]) -> Checksum {
    Checksum { algorithm: algorithm.to_owned(), value: STANDARD.encode(raw), full_object: true }
}

/// A checksum as S3 writes it: composed of those of the parts.
pub(super) fn of_parts(algorithm: &str, parts: &[Vec<u8>]) -> Option<Checksum> {
    let raw = digest(algorithm, &parts.concat())?;
    let value = format!("{}-{}", STANDARD.encode(raw), parts.len());
    Some(Checksum { algorithm: algorithm.to_owned(), value, full_object: false })
}

/// A digest of bytes in memory; `None` for an algorithm that is not known.
pub(super) fn digest(algorithm: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut hasher = Hasher::named(algorithm)?;
    hasher.update(bytes);
    Some(hasher.finish())
}

fn step(table: &[u64; 256], crc: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(crc, |crc, byte| table[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

/// The table of a reflected polynomial.
const fn table(polynomial: u64) -> [u64; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut value = i as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ polynomial } else { value >> 1 };
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the algorithms' catalogues.
    #[test]
    fn check_values() {
        let of = |algorithm| hex::encode(digest(algorithm, b"123456789").unwrap());
        assert_eq!(of("CRC32"), "cbf43926");
        assert_eq!(of("CRC32C"), "e3069283");
        assert_eq!(of("CRC64NVME"), "ae8b14860a799888");
        assert_eq!(of("SHA1"), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        assert_eq!(of("SHA256"), "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
        assert_eq!(of("MD5"), "25f9e794323b453885f5181f1b624d0b");
        assert!(digest("CRC16", b"").is_none());
    }
}
