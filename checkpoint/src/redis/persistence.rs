//! Whether the server keeps what it acknowledged.
//!
//! Debian's own configuration loses everything of the last minutes when the server is killed, `appendfsync everysec`
//! the last second at a power cut. A checkpoint that goes back costs a re-scan; fences that go back cost more.

use ::redis::RedisResult;
use ::redis::aio::ConnectionLike;

use super::info::Info;

/// What is known of a server's persistence; `None`: it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persistence {
    /// `redis_version`, or Valkey's.
    pub version: String,
    /// `appendonly`.
    pub append_only: Option<bool>,
    /// `appendfsync`: `always`, `everysec` or `no`.
    pub append_fsync: Option<String>,
    /// `maxmemory-policy`.
    pub memory_policy: Option<String>,
}

/// Something that may lose an acknowledged record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// What is so, or is not known.
    pub what: String,
    /// What may happen.
    pub risk: &'static str,
    /// How to mend it.
    pub mend: &'static str,
    /// Whether it is only not known.
    pub unknown: bool,
}

impl Persistence {
    /// `CONFIG GET` where it is allowed, else what `INFO` says.
    pub(super) async fn read(connection: &mut impl ConnectionLike) -> RedisResult<Self> {
        let info = Info::read(connection).await?;
        let version = info.get("valkey_version").map(|v| format!("Valkey {v}"));
        let redis = || format!("Redis {}", info.get("redis_version").unwrap_or("of an unknown version"));
        let mut found = Self {
            version: version.unwrap_or_else(redis),
            append_only: info.get("aof_enabled").map(|on| on == "1"),
            append_fsync: None,
            memory_policy: info.get("maxmemory_policy").map(str::to_owned),
        };
        let asked: RedisResult<Vec<(String, String)>> =
            ::redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await;
        match asked {
            Ok(fields) => found.append_fsync = fields.into_iter().find(|(name, _)| name == "appendfsync").map(|f| f.1),
            // Forbidden, or renamed by whoever runs it.
            Err(error) if error.code().is_some() => {}
            Err(error) => return Err(error),
        }
        Ok(found)
    }

    /// All that may lose an acknowledged record; empty for `appendonly yes`, `appendfsync always`, `noeviction`.
    #[must_use]
    pub fn weaknesses(&self) -> Vec<Weakness> {
        let mut all = Vec::new();
        let mut add = |what: String, risk, mend, unknown| all.push(Weakness { what, risk, mend, unknown });
        match self.append_only {
            Some(true) => {}
            Some(false) => add(
                "appendonly is no".into(),
                "a crash of the server loses minutes of leases and cursors",
                "set `appendonly yes`",
                false,
            ),
            None => add("whether appendonly is on is not known".into(), "see appendonly", "allow INFO", true),
        }
        match self.append_fsync.as_deref() {
            Some("always") => {}
            Some(other) => add(
                format!("appendfsync is {other}"),
                "a power cut loses the last second or more of leases and cursors",
                "set `appendfsync always`",
                false,
            ),
            None if self.append_only == Some(false) => {}
            None => add(
                "appendfsync is not known".into(),
                "if it is not `always`, a power cut loses the last second or more of leases and cursors",
                "allow `CONFIG GET appendfsync` to keyrotate's user, or accept it by name",
                true,
            ),
        }
        match self.memory_policy.as_deref() {
            Some("noeviction") => {}
            Some(other) => add(
                format!("maxmemory-policy is {other}"),
                "a full server throws leases and cursors away",
                "set `maxmemory-policy noeviction`",
                false,
            ),
            None => add(
                "maxmemory-policy is not known".into(),
                "if it evicts, a full server throws leases and cursors away",
                "allow INFO",
                true,
            ),
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_loses_nothing_has_no_weakness() {
        let good = Persistence {
            version: "Redis 7.0.15".into(),
            append_only: Some(true),
            append_fsync: Some("always".into()),
            memory_policy: Some("noeviction".into()),
        };
        assert_eq!(good.weaknesses(), []);
        let debian = Persistence { append_only: Some(false), append_fsync: Some("everysec".into()), ..good.clone() };
        assert_eq!(debian.weaknesses().len(), 2);
        let forbidden = Persistence { append_fsync: None, ..good.clone() };
        assert!(forbidden.weaknesses().iter().all(|weakness| weakness.unknown));
        assert_eq!(forbidden.weaknesses().len(), 1);
        let evicting = Persistence { memory_policy: Some("allkeys-lru".into()), ..good };
        assert!(!evicting.weaknesses()[0].unknown);
        assert_eq!(Persistence::default().weaknesses().len(), 3);
    }
}
