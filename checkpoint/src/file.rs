//! Records in an embedded database file, for one process at a time.
//!
//! Every swap is on the disk before its answer. Swaps that wait at the same time share one transaction, and so one
//! sync: that is what the time goes into.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyrotate_env::Env;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError, WriteTransaction,
};
use tokio::sync::oneshot;

use crate::backend::{
    Backend, BackendError, Bell, Cause, Listed, RecordKey, Revision, Ringer, Snapshot, Stored, Swap, SwapAnswer,
};

/// Revision and value by name.
const RECORDS: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("records");
/// Our own numbers by name.
const NUMBERS: TableDefinition<'static, &str, u64> = TableDefinition::new("numbers");
/// The revision given last.
const LAST_REVISION: &str = "last-revision";
/// Milliseconds since 1970 at the last swap: time never goes back, not even over a restart.
const LAST_TIME: &str = "last-time";
/// Drawn when the file was made: nothing in it is ever lost, so that it is one run from then on.
const RUN: &str = "run";
/// Memory for the database's pages; what a job needs again and again is a few records.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Records in a file.
pub struct FileBackend {
    shared: Arc<Shared>,
    /// Whoever holds it commits for all that wait.
    turn: tokio::sync::Mutex<()>,
    run_id: String,
    ringer: Ringer,
}

struct Shared {
    database: Database,
    clock: Clock,
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    swap: Swap,
    answer: oneshot::Sender<Result<SwapAnswer, BackendError>>,
}

/// Goes on from the wall clock at the start, or from the last swap's time if that is later, by a clock that never
/// jumps and counts suspend.
struct Clock {
    env: Env,
    start: Timestamp,
    origin: Duration,
}

impl Clock {
    fn now(&self) -> Timestamp {
        self.start.checked_add(self.env.boottime().saturating_sub(self.origin)).unwrap_or(Timestamp::MAX)
    }
}

impl FileBackend {
    /// Opens the file, or makes it. Only one process may have it open.
    ///
    /// # Errors
    /// [`BackendError::InUse`] when another process has it open, [`BackendError::Damaged`] when it can't be read.
    pub async fn open(path: &Path, env: Env) -> Result<Self, BackendError> {
        let path = path.to_owned();
        blocking(move || Self::open_blocking(&path, env)).await?
    }

    fn open_blocking(path: &Path, env: Env) -> Result<Self, BackendError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => BackendError::InUse(path.display().to_string()),
            other => BackendError::Damaged(other.into()),
        })?;
        let (last, run) = prepare(&database, &env).map_err(BackendError::Damaged)?;
        let start = Timestamp::from_millisecond(i64::try_from(last).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH);
        let clock = Clock { start: env.now().max(start), origin: env.boottime(), env };
        let run_id = format!("{run:016x}");
        let shared = Shared { database, clock, waiting: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), turn: tokio::sync::Mutex::new(()), run_id, ringer: Ringer::default() })
    }
}

#[async_trait]
impl Backend for FileBackend {
    async fn run_id(&self) -> Result<String, BackendError> {
        Ok(self.run_id.clone())
    }

    async fn read(&self, keys: &[RecordKey]) -> Result<Snapshot, BackendError> {
        let (shared, keys) = (Arc::clone(&self.shared), keys.to_vec());
        let (now, records) = blocking(move || shared.read(&keys).map_err(BackendError::Unavailable)).await??;
        Ok(Snapshot { now, run: self.run_id.clone(), records })
    }

    async fn swap(&self, swap: Swap) -> Result<SwapAnswer, BackendError> {
        if swap.run.as_ref().is_some_and(|run| *run != self.run_id) {
            return Ok(SwapAnswer::Conflict);
        }
        let ring = swap.ring;
        let (sender, answer) = oneshot::channel();
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { swap, answer: sender });
        let turn = self.turn.lock().await;
        // Whoever had the turn before may have taken ours along.
        let batch = std::mem::take(&mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if !batch.is_empty() {
            let shared = Arc::clone(&self.shared);
            blocking(move || shared.commit(batch)).await?;
        }
        drop(turn);
        let answer = answer.await.unwrap_or_else(|gone| Err(BackendError::Unknown(gone.into())));
        if ring && matches!(answer, Ok(SwapAnswer::Done { .. })) {
            self.ringer.ring();
        }
        answer
    }

