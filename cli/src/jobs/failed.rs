//! `failed`: every version that failed, is in conflict, or could not be done. For people by reason, with what to do; for
//! programs row by row. Neither holds more than a few rows of each reason in memory.

use std::collections::BTreeMap;

use keyrotate_proto::api::FailedRow;
use keyrotate_proto::outcome::Outcome;
use serde_json::json;

use super::verbs::{id, write};
use super::{Client, open};
use crate::args::{FailedArgs, Output};
use crate::exit::Exit;
use crate::failure::Failure;

/// Keys of each reason that are shown unless somebody asks for more.
const SHOWN: usize = 10;

/// Lists them.
pub(crate) async fn failed(args: FailedArgs) -> Result<Exit, Failure> {
    let (jobs, job) = (open(&args.place)?, id(&args.job)?);
    let client = Client(&*jobs);
    let mut groups = Groups::new(args.limit.unwrap_or(SHOWN));
    let (mut after, mut left) = (None, args.limit.filter(|_| args.output == Output::Json));
    loop {
        let mut page = client.failed(&job, after.as_deref()).await?;
        if args.output == Output::Json {
            if let Some(left) = &mut left {
                page.rows.truncate(*left);
                *left -= page.rows.len();
            }
            // As lines: a list of millions never stands in memory.
            page.rows.iter().try_for_each(|row| write(format!("{}\n", json!(row)).as_bytes()))?;
        } else {
            page.rows.into_iter().for_each(|row| groups.add(row));
        }
        after = page.next;
        if after.is_none() || left == Some(0) {
            break;
        }
    }
    if args.output == Output::Text {
        write(groups.text(job.as_str()).as_bytes())?;
    }
    Ok(Exit::Completed)
}

/// Rows by outcome and reason: how many, and the first ones.
struct Groups {
    limit: usize,
    by_reason: BTreeMap<(String, String), (u64, Vec<FailedRow>)>,
}

impl Groups {
    fn new(limit: usize) -> Self {
        Self { limit, by_reason: BTreeMap::new() }
    }

    fn add(&mut self, row: FailedRow) {
        let (count, first) = self.by_reason.entry((row.outcome.clone(), row.reason.clone())).or_default();
        *count += 1;
        if first.len() < self.limit {
            first.push(row);
        }
    }

    fn text(&self, job: &str) -> String {
        if self.by_reason.is_empty() {
            return "nothing failed, nothing is in conflict, and everything could be done\n".to_owned();
        }
        let groups = self.by_reason.iter();
        let groups = groups.map(|((outcome, reason), (count, first))| group((outcome, reason), *count, first, job));
        groups.collect::<Vec<_>>().join("\n")
    }
}

fn group((word, reason): (&str, &str), count: u64, first: &[FailedRow], job: &str) -> String {
    // A newer coordinator may know reasons that are not known here.
    let known = Outcome::parse(word, reason);
    let (means, mend) = known.map_or(("", ""), |outcome| (outcome.explain(), outcome.mend()));
    let name = [word, reason].join(" ");
    let versions = if count == 1 { "version" } else { "versions" };
    let mut text = format!("{}: {count} {versions}. {means}\n", name.trim_end());
    if !mend.is_empty() {
        text.push_str(&format!("  → {}\n", mend.replace("JOB", job)));
    }
    for row in first {
        let version =
            row.version.as_deref().map(|version| format!(" ({})", version.escape_debug())).unwrap_or_default();
        let detail = if row.detail.is_empty() { String::new() } else { format!("  {}", row.detail.escape_debug()) };
        text.push_str(&format!("    {}{version}{detail}\n", row.key.escape_debug()));
    }
    let more = count - first.len() as u64;
    if more > 0 {
        let all = "`--limit N` shows more of them, `--output json` all";
        text.push_str(&format!("    … and {more} more: {all}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, outcome: &str, reason: &str) -> FailedRow {
        let (outcome, reason) = (outcome.to_owned(), reason.to_owned());
        FailedRow { key: key.to_owned(), version: None, outcome, reason, detail: String::new() }
    }

    #[test]
    fn rows_stand_under_their_reason_with_what_to_do() {
        let mut groups = Groups::new(2);
        for n in 0..5 {
            groups.add(row(&format!("k{n}"), "skipped", "sse-c"));
        }
        groups.add(FailedRow {
            version: Some("v1".into()),
            detail: "HTTP 500\u{1b}".into(),
            ..row("a\nb", "failed", "store")
        });
        groups.add(row("c", "conflict", ""));
        groups.add(row("n", "skipped", "of-tomorrow"));
        insta::assert_snapshot!(groups.text("01m80khdbhdmdvx72mhfk8cdj4"));
        assert!(Groups::new(2).text("j").starts_with("nothing failed"));
        let kept: usize = groups.by_reason.values().map(|(_, first)| first.len()).sum();
        assert_eq!(kept, 5, "no more than the limit of each");
    }
}
