//! The page as one HTML file: no script, nothing from elsewhere, every word of somebody else's escaped.

use super::picture;
use super::{LINES, Line, Page, Tone, bytes, grouped, many, shown, time, verdict_of_key};

/// What a browser may load for the page: its own style, and nothing else. For the header of whoever serves it, too.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Words of outcomes in the usual order.
const WORDS: [&str; 6] = ["rotated", "current", "filtered", "skipped", "conflict", "failed"];

pub(super) fn page(page: &Page<'_>) -> String {
    let scope = escape(&page.scope());
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Key rotation of {scope}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        escape(POLICY),
        include_str!("style.css"),
    );
    for piece in [top(page, &scope), facts(page), pictures(page), exceptions(page), outcomes(page), flows(page)] {
        html.push_str(&piece);
    }
    for piece in [old_keys(page), failed(page), strategies(page), notes(page), files(page)] {
        html.push_str(&piece);
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

/// Text as HTML shows it, in an attribute, too.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Words in backquotes are set as code.
fn prose(text: &str) -> String {
    let pieces = text.split('`').map(escape).enumerate();
    pieces.map(|(i, piece)| if i % 2 == 1 { format!("<code>{piece}</code>") } else { piece }).collect()
}

fn top(page: &Page<'_>, scope: &str) -> String {
    let (tone, line) = page.verdict();
    let class = match tone {
        Tone::Good => "good",
        Tone::Mixed => "mixed",
        Tone::Bad => "bad",
    };
    let counts = &page.summary.counts;
    let tiles = [
        (page.summary.scanned, "versions in scope"),
        (counts.of("rotated"), "rotated"),
        (counts.of("current"), "already current"),
        (page.exceptions(), "exceptions"),
        (counts.of("failed") + counts.of("conflict"), "failed or in conflict"),
    ];
    let tiles: String = tiles.iter().map(|(n, what)| format!("<li><b>{}</b>{what}</li>\n", grouped(*n))).collect();
    format!(
        "<header>\n<p>Key rotation</p>\n<h1>{scope}</h1>\n<span class=\"verdict {class}\">{}</span>\n</header>\n\
         <ul class=\"tiles\">\n{tiles}</ul>\n",
        escape(&line)
    )
}

fn facts(page: &Page<'_>) -> String {
    let facts = page.facts().into_iter();
    let facts: String = facts.map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(&value))).collect();
    format!("<dl>\n{facts}</dl>\n")
}

fn pictures(page: &Page<'_>) -> String {
    let (summary, all) = (page.summary, page.summary.scanned);
    if all == 0 {
        return String::new();
    }
    let sums: Vec<_> = WORDS.iter().map(|word| (*word, summary.counts.of(word))).filter(|(_, n)| *n > 0).collect();
    let legend = legend(&sums);
    let mut html = format!(
        "<h2>At a glance</h2>\n<div class=\"pictures\">\n<figure class=\"wide\"><figcaption>Outcomes</figcaption>\n{}\n{legend}</figure>\n",
        picture::outcomes(&sums, all)
    );
    if let Some(line) = &summary.timeline {
        let (from, to) = (time(summary.started), time(summary.ended));
        let words = "<ul class=\"legend\"><li><i class=\"rotated\"></i>rotated</li><li><i class=\"other\"></i>other outcomes</li></ul>";
        let drawn = picture::over_time(line, &from, &to);
        html.push_str(&format!("<figure><figcaption>Versions over time</figcaption>\n{drawn}\n{words}</figure>\n"));
    }
    if !summary.key_flows.is_empty() {
        let drawn = picture::keys(&summary.key_flows);
        html.push_str(&format!("<figure><figcaption>Keys before and after</figcaption>\n{drawn}\n</figure>\n"));
    }
    html.push_str("</div>\n");
    html
}

fn legend(sums: &[(&str, u64)]) -> String {
    let item = |(word, n): &(&str, u64)| format!("<li><i class=\"{word}\"></i>{word} {}</li>", grouped(*n));
    format!("<ul class=\"legend\">{}</ul>", sums.iter().map(item).collect::<String>())
}

/// A table, where it has rows: headings, then cells as HTML. A heading that begins with `#` is of numbers.
fn table(heading: &str, columns: &[&str], rows: &[Vec<String>], more: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let name = |column: &str| column.trim_start_matches('#').to_owned();
    let class = |column: &str| if column.starts_with('#') { " class=\"n\"" } else { "" };
    let head: String =
        columns.iter().map(|column| format!("<th scope=\"col\"{}>{}</th>", class(column), name(column))).collect();
    let mut body = String::new();
    for row in rows {
        body.push_str("<tr>");
        for (column, cell) in columns.iter().zip(row) {
            body.push_str(&format!("<td{} data-of=\"{}\">{cell}</td>", class(column), name(column)));
        }
        body.push_str("</tr>\n");
    }
    let more = if more.is_empty() { String::new() } else { format!("<p class=\"more\">{}</p>\n", prose(more)) };
    format!("<h2>{heading}</h2>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n{more}")
}

fn more(shown: usize, all: usize, place: &str) -> String {
    if all > shown { format!("{} more: see {place}.", grouped((all - shown) as u64)) } else { String::new() }
}

