//! The typed walk over the tree: which fields there are, of which type, and what to say about the others.
//!
//! What fits is handed on; everything else is noted with its place, so that one run shows all errors.

use serde_json::Value;

use super::findings::{At, Findings, Places, child, item};
use super::tree::{Field, Kind, Node, clip};
use super::yaml::{JobFile, Layout};

/// What a field holds.
#[derive(Debug)]
pub enum Shape {
    /// Text: a single value as it is written.
    Text,
    /// A whole number, written in digits.
    Count,
    /// `true` or `false`.
    Flag,
    /// Nothing at all.
    Nothing,
    /// Fields.
    Map(Known),
    /// Text under names that the writer chooses.
    Texts,
    /// Maps of fields under names that the writer chooses.
    Named(Known),
    /// Items, all of one shape.
    List(&'static Shape),
}

/// The fields of a map, by name.
pub type Known = &'static [(&'static str, Shape)];

/// MinIO prints the other kinds of jobs as `null` beside `keyrotate`.
pub(super) const NESTED: Known = &[
    ("keyrotate", Shape::Map(JOB)),
    ("replicate", Shape::Nothing),
    ("expire", Shape::Nothing),
    ("catalog", Shape::Nothing),
];

pub(super) const FLAT: Known = &[
    ("keyrotate", Shape::Nothing),
    ("apiVersion", Shape::Text),
    ("bucket", Shape::Text),
    ("prefix", Shape::Text),
    ("buckets", Shape::List(&Shape::Text)),
    ("keys", Shape::Texts),
    ("manifest", Shape::Map(MANIFEST)),
    ("encryption", Shape::Map(ENCRYPTION)),
    ("type", Shape::Text),
    ("key", Shape::Text),
    ("context", Shape::Text),
    ("flags", Shape::Map(FLAGS)),
    ("options", Shape::Map(OPTIONS)),
];

const JOB: Known = &[
    ("apiVersion", Shape::Text),
    ("bucket", Shape::Text),
    ("prefix", Shape::Text),
    ("buckets", Shape::List(&Shape::Text)),
    ("keys", Shape::Texts),
    ("manifest", Shape::Map(MANIFEST)),
    ("encryption", Shape::Map(ENCRYPTION)),
    ("flags", Shape::Map(FLAGS)),
    ("options", Shape::Map(OPTIONS)),
];

const MANIFEST: Known = &[("location", Shape::Text), ("format", Shape::Text)];

const ENCRYPTION: Known = &[("type", Shape::Text), ("key", Shape::Text), ("context", Shape::Text)];

const FLAGS: Known = &[("filter", Shape::Map(FILTER)), ("notify", Shape::Map(NOTIFY)), ("retry", Shape::Map(RETRY))];

const FILTER: Known = &[
    ("newerThan", Shape::Text),
    ("olderThan", Shape::Text),
    ("createdAfter", Shape::Text),
    ("createdBefore", Shape::Text),
    ("tags", Shape::List(&Shape::Map(ENTRY))),
    ("metadata", Shape::List(&Shape::Map(ENTRY))),
    ("kmskey", Shape::Text),
    ("kmskeyid", Shape::Text),
    ("plaintextOnly", Shape::Flag),
    ("forceEncryptLocked", Shape::Flag),
];

const ENTRY: Known = &[("key", Shape::Text), ("value", Shape::Text)];

const NOTIFY: Known = &[("endpoint", Shape::Text), ("token", Shape::Text)];

const RETRY: Known = &[("attempts", Shape::Count), ("delay", Shape::Text)];

const OPTIONS: Known = &[
    ("bodyTransit", Shape::Text),
    ("inPlace", Shape::Flag),
    ("allowUnguarded", Shape::Flag),
    ("verifyBodies", Shape::Text),
    ("pauseLimit", Shape::Text),
    ("retainedProbes", Shape::Flag),
    ("rate", Shape::Text),
    ("byteRate", Shape::Text),
    ("kmsRate", Shape::Text),
    ("windows", Shape::List(&Shape::Map(WINDOW))),
    ("maxAddedBytes", Shape::Text),
    ("versions", Shape::Text),
    ("acceptLoss", Shape::List(&Shape::Text)),
    ("checksums", Shape::Text),
    ("superseded", Shape::Text),
    ("bucketKey", Shape::Text),
    ("reseal", Shape::Flag),
    ("failureThreshold", Shape::Text),
    ("priority", Shape::Text),
    ("weight", Shape::Text),
    ("approval", Shape::Text),
];

