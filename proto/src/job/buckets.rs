//! A job file about several buckets: what `buckets` names, and the jobs that come of it, one for each scope.

use std::fmt;

use super::pattern::wildcard;
use super::values::{self, Bad};

/// A bucket, or the keys in it that begin with a prefix: what one job is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The bucket.
    pub bucket: String,
    /// What the keys begin with; empty for all of them.
    pub prefix: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// An entry of `buckets`: `NAME[/PREFIX]`, in whose name `*` stands for any run of characters and `?` for one. The
/// prefix is taken as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPattern(Scope);

impl BucketPattern {
    /// Whether only the store knows which buckets it names.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.bucket.contains(['*', '?'])
    }

    /// Whether a job on this scope is one of those that it stands for.
    #[must_use]
    pub fn names(&self, scope: &Scope) -> bool {
        wildcard(&self.0.bucket, &scope.bucket) && scope.prefix == self.0.prefix
    }

    /// The bucket's name, or the pattern of it.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.0.bucket
    }

    /// What the keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }
}

/// Reads an entry.
pub(super) fn entry(text: &str) -> Result<BucketPattern, Bad> {
    let (name, prefix) = text.split_once('/').unwrap_or((text, ""));
    // A sign may stand for letters: what is left of a name when it does must be one.
    values::bucket(&name.replace(['*', '?'], "xxx"))?;
    Ok(BucketPattern(Scope { bucket: name.to_owned(), prefix: values::prefix(prefix)? }))
}

impl fmt::Display for BucketPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The scopes that entries name in a store with these buckets, in order and none inside another; and the entries that
/// name none. A bucket that is named without a sign is taken to be there.
#[must_use]
pub fn scopes<'a>(entries: &'a [BucketPattern], there: &[String]) -> (Vec<Scope>, Vec<&'a BucketPattern>) {
    let mut all = Vec::new();
    let mut idle = Vec::new();
    for entry in entries {
        let named: Vec<&str> = match entry.is_open() {
            true => there.iter().map(String::as_str).filter(|bucket| wildcard(entry.bucket(), bucket)).collect(),
            false => vec![entry.bucket()],
        };
        if named.is_empty() {
            idle.push(entry);
        }
        let prefix = entry.prefix();
        all.extend(named.into_iter().map(|bucket| Scope { bucket: bucket.to_owned(), prefix: prefix.to_owned() }));
    }
    // In this order whatever lies inside another comes right behind it, or behind others inside it.
    all.sort_unstable();
    all.dedup_by(|inner, outer| inner.bucket == outer.bucket && inner.prefix.starts_with(&outer.prefix));
    (all, idle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> BucketPattern {
        entry(text).unwrap_or_else(|bad| panic!("{text}: {}", bad.message))
    }

    fn named(entries: &[&str], there: &[&str]) -> Vec<String> {
        let entries: Vec<_> = entries.iter().map(|text| read(text)).collect();
        let there: Vec<_> = there.iter().map(|name| (*name).to_owned()).collect();
        scopes(&entries, &there).0.iter().map(Scope::to_string).collect()
    }

    #[test]
    fn signs_stand_for_names_and_never_for_prefixes() {
        let there = ["logs-a", "logs-b", "logs-bb", "data"];
        assert_eq!(named(&["logs-?"], &there), ["logs-a", "logs-b"]);
        assert_eq!(named(&["logs-*/2026/", "data"], &there), ["data", "logs-a/2026/", "logs-b/2026/", "logs-bb/2026/"]);
        assert_eq!(named(&["elsewhere/a*/"], &there), ["elsewhere/a*/"]);
        let entries = [read("none-*")];
        assert_eq!(scopes(&entries, &[]), (Vec::new(), vec![&entries[0]]));
        for bad in ["", "/", "a", "a b*", "<bucket>", "BUCKET"] {
            assert!(entry(bad).is_err(), "{bad}");
        }
        assert!(entry("*").is_ok());
    }

    proptest! {
        #[test]
        fn no_key_is_in_two_scopes_and_none_is_left_out(
            entries in prop::collection::vec(("[ab?*]{3}", "[ab]{0,3}"), 1..6),
            key in "[ab]{0,4}",
        ) {
            let there: Vec<String> = ["aaa", "aab", "abb", "bbb"].map(str::to_owned).to_vec();
            let entries: Vec<_> = entries.iter().map(|(name, prefix)| read(&format!("{name}/{prefix}"))).collect();
            let (found, _) = scopes(&entries, &there);
            for bucket in &there {
                let wanted = entries.iter().any(|e| wildcard(e.bucket(), bucket) && key.starts_with(e.prefix()));
                let within = found.iter().filter(|s| s.bucket == *bucket && key.starts_with(&s.prefix)).count();
                prop_assert_eq!(within, usize::from(wanted));
                prop_assert!(found.iter().all(|scope| entries.iter().any(|entry| entry.names(scope))));
            }
        }
    }
}
