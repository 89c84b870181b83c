//! Names and values as they are stored, in their order.

use crate::description::Entries;
use crate::malformed::Malformed;

pub(crate) const KEY_V1: &str = "x-amz-key";
pub(crate) const KEY_V2: &str = "x-amz-key-v2";
pub(crate) const KEY_V3: &str = "x-amz-3";
pub(crate) const IV: &str = "x-amz-iv";
pub(crate) const WRAP_V2: &str = "x-amz-wrap-alg";
pub(crate) const WRAP_V3: &str = "x-amz-w";
pub(crate) const CONTENT_V2: &str = "x-amz-cek-alg";
pub(crate) const CONTENT_V3: &str = "x-amz-c";
pub(crate) const TAG_LENGTH: &str = "x-amz-tag-len";
pub(crate) const DESCRIPTION: &str = "x-amz-matdesc";
pub(crate) const DESCRIPTION_V3: &str = "x-amz-m";
pub(crate) const CONTEXT_V3: &str = "x-amz-t";
pub(crate) const MESSAGE_ID: &str = "x-amz-i";
pub(crate) const COMMITMENT: &str = "x-amz-d";

/// The names and values of an object's metadata, or of an instruction file. An empty value counts as none: some clients write
/// such.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// An object's user metadata, by names without `x-amz-meta-`.
    #[must_use]
    pub fn of_metadata<'a>(metadata: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        Self(metadata.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect())
    }

    /// An instruction file's content.
    ///
    /// # Errors
    /// It is no JSON object of text, or names something twice.
    pub fn of_file(body: &[u8]) -> Result<Self, Malformed> {
        let Entries(entries) = serde_json::from_slice(body).map_err(|_| Malformed::File)?;
        Ok(Self(entries))
    }

    /// As an instruction file: compact JSON with nothing behind it, since there is a client that stops reading at the first
    /// space or newline.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let mut out = vec![b'{'];
        for (n, (name, value)) in self.0.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            for (text, behind) in [(name, &b":"[..]), (value, &b""[..])] {
                #[expect(clippy::expect_used, reason = "text is always JSON")]
                out.extend(serde_json::to_vec(text).expect("text is JSON"));
                out.extend(behind);
            }
        }
        out.push(b'}');
        out
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What stands under a name; an empty value is none.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, value)| *known == name && !value.is_empty()).map(|(_, value)| value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The first of these names that there is.
    pub(crate) fn first_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.has(name))
    }

    pub(crate) fn needs(&self, name: &'static str) -> Result<&str, Malformed> {
        self.get(name).ok_or(Malformed::Missing(name))
    }

    /// Puts a value where its name stands, or behind all others.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((name.to_owned(), value.into())),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }
}