const WINDOW: Known = &[
    ("from", Shape::Text),
    ("until", Shape::Text),
    ("days", Shape::Text),
    ("zone", Shape::Text),
    ("rate", Shape::Text),
    ("byteRate", Shape::Text),
    ("kmsRate", Shape::Text),
];

/// Documented names of `options` that are not built yet.
const OPTIONS_TO_COME: [&str; 1] = ["quiet"];

/// Kinds of batch jobs that keyrotate does not run.
const OTHER_JOBS: [&str; 3] = ["replicate", "expire", "catalog"];

/// What was read: the layout, the fields that fit, and where everything stands.
pub(super) struct Fields {
    pub(super) layout: Layout,
    pub(super) file: JobFile,
    pub(super) places: Places,
}

/// Reads the tree; `None` when it is no key rotation at all, with the reason noted.
pub(super) fn read(root: &Node, findings: &mut Findings) -> Option<Fields> {
    let Kind::Map(fields) = &root.kind else {
        let hint = "a job file begins with `keyrotate:`; `keyrotate generate` prints one to start from";
        findings.error(root.at, "", "this is not a map of fields".into(), Some(hint.into()));
        return None;
    };
    let layout = layout(root, fields, findings)?;
    let known = match layout {
        Layout::Nested => NESTED,
        Layout::Flat => FLAT,
    };
    let (value, places) = walk(fields, known, Some(layout), findings);
    match JobFile::from_tree(value, layout) {
        Ok(file) => Some(Fields { layout, file, places }),
        Err(_) => {
            // The shapes above and the typed structs are tested to be the same.
            findings.error(root.at, "", "the file can't be read".into(), None);
            None
        }
    }
}

/// Reads the fields of a file's top; `layout` is that of a job file.
pub(super) fn walk(fields: &[Field], root: Known, layout: Option<Layout>, findings: &mut Findings) -> (Value, Places) {
    let mut walk = Walk { root, layout, findings, places: Places::default() };
    let value = walk.map(fields, root, "");
    (value, walk.places)
}

fn layout(root: &Node, fields: &[Field], findings: &mut Findings) -> Option<Layout> {
    for field in fields.iter().filter(|f| is_other_job(f)) {
        let message = format!("`{}` jobs are not for keyrotate", field.name);
        let hint = "it runs `keyrotate` jobs only; give this one to `mc batch start`";
        findings.error(field.at, &field.name, message, Some(hint.into()));
    }
    let top = fields.iter().find(|f| f.name == "keyrotate");
    match top {
        Some(Field { node: Node { kind: Kind::Map(_), .. }, .. }) => return Some(Layout::Nested),
        Some(field) if field.node.kind != Kind::Null => {
            wrong_type(&field.node, "keyrotate", "a map of fields", findings);
            return None;
        }
        _ => {}
    }
    if fields.iter().any(|f| FLAT.iter().any(|(name, _)| *name == f.name && *name != "keyrotate")) {
        return Some(Layout::Flat);
    }
    if let Some(Field { at, .. }) = top {
        let hint = "its fields stand below it, indented; `keyrotate generate` prints an example";
        findings.error(*at, "keyrotate", "`keyrotate` is empty".into(), Some(hint.into()));
    }
    if findings.errors.is_empty() {
        let message = "there is no `keyrotate:` at the top of the file".to_owned();
        let near = fields.iter().find_map(|f| nearest(&f.name, FLAT).map(|known| (f, known)));
        let hint = match near {
            Some((field, known)) => format!("did you mean `{known}` by `{}`?", clip(&field.name)),
            None => "`keyrotate generate` prints one to start from".to_owned(),
        };
        findings.error(near.map_or(root.at, |(field, _)| field.at), "", message, Some(hint));
    }
    None
}

