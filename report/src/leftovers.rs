//! Uploads of a job that nobody ended: found from its intents, and the list of them that its report shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyrotate_proto::id::ShardRef;
use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::{Outcome, Strategy};
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::row::Row;

use crate::chain::ShardParts;
use crate::rows::PassRows;
use crate::{ReportError, ReportStore, intents};

/// Keys of one shard that are held against its rows at a time: more than lie between the first and the last that a
/// slice works on at once, so that those in front are settled.
const KEYS: usize = 16_384;

const NAME: &str = "leftover-uploads.json";

/// Key and upload id.
pub type Named = (String, String);

/// Writes the list, in the place of an earlier one.
///
/// # Errors
/// When the store can't be written.
pub async fn write(store: &dyn ReportStore, left: &BTreeSet<Named>) -> Result<(), ReportError> {
    let bytes = serde_json::to_vec(left).map_err(|e| ReportError::damaged(NAME, e))?;
    store.put(NAME, bytes).await
}

/// The list; an empty one where none was written.
///
/// # Errors
/// When the store can't be read, or the list is damaged.
pub async fn read(store: &dyn ReportStore) -> Result<Vec<Named>, ReportError> {
    match store.get(NAME).await {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| ReportError::damaged(NAME, e)),
        Err(ReportError::NotFound(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Uploads of a job's intents that no row says were completed.
#[derive(Debug, Default)]
pub struct Unended {
    /// Ours, by key and upload id.
    pub ours: BTreeSet<Named>,
    /// Keys on which one of ours may be open whose id was never put down.
    pub unnamed: BTreeSet<String>,
}

/// What intents say about one key.
#[derive(Debug, Default)]
struct Attempts {
    begun: usize,
    ids: BTreeSet<String>,
}

/// Adds what one shard's intents name. They come nearly in the order of the keys, and so do the rows: both are read
/// once, side by side.
///
/// # Errors
/// When the store can't be read, or something in it is damaged.
pub async fn collect(
    reports: &Arc<dyn ReportStore>,
    shard: &ShardRef,
    parts: ShardParts,
    unended: &mut Unended,
) -> Result<(), ReportError> {
    let whole = KeyRange { start: String::new(), end: None };
    let mut rows = Rows { rows: PassRows::open(Arc::clone(reports), vec![parts], whole), next: None };
    let mut keys = BTreeMap::<String, Attempts>::new();
    for name in intents::list_for_shard(reports.as_ref(), shard).await? {
        let (_, named) = intents::read::<Intent>(reports.as_ref(), &name).await?;
        let uploads = |intent: &Intent| intent.strategy.uploads() && intent.made.is_none();
        for intent in named.into_iter().filter(uploads) {
            let attempts = keys.entry(intent.key).or_default();
            match intent.upload {
                Some(id) => attempts.ids.extend([id]),
                None => attempts.begun += 1,
            }
        }
        if keys.len() > KEYS {
            let behind = keys.keys().nth(KEYS / 2).cloned().unwrap_or_default();
            let later = keys.split_off(&behind);
            settle(std::mem::replace(&mut keys, later), &mut rows, unended).await?;
        }
    }
    settle(keys, &mut rows, unended).await
}

async fn settle(keys: BTreeMap<String, Attempts>, rows: &mut Rows, unended: &mut Unended) -> Result<(), ReportError> {
    for (key, attempts) in keys {
        let once = attempts.begun.max(attempts.ids.len()) == 1;
        if once && rows.say_completed(&key).await? {
            continue;
        }
        if attempts.begun > attempts.ids.len() {
            unended.unnamed.insert(key.clone());
        }
        unended.ours.extend(attempts.ids.into_iter().map(|id| (key.clone(), id)));
    }
    Ok(())
}

/// The rows of a shard, asked about keys in order.
struct Rows {
    rows: PassRows,
    next: Option<Row>,
}

impl Rows {
    /// Whether a row says that an upload on this key was completed.
    async fn say_completed(&mut self, key: &str) -> Result<bool, ReportError> {
        let mut completed = false;
        loop {
            if self.next.is_none() {
                self.next = self.rows.next().await?;
            }
            let Some(row) = self.next.take_if(|row| row.key.as_str() <= key) else { return Ok(completed) };
            completed |= row.key == key
                && matches!(row.outcome, Outcome::Rotated(_))
                && row.strategy.is_some_and(Strategy::uploads);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;

    #[tokio::test]
    async fn a_list_is_read_back_and_a_damaged_one_is_not_taken_for_an_empty_one() {
        let store = store();
        assert_eq!(read(&*store).await.unwrap(), []);
        let left = BTreeSet::from([("k".to_owned(), "u".to_owned())]);
        write(&*store, &left).await.unwrap();
        assert_eq!(read(&*store).await.unwrap(), Vec::from_iter(left));
        store.put(NAME, b"[[\"k\"".to_vec()).await.unwrap();
        assert!(matches!(read(&*store).await, Err(ReportError::Damaged { .. })));
    }
}
