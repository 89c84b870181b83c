//! What KES answers, read with suspicion.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyrotate_envelope::secret::{DataKey, Plaintext};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{KmsErrorKind, SealedKey, Status};

/// An answer of the service, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether its `Content-Type` says JSON, of either kind.
    pub(crate) json: bool,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// A page of names and where the next one begins; empty at the end.
pub(crate) struct Page {
    pub(crate) names: Vec<String>,
    pub(crate) continue_at: String,
}

/// What an answer that is no success says.
pub(crate) fn refusal(answer: &Answer) -> (KmsErrorKind, String) {
    let message = if answer.json { json_message(&answer.body) } else { text_message(&answer.body) };
    let kind = match (answer.status, message.as_str()) {
        (400, "key already exists" | "key does already exist") => KmsErrorKind::KeyExists,
        (400, "decryption failed: ciphertext is not authentic") => KmsErrorKind::NotAuthentic,
        (400, message) if message.starts_with("tls: ") && message.contains("client certificate") => {
            KmsErrorKind::NoCertificate
        }
        (403, _) => KmsErrorKind::NotAllowed,
        (404, "key does not exist") => KmsErrorKind::KeyNotFound,
        (404 | 405 | 501, _) => KmsErrorKind::NotImplemented,
        (408 | 429 | 500.., _) => KmsErrorKind::Server,
        (400..=499, _) => KmsErrorKind::Refused,
        _ => KmsErrorKind::Nonsense,
    };
    (kind, message)
}

/// The answer to generate.
pub(crate) fn sealed_key(body: &[u8]) -> Option<SealedKey> {
    #[derive(Deserialize)]
    struct Json<'a> {
        #[serde(borrow)]
        plaintext: Cow<'a, str>,
        #[serde(borrow)]
        ciphertext: Cow<'a, str>,
    }
    let json: Json<'_> = serde_json::from_slice(body).ok()?;
    let plaintext = Plaintext::new(Zeroizing::new(STANDARD.decode(json.plaintext.as_bytes()).ok()?));
    let ciphertext = STANDARD.decode(json.ciphertext.as_bytes()).ok()?;
    let plaintext: DataKey = plaintext.into_data_key()?;
    if ciphertext.is_empty() { None } else { Some(SealedKey { plaintext, ciphertext }) }
}

/// The answer to encrypt.
pub(crate) fn ciphertext(body: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Json<'a> {
        #[serde(borrow)]
        ciphertext: Cow<'a, str>,
    }
    let json: Json<'_> = serde_json::from_slice(body).ok()?;
    STANDARD.decode(json.ciphertext.as_bytes()).ok().filter(|bytes| !bytes.is_empty())
}

/// The answer to decrypt.
pub(crate) fn plaintext(body: &[u8]) -> Option<Plaintext> {
    #[derive(Deserialize)]
    struct Json<'a> {
        #[serde(borrow)]
        plaintext: Cow<'a, str>,
    }
    let json: Json<'_> = serde_json::from_slice(body).ok()?;
    Some(Plaintext::new(Zeroizing::new(STANDARD.decode(json.plaintext.as_bytes()).ok()?)))
}

/// The answer to list: one object with all names, or, from old servers, one object per line and name.
pub(crate) fn page(body: &[u8]) -> Option<Page> {
    #[derive(Deserialize)]
    struct Json {
        names: Option<Vec<String>>,
        name: Option<String>,
        #[serde(default)]
        continue_at: String,
        error: Option<String>,
    }
    let mut page = Page { names: Vec::new(), continue_at: String::new() };
    for json in serde_json::Deserializer::from_slice(body).into_iter::<Json>() {
        let json = json.ok()?;
        if json.error.is_some_and(|error| !error.is_empty()) {
            return None;
        }
        page.names.extend(json.names.unwrap_or_default());
        page.names.extend(json.name);
        page.continue_at = json.continue_at;
    }
    Some(page)
}

/// The answer to status.
pub(crate) fn status(body: &[u8]) -> Option<Status> {
    #[derive(Deserialize)]
    struct Json {
        version: String,
        #[serde(default)]
        keystore_unreachable: bool,
        #[serde(default)]
        keystore_unavailable: bool,
    }
    let json: Json = serde_json::from_slice(body).ok()?;
    Some(Status { version: json.version, keystore_unreachable: json.keystore_unreachable || json.keystore_unavailable })
}

