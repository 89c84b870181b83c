//! Where a walk stands: between two entries of a listing.

use serde::{Deserialize, Serialize};

/// A place between two entries of a listing. Keys order by their UTF-8 bytes, as S3 lists them; versions of one
/// key come newest first and have no order of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// Right before the first version of a key, whether or not that key exists. The empty key is before everything.
    Before(String),
    /// Right after a key's version; `None` where the bucket is listed without versions.
    After(String, Option<String>),
    /// Behind the last key.
    End,
}

impl Position {
    /// The key it stands at; `None` behind the last one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Before(key) | Self::After(key, _) => Some(key),
            Self::End => None,
        }
    }
}

/// A half-open range of object keys, `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key that may belong to it; empty: from the very first.
    pub start: String,
    /// First key behind it; `None`: no end.
    pub end: Option<String>,
}

impl KeyRange {
    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn of_prefix(prefix: &str) -> Self {
        Self { start: prefix.to_owned(), end: prefix_end(prefix) }
    }

    /// Whether `key` lies in it.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        key >= self.start.as_str() && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Whether both have a key in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let ends_after = |end: &Option<String>, start: &str| end.as_deref().is_none_or(|end| end > start);
        ends_after(&self.end, &other.start) && ends_after(&other.end, &self.start)
    }

    /// Where it ends.
    #[must_use]
    pub fn end_position(&self) -> Position {
        self.end.clone().map_or(Position::End, Position::Before)
    }
}

/// The first string behind all that begin with `prefix`; `None` when there is none.
#[must_use]
pub fn prefix_end(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = next_char(last) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// The next character in the order of UTF-8 bytes, which is the order of code points.
fn next_char(c: char) -> Option<char> {
    match c {
        char::MAX => None,
        '\u{d7ff}' => Some('\u{e000}'),
        c => char::from_u32(u32::from(c) + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_range_holds_exactly_the_keys_with_that_prefix(prefix in ".{0,4}", key in ".{0,6}") {
            let range = KeyRange::of_prefix(&prefix);
            prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
            let with = format!("{prefix}{key}");
            prop_assert!(range.contains(&with));
        }

        #[test]
        fn overlap_is_symmetric_and_seen(a in "[a-c]{0,2}", b in proptest::option::of("[a-c]{1,2}"), c in "[a-c]{0,2}", d in proptest::option::of("[a-c]{1,2}"), key in "[a-c]{0,3}") {
            let (x, y) = (KeyRange { start: a, end: b }, KeyRange { start: c, end: d });
            prop_assert_eq!(x.overlaps(&y), y.overlaps(&x));
            if x.contains(&key) && y.contains(&key) {
                prop_assert!(x.overlaps(&y));
            }
        }
    }
}
