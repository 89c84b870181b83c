//! Wildcards, and how the filters of a job file compare tags and metadata.

use crate::spec::KeyPattern;

/// The prefix of user metadata on the wire; a job file may leave it out.
const USER_METADATA: &str = "x-amz-meta-";

/// Names in a `metadata` filter that mean a header of the object and not user metadata.
pub const HEADERS: [&str; 6] =
    ["content-type", "content-encoding", "content-language", "content-disposition", "cache-control", "expires"];

/// Whether the whole text fits the pattern: `*` stands for any run of characters, also an empty one, `?` for exactly
/// one character, everything else for itself, with case.
///
/// Only the last `*` is ever taken back, so the steps are at most pattern × text in the worst case and linear in the
/// usual one; no pattern makes it explode.
#[must_use]
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let (mut p, mut t) = (pattern.chars(), text.chars());
    // After a `*`: the pattern behind it, and the text from which that was tried last.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let before_t = t.clone();
        match (p.next(), t.next()) {
            (Some('*'), _) => {
                if p.as_str().is_empty() {
                    return true;
                }
                t = before_t.clone();
                retry = Some((p.clone(), before_t));
            }
            (None, None) => return true,
            (Some('?'), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            (_, None) => return false,
            _ => {
                let Some((behind, from)) = &mut retry else { return false };
                from.next();
                (p, t) = (behind.clone(), from.clone());
            }
        }
    }
}

impl KeyPattern {
    /// Whether a tag fits: the key compares without case, the value by [`wildcard`], with case.
    #[must_use]
    pub fn matches(&self, name: &str, value: &str) -> bool {
        same_name(&self.key, name) && wildcard(&self.value, value)
    }

    /// Whether an entry of user metadata fits. Both names may come with or without `x-amz-meta-`. A pattern that
    /// names one of [`HEADERS`] never fits user metadata; written `x-amz-meta-content-type` it does.
    #[must_use]
    pub fn matches_user_metadata(&self, name: &str, value: &str) -> bool {
        !self.is_header() && same_name(user_name(&self.key), user_name(name)) && wildcard(&self.value, value)
    }

    /// Whether a header of the object (`content-type` and the like) fits.
    #[must_use]
    pub fn matches_header(&self, name: &str, value: &str) -> bool {
        self.is_header() && self.matches(name, value)
    }

    /// Whether this names one of [`HEADERS`].
    #[must_use]
    pub fn is_header(&self) -> bool {
        HEADERS.iter().any(|header| self.key.eq_ignore_ascii_case(header))
    }
}

/// Whether one of the patterns fits one of the tags.
#[must_use]
pub fn any_tag_matches<'a>(patterns: &[KeyPattern], tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> bool {
    tags.into_iter().any(|(name, value)| patterns.iter().any(|p| p.matches(name, value)))
}

/// Whether one of the patterns fits one of the entries of user metadata, or one of the object's headers.
#[must_use]
pub fn any_metadata_matches<'a>(
    patterns: &[KeyPattern],
    user: impl IntoIterator<Item = (&'a str, &'a str)>,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> bool {
    user.into_iter().any(|(name, value)| patterns.iter().any(|p| p.matches_user_metadata(name, value)))
        || headers.into_iter().any(|(name, value)| patterns.iter().any(|p| p.matches_header(name, value)))
}

fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase()
}

fn user_name(name: &str) -> &str {
    match name.get(..USER_METADATA.len()) {
        Some(start) if start.eq_ignore_ascii_case(USER_METADATA) => &name[USER_METADATA.len()..],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, without a thought for speed.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => {
                by_definition(&pattern[1..], text) || (!text.is_empty() && by_definition(pattern, &text[1..]))
            }
            (Some('?'), Some(_)) => by_definition(&pattern[1..], &text[1..]),
            (Some(a), Some(b)) if a == b => by_definition(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn wildcard_is_its_definition(pattern in "[abä*?]{0,8}", text in "[abä]{0,10}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(wildcard(&pattern, &text), by_definition(&p, &t));
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let (pattern, text) = ("*a".repeat(200) + "b", "a".repeat(8000));
        assert!(!wildcard(&pattern, &text));
        assert!(wildcard("pick?*", "pick1"));
        assert!(!wildcard("pick?*", "pick"));
        assert!(!wildcard("pick*", "Pick"));
    }

    fn pattern(key: &str, value: &str) -> KeyPattern {
        KeyPattern { key: key.into(), value: value.into() }
    }

    #[test]
    fn names_compare_without_case_and_headers_are_not_user_metadata() {
        assert!(pattern("Name", "pick*").matches("name", "picked"));
        assert!(!pattern("Name", "pick*").matches("name2", "picked"));
        assert!(pattern("team", "a").matches_user_metadata("X-Amz-Meta-Team", "a"));
        assert!(pattern("x-amz-meta-team", "a").matches_user_metadata("Team", "a"));
        assert!(!pattern("content-type", "*").matches_user_metadata("content-type", "a"));
        assert!(pattern("X-Amz-Meta-Content-Type", "*").matches_user_metadata("content-type", "a"));
        assert!(pattern("Content-Type", "image/*").matches_header("content-type", "image/png"));
        assert!(!pattern("team", "*").matches_header("team", "a"));
        assert!(!pattern("x-amz-meta-team", "a").matches("team", "a"), "a tag's name is taken as it is");
    }

    #[test]
    fn entries_are_ored() {
        let patterns = [pattern("a", "1"), pattern("content-type", "image/*")];
        assert!(any_tag_matches(&patterns, [("b", "1"), ("A", "1")]));
        assert!(!any_tag_matches(&patterns, [("b", "1")]));
        assert!(!any_tag_matches(&patterns, []));
        assert!(any_metadata_matches(&patterns, [], [("content-type", "image/gif")]));
        assert!(any_metadata_matches(&patterns, [("a", "1")], []));
        assert!(!any_metadata_matches(&patterns, [("content-type", "image/gif")], [("a", "1")]));
    }
}
