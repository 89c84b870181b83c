//! Taking tickets: never more than there are free slots, urgent ones first, nothing kept waiting in a buffer.
//!
//! Tickets that wait are fetched one by one, for a slot that is free, from the urgent queues first. Only where all
//! queues are empty the consumer subscribes, to hear of the next ticket at once, with a prefetch of one: quorum queues
//! know no limit over several queues, so subscriptions to two queues with a prefetch of `slots` would bring up to twice
//! as many tickets as slots, and what came too much would wait here while other workers are idle. What two queues bring
//! in the same moment for one slot goes back once; it can't happen again before this slot is free.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use lapin::Acker;
use lapin::Channel;
use lapin::message::Delivery as Message;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::config::RabbitConfig;
use super::link::{Current, Link, answer, silent};
use super::settle::{self, Held};
use super::{letter, runtime, topology};
use crate::{Consumer, Delivery, QueueError, Route};

/// Tickets of one subscription: one queue's worth.
const PREFETCH: u16 = 1;
/// A wait that is given up this long ends its subscriptions. Shorter than that it is a caller's `select!`.
const UNWANTED: Duration = Duration::from_millis(100);
/// Between tries to take up work again on a connection that stands but refuses, as where a permission is missing.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);

/// Takes tickets of some queues.
pub(super) struct RabbitConsumer {
    tickets: mpsc::Receiver<(Delivery, Acker)>,
    want: watch::Sender<Want>,
    closed_within: Duration,
    fetcher: AbortHandle,
}

/// The part that lives beside it, on lapin's runtime.
struct Fetcher {
    link: Arc<Link>,
    config: Arc<RabbitConfig>,
    graves: settle::Graves,
    stores: Vec<String>,
    hand: Arc<Semaphore>,
    want: watch::Receiver<Want>,
    tickets: mpsc::Sender<(Delivery, Acker)>,
    /// Which store is looked at first: each in its turn.
    turn: usize,
}

/// What the worker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Nothing,
    Ticket,
    /// Never a ticket again.
    Close,
}

/// A delivery and the queue that it lay in.
struct Taken {
    queue: String,
    message: Message,
}

type Messages = SelectAll<BoxStream<'static, (usize, Option<lapin::Result<Message>>)>>;

impl RabbitConsumer {
    pub(super) fn start(
        link: Arc<Link>,
        config: Arc<RabbitConfig>,
        graves: settle::Graves,
        slots: usize,
        stores: Vec<String>,
    ) -> Result<Self, QueueError> {
        let (want, watched) = watch::channel(Want::Nothing);
        let closed_within = config.limits.answer;
        let (sender, tickets) = mpsc::channel(slots.max(1));
        let hand = Arc::new(Semaphore::new(slots));
        let fetcher = Fetcher { link, config, graves, stores, hand, want: watched, tickets: sender, turn: 0 };
        let fetcher = runtime::handle()?.spawn(fetcher.run()).abort_handle();
        Ok(Self { tickets, want, closed_within, fetcher })
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        let _wanted = Wanted::new(&self.want);
        loop {
            match self.tickets.recv().await {
                // Its connection went while it lay here: it comes again.
                Some((_, acker)) if acker.poisoned() => {}
                other => return Ok(other.map(|(delivery, _)| delivery)),
            }
        }
    }

    async fn close(&mut self) -> Vec<Delivery> {
        self.want.send_replace(Want::Close);
        let mut rest = Vec::new();
        // A broker that is silent now has nothing more for us.
        while let Ok(Some((delivery, acker))) = timeout(self.closed_within, self.tickets.recv()).await {
            if !acker.poisoned() {
                rest.push(delivery);
            }
        }
        rest
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        // With its task goes its channel, and with that everything that is unsettled back to the queues.
        self.fetcher.abort();
    }
}

/// Somebody waits for a ticket as long as this lives.
struct Wanted<'a>(&'a watch::Sender<Want>);

impl<'a> Wanted<'a> {
    fn new(want: &'a watch::Sender<Want>) -> Self {
        want.send_replace(Want::Ticket);
        Self(want)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.send_replace(Want::Nothing);
    }
}

