//! Material descriptions and encryption contexts: JSON objects of text, written into a text.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// A JSON object of text, with the very text that it was read from: clients write the same object in different ways, and
/// whoever keeps a description keeps its text.
#[derive(Clone, Debug)]
pub struct Description {
    text: String,
    entries: BTreeMap<String, String>,
}

impl Description {
    /// Reads it. Empty text is `{}`; `None` where it is no object of text, or names something twice.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let Entries(entries) = serde_json::from_str(text).ok()?;
        Some(Self { text: text.to_owned(), entries: entries.into_iter().collect() })
    }

    /// Writes entries as compact JSON, sorted by their names.
    #[must_use]
    pub fn of(entries: BTreeMap<String, String>) -> Self {
        Self { text: canonical(&entries), entries }
    }

    /// The text as it was read, or is to be written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.entries
    }

    /// Its entries as compact JSON, sorted by their names: how a context is given to KES.
    #[must_use]
    pub fn canonical(&self) -> String {
        canonical(&self.entries)
    }
}

fn canonical(entries: &BTreeMap<String, String>) -> String {
    #[expect(clippy::expect_used, reason = "a map of text is always JSON")]
    serde_json::to_string(entries).expect("a map of text is JSON")
}

impl Default for Description {
    fn default() -> Self {
        Self { text: "{}".into(), entries: BTreeMap::new() }
    }
}

/// Two are the same when they say the same, however it is written.
impl PartialEq for Description {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Description {}

/// The entries of a JSON object of text, in their order, none twice.
pub(crate) struct Entries(pub(crate) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries: Vec<(String, String)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if entries.iter().any(|(known, _)| *known == name) {
                        return Err(serde::de::Error::custom("a name stands there twice"));
                    }
                    entries.push((name, value));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
