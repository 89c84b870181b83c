//! Typed fields -> [`JobSpec`]: which dialect it is, which values are good, what fits together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::buckets::{BucketPattern, Scope};
use super::findings::{Findings, Places, child, item};
use super::tree::clip;
use super::values::{self, Bad, ManifestFormat};
use super::yaml::{
    Encryption, Entry, FilterBlock, Flags, JobFile, ManifestBlock, NotifyBlock, OptionsBlock, RetryBlock, WindowBlock,
};
use super::{ParseOptions, endpoint};
use crate::key::KeyName;
use crate::rates::{RateWindow, Rates};
use crate::spec::{
    BodyTransit, Dialect, Filter, JobSpec, KeyPattern, Loss, Manifest, Notify, Options, Rank, Retry, SPEC_VERSION,
    Target,
};

/// Versions of the format that are read.
const API_VERSIONS: [&str; 1] = ["v1"];

/// The spec that the file means, and its `buckets`; only worth something when no error was noted.
pub(super) fn spec(
    file: &JobFile,
    places: &Places,
    options: ParseOptions<'_>,
    findings: &mut Findings,
) -> (JobSpec, Vec<BucketPattern>) {
    let job = View::of(file);
    let mut check = Check { root: job.root, places, findings };
    check.api_version(job.api_version);
    let buckets = check.buckets(&job);
    let Scope { bucket, prefix } = match job.buckets {
        Some(_) => check.scope(&buckets, options.scope),
        None => check.one_bucket(&job, options.scope),
    };
    if prefix.starts_with('/') {
        check.warn(
            "prefix",
            "begins with `/`, which few objects' keys do",
            "keys are matched from their first character",
        );
    }
    let none = Flags::default();
    let flags = job.flags.unwrap_or(&none);
    let filter = flags.filter.as_ref();
    let (dialect, target) = check.target(&job, filter);
    let keys = job.keys.map(|keys| check.keys(keys, &target)).unwrap_or_default();
    let filter = filter.map(|filter| check.filter(filter)).unwrap_or_default();
    let spec = JobSpec {
        version: SPEC_VERSION,
        dialect,
        bucket,
        prefix,
        keys,
        target,
        filter,
        notify: flags.notify.as_ref().and_then(|notify| check.notify(notify, options)),
        retry: flags.retry.as_ref().map(|retry| check.retry(retry)).unwrap_or_default(),
        options: job.options.map(|block| check.options(block)).unwrap_or_default(),
        manifest: job.manifest.and_then(|block| check.manifest(block)),
    };
    (spec, buckets)
}

/// Both layouts looked at alike.
struct View<'a> {
    /// Path of what holds the job's fields.
    root: &'static str,
    /// Whether `type`, `key` and `context` stand beside `bucket`.
    beside: Option<Encryption>,
    api_version: Option<&'a str>,
    bucket: Option<&'a str>,
    prefix: Option<&'a str>,
    buckets: Option<&'a [String]>,
    keys: Option<&'a BTreeMap<String, Option<String>>>,
    manifest: Option<&'a ManifestBlock>,
    encryption: Option<&'a Encryption>,
    flags: Option<&'a Flags>,
    options: Option<&'a OptionsBlock>,
}

impl<'a> View<'a> {
    fn of(file: &'a JobFile) -> Self {
        match file {
            JobFile::Nested(nested) => {
                let job = &nested.keyrotate;
                View {
                    root: "keyrotate",
                    beside: None,
                    api_version: job.api_version.as_deref(),
                    bucket: job.bucket.as_deref(),
                    prefix: job.prefix.as_deref(),
                    buckets: job.buckets.as_deref(),
                    keys: job.keys.as_ref(),
                    manifest: job.manifest.as_ref(),
                    encryption: job.encryption.as_ref(),
                    flags: job.flags.as_ref(),
                    options: job.options.as_ref(),
                }
            }
            JobFile::Flat(flat) => View {
                root: "",
                beside: Some(Encryption {
                    kind: flat.kind.clone(),
                    key: flat.key.clone(),
                    context: flat.context.clone(),
                }),
                api_version: flat.api_version.as_deref(),
                bucket: flat.bucket.as_deref(),
                prefix: flat.prefix.as_deref(),
                buckets: flat.buckets.as_deref(),
                keys: flat.keys.as_ref(),
                manifest: flat.manifest.as_ref(),
                encryption: flat.encryption.as_ref(),
                flags: flat.flags.as_ref(),
                options: flat.options.as_ref(),
            },
        }
    }
}