impl Fetcher {
    async fn run(mut self) {
        let channel = loop {
            let current = tokio::select! {
                current = self.link.current() => current,
                () = closed(self.want.clone()) => return,
            };
            match self.serve(&current).await {
                Ok(channel) => break channel,
                Err(error) if current.is_up() => {
                    let told = "taking tickets was interrupted; it is taken up again";
                    tracing::warn!(error = &error as &dyn std::error::Error, "{told}");
                    sleep(self.link.jitter(REFUSED_PAUSE)).await;
                }
                Err(_) => {}
            }
        };
        drop(self.tickets);
        // What is in the worker's hand can be settled for as long as its channel is open.
        std::future::pending::<()>().await;
        drop(channel);
    }

    /// Fetches until something goes wrong, or until no ticket is wanted ever again.
    async fn serve(&mut self, current: &Current) -> Result<Channel, QueueError> {
        let limit = self.config.limits.answer;
        let channel = current.channel(limit).await?;
        let qos = BasicQosOptions { global: false };
        answer(limit, channel.basic_qos(PREFETCH, qos)).await?;
        topology::declare_dead(&channel, &self.config.names, limit).await?;
        for queue in self.queues() {
            topology::declare_tickets(&channel, &self.config.names, &queue, limit).await?;
        }
        loop {
            let served = self.fetch_one(&channel).await;
            if served.is_err() && !self.answers(current).await {
                self.link.give_up(current);
            }
            if !served? {
                return Ok(channel);
            }
        }
    }

    /// Whether the connection is worth keeping after an error: a new channel can be opened on it.
    async fn answers(&self, current: &Current) -> bool {
        current.is_up() && current.channel(self.config.limits.answer).await.is_ok()
    }

    /// Fetches for one slot, once it is free and somebody waits. `false`: nobody will ever again.
    async fn fetch_one(&mut self, channel: &Channel) -> Result<bool, QueueError> {
        let Some(permit) = self.free_slot(channel).await? else { return Ok(false) };
        let mut first = self.pull(channel).await?.into_iter().collect::<Vec<_>>();
        if first.is_empty() {
            first = self.listen(channel).await?;
        }
        let mut permit = Some(permit);
        for taken in first {
            match permit.take().or_else(|| Arc::clone(&self.hand).try_acquire_owned().ok()) {
                Some(permit) => self.hand_over(taken, permit),
                None => give_back(&taken.message, self.config.limits.answer).await?,
            }
        }
        Ok(true)
    }

    /// Waits for a free slot and for somebody who wants a ticket; asks now and then whether the broker still lives.
    async fn free_slot(&mut self, channel: &Channel) -> Result<Option<OwnedSemaphorePermit>, QueueError> {
        loop {
            let closed = closed(self.want.clone());
            let both = async {
                let permit = Arc::clone(&self.hand).acquire_owned().await.ok()?;
                self.want.wait_for(|want| *want == Want::Ticket).await.ok()?;
                Some(permit)
            };
            tokio::select! {
                biased;
                () = closed => return Ok(None),
                permit = both => return Ok(permit),
                () = sleep(self.config.limits.probe_every) => {}
            }
            self.probe(channel).await?;
        }
    }

