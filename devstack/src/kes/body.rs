//! Bodies as KES's decoder takes them: fields in any case, unknown ones ignored, only the first value read, `null` for
//! nothing, bytes in base64 or as a list of numbers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

/// The fields of a request.
#[derive(Debug, Default)]
pub(super) struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// `None` where it is not a JSON object.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        match serde_json::Deserializer::from_slice(body).into_iter().next()?.ok()? {
            Value::Null => Some(Self::default()),
            Value::Object(fields) => {
                Some(Self(fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()))
            }
            _ => None,
        }
    }

    /// The bytes of a field, empty where it is missing. `None` where it is not bytes.
    pub(super) fn bytes(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = match self.0.get(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => STANDARD.decode(text.replace(['\r', '\n'], "")).ok()?,
            Some(Value::Array(numbers)) => {
                let byte = |number: &Value| u8::try_from(number.as_u64()?).ok();
                numbers.iter().map(byte).collect::<Option<_>>()?
            }
            Some(_) => return None,
        };
        Some(Zeroizing::new(bytes))
    }

    /// The text of a field, empty where it is missing. `None` where it is not text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            None | Some(Value::Null) => Some(""),
            Some(Value::String(text)) => Some(text),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(body: &str) -> Option<Vec<u8>> {
        Fields::read(body.as_bytes())?.bytes("context").map(|bytes| bytes.to_vec())
    }

    #[test]
    fn is_as_lenient_and_as_strict_as_a_real_kes() {
        for (body, expected) in [
            ("{}", Some(&b""[..])),
            ("null", Some(b"")),
            ("{\"context\":null}", Some(b"")),
            ("{\"CONTEXT\":\"Y3R4MQ==\",\"other\":[{}]} trailing", Some(b"ctx1")),
            ("{\"context\":\"Y3R4\\r\\nMQ==\"}", Some(b"ctx1")),
            ("{\"context\":[99,116,120]}", Some(b"ctx")),
            ("{\"context\":\"Y3R4MQ\"}", None),
            ("{\"context\":\"_-==\"}", None),
            ("{\"context\":[256]}", None),
            ("{\"context\":5}", None),
            ("[]", None),
            ("", None),
            ("{", None),
        ] {
            assert_eq!(context(body).as_deref(), expected, "{body}");
        }
        assert_eq!(Fields::read(b"{\"cipher\":1}").unwrap().text("cipher"), None);
    }
}
