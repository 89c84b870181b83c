//! The report as one page for an auditor: built once from summary and manifest, printed as text or as HTML.
//!
//! Pure and of bounded size: what there may be much of is cut after some hundred lines, and the page says where the rest
//! stands. Nothing here reads a clock or a store, so the same report gives the same page.

mod html;
mod picture;
mod text;

use jiff::Timestamp;
use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::outcome::{Note, Outcome, SkipReason};
use keyrotate_proto::say::{bytes, grouped};
use keyrotate_proto::state::JobState;

pub use html::POLICY;

use crate::finish::{FileEntry, Manifest, Summary, Verdict};

/// Lines of one table on the page.
const LINES: usize = 200;

/// The page.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    summary: &'a Summary,
    manifest: &'a Manifest,
    manifest_sha256: String,
}

/// How good the news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Good,
    Mixed,
    Bad,
}

/// Versions that ended the same way.
#[derive(Clone, Debug)]
struct Line {
    word: &'static str,
    reason: String,
    versions: u64,
    means: &'static str,
    mend: &'static str,
}

impl<'a> Page<'a> {
    /// Of a report: its summary, its manifest, and the manifest's bytes, which no other file has the hash of.
    #[must_use]
    pub fn new(summary: &'a Summary, manifest: &'a Manifest, manifest_bytes: &[u8]) -> Self {
        Self { summary, manifest, manifest_sha256: crate::finish::sha256(manifest_bytes) }
    }

    /// Plain text, for a terminal or a mail.
    #[must_use]
    pub fn text(&self) -> String {
        text::page(self)
    }

    /// One HTML file that needs nothing else: no script, no other resource.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }

    fn scope(&self) -> String {
        shown(&format!("{}/{}", self.summary.bucket, self.summary.prefix))
    }

    fn exceptions(&self) -> u64 {
        self.summary.exceptions.values().sum()
    }

    /// The outcome in a sentence.
    fn verdict(&self) -> (Tone, String) {
        let left = self.summary.counts.of("failed") + self.summary.counts.of("conflict");
        match (&self.summary.result, self.exceptions()) {
            (JobState::Completed, 0) => (Tone::Good, "Completed without exceptions".to_owned()),
            (JobState::Completed, n) => (Tone::Mixed, format!("Completed with {}", many(n, "exception"))),
            (JobState::Failed { reason, detail }, _) => {
                let what = if left > 0 { format!(", {} left", many(left, "object")) } else { String::new() };
                (Tone::Bad, format!("Failed ({}{what}): {}", reason.as_str(), shown(detail)))
            }
            (other, _) => (Tone::Bad, capital(other.word())),
        }
    }