    /// The ticket that waits longest, urgent ones first.
    async fn pull(&mut self, channel: &Channel) -> Result<Option<Taken>, QueueError> {
        self.turn = self.turn.wrapping_add(1);
        for queue in self.queues() {
            let got = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: false });
            if let Some(got) = answer(self.config.limits.answer, got).await? {
                return Ok(Some(Taken { queue, message: got.delivery }));
            }
        }
        Ok(None)
    }

    /// Subscribes until a ticket comes or nobody wants one any more. Several come where several queues rang at once,
    /// in the order in which they are wanted.
    async fn listen(&mut self, channel: &Channel) -> Result<Vec<Taken>, QueueError> {
        let (queues, limit) = (self.queues(), self.config.limits.answer);
        let (mut messages, mut tags) = (Messages::new(), Vec::new());
        for (rank, queue) in queues.iter().enumerate() {
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let subscribed = channel.basic_consume(queue.as_str().into(), ShortString::default(), options, arguments);
            let consumer = answer(limit, subscribed).await?;
            tags.push(consumer.tag());
            let ended = stream::once(std::future::ready((rank, None)));
            messages.push(consumer.map(move |message| (rank, Some(message))).chain(ended).boxed());
        }
        let mut taken = Vec::new();
        taken.extend(self.first(channel, &mut messages).await?);
        for tag in tags {
            answer(limit, channel.basic_cancel(tag, BasicCancelOptions::default())).await?;
        }
        // After a cancellation each stream ends, behind what was on its way.
        while let Some((rank, message)) = timeout(limit, messages.next()).await.map_err(|_| silent(limit))? {
            if let Some(message) = message {
                taken.push((rank, message.map_err(broken)?));
            }
        }
        taken.sort_by_key(|(rank, _)| *rank);
        Ok(taken.into_iter().map(|(rank, message)| Taken { queue: queues[rank].clone(), message }).collect())
    }

    /// The first message of a subscription; `None` when nobody waits for it any more.
    async fn first(
        &mut self,
        channel: &Channel,
        messages: &mut Messages,
    ) -> Result<Option<(usize, Message)>, QueueError> {
        let probe_every = self.config.limits.probe_every;
        loop {
            tokio::select! {
                message = messages.next() => return match message {
                    Some((rank, Some(message))) => Ok(Some((rank, message.map_err(broken)?))),
                    _ => Err(QueueError::Unavailable("the broker ended the subscription: was the queue deleted?".into())),
                },
                () = unwanted(self.want.clone()) => return Ok(None),
                () = sleep(probe_every) => self.probe(channel).await?,
            }
        }
    }

    /// Proves that the broker answers and that our queues stand.
    async fn probe(&self, channel: &Channel) -> Result<(), QueueError> {
        for queue in self.queues() {
            topology::look_for(channel, &queue, self.config.limits.answer).await?;
        }
        Ok(())
    }

    /// To the worker, or to the dead letters what is no ticket.
    fn hand_over(&self, taken: Taken, permit: OwnedSemaphorePermit) {
        let Taken { queue, message } = taken;
        let ticket = letter::read(&message.data, &message.properties);
        let (redelivered, acker) = (message.redelivered, message.acker.clone());
        let held = Held::new(message, queue, permit, self.graves.clone());
        match ticket {
            // There is room: it was made for as many as there are permits. Else it goes back with `held`.
            Ok(ticket) => drop(self.tickets.try_send((Delivery::new(ticket, redelivered, Box::new(held)), acker))),
            Err(reason) => {
                tracing::warn!(reason, "a message is no ticket: it goes to the dead letters");
                tokio::spawn(held.bury(reason).map(drop));
            }
        }
    }

    /// In the order in which they are looked at: urgent ones first, stores in turn.
    fn queues(&self) -> Vec<String> {
        let stores = (0..self.stores.len()).map(|n| &self.stores[(n + self.turn) % self.stores.len()]);
        let of = |urgent| {
            let routes = stores.clone().map(move |store| Route { store: store.clone(), urgent });
            routes.map(|route| self.config.names.tickets(&route)).collect::<Vec<_>>()
        };
        [of(true), of(false)].concat()
    }
}

/// Comes back when nobody has waited for a ticket for a while, or will ever again.
async fn unwanted(mut want: watch::Receiver<Want>) {
    loop {
        if !matches!(want.wait_for(|want| *want != Want::Ticket).await.as_deref(), Ok(Want::Nothing)) {
            return;
        }
        let more = timeout(UNWANTED, want.wait_for(|want| *want != Want::Nothing)).await;
        if !matches!(more.as_ref().map(|more| more.as_deref()), Ok(Ok(Want::Ticket))) {
            return;
        }
    }
}

/// Comes back when nobody will ever wait for a ticket again.
async fn closed(mut want: watch::Receiver<Want>) {
    // An error means that the consumer is gone.
    let _ = want.wait_for(|want| *want == Want::Close).await;
}

async fn give_back(message: &Message, limit: Duration) -> Result<(), QueueError> {
    let options = BasicNackOptions { multiple: false, requeue: true };
    answer(limit, message.acker.nack(options)).await.map(drop)
}

fn broken(error: lapin::Error) -> QueueError {
    QueueError::Unavailable(Box::new(error))
}
