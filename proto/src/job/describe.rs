//! What a job will do, in words for `keyrotate validate`.

use crate::rates::{RateWindow, Rates};
use crate::say;
use crate::spec::{Dialect, JobSpec, Manifest, Options, Target};

/// Rules, target, and one line per kind of source object, each with its heading.
#[must_use]
pub fn describe(spec: &JobSpec) -> Vec<(String, String)> {
    let mut lines = vec![("rules".to_owned(), rules(spec.dialect).to_owned()), ("target".to_owned(), target(spec))];
    let mut add = |name: &str, text: &str| lines.push((name.to_owned(), text.to_owned()));
    if let Some(manifest) = &spec.manifest {
        add("objects", &named(manifest));
    }
    add("plaintext", plaintext(spec));
    add("SSE-S3", sse_s3(spec));
    add("SSE-KMS, another key", other_key(spec));
    add("SSE-KMS, the target key", target_key(spec));
    add("SSE-C", "skipped: only its owner has the key");
    add("locked, plaintext", locked_plaintext(spec.dialect));
    add("locked, encrypted", locked_encrypted(spec));
    add("context", context(&spec.target));
    if let Some(ways) = ways(spec) {
        add("strategies", ways);
    }
    if let Some(speed) = speed(&spec.options) {
        add("speed", &speed);
    }
    if spec.target == Target::SseS3 {
        let text = "no store shows which key seals an SSE-S3 object: a later job with this file writes all again";
        add("note", text);
    } else if spec.options.reseal {
        add("note", "no store shows when an object was sealed: a later job with `reseal` writes all again");
    }
    lines
}

/// How fast, where the file says so.
fn speed(options: &Options) -> Option<String> {
    let own = options.rates();
    let windows = options.windows.iter().map(|window| {
        let RateWindow { from, until, days, zone, rates } = window;
        let days = if days.are_all() { String::new() } else { format!(" on {days}") };
        let time = |time: &jiff::civil::Time| format!("{:02}:{:02}", time.hour(), time.minute());
        format!("from {} until {}{days} ({zone}) {}", time(from), time(until), most(*rates))
    });
    let all: Vec<_> = std::iter::once(most(own)).chain(windows).collect();
    (!own.are_unlimited() || all.len() > 1).then(|| all.join("; "))
}

fn most(rates: Rates) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate, more than 0")]
    let all = [
        rates.objects.map(|rate| format!("{rate} objects")),
        rates.bytes.map(|rate| say::bytes(rate as u64)),
        rates.kms.map(|rate| format!("{rate} calls to the KMS")),
    ];
    let all: Vec<_> = all.into_iter().flatten().collect();
    if all.is_empty() { "without a limit".into() } else { format!("at most {} per second", all.join(", ")) }
}

fn rules(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Minio => "MinIO",
        Dialect::MinioFlat => "MinIO, in the flat form of 2023",
        Dialect::Aistor => "AIStor",
    }
}

fn target(spec: &JobSpec) -> String {
    match (&spec.target, spec.dialect) {
        (Target::SseS3, _) => "SSE-S3, the store's own key".to_owned(),
        _ if !spec.keys.is_empty() => {
            let each = spec.keys.iter().map(|(old, new)| format!("{new} for {old}")).collect::<Vec<_>>();
            format!("SSE-KMS under {}", each.join(", "))
        }
        (Target::SseKms { key: Some(key), .. }, Dialect::Aistor) => {
            format!("SSE-KMS under {key} (AIStor itself refuses a key that is not its default)")
        }
        (Target::SseKms { key: Some(key), .. }, _) => format!("SSE-KMS under {key}"),
        (Target::SseKms { key: None, .. }, _) => {
            "SSE-KMS under the store's default key, which the start finds out, shows and asks about".to_owned()
        }
    }
}

fn named(manifest: &Manifest) -> String {
    match manifest {
        Manifest::Csv { location } => format!("only those that the list {location} names"),
        Manifest::Inventory { location } => format!("only those that the inventory {location} names"),
        Manifest::FailedOf { job } => format!("only those that job {job} could not do"),
    }
}

