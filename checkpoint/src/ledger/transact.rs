//! Read, decide, swap, and what to do when that does not go smoothly.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::kept::{Reread, reread, with_unknown};
use super::{Ledger, LedgerError};
use crate::backend::{BackendError, Listed, RecordKey, Revision, Snapshot, Stored, Swap, SwapAnswer};
use crate::record::{LeaderRecord, RECORD_VERSION, Record, leader_key};
use crate::transition::leader::Leading;
use crate::transition::{self, Refusal};

/// So often a swap may find that another came first.
const CONFLICTS: u32 = 100;
/// So often a call is sent to a back-end that does not answer: about 3 s in all.
const TRIES: u32 = 7;
/// Records per page of a listing.
const PAGE: usize = 500;

/// Records at one moment, typed.
pub(super) struct View {
    pub(super) now: Timestamp,
    /// The run of the back-end that showed them.
    pub(super) run: String,
    records: BTreeMap<RecordKey, Option<Stored>>,
}

impl View {
    pub(super) fn new(keys: &[RecordKey], snapshot: Snapshot) -> Self {
        // Records keep milliseconds: what is computed from this time must read back as it was.
        let now = Timestamp::from_millisecond(snapshot.now.as_millisecond()).unwrap_or(snapshot.now);
        Self { now, run: snapshot.run, records: keys.iter().cloned().zip(snapshot.records).collect() }
    }

    /// A record that may be missing.
    pub(super) fn find<T: Record>(&self, key: &RecordKey) -> Result<Option<T>, LedgerError> {
        self.records.get(key).and_then(Option::as_ref).map(|stored| decode(key, &stored.bytes)).transpose()
    }

    /// A record that must be there.
    pub(super) fn get<T: Record>(&self, key: &RecordKey) -> Result<T, LedgerError> {
        self.find(key)?.ok_or_else(|| LedgerError::Lost(key.clone()))
    }

    fn revision(&self, key: &RecordKey) -> Option<Revision> {
        self.records.get(key).and_then(Option::as_ref).map(|stored| stored.revision)
    }

    /// Whether each write stands as it was meant.
    fn shows(&self, writes: &[(RecordKey, Option<Vec<u8>>)]) -> bool {
        writes
            .iter()
            .all(|(key, bytes)| self.records.get(key).is_some_and(|r| r.as_ref().map(|r| &r.bytes) == bytes.as_ref()))
    }
}

/// What a transition wants to happen.
pub(super) struct Change<T> {
    pub(super) value: T,
    pub(super) not_after: Option<Timestamp>,
    pub(super) writes: Vec<(RecordKey, Option<Vec<u8>>)>,
    /// How the records that it writes are read here.
    pub(super) rereads: Vec<(RecordKey, Reread)>,
    /// Whether a coordinator shall hear of it at once.
    pub(super) rings: bool,
}

impl<T> Change<T> {
    /// Nothing is to be written.
    pub(super) fn none(value: T) -> Self {
        Self { value, not_after: None, writes: Vec::new(), rereads: Vec::new(), rings: true }
    }

    /// Of no interest to others.
    pub(super) fn quiet(mut self) -> Self {
        self.rings = false;
        self
    }

    pub(super) fn remove(mut self, key: &RecordKey) -> Self {
        self.writes.push((key.clone(), None));
        self
    }

    pub(super) fn write<R: Record>(mut self, key: &RecordKey, record: &R) -> Result<Self, LedgerError> {
        self.writes.push((key.clone(), Some(encode(key, record)?)));
        self.rereads.push((key.clone(), reread::<R>));
        Ok(self)
    }

    pub(super) fn not_after(mut self, time: Timestamp) -> Self {
        self.not_after = Some(time);
        self
    }

    /// Leaves in its records what another version of keyrotate put there.
    fn keep_unknown(&mut self, view: &View) {
        for (key, bytes) in &mut self.writes {
            let reread = self.rereads.iter().find(|(of, _)| of == key).map(|(_, reread)| *reread);
            let old = view.records.get(key).and_then(Option::as_ref);
            if let (Some(new), Some(reread), Some(old)) = (bytes.as_mut(), reread, old) {
                *new = with_unknown(&old.bytes, reread, std::mem::take(new));
            }
        }
    }
}

enum Swapped {
    Done,
    Conflict,
    TooLate,
    /// Nobody knows.
    Lost(BackendError),
}

impl Ledger {
    /// Reads `keys`, lets `decide` say what shall be written, and swaps against all that was read; a key that is
    /// written without having been read must not exist. `decide` is asked again after a conflict.
    pub(super) async fn transact<T: Send>(
        &self,
        keys: &[RecordKey],
        decide: impl Fn(&View) -> Result<Change<T>, LedgerError> + Send + Sync,
    ) -> Result<T, LedgerError> {
        let mut lost: Option<(Change<T>, u32)> = None;
        for round in 0..CONFLICTS {
            let mut asked = keys.to_vec();
            if let Some((change, _)) = &lost {
                asked.extend(change.writes.iter().map(|(key, _)| key.clone()));
            }
            asked.extend(self.leading.is_some().then(leader_key));
            let view = self.view(&asked).await?;
            let mut tries = 0;
            if let Some((change, t)) = lost.take() {
                if view.shows(&change.writes) {
                    return Ok(change.value);
                }
                tries = t;
            }
            let led_until = self.leading.as_ref().map(|leading| leads(leading, &view)).transpose()?;
            let mut change = decide(&view)?;
            change.not_after = [change.not_after, led_until].into_iter().flatten().min();
            change.keep_unknown(&view);
            if change.writes.is_empty() {
                return Ok(change.value);
            }
            match self.swap_once(keys, &view, &change).await? {
                Swapped::Done => return Ok(change.value),
                Swapped::TooLate => return Err(Refusal::Expired.into()),
                Swapped::Conflict => self.pause(round.min(4), Duration::from_millis(1)).await,
                Swapped::Lost(error) if tries + 1 >= TRIES => return Err(error.into()),
                Swapped::Lost(_) => {
                    self.pause(tries, Duration::from_millis(50)).await;
                    lost = Some((change, tries + 1));
                }
            }
        }
        Err(keys.first().map_or_else(|| Refusal::Superseded.into(), |key| LedgerError::Busy(key.clone())))
    }

