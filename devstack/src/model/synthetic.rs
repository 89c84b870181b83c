//! Buckets of keys that are computed, not stored: ten million objects to list in no memory.

use bytes::Bytes;
use jiff::Timestamp;
use keyrotate_store::Sse;
use serde::{Deserialize, Serialize};

use super::object::{Blob, Content, NULL, Segment, Version};

/// The objects of a synthetic bucket. Their ETags are made up; their bodies are computed from the seed and lie in
/// clear whatever `sse` says, until somebody writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyntheticKeys {
    /// How many.
    pub count: u64,
    /// Over how many prefixes they are spread evenly.
    pub prefixes: u64,
    /// Smallest and largest body, in bytes.
    pub sizes: (u64, u64),
    /// Everything follows from it.
    pub seed: u64,
    /// Encryption that answers show.
    pub sse: Sse,
    /// Last-Modified of all of them.
    pub date: Timestamp,
    /// Bytes of a part, where they were uploaded in parts.
    #[serde(default)]
    pub part: Option<u64>,
    /// Whether they have version ids; else they are of before versioning.
    #[serde(default)]
    pub versions: bool,
    /// How many of them, the last ones, lie in one folder whose long name nobody guesses: a plan has them in one shard.
    #[serde(default)]
    pub heaped: u64,
}

/// The folder of the heaped ones, behind all others.
const HEAP: &str = "q/of-what-was-brought-over-from-the-archive-of-2014-and-never-looked-at-again";

impl SyntheticKeys {
    /// `count` objects of 1 KiB under one KMS key, spread over 16 prefixes.
    #[must_use]
    pub fn under_key(count: u64, key: &str) -> Self {
        let key = Some(keyrotate_proto::key::KeyName(key.to_owned()));
        let sse = Sse::Kms { key, context: None, bucket_key: None };
        let (sizes, date) = ((1024, 1024), Timestamp::UNIX_EPOCH);
        Self { count, prefixes: 16, sizes, seed: 1, sse, date, part: None, versions: false, heaped: 0 }
    }

    /// The key at a place of the order, from 0.
    #[must_use]
    pub fn key(&self, index: u64) -> String {
        let spread = self.count.saturating_sub(self.heaped);
        if index >= spread {
            return format!("{HEAP}/o{index:012}");
        }
        let per_prefix = spread.div_ceil(self.prefixes.max(1)).max(1);
        format!("p{:06}/o{index:012}", index / per_prefix)
    }

    /// The place of a key; `None` where it is none of these.
    #[must_use]
    pub fn index(&self, key: &str) -> Option<u64> {
        let index = self.first_from(key);
        (index < self.count && self.key(index) == key).then_some(index)
    }

    /// The first place whose key is `from` or behind it.
    pub(super) fn first_from(&self, from: &str) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle).as_str() < from { low = middle + 1 } else { high = middle }
        }
        low
    }

    pub(super) fn version(&self, index: u64) -> Version {
        let seed = mix(self.seed ^ mix(index));
        let (low, high) = self.sizes;
        let size = low + seed % (high.saturating_sub(low) + 1);
        let mut etag = format!("{:016x}{seed:016x}", mix(seed));
        let id = if self.versions { etag.clone() } else { NULL.to_owned() };
        let segments = self.segments(size, seed);
        if self.part.is_some() {
            etag = format!("{etag}-{}", segments.len());
        }
        let (sse, multipart) = (self.sse.clone(), self.part.is_some());
        let content = Content { size, etag, sse, segments, multipart, ..Content::default() };
        Version { id, date: self.date, seq: 0, content: Some(content) }
    }

    /// The bytes of each part, every one from a seed of its own.
    fn segments(&self, size: u64, seed: u64) -> Vec<Segment> {
        let part = self.part.unwrap_or(size).max(1);
        let segment = |n: u64| {
            let blob = Blob::Generated(if n == 0 { seed } else { mix(seed ^ mix(n)) });
            Segment { size: part.min(size - n * part), salt: Vec::new(), blob }
        };
        (0..size.div_ceil(part).max(1)).map(segment).collect()
    }
}

/// Bytes `from..from + length` of the endless text of a seed.
pub(super) fn generated_bytes(seed: u64, from: u64, length: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(length + 16);
    let mut word = from / 8;
    while bytes.len() < length + 8 {
        bytes.extend_from_slice(&mix(seed ^ mix(word)).to_le_bytes());
        word += 1;
    }
    let skip = usize::try_from(from % 8).unwrap_or(0);
    Bytes::from(bytes).slice(skip..skip + length)
}

/// SplitMix64's mixing step (Steele, Lea, Flood 2014).
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_found_again() {
        for (heaped, spread) in [(0, 1000), (950, 50)] {
            let keys = SyntheticKeys { prefixes: 7, heaped, ..SyntheticKeys::under_key(1000, "k") };
            let all: Vec<String> = (0..1000).map(|i| keys.key(i)).collect();
            assert!(all.is_sorted());
            for (i, key) in all.iter().enumerate() {
                assert_eq!(keys.index(key), Some(i as u64));
                assert_eq!(keys.first_from(&format!("{key}\0")), i as u64 + 1);
            }
            assert_eq!(keys.index("p"), None);
            assert_eq!(keys.first_from("q"), spread);
        }
    }

    #[test]
    fn an_object_in_parts_has_all_its_bytes_and_an_etag_that_counts_them() {
        let keys =
            SyntheticKeys { sizes: (25, 25), part: Some(10), versions: true, ..SyntheticKeys::under_key(2, "k") };
        let (first, second) = (keys.version(0), keys.version(1));
        assert_ne!(first.id, second.id);
        assert_ne!(first.id, NULL);
        let content = first.content.unwrap();
        assert_eq!(content.segments.iter().map(|segment| segment.size).collect::<Vec<_>>(), [10, 10, 5]);
        assert!(content.multipart && content.etag.ends_with("-3"), "{}", content.etag);
        let whole = SyntheticKeys { sizes: (0, 0), part: None, ..keys }.version(0).content.unwrap();
        assert_eq!(whole.segments.iter().map(|segment| segment.size).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn generated_bytes_are_the_same_in_any_cut() {
        let whole = generated_bytes(5, 0, 100);
        for from in 0..40 {
            assert_eq!(generated_bytes(5, from, 60), whole.slice(from as usize..from as usize + 60));
        }
    }
}
