//! What `INFO` says.

use std::collections::HashMap;

use ::redis::RedisResult;
use ::redis::aio::ConnectionLike;

/// The fields of an `INFO` answer, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Info(HashMap<String, String>);

impl Info {
    /// Asks for the default sections: `server`, `persistence`, `replication`, `memory` are among them.
    pub(super) async fn read(connection: &mut impl ConnectionLike) -> RedisResult<Self> {
        let text: String = ::redis::cmd("INFO").query_async(connection).await?;
        Ok(Self::parse(&text))
    }

    pub(super) fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}
