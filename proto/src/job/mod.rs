//! The job file: YAML (or JSON) text in the dialects of MinIO and AIStor -> [`JobSpec`].
//!
//! Two readers look at every file. [`saphyr_parser`] keeps positions, so that all errors come at once and each with
//! its line; `serde_yaml` does the typed read of what passed. What either refuses, or what they read differently, is
//! refused.

mod buckets;
mod check;
mod describe;
mod endpoint;
mod fields;
mod findings;
mod pattern;
mod problem;
mod schema;
pub mod settings;
mod start;
mod template;
mod tree;
mod values;
mod yaml;

use jiff::Timestamp;

use crate::spec::JobSpec;
pub use buckets::{BucketPattern, Scope, scopes};
pub use describe::describe;
pub use endpoint::is_private;
pub use pattern::{HEADERS, any_metadata_matches, any_tag_matches, wildcard};
pub use problem::{JobFileErrors, Problem};
pub use schema::schema;
pub use start::check_at_start;
pub use template::template;
pub use values::{bytes, bytes_per_second};

use fields::Fields;
use findings::{At, Findings, Places};
use yaml::{JobFile, Layout};

/// A job file that was read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it means. Of a file with `buckets` the job on the scope that was asked for; where none was asked for, the spec
    /// is only good to be described.
    pub spec: JobSpec,
    /// Its `buckets`: each scope that they name is a job of its own.
    pub buckets: Vec<BucketPattern>,
    /// What is taken, but should be looked at.
    pub warnings: Vec<Problem>,
    file: String,
    layout: Layout,
    places: Places,
}

impl Parsed {
    /// [`check_at_start`], with the lines and paths of the file.
    #[must_use]
    pub fn at_start(&self, now: Timestamp) -> Vec<Problem> {
        let mut problems = check_at_start(&self.spec, now);
        for problem in &mut problems {
            if self.layout == Layout::Nested {
                problem.path.insert_str(0, "keyrotate.");
            }
            let spelled = format!("{}id", problem.path);
            if !self.places.has(&problem.path) && self.places.has(&spelled) {
                problem.path = spelled;
            }
            let At { line, column } = self.places.find(&problem.path);
            (problem.file, problem.line, problem.column) = (self.file.clone(), line, column);
        }
        problems
    }
}

/// How a job file is to be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParseOptions<'a> {
    /// Whether a notify endpoint may be a loopback, link-local or private address.
    pub allow_private_notify: bool,
    /// Of a file with `buckets`: which of its jobs is meant.
    pub scope: Option<&'a Scope>,
}

/// Reads a job file; `file` is its name as error messages shall show it.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: &[u8], file: &str) -> Result<Parsed, JobFileErrors> {
    parse_with(text, file, ParseOptions::default())
}

/// [`parse`], told how.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse_with(text: &[u8], file: &str, options: ParseOptions<'_>) -> Result<Parsed, JobFileErrors> {
    let mut findings = Findings::new(file);
    let parsed = read(text, options, &mut findings);
    findings.sort();
    match parsed {
        Some((spec, buckets, layout, places)) if findings.errors.is_empty() => {
            Ok(Parsed { spec, buckets, warnings: findings.warnings, file: file.to_owned(), layout, places })
        }
        _ => Err(JobFileErrors(findings.errors)),
    }
}

/// The spec and the file's `buckets`, where the file got as far; `None` never comes without an error noted.
fn read(
    bytes: &[u8],
    options: ParseOptions<'_>,
    findings: &mut Findings,
) -> Option<(JobSpec, Vec<BucketPattern>, Layout, Places)> {
    let text = tree::text(bytes, findings)?;
    let root = tree::read(text, findings)?;
    let Fields { layout, file, places } = fields::read(&root, findings)?;
    let (spec, buckets) = check::spec(&file, &places, options, findings);
    if findings.errors.is_empty() {
        second_opinion(text, layout, &file, findings);
    }
    Some((spec, buckets, layout, places))
}

/// Lets `serde_yaml` read the file, and refuses it where it reads something else. No file is known for which it does.
fn second_opinion(text: &str, layout: Layout, file: &JobFile, findings: &mut Findings) {
    let (at, message) = match JobFile::from_yaml(text, layout) {
        Ok(second) if second == *file => return,
        Ok(_) => (At::START, "two YAML readers understand this file differently"),
        Err(yaml::Refusal { line, column }) => (At { line, column }, "only one of two YAML readers can read this"),
    };
    let hint = "write it more simply: one field per line, values with unusual signs in double quotes";
    let hint = if text.contains('\t') { "there are tabs in the file: use spaces" } else { hint };
    findings.error(at, "", message.into(), Some(hint.into()));
}

#[cfg(test)]
mod tests;
