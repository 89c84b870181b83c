//! Names of KMS keys, and when two of them mean the same key.

use serde::{Deserialize, Serialize};

const ARN: &str = "arn:aws:kms:";

/// The name of a KMS key as somebody wrote it: a KES key name, MinIO's `arn:aws:kms:NAME`, or an AWS key id,
/// alias or full ARN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyName(pub String);

impl KeyName {
    /// The name without MinIO's `arn:aws:kms:` prefix; a full AWS ARN stays whole.
    #[must_use]
    pub fn bare(&self) -> &str {
        match self.0.strip_prefix(ARN) {
            Some(rest) if !rest.contains(':') => rest,
            _ => &self.0,
        }
    }

    /// Whether both names mean the same key: compared without `arn:aws:kms:`; of a full AWS ARN
    /// (`arn:aws:kms:REGION:ACCOUNT:key/ID`) the whole or its last part (`key/ID`, `ID`, `alias/NAME`) may be given
    /// on one side. Two full ARNs must be equal.
    #[must_use]
    pub fn same_key(&self, other: &Self) -> bool {
        let (a, b) = (self.bare(), other.bare());
        a == b || last_part_is(a, b) || last_part_is(b, a)
    }

    /// Whether this is a full AWS ARN with region and account.
    #[must_use]
    pub fn is_full_arn(&self) -> bool {
        self.0.starts_with("arn:") && self.0.split(':').count() >= 6
    }
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.bare())
    }
}

/// Whether `short` is the resource of the full ARN `full`, with or without its `key/`.
fn last_part_is(full: &str, short: &str) -> bool {
    if !full.starts_with("arn:") || short.starts_with("arn:") || short.is_empty() {
        return false;
    }
    let Some(resource) = full.splitn(6, ':').nth(5) else { return false };
    resource == short || resource.strip_prefix("key/") == Some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        let (a, b) = (KeyName(a.into()), KeyName(b.into()));
        assert_eq!(a.same_key(&b), b.same_key(&a));
        a.same_key(&b)
    }

    #[test]
    fn names_compare_normalised() {
        assert!(same("arn:aws:kms:k", "k"));
        assert!(same("k", "k"));
        assert!(!same("k", "K"));
        let full = "arn:aws:kms:eu-west-1:123456789012:key/11-22";
        assert!(same(full, "11-22"));
        assert!(same(full, "key/11-22"));
        assert!(same(full, full));
        assert!(!same(full, "22"));
        assert!(!same(full, "arn:aws:kms:eu-west-2:123456789012:key/11-22"));
        assert!(same("arn:aws:kms:eu-west-1:1:alias/a", "alias/a"));
        assert!(!same(full, ""));
    }
}