    async fn scan(&self, prefix: &str, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Listed>, BackendError> {
        let (shared, prefix, after) = (Arc::clone(&self.shared), prefix.to_owned(), after.cloned());
        blocking(move || shared.scan(&prefix, after.as_ref(), limit).map_err(BackendError::Unavailable)).await?
    }

    fn bell(&self) -> Bell {
        self.ringer.bell()
    }
}

impl Shared {
    fn read(&self, keys: &[RecordKey]) -> Result<(Timestamp, Vec<Option<Stored>>), Cause> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        let mut records = Vec::with_capacity(keys.len());
        for key in keys {
            records.push(table.get(key.as_str())?.map(|guard| stored(guard.value())));
        }
        Ok((self.clock.now(), records))
    }

    fn scan(&self, prefix: &str, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Listed>, Cause> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        let from = after.map_or(prefix, |after| prefix.max(after.as_str()));
        let mut listed = Vec::new();
        for entry in table.range(from..)? {
            let (key, value) = entry?;
            let key = RecordKey(key.value().to_owned());
            if !key.as_str().starts_with(prefix) || listed.len() == limit {
                break;
            }
            if after != Some(&key) {
                let Stored { revision, bytes } = stored(value.value());
                listed.push(Listed { key, revision, bytes });
            }
        }
        Ok(listed)
    }

    /// Does all swaps in one transaction, each seeing those before it, and answers them once it is on the disk.
    fn commit(&self, batch: Vec<Waiting>) {
        match self.try_commit(&batch) {
            Ok(answers) => {
                for (waiting, answer) in batch.into_iter().zip(answers) {
                    // Whoever asked may be gone.
                    let _ = waiting.answer.send(Ok(answer));
                }
            }
            Err(error) => {
                let text = error.to_string();
                for waiting in batch {
                    let _ = waiting.answer.send(Err(BackendError::Unknown(text.clone().into())));
                }
            }
        }
    }

    fn try_commit(&self, batch: &[Waiting]) -> Result<Vec<SwapAnswer>, Cause> {
        let transaction = self.database.begin_write()?;
        let mut answers = Vec::with_capacity(batch.len());
        let changed = {
            let mut numbers = transaction.open_table(NUMBERS)?;
            let first = numbers.get(LAST_REVISION)?.map_or(0, |guard| guard.value());
            let mut last = first;
            let mut records = transaction.open_table(RECORDS)?;
            for waiting in batch {
                answers.push(apply(&mut records, &mut last, &waiting.swap, self.clock.now())?);
            }
            if last != first {
                numbers.insert(LAST_REVISION, last)?;
                numbers.insert(LAST_TIME, u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0))?;
            }
            last != first
        };
        finish(transaction, changed)?;
        Ok(answers)
    }
}

fn finish(transaction: WriteTransaction, changed: bool) -> Result<(), Cause> {
    // redb's default durability: on the disk when `commit` returns.
    if changed {
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    Ok(())
}

fn apply(
    records: &mut Table<'_, &'static str, (u64, &'static [u8])>,
    last: &mut u64,
    swap: &Swap,
    now: Timestamp,
) -> Result<SwapAnswer, Cause> {
    if swap.not_after.is_some_and(|limit| now > limit) {
        return Ok(SwapAnswer::TooLate { now });
    }
    for (key, revision) in &swap.expect {
        let there = records.get(key.as_str())?.map(|guard| Revision(guard.value().0));
        if there != *revision {
            return Ok(SwapAnswer::Conflict);
        }
    }
    *last += 1;
    for (key, value) in &swap.writes {
        match value {
            Some(bytes) => drop(records.insert(key.as_str(), (*last, bytes.as_slice()))?),
            None => drop(records.remove(key.as_str())?),
        }
    }
    Ok(SwapAnswer::Done { now })
}

/// Makes the tables where they are missing; answers the time of the last swap and the number of the run.
fn prepare(database: &Database, env: &Env) -> Result<(u64, u64), Cause> {
    match database.begin_read()?.open_table(NUMBERS) {
        Ok(numbers) => {
            let number = |name| numbers.get(name).map(|there| there.map_or(0, |guard| guard.value()));
            return Ok((number(LAST_TIME)?, number(RUN)?));
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(other) => return Err(other.into()),
    }
    let run = env.random_u64();
    let transaction = database.begin_write()?;
    transaction.open_table(NUMBERS)?.insert(RUN, run)?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    Ok((0, run))
}

fn stored((revision, bytes): (u64, &[u8])) -> Stored {
    Stored { revision: Revision(revision), bytes: bytes.to_vec() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BackendError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BackendError::Unknown(error.into()))
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBackend").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
