//! The tables of docs/reliability.md: one for each part of `./test` that runs rows.

use std::fmt::Write as _;
use std::path::Path;

use crate::Ran;
use crate::scene::Line;

const FILE: &str = "../docs/reliability.md";
const END: &str = "<!-- end of what a run wrote -->\n";

/// Writes the table of a part, or says that its rows are not those of the run.
pub(crate) fn keep(part: &str, ran: &[Ran]) -> Result<(), String> {
    let command = format!("UPDATE_RELIABILITY=1 ./test {part}");
    let begin = format!("<!-- written by a run: {command} -->\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let (before, (there, after)) = parts.ok_or_else(|| format!("{}: no place for the table", path.display()))?;
    if std::env::var("UPDATE_RELIABILITY").is_ok_and(|update| update == "1") {
        return std::fs::write(&path, format!("{before}{begin}{}{END}{after}", table(ran))).map_err(|e| e.to_string());
    }
    let missing = ran.iter().find(|ran| !there.contains(&beginning(ran)));
    let rows = there.lines().filter(|line| line.starts_with("| ")).count().saturating_sub(1);
    match missing {
        Some(ran) => Err(format!("docs/reliability.md lacks `{}`: {command}", ran.row.name())),
        None if rows != ran.len() => Err(format!("docs/reliability.md has rows of no fault: {command}")),
        None => Ok(()),
    }
}

fn table(ran: &[Ran]) -> String {
    let mut table = "| whom | fault | seen | lost | went on after |\n|---|---|---:|---:|---:|\n".to_owned();
    for one in ran {
        let Some(Line { seen, lost, back }) = one.line else { continue };
        let back = back.map_or_else(String::new, |back| format!("{:.1} s", back.as_secs_f64()));
        let _never = writeln!(table, "{} {seen} {} | {lost} | {back} |", beginning(one), one.row.effect);
    }
    table
}

fn beginning(ran: &Ran) -> String {
    format!("| {} | {} |", ran.row.whom, ran.row.what)
}
