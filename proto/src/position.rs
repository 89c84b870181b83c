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

    /// Whether all keys of the other lie in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let ends_within = match (&self.end, &other.end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(end), Some(others)) => others <= end,
        };
        self.start <= other.start && ends_within
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

/// The first text behind a key.
#[must_use]
pub fn right_behind(key: &str) -> String {
    format!("{key}\0")
}

/// A text right before `key` for a listing to begin behind, so that `key` itself is listed if it is there, and as few
/// others before it as can be had: with the last character lowered by one and the greatest character behind it. `None`
/// where only the very beginning is before it.
#[must_use]
pub fn right_before(key: &str) -> Option<String> {
    let mut chars = key.chars();
    let last = chars.next_back()?;
    let mut head = chars.as_str();
    // Control characters are refused by some stores.
    let lowered = previous_char(last).filter(|c| *c >= ' ' && *c != '\u{7f}');
    if let Some(text) = lowered.map(|c| format!("{head}{c}{}", char::MAX)).filter(|text| is_askable(text) && fits(text))
    {
        return Some(text);
    }
    while !(head.is_empty() || is_askable(head) && head.len() <= LONGEST) {
        let mut chars = head.chars();
        chars.next_back();
        head = chars.as_str();
    }
    (!head.is_empty()).then(|| head.to_owned())
}

/// Whether every store begins a listing behind this text. MinIO refuses one with a component that no object there could
/// have: an empty one, except at the end, `.` or `..`.
#[must_use]
pub fn is_askable(text: &str) -> bool {
    let bad = |component: &str| matches!(component, "." | "..");
    !text.starts_with('/') && !text.contains("//") && !text.split('/').any(bad)
}

/// Whether what was put behind a key leaves it a name that MinIO's drives could hold.
fn fits(text: &str) -> bool {
    let last = text.rsplit('/').next().unwrap_or_default();
    text.len() <= LONGEST && last.len() <= LONGEST_COMPONENT
}

/// Bytes of a text to begin a listing behind; keys may have 1,024.
const LONGEST: usize = 1_000;

/// Bytes between two slashes.
const LONGEST_COMPONENT: usize = 255;

/// The character before, in the same order as [`next_char`].
fn previous_char(c: char) -> Option<char> {
    match c {
        '\u{e000}' => Some('\u{d7ff}'),
        c => u32::from(c).checked_sub(1).and_then(char::from_u32),
    }
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

    #[test]
    fn places_right_before() {
        let places = [
            ("abc", Some(format!("abb{}", char::MAX))),
            // What a lowered character would make of it, MinIO refuses.
            ("a/0", Some("a/".to_owned())),
            ("a ", Some("a".to_owned())),
            ("a/../b", Some("a/".to_owned())),
            ("/0", None),
            ("0", None),
            ("\u{0}", None),
            ("", None),
        ];
        for (key, place) in places {
            assert_eq!(right_before(key), place, "{key:?}");
        }
        let long = format!("a/{}", "x".repeat(255));
        assert_eq!(right_before(&long), Some(long[..long.len() - 1].to_owned()));
        assert!(right_before(&"abc/".repeat(256)).unwrap().len() <= LONGEST);
    }

    proptest! {
        #[test]
        fn a_listing_begins_right_before_its_key(key in "(a|0|\\.|/|//|é|\\PC|.|\u{e000}|x{200}){1,7}") {
            if let Some(before) = right_before(&key) {
                prop_assert!(before < key, "{before:?} {key:?}");
                prop_assert!(is_askable(&before), "{before:?} {key:?}");
            }
        }

        #[test]
        fn hardly_a_key_lies_between(number in 0u32..1_000_000, width in 1usize..7) {
            let name = |n: u32| format!("obj-{n:0width$}");
            let place = right_before(&name(number)).unwrap();
            let same_length = number > 0 && name(number - 1).len() == name(number).len();
            prop_assert!(!same_length || name(number - 1) <= place, "{place:?}");
        }

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
