//! How keys, tags, contexts and dates are written in S3 requests and answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::{rfc2822, strtime};

use crate::{ObjectAt, Tags};

/// Percent-encodes everything but unreserved characters (RFC 3986) and those in `keep`.
pub(super) fn percent(text: &str, keep: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep.as_bytes().contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Undoes `encoding-type=url` and form encoding: `+` is a space. `None` where the result is not UTF-8 or an escape is
/// broken.
pub(super) fn form_decoded(text: &str) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The body of an UpdateObjectEncryption as this client sends it: what a store that does not know the call makes the
/// object's content.
#[must_use]
pub fn update_encryption_body(key: &str, bucket_key: Option<bool>) -> String {
    let bucket_key = bucket_key.map(|on| format!("<BucketKeyEnabled>{on}</BucketKeyEnabled>")).unwrap_or_default();
    format!(
        "<ObjectEncryption xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><SSE-KMS><KMSKeyArn>{key}</KMSKeyArn>\
         {bucket_key}</SSE-KMS></ObjectEncryption>"
    )
}

/// `x-amz-copy-source`: `BUCKET/KEY[?versionId=ID]`, percent-encoded.
pub(super) fn copy_source(source: &ObjectAt) -> String {
    let mut encoded = format!("{}/{}", source.bucket, percent(&source.key, "/"));
    if let Some(version) = &source.version {
        encoded.push_str("?versionId=");
        encoded.push_str(&percent(version, ""));
    }
    encoded
}

/// `x-amz-tagging`: form encoded.
pub(super) fn tagging(tags: &Tags) -> String {
    let pair = |(name, value): &(String, String)| format!("{}={}", percent(name, ""), percent(value, ""));
    tags.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// The reverse of [`tagging`]. `None` where it makes no sense.
pub(super) fn tags(encoded: &str) -> Option<Tags> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((form_decoded(name)?, form_decoded(value)?))
    };
    encoded.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// `x-amz-server-side-encryption-context`: base64 of JSON with sorted names and no spaces.
pub(super) fn context(context: &BTreeMap<String, String>) -> String {
    #[expect(clippy::expect_used, reason = "a map of text is always JSON")]
    let json = serde_json::to_vec(context).expect("a context is JSON");
    STANDARD.encode(json)
}

/// The reverse of [`context`]; some answers carry the JSON without base64. `None` where it makes no sense.
pub(super) fn parsed_context(text: &str) -> Option<BTreeMap<String, String>> {
    if text.starts_with('{') {
        return serde_json::from_str(text).ok();
    }
    serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()
}

/// RFC 3339 with milliseconds, as in `2026-11-21T12:58:29.001Z`.
pub(super) fn millis(time: Timestamp) -> String {
    strtime::format("%Y-%m-%dT%H:%M:%S.%3fZ", time).unwrap_or_else(|_| time.to_string())
}

/// The date of an HTTP header.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// An ETag without its quotes.
pub(super) fn bare_etag(text: &str) -> String {
    text.trim().trim_matches('"').to_owned()
}

/// An ETag in quotes, as headers carry it.
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn copy_sources_of_odd_keys() {
        let at = |key: &str, version: Option<&str>| ObjectAt {
            bucket: "b".into(),
            key: key.into(),
            version: version.map(Into::into),
        };
        assert_eq!(copy_source(&at("a/b.txt", None)), "b/a/b.txt");
        assert_eq!(copy_source(&at("a+b %?#&=é//\u{1}", None)), "b/a%2Bb%20%25%3F%23%26%3D%C3%A9//%01");
        assert_eq!(copy_source(&at("?versionId=x", Some("v+1/"))), "b/%3FversionId%3Dx?versionId=v%2B1%2F");
    }

    #[test]
    fn contexts_are_canonical_and_read_in_both_forms() {
        let map: BTreeMap<String, String> = [("b".into(), "2".into()), ("a".into(), "\"é".into())].into();
        assert_eq!(STANDARD.decode(context(&map)).unwrap(), r#"{"a":"\"é","b":"2"}"#.as_bytes());
        assert_eq!(parsed_context(&context(&map)), Some(map.clone()));
        assert_eq!(parsed_context(r#"{"a":"\"é","b":"2"}"#), Some(map));
        assert_eq!(parsed_context("%%"), None);
    }

    #[test]
    fn dates() {
        let time: Timestamp = "2026-11-21T12:58:29.001999Z".parse().unwrap();
        assert_eq!(millis(time), "2026-11-21T12:58:29.001Z");
        assert_eq!(http_date("Sat, 21 Nov 2026 12:58:29 GMT"), Some("2026-11-21T12:58:29Z".parse().unwrap()));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn broken_escapes_are_refused() {
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(form_decoded(broken), None, "{broken}");
        }
        assert_eq!(form_decoded("a+b%2Bc%e2%82%ac").as_deref(), Some("a b+c€"));
    }

    proptest! {
        #[test]
        fn encodings_come_back(text in any::<String>(), pairs in proptest::collection::vec(("\\PC+", ".*"), 0..5)) {
            prop_assert_eq!(form_decoded(&percent(&text, "/")), Some(text));
            prop_assert_eq!(tags(&tagging(&pairs)), Some(pairs));
        }
    }
}
