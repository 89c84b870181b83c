//! A job while it runs, before one's eyes: a few lines that move on a terminal, plain lines elsewhere. `run`, `start` and
//! `status` draw the same.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use console::{Style, Term, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keyrotate_proto::api::{JobStatus, Limits};
use keyrotate_proto::say::bytes;
use tokio::time::Instant;

use crate::jobs::show;
use crate::wrap::wrapped;

/// Between two plain lines that say the same state.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The pace is that of the last few seconds.
const PACE_OVER: Duration = Duration::from_secs(5);
/// Cells of the bar, and of the state before it.
const CELLS: usize = 20;
const WORD: usize = 10;

/// Draws on standard error.
pub(crate) struct Screen {
    bar: Option<ProgressBar>,
    said: String,
    said_at: Option<Instant>,
}

impl Screen {
    /// With lines that move where standard error is a terminal.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        Self { bar, said: String::new(), said_at: None }
    }

    /// Shows how things stand now.
    pub(crate) fn show(&mut self, status: &JobStatus) {
        if let Some(bar) = &self.bar {
            // Asked each time: it may have been resized.
            let width = usize::from(Term::stderr().size().1);
            bar.set_message(lines(status, width, console::colors_enabled_stderr()).join("\n"));
            bar.tick();
            return;
        }
        // Whoever asked prints the end.
        if status.is_ended() {
            return;
        }
        let due = self.said_at.is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if due || self.said != status.job.state {
            self.said.clone_from(&status.job.state);
            self.said_at = Some(Instant::now());
            self.line(&show::line(status));
        }
    }

    /// Shows one line about something that has no job: what it is, and how far.
    pub(crate) fn tell(&mut self, word: &str, text: &str) {
        if let Some(bar) = &self.bar {
            let width = usize::from(Term::stderr().size().1);
            bar.set_message(truncate_str(&format!("{word:WORD$} {text}"), width, "…").into_owned());
            bar.tick();
        } else if self.said_at.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.said_at = Some(Instant::now());
            self.line(text);
        }
    }

    /// Prints one line above those that move.
    #[expect(clippy::print_stderr, reason = "talk goes to standard error")]
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => {
                let text = wrapped(text, 0, usize::from(Term::stderr().size().1));
                bar.suspend(|| eprintln!("{text}"));
            }
            None => eprintln!("{text}"),
        }
    }

    /// Takes the moving lines away while something is asked; they come back when the guard is dropped.
    pub(crate) fn hide(&self) -> Hidden<'_> {
        if let Some(bar) = &self.bar {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Hidden(self.bar.as_ref())
    }

    /// Takes them away at the end.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Nothing moves as long as this lives.
pub(crate) struct Hidden<'a>(Option<&'a ProgressBar>);

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.0 {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

/// How many per second, over the last few seconds.
#[derive(Debug, Default)]
pub(crate) struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    /// Takes the sum so far in; `None` as long as nothing can be said.
    pub(crate) fn of(&mut self, sum: u64) -> Option<f64> {
        let now = Instant::now();
        self.0.push_back((now, sum));
        while self.0.front().is_some_and(|(at, _)| now - *at > PACE_OVER) {
            self.0.pop_front();
        }
        let (since, before) = self.0.front()?;
        let seconds = (now - *since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "for the eye only")]
        let pace = sum.saturating_sub(*before) as f64 / seconds;
        (seconds >= 0.3).then_some(pace)
    }
}

/// What is drawn, no line wider than `width`: state, bar and pace; sums; limits; what is waited for; who works.
fn lines(status: &JobStatus, width: usize, colours: bool) -> Vec<String> {
    let indent = " ".repeat(WORD + 1);
    let mut lines = vec![format!("{} {}", word(&status.job.state, colours), progress(status))];
    lines.extend(show::sums(status).map(|sums| format!("{indent}{sums}")));
    let limits = limits(&status.limits).filter(|_| !status.is_ended());
    lines.extend(limits.map(|limits| format!("{indent}{limits}")));
    lines.extend(waits_for(status).map(|what| format!("{indent}{what}")));
    lines.extend(show::workers(status).iter().map(|worker| format!("{indent}{}", worker.trim_start())));
    lines.iter().map(|line| truncate_str(line, width, "…").into_owned()).collect()
}

/// The state, in its colour where there are any.
fn word(state: &str, colours: bool) -> String {
    let style = match state {
        "completed" => Style::new().green(),
        "failed" | "failing" => Style::new().red(),
        "paused" | "awaiting-confirmation" | "cancelling" | "cancelled" => Style::new().yellow(),
        _ => Style::new().cyan(),
    };
    style.force_styling(colours).apply_to(format!("{state:<WORD$}")).to_string()
}

