//! A job before one's eyes until it ends: a few lines that move on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use keyrotate_proto::api::JobStatus;
use keyrotate_proto::id::JobId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Jobs, show};
use crate::failure::Failure;
use crate::say;

/// Between two plain lines that say the same state.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows a job until `enough` says so, at the latest until it has ended; how it stood then.
pub(crate) async fn follow(
    jobs: &dyn Jobs,
    job: &JobId,
    enough: impl Fn(&JobStatus) -> bool + Send,
) -> Result<JobStatus, Failure> {
    let (say, mut heard) = mpsc::channel(1);
    let mut screen = Screen::new();
    let show = async move {
        let mut last = None;
        while let Some(status) = heard.recv().await {
            screen.show(&status);
            let stop = enough(&status);
            last = Some(status);
            if stop {
                break;
            }
        }
        last
    };
    // Whoever shows hangs up when it has seen enough, and so ends the other.
    let (watched, last) = tokio::join!(jobs.watch(job, say), show);
    watched?;
    last.ok_or_else(|| Failure::failed("nothing was heard of the job", "ask again"))
}

struct Screen {
    bar: Option<ProgressBar>,
    said: String,
    said_at: Option<Instant>,
}

impl Screen {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, said: String::new(), said_at: None }
    }

    fn show(&mut self, status: &JobStatus) {
        let line = show::line(status);
        let workers = show::workers(status);
        if let Some(bar) = &self.bar {
            bar.set_message(std::iter::once(line).chain(workers).collect::<Vec<_>>().join("\n"));
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
            say(&line);
            workers.iter().for_each(|worker| say(worker));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