fn exceptions(page: &Page<'_>) -> String {
    let row = |line: Line| {
        let name = if line.word == "exception" { String::new() } else { format!("{} ", line.word) };
        let todo = if line.mend.is_empty() {
            String::new()
        } else {
            format!("<div class=\"todo\">→ {}</div>", prose(line.mend))
        };
        let what = format!("{}{todo}", prose(line.means));
        vec![format!("<code>{}{}</code>", name, escape(&line.reason)), grouped(line.versions), what]
    };
    let rows: Vec<_> = page.exceptional().into_iter().map(row).collect();
    table("Could not be done", &["reason", "#versions", "what is so, and what to do"], &rows, "")
}

fn outcomes(page: &Page<'_>) -> String {
    let row = |line: Line| {
        let outcome = format!("{} <code>{}</code>", line.word, escape(&line.reason));
        vec![outcome, grouped(line.versions), prose(line.means)]
    };
    let rows: Vec<_> = page.outcomes().into_iter().map(row).collect();
    table("Outcomes", &["outcome", "#versions", "what it means"], &rows, "")
}

fn flows(page: &Page<'_>) -> String {
    let all = &page.summary.key_flows;
    let cell = |name: &str| format!("<code>{}</code>", escape(&shown(name)));
    let row = |flow: &crate::finish::KeyFlow| {
        vec![cell(&flow.before), cell(&flow.after), grouped(flow.versions), bytes(flow.bytes)]
    };
    let rows: Vec<_> = all.iter().take(LINES).map(row).collect();
    let more = more(rows.len(), all.len(), "`keyFlows` of summary.json");
    table("Keys before and after", &["before", "after", "#versions", "#bytes"], &rows, &more)
}

fn old_keys(page: &Page<'_>) -> String {
    let all = &page.summary.old_keys;
    let row = |old: &crate::finish::OldKey| {
        let reasons: Vec<_> =
            old.still.by_reason.iter().map(|(reason, n)| format!("{reason} {}", grouped(*n))).collect();
        let why = if reasons.is_empty() {
            String::new()
        } else {
            format!("<div class=\"todo\">{}</div>", escape(&reasons.join(", ")))
        };
        let verdict = format!("{}{why}", escape(&verdict_of_key(&old.verdict)));
        vec![
            format!("<code>{}</code>", escape(&shown(&old.key))),
            grouped(old.left),
            grouped(old.still.versions),
            verdict,
        ]
    };
    let rows: Vec<_> = all.iter().take(LINES).map(row).collect();
    let more = more(rows.len(), all.len(), "`oldKeys` of summary.json");
    table("Who still needs the old keys", &["old key", "#left it", "#still under it", "this scope"], &rows, &more)
}

fn failed(page: &Page<'_>) -> String {
    let row = |sample: &crate::finish::Sample| {
        let version = sample.version.as_deref().map(|v| format!(" ({})", escape(&shown(v)))).unwrap_or_default();
        let key = format!("<code>{}</code>{version}", escape(&shown(&sample.key)));
        vec![key, escape(&format!("{} {}", sample.outcome, sample.reason)), escape(&shown(&sample.detail))]
    };
    let rows: Vec<_> = page.summary.failed.iter().map(row).collect();
    let place = "`keyrotate failed JOB` lists all.";
    table("The first that failed or are in conflict", &["key", "outcome", "what the store said"], &rows, place)
}

fn strategies(page: &Page<'_>) -> String {
    let used = page.summary.strategies.iter();
    let rows: Vec<_> = used
        .map(|(strategy, used)| vec![format!("<code>{strategy}</code>"), grouped(used.versions), bytes(used.bytes)])
        .collect();
    table("How they were rotated", &["strategy", "#versions", "#bytes"], &rows, "")
}

fn list(heading: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.map(|line| format!("<li>{line}</li>\n")).collect();
    if lines.is_empty() { lines } else { format!("<h2>{heading}</h2>\n<ul class=\"notes\">\n{lines}</ul>\n") }
}

fn notes(page: &Page<'_>) -> String {
    let summary = page.summary;
    let commands = summary.leftover_uploads.iter().take(LINES);
    let commands = commands.map(|upload| format!("<code>{}</code>", escape(&shown(&upload.command))));
    let said = |notes: &[String]| notes.iter().map(|note| prose(&shown(note))).collect::<Vec<_>>().into_iter();
    [
        list("Open uploads that nobody ended, and what removes them", commands),
        list("What was found out about the store", said(&summary.notes)),
        list("Not covered", said(&summary.scope_notes)),
    ]
    .concat()
}

fn files(page: &Page<'_>) -> String {
    let row = |name: &str, sha256: &str, rows: u64| {
        let rows = if rows == 0 { String::new() } else { many(rows, "row") };
        vec![escape(&shown(name)), format!("<span class=\"code\">{}</span>", escape(&shown(sha256))), rows]
    };
    let mut rows = vec![row("manifest.json", &page.manifest_sha256, 0)];
    rows.extend(page.files().take(LINES).map(|file| row(&file.name, &file.sha256, file.rows)));
    let more = more(rows.len(), page.files().count() + 1, "manifest.json");
    let table = table("Files and their hashes", &["file", "SHA-256", "#rows"], &rows, &more);
    format!("{table}<footer>{}</footer>\n", prose(&page.about_files()))
}
