//! Other files than job files, read by the same reader: with the place of every field, and all errors at once.

use serde_json::Value;

use super::fields::walk;
pub use super::fields::{Known, Shape};
use super::findings::{At, Findings, Places, child};
use super::problem::{JobFileErrors, Problem};
use super::tree::{self, Kind};

/// A file that was read.
#[derive(Debug)]
pub struct Settings {
    /// Its fields, of the shapes that were asked for. Empty ones are left out.
    pub value: Value,
    file: String,
    places: Places,
}

impl Settings {
    /// The line of a field; `None` where the file has it not.
    #[must_use]
    pub fn line(&self, path: &str) -> Option<usize> {
        self.places.has(path).then(|| self.places.find(path).line)
    }

    /// Something that is wrong with a field.
    #[must_use]
    pub fn problem(&self, path: &str, message: String, hint: Option<String>) -> Problem {
        let At { line, column } = self.places.find(path);
        Problem { file: self.file.clone(), line, column, path: path.to_owned(), message, hint }
    }
}

/// Reads a YAML (or JSON) file of the given fields; `file` is its name for error messages, `example` a few words that
/// say where one stands. An empty file is one without fields.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn read(bytes: &[u8], file: &str, known: Known, example: &'static str) -> Result<Settings, JobFileErrors> {
    let mut findings = Findings::with_example(file, example);
    let nothing =
        Settings { value: Value::Object(serde_json::Map::new()), file: file.to_owned(), places: Places::default() };
    let only_comments = |line: &[u8]| matches!(line.trim_ascii_start().first(), None | Some(b'#'));
    if bytes.split(|b| *b == b'\n').all(only_comments) {
        return Ok(nothing);
    }
    let root = tree::text(bytes, &mut findings).and_then(|text| tree::read(text, &mut findings));
    let (mut value, places) = match &root.as_ref().map(|node| &node.kind) {
        Some(Kind::Map(fields)) => walk(fields, known, None, &mut findings),
        Some(_) => {
            findings.error(At::START, "", "this is not a map of fields".into(), Some(example.to_owned()));
            (nothing.value, nothing.places)
        }
        None => (nothing.value, nothing.places),
    };
    findings.sort();
    if !findings.errors.is_empty() {
        return Err(JobFileErrors(findings.errors));
    }
    without_empty(&mut value);
    Ok(Settings { value, file: file.to_owned(), places })
}

/// The path of a field, as problems and [`Settings::line`] name it.
#[must_use]
pub fn path(parent: &str, name: &str) -> String {
    child(parent, name)
}

/// The known name that looks most like `name`, if any does.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(name, known);
    let (near, distance) = known.into_iter().map(|known| (known, distance(known))).min_by_key(|(_, d)| *d)?;
    (name.len() <= 64 && distance > 0 && distance <= (near.len() / 6).max(1)).then_some(near)
}

fn without_empty(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(without_empty);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = &[
        ("url", Shape::Text),
        ("limits", Shape::Map(&[("openJobs", Shape::Count)])),
        ("stores", Shape::Named(&[("endpoint", Shape::Text)])),
        ("names", Shape::List(&Shape::Text)),
    ];

    fn lines(text: &str) -> Vec<String> {
        let errors = read(text.as_bytes(), "c.yaml", KNOWN, "the README has one").unwrap_err();
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_that_is_wrong_is_named_with_its_place() {
        assert_eq!(
            lines("ulr: x\nlimits: {openJobs: many}\nstores:\n  eu: {endpoit: y}\n"),
            [
                "c.yaml:1: ulr: unknown field `ulr` (did you mean `url`?)",
                "c.yaml:2: limits.openJobs: `many` is not a whole number (write it in digits, such as 10)",
                "c.yaml:4: stores.eu.endpoit: unknown field `endpoit` (did you mean `endpoint`?)",
            ]
        );
        assert_eq!(
            lines("limits: 3"),
            ["c.yaml:1: limits: must be a map of fields, and is a single value (its fields stand below it, indented)"]
        );
        assert_eq!(lines("[]").len(), 1);
        assert_eq!(lines("a: [").len(), 1);
    }

    #[test]
    fn what_fits_is_read_with_its_lines() {
        let text = "# mine\nurl: 1\nstores:\n  eu:\n    endpoint: e\n  us: {}\nnames: [a, b]\nlimits: {openJobs: }\n";
        let read = read(text.as_bytes(), "c.yaml", KNOWN, "").unwrap();
        let expected = serde_json::json!({
            "url": "1", "stores": {"eu": {"endpoint": "e"}, "us": {}}, "names": ["a", "b"], "limits": {},
        });
        assert_eq!(read.value, expected);
        assert_eq!((read.line("url"), read.line("stores.eu.endpoint"), read.line("token")), (Some(2), Some(5), None));
        assert_eq!(super::read(b"# nothing\n\n", "c.yaml", KNOWN, "").unwrap().value, serde_json::json!({}));
    }
}
