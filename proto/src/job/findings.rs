//! Collects what is wrong with a file while it is read, and where everything stands.

use std::collections::HashMap;

use super::problem::Problem;

/// A place in the file, both counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl At {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// Errors and warnings so far.
#[derive(Debug)]
pub(super) struct Findings {
    file: String,
    /// Where a reader finds a file that is right.
    pub(super) example: &'static str,
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Findings {
    /// Of a job file.
    pub(super) fn new(file: &str) -> Self {
        Self::with_example(file, "`keyrotate generate` prints one")
    }

    pub(super) fn with_example(file: &str, example: &'static str) -> Self {
        Self { file: file.to_owned(), example, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn error(&mut self, at: At, path: &str, message: String, hint: Option<String>) {
        let problem = self.problem(at, path, message, hint);
        self.errors.push(problem);
    }

    pub(super) fn warning(&mut self, at: At, path: &str, message: String, hint: Option<String>) {
        let problem = self.problem(at, path, message, hint);
        self.warnings.push(problem);
    }

    fn problem(&self, at: At, path: &str, message: String, hint: Option<String>) -> Problem {
        let (file, path) = (self.file.clone(), path.to_owned());
        Problem { file, line: at.line, column: at.column, path, message, hint }
    }

    /// Both lists in the order of the file.
    pub(super) fn sort(&mut self) {
        self.errors.sort_by_key(|p| (p.line, p.column));
        self.warnings.sort_by_key(|p| (p.line, p.column));
    }
}

/// Where each known field of the file stands, by its path.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(HashMap<String, At>);

impl Places {
    pub(super) fn insert(&mut self, path: &str, at: At) {
        self.0.insert(path.to_owned(), at);
    }

    /// Whether the file has the field, be it empty.
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Where the field stands, or the nearest field around it.
    pub(super) fn find(&self, path: &str) -> At {
        let mut path = path;
        loop {
            if let Some(at) = self.0.get(path) {
                return *at;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return At::START,
            }
        }
    }
}

/// Path of a field.
pub(super) fn child(path: &str, name: &str) -> String {
    let name = super::tree::clip(name);
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// Path of an item of a list.
pub(super) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
