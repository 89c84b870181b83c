//! What must hold: at each swap of the checkpoint, and when everything is over.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as AtomicOrdering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyrotate_checkpoint::backend::RecordKey;
use keyrotate_checkpoint::record::{ShardRecord, ShardState};
use keyrotate_checkpoint::transition::order;
use keyrotate_proto::id::JobId;
use keyrotate_proto::intent::Intent;
use keyrotate_proto::outcome::{Counts, Outcome, SkipReason};
use keyrotate_proto::position::KeyRange;
use keyrotate_proto::row::{Row, Seal};
use keyrotate_report::finish::Manifest;
use keyrotate_report::root::BucketRoot;
use keyrotate_report::rows::LastRows;
use keyrotate_report::{ReportError, ReportRoot as _};
use keyrotate_report::{intents, leftovers};
use keyrotate_store::{GetRequest, ListFrom, ListRequest, ObjectAt, Store as _};

use crate::fleet::{BUCKET, Fleet};

/// Looks at each shard's record as it is swapped in.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    shards: Mutex<BTreeMap<RecordKey, ShardRecord>>,
    leases: Mutex<Leases>,
    harm: Mutex<Vec<String>>,
    forgot: AtomicBool,
}

/// By their tokens.
#[derive(Debug, Default)]
struct Leases {
    given: BTreeSet<String>,
    /// Those that were given before the checkpoint was another.
    void: BTreeSet<String>,
}

