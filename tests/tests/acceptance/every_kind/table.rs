//! The table: what becomes of each kind of object on each store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use keyrotate_tests::prelude::{Mode, Target};
use keyrotate_tests::target::MOTO;

use super::kinds::KINDS;

/// Set to anything, the table is written instead of compared.
const WRITE: &str = "KEYROTATE_ACCEPTANCE_WRITE_TABLE";

/// By the name of a kind: what became of its versions, the newest one first.
pub(super) type Table = BTreeMap<&'static str, Vec<String>>;

/// By the name of a kind and of a store.
type Lines = BTreeMap<(String, String), String>;

/// Holds what came out on a store against the table. On a store of somebody's own it is printed instead: what its
/// settings make of it nobody knows before.
///
/// # Panics
/// With the lines that are others than those of the table.
pub(super) fn hold(target: &Target, found: Table) {
    let store = target.name.trim_start_matches("embedded ");
    let line = |(kind, became): (&str, Vec<String>)| ((kind.to_owned(), store.to_owned()), became.join("; "));
    let found: Lines = found.into_iter().map(line).collect();
    if !stores().iter().any(|known| known == store) {
        println!("{}", text(&found, &[store.to_owned()]));
        return;
    }
    let whole = std::fs::read_to_string(path()).unwrap_or_default();
    let mut lines = read(&whole);
    if std::env::var_os(WRITE).is_some() {
        lines.retain(|(_, other), _| other != store);
        lines.extend(found);
        std::fs::write(path(), text(&lines, &stores())).expect("the table can be written");
        return;
    }
    lines.retain(|(_, other), _| other == store);
    let kinds = lines.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>();
    let other: Vec<String> = kinds
        .into_iter()
        .filter(|line| lines.get(line) != found.get(line))
        .map(|line| format!("{}:\n  table {:?}\n  found {:?}", line.0, lines.get(line), found.get(line)))
        .collect();
    assert!(other.is_empty(), "other than in {}:\n{}", path().display(), other.join("\n"));
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/acceptance/every_kind/table.txt")
}

/// In the order of the table.
fn stores() -> Vec<String> {
    Mode::all().iter().map(|mode| mode.name.to_owned()).chain([MOTO.to_owned()]).collect()
}

/// Names of kinds stand at the beginning of a line, those of stores and what comes out there below them.
fn read(text: &str) -> Lines {
    let (mut lines, mut kind) = (Lines::new(), "");
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("    ") {
            None => kind = line,
            Some(line) => {
                let (store, became) = line.split_at(STORE);
                lines.insert((kind.to_owned(), store.trim_end().to_owned()), became.to_owned());
            }
        }
    }
    lines
}

/// Columns of a store's name.
const STORE: usize = MOTO.len() + 2;

fn text(lines: &Lines, stores: &[String]) -> String {
    let mut text = String::new();
    for kind in KINDS {
        writeln!(text, "{}", kind.name).expect("a string takes all");
        for store in stores {
            if let Some(became) = lines.get(&(kind.name.to_owned(), store.clone())) {
                writeln!(text, "    {store:STORE$}{became}").expect("a string takes all");
            }
        }
    }
    text
}
