//! Intents of a slice: put down before the writes that they speak of, many in one file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keyrotate_checkpoint::record::ShardRecord;
use keyrotate_env::Safeguard;
use keyrotate_proto::id::{Epoch, ShardRef};
use keyrotate_proto::intent::Intent;
use keyrotate_report::intents::{INTENTS_VERSION, IntentsHeader, encode, list_for_shard, read};
use keyrotate_report::{ReportError, ReportStore};
use tokio::sync::{mpsc, oneshot};

/// Intents in one file at most.
const BATCH: usize = 500;

/// So long the first of a file waits for others: a file costs a sync of the disk, or a PUT.
const LINGER: Duration = Duration::from_millis(5);

type Waiting = (Intent, oneshot::Sender<Result<(), Arc<ReportError>>>);

/// Where a write waits until its intent is stored. Cheap to clone; the writer ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct IntentGate {
    waiting: mpsc::Sender<Waiting>,
}

impl IntentGate {
    /// A gate for the slices of one lease.
    pub(crate) fn open(reports: Arc<dyn ReportStore>, shard: ShardRef, epoch: Epoch) -> Self {
        let (waiting, mut arrivals) = mpsc::channel::<Waiting>(BATCH);
        tokio::spawn(async move {
            let mut header = IntentsHeader { version: INTENTS_VERSION, shard, epoch, number: 0 };
            let mut batch = Vec::with_capacity(BATCH);
            while let Some(first) = arrivals.recv().await {
                batch.push(first);
                tokio::time::sleep(LINGER).await;
                batch.extend(std::iter::from_fn(|| arrivals.try_recv().ok()).take(BATCH - 1));
                let (intents, waiters): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
                let stored = store(reports.as_ref(), &header, &intents).await.map_err(Arc::new);
                header.number += 1;
                for waiter in waiters {
                    let _gone = waiter.send(stored.clone());
                }
            }
        });
        Self { waiting }
    }

    /// Comes back once the intent is stored.
    pub(crate) async fn record(&self, intent: Intent) -> Result<(), ReportError> {
        if !Safeguard::Intents.stands() {
            return Ok(());
        }
        let (sender, stored) = oneshot::channel();
        let closed = || ReportError::damaged("intents", "their writer has ended");
        self.waiting.send((intent, sender)).await.map_err(|_| closed())?;
        match stored.await.map_err(|_| closed())? {
            Ok(()) => Ok(()),
            Err(error) => Err(ReportError::damaged("intents", error)),
        }
    }
}

/// Intents of earlier leases for entries that the cursor has not passed; of several for one entry the newest.
#[derive(Debug, Default)]
pub(crate) struct LeftIntents(HashMap<String, Vec<Intent>>);

impl LeftIntents {
    /// Those of a key.
    pub(crate) fn of(&self, key: &str) -> &[Intent] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The one for an entry.
    pub(crate) fn at(&self, key: &str, version: Option<&String>) -> Option<&Intent> {
        self.of(key).iter().find(|intent| intent.version.as_ref() == version)
    }

    /// The last key that they speak of.
    pub(crate) fn last_key(&self) -> Option<&str> {
        self.0.keys().map(String::as_str).max()
    }

    fn add(&mut self, intent: Intent) {
        let of_key = self.0.entry(intent.key.clone()).or_default();
        of_key.retain(|older| older.version != intent.version);
        of_key.push(intent);
    }
}

/// What earlier holders of a shard, and of those that it was cut from, put down and may or may not have written. Listed before
/// the first write.
pub(crate) async fn left(reports: &dyn ReportStore, shard: &ShardRecord) -> Result<LeftIntents, ReportError> {
    let mut left = LeftIntents::default();
    let ahead = |intent: &Intent| {
        let key = intent.key.as_str();
        shard.range.contains(key) && shard.cursor.key().is_some_and(|at| key >= at)
    };
    for from in shard.cut_from.iter().chain([&shard.shard.shard]) {
        let from = ShardRef { shard: *from, ..shard.shard.clone() };
        for name in list_for_shard(reports, &from).await? {
            let (_, intents) = read::<Intent>(reports, &name).await?;
            intents.into_iter().filter(ahead).for_each(|intent| left.add(intent));
        }
    }
    Ok(left)
}

async fn store(reports: &dyn ReportStore, header: &IntentsHeader, intents: &[Intent]) -> Result<(), ReportError> {
    reports.put_new(&header.name(), encode(header, intents)?).await
}
