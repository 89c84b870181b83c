//! Whole files: the traps of YAML, odd bytes, and that both readers see the same.

use proptest::prelude::*;
use proptest::sample::select;

use super::fields::{FLAT, Known, NESTED, Shape};
use super::*;
use crate::rates::Rates;
use crate::spec::{Dialect, Target};

const HEAD: &str = "keyrotate:\n  apiVersion: v1\n  bucket: my-bucket\n";

fn spec(text: &str) -> JobSpec {
    parse(text.as_bytes(), "j").unwrap_or_else(|errors| panic!("{text}\n{errors}")).spec
}

fn refused(text: impl AsRef<[u8]>) -> String {
    parse(text.as_ref(), "j").unwrap_err().to_string()
}

fn with_key(key: &str) -> String {
    format!("{HEAD}  encryption: {{key: {key}}}\n")
}

#[test]
fn old_keys_are_mapped_to_new_ones_without_chains_or_circles() {
    let with = |keys: &str| format!("{HEAD}  encryption: {{type: sse-kms}}\n  keys: {keys}\n");
    let keys = spec(&with("{a: x, 'arn:aws:kms:b': x, c: y}")).keys;
    let shown: Vec<_> = keys.iter().map(|(old, new)| format!("{old}={new}")).collect();
    assert_eq!(shown, ["a=x", "b=x", "c=y"]);
    for (keys, wanted) in [
        ("{a: b, b: c}", "a chain or a circle"),
        ("{a: b, b: a}", "a chain or a circle"),
        ("{a: a}", "is its own new key"),
        ("{a: ~}", "names no key"),
        ("{a: x, 'arn:aws:kms:a': y}", "names a key that another line names"),
        ("{}", "is empty"),
        ("[a, b]", "must be a map of fields"),
        ("{a: [x]}", "must be a single value"),
        ("{'a b': x}", "blanks"),
    ] {
        let errors = refused(with(keys));
        assert!(errors.contains(wanted), "{keys}: {errors}");
    }
    let both = format!("{HEAD}  encryption: {{key: k}}\n  keys: {{a: x}}\n");
    assert!(refused(both).contains("stands beside `key`"));
    let s3 = format!("{HEAD}  encryption: {{type: sse-s3}}\n  keys: {{a: x}}\n");
    assert!(refused(s3).contains("only for sse-kms"));
}

fn key_of(key: &str) -> Option<String> {
    match spec(&with_key(key)).target {
        Target::SseKms { key, .. } => key.map(|key| key.0),
        Target::SseS3 => None,
    }
}

#[test]
fn text_fields_take_a_single_value_as_it_is_written() {
    for text in [
        "123",
        "0x1f",
        "010",
        "1_000",
        "1.10",
        "1e3",
        "yes",
        "no",
        "on",
        "true",
        "2023-03-02",
        ".inf",
        "-1",
        "12:30:45",
    ] {
        assert_eq!(key_of(text).as_deref(), Some(text));
        assert_eq!(key_of(&format!("\"{text}\"")).as_deref(), Some(text));
    }
    for text in ["~", "null", "Null", "NULL", "\"\"", "''"] {
        assert_eq!(key_of(text), None, "{text}");
    }
    assert_eq!(key_of("'null'").as_deref(), Some("null"));
    assert_eq!(key_of("nUll").as_deref(), Some("nUll"));
    assert!(refused(with_key("[a]")).contains("must be a single value"));
}

#[test]
fn numbers_and_flags_are_written_plainly() {
    let attempts = |text: &str| format!("{HEAD}  encryption: {{}}\n  flags: {{retry: {{attempts: {text}}}}}\n");
    assert_eq!(spec(&attempts("7")).retry.attempts, 7);
    assert_eq!(spec(&attempts("~")).retry.attempts, 3);
    assert_eq!(spec(&attempts("0")).retry.attempts, 3, "as for MinIO");
    for text in
        ["0x1f", "0o17", "010", "1_0", "+3", "1.0", "1e1", "\"10\"", "-1", "4294967296", "99999999999999999999", "ten"]
    {
        assert!(refused(attempts(text)).starts_with("j:5: keyrotate.flags.retry.attempts: "), "{text}");
    }
    let flag = |text: &str| format!("{HEAD}  encryption: {{}}\n  flags: {{filter: {{plaintextOnly: {text}}}}}\n");
    assert!(spec(&flag("true")).filter.plaintext_only && spec(&flag("TRUE")).filter.plaintext_only);
    assert!(!spec(&flag("False")).filter.plaintext_only);
    for text in ["yes", "on", "1", "\"true\"", "tRue", "y"] {
        assert!(refused(flag(text)).contains("plaintextOnly"), "{text}");
    }
}

