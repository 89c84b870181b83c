//! The job file: YAML (or JSON) text in the dialects of MinIO and AIStor -> [`JobSpec`].
//!
//! Two readers look at every file. [`saphyr_parser`] keeps positions, so that all errors come at once and each with
//! its line; `serde_yaml` does the typed read of what passed. What either refuses, or what they read differently, is
//! refused.

mod pattern;
mod problem;

use jiff::Timestamp;

use crate::spec::JobSpec;
pub use pattern::{HEADERS, any_metadata_matches, any_tag_matches, wildcard};
pub use problem::{JobFileErrors, Problem};

/// A job file that was read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it means.
    pub spec: JobSpec,
    /// What is taken, but should be looked at.
    pub warnings: Vec<Problem>,
}

/// What the installation allows a job file to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParseOptions {
    /// Whether a notify endpoint may be a loopback, link-local or private address.
    pub allow_private_notify: bool,
}

/// Reads a job file; `file` is its name as error messages shall show it.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: &[u8], file: &str) -> Result<Parsed, JobFileErrors> {
    parse_with(text, file, ParseOptions::default())
}

/// [`parse`] under what this installation allows.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse_with(_text: &[u8], file: &str, _options: ParseOptions) -> Result<Parsed, JobFileErrors> {
    Err(JobFileErrors(vec![Problem {
        file: file.to_owned(),
        line: 1,
        column: 1,
        path: String::new(),
        message: "job files are not read yet".into(),
        hint: None,
    }]))
}

/// What the spec asks for that can match no object at this moment, or under its target: a warning in `validate`, an
/// error at the start.
#[must_use]
pub fn check_at_start(_spec: &JobSpec, _now: Timestamp) -> Vec<Problem> {
    Vec::new()
}

/// What the job will do, as `validate` prints it: rules, target, and one line per kind of source object.
#[must_use]
pub fn describe(_spec: &JobSpec) -> Vec<(String, String)> {
    Vec::new()
}
