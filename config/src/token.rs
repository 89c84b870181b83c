//! Bearer tokens of the coordinator: made offline, kept as hashes, each with a role and scopes.
//!
//! A token is 256 random bits, so one SHA-256 over it is all that its hash needs: there is nothing to guess.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use keyrotate_env::Env;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::Secret;

/// What every token begins with, so that scanners for leaked secrets find it.
const BEGINNING: &str = "kr_";
const HASH: &str = "sha256:";

/// What the holder of a token may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look.
    View,
    /// Submit, cancel, pause, resume, confirm and change limits of jobs.
    Operate,
    /// Look after the fleet as well: workers, dead letters.
    Admin,
}

impl Role {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// A bucket, or the keys of a bucket that begin with a prefix: `BUCKET` or `BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Scope {
    bucket: String,
    prefix: String,
}

impl Scope {
    /// Whether all keys of a job on `bucket` that begin with `prefix` lie in it.
    #[must_use]
    pub fn holds(&self, bucket: &str, prefix: &str) -> bool {
        self.bucket == bucket && prefix.starts_with(&self.prefix)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}", self.bucket, self.prefix)
    }
}

/// The text is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope: write `BUCKET` or `BUCKET/PREFIX`")]
pub struct NotAScope(String);

impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        if bucket.is_empty() || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) {
            return Err(NotAScope(text.to_owned()));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl TryFrom<String> for Scope {
    type Error = NotAScope;

    fn try_from(text: String) -> Result<Self, NotAScope> {
        text.parse()
    }
}

/// SHA-256 of a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl TryFrom<String> for TokenHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Never quoted: somebody may have put the token itself here.
        let wrong = "is no hash of a token: `keyrotate token new` prints the whole line";
        let mut hash = [0; 32];
        hex::decode_to_slice(text.strip_prefix(HASH).ok_or(wrong)?, &mut hash).map_err(|_| wrong)?;
        Ok(Self(hash))
    }
}

/// Who holds a token: shown as the USER of the jobs that he submits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenName(String);

impl TokenName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TokenName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(format!("`{}` is no name for a token: up to 64 of A-Z a-z 0-9 - _ . @", text.escape_debug()))
        }
    }
}

impl FromStr for TokenName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

/// One entry of `tokens:`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Who holds it.
    pub name: TokenName,
    /// Its hash.
    pub hash: TokenHash,
    /// What he may do.
    pub role: Role,
    /// To which jobs; none given: to all.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Till when; `None`: for ever.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

impl TokenEntry {
    /// A fresh token, and the entry by which it is known again.
    #[must_use]
    pub fn make(
        name: TokenName,
        role: Role,
        scopes: Vec<Scope>,
        expires: Option<Timestamp>,
        env: &Env,
    ) -> (Secret, Self) {
        let mut random = Zeroizing::new([0; 32]);
        env.fill(&mut *random);
        let token = Secret::new(format!("{BEGINNING}{}", URL_SAFE_NO_PAD.encode(*random)));
        let hash = TokenHash::of(token.expose());
        (token, Self { name, hash, role, scopes, expires })
    }

    /// The entry as a line for the configuration file.
    #[must_use]
    pub fn line(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let scopes: Vec<_> = self.scopes.iter().map(|scope| quoted(&scope.to_string())).collect();
        let scopes = if scopes.is_empty() { String::new() } else { format!(", scopes: [{}]", scopes.join(", ")) };
        let expires = self.expires.map(|at| format!(", expires: \"{at}\"")).unwrap_or_default();
        let hash = hex::encode(self.hash.0);
        let name = quoted(self.name.as_str());
        format!("- {{name: {name}, role: {}, hash: \"{HASH}{hash}\"{scopes}{expires}}}", self.role.as_str())
    }

    /// Whether it reaches a job on `bucket` under `prefix`.
    #[must_use]
    pub fn reaches(&self, bucket: &str, prefix: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|scope| scope.holds(bucket, prefix))
    }
}

/// The entry that a presented token belongs to, unless it has expired. Takes the same time whichever it is.
#[must_use]
pub fn find<'a>(entries: &'a [TokenEntry], presented: &str, now: Timestamp) -> Option<&'a TokenEntry> {
    let hash = TokenHash::of(presented);
    let mut found = None;
    for entry in entries {
        if bool::from(entry.hash.0.ct_eq(&hash.0)) {
            found = Some(entry);
        }
    }
    found.filter(|entry| entry.expires.is_none_or(|expires| now < expires))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TokenName {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_known_by_its_hash_until_it_expires() {
        let env = Env::system();
        let soon = Timestamp::from_second(100).unwrap();
        let (first, one) = TokenEntry::make(name("ci"), Role::View, Vec::new(), None, &env);
        let (second, two) = TokenEntry::make(name("me"), Role::Admin, Vec::new(), Some(soon), &env);
        let entries = [one, two];
        let find = |token: &str, at: i64| {
            find(&entries, token, Timestamp::from_second(at).unwrap()).map(|entry| entry.name.as_str().to_owned())
        };
        assert_eq!(find(first.expose(), 200).as_deref(), Some("ci"));
        assert_eq!(find(second.expose(), 99).as_deref(), Some("me"));
        assert_eq!(find(second.expose(), 100), None);
        assert_eq!(find("kr_", 0), None);
        assert_eq!(find("", 0), None);
        assert!(first.expose().len() > 40 && !entries[0].line().contains(&first.expose()[3..]));
    }

    #[test]
    fn scopes_hold_buckets_and_prefixes() {
        let holds = |scope: &str, bucket: &str, prefix: &str| scope.parse::<Scope>().unwrap().holds(bucket, prefix);
        assert!(holds("b", "b", "") && holds("b/", "b", "x/") && holds("b/x/", "b", "x/") && holds("b/x/", "b", "x/y"));
        assert!(
            !holds("b/x/", "b", "") && !holds("b/x/", "b", "x") && !holds("b", "bb", "") && !holds("b/x", "c", "x")
        );
        for wrong in ["", "/x", "a b", "*"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hash_that_is_none_is_not_quoted() {
        for text in ["kr_secret", "sha256:secret", "sha256:"] {
            assert!(!TokenHash::try_from(text.to_owned()).unwrap_err().contains("secret"));
        }
    }
}
