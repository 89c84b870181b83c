//! The work done under one lease: items come in ahead of the work, objects are worked on in parallel, and window by
//! window the outcomes in front become a part and a commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::future::OptionFuture;
use keyrotate_checkpoint::record::Asked;
use keyrotate_checkpoint::transition::Refusal;
use keyrotate_checkpoint::transition::shard::Cuts;
use keyrotate_checkpoint::{HeldLease, Ledger, LedgerError, Signal};
use keyrotate_env::Safeguard;
use keyrotate_proto::id::JobId;
use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::{Counts, FailReason, Outcome};
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_proto::state::PauseReason;
use keyrotate_report::ReportError;
use keyrotate_rewrap::{Halt, Rewrapper, Settled};
use keyrotate_store::wrap::fenced::Deadline;
use keyrotate_store::{Store, for_job};
use keyrotate_telemetry::Instrument as _;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::growth::Purse;
use crate::intents::{IntentGate, LeftIntents};
use crate::low_water::{LowWater, Ordinal};
use crate::meter::Meter;
use crate::object::{Unfinished, settle_listed, work};
use crate::permits::Permits;
use crate::quarantine::set_aside;
use crate::share::Allotment;
use crate::source::{Item, Source, SourceError, Task};
use crate::split::Cutter;
use crate::trace;
use crate::window::{self, Broken, Closed, Done};

/// How large a window and how long a slice is.
#[derive(Clone, Debug)]
pub struct SliceLimits {
    /// Outcomes of one window at most.
    pub window_rows: usize,
    /// Age of a window at most.
    pub window_time: Duration,
    /// Length of a slice, once it has left the key that it began in; then the shard waits for its turn again.
    pub slice_time: Duration,
    /// Length of a lease; renewed at a third of it.
    pub lease_time: Duration,
    /// Objects of one slice that are being worked on or wait for a permit.
    pub tasks: usize,
}

impl Default for SliceLimits {
    fn default() -> Self {
        Self {
            window_rows: 2000,
            window_time: Duration::from_secs(5),
            slice_time: Duration::from_secs(300),
            lease_time: Duration::from_secs(60),
            tasks: 256,
        }
    }
}

/// What a slice works with.
pub(crate) struct Tools {
    pub(crate) job: JobId,
    pub(crate) ledger: Ledger,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) touched: AtomicBool,
    pub(crate) rewrapper: Arc<Rewrapper>,
    pub(crate) permits: Permits,
    pub(crate) allotment: Allotment,
    pub(crate) purse: Arc<Purse>,
    pub(crate) meter: Arc<Meter>,
    /// Hears of each part that was added to an upload.
    pub(crate) part_added: Arc<Notify>,
    pub(crate) gate: IntentGate,
    pub(crate) left_intents: LeftIntents,
    /// Whether what is left of the shard is one object over which too many leases ended without progress.
    pub(crate) sets_aside: bool,
    pub(crate) cutter: Cutter,
    pub(crate) deadline: Deadline,
    pub(crate) limits: SliceLimits,
    pub(crate) stop: CancellationToken,
    /// The slice ends: nothing begins any more.
    pub(crate) ending: CancellationToken,
}

impl Tools {
    /// Does `work` under the slice's lease and in its job's name. Tasks that it spawns are not part of it.
    async fn bounds<T>(&self, work: impl Future<Output = T>) -> T {
        for_job(self.job.to_string(), self.deadline.bounds(work)).await
    }
}

/// How a slice ended. The lease is given back or finished by the caller, or lost.
#[derive(Debug)]
pub(crate) enum SliceEnd {
    /// The source is through and committed.
    Through,
    /// Stopped before its end with everything committed that was settled: time is up, somebody else shall work, or
    /// this worker stops.
    Stopped,
    /// Something says nothing about an object but about the job.
    Halted(Halt),
    /// The source can't be read.
    Source(SourceError),
    /// The report store can't be written.
    Report(ReportError),
    /// The lease ran out by this machine's own clock: nothing more may be written.
    LeaseOver,
    /// The lease is not ours any more, or the checkpoint can't be reached: nothing more may be written.
    Lost(LedgerError),
}

impl From<Halt> for SliceEnd {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::LeaseOver => Self::LeaseOver,
            other => Self::Halted(other),
        }
    }
}