/// A field at the top that asks for another kind of job.
fn is_other_job(field: &Field) -> bool {
    OTHER_JOBS.contains(&&*field.name) && field.node.kind != Kind::Null
}

struct Walk<'a> {
    root: Known,
    layout: Option<Layout>,
    findings: &'a mut Findings,
    places: Places,
}

impl Walk<'_> {
    fn map(&mut self, fields: &[Field], known: Known, path: &str) -> Value {
        let mut read = serde_json::Map::new();
        for field in fields {
            if path.is_empty() && self.layout.is_some() && is_other_job(field) {
                continue;
            }
            let here = child(path, &field.name);
            let Some((_, shape)) = known.iter().find(|(name, _)| *name == field.name) else {
                self.unknown(field, known, path);
                continue;
            };
            let place = if matches!(field.node.kind, Kind::Scalar { .. }) { field.node.at } else { field.at };
            self.places.insert(&here, place);
            if let Some(value) = self.value(&field.node, place, shape, &here) {
                read.insert(field.name.clone(), value);
            }
        }
        Value::Object(read)
    }

    /// The value, if it fits its shape.
    fn value(&mut self, node: &Node, place: At, shape: &Shape, path: &str) -> Option<Value> {
        let node = &Node { at: place, kind: node.kind.clone() };
        match (shape, &node.kind) {
            (_, Kind::Null) => Some(Value::Null),
            (Shape::Text, Kind::Scalar { text, .. }) => Some(Value::String(text.clone())),
            (Shape::Count, Kind::Scalar { text, plain }) => self.count(node, text, *plain, path),
            (Shape::Flag, Kind::Scalar { text, plain }) => self.flag(node, text, *plain, path),
            (Shape::Map(known), Kind::Map(fields)) => Some(self.map(fields, known, path)),
            (Shape::Named(known), Kind::Map(fields)) => Some(self.named(fields, &Shape::Map(known), path)),
            (Shape::Texts, Kind::Map(fields)) => Some(self.named(fields, &Shape::Text, path)),
            (Shape::List(shape), Kind::List(items)) => Some(self.list(items, shape, path)),
            (Shape::Text, Kind::List(_)) if path.ends_with("prefix") => {
                let hint = Some("for several write `buckets: [NAME/PREFIX, …]`".into());
                self.findings.error(place, path, "must be a single value, and is a list".into(), hint);
                None
            }
            (shape, _) => {
                wrong_type(node, path, shape.word(), self.findings);
                None
            }
        }
    }

    fn named(&mut self, fields: &[Field], shape: &Shape, path: &str) -> Value {
        let mut read = serde_json::Map::new();
        for field in fields {
            let here = child(path, &field.name);
            self.places.insert(&here, field.at);
            if let Some(value) = self.value(&field.node, field.at, shape, &here) {
                read.insert(field.name.clone(), value);
            }
        }
        Value::Object(read)
    }

    fn list(&mut self, items: &[Node], shape: &Shape, path: &str) -> Value {
        let mut read = Vec::new();
        for (n, node) in items.iter().enumerate() {
            let here = item(path, n);
            self.places.insert(&here, node.at);
            if node.kind == Kind::Null {
                let hint = match shape {
                    Shape::Map(_) => "write `- key: name` and below it `value: pattern`, or remove it",
                    _ => "write a value behind the `-`, or remove it",
                };
                self.findings.error(node.at, &here, "the item is empty".into(), Some(hint.into()));
            }
            // An item that does not fit keeps its place, so that the others keep their numbers.
            let value = self.value(node, node.at, shape, &here).filter(|value| !value.is_null());
            read.push(value.unwrap_or_else(|| Value::Object(serde_json::Map::new())));
        }
        Value::Array(read)
    }

    fn count(&mut self, node: &Node, text: &str, plain: bool, path: &str) -> Option<Value> {
        // `010` is eight, ten or text, depending on whom one asks.
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        let (message, hint) = match text.parse::<u32>() {
            Ok(number) if plain && digits => return Some(number.into()),
            Ok(_) if !plain => ("is text, and must be a number".to_owned(), "remove the quotes"),
            _ if plain && text.starts_with('-') => {
                (format!("is {}, and must not be negative", clip(text)), "0 or more")
            }
            _ if digits => (format!("{} is too large", clip(text)), "at most 4294967295"),
            _ => (format!("`{}` is not a whole number", clip(text)), "write it in digits, such as 10"),
        };
        self.findings.error(node.at, path, message, Some(hint.into()));
        None
    }

    fn flag(&mut self, node: &Node, text: &str, plain: bool, path: &str) -> Option<Value> {
        match text {
            "true" | "True" | "TRUE" if plain => return Some(true.into()),
            "false" | "False" | "FALSE" if plain => return Some(false.into()),
            _ => {}
        }
        let (message, hint) = match text {
            "true" | "false" => ("is text, and must be true or false".to_owned(), "remove the quotes"),
            _ => (format!("`{}` is neither true nor false", clip(text)), "write `true` or `false`"),
        };
        self.findings.error(node.at, path, message, Some(hint.into()));
        None
    }

    fn unknown(&mut self, field: &Field, known: Known, path: &str) {
        let name = clip(&field.name);
        let to_come = path.ends_with("options") && OPTIONS_TO_COME.contains(&&*field.name) && self.layout.is_some();
        let (message, hint) = if to_come {
            (format!("`{name}` is not built yet"), "remove it, or wait for a version of keyrotate that has it".into())
        } else {
            (format!("unknown field `{name}`"), self.advice(&field.name, known))
        };
        self.findings.error(field.at, &child(path, &field.name), message, Some(hint));
    }

    /// What somebody may have meant by an unknown name.
    fn advice(&self, name: &str, known: Known) -> String {
        if name == "<<" {
            return "merge keys are not taken: write the fields out".into();
        }
        let option = OPTIONS_TO_COME.contains(&name) || known_in(OPTIONS, name) && !known_in(known, name);
        match self.layout {
            Some(Layout::Nested) if option => return "it belongs in `keyrotate.options`".into(),
            Some(Layout::Flat) if option => return "it belongs in `options`".into(),
            _ => {}
        }
        if let Some(home) = home_of(name, self.root, "") {
            return format!("it belongs in `{home}`");
        }
        match nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
                format!("known here: {}", names.join(", "))
            }
        }
    }
}