    /// What was asked for, when, and what it came to.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let summary = self.summary;
        let took = summary.ended.duration_since(summary.started).as_secs_f64();
        let (names, more) = self.old_names();
        let mut old = if names.is_empty() { "none was seen".to_owned() } else { names.join(", ") };
        if more > 0 {
            old.push_str(&format!(" and {more} more"));
        }
        vec![
            ("Job", summary.job.to_string()),
            ("Scope", format!("{} on {}", self.scope(), shown(&summary.store))),
            ("New key", target(summary.target.as_ref())),
            ("Old keys", old),
            ("Started", time(summary.started)),
            ("Ended", format!("{} ({took:.1} s later)", time(summary.ended))),
            ("Verified", self.verified()),
            ("Job file", format!("its hash is {}", summary.spec_hash)),
        ]
    }

    fn old_names(&self) -> (Vec<String>, usize) {
        let shown = self.summary.old_keys.iter().take(5).map(|old| shown(&old.key)).collect::<Vec<_>>();
        let more = self.summary.old_keys.len() - shown.len();
        (shown, more)
    }

    fn verified(&self) -> String {
        // Summaries of older writers say it in their verdicts alone.
        let of_verdict = |verdict: &Verdict| match verdict {
            Verdict::NotNeeded { checked_at, versions_listed } => Some((*checked_at, *versions_listed)),
            _ => None,
        };
        let verified = self.summary.verified.map(|verified| (verified.checked_at, verified.versions_listed));
        match verified.or_else(|| self.summary.old_keys.iter().find_map(|old| of_verdict(&old.verdict))) {
            Some((at, listed)) => {
                let listed = many(listed, "version");
                format!("{}: the scope was listed again, {listed}, and agrees with the rows", time(at))
            }
            None if self.summary.spec.manifest.is_some() && self.summary.result == JobState::Completed => {
                "each version that the manifest names was asked about again, and agrees with its row".to_owned()
            }
            None => "no: the job ended before the scope was listed again to its end".to_owned(),
        }
    }

    fn outcomes(&self) -> Vec<Line> {
        let line = |(outcome, versions): (&Outcome, &u64)| Line {
            word: outcome.word(),
            reason: outcome.reason().to_owned(),
            versions: *versions,
            means: outcome.explain(),
            mend: outcome.mend(),
        };
        let note = |(note, versions): (&Note, &u64)| Line {
            word: "note",
            reason: note.as_str().to_owned(),
            versions: *versions,
            means: note.explain(),
            mend: note.mend(),
        };
        let outcomes = self.summary.counts.by_outcome.iter().filter(|(_, n)| **n > 0).map(line);
        outcomes.chain(self.summary.counts.notes.iter().map(note)).collect()
    }

    /// What could not be done, by reason.
    fn exceptional(&self) -> Vec<Line> {
        let line = |(reason, versions): (&String, &u64)| {
            let known = SkipReason::parse(reason);
            let (means, mend) = known.map_or(("", ""), |reason| (reason.explain(), reason.mend()));
            Line { word: "exception", reason: shown(reason), versions: *versions, means, mend }
        };
        let left = |line: &Line| matches!(line.word, "failed" | "conflict");
        let mut lines: Vec<Line> = self.outcomes().into_iter().filter(left).collect();
        lines.extend(self.summary.exceptions.iter().map(line));
        lines
    }

    /// The files with their hashes, the manifest first; more than fit are in the manifest.
    fn files(&self) -> impl Iterator<Item = &FileEntry> {
        std::iter::once(&self.manifest.summary).chain(&self.manifest.report).chain(&self.manifest.parts)
    }

    fn parts(&self) -> u64 {
        self.manifest.parts.iter().map(|list| list.rows).sum()
    }

    /// What the list of files does not say by itself.
    fn about_files(&self) -> String {
        let (parts, lists) = (self.parts(), self.manifest.parts.len());
        format!(
            "`manifest.json` names every file below with its hash; the {} of parts name the hash of each of the {} that \
             the workers wrote. `keyrotate report JOB --out DIR` fetches all of them, `keyrotate report --check DIR` \
             proves them offline.",
            many(lists as u64, "list"),
            many(parts, "part")
        )
    }
}

fn verdict_of_key(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Needed => "still needed".to_owned(),
        Verdict::NotNeeded { .. } => "not needed in this scope".to_owned(),
        Verdict::NotKnown { why } => format!("not known: {}", shown(why)),
    }
}

fn target(target: Option<&FrozenTarget>) -> String {
    match target {
        None => "not known: the job ended before".to_owned(),
        Some(FrozenTarget::SseS3) => "the store's own (SSE-S3)".to_owned(),
        Some(FrozenTarget::SseKms { key, context, keys }) => {
            let context = context.as_ref().map_or("", |_| ", with a context of the job's own");
            let each = keys.iter().map(|(old, new)| format!("{} for {}", shown(new.bare()), shown(old.bare())));
            let named = if keys.is_empty() { shown(key.bare()) } else { each.collect::<Vec<_>>().join(", ") };
            format!("{named}{context}")
        }
    }
}

/// Text of somebody else's: nothing in it moves the cursor, or turns the direction of writing.
fn shown(text: &str) -> String {
    let plain = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().flat_map(|c| if plain(c) { vec![c] } else { c.escape_unicode().collect() }).collect()
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn many(n: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(n), if n == 1 { "" } else { "s" })
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