#[test]
fn checksums_are_required_aloud_or_given_up_by_name_but_not_both() {
    let with = |options: &str| format!("{HEAD}  encryption: {{}}\n  options: {{{options}}}\n");
    assert_eq!(spec(&with("checksums: require")), spec(&with("")));
    assert!(refused(with("checksums: keep")).contains("acceptLoss: [checksum]"));
    let both = refused(with("checksums: require, acceptLoss: [checksum]"));
    assert!(both.starts_with("j:5: keyrotate.options.checksums: "), "{both}");
    assert_eq!(spec(&with("checksums: require, acceptLoss: [parts]")), spec(&with("acceptLoss: [parts]")));
}

#[test]
fn hours_have_a_time_zone_and_rates_of_their_own() {
    let with = |options: &str| format!("{}  options: {{{options}}}\n", with_key("k"));
    let options = spec(&with(
        "rate: 20, byteRate: 8MiB/s, kmsRate: 50, windows: [{from: 22:00, until: 06:00, zone: Europe/Zurich}, \
         {from: '08:00', until: '18:00', days: mon-fri, zone: UTC, rate: 5, byteRate: 1MiB, kmsRate: 7.5}]",
    ))
    .options;
    let rates = |at: &str| {
        let Rates { objects, bytes, kms } = options.rates_at(at.parse().unwrap());
        [objects, bytes, kms].map(|rate| rate.unwrap_or_default())
    };
    assert_eq!(rates("2026-01-14T21:30:00Z"), [0.0; 3], "by night there is no limit");
    assert_eq!(rates("2026-01-14T12:00:00Z"), [5.0, f64::from(1 << 20), 7.5], "a Wednesday");
    assert_eq!(rates("2026-01-17T12:00:00Z"), [20.0, f64::from(8 << 20), 50.0], "a Saturday");
    let lines = describe(&spec(&with(
        "rate: 20, windows: [{from: 22:00, until: 06:00, zone: UTC}, {from: '08:00', until: '18:00', days: mon-fri, zone: UTC, byteRate: 1MiB}]",
    )));
    let (_, speed) = lines.iter().find(|(name, _)| name == "speed").unwrap();
    assert_eq!(
        speed,
        "at most 20 objects per second; from 22:00 until 06:00 (UTC) without a limit; \
         from 08:00 until 18:00 on mon,tue,wed,thu,fri (UTC) at most 1.0 MiB per second"
    );
    for (window, wanted) in [
        ("from: 22:00, until: 06:00", "`zone` is missing"),
        ("from: 22:00, zone: UTC", "`until` is missing"),
        ("from: 24:00, until: 06:00, zone: UTC", "`24:00` is no time of the day"),
        ("from: 9:00, until: 06:00, zone: UTC", "`9:00` is no time of the day"),
        ("from: 22:00, until: 06:00, zone: Europe/Gotham", "`Europe/Gotham` is no time zone"),
        ("from: 22:00, until: 06:00, zone: UTC, days: weekdays", "`weekdays` is no day"),
        ("from: 22:00, until: 06:00, zone: UTC, byteRate: 0", "`0` is not a rate of bytes"),
        ("from: 22:00, until: 06:00, zone: UTC, kmsRate: all", "calls to the KMS per second, more than 0"),
        ("from: 22:00, until: 06:00, zone: UTC, color: red", "color"),
    ] {
        let errors = refused(with(&format!("windows: [{{{window}}}]")));
        assert!(errors.contains(wanted), "{window}: {errors}");
    }
}