type LookForCuts = JoinHandle<Result<Vec<String>, SourceError>>;

/// One slice at work.
pub(crate) struct Slice {
    tools: Arc<Tools>,
    lease: Arc<Mutex<HeldLease>>,
    range: KeyRange,
    /// The source gave everything up to here.
    listed_to: Position,
    /// Nothing behind this was begun; and how much was, since when.
    begun_to: Position,
    begun: usize,
    began: Instant,
    /// Some keys of the last page, in order: how dense the shard is there.
    seen: Vec<String>,
    queue: VecDeque<Item>,
    water: LowWater<Done>,
    tasks: JoinSet<(Ordinal, Result<Done, Unfinished>)>,
    books: Option<Books>,
    closing: Option<JoinHandle<Result<Closed, Broken>>>,
    made: Vec<Intent>,
    renewing: Option<JoinHandle<Result<Signal, LedgerError>>>,
    renew_at: Instant,
    /// Others want so many pieces of what is not begun yet.
    wanted: Option<u32>,
    /// That was tried since the last page: it would come out the same.
    looked: bool,
    /// Places to cut the shard at, for so many others, are looked for.
    cutting: Option<(LookForCuts, u32)>,
    /// It is being cut: nothing is taken from the source meanwhile, and nothing begun from there on.
    splitting: Option<JoinHandle<Result<Signal, LedgerError>>>,
    begins_before: Option<String>,
    /// A part was added to an upload: the checkpoint is told with each renewal.
    got_on: bool,
    window_since: Instant,
    over_at: Instant,
    /// The key that the cursor stood in.
    begun_in: Option<String>,
    closing_leaves_key: bool,
    /// A window was committed that leaves that key: what a slice does that ends before, the next one may have to do again, and
    /// so would all after it.
    committed: bool,
    source_through: bool,
    closed_last: bool,
    ending: Option<SliceEnd>,
    stopping: bool,
    denied: Option<usize>,
    /// So many items from the cursor on an earlier holder may still be writing.
    doubted: u64,
}

/// A worker that is told to stop waits no longer for its writes: then it commits what it knows, and the leases of what it
/// does not know run out. A few seconds before it must have ended.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// A piece that we would do within this is not worth another's lease.
const WORTH_LEAVING: Duration = Duration::from_secs(2);

/// So many keys of a page, at most, tell how dense it is.
const SEEN: usize = 16;

/// So many objects denied before any other outcome mean that the job is denied, not the objects.
const ALL_DENIED: usize = 20;

impl Slice {
    /// Takes a lease over, and the books of its shard.
    pub(crate) fn new(tools: Arc<Tools>, lease: HeldLease, books: Books) -> Self {
        let now = Instant::now();
        let limits = &tools.limits;
        Self {
            range: lease.record().range.clone(),
            listed_to: lease.record().cursor.clone(),
            begun_to: lease.record().cursor.clone(),
            begun: 0,
            began: now,
            seen: Vec::new(),
            doubted: lease.record().doubted(lease.kind()),
            renew_at: now + limits.lease_time / 3,
            window_since: now,
            over_at: now + limits.slice_time,
            begun_in: lease.record().cursor.key().map(str::to_owned),
            closing_leaves_key: false,
            committed: false,
            looked: false,
            lease: Arc::new(Mutex::new(lease)),
            queue: VecDeque::new(),
            water: LowWater::default(),
            tasks: JoinSet::new(),
            books: Some(books),
            closing: None,
            made: Vec::new(),
            renewing: None,
            wanted: None,
            cutting: None,
            splitting: None,
            begins_before: None,
            got_on: false,
            source_through: false,
            closed_last: false,
            ending: None,
            stopping: false,
            denied: Some(0),
            tools,
        }
    }

    /// Works until the source is through or something ends the slice; gives the lease back to the caller.
    pub(crate) async fn run(mut self, source: Box<dyn Source>) -> (SliceEnd, HeldLease) {
        let (pages, reader) = self.read_ahead(source);
        let end = self.drive(pages).await;
        reader.abort();
        self.tasks.shutdown().await;
        self.put_down(&end).await;
        if let Some((cutting, _)) = self.cutting.take() {
            cutting.abort();
        }
        for last in [self.renewing.take(), self.splitting.take()].into_iter().flatten() {
            let _finished = last.await;
        }
        let lease = Arc::into_inner(self.lease).map(Mutex::into_inner);
        #[expect(clippy::expect_used, reason = "every task that shared the lease has ended above")]
        (end, lease.expect("nobody else holds the lease"))
    }