fn json_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Json {
        #[serde(default)]
        message: String,
        #[serde(default)]
        error: String,
    }
    match serde_json::from_slice::<Json>(body) {
        Ok(json) if !json.error.is_empty() => shorten(&json.error),
        Ok(json) if !json.message.is_empty() => shorten(&json.message),
        _ => "no message".to_owned(),
    }
}

fn text_message(body: &[u8]) -> String {
    match shorten(&String::from_utf8_lossy(body)) {
        text if text.is_empty() => "no message".to_owned(),
        text => text,
    }
}

/// The first line, without what a terminal would act on, in at most 300 letters.
fn shorten(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, json: bool, body: &str) -> Answer {
        Answer { status, json, body: Zeroizing::new(body.as_bytes().to_vec()) }
    }

    #[test]
    fn refusals_are_told_apart_by_status_and_message() {
        for (status, json, body, kind) in [
            (400, true, "{\"message\":\"key already exists\"\n}", KmsErrorKind::KeyExists),
            (400, true, "{\"message\":\"key does already exist\"}", KmsErrorKind::KeyExists),
            (409, true, "{\"message\":\"key already exists\"}", KmsErrorKind::Refused),
            (
                400,
                true,
                "{\"message\":\"decryption failed: ciphertext is not authentic\"\n}",
                KmsErrorKind::NotAuthentic,
            ),
            (400, true, "{\"message\":\"tls: client certificate is required\"}", KmsErrorKind::NoCertificate),
            (
                400,
                true,
                "{\"message\":\"tls: received more than one client certificate\"}",
                KmsErrorKind::NoCertificate,
            ),
            (400, true, "{\"message\":\"invalid request body\"}", KmsErrorKind::Refused),
            (403, true, "{\"message\":\"prohibited by policy\"}", KmsErrorKind::NotAllowed),
            (404, true, "{\"error\":\"key does not exist\",\"message\":\"x\"}", KmsErrorKind::KeyNotFound),
            (404, false, "404 page not found\n", KmsErrorKind::NotImplemented),
            (405, true, "{}", KmsErrorKind::NotImplemented),
            (502, true, "{\"message\":\"failed to read key\"}", KmsErrorKind::Server),
            (503, false, "<html>", KmsErrorKind::Server),
            (302, false, "", KmsErrorKind::Nonsense),
        ] {
            assert_eq!(refusal(&answer(status, json, body)).0, kind, "{status} {body}");
        }
    }

    #[test]
    fn lists_come_in_both_forms() {
        let now = page(br#"{"names":["a","b"],"continue_at":"c"}"#).unwrap();
        assert_eq!((now.names, now.continue_at.as_str()), (vec!["a".to_owned(), "b".to_owned()], "c"));
        let old = page(b"{\"name\":\"a\"}\n{\"name\":\"b\"}\n").unwrap();
        assert_eq!(old.names, ["a", "b"]);
        assert!(page(b"{\"name\":\"a\"}\n{\"error\":\"broken\"}").is_none());
    }

    #[test]
    fn a_data_key_of_another_length_is_nonsense() {
        assert!(sealed_key(br#"{"plaintext":"AAAA","ciphertext":"AAAA"}"#).is_none());
        assert!(plaintext(br#"{"plaintext":""}"#).unwrap().expose().is_empty());
        assert!(status(br#"{"version":"v","keystore_unreachable":true,"new":1}"#).unwrap().keystore_unreachable);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_error_or_a_value(status_code: u16, json: bool, body: Vec<u8>, brace: bool) {
            let body = if brace { [b"{\"names\":[".as_slice(), &body].concat() } else { body };
            let (_, message) = refusal(&Answer { status: status_code, json, body: Zeroizing::new(body.clone()) });
            prop_assert!(message.chars().count() <= 300 && !message.chars().any(char::is_control));
            let _ = (sealed_key(&body), plaintext(&body), page(&body), status(&body));
        }
    }
}
