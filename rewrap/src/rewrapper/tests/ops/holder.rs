//! Workers, one after the other, as far as they matter to an object: windows, intents put down before the writes that
//! need them, what was left by the one before, and a retry pass.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Mutex;

use keyrotate_devstack::model::Faulty;
use keyrotate_proto::capability::Frozen;
use keyrotate_proto::intent::Intent;

use super::super::*;
use super::arm::arm;
use super::case::Case;
use super::stage::{FROZEN, Off, Stage};
use super::watched::Watched;
use crate::plan::Interrupted;

/// More holders than this, and the job does not get on.
const MOST: usize = 12;

/// What is known of the job outside of any worker.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) rows: Vec<Row>,
    /// Of the walk, and of the retry pass, whose shard is another.
    intents: [Vec<Intent>; 2],
    cursor: Option<(String, Option<String>)>,
    walked: bool,
    retried: bool,
    /// Whether a holder ended without its last word, or in the middle.
    pub(super) handed_over: bool,
    pub(super) stopped: Option<Halt>,
    /// Keys of objects that were written and not read back by who wrote them.
    pub(super) unread: BTreeSet<String>,
}

/// What one holder works with.
struct Holder {
    stage: Arc<Stage>,
    store: Arc<Faulty<Watched>>,
    rewrapper: Rewrapper,
    books: Arc<Mutex<Books>>,
    left: Vec<Intent>,
    in_doubt: bool,
}

/// An object to be looked at.
enum Task {
    Look(Entry),
    Again(ObjectAt),
}

/// Runs the job to its end, through as many holders as it takes.
pub(super) async fn job(stage: &Arc<Stage>) -> Books {
    let store = Arc::new(Faulty::new(Watched(Arc::clone(stage))));
    arm(stage, store.faults());
    let books = Arc::new(Mutex::new(Books::default()));
    let started = stage.world.env.now();
    let mut in_doubt = false;
    let mut workers = Vec::new();
    for holder in 0.. {
        if holder == MOST {
            stage.log().harm("the job never ends".into());
            break;
        }
        let rules = crate::Rules {
            spec: stage.case.job.spec(),
            started,
            frozen: stage.frozen.clone(),
            ours: crate::probe::Ours::default(),
        };
        stage.log().lease_over = false;
        let holder = Holder {
            stage: Arc::clone(stage),
            store: Arc::clone(&store),
            rewrapper: Rewrapper::new(store.clone(), rules, stage.world.env.clone()),
            books: Arc::clone(&books),
            left: left(stage, &books.lock().unwrap()),
            in_doubt,
        };
        let mut work = tokio::spawn(FROZEN.scope(Cell::new(false), async move { holder.works().await }));
        let ended = tokio::select! {
            biased;
            () = stage.gone.notified() => None,
            ended = &mut work => Some(ended.unwrap()),
        };
        workers.push(work);
        let mut books = books.lock().unwrap();
        match ended {
            Some(Ok(())) => break,
            Some(Err(halt @ Halt::Stop { .. })) => {
                books.stopped = Some(halt);
                break;
            }
            Some(Err(halt)) => {
                stage.log().tell(format!("handed over: {halt}"));
                stage.log().count("handed over");
            }
            None => {
                stage.log().tell("the worker is gone".into());
                stage.log().count("taken over");
                in_doubt = true;
            }
        }
        books.handed_over = true;
    }
    // A call of a worker that is still frozen arrives when all is over; what somebody does within a call ends with it.
    stage.thaws.notify_one();
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    workers.iter().for_each(tokio::task::JoinHandle::abort);
    store.faults().clear();
    std::mem::take(&mut *books.lock().unwrap())
}

/// What earlier holders put down, of several for one version the newest.
fn left(stage: &Stage, books: &Books) -> Vec<Intent> {
    let mut left: Vec<Intent> = Vec::new();
    if stage.off == Some(Off::Intents) {
        return left;
    }
    for intent in &books.intents[usize::from(books.walked)] {
        left.retain(|older| (&older.key, &older.version) != (&intent.key, &intent.version));
        left.push(intent.clone());
    }
    left
}

impl Books {
    /// Whether the clean pass of a job that was handed over ends an upload, since an intent names it, or lists it, since
    /// one that was begun was never named.
    pub(super) fn knows(&self, upload: &Upload) -> bool {
        self.intents.iter().any(|pass| {
            let of_key = pass.iter().filter(|intent| intent.key == upload.key && intent.strategy.uploads());
            let of_key: Vec<_> = of_key.filter(|intent| intent.made.is_none()).collect();
            let named: BTreeSet<_> = of_key.iter().filter_map(|intent| intent.upload.as_ref()).collect();
            let begun = of_key.iter().filter(|intent| intent.upload.is_none()).count();
            named.contains(&upload.id) || begun > named.len()
        })
    }
}