    fn read_ahead(
        &self,
        mut source: Box<dyn Source>,
    ) -> (mpsc::Receiver<Result<Vec<Item>, SourceError>>, JoinHandle<()>) {
        let (sender, pages) = mpsc::channel(1);
        let permits = self.tools.permits.clone();
        let read = async move {
            loop {
                let permit = permits.call().await;
                let page = trace::page(source.page()).await;
                drop(permit);
                let Some(page) = page.transpose() else { return };
                let failed = page.is_err();
                if sender.send(page).await.is_err() || failed {
                    return;
                }
            }
        };
        let reader = tokio::spawn(for_job(self.tools.job.to_string(), read.in_current_span()));
        (pages, reader)
    }

    async fn drive(&mut self, mut pages: mpsc::Receiver<Result<Vec<Item>, SourceError>>) -> SliceEnd {
        loop {
            if self.ending.is_some() {
                self.tools.ending.cancel();
            }
            self.fill();
            self.close_window();
            self.look_for_cuts();
            if let Some(end) = self.over() {
                return end;
            }
            let wants_page = self.lists_on() && self.queue.is_empty() && self.splitting.is_none();
            let window_due = self.window_since + self.tools.limits.window_time;
            let ages = self.closing.is_none() && self.may_commit_more();
            let stop = self.tools.stop.clone();
            tokio::select! {
                // What must not wait comes first: of objects that are through there is always one more.
                biased;
                () = stop.cancelled(), if !self.stopping => self.stop(),
                () = tokio::time::sleep_until(self.over_at), if self.committed && self.ending.is_none() => self.ending = Some(SliceEnd::Stopped),
                () = tokio::time::sleep_until(self.renew_at), if self.renewing.is_none() => self.renew(),
                Some(renewed) = OptionFuture::from(self.renewing.as_mut()) => self.renewed(renewed),
                Some(closed) = OptionFuture::from(self.closing.as_mut()) => self.closed(closed),
                Some(split) = OptionFuture::from(self.splitting.as_mut()) => self.split(split),
                Some(cuts) = OptionFuture::from(self.cutting.as_mut().map(|(looking, _)| looking)) => self.cut(cuts),
                () = self.tools.part_added.notified(), if self.renewing.is_none() && !self.got_on => self.got_on(),
                page = pages.recv(), if wants_page => self.page(page),
                Some(joined) = self.tasks.join_next() => self.settle(joined),
                () = tokio::time::sleep_until(window_due), if ages => {}
            }
        }
    }

    /// The process ends: what is in flight comes to its end if that is near.
    fn stop(&mut self) {
        self.stopping = true;
        self.tools.deadline.end_within(STOPS_WITHIN);
        self.end_with(SliceEnd::Stopped);
    }

    fn lists_on(&self) -> bool {
        self.ending.is_none() && !self.source_through
    }

    /// A source knows nothing of a split since it was opened: what it shows beyond the end is somebody else's.
    fn page(&mut self, page: Option<Result<Vec<Item>, SourceError>>) {
        match page {
            Some(Ok(mut items)) => {
                let beyond = |item: &Item| item.after.key().is_none_or(|key| !self.range.contains(key));
                if let Some(first) = items.iter().position(beyond).filter(|_| Safeguard::End.stands()) {
                    items.truncate(first);
                    self.source_through = true;
                }
                if let Some(last) = items.last() {
                    self.listed_to = last.after.clone();
                    self.seen = some_keys(&items);
                    self.looked = false;
                }
                self.queue.extend(items);
            }
            Some(Err(error)) => self.ending = Some(SliceEnd::Source(error)),
            None => self.source_through = true,
        }
    }

