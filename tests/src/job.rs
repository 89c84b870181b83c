//! Job files, as people write them.

use std::fmt::Write as _;

/// A job file in the making.
#[derive(Clone, Debug, Default)]
pub struct JobFile {
    bucket: String,
    prefix: Option<String>,
    manifest: Vec<String>,
    encryption: Vec<String>,
    filter: Vec<String>,
    notify: Vec<String>,
    retry: Vec<String>,
    options: Vec<String>,
}

impl JobFile {
    /// Everything in this bucket.
    #[must_use]
    pub fn of(bucket: &str) -> Self {
        Self { bucket: bucket.to_owned(), ..Self::default() }
    }

    /// Only keys that begin so.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// Only what a file names.
    #[must_use]
    pub fn manifest(mut self, location: &str, format: &str) -> Self {
        self.manifest = vec![format!("location: {location}"), format!("format: {format}")];
        self
    }

    /// `encryption.type`, which makes it MinIO's dialect.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Self {
        self.encryption.push(format!("type: {kind}"));
        self
    }

    /// `encryption.key`
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.encryption.push(format!("key: {key}"));
        self
    }

    /// A line below `flags.filter`.
    #[must_use]
    pub fn filter(mut self, line: &str) -> Self {
        self.filter.push(line.to_owned());
        self
    }

    /// A line below `flags.notify`.
    #[must_use]
    pub fn notify(mut self, line: &str) -> Self {
        self.notify.push(line.to_owned());
        self
    }

    /// A line below `flags.retry`.
    #[must_use]
    pub fn retry(mut self, line: &str) -> Self {
        self.retry.push(line.to_owned());
        self
    }

    /// A line below `options`.
    #[must_use]
    pub fn option(mut self, line: &str) -> Self {
        self.options.push(line.to_owned());
        self
    }

    /// Whether it says how much it may add.
    #[must_use]
    pub fn bounds_growth(&self) -> bool {
        self.options.iter().any(|line| line.starts_with("maxAddedBytes"))
    }

    /// The file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("keyrotate:\n  apiVersion: v1\n  bucket: {}\n", self.bucket);
        if let Some(prefix) = &self.prefix {
            let _never = writeln!(text, "  prefix: {prefix:?}");
        }
        section(&mut text, 2, "manifest", &self.manifest);
        section(&mut text, 2, "encryption", &self.encryption);
        if [&self.filter, &self.notify, &self.retry].iter().any(|lines| !lines.is_empty()) {
            text.push_str("  flags:\n");
            section(&mut text, 4, "filter", &self.filter);
            section(&mut text, 4, "notify", &self.notify);
            section(&mut text, 4, "retry", &self.retry);
        }
        section(&mut text, 2, "options", &self.options);
        text
    }
}

fn section(text: &mut String, indent: usize, name: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _never = writeln!(text, "{:indent$}{name}:", "");
    for line in lines.iter().flat_map(|line| line.lines()) {
        let _never = writeln!(text, "{:indent$}  {line}", "");
    }
}