impl Holder {
    async fn works(&self) -> std::result::Result<(), Halt> {
        let (walked, retried) = {
            let books = self.books.lock().unwrap();
            (books.walked, books.retried)
        };
        if !walked {
            self.walks().await?;
            self.books.lock().unwrap().walked = true;
        }
        if !retried {
            self.retries().await?;
            self.books.lock().unwrap().retried = true;
        }
        Ok(())
    }

    async fn walks(&self) -> std::result::Result<(), Halt> {
        let versions = self.rewrapper.rules().frozen.versioning.has_versions();
        let cursor = self.books.lock().unwrap().cursor.clone();
        let from = match cursor {
            None => ListFrom::Start,
            Some((key, Some(version))) if versions => ListFrom::AfterVersion(key, version),
            Some((key, _)) => ListFrom::AfterKey(key),
        };
        let request = ListRequest {
            bucket: BUCKET.into(),
            prefix: self.rewrapper.rules().spec.prefix.clone(),
            versions,
            from,
            limit: 1_000,
            with_facts: self.rewrapper.rules().frozen.listing_facts,
        };
        let mut entries = self.store.list(request).await.map_err(|error| crate::classify::halt(&error))?.entries;
        let known = |entry: &Entry| {
            let books = self.books.lock().unwrap();
            books.rows.iter().any(|row| (&row.key, &row.version) == (&entry.key, &entry.version))
        };
        // Where the cursor's version is gone its key is listed from its newest version on.
        entries.retain(|entry| !known(entry));
        for window in entries.chunks(self.stage.case.window) {
            self.window(window.iter().cloned().map(Task::Look).collect()).await?;
            let mut books = self.books.lock().unwrap();
            books.cursor = window.last().map(|entry| (entry.key.clone(), entry.version.clone()));
        }
        Ok(())
    }

    async fn retries(&self) -> std::result::Result<(), Halt> {
        let at = |row: &Row| ObjectAt { bucket: BUCKET.into(), key: row.key.clone(), version: row.version.clone() };
        let again: Vec<_> = {
            let books = self.books.lock().unwrap();
            books.rows.iter().filter(|row| row.outcome.wants_retry()).map(at).collect()
        };
        for at in again {
            self.window(vec![Task::Again(at)]).await?;
        }
        Ok(())
    }

    /// Works through some entries and commits their rows; of those before one that halts it, too.
    async fn window(&self, tasks: Vec<Task>) -> std::result::Result<(), Halt> {
        let mut done = Vec::new();
        let mut halted = None;
        for task in tasks {
            match self.work(&task).await {
                Ok(settled) => done.extend(settled.map(|settled| (task, settled))),
                Err(end) => {
                    self.put_down(end.made.map(|made| *made));
                    halted = Some(end.halt);
                    break;
                }
            }
        }
        self.close(done).await?;
        halted.map_or(Ok(()), Err)
    }

    async fn close(&self, done: Vec<(Task, Settled)>) -> std::result::Result<(), Halt> {
        let (mut rows, mut unread, mut made) = (Vec::new(), Vec::new(), Vec::new());
        let mut names = Vec::new();
        for (task, settled) in done {
            names.push(task.name());
            match settled {
                Settled::Row(row) => {
                    let of_a_write = row.outcome.is_of_a_write();
                    made.extend(of_a_write.then(|| Intent::made(row.clone(), true)).flatten());
                    rows.push(row);
                }
                Settled::Unread(one) => {
                    made.extend(one.intent());
                    unread.push(*one);
                }
            }
        }
        match read_back(&self.rewrapper, unread).await {
            Ok(read) => rows.extend(read),
            Err(halt) => {
                self.put_down(made);
                return Err(halt);
            }
        }
        self.commit(names, rows);
        Ok(())
    }

    fn commit(&self, mut names: Vec<(String, Option<String>)>, rows: Vec<Row>) {
        let mut given: Vec<_> = rows.iter().map(|row| (row.key.clone(), row.version.clone())).collect();
        names.sort();
        given.sort();
        let mut log = self.stage.log();
        if names != given {
            log.harm(format!("the rows of {names:?} are those of {given:?}"));
        }
        let mut books = self.books.lock().unwrap();
        for row in rows {
            log.tell(format!("row: {row:?}"));
            log.count(format!("a row says {}", row.outcome.word()));
            books.rows.retain(|older| (&older.key, &older.version) != (&row.key, &row.version));
            books.rows.push(row);
        }
    }

