//! `explain`: what a word of a report, of a job's state or an exit code means, and what to do about it. `docs/reasons.md`
//! is made of the same entries.

use keyrotate_proto::job::settings::nearest;
use keyrotate_proto::outcome::{Evidence, FailReason, FilterReason, Note, Outcome, SkipReason};
use keyrotate_proto::state::{PauseReason, StopReason};
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::ExplainArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::verbs::print;

/// What can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Entry {
    /// What it is said of: `object skipped`, `job paused`, `exit code`.
    of: &'static str,
    /// The word; empty where `of` says it all.
    word: &'static str,
    /// What is so.
    means: &'static str,
    /// What to do; empty where nothing is.
    mend: &'static str,
}

/// Explains a word, or all.
pub(crate) fn explain(args: &ExplainArgs) -> Result<Exit, Failure> {
    let all = entries();
    let asked = args.word.join(" ");
    let found: Vec<Entry> = all.iter().filter(|entry| entry.is_meant_by(&asked)).copied().collect();
    if found.is_empty() {
        let near = nearest(&asked, all.iter().map(|entry| entry.word));
        let mend = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        let what = format!("nothing is called `{}`", asked.escape_debug());
        return Err(Failure::usage(what, format!("{mend}`keyrotate explain` lists all")));
    }
    print(args.output, &found, || found.iter().map(Entry::shown).collect::<Vec<_>>().join("\n\n"))?;
    Ok(Exit::Completed)
}

impl Entry {
    /// Whether each word of the question is one of its own: `sse-c`, `skipped/sse-c`, `skipped(sse-c)`, `exit 3`.
    fn is_meant_by(&self, asked: &str) -> bool {
        let asked = asked.to_lowercase();
        let mut asked = asked.split(|c: char| !c.is_alphanumeric() && c != '-').filter(|word| !word.is_empty());
        asked.all(|word| self.of.split(' ').chain([self.word]).any(|own| own == word))
    }

    fn title(&self) -> String {
        [self.of, self.word].join(" ").trim_end().to_owned()
    }

    fn shown(&self) -> String {
        let mend = if self.mend.is_empty() { String::new() } else { format!("\n  → {}", self.mend) };
        format!("{}\n  {}{mend}", self.title(), self.means)
    }
}

fn entries() -> Vec<Entry> {
    let mut all = Vec::new();
    macro_rules! reasons {
        ($($of:literal: $reason:ident),*) => {$(
            all.extend($reason::ALL.iter().map(|reason| Entry {
                of: $of, word: reason.as_str(), means: reason.explain(), mend: reason.mend(),
            }));
        )*};
    }
    reasons!["object rotated": Evidence];
    reasons!["object": Note];
    all.extend([of_object("object current", Outcome::Current), of_object("object conflict", Outcome::Conflict)]);
    reasons!["object filtered": FilterReason, "object skipped": SkipReason, "object failed": FailReason];
    reasons!["job paused": PauseReason, "job failed": StopReason];
    all.extend(Exit::ALL.iter().map(|exit| Entry {
        of: "exit code",
        word: exit.digit(),
        means: exit.explain(),
        mend: exit.mend(),
    }));
    all
}

fn of_object(of: &'static str, outcome: Outcome) -> Entry {
    Entry { of, word: outcome.reason(), means: outcome.explain(), mend: outcome.mend() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(asked: &str) -> Vec<String> {
        entries().iter().filter(|entry| entry.is_meant_by(asked)).map(Entry::title).collect()
    }

    #[test]
    fn a_word_is_found_however_it_was_shown() {
        for asked in ["sse-c", "skipped/sse-c", "skipped(sse-c)", "SSE-C", "object skipped sse-c"] {
            assert_eq!(of(asked), ["object skipped sse-c"], "{asked}");
        }
        assert_eq!(of("denied"), ["object failed denied", "job paused denied"]);
        assert_eq!(of("exit 3"), ["exit code 3"]);
        assert_eq!(of("conflict"), ["object conflict"]);
        assert_eq!(of("ssec"), Vec::<String>::new());
        assert_eq!(of("").len(), entries().len());
    }

    #[test]
    fn every_exception_and_failure_says_what_to_do() {
        let idle = entries().into_iter().filter(|entry| entry.mend.is_empty()).map(|entry| entry.title());
        let fine = [
            "object rotated key",
            "object rotated write",
            "object checksum-lost",
            "object parts-lost",
            "object superseded-deleted",
            "object withdrawn",
            "object current",
            "object skipped delete-marker",
            "object skipped gone",
            "object skipped own",
            "exit code 0",
        ];
        assert_eq!(idle.collect::<Vec<_>>(), fine);
    }

    #[test]
    fn the_docs_say_the_same() {
        let mut page =
            "# Reasons\n\nWhat rows of a report, states of a job and exit codes mean, and what to do. `keyrotate \
            explain WORD` says the same.\n\nThis page is made from the tables in `proto/src` and `cli/src/exit.rs`.\n"
                .to_owned();
        let mut of = "";
        for entry in entries() {
            if entry.word.is_empty() || entry.of != of {
                page.push_str(&format!("\n## {}\n\n", entry.of));
                of = entry.of;
                page.push_str("| | what is so | what to do |\n|---|---|---|\n");
            }
            page.push_str(
                &format!("| `{}` | {} | {} |\n", entry.word, entry.means, entry.mend).replace("| `` |", "| |"),
            );
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reasons.md");
        if std::env::var_os("UPDATE_REASONS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let shipped = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == shipped, "docs/reasons.md is not what the code says; UPDATE_REASONS=1 writes it anew");
    }
}
