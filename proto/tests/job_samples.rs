//! Every sample under `tests/samples`: what is taken, what is refused, and in which words.
//!
//! `INSTA_UPDATE=always` writes the snapshots anew, `UPDATE_SCHEMA=1` the shipped JSON Schema.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use keyrotate_proto::job::{self, ParseOptions};
use keyrotate_proto::key::KeyName;
use keyrotate_proto::spec::{BodyTransit, Dialect, JobSpec, Target};

fn samples(kind: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|f| (f.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(f).unwrap())).collect()
}

fn valid(name: &str) -> JobSpec {
    let (_, text) = samples("valid").into_iter().find(|(file, _)| file == name).unwrap();
    job::parse(&text, name).unwrap().spec
}

/// What a valid sample means, and the warnings it gives.
#[test]
fn valid_samples_mean_what_they_say() {
    for (name, text) in samples("valid") {
        let parsed = job::parse(&text, &name).unwrap_or_else(|errors| panic!("{errors}"));
        let mut shown = serde_json::to_string_pretty(&parsed.spec).unwrap();
        for warning in &parsed.warnings {
            shown += &format!("\nwarning: {warning}");
        }
        for (heading, line) in job::describe(&parsed.spec) {
            shown += &format!("\n{heading}: {line}");
        }
        insta::assert_snapshot!(format!("valid__{name}"), shown);
    }
}

#[test]
fn invalid_samples_are_refused_with_every_error_at_once() {
    for (name, text) in samples("invalid") {
        let errors = job::parse(&text, &name).expect_err(&name);
        assert!(errors.0.iter().all(|p| p.file == name && p.line > 0 && p.column > 0), "{errors}");
        let shown = errors.to_string();
        assert!(!shown.contains("hunter2"), "a token is shown: {shown}");
        insta::assert_snapshot!(format!("invalid__{name}"), shown);
    }
}

#[test]
fn four_errors_are_all_named() {
    let (name, text) = samples("invalid").into_iter().find(|(name, _)| name == "four-errors.yaml").unwrap();
    let errors = job::parse(&text, &name).unwrap_err();
    let found: Vec<(usize, &str)> = errors.0.iter().map(|p| (p.line, p.path.as_str())).collect();
    assert_eq!(
        found,
        [
            (6, "keyrotate.encryption.kee"),
            (9, "keyrotate.flags.filter.newerThan"),
            (10, "keyrotate.flags.filter.createdAfter"),
            (12, "keyrotate.flags.retry.attempts"),
        ]
    );
    assert_eq!(errors.0[0].hint.as_deref(), Some("did you mean `key`?"));
    assert!(errors.0.iter().all(|p| p.hint.is_some()));
}

#[test]
fn dialects_are_told_apart() {
    assert_eq!(valid("a-minio-2023.yaml").dialect, Dialect::Minio);
    assert_eq!(valid("a-minio-2023-sse-s3.yaml").target, Target::SseS3);
    assert_eq!(valid("b-flat.yaml").dialect, Dialect::MinioFlat);
    assert_eq!(valid("b-flat-as-announced.yaml").dialect, Dialect::MinioFlat);
    assert_eq!(valid("c-aistor-all.yaml").dialect, Dialect::Aistor);
    let code_name = valid("a-minio-2023-kmskeyid.yaml");
    assert_eq!(code_name.filter.kms_key, Some(KeyName("spelled-as-in-code".into())));
    assert_eq!(code_name.target, Target::SseKms { key: Some(KeyName("my-new-key".into())), context: None });
    assert_eq!(valid("c-options.yaml").options.body_transit, BodyTransit::UpTo(64 << 20));
}

#[test]
fn a_private_endpoint_passes_where_the_configuration_allows_it() {
    let (name, text) = samples("invalid").into_iter().find(|(name, _)| name == "notify-link-local.yaml").unwrap();
    assert!(job::parse_with(&text, &name, ParseOptions { allow_private_notify: true, scope: None }).is_ok());
}

/// What editors check by: it takes every good file, and refuses what can be seen without reading values.
#[test]
fn the_schema_judges_files_as_the_parser_does() {
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("job.json", job::schema()).unwrap();
    let schema = compiler.compile("job.json", &mut schemas).unwrap();
    let passes = |text: &[u8]| {
        let value: serde_json::Value = serde_yaml::from_slice(text).unwrap();
        schemas.validate(&value, schema).is_ok()
    };
    for (name, text) in samples("valid") {
        assert!(passes(&text), "{name}");
    }
    let refused: Vec<_> = ["four-errors.yaml", "misplaced.yaml", "wrong-types.yaml", "replicate.yaml"].into();
    for (name, text) in samples("invalid").into_iter().filter(|(name, _)| refused.contains(&name.as_str())) {
        assert!(!passes(&text), "{name}");
    }
    let good = "keyrotate:\n  apiVersion: v1\n  bucket: b\n  encryption: {}\n";
    assert!(passes(good.as_bytes()));
    for (from, to) in [
        ("bucket: b", "bucket: [b]"),
        ("bucket: b", "bukket: b"),
        ("encryption: {}", "encryption: {type: sse-c}"),
        ("encryption: {}", "encryption: {kee: k}"),
        ("encryption: {}", "encryption: {}\n  flags: {filter: {tags: {key: a, value: b}}}"),
        ("encryption: {}", "encryption: {}\n  flags: {retry: {attempts: many}}"),
        ("keyrotate:", "replicate:"),
        ("  bucket", "  prefix: 3\n  bucket"),
    ] {
        let bad = good.replace(from, to);
        assert!(!passes(bad.as_bytes()) && job::parse(bad.as_bytes(), "t").is_err(), "{bad}");
    }
}

#[test]
fn the_shipped_schema_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/job.schema.json");
    let generated = serde_json::to_string_pretty(&job::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == generated, "UPDATE_SCHEMA=1 writes it anew");
}
