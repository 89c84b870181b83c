//! A job while it runs: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_coordinator::Totals;
use keyrotate_proto::state::{JobState, Phase};
use keyrotate_worker::Seen;
use tokio::time::Instant;

const WORDS: [&str; 6] = ["rotated", "current", "filtered", "skipped", "conflict", "failed"];
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Draws a job's progress on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    said: String,
    said_at: Instant,
    rates: Vec<(Instant, u64)>,
}

impl Progress {
    /// A bar where standard error is a terminal.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1000);
            let style = ProgressStyle::with_template("{prefix:<10} [{bar:12}] {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉ "));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, said: String::new(), said_at: Instant::now(), rates: Vec::new() }
    }

    /// Shows how things stand now.
    pub(crate) fn show(&mut self, job: &JobRecord, totals: &Totals, seen: &Seen) {
        let done: u64 = seen.outcomes.values().sum::<u64>() + seen.agree;
        let rate = self.rate(done);
        let share = if totals.shards == 0 { 0.0 } else { ratio(totals.over, totals.shards) };
        let message = message(job, totals, rate, share);
        if let Some(bar) = &self.bar {
            bar.set_prefix(job.state.word().to_owned());
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
            bar.set_position((share * 1000.0) as u64);
            bar.set_message(message);
            return;
        }
        let word = job.state.word();
        if self.said != word || self.said_at.elapsed() >= LINE_EVERY {
            self.said = word.to_owned();
            self.said_at = Instant::now();
            let colon = if message.is_empty() { "" } else { ": " };
            self.line(format!("{word}{colon}{message}").trim_end());
        }
    }

    /// Prints one line above the bar.
    #[expect(clippy::print_stderr, reason = "talk goes to standard error")]
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away while something is asked; it comes back when the guard is dropped.
    pub(crate) fn hide(&self) -> Hidden<'_> {
        if let Some(bar) = &self.bar {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Hidden(self.bar.as_ref())
    }

    /// Takes the bar away at the end.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Objects per second over the last few seconds.
    fn rate(&mut self, done: u64) -> f64 {
        let now = Instant::now();
        self.rates.push((now, done));
        self.rates.retain(|(at, _)| now - *at <= Duration::from_secs(5));
        let Some((since, before)) = self.rates.first() else { return 0.0 };
        let seconds = (now - *since).as_secs_f64();
        if seconds < 0.3 { 0.0 } else { ratio(done.saturating_sub(*before), 1) / seconds }
    }
}

/// The bar is not drawn as long as this lives.
pub(crate) struct Hidden<'a>(Option<&'a ProgressBar>);

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.0 {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

fn message(job: &JobRecord, totals: &Totals, rate: f64, share: f64) -> String {
    if let JobState::Paused { reason, detail, .. } = &job.state {
        return format!("{}: {detail}", reason.as_str());
    }
    let counts = WORDS.iter().map(|word| (word, totals.counts.of(word))).filter(|(_, n)| *n > 0);
    let counts: Vec<_> = counts.map(|(word, n)| format!("{n} {word}")).collect();
    let working = matches!(job.state, JobState::Live { phase: Phase::Running | Phase::Verifying });
    let pace = if working { format!("~{:.0}%  {rate:.0} obj/s  ", share * 100.0) } else { String::new() };
    format!("{pace}{}", counts.join(" · "))
}

#[expect(clippy::cast_precision_loss, reason = "for the eye only")]
fn ratio(a: impl TryInto<u64>, b: impl TryInto<u64>) -> f64 {
    let (a, b) = (a.try_into().unwrap_or(0), b.try_into().unwrap_or(1));
    a as f64 / b.max(1) as f64
}
