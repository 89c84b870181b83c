//! The fields of the configuration file, and the variables that belong to them.

use keyrotate_proto::job::settings::{Known, Shape};

/// All fields.
pub(crate) const FIELDS: Known = &[
    ("url", Shape::Text),
    ("token", Shape::Text),
    ("caBundle", Shape::Text),
    ("cert", Shape::Text),
    ("key", Shape::Text),
    ("listen", Shape::Text),
    ("metricsListen", Shape::Text),
    ("tls", Shape::Map(&[("cert", Shape::Text), ("key", Shape::Text), ("clientCa", Shape::Text)])),
    ("tokens", Shape::List(&Shape::Map(TOKEN))),
    ("limits", Shape::Map(&[("body", Shape::Count), ("rate", Shape::Count), ("openJobs", Shape::Count)])),
    ("notify", Shape::Map(&[("allowPrivate", Shape::Flag)])),
    ("secrets", Shape::Map(&[("kesKey", Shape::Text), ("keyFile", Shape::Text)])),
    ("rabbitmq", Shape::Map(RABBITMQ)),
    ("redis", Shape::Map(REDIS)),
    ("reports", Shape::Map(REPORTS)),
    ("stores", Shape::Named(STORE)),
    ("worker", Shape::Map(WORKER)),
];

const TOKEN: Known = &[
    ("name", Shape::Text),
    ("hash", Shape::Text),
    ("role", Shape::Text),
    ("scopes", Shape::List(&Shape::Text)),
    ("expires", Shape::Text),
];

const RABBITMQ: Known = &[
    ("url", Shape::Text),
    ("password", Shape::Text),
    ("caBundle", Shape::Text),
    ("cert", Shape::Text),
    ("key", Shape::Text),
    ("management", Shape::Text),
];

const REDIS: Known = &[
    ("url", Shape::Text),
    ("password", Shape::Text),
    ("sentinelPassword", Shape::Text),
    ("prefix", Shape::Text),
    ("caBundle", Shape::Text),
    ("cert", Shape::Text),
    ("key", Shape::Text),
    ("acceptWeakPersistence", Shape::Flag),
    ("acceptUnknownPersistence", Shape::Flag),
];

const REPORTS: Known = &[
    ("endpoint", Shape::Text),
    ("region", Shape::Text),
    ("bucket", Shape::Text),
    ("prefix", Shape::Text),
    ("profile", Shape::Text),
    ("caBundle", Shape::Text),
    ("cert", Shape::Text),
    ("key", Shape::Text),
    ("accessKeyId", Shape::Text),
    ("secretAccessKey", Shape::Text),
];

pub(crate) const STORE: Known = &[
    ("endpoint", Shape::Text),
    ("region", Shape::Text),
    ("profile", Shape::Text),
    ("caBundle", Shape::Text),
    ("cert", Shape::Text),
    ("key", Shape::Text),
    ("accessKeyId", Shape::Text),
    ("secretAccessKey", Shape::Text),
    ("probePrefix", Shape::Text),
    ("probeBucket", Shape::Text),
    ("rate", Shape::Text),
    ("byteRate", Shape::Text),
    ("kmsRate", Shape::Text),
    ("permits", Shape::Count),
];

const WORKER: Known = &[("slots", Shape::Count), ("permits", Shape::Text), ("stores", Shape::List(&Shape::Text))];

/// Whether a field, by the last piece of its path, is a secret or may hold one.
pub(crate) fn is_secret(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or_default();
    matches!(name, "token" | "password" | "sentinelPassword" | "secretAccessKey" | "management")
        || matches!(path, "redis.url" | "rabbitmq.url")
}

/// The variable of a field: `redis.acceptWeakPersistence` is `KEYROTATE_REDIS_ACCEPT_WEAK_PERSISTENCE`.
pub(crate) fn variable(path: &str) -> String {
    let mut name = String::from(PREFIX);
    for c in path.chars() {
        match c {
            '.' | '-' => name.push('_'),
            c if c.is_ascii_uppercase() => {
                name.push('_');
                name.push(c);
            }
            c => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}

/// What the names of all variables begin with.
pub(crate) const PREFIX: &str = "KEYROTATE_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_variable() {
        for (path, name) in [
            ("url", "KEYROTATE_URL"),
            ("redis.acceptWeakPersistence", "KEYROTATE_REDIS_ACCEPT_WEAK_PERSISTENCE"),
            ("stores.eu-1.caBundle", "KEYROTATE_STORES_EU_1_CA_BUNDLE"),
        ] {
            assert_eq!(variable(path), name);
        }
    }
}
