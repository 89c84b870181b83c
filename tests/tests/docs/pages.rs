//! Pages, and the blocks of code on them.
//!
//! A block is fenced with `sh` where a reader can type it as it stands, with `sh connect` where it says who and where the
//! reader is, with `sh elsewhere` where it needs another tool than keyrotate, and with `text` where it shows what is
//! printed then.

use std::path::{Path, PathBuf};

use keyrotate_proto::state::PauseReason;

/// A block of code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    /// What stands behind the fence.
    pub(crate) kind: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The blocks of a page, in order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(kind) if !inside => blocks.push(Block { kind: kind.to_owned(), text: String::new() }),
            None if inside => {
                let block = blocks.last_mut().expect("it has begun");
                block.text.extend([line, "\n"]);
                continue;
            }
            None => continue,
            Some(_) => {}
        }
        inside = !inside;
    }
    assert!(!inside, "a block has no end");
    blocks
}

#[test]
fn blocks_are_found_with_their_kind() {
    let of = |kind: &str, text: &str| Block { kind: kind.into(), text: text.into() };
    let page = "a\n```sh connect\nb\n\nc\n```\nd\n```\n```\n";
    assert_eq!(blocks(page), [of("sh connect", "b\n\nc\n"), of("", "")]);
}

#[test]
fn the_glossary_is_in_order_and_the_readme_leads_to_every_page_for_beginners() {
    let glossary = page("docs/glossary.md");
    let words: Vec<_> = glossary.lines().filter_map(|line| line.strip_prefix("- **")?.split("**").next()).collect();
    assert!(words.len() > 30 && words.is_sorted(), "{words:?}");
    let readme = page("README.md");
    for path in ["docs/glossary.md", "docs/start/minio.md", "docs/start/aws.md", "docs/start/ceph.md"] {
        assert!(readme.contains(&format!("({path})")), "{path}");
    }
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of pages") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
}

/// What a heading is called behind `#`.
fn anchor(heading: &str) -> String {
    let plain = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter(plain).collect::<String>().replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    let mut found = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    pages(&root().join("docs"), &mut found);
    pages(&root().join("deploy"), &mut found);
    let mut links = 0;
    for path in found {
        let text = std::fs::read_to_string(&path).expect("a page");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, place) = target.split_once('#').map_or((target, None), |(file, place)| (file, Some(place)));
            if target.starts_with("http") {
                continue;
            }
            let there = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            assert!(there.exists(), "{}: {target}", path.display());
            links += 1;
            if let Some(place) = place {
                let page = std::fs::read_to_string(&there).expect("a page");
                let heads = page.lines().filter(|line| line.starts_with('#'));
                assert!(heads.map(anchor).any(|head| head == place), "{}: {target}", path.display());
            }
        }
    }
    assert!(links > 40, "only {links} were found");
}

#[test]
fn the_runbook_has_an_entry_for_each_alert_and_each_pause() {
    let (runbook, alerts) = (page("docs/runbook.md"), page("deploy/prometheus/alerts.yaml"));
    let entries: Vec<_> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let wanted: Vec<_> = alerts.chain(PauseReason::ALL.iter().map(|reason| reason.as_str())).collect();
    assert!(wanted.len() > 15 && entries == wanted, "{entries:?}\nare not\n{wanted:?}");
}

/// Names of functions in the sources of the workspace.
fn functions(folder: &Path, found: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            functions(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_a_promise_names_is_there() {
    let mut known = std::collections::BTreeSet::new();
    functions(&root(), &mut known);
    for path in ["docs/predecessors.md", "docs/reliability.md", "docs/semantics.md"] {
        let text = page(path);
        let (_, table) = text.rsplit_once("|---|").expect("a table");
        let rows: Vec<_> = table.lines().skip(1).filter(|line| line.starts_with("| ")).collect();
        assert!(rows.len() > 10, "{path}");
        for row in rows {
            let tests = row.rsplit('|').nth(1).expect("a last column");
            let names: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "{path}: {row}");
            for name in names {
                assert!(known.contains(name), "{path}: there is no test `{name}`");
            }
        }
    }
}
