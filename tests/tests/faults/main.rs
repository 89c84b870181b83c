//! Each fault that a fleet is said to survive, done to real processes with a real Redis and a real RabbitMQ. A row whose
//! effect was not seen fails, as one does in which anything was lost.
//!
//! `UPDATE_RELIABILITY=1` writes the table of docs/reliability.md; without it the table's rows must be these. Words on the
//! command line choose the rows that have one of them in their names; `KEYROTATE_SOAK=MINUTES` does them at random
//! instead, for so long. With `KEYROTATE_NIGHT` it is the rows of a night instead, which want root.

#![expect(clippy::print_stdout, reason = "a test without libtest's harness prints for itself")]

mod checkpoint;
mod coordinators;
mod machine;
mod network;
mod night;
mod queue;
mod rows;
mod scene;
mod soak;
mod store;
mod table;
mod workers;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rows::{Row, night, rows};
use scene::{Lane, Line};
use tokio::time::Instant;

/// Rows at the same time. Most of a row is waiting.
const LANES: usize = 9;

/// What became of a row.
struct Ran {
    number: usize,
    row: Row,
    line: Option<Line>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |row: &Row| words.is_empty() || words.iter().any(|word| row.name().contains(word.as_str()));
    let (part, all) =
        if std::env::var_os("KEYROTATE_NIGHT").is_some() { ("night", night()) } else { ("faults", rows()) };
    let (total, chosen): (_, VecDeque<_>) =
        (all.len(), all.into_iter().enumerate().filter(|(_, row)| wanted(row)).collect());
    if std::env::args().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(_, row)| println!("{}: test", row.name()));
        return ExitCode::SUCCESS;
    }
    let count = chosen.len();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(minutes) = number("KEYROTATE_SOAK") {
        let time = Duration::from_secs(60 * minutes);
        let (jobs, faults) =
            runtime.block_on(soak::soak(&mut Lane::default(), time, number("KEYROTATE_SEED").unwrap_or(1)));
        println!("soak: {jobs} jobs, {faults} faults, nothing lost");
        return ExitCode::SUCCESS;
    }
    let mut ran = runtime.block_on(all_of(chosen));
    ran.sort_by_key(|ran| ran.number);
    let failed = ran.iter().filter(|ran| ran.line.is_none_or(|line| line.seen == 0)).count();
    println!("{part}: {} rows, {failed} failed", ran.len());
    // A row that failed is not in the table.
    let kept = if count == total { table::keep(part, &ran) } else { Ok(()) };
    if let Err(what) = &kept {
        println!("{what}");
    }
    if failed > 0 || ran.len() < count || count == 0 || kept.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn all_of(rows: VecDeque<(usize, Row)>) -> Vec<Ran> {
    let (rows, ran) = (Arc::new(Mutex::new(rows)), Arc::new(Mutex::new(Vec::new())));
    let lanes = (0..LANES).map(|_| {
        let (rows, ran) = (Arc::clone(&rows), Arc::clone(&ran));
        tokio::spawn(async move {
            let mut lane = Lane::default();
            loop {
                let next = rows.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((number, row)) = next else { break };
                let (end, back) = one(row, lane).await;
                lane = back;
                ran.lock().unwrap_or_else(PoisonError::into_inner).push((number, row, end));
            }
        })
    });
    let lanes: Vec<_> = lanes.collect();
    for lane in lanes {
        lane.await.expect("a lane catches what its rows do");
    }
    let (mut all, ran) = (Vec::new(), std::mem::take(&mut *ran.lock().unwrap_or_else(PoisonError::into_inner)));
    for (number, row, end) in ran {
        let line = match end {
            End::Line(line) => Some(line),
            End::Failed => None,
            End::InVain => {
                println!("{}: once more, with the machine for itself", row.name());
                match one(row, Lane::default()).await.0 {
                    End::Line(line) => Some(line),
                    End::Failed | End::InVain => None,
                }
            }
        };
        all.push(Ran { number, row, line });
    }
    all
}

/// How a row ended.
#[derive(Clone, Copy)]
enum End {
    /// Everything held.
    Line(Line),
    /// Something did not hold.
    Failed,
    /// What the row wants to happen did not come in time, as on a machine that has too much to do.
    InVain,
}

/// Runs a row as a task of its own, so that a panic ends it alone; its servers go with it then.
async fn one(row: Row, mut lane: Lane) -> (End, Lane) {
    let began = Instant::now();
    let run = tokio::spawn(async move {
        let line = (row.run)(&mut lane).await;
        (line, lane)
    });
    let (end, lane) = match run.await {
        Ok((line, lane)) => (End::Line(line), lane),
        Err(error) => (if waited_in_vain(error) { End::InVain } else { End::Failed }, Lane::default()),
    };
    let word = match end {
        End::Line(Line { seen: 0, .. }) => "FAILED: its effect was not seen".to_owned(),
        End::Line(Line { seen, lost, back }) => {
            let back = back.map_or_else(String::new, |back| format!(", went on after {back:.1?}"));
            format!("ok: {seen} seen, {lost} lost{back}")
        }
        End::Failed => "FAILED".to_owned(),
        End::InVain => "waited in vain".to_owned(),
    };
    println!("{}: {word} ({:.1} s)", row.name(), began.elapsed().as_secs_f64());
    (end, lane)
}

fn waited_in_vain(error: tokio::task::JoinError) -> bool {
    let said = error.try_into_panic().ok().and_then(|panic| panic.downcast::<String>().ok());
    said.is_some_and(|said| said.starts_with("waited "))
}
