//! Every command that a page of this repository shows can be typed: the command line takes it.

use std::path::{Path, PathBuf};

use clap::Parser as _;

use crate::args::Cli;

/// What stands for the variables of the pages.
const VARIABLES: [(&str, &str); 3] =
    [("$BUCKET", "invoices"), ("$NEW_KEY", "key-b"), ("$JOB", "01m8k9ce73xnv1k6e1v4sm47x6")];

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            pages(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending == "md") {
            found.push(entry);
        }
    }
}

/// The lines of all blocks fenced with `sh`, those that end in a backslash joined with what follows.
fn typed(page: &str) -> Vec<String> {
    let (mut lines, mut inside) = (Vec::new(), None);
    for line in page.lines() {
        match (line.strip_prefix("```"), inside) {
            (Some(kind), None) => inside = Some(kind.split(' ').next() == Some("sh")),
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => lines.push(line),
            _ => {}
        }
    }
    lines.join("\n").replace("\\\n", " ").lines().map(str::to_owned).collect()
}

/// The words of a command, as a shell splits them, up to what ends it.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in command.chars() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            (letter, Some(_)) => word.get_or_insert_default().push(letter),
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            ('|' | ';' | '>' | '<' | ')' | '&', None) => break,
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, None) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The commands of keyrotate in a line: at its beginning, or in `$(…)`.
fn commands(line: &str) -> Vec<Vec<String>> {
    let begins = line.starts_with("keyrotate ").then_some(line);
    let inside = line.match_indices("$(keyrotate ").map(|(at, _)| &line[at + 2..]);
    begins.into_iter().chain(inside).map(words).collect()
}

#[test]
fn every_command_on_a_page_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = vec![root.join("README.md")];
    for folder in ["docs", "deploy"] {
        pages(&root.join(folder), &mut found);
    }
    let mut taken = 0;
    for page in found {
        let text = std::fs::read_to_string(&page).unwrap();
        let lines = typed(&text)
            .into_iter()
            .map(|line| VARIABLES.iter().fold(line, |line, (name, value)| line.replace(name, value)));
        for command in lines.flat_map(|line| commands(&line)) {
            let parsed = Cli::try_parse_from(&command);
            assert!(parsed.is_ok(), "{}: {command:?}: {}", page.display(), parsed.unwrap_err());
            taken += 1;
        }
    }
    assert!(taken > 20, "only {taken} were found");
}

#[test]
fn a_command_is_split_as_a_shell_does() {
    let of = |line| commands(line).concat();
    assert_eq!(of("keyrotate run 'a b' \"c\"  d\\ne # f"), ["keyrotate", "run", "a b", "c", "d\\ne"]);
    assert_eq!(of("JOB=$(keyrotate list | tail -n 1)"), ["keyrotate", "list"]);
    assert!(of("cargo run -- demo").is_empty());
}
