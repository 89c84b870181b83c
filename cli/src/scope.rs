//! What a verb that talks to a store is pointed at: `ALIAS/BUCKET[/PREFIX]`, or `s3://BUCKET[/PREFIX]` on the store that
//! the environment names.

use std::fmt;
use std::str::FromStr;

use keyrotate_proto::job::{self, Parsed};
use serde_json::json;

use crate::failure::Failure;

/// A bucket of a store, or the keys in it that begin with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopeArg {
    /// A store of the configuration, or an alias of mc; `None`: the store that `AWS_*` name.
    pub(crate) store: Option<String>,
    /// The bucket.
    pub(crate) bucket: String,
    /// What the keys begin with; empty for all of them.
    pub(crate) prefix: String,
}

impl ScopeArg {
    /// The job on it without a job file: everything there under that key, else under the store's own.
    pub(crate) fn job(&self, key: Option<&str>) -> Result<Parsed, Failure> {
        let encryption = key.map_or_else(|| json!({}), |key| json!({"key": key}));
        let file = json!({"keyrotate": {
            "apiVersion": "v1", "bucket": self.bucket, "prefix": self.prefix, "encryption": encryption,
        }});
        // What is JSON is YAML, too.
        job::parse(file.to_string().as_bytes(), &self.to_string()).map_err(|errors| {
            Failure::usage(format!("`{self}` can't be rotated:\n{errors}"), "correct its name or the key")
        })
    }
}

impl FromStr for ScopeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "write `ALIAS/BUCKET[/PREFIX]`, or `s3://BUCKET[/PREFIX]` for the store that AWS_* name".to_owned();
        let (store, rest) = match text.strip_prefix("s3://") {
            Some(rest) => (None, rest),
            None => text.split_once('/').map(|(store, rest)| (Some(store), rest)).ok_or_else(wrong)?,
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let strange = |store: &str| store.is_empty() || store.contains(':');
        if bucket.is_empty() || store.is_some_and(strange) {
            return Err(wrong());
        }
        Ok(Self { store: store.map(str::to_owned), bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for ScopeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.store {
            Some(store) => write!(f, "{store}/{}", self.bucket)?,
            None => write!(f, "s3://{}", self.bucket)?,
        }
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_shown_as_they_were_written() {
        for (text, store, bucket, prefix) in [
            ("prod/invoices", Some("prod"), "invoices", ""),
            ("prod/invoices/2026/11/", Some("prod"), "invoices", "2026/11/"),
            ("s3://invoices", None, "invoices", ""),
            ("s3://invoices/a b", None, "invoices", "a b"),
        ] {
            let read: ScopeArg = text.parse().unwrap();
            let wanted = (store.map(str::to_owned), bucket.to_owned(), prefix.to_owned());
            assert_eq!((read.store.clone(), read.bucket.clone(), read.prefix.clone()), wanted);
            assert_eq!(read.to_string(), text);
        }
        for wrong in ["", "invoices", "/invoices", "prod/", "s3://", "s3:///x", "https://h/b"] {
            assert!(wrong.parse::<ScopeArg>().is_err(), "{wrong}");
        }
    }
}
