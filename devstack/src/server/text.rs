//! Text of the wire: percent-encoding, dates, and XML.

use std::fmt::Write as _;

use jiff::Timestamp;
use keyrotate_store::{ErrorKind, Result, StoreError};
use serde::de::DeserializeOwned;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Undoes percent-encoding; `plus` says whether `+` means a space. `None` where the result is not UTF-8.
pub(super) fn percent_decode(text: &str, plus: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|pair| hex::decode(pair).ok());
        match (hex, bytes[at]) {
            (Some(byte), _) => {
                out.extend_from_slice(&byte);
                at += 3;
                continue;
            }
            (None, b'+') if plus => out.push(b' '),
            (None, byte) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes as `encoding-type=url` does: `/` stays, a space becomes `+`.
pub(super) fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => write!(out, "%{byte:02X}").unwrap_or_default(),
        }
    }
    out
}

/// The pairs of `a=b&c=d`, decoded, in their order. A name without `=` has an empty value.
pub(super) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let part = |text| percent_decode(text, true);
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Some((part(name)?, part(value)?)))
        .collect()
}

/// A date as XML shows it, with milliseconds.
pub(super) fn xml_date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A date as headers show it, whole seconds.
pub(super) fn http_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// XML in the making.
pub(super) struct Xml {
    text: String,
}

impl Xml {
    /// A document whose root is filled by `content`.
    pub(super) fn document(root: &str, content: impl FnOnce(&mut Self)) -> String {
        let mut xml = Self { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned() };
        write!(xml.text, "<{root} xmlns=\"{NAMESPACE}\">").unwrap_or_default();
        content(&mut xml);
        xml.close(root);
        xml.text
    }

    /// An element that is filled by `content`.
    pub(super) fn nest(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        write!(self.text, "<{name}>").unwrap_or_default();
        content(self);
        self.close(name);
    }

    /// An element with text.
    pub(super) fn text(&mut self, name: &str, value: impl AsRef<str>) {
        self.nest(name, |xml| xml.content(value.as_ref()));
    }

    /// Somebody whom an ACL names: the one element that has attributes.
    pub(super) fn grantee(&mut self, kind: &str, name: &str, value: &str) {
        const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema-instance";
        write!(self.text, "<Grantee xmlns:xsi=\"{SCHEMA}\" xsi:type=\"{kind}\">").unwrap_or_default();
        self.text(name, value);
        self.close("Grantee");
    }

    fn close(&mut self, name: &str) {
        write!(self.text, "</{name}>").unwrap_or_default();
    }

    /// Text, escaped.
    pub(super) fn content(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                c if c.is_control() => write!(self.text, "&#x{:X};", u32::from(c)).unwrap_or_default(),
                c => self.text.push(c),
            }
        }
    }
}

/// Reads a request's XML body.
pub(super) fn from_xml<T: DeserializeOwned>(operation: &'static str, body: &[u8]) -> Result<T> {
    let malformed = || {
        let message = "The XML you provided was not well-formed or did not validate against our published schema";
        StoreError::answered(operation, ErrorKind::Refused, 400, "MalformedXML", message)
    };
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    quick_xml::de::from_str(text).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn url_encoding_comes_back(text in any::<String>()) {
            prop_assert_eq!(percent_decode(&url_encode(&text), true), Some(text));
        }
    }

    #[test]
    fn a_broken_escape_is_text() {
        assert_eq!(percent_decode("a%2", false).as_deref(), Some("a%2"));
        assert_eq!(percent_decode("a%zz+b", false).as_deref(), Some("a%zz+b"));
        assert_eq!(percent_decode("%ff", false), None);
    }

    #[test]
    fn dates_are_truncated_never_rounded() {
        let at = Timestamp::from_millisecond(1_700_000_000_999).unwrap();
        assert_eq!(xml_date(at), "2023-11-14T22:13:20.999Z");
        assert_eq!(http_date(at), "Tue, 14 Nov 2023 22:13:20 GMT");
    }

    #[test]
    fn xml_is_escaped() {
        let xml = Xml::document("A", |xml| xml.text("Key", "a&b<c>\u{1}\r"));
        assert!(xml.contains("<Key>a&amp;b&lt;c&gt;&#x1;&#xD;</Key></A>"), "{xml}");
    }
}
