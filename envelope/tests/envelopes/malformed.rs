//! Envelopes with something wrong: each is refused for the right reason, and none is guessed about.

use std::collections::BTreeMap;

use crate::world::{VECTORS, fields, read};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyrotate_envelope::{Fields, Found, Malformed};

/// An object and its instruction file, as name and value.
#[derive(Clone, Debug, Default)]
struct Case {
    metadata: BTreeMap<String, String>,
    file: Option<BTreeMap<String, String>>,
}

impl Case {
    fn read(&self) -> Result<(), Malformed> {
        let metadata = Fields::of_metadata(&self.metadata);
        let file = self.file.as_ref().map(|file| serde_json::to_vec(file).unwrap());
        read(&metadata, file.as_deref()).map(drop)
    }

    /// Where the wrapped data key lies.
    fn place(&mut self) -> &mut BTreeMap<String, String> {
        self.file.as_mut().unwrap_or(&mut self.metadata)
    }

    fn names(&self) -> Vec<String> {
        let file = self.file.iter().flat_map(BTreeMap::keys);
        self.metadata.keys().chain(file).filter(|name| name.starts_with("x-amz-")).cloned().collect()
    }

    /// With a value changed, wherever its name stands; `None` takes it away.
    fn with(&self, name: &str, value: Option<&str>) -> Self {
        let mut case = self.clone();
        let at = if case.metadata.contains_key(name) { &mut case.metadata } else { case.place() };
        match value {
            Some(value) => at.insert(name.into(), value.into()),
            None => at.remove(name),
        };
        case
    }

    fn value(&self, name: &str) -> &str {
        self.metadata.get(name).or_else(|| self.file.as_ref()?.get(name)).unwrap()
    }
}

fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Whole envelopes of each format, place and wrap.
fn whole() -> Vec<(&'static str, Case)> {
    let vectors = VECTORS.iter().map(|stored| {
        let file = stored.file.map(|file| serde_json::from_str(file).unwrap());
        (stored.name, Case { metadata: of(stored.metadata), file })
    });
    let blob = STANDARD.encode([9; 256]);
    let mut cases: Vec<_> = vectors.collect();
    let named =
        |name| cases.iter().find(|(known, _)| *known == name).map(|(_, case): &(&str, Case)| case.clone()).unwrap();
    let (v2, v3) = (named("V2"), named("V3"));
    let of_v2 = |wrap: &str, context: &str| {
        let case = v2.with("x-amz-wrap-alg", Some(wrap)).with("x-amz-key-v2", Some(&blob));
        case.with("x-amz-matdesc", Some(context))
    };
    let context = r#"{"tenant":"a","aws:x-amz-cek-alg":"AES/GCM/NoPadding"}"#;
    let context_v3 = r#"{"aws:x-amz-cek-alg":"115"}"#;
    let of_v3 = |wrap: &str| v3.with("x-amz-w", Some(wrap)).with("x-amz-3", Some(&blob));
    cases.extend([
        ("V2 kms+context", of_v2("kms+context", context)),
        ("V2 kms", of_v2("kms", r#"{"kms_cmk_id":"k"}"#)),
        ("V2 RSA", of_v2("RSA-OAEP-SHA1", "{}")),
        ("V3 RSA", of_v3("22")),
        ("V3 kms+context", of_v3("12").with("x-amz-m", None).with("x-amz-t", Some(context_v3))),
    ]);
    cases
}

/// What a value must not be, and the kind of defect that it is.
fn wrong_values(field: &str, value: &str) -> Vec<(String, &'static str)> {
    let of_kind = |values: &[&str], kind| values.iter().map(|wrong| ((*wrong).to_owned(), kind)).collect();
    match field {
        "x-amz-key" | "x-amz-key-v2" | "x-amz-3" | "x-amz-iv" | "x-amz-i" | "x-amz-d" => {
            let unpadded = value.trim_end_matches('=').to_owned() + "A";
            let url_safe = format!("-_{}", &value[2..]);
            of_kind(&[&unpadded, &url_safe, &format!("{value}\n"), "?"], "base64")
        }
        "x-amz-wrap-alg" | "x-amz-w" => {
            of_kind(&["AES/CBC", "2", "002", "AES/GCM/NoPadding", "kms + context", "KMS"], "wrap")
        }
        "x-amz-cek-alg" | "x-amz-c" => of_kind(&["AES/GCM", "0x0073", "116", "AES/CTR/NoPadding"], "content"),
        "x-amz-tag-len" => of_kind(&["96", "0", "128 ", "16"], "tag-length"),
        "x-amz-matdesc" | "x-amz-m" | "x-amz-t" => {
            let twice = r#"{"a":"1","a":"2"}"#;
            let wrong = ["null", "[]", "{\"a\":1}", "{\"a\":null}", "{\"a\":{}}", "{", "{} {}", twice];
            of_kind(&wrong, "description")
        }
        _ => Vec::new(),
    }
}

/// What comes of a field that is not there; `None` where clients read on without it.
fn missing(kms: bool, field: &str) -> Option<&'static str> {
    match field {
        "x-amz-tag-len" | "x-amz-m" | "x-amz-unencrypted-content-length" => None,
        "x-amz-matdesc" | "x-amz-t" => kms.then_some("context"),
        // Without a wrapped key nothing says that there is an envelope in the metadata, and there is no file.
        _ => Some("missing"),
    }
}

/// Defects of a whole envelope, each with its kind; `None` for what is no defect.
fn defects(name: &str, case: &Case) -> Vec<(String, Case, Option<&'static str>)> {
    let (kms, v3) = (name.contains("kms"), name.starts_with("V3"));
    let mut defects = Vec::new();
    for field in case.names() {
        for (what, value) in [("no", None), ("empty", Some(""))] {
            defects.push((format!("{what} {field}"), case.with(&field, value), missing(kms, &field)));
        }
        for (wrong, kind) in wrong_values(&field, case.value(&field)) {
            defects.push((format!("{field} is {wrong:?}"), case.with(&field, Some(&wrong)), Some(kind)));
        }
        if wrong_values(&field, case.value(&field)).iter().any(|(_, kind)| *kind == "base64") {
            // A KMS's blob may have any length.
            let kind = Some("length").filter(|_| !(kms && ["x-amz-key-v2", "x-amz-3"].contains(&field.as_str())));
            defects.push((format!("{field} is short"), case.with(&field, Some(&STANDARD.encode([1; 7]))), kind));
        }
    }
    let older: &[&str] = if v3 { &["x-amz-iv", "x-amz-cek-alg", "x-amz-wrap-alg", "x-amz-tag-len"] } else { &[] };
    for other in ["x-amz-key", "x-amz-key-v2", "x-amz-3"].iter().chain(older) {
        if !case.names().iter().any(|known| known == other) {
            defects.push((format!("{other} besides"), case.with(other, Some("AAAA")), Some("mixed")));
        }
    }
    if case.file.is_some() {
        for other in ["x-amz-c", "x-amz-d", "x-amz-i"] {
            let mut case = case.clone();
            case.place().insert(other.into(), "115".into());
            defects.push((format!("{other} in the file"), case, Some("file-holds")));
        }
    } else {
        let field = if !v3 {
            "x-amz-matdesc"
        } else if kms {
            "x-amz-t"
        } else {
            "x-amz-m"
        };
        let case = case.with(field, Some(r#"{"größe":"1"}"#));
        defects.push((format!("{field} is not ASCII"), case, Some("not-ascii")));
    }
    defects
}

#[test]
fn each_defect_is_refused_by_its_name() {
    let mut refused = 0;
    for (name, case) in whole() {
        case.read().unwrap_or_else(|error| panic!("{name}: {error}"));
        for (what, case, kind) in defects(name, &case) {
            let error = case.read().err();
            assert_eq!(error.map(Malformed::kind), kind, "{name}: {what}: {error:?}");
            refused += usize::from(kind.is_some());
        }
    }
    assert!(refused >= 100, "{refused} were refused");
}

#[test]
fn a_file_that_is_no_object_of_text_is_refused() {
    let not_files: [&[u8]; 14] = [
        b"",
        b"null",
        b"[]",
        b"\"x\"",
        b"{",
        b"{}x",
        b"{\"a\":1}",
        b"{\"a\":null}",
        b"{\"a\":{}}",
        b"{\"a\":[\"b\"]}",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe",
        b"{\"x-amz-tag-len\":128}",
        b"{\"a\":\"1\",\"a\":\"2\"}",
    ];
    for body in not_files {
        assert_eq!(Fields::of_file(body), Err(Malformed::File), "{}", String::from_utf8_lossy(body));
    }
    // Clients read these.
    for body in ["{ \"a\" : \"b\" }\n", "{\n  \"x-amz-key-v2\": \"\"\n}", "{}"] {
        Fields::of_file(body.as_bytes()).unwrap();
    }
}

/// A V3 object whose file is that of another format, or is not there, and a file of V3 without its object.
#[test]
fn halves_that_do_not_belong_together_are_refused() {
    let cases = whole();
    let named = |name| cases.iter().find(|(known, _)| *known == name).map(|(_, case)| case.clone()).unwrap();
    let (v2, v3) = (named("V2 file"), named("V3 file"));
    let mixed = Case { file: v2.file.clone(), ..v3.clone() }.read().unwrap_err();
    assert_eq!(mixed.kind(), "mixed");
    let alone = Case { metadata: v2.metadata, file: v3.file.clone() }.read().unwrap_err();
    assert_eq!(alone, Malformed::Missing("x-amz-c"));
    let none = Case { file: None, ..v3 };
    assert!(matches!(Found::of(&Fields::of_metadata(&none.metadata)), Ok(Found::Split(_))));
    assert_eq!(none.read(), Err(Malformed::Missing("x-amz-3")));
}

#[test]
fn an_object_without_an_envelope_says_so() {
    for metadata in
        [&[][..], &[("department", "finance")], &[("x-amz-key", "")], &[("x-amz-unencrypted-content-length", "9")]]
    {
        assert_eq!(Found::of(&fields(metadata)), Ok(Found::Nothing), "{metadata:?}");
    }
}