    fn put_down(&self, intents: impl IntoIterator<Item = Intent>) {
        let mut books = self.books.lock().unwrap();
        let pass = usize::from(books.walked);
        for intent in intents {
            if intent.made.as_ref().is_some_and(|made| !made.read_back) {
                books.unread.insert(intent.key.clone());
            }
            books.intents[pass].push(intent);
        }
    }

    async fn work(&self, task: &Task) -> std::result::Result<Option<Settled>, Interrupted> {
        let look = match task {
            Task::Look(entry) if self.is_of_a_lost_window(entry).await? => return Ok(None),
            Task::Look(entry) if self.of(&entry.key).next().is_none() => {
                if let Some(row) = self.rewrapper.settled_by_listing(entry) {
                    return Ok(Some(Settled::Row(row)));
                }
                match self.in_doubt {
                    true => self.rewrapper.look_in_doubt(entry).await?,
                    false => self.rewrapper.look(entry).await?,
                }
            }
            Task::Look(entry) => match self.at(&entry.key, &entry.version) {
                Some(intent) => self.takes_over(intent).await?,
                None if self.in_doubt => self.rewrapper.look_in_doubt(entry).await?,
                None => self.rewrapper.look(entry).await?,
            },
            Task::Again(at) => match self.at(&at.key, &at.version) {
                Some(intent) => self.takes_over(intent).await?,
                None => self.rewrapper.look_again(at).await?,
            },
        };
        match look {
            Look::Settled(row) => Ok(Some(Settled::Row(row))),
            Look::Write(plan) => self.write(plan).await.map(Some),
        }
    }

    async fn write(&self, mut plan: Box<crate::Plan>) -> std::result::Result<Settled, Interrupted> {
        if let Some(intent) = plan.intent() {
            let before = intent.upload.clone();
            self.put_down([intent]);
            self.rewrapper.open(&mut plan).await?;
            self.put_down(plan.intent().filter(|intent| intent.upload != before));
        }
        self.rewrapper.write(plan).await
    }

    fn of(&self, key: &str) -> impl Iterator<Item = &Intent> {
        self.left.iter().filter(move |intent| intent.key == key)
    }

    fn at(&self, key: &str, version: &Option<String>) -> Option<&Intent> {
        self.of(key).find(|intent| intent.version == *version)
    }

    async fn takes_over(&self, intent: &Intent) -> std::result::Result<Look, Halt> {
        self.stage.log().count("an intent taken over");
        Ok(match self.rewrapper.take_over(intent).await? {
            TakenOver::Written(row) => {
                self.stage.log().count("a write taken over");
                Look::Settled(row)
            }
            TakenOver::Look(look) => look,
        })
    }

    /// Whether a listed version is what a lost window made of another one of its key.
    async fn is_of_a_lost_window(&self, entry: &Entry) -> std::result::Result<bool, Halt> {
        for intent in self.of(&entry.key).filter(|intent| intent.version != entry.version && intent.adds_version()) {
            if entry.version.is_some() && self.rewrapper.made_of(intent).await? == entry.version {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Task {
    fn name(&self) -> (String, Option<String>) {
        match self {
            Self::Look(entry) => (entry.key.clone(), entry.version.clone()),
            Self::Again(at) => (at.key.clone(), at.version.clone()),
        }
    }
}

/// What a store like that was proven to do, for a job like that: found out once.
pub(super) async fn frozen(case: &Case) -> Frozen {
    static KNOWN: Mutex<BTreeMap<String, Frozen>> = Mutex::new(BTreeMap::new());
    let job = &case.job;
    let loses_parts = job.loses.contains(&Loss::Parts);
    let of = (case.mode.name, case.versioning, case.locks, job.goal, job.dialect, job.in_place, loses_parts);
    let name = format!("{of:?}");
    let known = KNOWN.lock().unwrap().get(&name).cloned();
    if let Some(known) = known {
        return known;
    }
    let mut empty = case.clone();
    (empty.steps, empty.ops, empty.crowd) = (Vec::new(), Vec::new(), 0);
    empty.job.prefix = "";
    let stage = Stage::new(empty, crate::testing::frozen(), None).await;
    let frozen = stage.world.prepare(&stage.case.job.spec()).await;
    KNOWN.lock().unwrap().insert(name, frozen.clone());
    frozen
}
