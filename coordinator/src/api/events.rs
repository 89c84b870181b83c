//! How a job stands, as a stream: one look a second for all who listen to it, whichever coordinator they ask.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::api::JobStatus;
use keyrotate_proto::id::JobId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::door::Caller;
use super::problem::{Kind, Problem};
use super::{Answer, Api, view};

/// How often a job is looked at that somebody listens to.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Streams at a time.
const STREAMS: usize = 100;
/// Silence that proxies bear.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Rates are those of so many last looks.
const LOOKS: usize = 10;

/// What a listener hears: the newest look, with its number; `None` where the checkpoint does not answer.
type Heard = watch::Receiver<(u64, Option<Arc<JobStatus>>)>;

/// Who listens to which job.
#[derive(Debug)]
pub(crate) struct Feeds {
    feeds: Mutex<HashMap<JobId, Heard>>,
    streams: Arc<Semaphore>,
}

impl Default for Feeds {
    fn default() -> Self {
        Self { feeds: Mutex::default(), streams: Arc::new(Semaphore::new(STREAMS)) }
    }
}

impl Feeds {
    /// Listens to a job; whoever is first sets somebody to look at it.
    fn listen(&self, job: &JobRecord, ledger: &Ledger) -> Heard {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed ones are over: nobody listened, or the job ended.
        feeds.retain(|_, heard| heard.has_changed().is_ok());
        if let Some(heard) = feeds.get(&job.id) {
            return heard.clone();
        }
        let (say, heard) = watch::channel((0, None));
        tokio::spawn(look_on(ledger.clone(), job.clone(), say));
        feeds.insert(job.id.clone(), heard.clone());
        heard
    }
}

/// Looks at a job until it ends or nobody listens. The map's own receiver is not counted.
async fn look_on(ledger: Ledger, job: JobRecord, say: watch::Sender<(u64, Option<Arc<JobStatus>>)>) {
    let mut looks: VecDeque<(Instant, u64, u64)> = VecDeque::new();
    for n in 1.. {
        let seen = match ledger.job(&job.id).await {
            Ok(record) => view::status(&ledger, &record).await,
            // Forgotten by the checkpoint: how it ended is known.
            Err(LedgerError::Lost(_)) if job.state.is_ended() => view::status(&ledger, &job).await,
            Err(error) => Err(error),
        };
        let ended = match seen {
            Ok(mut status) => {
                with_rates(&mut status, &mut looks);
                let ended = status.is_ended();
                say.send_replace((n, Some(Arc::new(status))));
                ended
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, job = %job.id, "a job with listeners can't be looked at");
                false
            }
        };
        if ended || say.receiver_count() <= 1 {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn with_rates(status: &mut JobStatus, looks: &mut VecDeque<(Instant, u64, u64)>) {
    let now = Instant::now();
    looks.push_back((now, status.scanned, status.rotated_bytes));
    while looks.len() > LOOKS {
        looks.pop_front();
    }
    let Some((then, scanned, bytes)) = looks.front().copied() else { return };
    let seconds = (now - then).as_secs_f64();
    if seconds > 0.5 {
        #[expect(clippy::cast_precision_loss, reason = "for the eye only")]
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        status.objects_per_second = Some(rate(status.scanned, scanned));
        status.bytes_per_second = Some(rate(status.rotated_bytes, bytes));
    }
}

/// `GET /v1/jobs/{id}/events`: `status` events, at last one `end`. Whoever comes back hears the present state first.
pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let job = api.job(&caller, &id).await?;
    let permit = Arc::clone(&api.feeds.streams).try_acquire_owned().map_err(|_| {
        Problem::new(Kind::TooMany, format!("{STREAMS} streams are open"), "ask `GET /v1/jobs/{id}` now and then")
    })?;
    let mut heard = api.feeds.listen(&job, &api.site.ledger);
    heard.mark_changed();
    let told = stream::unfold(Some((heard, permit, 0)), next_event);
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// A listener: what he hears, his place among the streams, the number of what he heard last.
type Listener = (Heard, OwnedSemaphorePermit, u64);

async fn next_event(listener: Option<Listener>) -> Option<(Result<Event, Infallible>, Option<Listener>)> {
    let (mut heard, permit, last) = listener?;
    loop {
        // After the last look its sender is gone, and what it said still stands.
        let over = heard.changed().await.is_err();
        let (n, status) = heard.borrow_and_update().clone();
        let Some(status) = status.filter(|_| n > last) else {
            if over {
                return None;
            }
            continue;
        };
        let ended = status.is_ended();
        let kind = if ended { "end" } else { "status" };
        let event = Event::default().event(kind).id(n.to_string()).json_data(&*status).unwrap_or_default();
        return Some((Ok(event), (!ended).then_some((heard, permit, n))));
    }
}