/// What `encryption.type` says.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    SseS3,
    SseKms,
}

struct Check<'a> {
    root: &'static str,
    places: &'a Places,
    findings: &'a mut Findings,
}

impl Check<'_> {
    fn error(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        let path = self.full(path);
        self.findings.error(self.places.find(&path), &path, message.into(), Some(hint.into()));
    }

    fn warn(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        let path = self.full(path);
        self.findings.warning(self.places.find(&path), &path, message.into(), Some(hint.into()));
    }

    fn full(&self, path: &str) -> String {
        match self.root {
            "" => path.to_owned(),
            root => format!("{root}.{path}"),
        }
    }

    fn has(&self, path: &str) -> bool {
        self.places.has(&self.full(path))
    }

    /// Whether the walk has already said something about the field itself, or about its name in other letters.
    fn is_named(&self, path: &str) -> bool {
        let path = self.full(path);
        self.findings.errors.iter().any(|problem| problem.path.eq_ignore_ascii_case(&path))
    }

    fn value<T>(&mut self, path: &str, text: Option<&str>, read: impl FnOnce(&str) -> Result<T, Bad>) -> Option<T> {
        match read(text?) {
            Ok(value) => Some(value),
            Err(Bad { message, hint }) => {
                self.error(path, message, hint);
                None
            }
        }
    }

    fn required<T>(
        &mut self,
        text: Option<&str>,
        path: &str,
        hint: &str,
        read: impl FnOnce(&str) -> Result<T, Bad>,
    ) -> Option<T> {
        if text.is_some_and(|text| !text.is_empty()) {
            return self.value(path, text, read);
        }
        if !self.is_named(path) {
            let name = path.rsplit('.').next().unwrap_or(path);
            let message = if self.has(path) { format!("`{name}` is empty") } else { format!("`{name}` is missing") };
            self.error(path, message, hint);
        }
        None
    }

    fn api_version(&mut self, text: Option<&str>) {
        let known = API_VERSIONS.join(", ");
        self.required(text, "apiVersion", &format!("known: {known}"), |text| {
            if API_VERSIONS.contains(&text) {
                return Ok(());
            }
            values::bad(format!("`{}` is not a version that keyrotate reads", clip(text)), format!("known: {known}"))
        });
    }

    /// Which rules hold, and what the objects shall be encrypted with.
    fn target(&mut self, job: &View<'_>, filter: Option<&FilterBlock>) -> (Dialect, Target) {
        let beside = job.beside.as_ref().filter(|e| **e != Encryption::default() || self.has("type"));
        let (encryption, home) = match (job.encryption, beside) {
            (Some(encryption), None) => (encryption, "encryption."),
            (None, Some(encryption)) => (encryption, ""),
            (Some(encryption), Some(_)) => {
                for name in ["type", "key", "context"] {
                    if self.has(name) {
                        self.error(
                            name,
                            format!("`{name}` stands beside an `encryption` block"),
                            "move it into the block",
                        );
                    }
                }
                (encryption, "encryption.")
            }
            (None, None) => {
                self.encryption_forgotten();
                return (Dialect::Aistor, Target::SseS3);
            }
        };
        let kind_path = format!("{home}type");
        let kind = self.kind(&kind_path, encryption.kind.as_deref());
        if home.is_empty() && !self.has("type") {
            self.encryption_forgotten();
        }
        let dialect = self.dialect(job, kind, filter, &kind_path);
        (dialect, self.target_of(kind, encryption, home))
    }

    fn encryption_forgotten(&mut self) {
        if !self.is_named("encryption") {
            let what = if self.has("encryption") { "empty" } else { "missing" };
            self.error(
                "encryption",
                format!("`encryption` is {what}: it says what the objects shall be encrypted with"),
                "`encryption: {}` for SSE-KMS under the store's default key, plaintext objects too (AIStor's rules); \
                 `type: sse-kms` or `type: sse-s3` in it for MinIO's",
            );
        }
    }

    fn kind(&mut self, path: &str, text: Option<&str>) -> Option<Kind> {
        let hint = "sse-s3 or sse-kms; without the line AIStor's rules hold and plaintext objects are encrypted too";
        match text {
            None | Some("") if self.has(path) && !self.is_named(path) => self.error(path, "`type` is empty", hint),
            None => {}
            Some("sse-s3") => return Some(Kind::SseS3),
            Some("sse-kms") => return Some(Kind::SseKms),
            Some(other) if values::is_placeholder(other) => {
                self.error(path, format!("`{}` is a placeholder left from a template", clip(other)), hint);
            }
            Some(other) => self.error(path, format!("`{}` is not a type of encryption", clip(other)), hint),
        }
        None
    }

    fn dialect(
        &mut self,
        job: &View<'_>,
        kind: Option<Kind>,
        filter: Option<&FilterBlock>,
        kind_path: &str,
    ) -> Dialect {
        let only_aistor = filter.map_or([None, None], |f| {
            [f.plaintext_only.map(|_| "plaintextOnly"), f.force_encrypt_locked.map(|_| "forceEncryptLocked")]
        });
        let mut only_aistor = only_aistor.into_iter().flatten();
        match (kind, only_aistor.next()) {
            (Some(Kind::SseS3), Some(name)) => {
                let message = format!("`{name}` is AIStor's, which always encrypts with SSE-KMS, and `type` is sse-s3");
                self.error(&format!("flags.filter.{name}"), message, "remove one of them");
                Dialect::Aistor
            }
            (Some(Kind::SseKms), Some(name)) => {
                let message = format!("`type: sse-kms` is MinIO's, but with `{name}` AIStor's rules hold");
                self.warn(kind_path, message, "plaintext objects will be encrypted too");
                Dialect::Aistor
            }
            (None, _) => Dialect::Aistor,
            (Some(_), None) if job.beside.is_some() => Dialect::MinioFlat,
            (Some(_), None) => Dialect::Minio,
        }
    }

    fn target_of(&mut self, kind: Option<Kind>, encryption: &Encryption, home: &str) -> Target {
        let (key_path, context_path) = (format!("{home}key"), format!("{home}context"));
        if kind == Some(Kind::SseS3) {
            for (path, text) in [(key_path, &encryption.key), (context_path, &encryption.context)] {
                if text.as_deref().is_some_and(|text| !text.is_empty()) {
                    self.error(&path, "is only for sse-kms", "remove the line, or write `type: sse-kms`");
                }
            }
            return Target::SseS3;
        }
        let key = self.value(&key_path, encryption.key.as_deref(), values::key).flatten();
        let text = encryption.context.as_deref().filter(|text| !text.is_empty());
        let context = self.value(&context_path, text, values::context).flatten();
        Target::SseKms { key, context }
    }

    /// The map of old to new keys. A new key that is an old one as well would be rotated again, or for ever.
    fn keys(&mut self, block: &BTreeMap<String, Option<String>>, target: &Target) -> BTreeMap<KeyName, KeyName> {
        match target {
            Target::SseS3 => self.error("keys", "is only for sse-kms", "remove it, or write `type: sse-kms`"),
            Target::SseKms { key: Some(_), .. } => {
                self.error("keys", "stands beside `key`, which would be the new key of all", "remove one of them");
            }
            Target::SseKms { key: None, .. } => {}
        }
        let mut keys = BTreeMap::new();
        for (old, new) in block {
            let path = format!("keys.{old}");
            let old = self.value(&path, Some(old), values::key).flatten();
            let new = self.value(&path, new.as_deref(), values::key).flatten();
            match (old, new) {
                (Some(old), Some(new)) => {
                    if keys.insert(old, new).is_some() {
                        self.error(&path, "names a key that another line names, too", "keep one of them");
                    }
                }
                _ if self.is_named(&path) => {}
                _ => self.error(&path, "names no key", "write `OLD-KEY: NEW-KEY`"),
            }
        }
        for (old, new) in &keys {
            let path = format!("keys.{old}");
            if old.same_key(new) {
                self.error(
                    &path,
                    "is its own new key",
                    "remove the line; `reseal: true` writes under the same key again",
                );
            } else if keys.keys().any(|other| other.same_key(new)) {
                let message = format!("its new key `{new}` is an old one in another line: a chain or a circle");
                self.error(&path, message, "give it the last key of the chain");
            }
            if keys.keys().filter(|other| other.same_key(old)).count() > 1 {
                self.error(&path, "names a key that another line names, too", "keep one of them");
            }
        }
        if keys.is_empty() && !self.is_named("keys") {
            self.error("keys", "is empty", "write `OLD-KEY: NEW-KEY` below it, or remove it");
        }
        keys
    }

    fn filter(&mut self, block: &FilterBlock) -> Filter {
        self.empty_filters(block);
        let filter = Filter {
            newer_than: self.value("flags.filter.newerThan", block.newer_than.as_deref(), values::duration),
            older_than: self.value("flags.filter.olderThan", block.older_than.as_deref(), values::duration),
            created_after: self.value("flags.filter.createdAfter", block.created_after.as_deref(), values::date),
            created_before: self.value("flags.filter.createdBefore", block.created_before.as_deref(), values::date),
            tags: self.entries("flags.filter.tags", block.tags.as_deref()),
            metadata: self.entries("flags.filter.metadata", block.metadata.as_deref()),
            kms_key: self.source_key(block),
            plaintext_only: block.plaintext_only.unwrap_or_default(),
            force_encrypt_locked: block.force_encrypt_locked.unwrap_or_default(),
        };
        self.matches_at_no_time(&filter);
        filter
    }

    /// An empty filter lets everything pass, for MinIO as for us: said, since it may be a forgotten value.
    fn empty_filters(&mut self, block: &FilterBlock) {
        let empty = [
            ("newerThan", block.newer_than.is_none()),
            ("olderThan", block.older_than.is_none()),
            ("createdAfter", block.created_after.is_none()),
            ("createdBefore", block.created_before.is_none()),
            ("tags", block.tags.as_ref().is_none_or(Vec::is_empty)),
            ("metadata", block.metadata.as_ref().is_none_or(Vec::is_empty)),
            ("kmskey", block.kms_key.as_ref().is_none_or(String::is_empty)),
            ("plaintextOnly", block.plaintext_only.is_none()),
            ("forceEncryptLocked", block.force_encrypt_locked.is_none()),
        ];
        for (name, _) in empty.into_iter().filter(|(_, empty)| *empty) {
            let path = format!("flags.filter.{name}");
            if self.has(&path) && !self.is_named(&path) {
                self.warn(&path, "is empty, and leaves no object out", "give a value, or remove the line");
            }
        }
    }

    fn source_key(&mut self, block: &FilterBlock) -> Option<KeyName> {
        let doc = self.value("flags.filter.kmskey", block.kms_key.as_deref(), values::key).flatten();
        let code = self.value("flags.filter.kmskeyid", block.kms_key_id.as_deref(), values::key).flatten();
        if doc.as_ref().is_some_and(|key| key.0 == "key-id") {
            self.warn("flags.filter.kmskey", "`key-id` is what the template says", "is it really the key's name?");
        }
        if let (Some(doc), Some(code)) = (&doc, &code)
            && doc != code
        {
            let hint = "they are two spellings of one field: keep one";
            self.error("flags.filter.kmskeyid", "`kmskey` and `kmskeyid` name different keys", hint);
        }
        doc.or(code)
    }

    fn entries(&mut self, path: &str, entries: Option<&[Entry]>) -> Vec<KeyPattern> {
        let mut patterns = Vec::new();
        for (n, Entry { key, value }) in entries.unwrap_or_default().iter().enumerate() {
            let here = item(path, n);
            let full = self.full(&here);
            if self.findings.errors.iter().any(|problem| problem.path.starts_with(&full)) {
                continue;
            }
            match (key.as_deref().unwrap_or_default(), value) {
                ("", value) => {
                    let nothing = value.as_deref().unwrap_or_default().is_empty();
                    let what = if nothing { "is empty, and matches nothing" } else { "has no `key`" };
                    self.error(&here, what, "name what to look at in `key`, or remove the entry");
                }
                (_, None) => self.error(&here, "has no `value`", "`\"*\"` takes any value"),
                (key, Some(value)) => {
                    let placeholder = [key, value].into_iter().find(|text| values::is_placeholder(text));
                    match placeholder {
                        Some(text) => {
                            let message = format!("`{}` is a placeholder left from a template", clip(text));
                            self.error(&here, message, "write what to look for");
                        }
                        None => patterns.push(KeyPattern { key: key.to_owned(), value: value.clone() }),
                    }
                }
            }
        }
        patterns
    }

    fn matches_at_no_time(&mut self, filter: &Filter) {
        let nothing = "no object can match at any time";
        if let (Some(newer), Some(older)) = (filter.newer_than, filter.older_than)
            && older >= newer
        {
            let message = format!("newer than this and at once older than `olderThan`: {nothing}");
            self.error("flags.filter.newerThan", message, "`olderThan` must be the shorter time");
        } else if filter.newer_than == Some(Duration::ZERO) {
            self.error(
                "flags.filter.newerThan",
                format!("newer than now: {nothing}"),
                "give a time, or remove the line",
            );
        }
        if let (Some(after), Some(before)) = (filter.created_after, filter.created_before)
            && after >= before
        {
            let message = format!("after this and at once before `createdBefore`: {nothing}");
            self.error("flags.filter.createdAfter", message, "`createdBefore` must be the later date");
        }
        if filter.plaintext_only && filter.kms_key.is_some() {
            let name = if self.has("flags.filter.kmskey") { "kmskey" } else { "kmskeyid" };
            let message = format!("under a key, and at once without encryption (`plaintextOnly`): {nothing}");
            self.error(&child("flags.filter", name), message, "remove one of them");
        }
    }

    fn notify(&mut self, block: &NotifyBlock, options: ParseOptions) -> Option<Notify> {
        let token = self.value("flags.notify.token", block.token.as_deref(), endpoint::token).flatten();
        let text = block.endpoint.as_deref().filter(|text| !text.is_empty());
        if text.is_none() && token.is_none() {
            return None;
        }
        let read = |text: &str| endpoint::endpoint(text, options.allow_private_notify);
        let endpoint = self.required(text, "flags.notify.endpoint", "write the address to POST to", read)?;
        if endpoint.trim_end_matches('/') == "https://notify.endpoint" {
            self.warn("flags.notify.endpoint", "is what the template says", "is it really the address?");
        }
        if token.as_deref() == Some("Bearer xxxxx") {
            self.warn("flags.notify.token", "is what the template says", "is it really the token?");
        }
        if token.is_some() && endpoint.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:")) {
            self.warn("flags.notify.endpoint", "the token goes over plain http", "everybody on the way can read it");
        }
        Some(Notify { endpoint, token })
    }

    fn retry(&mut self, block: &RetryBlock) -> Retry {
        let default = Retry::default();
        if block.attempts == Some(0) {
            let message = format!("0 means the default, {}, as for MinIO", default.attempts);
            self.warn("flags.retry.attempts", message, "1 is the least");
        }
        let delay = self.value("flags.retry.delay", block.delay.as_deref(), values::duration);
        Retry {
            attempts: block.attempts.filter(|n| *n > 0).unwrap_or(default.attempts),
            delay: delay.filter(|delay| !delay.is_zero()).unwrap_or(default.delay),
        }
    }

    fn one_bucket(&mut self, job: &View<'_>, asked: Option<&Scope>) -> Scope {
        let bucket = self.required(job.bucket, "bucket", "name the bucket", values::bucket).unwrap_or_default();
        let prefix = self.value("prefix", job.prefix, values::prefix).unwrap_or_default();
        let scope = Scope { bucket, prefix };
        if let Some(asked) = asked.filter(|asked| **asked != scope) {
            let hint = "only of a file with `buckets` one of several jobs can be asked for";
            self.error("bucket", format!("the file is about `{scope}`, and `{asked}` was asked for"), hint);
        }
        scope
    }

    /// What `buckets` names, and that nothing else says where the objects are.
    fn buckets(&mut self, job: &View<'_>) -> Vec<BucketPattern> {
        let Some(names) = job.buckets else { return Vec::new() };
        if names.is_empty() {
            self.error("buckets", "`buckets` names no bucket", "write `- NAME` or `- NAME/PREFIX` for each");
        }
        let others = [("bucket", job.bucket.is_some()), ("prefix", job.prefix.is_some())];
        for (other, _) in others.iter().filter(|(_, there)| *there) {
            let hint = "write it as `NAME/PREFIX` under `buckets`, or leave `buckets` out";
            self.error(other, format!("`{other}` and `buckets` both say where the objects are"), hint);
        }
        if job.manifest.is_some() {
            let hint = "write a job file for each bucket of the manifest, with `bucket`";
            self.error("manifest", "a manifest is of one bucket, and `buckets` may name several", hint);
        }
        let entries = names.iter().enumerate();
        entries
            .filter_map(|(n, name)| self.value(&format!("buckets[{n}]"), Some(name), super::buckets::entry))
            .collect()
    }

    /// The one that was asked for; else all of them, for somebody to read.
    fn scope(&mut self, entries: &[BucketPattern], asked: Option<&Scope>) -> Scope {
        let Some(asked) = asked else {
            let all: Vec<_> = entries.iter().map(BucketPattern::to_string).collect();
            return Scope { bucket: all.join(", "), prefix: String::new() };
        };
        if !entries.iter().any(|entry| entry.names(asked)) {
            self.error("buckets", format!("`{asked}` is not among them"), "ask for one that an entry names");
        }
        asked.clone()
    }

    fn manifest(&mut self, block: &ManifestBlock) -> Option<Manifest> {
        let location = block.location.as_deref().filter(|text| !text.is_empty());
        let hint = "name the file: `s3://BUCKET/KEY`, or a path";
        let location = self.required(location, "manifest.location", hint, values::location);
        let format =
            self.required(block.format.as_deref(), "manifest.format", "`csv` or `inventory`", values::manifest_format);
        Some(match (location?, format?) {
            (location, ManifestFormat::Csv) => Manifest::Csv { location },
            (location, ManifestFormat::Inventory) => Manifest::Inventory { location },
        })
    }

    fn losses(&mut self, names: &[String]) -> BTreeSet<Loss> {
        let named = names.iter().enumerate();
        named
            .filter_map(|(n, name)| self.value(&format!("options.acceptLoss[{n}]"), Some(name), values::loss))
            .collect()
    }

    fn accept_loss(&mut self, block: &OptionsBlock) -> BTreeSet<Loss> {
        let losses = self.losses(block.accept_loss.as_deref().unwrap_or_default());
        let required = self.value("options.checksums", block.checksums.as_deref(), values::checksums).is_some();
        if required && losses.contains(&Loss::Checksum) {
            let hint = "take one of them out";
            self.error("options.checksums", "checksums are required, and `acceptLoss` lets them go", hint);
        }
        losses
    }

    fn windows(&mut self, blocks: &[WindowBlock]) -> Vec<RateWindow> {
        let numbered = blocks.iter().enumerate();
        numbered.filter_map(|(n, block)| self.window(&format!("options.windows[{n}]"), block)).collect()
    }

    fn window(&mut self, at: &str, block: &WindowBlock) -> Option<RateWindow> {
        let time = "write it like `22:00`";
        let from = self.required(block.from.as_deref(), &format!("{at}.from"), time, values::time_of_day);
        let until = self.required(block.until.as_deref(), &format!("{at}.until"), time, values::time_of_day);
        let zone = self.required(block.zone.as_deref(), &format!("{at}.zone"), values::ZONES, values::zone);
        let days = self.value(&format!("{at}.days"), block.days.as_deref(), values::days);
        let rates = Rates {
            objects: self.value(&format!("{at}.rate"), block.rate.as_deref(), values::rate),
            bytes: self.value(&format!("{at}.byteRate"), block.byte_rate.as_deref(), values::byte_rate),
            kms: self.value(&format!("{at}.kmsRate"), block.kms_rate.as_deref(), values::kms_rate),
        };
        Some(RateWindow { from: from?, until: until?, days: days.unwrap_or_default(), zone: zone?, rates })
    }

    fn options(&mut self, block: &OptionsBlock) -> Options {
        let default = Options::default();
        let transit = |text: &str| values::body_transit(text).map(Some);
        let body_transit: Option<BodyTransit> =
            self.value("options.bodyTransit", block.body_transit.as_deref(), transit).flatten();
        Options {
            body_transit: body_transit.unwrap_or(default.body_transit),
            in_place: block.in_place.unwrap_or(default.in_place),
            allow_unguarded: block.allow_unguarded.unwrap_or(default.allow_unguarded),
            verify_bodies: self
                .value("options.verifyBodies", block.verify_bodies.as_deref(), values::share)
                .unwrap_or(default.verify_bodies),
            pause_limit: self
                .value("options.pauseLimit", block.pause_limit.as_deref(), values::duration)
                .unwrap_or(default.pause_limit),
            retained_probes: block.retained_probes.unwrap_or(default.retained_probes),
            rate: self.value("options.rate", block.rate.as_deref(), values::rate),
            byte_rate: self.value("options.byteRate", block.byte_rate.as_deref(), values::byte_rate),
            kms_rate: self.value("options.kmsRate", block.kms_rate.as_deref(), values::kms_rate),
            windows: self.windows(block.windows.as_deref().unwrap_or_default()),
            max_added_bytes: self.value("options.maxAddedBytes", block.max_added_bytes.as_deref(), values::size),
            versions: self
                .value("options.versions", block.versions.as_deref(), values::versions)
                .unwrap_or(default.versions),
            accept_loss: self.accept_loss(block),
            superseded: self
                .value("options.superseded", block.superseded.as_deref(), values::superseded)
                .unwrap_or(default.superseded),
            bucket_key: self
                .value("options.bucketKey", block.bucket_key.as_deref(), values::bucket_key)
                .unwrap_or(default.bucket_key),
            reseal: block.reseal.unwrap_or(default.reseal),
            failure_threshold: self
                .value("options.failureThreshold", block.failure_threshold.as_deref(), values::failure_threshold)
                .unwrap_or(default.failure_threshold),
            approval: self
                .value("options.approval", block.approval.as_deref(), values::approval)
                .unwrap_or(default.approval),
            rank: Rank {
                priority: self
                    .value("options.priority", block.priority.as_deref(), values::priority)
                    .unwrap_or(default.rank.priority),
                weight: self
                    .value("options.weight", block.weight.as_deref(), values::weight)
                    .unwrap_or(default.rank.weight),
            },
        }
    }
}