fn plaintext(spec: &JobSpec) -> &'static str {
    match (spec.dialect.encrypts_plaintext(), spec.filter.kms_key.is_some()) {
        (true, _) if !spec.keys.is_empty() => "skipped: it is under none of the keys in `keys`",
        (true, true) => "left out (`kmskey`)",
        (true, false) => "will be encrypted",
        (false, _) => "skipped: MinIO's rules leave it alone",
    }
}

fn sse_s3(spec: &JobSpec) -> &'static str {
    match (&spec.target, spec.filter.plaintext_only, spec.filter.kms_key.is_some()) {
        (_, true, _) => "left out (`plaintextOnly`)",
        (_, _, true) => "left out (`kmskey`)",
        (Target::SseS3, ..) => "will be sealed anew",
        _ if !spec.keys.is_empty() => "skipped: it is under none of the keys in `keys`",
        (Target::SseKms { .. }, ..) => "will be converted to SSE-KMS",
    }
}

fn other_key(spec: &JobSpec) -> &'static str {
    match (&spec.target, spec.filter.plaintext_only, spec.filter.kms_key.is_some()) {
        (_, true, _) => "left out (`plaintextOnly`)",
        (Target::SseS3, ..) => "skipped: SSE-S3 would weaken it",
        (Target::SseKms { .. }, _, true) => "will be rotated where it is under the key that `kmskey` names",
        _ if !spec.keys.is_empty() => "will be rotated where `keys` names its key, else skipped",
        (Target::SseKms { .. }, _, false) => "will be rotated",
    }
}

/// Whether it is already right is asked before the filters, except in a job with a context or `reseal`.
fn target_key(spec: &JobSpec) -> &'static str {
    match (&spec.target, spec.filter.plaintext_only, spec.filter.kms_key.is_some()) {
        (Target::SseS3, ..) => other_key(spec),
        (Target::SseKms { context: None, .. }, ..) if !spec.options.reseal => "already right, not written",
        (_, true, _) => "left out (`plaintextOnly`)",
        (_, _, true) => "left out, unless `kmskey` names this very key",
        _ if spec.options.reseal => "will be written once more (`reseal`)",
        (_, _, false) => "will be written once, so that it gets the context",
    }
}

fn locked_plaintext(dialect: Dialect) -> &'static str {
    if dialect.encrypts_plaintext() { "always skipped" } else { "skipped, like all plaintext" }
}

fn locked_encrypted(spec: &JobSpec) -> &'static str {
    match (spec.dialect, spec.filter.plaintext_only, spec.filter.force_encrypt_locked) {
        (_, true, _) => "left out (`plaintextOnly`)",
        (Dialect::Aistor, _, false) => "skipped (`forceEncryptLocked: true` would include it)",
        _ => "like the others, by a new version under the same lock; the locked one below stays",
    }
}

fn context(target: &Target) -> &'static str {
    match target {
        Target::SseS3 => "none: SSE-S3 has no context",
        Target::SseKms { context: Some(_), .. } => {
            "every object gets the file's context in the place of its own; whoever reads it has to give the same"
        }
        Target::SseKms { context: None, .. } => {
            "none given: an object's own context is kept only where the store's listing shows it (MinIO, without object lock); \
             elsewhere no store shows one: a copy or rewrite drops it, and nobody sees what `update-encryption` does with it; such \
             objects need a job of their own, with their `context`"
        }
    }
}

/// Which strategies a target rules out whatever the store can do.
fn ways(spec: &JobSpec) -> Option<&'static str> {
    match &spec.target {
        Target::SseS3 => Some("copy or rewrite: `update-encryption` leads to SSE-KMS only"),
        Target::SseKms { context: Some(_), .. } => Some(
            "copy or rewrite: `update-encryption` can't set a context; what no copy or rewrite may write here is skipped",
        ),
        Target::SseKms { context: None, .. } if spec.options.reseal => {
            Some("copy or rewrite: `update-encryption` is not used on what is under the target key already")
        }
        Target::SseKms { .. } => None,
    }
}