    async fn swap_once<T>(&self, keys: &[RecordKey], view: &View, change: &Change<T>) -> Result<Swapped, LedgerError> {
        let mut expect: Vec<_> = keys.iter().map(|key| (key.clone(), view.revision(key))).collect();
        let new = change.writes.iter().map(|(key, _)| key).filter(|key| !keys.contains(key));
        expect.extend(new.map(|key| (key.clone(), None)));
        expect.extend(self.leading.is_some().then(leader_key).map(|key| (key.clone(), view.revision(&key))));
        let (not_after, run) = (change.not_after, Some(view.run.clone()));
        let swap = Swap { expect, run, not_after, writes: change.writes.clone(), ring: change.rings };
        Ok(match self.backend.swap(swap).await {
            Ok(SwapAnswer::Done { .. }) => Swapped::Done,
            Ok(SwapAnswer::Conflict) => Swapped::Conflict,
            Ok(SwapAnswer::TooLate { .. }) => Swapped::TooLate,
            Err(error @ (BackendError::Unknown(_) | BackendError::Unavailable(_))) => Swapped::Lost(error),
            Err(error) => return Err(error.into()),
        })
    }

    /// A read that goes on trying for about 3 s.
    pub(super) async fn patient_read(&self, keys: &[RecordKey]) -> Result<Snapshot, LedgerError> {
        for tries in 0.. {
            match self.backend.read(keys).await {
                Ok(snapshot) => return Ok(snapshot),
                Err(BackendError::Unknown(_) | BackendError::Unavailable(_)) if tries + 1 < TRIES => {
                    self.pause(tries, Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// One page of records behind `after`, still as bytes.
    pub(super) async fn page(&self, prefix: &str, after: Option<&RecordKey>) -> Result<Vec<Listed>, LedgerError> {
        Ok(self.backend.scan(prefix, after, PAGE).await?)
    }

    /// All records below a prefix.
    pub(super) async fn scan_all<T: Record>(&self, prefix: &str) -> Result<Vec<T>, LedgerError> {
        self.scan(prefix, |listed| decode(&listed.key, &listed.bytes).map(Some)).await
    }

    /// All records below a prefix that can be read here.
    pub(super) async fn scan_readable<T: Record>(&self, prefix: &str) -> Result<Vec<T>, LedgerError> {
        self.scan(prefix, |listed| self.readable(&listed.key, decode(&listed.key, &listed.bytes).map(Some))).await
    }

    async fn scan<T>(
        &self,
        prefix: &str,
        read: impl Fn(&Listed) -> Result<Option<T>, LedgerError>,
    ) -> Result<Vec<T>, LedgerError> {
        let mut all = Vec::new();
        let mut after: Option<RecordKey> = None;
        loop {
            let page = self.page(prefix, after.as_ref()).await?;
            for listed in &page {
                all.extend(read(listed)?);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(all),
            }
        }
    }

    /// The names of all records below a prefix, without it.
    pub(super) async fn scan_names(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        let mut names = Vec::new();
        let mut after: Option<RecordKey> = None;
        loop {
            let page = self.page(prefix, after.as_ref()).await?;
            names.extend(page.iter().filter_map(|listed| listed.key.as_str().strip_prefix(prefix).map(str::to_owned)));
            match page.into_iter().last() {
                Some(last) if names.len() % PAGE == 0 => after = Some(last.key),
                _ => return Ok(names),
            }
        }
    }

    /// Waits between a half and the whole of `unit * 2^n`.
    async fn pause(&self, n: u32, unit: Duration) {
        let share = 0.5 + self.env.random_fraction() / 2.0;
        tokio::time::sleep((unit * (1 << n.min(6))).mul_f64(share)).await;
    }
}

/// Till when we lead; refused where another does, or another run of the back-end answers.
fn leads(leading: &Leading, view: &View) -> Result<Timestamp, LedgerError> {
    let leader = view.find::<LeaderRecord>(&leader_key())?;
    Ok(transition::leader::leads(leader.as_ref(), leading, &view.run, view.now)?)
}

pub(super) fn encode<T: Record>(key: &RecordKey, record: &T) -> Result<Vec<u8>, LedgerError> {
    serde_json::to_vec(record).map_err(|source| LedgerError::Corrupt { key: key.clone(), source })
}

fn decode<T: Record>(key: &RecordKey, bytes: &[u8]) -> Result<T, LedgerError> {
    match serde_json::from_slice::<T>(bytes) {
        Ok(record) if record.version() > RECORD_VERSION => {
            Err(LedgerError::Newer { key: key.clone(), version: record.version() })
        }
        Ok(record) => Ok(record),
        Err(source) => Err(LedgerError::Corrupt { key: key.clone(), source }),
    }
}
