//! One layer over another: the file, above it the environment, above that the command line. Where each value came from
//! is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use keyrotate_proto::job::Problem;
use keyrotate_proto::job::settings::{self, Known, Settings, Shape};
use serde_json::{Map, Value};

use crate::fields::{FIELDS, PREFIX, STORE, is_secret, variable};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// That line of the configuration file.
    File {
        /// From 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A file that a variable of the environment names.
    SecretFile {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { line } => write!(f, "line {line} of the file"),
            Self::Variable(name) => f.write_str(name),
            Self::SecretFile { variable, path } => write!(f, "{variable} ({})", path.display()),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What was asked for outside of the file.
pub(crate) struct Above<'a> {
    pub(crate) variables: &'a BTreeMap<String, String>,
    /// Path of the field, value, flag.
    pub(crate) flags: &'a [(&'static str, String, &'static str)],
}

/// All values, and where each came from.
pub(crate) struct Layers {
    pub(crate) value: Value,
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) problems: Vec<Problem>,
}

/// Lays the environment and the flags over what the file says.
pub(crate) fn lay(file: &Settings, above: &Above<'_>) -> Layers {
    let mut layers = Layers { value: file.value.clone(), sources: BTreeMap::new(), problems: Vec::new() };
    let named = store_names(&file.value, above.variables);
    if !named.is_empty() {
        let stores = layers.value["stores"].take();
        let mut stores = if let Value::Object(stores) = stores { stores } else { Map::new() };
        for name in &named {
            stores.entry(name).or_insert_with(|| Value::Object(Map::new()));
        }
        layers.value["stores"] = Value::Object(stores);
    }
    for (path, shape) in leaves(FIELDS, "", &named) {
        if let Some(line) = file.line(&path) {
            layers.sources.insert(path.clone(), Source::File { line });
        }
        layers.take_variable(&path, shape, above.variables);
        if let Some((_, text, flag)) = above.flags.iter().find(|(at, ..)| *at == path) {
            layers.set(&path, shape, text, Source::Flag(flag));
        }
    }
    layers
}

/// Every field that has a value of its own, by its path.
fn leaves(known: Known, parent: &str, stores: &BTreeSet<String>) -> Vec<(String, &'static Shape)> {
    let mut all = Vec::new();
    for (name, shape) in known {
        let here = settings::path(parent, name);
        match shape {
            Shape::Map(inner) => all.extend(leaves(inner, &here, stores)),
            Shape::Named(inner) => {
                stores.iter().for_each(|store| all.extend(leaves(inner, &settings::path(&here, store), stores)));
            }
            _ => all.push((here, shape)),
        }
    }
    all
}

/// The variables of all fields but those of stores, which have names of their own.
pub(crate) fn variables() -> Vec<String> {
    leaves(FIELDS, "", &BTreeSet::new()).into_iter().map(|(path, _)| variable(&path)).collect()
}

/// The stores that the file or a variable names: `KEYROTATE_STORES_EU_1_ENDPOINT` names `eu-1`.
fn store_names(file: &Value, variables: &BTreeMap<String, String>) -> BTreeSet<String> {
    let in_file = file.get("stores").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned();
    let mut names: BTreeSet<String> = in_file.collect();
    let there: BTreeSet<String> = names.iter().map(|name| variable(name)).collect();
    let beginning = format!("{PREFIX}STORES_");
    for rest in variables.keys().filter_map(|name| name.strip_prefix(&beginning)) {
        let rest = rest.strip_suffix("_FILE").unwrap_or(rest);
        let field = |name: &str| format!("_{}", &variable(name)[PREFIX.len()..]);
        let stores = STORE.iter().filter_map(|(name, _)| rest.strip_suffix(&field(name)));
        let stores: Vec<_> = stores.map(|store| store.to_ascii_lowercase().replace('_', "-")).collect();
        // `EU_BYTE_RATE` is the `byteRate` of `eu`, unless there is an `eu-byte`.
        if !stores.iter().any(|store| there.contains(&variable(store))) {
            names.extend(stores.into_iter().min_by_key(String::len));
        }
    }
    names
}

impl Layers {
    fn take_variable(&mut self, path: &str, shape: &Shape, variables: &BTreeMap<String, String>) {
        let name = variable(path);
        let in_file = format!("{name}_FILE");
        let file = variables.get(&in_file).filter(|_| is_secret(path));
        match (variables.get(&name), file) {
            (Some(_), Some(_)) => self.wrong(&name, format!("`{in_file}` is set, too"), "keep one of them"),
            (Some(text), None) => self.set(path, shape, text, Source::Variable(name)),
            (None, Some(file)) => match std::fs::read_to_string(file) {
                Ok(text) => {
                    let source = Source::SecretFile { variable: in_file, path: PathBuf::from(file) };
                    self.set(path, shape, text.trim_end_matches(['\r', '\n']), source);
                }
                Err(error) => {
                    self.wrong(&in_file, format!("can't read `{file}`: {error}"), "name a file that you may read");
                }
            },
            (None, None) => {}
        }
    }

    fn set(&mut self, path: &str, shape: &Shape, text: &str, source: Source) {
        match value(shape, text) {
            Ok(value) => {
                put(&mut self.value, path, value);
                self.sources.insert(path.to_owned(), source);
            }
            Err((message, hint)) => self.wrong(&source.to_string(), message, hint),
        }
    }

    fn wrong(&mut self, name: &str, message: String, hint: &str) {
        let (path, hint) = (name.to_owned(), Some(hint.to_owned()));
        self.problems.push(Problem { file: String::new(), line: 0, column: 0, path, message, hint });
    }

    /// The source of a field, or of the nearest one around it.
    pub(crate) fn source(&self, path: &str) -> Option<&Source> {
        let mut path = path;
        loop {
            if let Some(source) = self.sources.get(path) {
                return Some(source);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// A value from the text of a variable or flag. Lists of names are parted by commas, other lists are YAML.
fn value(shape: &Shape, text: &str) -> Result<Value, (String, &'static str)> {
    match shape {
        Shape::Count => {
            let number = text.parse::<u32>();
            number.map(Value::from).map_err(|_| ("is not a whole number".to_owned(), "write it in digits, such as 10"))
        }
        Shape::Flag => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(("is neither true nor false".to_owned(), "write `true` or `false`")),
        },
        Shape::List(Shape::Text) => {
            Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect())
        }
        Shape::List(_) => {
            let nested: String = text.lines().map(|line| format!("  {line}\n")).collect();
            let read =
                settings::read(format!("tokens:\n{nested}").as_bytes(), "", FIELDS, "docs/fleet.md has an example");
            let said =
                |e: keyrotate_proto::job::JobFileErrors| e.0.first().map_or(String::new(), |p| p.message.clone());
            let read = read.map_err(|e| (said(e), "write a list, as in the file: `[{name: …, hash: …, role: …}]`"))?;
            Ok(read.value.get("tokens").cloned().unwrap_or_default())
        }
        Shape::Text | Shape::Texts | Shape::Nothing | Shape::Map(_) | Shape::Named(_) => Ok(Value::from(text)),
    }
}

/// Puts a value at its path; the maps on the way are made.
fn put(root: &mut Value, path: &str, value: Value) {
    let mut at = root;
    for piece in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[piece];
    }
    *at = value;
}
