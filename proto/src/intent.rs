//! What a window is about to write, put down before its first write where a lost window could not be read off the
//! objects afterwards; and what a slice wrote that had to end before it could commit it.

use serde::{Deserialize, Serialize};

use crate::outcome::Strategy;
use crate::row::Row;

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
    /// The ETag that was read, as a write's guard names it, without quotes; of a write that was made, the one after it.
    pub etag: String,
    /// How it will be written.
    pub strategy: Strategy,
    /// The multipart upload that it goes through, once it is open.
    pub upload: Option<String>,
    /// SHA-256 (hex) of what that upload was created with: metadata, tags, storage class, lock. It goes on only while the
    /// object still has just these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What it came to, where the slice had to end while an object before this one had no outcome: the cursor could
    /// not pass that one, so no part holds the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Box<Made>>,
}

/// A write that was made, and that no part holds a row of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its row; where it was not read back, what the row will be if the object is as it was written.
    pub row: Row,
    /// Whether it was read back. Else the date after the write is not known.
    pub read_back: bool,
}

impl Intent {
    /// A write that was made; `None` where the row is of none.
    #[must_use]
    pub fn made(row: Row, read_back: bool) -> Option<Self> {
        Some(Self {
            v: INTENT_VERSION,
            key: row.key.clone(),
            version: row.version.clone(),
            etag: row.etag.clone(),
            strategy: row.strategy?,
            upload: None,
            source: None,
            made: Some(Box::new(Made { row, read_back })),
        })
    }

    /// Whether the write leaves the version that was read behind as a noncurrent one.
    #[must_use]
    pub fn adds_version(&self) -> bool {
        self.version.is_some() && !self.strategy.keeps_version()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyName;
    use crate::outcome::{Evidence, Outcome};
    use crate::row::Seal;

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
            made: None,
        };
        let text =
            r#"{"v":1,"key":"a/b","version":"v1","etag":"00","strategy":"copy-multipart","upload":"u","source":"5e"}"#;
        assert_eq!(serde_json::to_string(&intent).unwrap(), text);
        assert_eq!(serde_json::from_str::<Intent>(text).unwrap(), intent);
        let without = text.replace(r#","source":"5e""#, "");
        assert_eq!(serde_json::from_str::<Intent>(&without).unwrap(), Intent { source: None, ..intent });
    }

    #[test]
    fn a_write_that_was_made_carries_its_row() {
        let row = Row {
            key: "ä".into(),
            version: Some("v1".into()),
            version_after: Some("v2".into()),
            size: 7,
            outcome: Outcome::Rotated(Evidence::Key),
            strategy: Some(Strategy::Rewrite),
            before: Seal::SseKms(KeyName("old".into())),
            after: Seal::SseKms(KeyName("new".into())),
            etag: "11".into(),
            last_modified: jiff::Timestamp::from_second(5).unwrap(),
            detail: String::new(),
            notes: [].into(),
        };
        let intent = Intent::made(row.clone(), true).unwrap();
        let text = serde_json::to_string(&intent).unwrap();
        assert_eq!(serde_json::from_str::<Intent>(&text).unwrap(), intent);
        assert!(intent.adds_version());
        assert_eq!(Intent::made(Row { strategy: None, ..row }, true), None, "nothing was written");
    }
}