impl Watch {
    /// A swap was done.
    pub(crate) fn saw(&self, writes: &[(RecordKey, Option<Vec<u8>>)]) {
        for (key, bytes) in writes.iter().filter(|(key, _)| key.as_str().starts_with("shard/")) {
            let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(after) = bytes.as_ref().and_then(|bytes| serde_json::from_slice::<ShardRecord>(bytes).ok()) else {
                shards.remove(key);
                continue;
            };
            let is_void = self.leases().knows_as_void(&after);
            if let Some(before) = shards.get(key)
                && let Some(harm) = harm(before, &after, is_void)
            {
                self.harm(format!("{key}: {harm}"));
            }
            shards.insert(key.clone(), after);
        }
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checkpoint begins another run: whoever holds a lease does not know what else came to pass.
    pub(crate) fn voids_leases(&self) {
        let mut leases = self.leases();
        let given = std::mem::take(&mut leases.given);
        leases.void.extend(given);
    }

    /// The checkpoint is another one than before.
    pub(crate) fn forgets(&self) {
        self.voids_leases();
        self.forgot.store(true, AtomicOrdering::Relaxed);
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn harm(&self, what: String) {
        self.harm.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub(crate) fn harms(&self) -> Vec<String> {
        self.harm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Leases {
    fn knows_as_void(&mut self, shard: &ShardRecord) -> bool {
        let ShardState::Leased { token, .. } = &shard.state else { return false };
        let is_void = self.void.contains(token);
        if !is_void {
            self.given.insert(token.clone());
        }
        is_void
    }
}

/// What no swap may do to a shard; `is_void`: its lease is from before the checkpoint was another.
fn harm(before: &ShardRecord, after: &ShardRecord, is_void: bool) -> Option<String> {
    let until = |shard: &ShardRecord| match shard.state {
        ShardState::Leased { until, .. } => Some(until),
        _ => None,
    };
    if is_void && (before.cursor != after.cursor || until(before) < until(after)) {
        return Some("it moved under a lease from before the checkpoint was another".to_owned());
    }
    let same_nonce = before.epoch.nonce == after.epoch.nonce;
    if same_nonce && after.epoch.counter < before.epoch.counter {
        return Some(format!("the epoch went from {} back to {}", before.epoch, after.epoch));
    }
    if order(&after.cursor, &before.cursor) == Some(Ordering::Less) {
        return Some(format!("the cursor went from {:?} back to {:?}", before.cursor, after.cursor));
    }
    if before.state == ShardState::Done && after.state != ShardState::Done {
        return Some("it was done, and is not any more".into());
    }
    let holder = |shard: &ShardRecord| match &shard.state {
        ShardState::Leased { token, .. } => Some(token.clone()),
        _ => None,
    };
    if let (Some(one), Some(other)) = (holder(before), holder(after))
        && one != other
        && same_nonce
        && before.epoch.counter == after.epoch.counter
    {
        return Some("two holders have one epoch".into());
    }
    None
}

/// What users wrote, each by the moment its write took effect.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The body that each key must have, if any.
    pub(crate) bodies: BTreeMap<String, Option<Vec<u8>>>,
    /// The keys that somebody wrote to or deleted while a job was at work.
    pub(crate) touched: BTreeSet<String>,
    /// Versions that somebody wrote, where they are kept.
    pub(crate) versions: Vec<(String, String, Vec<u8>)>,
}

impl Fleet {
    /// What must hold when the job to `key` is completed and nobody works any more.
    pub(crate) async fn check(&self, job: &JobId, key: &str) {
        self.check_bodies(key).await;
        self.check_leftovers().await;
        if let Err(error) = self.check_report(job, key).await {
            self.watch.harm(format!("the report can't be read: {error}"));
        }
    }

    /// What users wrote is what is there, and nothing else; what nobody touched is under the key.
    async fn check_bodies(&self, key: &str) {
        let (bodies, touched, versions) = {
            let wanted = self.wanted();
            (wanted.bodies.clone(), wanted.touched.clone(), wanted.versions.clone())
        };
        for name in bodies.keys() {
            if let Some(seal) = self.check_body(name).await
                && !touched.contains(name)
                && !is_under(&seal, key)
            {
                self.watch.harm(format!("{name} is under {seal}"));
            }
        }
        for (name, version, wanted) in versions {
            let at = ObjectAt { bucket: BUCKET.into(), key: name.clone(), version: Some(version.clone()) };
            let body = match self.model.get(GetRequest::of(&at)).await {
                Ok((_, body)) => body.collect().await,
                Err(error) => Err(error),
            };
            if !body.as_ref().is_ok_and(|body| *body == wanted) {
                self.watch.harm(format!("{name}: its version {version} is {body:?}"));
            }
        }
    }

    /// Whether an object is what somebody last wrote; gives how it is encrypted, where there is one.
    pub(crate) async fn check_body(&self, key: &str) -> Option<Seal> {
        let wanted = self.wanted().bodies.get(key).cloned().flatten();
        let got = self.model.get(GetRequest::of(&ObjectAt::current(BUCKET, key))).await;
        match (got, wanted) {
            (Ok((object, body)), Some(wanted)) => {
                let body = body.collect().await;
                if !body.as_ref().is_ok_and(|body| *body == wanted) {
                    self.watch.harm(format!("{key}: the body is {body:?}"));
                }
                return Some(object.sse.seal());
            }
            (Ok(_), None) => self.watch.harm(format!("{key}: what was deleted is back")),
            (Err(error), Some(_)) => self.watch.harm(format!("{key} is gone: {error}")),
            (Err(_), None) => {}
        }
        None
    }

    async fn check_leftovers(&self) {
        let request = ListRequest {
            bucket: BUCKET.into(),
            prefix: String::new(),
            versions: false,
            from: ListFrom::Start,
            limit: 1000,
            with_facts: false,
        };
        let listed: BTreeSet<String> =
            self.model.list(request).await.unwrap().entries.into_iter().map(|entry| entry.key).collect();
        // What a job left that nobody remembers stays until it is old.
        let forgotten = self.watch.forgot.load(AtomicOrdering::Relaxed);
        let ours = |key: &String| !(forgotten && key.starts_with(".keyrotate/"));
        for extra in listed.iter().filter(|key| !self.wanted().bodies.contains_key(*key) && ours(key)) {
            self.watch.harm(format!("{extra} is left"));
        }
        // Whose id was never heard may be a user's: a job's report lists it. Of a job that nobody remembers only its intents
        // tell.
        let (mut listed, mut forgotten) = (BTreeSet::new(), BTreeSet::new());
        for (job, _) in self.submitted() {
            let files = self.report_root().of(&job).unwrap();
            listed.extend(leftovers::read(files.as_ref()).await.unwrap());
            if self.ledger().job(&job).await.is_err() {
                for name in intents::list_all(files.as_ref()).await.unwrap() {
                    let (_, of_file) = intents::read::<Intent>(files.as_ref(), &name).await.unwrap();
                    forgotten.extend(of_file.into_iter().map(|intent| intent.key));
                }
            }
        }
        for upload in self.model.uploads(BUCKET, "").await.unwrap().into_iter().filter(|upload| ours(&upload.key)) {
            if !listed.contains(&(upload.key.clone(), upload.id)) && !forgotten.contains(&upload.key) {
                self.watch.harm(format!("an upload of {} is left, and in no list", upload.key));
            }
        }
        if !self.queue.is_empty() {
            self.watch.harm("tickets are left".into());
        }
    }

    fn report_root(&self) -> BucketRoot {
        BucketRoot::new(Arc::new(self.reports.clone()), "reports", "keyrotate/")
    }

    /// One row for each version, and sums that are the rows'; what nobody touched was rotated or was right before.
    async fn check_report(&self, job: &JobId, key: &str) -> Result<(), ReportError> {
        let result = self.ledger().job(job).await.unwrap().result.unwrap();
        let reports = self.report_root().of(job)?;
        let manifest = Manifest::read(reports.as_ref(), &result.report.unwrap()).await?;
        let whole = KeyRange { start: String::new(), end: None };
        let mut last = LastRows::open(reports, manifest.passes(), whole);
        let mut rows = Vec::new();
        while let Some(found) = last.next_key().await? {
            rows.extend(found.rows.into_iter().map(|last| last.row));
        }
        let places: BTreeSet<_> = rows.iter().map(|row| (&row.key, &row.version)).collect();
        if places.len() != rows.len() {
            self.watch.harm("a version has two last rows".into());
        }
        if result.counts.scanned() != rows.len() as u64 {
            self.watch.harm(format!("{} rows, and {} in the sums", rows.len(), result.counts.scanned()));
        }
        let counted = rows.iter().fold(Counts::default(), |mut counts, row| {
            row.count_into(&mut counts);
            counts
        });
        if counted.by_outcome != result.counts.by_outcome {
            self.watch.harm(format!("the rows say {:?}, the sums {:?}", counted.by_outcome, result.counts.by_outcome));
        }
        self.check_rows(&rows, key).await;
        Ok(())
    }

    async fn check_rows(&self, rows: &[Row], key: &str) {
        let (bodies, touched) = {
            let wanted = self.wanted();
            (wanted.bodies.clone(), wanted.touched.clone())
        };
        for row in rows.iter().filter(|row| !row.key.starts_with(".keyrotate/")) {
            let right = matches!(row.outcome, Outcome::Rotated(_) | Outcome::Current);
            if right && !is_under(&row.after, key) {
                self.watch.harm(format!("{}: its row says {} under {}", row.key, row.outcome.word(), row.after));
            }
            // Of an older version some stores can change nothing.
            let older = row.outcome == Outcome::Skipped(SkipReason::Noncurrent);
            if !right && !older && !touched.contains(&row.key) {
                self.watch.harm(format!(
                    "{}: {} ({}) {}",
                    row.key,
                    row.outcome.word(),
                    row.outcome.reason(),
                    row.detail
                ));
            }
        }
        let reported: BTreeSet<&String> = rows.iter().map(|row| &row.key).collect();
        for (name, _) in bodies.iter().filter(|(name, body)| body.is_some() && !touched.contains(*name)) {
            if !reported.contains(name) {
                self.watch.harm(format!("{name} has no row"));
            }
        }
        if !self.keeps_versions() {
            return;
        }
        // Where versions are kept: a row for each that was there, and for each that a write of ours added.
        let known: BTreeSet<_> = rows
            .iter()
            .flat_map(|row| [&row.version, &row.version_after].into_iter().flatten().map(|v| (&row.key, v.clone())))
            .collect();
        for name in bodies.keys().filter(|name| !touched.contains(*name)) {
            for version in self.model.raw_version_ids(BUCKET, name) {
                if !known.contains(&(name, version.clone())) {
                    self.watch.harm(format!("{name}: no row names its version {version}"));
                }
            }
        }
    }
}

fn is_under(seal: &Seal, key: &str) -> bool {
    seal.kms_key().is_some_and(|name| name.bare().rsplit('/').next() == Some(key))
}
