//! Who may call what: KES's policies, matched as a real KES matches them.

/// The rights of some identities, as paths.
///
/// A pattern that ends in `*` is a prefix of the whole path (it crosses `/`); every other pattern is the path itself. A
/// call is allowed when no `deny` pattern matches and at least one `allow` pattern does. Methods play no role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What is allowed.
    pub allow: Vec<String>,
    /// What is refused although allowed.
    pub deny: Vec<String>,
}

/// A policy under its name, and whom it is given to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Name of the policy, by the grammar of key names.
    pub name: String,
    /// What it allows.
    pub policy: Policy,
    /// Identities: lower-case hex SHA-256 of public keys.
    pub identities: Vec<String>,
}

impl Policy {
    /// A policy that allows the given patterns.
    pub fn allow<S: Into<String>>(patterns: impl IntoIterator<Item = S>) -> Self {
        Self { allow: patterns.into_iter().map(Into::into).collect(), deny: Vec::new() }
    }

    /// The policy that the vendor's guide hands out to applications: it lacks describe and encrypt, and its
    /// `/v1/key/list` matches no path that a listing really has.
    #[must_use]
    pub fn vendor_guide() -> Self {
        Self::allow([
            "/v1/key/create/*",
            "/v1/key/generate/*",
            "/v1/key/decrypt/*",
            "/v1/key/bulk/decrypt",
            "/v1/key/list",
            "/v1/status",
            "/v1/metrics",
            "/v1/log/audit",
            "/v1/log/error",
        ])
    }

    /// Whether a call of `path` is allowed.
    #[must_use]
    pub fn allows(&self, path: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, path));
        !any(&self.deny) && any(&self.allow)
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => !pattern.is_empty() && pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_the_end_is_a_prefix_and_elsewhere_a_letter() {
        for (pattern, path, expected) in [
            ("*", "/v1/status", true),
            ("/v1/key/create/my-*", "/v1/key/create/my-key", true),
            ("/v1/key/*", "/v1/key/create/my-key", true),
            ("/v1/key/*/my-key", "/v1/key/create/my-key", false),
            ("/v1/key/list", "/v1/key/list/", false),
            ("", "", false),
        ] {
            assert_eq!(Policy::allow([pattern]).allows(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn deny_wins_and_nothing_is_allowed_by_default() {
        let policy = Policy { allow: vec!["*".into()], deny: vec!["/v1/key/delete/*".into()] };
        assert!(policy.allows("/v1/key/create/a"));
        assert!(!policy.allows("/v1/key/delete/a"));
        assert!(!Policy::default().allows("/v1/status"));
    }
}