#[test]
fn line_ends_and_byte_order_marks_do_not_matter() {
    let file = with_key("a").replace('\n', "\r\n");
    assert_eq!(spec(&file), spec(&with_key("a")));
    assert_eq!(spec(&format!("\u{feff}{file}")), spec(&with_key("a")));
    let errors = parse(format!("\u{feff}{HEAD}  encryption: {{kee: a}}\r\n").as_bytes(), "j").unwrap_err();
    assert_eq!((errors.0[0].line, errors.0[0].column), (4, 16));
    assert_eq!(spec(&format!("--- # a job\n{}...\n", with_key("a"))), spec(&with_key("a")));
}

#[test]
fn what_no_reader_should_guess_about_is_refused_in_plain_words() {
    assert!(refused("").contains("empty"));
    assert!(refused("# nothing\n---\n").contains("empty"));
    assert!(refused([0xff, 0xfe, b'a', 0]).contains("UTF-16"));
    assert!(refused(b"keyrotate:\n  bucket: \xff\n").starts_with("j:2: the file is not UTF-8"));
    assert!(refused("keyrotate:\n  bucket: \0\n").starts_with("j:2: the character U+0000"));
    assert!(refused("a: b\u{2028}c: d\n").contains("U+2028"));
    assert!(refused(vec![b'#'; 64 * 1024 + 1]).contains("65537 bytes"));
    assert!(refused("%YAML 1.2\n---\na: b\n").contains("directives"));
    assert!(refused("[".repeat(60_000)).contains("too deeply"));
    assert!(refused("{a: ".repeat(15_000)).contains("too deeply"));
    assert!(refused("- ".repeat(30_000)).contains("too deeply"));
    assert!(refused("just text").contains("not a map"));
    assert!(refused("- a\n- b\n").contains("not a map"));
    assert!(refused("? [a]\n: b\n").contains("field's name"));
    assert!(refused(": b\n").contains("without a name"));
    assert!(refused("bucket: {{ .Values.bucket }}\n").contains("template"));
    assert!(refused(format!("{HEAD}  encryption: {{}}\n---\n")).contains("more than one document"));
    assert!(refused("Keyrotate:\n  bucket: b\n").contains("did you mean `keyrotate`"));
    assert!(refused("keyrotate:\n").contains("is empty"));
    assert!(refused("keyrotate: yes\n").contains("must be a map"));
}

#[test]
fn alias_bombs_end_at_the_first_alias() {
    let mut bomb = String::from("a0: &a0 [x, x]\n");
    for n in 1..40 {
        bomb += &format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1);
    }
    assert!(parse(bomb.as_bytes(), "j").is_err());
    for pattern in ["*", "*.png", "*a*"] {
        let file = format!(
            "{HEAD}  encryption: {{}}\n  flags:\n    filter:\n      tags:\n        - key: a\n          value: {pattern}\n"
        );
        assert!(refused(file).contains("needs quotes"), "{pattern}");
    }
    let file = format!("{HEAD}  prefix: &p a\n  encryption: {{key: *p}}\n");
    let errors = parse(file.as_bytes(), "j").unwrap_err();
    let paths: Vec<&str> = errors.0.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["keyrotate.prefix", "keyrotate.encryption.key"]);
}

/// 64 KiB that are laid out to be hard are still read in a moment.
#[test]
fn no_file_keeps_it_busy() {
    let hard = [
        "? ", "a: ", "- a\n", "a: b\n", "{a: b}, ", "[a, ", "\"", "'a' ", "a:\n ", "*a ", "&a ", "! ", "|\n", "\n",
        "#\n", "a ", "é", ", ",
    ];
    for piece in hard {
        for head in ["", "a: ", "- ", "{a: ", "[", "\"", "|\n "] {
            let text = head.to_owned() + &piece.repeat((60 * 1024) / piece.len());
            assert!(parse(text.as_bytes(), "j").is_err(), "{head}{piece}");
        }
    }
}