    /// Where others want pieces of the shard, looks for places to cut it: behind what is listed as long as the listing goes
    /// on, then in what is listed and not begun. Asked once for each answer of the checkpoint that says so.
    fn look_for_cuts(&mut self) {
        let at_it = self.cutting.is_some() || self.splitting.is_some() || self.ending.is_some();
        let (Some(others), false) = (self.wanted.take(), at_it) else { return };
        let from = self.listed_to.key().filter(|_| self.lists_on() && !self.looked);
        let Some(from) = from.map(str::to_owned) else { return self.leave_of_queue(others) };
        self.looked = true;
        let (tools, rest) = (Arc::clone(&self.tools), KeyRange { start: from, end: self.range.end.clone() });
        let seen = self.seen.clone();
        let look = async move { tools.cutter.cuts(&tools.permits, &rest, &seen, others).await };
        self.cutting = Some((tokio::spawn(for_job(self.tools.job.to_string(), look.in_current_span())), others));
    }

    /// Cuts the shard at those places that are not begun yet; in what is listed where the store named none.
    fn cut(&mut self, cuts: Result<Result<Vec<String>, SourceError>, JoinError>) {
        let Some((_, others)) = self.cutting.take() else { return };
        let cuts = match alive(cuts) {
            Some(Ok(cuts)) => cuts,
            Some(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "no place to cut the shard at was found");
                return;
            }
            None => return,
        };
        if !self.lists_on() || !self.leave(cuts) {
            self.leave_of_queue(others);
        }
    }

    /// Leaves others what is listed and not begun, in pieces of as many objects each; none that we would be done with in no
    /// time.
    fn leave_of_queue(&mut self, others: u32) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let each = self.began.elapsed().as_secs_f64() / self.begun.saturating_sub(self.tasks.len()).max(1) as f64;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let left = each * self.queue.len() as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
        let worth = (left / WORTH_LEAVING.as_secs_f64()) as usize;
        let pieces = (others as usize + 1).min(worth).min(self.queue.len());
        if pieces < 2 {
            return;
        }
        let firsts = self.queue.iter().step_by(self.queue.len().div_ceil(pieces)).skip(1);
        let mut cuts: Vec<String> = firsts.filter_map(|item| item.after.key().map(str::to_owned)).collect();
        cuts.dedup();
        self.leave(cuts);
    }

    /// Cuts the shard at those places that are not begun yet; says whether there are any.
    fn leave(&mut self, mut cuts: Vec<String>) -> bool {
        // Nor is anything cut off that earlier holders put intents down for: those lie with this shard.
        let begun_to = self.begun_to.clone();
        let begun = self.tools.left_intents.last_key().max(begun_to.key());
        cuts.retain(|cut| begun.is_some_and(|begun| begun < cut.as_str()));
        let Some(first) = cuts.first().filter(|_| self.ending.is_none()) else { return false };
        self.begins_before = Some(first.clone());
        let (tools, lease) = (Arc::clone(&self.tools), Arc::clone(&self.lease));
        let split = async move {
            let mut lease = lease.lock().await;
            let at = Cuts { at: &cuts, begun_to: &begun_to, intents: false };
            let signal = tools.ledger.split(&mut lease, at).await?;
            tracing::debug!(shard = %lease.shard(), pieces = cuts.len(), "left to others");
            Ok(signal)
        };
        self.splitting = Some(tokio::spawn(split.in_current_span()));
        true
    }

    /// A source knows nothing of a split since it was opened, and what it gave may lie behind the new end.
    fn split(&mut self, split: Result<Result<Signal, LedgerError>, JoinError>) {
        (self.splitting, self.begins_before) = (None, None);
        match alive(split) {
            Some(Ok(signal)) => {
                self.range.end.clone_from(&signal.end);
                let ours = |item: &Item| item.after.key().is_some_and(|key| self.range.contains(key));
                while self.queue.back().is_some_and(|item| !ours(item)) {
                    self.queue.pop_back();
                    self.source_through = true;
                }
                self.obey(&signal);
            }
            // Nothing was cut; whatever else is wrong shows with the next commit.
            Some(Err(LedgerError::Refused(Refusal::BadSplit))) | None => {}
            Some(Err(error)) => self.ending = Some(SliceEnd::Lost(error)),
        }
    }

    /// Begins with as many items as there is room for: one window, and enough behind it that nobody waits while the
    /// window's last objects are slow. More would only be rows that wait in memory.
    fn fill(&mut self) {
        let window = self.tools.limits.window_rows;
        let room = window + window.min(2 * self.tools.limits.tasks);
        let tasks = self.tools.limits.tasks.min(self.tools.permits.enough_tasks());
        while self.ending.is_none() && self.tasks.len() < tasks && self.water.len() < room {
            let end = self.begins_before.as_deref();
            let ours = |item: &mut Item| end.is_none_or(|end| item.after.key().is_some_and(|key| key < end));
            let Some(item) = self.queue.pop_front_if(ours) else { return };
            self.begun_to.clone_from(&item.after);
            self.begun += 1;
            if self.water.is_empty() {
                self.window_since = Instant::now();
            }
            let ordinal = self.water.begin(item.after);
            if matches!(item.task, Task::Agrees) {
                self.tools.meter.agrees();
                self.water.settle(ordinal, Done { settled: None, replaced: Counts::default() });
                continue;
            }
            let at_once = settle_listed(&self.tools, &item.task).or_else(|| set_aside(&self.tools, &item.task));
            if let Some(done) = at_once {
                self.judge_denials(&done);
                self.water.settle(ordinal, done);
                continue;
            }
            let (tools, in_doubt) = (Arc::clone(&self.tools), ordinal.0 < self.doubted);
            let object = async move {
                // Boxed: each wrapper of a future is larger than two of what it wraps, and hundreds of these wait.
                let work = Box::pin(work(&tools, item.task, in_doubt));
                (ordinal, trace::object(tools.bounds(work)).await)
            };
            self.tasks.spawn(object.in_current_span());
        }
    }

    fn settle(&mut self, joined: Result<(Ordinal, Result<Done, Unfinished>), JoinError>) {
        match alive(joined) {
            Some((ordinal, Ok(done))) => {
                self.judge_denials(&done);
                self.water.settle(ordinal, done);
            }
            Some((_, Err(Unfinished::Halted(halt, made)))) => {
                self.made.extend(made.map(|intent| *intent));
                self.end_with(halt.into());
            }
            Some((_, Err(Unfinished::NotItsTurn))) => {}
            Some((_, Err(Unfinished::Report(error)))) => self.end_with(SliceEnd::Report(error)),
            Some((_, Err(Unfinished::Lost(error)))) => self.end_with(SliceEnd::Lost(error)),
            None => {}
        }
    }

    /// Counts denied objects until one is not: then denials are about objects.
    fn judge_denials(&mut self, done: &Done) {
        let Some(count) = &mut self.denied else { return };
        match &done.settled {
            Some(Settled::Row(row)) if row.outcome == Outcome::Failed(FailReason::Denied) => *count += 1,
            _ => self.denied = None,
        }
        if self.denied.is_some_and(|count| count >= ALL_DENIED) {
            let detail = format!("the store denied access to the first {ALL_DENIED} objects");
            self.end_with(SliceEnd::Halted(Halt::Pause { reason: PauseReason::Denied, detail }));
        }
    }

    /// The first reason to end stands; a halt stands before a mere stop.
    fn end_with(&mut self, end: SliceEnd) {
        if self.ending.as_ref().is_none_or(|now| matches!(now, SliceEnd::Stopped)) {
            self.ending = Some(end);
        }
    }

    /// Begins to close a window when one is due and none is being closed.
    fn close_window(&mut self) {
        let limits = &self.tools.limits;
        let idle = self.tasks.is_empty() && self.queue.is_empty();
        let through = self.source_through && idle && self.ending.is_none();
        let last = through && self.water.ready() == self.water.len() && self.water.len() <= limits.window_rows;
        let drained = self.tasks.is_empty() && (self.ending.is_some() || through);
        let full = self.water.ready() >= limits.window_rows;
        let aged = self.window_since.elapsed() >= limits.window_time;
        let due = self.water.ready() > 0 && (full || aged || drained) || last && !self.closed_last;
        if !due || self.withholds_rows(through) {
            return;
        }
        let Some(books) = self.books.take() else { return };
        let done = self.water.take(limits.window_rows);
        let to = done.last().filter(|_| !last).map_or_else(|| self.range.end_position(), |(to, _)| to.clone());
        self.closed_last = last;
        self.closing_leaves_key = to.key() != self.begun_in.as_deref();
        self.window_since = Instant::now();
        let rows = done.len();
        let (tools, lease) = (Arc::clone(&self.tools), Arc::clone(&self.lease));
        let close = async move { Arc::clone(&tools).bounds(window::close(tools, lease, books, to, done, last)).await };
        self.closing = Some(tokio::spawn(close.instrument(trace::window(rows))));
    }

    /// Rows of a job that is denied everything are not kept, for they say nothing about the objects; and until it is
    /// known whether it is, they wait.
    fn withholds_rows(&self, through: bool) -> bool {
        !through && self.denied.is_some_and(|count| count > 0)
    }

    /// What was written and can't be committed, since an object before it has no outcome, is put down for the next
    /// holder: what it finds as it was written keeps its row.
    async fn put_down(&mut self, end: &SliceEnd) {
        self.made.extend(window::made(&self.water.take_known()));
        if matches!(end, SliceEnd::Lost(_)) {
            return;
        }
        let records = self.made.drain(..).map(|intent| self.tools.gate.record(intent));
        let failed = futures::future::join_all(records).await.into_iter().find_map(Result::err);
        if let Some(error) = failed {
            tracing::warn!(error = &error as &dyn std::error::Error, "what was written will be found `current`");
        }
    }

    fn closed(&mut self, closed: Result<Result<Closed, Broken>, JoinError>) {
        self.closing = None;
        match alive(closed) {
            Some(Ok(closed)) => {
                self.books = Some(closed.books);
                self.committed |= self.closing_leaves_key;
                self.obey(&closed.signal);
            }
            Some(Err(broken)) => {
                self.made.extend(broken.made);
                self.ending = Some(broken.end);
            }
            None => {}
        }
    }

    fn renew(&mut self) {
        self.renew_at = Instant::now() + self.tools.limits.lease_time / 3;
        let (tools, lease, got_on) = (Arc::clone(&self.tools), Arc::clone(&self.lease), self.got_on);
        let renew = async move {
            let mut lease = lease.lock().await;
            if got_on {
                lease.note_progress();
            }
            let mut signal = tools.ledger.renew(&mut lease).await?;
            tools.deadline.extend(lease.deadline());
            drop(lease);
            match tools.allotment.renew(&signal.limits).await {
                Ok(true) => {}
                Ok(false) => signal.asked = Some(Asked::Yield),
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the job's limits stay as they were");
                }
            }
            Ok(signal)
        };
        self.renewing = Some(tokio::spawn(renew.in_current_span()));
    }

    /// The first part that is added to an upload is told at once: a worker that dies before its next renewal would
    /// else be charged for it. Of a lease one is enough.
    fn got_on(&mut self) {
        self.got_on = true;
        self.renew();
    }

    fn renewed(&mut self, renewed: Result<Result<Signal, LedgerError>, JoinError>) {
        self.renewing = None;
        match alive(renewed) {
            Some(Ok(signal)) => self.obey(&signal),
            Some(Err(error)) => self.ending = Some(SliceEnd::Lost(error)),
            None => {}
        }
    }

    /// The answer to a commit or renewal says whether the job still wants this work.
    fn obey(&mut self, signal: &Signal) {
        if signal.must_stop || signal.asked == Some(Asked::Yield) {
            self.end_with(SliceEnd::Stopped);
        }
        if let Some(Asked::Split(others)) = signal.asked {
            self.wanted = Some(others);
        }
    }

    /// Whether there is something that the next window will commit. Without books there is none: the last one broke.
    fn may_commit_more(&self) -> bool {
        self.water.ready() > 0 && self.books.is_some() && !self.withholds_rows(false)
    }

    fn over(&mut self) -> Option<SliceEnd> {
        if self.closing.is_some() {
            return None;
        }
        match &self.ending {
            Some(SliceEnd::Lost(_)) => self.ending.take(),
            // What is in flight comes to its end: each call is bounded, and what it wrote wants to be known.
            Some(_) if self.tasks.is_empty() && !self.may_commit_more() => self.ending.take(),
            None if self.closed_last => Some(SliceEnd::Through),
            _ => None,
        }
    }
}

/// Some keys of a page, in order, the first and the last among them.
fn some_keys(page: &[Item]) -> Vec<String> {
    let step = page.len().div_ceil(SEEN).max(1);
    let some = page.iter().step_by(step).chain(page.last());
    let mut keys: Vec<String> = some.filter_map(|item| item.after.key().map(str::to_owned)).collect();
    keys.dedup();
    keys
}

/// What a task gave; `None` when it was aborted. A panic goes on here: it is a bug, and hiding it would lose a row.
fn alive<T>(joined: Result<T, JoinError>) -> Option<T> {
    match joined {
        Ok(value) => Some(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}