/// Bar, share, pace and time left, as far as they are known.
fn progress(status: &JobStatus) -> String {
    let mut pieces = Vec::new();
    if let Some(share) = status.share {
        pieces.push(bar(share));
        pieces.push(show::share(share));
    }
    pieces.extend(show::pace(status));
    pieces.join("  ")
}

/// Eighths of a cell, so that a bar of twenty moves often.
fn bar(share: f64) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 to 160"
    )]
    let eighths = (share.clamp(0.0, 1.0) * (CELLS * 8) as f64) as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    format!("{bar:░<CELLS$}")
}

/// What a job may take of the fleet at present.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate, more than 0")]
pub(crate) fn limits(limits: &Limits) -> Option<String> {
    let all = [
        limits.rate.map(|rate| format!("{rate} obj/s")),
        limits.byte_rate.map(|rate| format!("{}/s", bytes(rate as u64))),
        limits.kms_rate.map(|rate| format!("{rate} KMS calls/s")),
        limits.permits.map(|permits| format!("{permits} calls at a time")),
    ];
    let all: Vec<_> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| format!("at most {}", all.join(", ")))
}

/// What keeps it, or what it does where no object gets an outcome.
fn waits_for(status: &JobStatus) -> Option<String> {
    let id = &status.job.id;
    if let Some(reason) = &status.reason {
        let detail = status.detail.as_deref().unwrap_or_default();
        return Some(match reason.as_str() {
            "operator" => format!("paused by a person: `keyrotate resume {id}` lets it go on"),
            _ => format!("{reason}: {detail}"),
        });
    }
    let what = match status.job.state.as_str() {
        "queued" => "waits for a worker".to_owned(),
        "preparing" => "asks the store what it can do, and where its keys lie".to_owned(),
        "awaiting-confirmation" => format!("waits for `keyrotate confirm {id}`"),
        "cancelling" | "failing" => "waits for the last leases, and ends uploads that are open".to_owned(),
        "running" | "verifying" if status.workers.is_empty() => "waits for a worker".to_owned(),
        _ => return None,
    };
    Some(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, more: &str) -> JobStatus {
        let text = format!(
            r#"{{"id": "01m80khdbhdmdvx72mhfk8cdj4", "type": "keyrotate", "user": "u", "started": "2026-11-22T03:07:03Z",
            "state": "{state}", "store": "default", "bucket": "b", "prefix": "", "scanned": 20000, "exceptions": 0,
            "outcomes": {{"rotated/key": 15000, "current": 5000}}, "superseded": 0, "rotatedBytes": 3145728, "findings": [],
            "workers": [{{"name": "process 7", "slices": 8}}], "report": false,
            "limits": {{"rate": 500.0, "permits": 64, "priority": 0, "weight": 1}}{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn it_is_readable_in_80_columns() {
        let running =
            r#", "share": 0.471, "objectsPerSecond": 1234.0, "bytesPerSecond": 12345678.0, "etaSeconds": 192"#;
        let drawn = lines(&status("running", running), 80, false);
        let wanted = [
            "running    █████████▍░░░░░░░░░░  ~47%  1,234 obj/s  11.8 MiB/s  ETA 3m12s",
            "           15,000 rotated · 5,000 current  3.0 MiB rotated",
            "           at most 500 obj/s, 64 calls at a time",
            "           process 7  8 slices",
        ];
        assert_eq!(drawn, wanted);
        assert!(lines(&status("running", running), 40, false).iter().all(|line| line.chars().count() <= 40));
    }

    #[test]
    fn what_is_waited_for_is_said() {
        let waits = |state: &str, more: &str| waits_for(&status(state, more)).unwrap_or_default();
        assert!(waits("awaiting-confirmation", "").contains("keyrotate confirm 01m80khdbhdmdvx72mhfk8cdj4"));
        assert_eq!(
            waits("paused", r#", "reason": "kms", "detail": "KES does not answer""#),
            "kms: KES does not answer"
        );
        assert_eq!(waits("running", ""), "");
    }

    #[test]
    fn a_bar_is_full_at_the_end_only() {
        assert_eq!((bar(0.0), bar(1.0)), ("░".repeat(20), "█".repeat(20)));
        for share in [-1.0, 0.001, 0.5, 0.999, 2.0, f64::NAN] {
            assert_eq!(bar(share).chars().count(), CELLS, "{share}");
        }
    }
}