#[test]
fn nobodys_plaintext_is_encrypted_because_a_line_was_forgotten() {
    assert!(refused(HEAD).contains("`encryption` is missing"));
    assert!(refused(format!("{HEAD}  encryption:\n")).contains("`encryption` is empty"));
    assert!(refused(format!("{HEAD}  encryption:\n    type:\n")).contains("`type` is empty"));
    assert!(refused(format!("{HEAD}  encryption: {{type: \"\"}}\n")).contains("`type` is empty"));
    assert!(refused("apiVersion: v1\nbucket: my-bucket\nkey: a\n").contains("`encryption` is missing"));
    assert!(refused("apiVersion: v1\nbucket: my-bucket\ntype:\nkey: a\n").contains("`type` is empty"));
    assert_eq!(spec(&format!("{HEAD}  encryption: {{type: sse-kms}}\n")).dialect, Dialect::Minio);
    assert_eq!(spec(&with_key("a")).dialect, Dialect::Aistor);
    assert_eq!(spec("apiVersion: v1\nbucket: my-bucket\nencryption: {}\n").dialect, Dialect::Aistor);
    let flat = "apiVersion: v1\nbucket: my-bucket\nencryption: {type: sse-kms}\n";
    assert_eq!(spec(flat).dialect, Dialect::MinioFlat);
}

#[test]
fn a_field_of_aistor_brings_its_rules() {
    let file =
        |kind: &str, filter: &str| format!("{HEAD}  encryption: {{type: {kind}}}\n  flags: {{filter: {{{filter}}}}}\n");
    let parsed = parse(file("sse-kms", "plaintextOnly: false").as_bytes(), "j").unwrap();
    assert_eq!(parsed.spec.dialect, Dialect::Aistor);
    assert!(parsed.warnings[0].to_string().contains("plaintext objects will be encrypted"));
    assert!(refused(file("sse-s3", "forceEncryptLocked: true")).contains("AIStor"));
    assert!(refused(file("SSE-KMS", "")).contains("not a type"));
    assert!(refused(file("sse-kms", "kmskey: a, kmskeyid: b")).contains("different keys"));
    assert_eq!(spec(&file("sse-kms", "kmskey: a, kmskeyid: arn:aws:kms:a")).filter.kms_key.unwrap().0, "a");
    assert!(refused(file("sse-kms", "newerThan: 1d, olderThan: 24h")).contains("at any time"));
    assert!(refused(file("sse-kms", "newerThan: 0s")).contains("at any time"));
    assert!(refused(file("sse-kms", "createdAfter: 2023-03-02, createdBefore: 2023-03-02")).contains("at any time"));
}

#[test]
fn empty_filters_are_taken_with_a_warning() {
    let file = format!(
        "{HEAD}  encryption: {{}}\n  flags:\n    filter:\n      tags:\n      newerThan:\n      kmskeyid: \"\"\n"
    );
    let warnings = parse(file.as_bytes(), "j").unwrap().warnings;
    let paths: Vec<&str> = warnings.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["keyrotate.flags.filter.tags", "keyrotate.flags.filter.newerThan"]);
}

#[test]
fn json_is_read_like_yaml() {
    let yaml = spec(&with_key("a"));
    let json = "{\"keyrotate\":{\"apiVersion\":\"v1\",\"bucket\":\"my-bucket\",\"encryption\":{\"key\":\"a\"}}}";
    assert_eq!(spec(json), yaml);
    assert_eq!(
        spec(
            &json
                .replace(['{', ','], "{\n\t")
                .replace("{\n\t\"bucket", ",\n\t\"bucket")
                .replace("{\n\t\"encryption", ",\n\t\"encryption")
        ),
        yaml
    );
    assert!(refused(json.replace("\"bucket\"", "\"apiVersion\"")).contains("given twice"));
}

/// What the walk over the tree takes, before any value is looked at.
fn walked(text: &str) -> Result<(Layout, JobFile), Vec<Problem>> {
    let mut findings = Findings::new("j");
    let fields = tree::text(text.as_bytes(), &mut findings)
        .and_then(|text| tree::read(text, &mut findings))
        .and_then(|root| fields::read(&root, &mut findings));
    match fields {
        Some(Fields { layout, file, .. }) if findings.errors.is_empty() => Ok((layout, file)),
        _ => Err(findings.errors),
    }
}

/// What keyrotate refuses although a reader of YAML need not.
const HOUSE_RULES: [&str; 14] = [
    // `[-,` likewise.
    "plain scalar cannot start with",
    "needs quotes",
    "`keyrotate` is empty",
    "begins with a tab",
    // YAML 1.2 wants the further lines of a quoted text indented; 1.1, which serde_yaml reads, did not care.
    "invalid indentation in quoted scalar",
    "are not taken",
    "more than one document",
    "is not a whole number",
    "the item is empty",
    "a field without a name",
    "where a field's name is expected",
    "stands here",
    "is given twice",
    "the file is empty",
];