impl Shape {
    fn word(&self) -> &'static str {
        match self {
            Self::Text => "a single value",
            Self::Count => "a whole number",
            Self::Flag => "true or false",
            Self::Nothing => "empty",
            Self::Map(_) | Self::Named(_) | Self::Texts => "a map of fields",
            Self::List(_) => "a list",
        }
    }
}

fn wrong_type(node: &Node, path: &str, wanted: &str, findings: &mut Findings) {
    let found = match &node.kind {
        Kind::Null => "nothing",
        Kind::Scalar { .. } => "a single value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a map of fields",
    };
    let hint = match (&node.kind, wanted) {
        (Kind::Map(_), "a list") => "begin each item with `- `",
        (Kind::List(_), "a map of fields") => "remove the `- ` in front of its fields",
        (Kind::Scalar { .. }, "a map of fields") => "its fields stand below it, indented",
        (Kind::Map(_) | Kind::List(_), _) => "is the indentation right? a value with `{`, `[` or `: ` needs quotes",
        _ => findings.example,
    };
    findings.error(node.at, path, format!("must be {wanted}, and is {found}"), Some(hint.into()));
}

fn known_in(known: Known, name: &str) -> bool {
    known.iter().any(|(known, _)| *known == name)
}

/// The known name that looks most like `name`, if any does.
fn nearest(name: &str, known: Known) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    let (near, distance) = known.iter().map(|(known, _)| (*known, distance(known))).min_by_key(|(_, d)| *d)?;
    (distance <= (near.len() / 3).max(1)).then_some(near)
}

/// Path of the map that has a field of exactly this name. Items of lists are not looked at: `key` and `value` there
/// say nothing.
fn home_of(name: &str, known: Known, path: &str) -> Option<String> {
    if !path.is_empty() && known_in(known, name) {
        return Some(path.to_owned());
    }
    known.iter().find_map(|(field, shape)| match shape {
        Shape::Map(inner) => home_of(name, inner, &child(path, field)),
        _ => None,
    })
}
