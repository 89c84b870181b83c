//! What a window is about to write, put down before its first write where a lost window could not be read off the
//! objects afterwards.

use serde::{Deserialize, Serialize};

use crate::outcome::Strategy;

/// Version of [`Intent`] that this code writes.
pub const INTENT_VERSION: u32 = 1;

/// One write that is about to happen, with the version and ETag that were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// [`INTENT_VERSION`] of the writer.
    pub v: u32,
    /// The object key.
    pub key: String,
    /// The version that was read; `None` in a bucket that never had versioning.
    pub version: Option<String>,
    /// The ETag that was read, as a write's guard names it, without quotes.
    pub etag: String,
    /// How it will be written.
    pub strategy: Strategy,
    /// The multipart upload that it goes through, once it is open.
    pub upload: Option<String>,
    /// SHA-256 (hex) of what that upload was created with: metadata, tags, storage class. It goes on only while the
    /// object still has just these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_survives_json_and_carries_its_version() {
        let intent = Intent {
            v: INTENT_VERSION,
            key: "a/b".into(),
            version: Some("v1".into()),
            etag: "00".into(),
            strategy: Strategy::CopyMultipart,
            upload: Some("u".into()),
            source: Some("5e".into()),
        };
        let text = serde_json::to_string(&intent).unwrap();
        assert!(text.starts_with(r#"{"v":1,"#), "{text}");
        assert_eq!(serde_json::from_str::<Intent>(&text).unwrap(), intent);
        let without = text.replace(r#","source":"5e""#, "");
        assert_eq!(serde_json::from_str::<Intent>(&without).unwrap(), Intent { source: None, ..intent });
    }
}