/// Both readers take the text and see the same, or both refuse it, house rules apart.
fn agree(text: &str) -> Result<bool, TestCaseError> {
    match walked(text) {
        Ok((layout, file)) => {
            prop_assert_eq!(JobFile::from_yaml(text, layout), Ok(file), "{}", text);
            Ok(true)
        }
        Err(errors) => {
            prop_assert!(!errors.is_empty());
            let by_house_rule = errors.iter().any(|p| HOUSE_RULES.iter().any(|rule| p.message.contains(rule)));
            for layout in [Layout::Nested, Layout::Flat] {
                let taken = JobFile::from_yaml(text, layout).is_ok_and(|file| !is_hollow(&file));
                prop_assert!(by_house_rule || !taken, "only serde_yaml takes {text}\n{errors:?}");
            }
            Ok(false)
        }
    }
}

/// `serde_yaml` takes a flat file without any field.
fn is_hollow(file: &JobFile) -> bool {
    let hollow = serde_json::json!({});
    JobFile::from_tree(hollow, Layout::Flat).is_ok_and(|hollow| hollow == *file)
}

const ODD: &[&str] = &[
    "a",
    "v1",
    "my-bucket",
    "sse-kms",
    "sse-s3",
    "7d",
    "2023-03-02",
    "2023-03-02T15:04:05Z",
    "10",
    "0",
    "-1",
    "010",
    "0x1f",
    "0o7",
    "1_000",
    "+1",
    "1.5",
    "1e3",
    ".inf",
    ".nan",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "true",
    "True",
    "TRUE",
    "tRUE",
    "false",
    "null",
    "Null",
    "~",
    "",
    " ",
    "a b",
    " a",
    "a ",
    "a: b",
    "a:b",
    "a #b",
    "#a",
    "-",
    "- a",
    "?",
    "? a",
    ":",
    "@a",
    "`a`",
    "%a",
    "&a b",
    "*a",
    "!a b",
    "!!str 1",
    "[",
    "]",
    "{",
    "}",
    "[a]",
    "{a: b}",
    "a,b",
    "'",
    "\"",
    "it's",
    "a\\b",
    "é",
    "日本",
    "😀",
    "<<",
    "=",
    "---",
    "...",
    "12:30:45",
    "a\nb",
    "a\n\nb",
    "\ta",
    "a\tb",
    "<new-kms-key>",
    "any",
    "1MiB",
    "0.1%",
];

#[derive(Clone, Debug)]
enum Doc {
    Scalar(String, u8),
    List(Vec<Doc>),
    Map(Vec<(String, Doc)>),
}

/// A scalar of the list above in one of the ways to write it; now and then one that does not fit it.
fn scalar() -> BoxedStrategy<Doc> {
    let text = prop_oneof![6 => select(ODD).prop_map(str::to_owned), 1 => "[ -~é]{0,8}"];
    (text, 0..6_u8).prop_map(|(text, style)| Doc::Scalar(text, style)).boxed()
}

fn doc(shape: &'static Shape) -> BoxedStrategy<Doc> {
    let fitting = match shape {
        Shape::Text => scalar(),
        Shape::Count => select(&["0", "3", "10", "~"][..]).prop_map(|t| Doc::Scalar(t.to_owned(), 0)).boxed(),
        Shape::Flag => select(&["true", "False", "~"][..]).prop_map(|t| Doc::Scalar(t.to_owned(), 0)).boxed(),
        Shape::Nothing => Just(Doc::Scalar("~".to_owned(), 0)).boxed(),
        Shape::Map(known) => map(known),
        Shape::Texts => {
            prop::collection::vec((select(ODD).prop_map(str::to_owned), scalar()), 0..3).prop_map(Doc::Map).boxed()
        }
        Shape::Named(_) => unreachable!("a job file has no such map"),
        Shape::List(item) => prop::collection::vec(doc(item), 0..3).prop_map(Doc::List).boxed(),
    };
    prop_oneof![
        30 => fitting,
        1 => scalar(),
        1 => prop::collection::vec(scalar(), 0..2).prop_map(Doc::List),
        1 => prop::collection::vec((select(ODD).prop_map(str::to_owned), scalar()), 0..2).prop_map(Doc::Map),
    ]
    .boxed()
}

