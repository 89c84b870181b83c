//! The page as plain text.

use super::{LINES, Line, Page, bytes, grouped, many, shown, verdict_of_key};

pub(super) fn page(page: &Page<'_>) -> String {
    let mut text = format!("Key rotation of {}\n{}\n\n", page.scope(), page.verdict().1);
    for (name, value) in page.facts() {
        text.push_str(&format!("{name:10} {value}\n"));
    }
    section(&mut text, &format!("Outcomes of {}", many(page.summary.scanned, "version")), outcomes(page));
    section(&mut text, "Could not be done", exceptions(&page.exceptional()));
    section(&mut text, "Keys before and after", flows(page));
    section(&mut text, "Who still needs the old keys", old_keys(page));
    section(&mut text, "The first that failed or are in conflict", failed(page));
    section(&mut text, "Strategies", strategies(page));
    let commands = page.summary.leftover_uploads.iter().map(|upload| shown(&upload.command));
    section(&mut text, "Open uploads that nobody ended, and what removes them", commands.take(LINES).collect());
    section(&mut text, "What was found out", page.summary.notes.iter().map(|note| shown(note)).collect());
    section(&mut text, "Not covered", page.summary.scope_notes.iter().map(|note| shown(note)).collect());
    section(&mut text, "Files and their SHA-256", files(page));
    text
}

/// Nothing is said where there is nothing.
fn section(text: &mut String, heading: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    text.push_str(&format!("\n{heading}\n"));
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
}

fn cut(mut lines: Vec<String>, of: usize, place: &str) -> Vec<String> {
    if of > lines.len() {
        lines.push(format!("… and {} more: {place}", grouped((of - lines.len()) as u64)));
    }
    lines
}

fn outcomes(page: &Page<'_>) -> Vec<String> {
    let line =
        |line: Line| format!("{:>11}  {:9} {:16} {}", grouped(line.versions), line.word, line.reason, line.means);
    page.outcomes().into_iter().map(line).collect()
}

fn exceptions(lines: &[Line]) -> Vec<String> {
    let mut all = Vec::new();
    for line in lines {
        let name =
            if line.word == "exception" { line.reason.clone() } else { format!("{} {}", line.word, line.reason) };
        all.push(format!("{:>11}  {}  {}", grouped(line.versions), name.trim_end(), line.means));
        if !line.mend.is_empty() {
            all.push(format!("{:>11}  → {}", "", line.mend));
        }
    }
    all
}

fn flows(page: &Page<'_>) -> Vec<String> {
    let all = &page.summary.key_flows;
    let lines = all.iter().take(LINES).map(|flow| {
        let (versions, size) = (grouped(flow.versions), bytes(flow.bytes));
        format!("{versions:>11}  {} → {}  ({size})", shown(&flow.before), shown(&flow.after))
    });
    cut(lines.collect(), all.len(), "`keyFlows` of summary.json")
}

fn old_keys(page: &Page<'_>) -> Vec<String> {
    let all = &page.summary.old_keys;
    let lines = all.iter().take(LINES).map(|old| {
        let (left, still) = (grouped(old.left), grouped(old.still.versions));
        format!("{}: {}; {left} left it, {still} still under it", shown(&old.key), verdict_of_key(&old.verdict))
    });
    cut(lines.collect(), all.len(), "`oldKeys` of summary.json")
}

fn failed(page: &Page<'_>) -> Vec<String> {
    let line = |sample: &crate::finish::Sample| {
        let version = sample.version.as_deref().map(|version| format!(" ({})", shown(version))).unwrap_or_default();
        let why = format!("{} {} {}", sample.outcome, sample.reason, shown(&sample.detail));
        format!("{}{version}: {}", shown(&sample.key), why.trim_end())
    };
    page.summary.failed.iter().map(line).collect()
}

fn strategies(page: &Page<'_>) -> Vec<String> {
    let used = page.summary.strategies.iter();
    used.map(|(strategy, used)| format!("{:>11}  {strategy}  ({})", grouped(used.versions), bytes(used.bytes)))
        .collect()
}

fn files(page: &Page<'_>) -> Vec<String> {
    let mut lines = vec![format!("{}  manifest.json", page.manifest_sha256)];
    lines.extend(page.files().take(LINES).map(|file| format!("{}  {}", file.sha256, shown(&file.name))));
    let mut lines = cut(lines, page.files().count() + 1, "manifest.json");
    lines.push(page.about_files());
    lines
}
