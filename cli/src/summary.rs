//! The end of a job: a table for people, or its summary as JSON.

use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_coordinator::Totals;
use keyrotate_proto::say::grouped;
use keyrotate_proto::state::JobState;

use crate::args::Output;
use crate::failure::Failure;

/// Prints what became of a job so far.
#[expect(clippy::print_stdout, reason = "the summary is the output")]
pub(crate) fn print(job: &JobRecord, totals: &Totals, report: &Path, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        print!("{}", json(job, totals, report)?);
        return Ok(());
    }
    println!("{}", heading(job, totals));
    if totals.counts.scanned() > 0 {
        println!("{}", table(totals));
    }
    Ok(())
}

/// Says where the report lies, if there is one.
#[expect(clippy::print_stdout, reason = "the summary is the output")]
pub(crate) fn print_place(job: &JobRecord, report: &Path) {
    if job.result.as_ref().is_some_and(|result| result.report.is_some()) {
        println!("report: {}\n  → `keyrotate report {}` shows it", report.display(), job.id);
    }
}

/// The report's summary, or, of a job that has not ended, how it stands.
fn json(job: &JobRecord, totals: &Totals, report: &Path) -> Result<String, Failure> {
    let Some(result) = &job.result else {
        let (counts, scanned) = (&totals.counts, totals.counts.scanned());
        let stands = serde_json::json!({ "job": job.id, "result": job.state, "scanned": scanned, "counts": counts });
        return Ok(format!("{stands:#}\n"));
    };
    let path = report.join(result.report.as_deref().unwrap_or("summary.json"));
    let what = || format!("can't read the summary `{}`", path.display());
    std::fs::read_to_string(&path).map_err(|e| Failure::broke(what(), &e, "start again: the report is checked anew"))
}

fn heading(job: &JobRecord, totals: &Totals) -> String {
    let scope = format!("{}/{}", job.spec.bucket, job.spec.prefix);
    let took = job.result.as_ref().map(|result| result.ended.duration_since(job.started).as_secs_f64());
    let took = took.map_or(String::new(), |seconds| format!(", {seconds:.1} s since it began"));
    let why = match &job.state {
        JobState::Failed { reason, detail } | JobState::Failing { reason, detail } => {
            format!("\n{}: {detail}", reason.as_str())
        }
        JobState::Paused { reason, detail, .. } => format!("\n{}: {detail}", reason.as_str()),
        _ => String::new(),
    };
    let word = job.state.word();
    let exceptions = match (totals.counts.exceptions(), &job.state) {
        (0, JobState::Completed) => " without exceptions".to_owned(),
        (n, JobState::Completed) => format!(" with {n} exception{}", if n == 1 { "" } else { "s" }),
        _ => String::new(),
    };
    format!("job {} on {scope}: {word}{exceptions}{took}{why}", job.id)
}

fn table(totals: &Totals) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["outcome", "reason", "versions", ""]);
    for (outcome, count) in &totals.counts.by_outcome {
        table.add_row([outcome.word(), outcome.reason(), &grouped(*count), outcome.explain()]);
    }
    if totals.counts.superseded > 0 {
        let why = "Old versions of rotated objects, kept: they still need their key.";
        table.add_row(["superseded", "", &grouped(totals.counts.superseded), why]);
    }
    for (note, count) in &totals.counts.notes {
        table.add_row(["note", note.as_str(), &grouped(*count), note.explain()]);
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(80);
    table
}