fn map(known: Known) -> BoxedStrategy<Doc> {
    let fields: Vec<BoxedStrategy<Option<(String, Doc)>>> = known
        .iter()
        .map(|(name, shape)| prop::option::of(doc(shape).prop_map(|doc| ((*name).to_owned(), doc))).boxed())
        .collect();
    let odd = prop::option::weighted(0.04, (select(ODD).prop_map(str::to_owned), scalar()));
    let twice = prop::bool::weighted(0.03);
    (fields, odd, twice)
        .prop_map(|(fields, odd, twice)| {
            let mut fields: Vec<_> = fields.into_iter().flatten().chain(odd).collect();
            if twice {
                fields.extend(fields.first().cloned());
            }
            Doc::Map(fields)
        })
        .boxed()
}

impl Doc {
    /// As a block with this indentation, or in flow style.
    fn write(&self, out: &mut String, indent: usize, flow: bool) {
        match self {
            Self::Scalar(text, style) => write_scalar(out, text, *style, indent, flow),
            Self::Map(fields) if flow || fields.is_empty() => {
                out.push_str(" {");
                for (name, doc) in fields {
                    *out += &format!("{}:", quote_name(name));
                    doc.write(out, indent, true);
                    out.push_str(", ");
                }
                out.push('}');
            }
            Self::Map(fields) => {
                for (name, doc) in fields {
                    *out += &format!("\n{}{}:", " ".repeat(indent), quote_name(name));
                    doc.write(out, indent + 2, name.len() % 5 == 3);
                }
            }
            Self::List(items) if flow || items.is_empty() => {
                out.push_str(" [");
                for item in items {
                    item.write(out, indent, true);
                    out.push(',');
                }
                out.push(']');
            }
            Self::List(items) => {
                for item in items {
                    *out += &format!("\n{}-", " ".repeat(indent));
                    // A tab right behind the dash is taken by one reader only.
                    let tabbed = matches!(item, Self::Scalar(text, _) if text.starts_with('\t'));
                    item.write(out, indent + 2, tabbed);
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0, false);
        out + "\n"
    }
}

fn quote_name(name: &str) -> String {
    if name.bytes().all(|b| b.is_ascii_alphanumeric()) { name.to_owned() } else { serde_json::to_string(name).unwrap() }
}

fn write_scalar(out: &mut String, text: &str, style: u8, indent: usize, flow: bool) {
    let pad = " ".repeat(indent);
    // In `{…}` and `[…]` YAML 1.1 and 1.2 differ about these; see the test below for what becomes of them.
    let differs = text.trim_start().starts_with(['?', ':']) || text.starts_with('\t');
    let style = if flow && differs { 2 } else { style };
    *out += &match style {
        1 => format!(" '{}'", text.replace('\'', "''").replace('\n', "\n\n")),
        2 => format!(" {}", serde_json::to_string(text).unwrap()),
        3 if !flow => format!(" |-\n{pad} {}", text.replace('\n', &format!("\n{pad} "))),
        4 if !flow => format!(" >-\n{pad} {}", text.replace('\n', &format!("\n\n{pad} "))),
        _ => format!(" {}", text.replace('\n', &format!("\n{pad} "))),
    };
}

#[test]
fn what_only_one_reader_takes_is_refused_in_plain_words() {
    for value in ["?a", ":a"] {
        let file = |tags: &str| format!("{HEAD}  encryption: {{}}\n  flags:\n    filter:\n      tags: {tags}\n");
        let in_flow = file(&format!("[{{key: a, value: {value}}}]"));
        assert!(walked(&in_flow).is_ok() && refused(&in_flow).contains("only one of two YAML readers"), "{in_flow}");
        let in_block = file(&format!("\n        - key: a\n          value: {value}"));
        assert_eq!(spec(&in_block).filter.tags[0].value, value);
    }
}

#[test]
fn a_value_that_stops_the_reader_at_its_first_sign_is_named_by_it() {
    let file = |value: &str| format!("{HEAD}  encryption: {{}}\n  options:\n    verifyBodies: {value}\n");
    assert!(refused(file("&0?}")).contains("aliases (`*name`) are not taken"));
    assert!(refused(file("|#")).contains("a value that begins with `|` needs quotes"));
    for value in ["&0?}", "|#", ">1#"] {
        agree(&file(value)).unwrap();
    }
}

#[test]
fn a_file_of_several_buckets_is_as_many_jobs() {
    let file = |places: &str| format!("keyrotate:\n  apiVersion: v1\n  {places}\n  encryption: {{key: k}}\n");
    let two = file("buckets: [logs-*, data/2026/]");
    let of = |bucket: &str, prefix: &str| {
        let scope = Scope { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        let options = ParseOptions { scope: Some(&scope), ..ParseOptions::default() };
        parse_with(two.as_bytes(), "j", options).map(|parsed| parsed.spec).map_err(|errors| errors.to_string())
    };
    assert_eq!(parse(two.as_bytes(), "j").unwrap().buckets.len(), 2);
    let one = spec(&file("bucket: data\n  prefix: 2026/"));
    assert_eq!(of("data", "2026/").unwrap().hash(), one.hash());
    assert_eq!(of("logs-a", "").unwrap().bucket, "logs-a");
    for (bucket, prefix) in [("data", ""), ("logs-a", "x"), ("other", "")] {
        assert!(of(bucket, prefix).unwrap_err().contains("is not among them"), "{bucket}/{prefix}");
    }
    for (places, words) in [
        ("buckets: []", "names no bucket"),
        ("buckets: [a/b]", "`a` is not a bucket's name"),
        ("buckets: [data]\n  bucket: data", "both say where"),
        ("buckets: [data]\n  prefix: a/", "both say where"),
        ("buckets: [data]\n  manifest: {location: l.csv, format: csv}", "a manifest is of one bucket"),
        ("buckets:\n    -", "the item is empty"),
    ] {
        assert!(refused(file(places)).contains(words), "{places}: {}", refused(file(places)));
    }
    let options =
        ParseOptions { scope: Some(&Scope { bucket: "b".into(), prefix: String::new() }), ..Default::default() };
    let single = parse_with(with_key("a").as_bytes(), "j", options).unwrap_err().to_string();
    assert!(single.contains("only of a file with `buckets`"), "{single}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_readers_take_the_same_files(doc in prop_oneof![map(NESTED), map(FLAT)]) {
        agree(&doc.text())?;
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_refusal(&bytes)?;
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(text in "([a-z]{1,3}|: |- |\n {0,4}|[\\[\\]{}&*!|>'\"%@`#,?\t\r]|\\PC){0,60}") {
        check_refusal(text.as_bytes())?;
    }

    #[test]
    fn no_damaged_sample_makes_it_panic(
        sample in select(SAMPLES),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>(), "[\\[\\]{}:&*!|>'\"#, \n\t\r-]"), 1..5),
    ) {
        let mut bytes = sample.as_bytes().to_vec();
        for (place, how, byte, piece) in damage {
            let at = place.index(bytes.len().max(1));
            match how {
                0 if at < bytes.len() => drop(bytes.remove(at)),
                1 if at < bytes.len() => bytes[at] = byte,
                2 => bytes.truncate(at),
                _ => drop(bytes.splice(at..at, piece.bytes())),
            }
        }
        check_refusal(&bytes)?;
    }
}

const SAMPLES: &[&str] = &[
    include_str!("../../tests/samples/valid/a-minio-2023.yaml"),
    include_str!("../../tests/samples/valid/b-flat-as-announced.yaml"),
    include_str!("../../tests/samples/valid/c-as-json.json"),
    include_str!("../../tests/samples/valid/c-options.yaml"),
    include_str!("../../tests/samples/invalid/four-errors.yaml"),
    include_str!("../../tests/samples/invalid/wrong-types.yaml"),
    include_str!("../../tests/samples/invalid/yaml-features.yaml"),
];

/// Whatever is not taken is refused with a place in the file and a message of one line.
fn check_refusal(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Err(errors) = parse(bytes, "j") else { return Ok(()) };
    prop_assert!(!errors.0.is_empty());
    let lines = bytes.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() + 2;
    for problem in &errors.0 {
        prop_assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem:?}");
    }
    let shown = errors.to_string();
    prop_assert_eq!(shown.lines().count(), errors.0.len(), "{}", shown);
    prop_assert!(!shown.contains("differently"), "{shown}");
    Ok(())
}
