//! A job before one's eyes until it ends.

use keyrotate_proto::api::JobStatus;
use keyrotate_proto::id::JobId;
use tokio::sync::mpsc;

use super::Jobs;
use crate::failure::Failure;
use crate::live::Screen;

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
