//! The bucket of a case, everybody who writes to it, and the log of who did what in which order.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use jiff::SignedDuration;
use keyrotate_devstack::model::BucketSettings;
use keyrotate_proto::capability::Frozen;
use tokio::sync::Notify;

use super::super::bucket::{Version, new, put_new, put_parts, seen};
use super::super::*;
use super::case::{Case, Deed, Fill, Held, Kind, Size, Thing};
use super::model::{By, Landing, Looks, Verdict, Wrote, judge};
use crate::testing::start;

/// Calls that write an object.
pub(super) const WRITES: [&str; 4] = ["PutObject", "CopyObject", "CompleteMultipartUpload", "UpdateObjectEncryption"];

/// A guard of ours that is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off {
    /// The condition on what a write replaces.
    IfMatch,
    /// The condition on what is read and copied.
    Source,
    /// What is put down before a write.
    Intents,
    /// The look at what was written: the store pretends that it is as it was sent.
    ReadBack,
    /// The look at what a version that was added lies on: what it leads to is not done.
    Ground,
}

/// Where a case plays.
pub(super) struct Stage {
    pub(super) case: Case,
    pub(super) frozen: Frozen,
    pub(super) off: Option<Off>,
    pub(super) world: World,
    /// Tells that the worker is gone, or frozen.
    pub(super) gone: Notify,
    /// Lets a frozen one go on.
    pub(super) thaws: Notify,
    log: Mutex<Log>,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Counts everything that happens.
    pub(super) at: u64,
    /// What each key was when it was last looked at by the judge.
    base: BTreeMap<String, Vec<Version>>,
    looks: Looks,
    pub(super) wrote: Vec<Wrote>,
    /// When somebody else changed a key.
    pub(super) theirs: Vec<(u64, String)>,
    /// Which calls failed, or were made to go wrong, on which key.
    pub(super) faults: Vec<(&'static str, String)>,
    /// Uploads of users, and those of ours whose creation was never answered.
    pub(super) users_uploads: BTreeSet<String>,
    pub(super) lost_uploads: BTreeSet<String>,
    /// Uploads that could not be ended.
    pub(super) unended: BTreeSet<String>,
    pub(super) harms: Vec<String>,
    pub(super) counts: BTreeMap<String, u64>,
    /// What happened, to be read.
    pub(super) told: Vec<String>,
    pub(super) calls: u64,
    pub(super) writes: u64,
    /// What the call that is being made is about.
    pub(super) key: String,
    pub(super) answer_is_lost: bool,
    pub(super) slow: bool,
    pub(super) forgets: Option<super::case::Lost>,
    /// What the store pretends that it kept.
    pub(super) pretends: BTreeMap<String, (Headers, Tags)>,
    pub(super) lease_over: bool,
    /// Behind which call a frozen worker goes on.
    pub(super) thaws_at: Option<u64>,
    /// Keys that a frozen worker was about to call about.
    pub(super) frozen: BTreeSet<String>,
}

tokio::task_local! {
    /// Whether the worker of this task was frozen: then the call that it was about to make is its last.
    pub(super) static FROZEN: Cell<bool>;
}

/// Whether this is the last call of a worker that was frozen: it began while its lease stood, and whoever is frozen sees
/// nothing any more.
pub(super) fn is_frozen() -> bool {
    FROZEN.try_with(Cell::get).unwrap_or(false)
}

impl Log {
    pub(super) fn count(&mut self, word: impl Into<String>) {
        *self.counts.entry(word.into()).or_default() += 1;
    }

    pub(super) fn tell(&mut self, line: String) {
        self.at += 1;
        let at = self.at;
        self.told.push(format!("{at:4} {line}"));
    }

    pub(super) fn headed(&mut self, at: &ObjectAt, object: &Object, by: By) {
        if !is_frozen() {
            self.looks.headed(self.at, at, object, by);
        }
    }

    pub(super) fn tagged(&mut self, at: &ObjectAt, tags: &Tags, by: By) {
        if !is_frozen() {
            self.looks.tagged(self.at, at, tags, by);
        }
    }

    pub(super) fn granted(&mut self, at: &ObjectAt, acl: &Acl) {
        if !is_frozen() {
            self.looks.granted(self.at, at, acl);
        }
    }

    pub(super) fn harm(&mut self, what: String) {
        self.tell(format!("HARM: {what}"));
        self.harms.push(what);
    }
}

impl Stage {
    /// A bucket, filled.
    pub(super) async fn new(case: Case, frozen: Frozen, off: Option<Off>) -> Arc<Self> {
        let world = World::new(case.mode.clone(), Versioning::Off).await;
        let stage = Self { case, frozen, off, world, gone: Notify::new(), thaws: Notify::new(), log: Mutex::default() };
        stage.fill().await;
        let all = seen(stage.model(), "").await;
        stage.log().base = all;
        Arc::new(stage)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    pub(super) fn model(&self) -> &StoreModel {
        self.world.store.store()
    }

    async fn fill(&self) {
        let wait = |gap| tokio::time::sleep(std::time::Duration::from_millis(gap));
        for step in &self.case.steps {
            wait(step.gap).await;
            match &step.what {
                Fill::Put(key, thing) => drop(self.put(key, thing).await),
                Fill::Delete(key) => drop(self.model().delete_object(&ObjectAt::current(BUCKET, *key))),
                Fill::Versioning(versioning) => self.set(*versioning),
                Fill::Open(key) => {
                    let at = ObjectAt::current(BUCKET, *key);
                    let id = self.model().create_upload(&at, &new(Sse::S3), &InPlace::default()).await;
                    self.log().users_uploads.extend(id);
                }
            }
        }
        self.set(self.case.versioning);
        for n in 0..self.case.crowd {
            put_new(self.model(), &format!("crowd/{n:02}"), new(kms(OLD)), b"body").await.unwrap();
        }
        wait(700).await;
    }

    fn set(&self, versioning: Versioning) {
        let lock_enabled = self.case.locks && versioning == Versioning::Enabled;
        let settings = BucketSettings { versioning, lock_enabled, ..BucketSettings::plain() };
        if self.model().settings(BUCKET).unwrap().versioning == Versioning::Off && versioning == Versioning::Suspended {
            self.set(Versioning::Enabled);
        }
        self.model().configure(BUCKET, settings).unwrap();
    }

    /// Puts an object as somebody does, as far as the store lets him.
    async fn put(&self, key: &str, thing: &Thing) -> Result<()> {
        let (store, at) = (self.model(), ObjectAt::current(BUCKET, key));
        let body = thing.body();
        let lock = thing.lock.map(Held::lock).filter(|_| store.settings(BUCKET).unwrap().lock_enabled);
        let mut new = thing.new_object(&body);
        match thing.kind {
            Kind::Plain if thing.body != Size::Parts => drop(store.seed_plaintext(&at, new, body).await?),
            Kind::Customer => drop(store.seed_sse_c(&at, new, body).await?),
            Kind::DualLayer => drop(store.seed_dsse(&at, OLD, new, body).await?),
            _ if thing.body == Size::Parts => {
                let sum = || Checksum { algorithm: "CRC32".into(), value: String::new(), full_object: false };
                new.checksum = thing.sum.then(sum);
                put_parts(store, key, new, &body).await?;
            }
            _ => drop(put_new(store, key, new, &body).await?),
        }
        if let Some(lock) = lock {
            store.put_lock(&at, lock)?;
        }
        if thing.shared && self.case.mode.acls {
            store.let_read(&at, "everybody")?;
        }
        Ok(())
    }

    /// Looks what a call of ours, or nobody's, made of a key since the last time.
    pub(super) async fn judge(&self, key: &str, landing: Option<&Landing>) {
        let after = seen(self.model(), key).await.remove(key).unwrap_or_default();
        let mut log = self.log();
        let before = log.base.get(key).cloned().unwrap_or_default();
        let at = log.at;
        let verdict = match landing {
            Some(landing) => {
                let theirs = log.theirs.iter().rfind(|(_, of)| of == key).map(|(at, _)| *at);
                let place = (key, at, self.world.env.now(), theirs);
                judge((&self.case, &self.frozen), (&log.looks, &log.wrote), landing, place, &before, &after)
            }
            None if before == after => Verdict::Nothing,
            None => Verdict::Harm(format!("`{key}` changed by itself: {before:#?} became {after:#?}")),
        };
        match verdict {
            Verdict::Nothing => {}
            Verdict::Harm(what) => log.harm(what),
            Verdict::Lost(why) => {
                log.tell(format!("lost: {why}"));
                log.count(why);
            }
            Verdict::Withdrew(id) => {
                log.tell(format!("withdrawn: {id:?}"));
                log.count("withdrawn");
                log.wrote.retain(|wrote| wrote.key != key || wrote.to != id);
            }
            Verdict::Expired => log.count("expired"),
            Verdict::Wrote(mut wrote, excuses) => {
                wrote.excuses.clone_from(&excuses);
                log.tell(format!("written: {wrote:?}"));
                excuses.iter().for_each(|excuse| log.count(*excuse));
                log.count(if wrote.added { "a version added" } else { "a version replaced" });
                log.wrote.push(wrote);
            }
        }
        log.base.insert(key.to_owned(), after);
    }

    /// At the end: nothing is there that nobody saw come.
    pub(super) async fn judge_all(&self) {
        let mut keys: BTreeSet<String> = seen(self.model(), "").await.into_keys().collect();
        keys.extend(self.log().base.keys().cloned());
        for key in keys {
            self.judge(&key, None).await;
        }
    }

    /// A version as the judge saw it last.
    pub(super) fn version(&self, key: &str, id: &Option<String>) -> Option<Version> {
        self.version_of(&self.log(), key, id)
    }

    /// The same, by whoever reads the log.
    pub(super) fn version_of(&self, log: &Log, key: &str, id: &Option<String>) -> Option<Version> {
        log.base.get(key)?.iter().find(|version| version.id == *id).cloned()
    }

    /// What somebody else does, between two looks of the judge.
    pub(super) async fn theirs(&self, key: &str, deed: &Deed) {
        self.judge(key, None).await;
        let done = self.does(key, deed).await;
        let after = seen(self.model(), key).await.remove(key).unwrap_or_default();
        let mut log = self.log();
        let changed = log.base.insert(key.to_owned(), after.clone()).unwrap_or_default() != after;
        log.tell(format!(
            "somebody: {deed:?} on `{key}`: {}",
            match &done {
                Ok(()) if changed => "done".to_owned(),
                Ok(()) => "nothing changed".to_owned(),
                Err(error) => error.to_string(),
            }
        ));
        if changed {
            log.count(format!("theirs: {}", deed.word()));
            let at = log.at;
            log.theirs.push((at, key.to_owned()));
        }
    }

    async fn does(&self, key: &str, deed: &Deed) -> Result<()> {
        let (store, at) = (self.model(), ObjectAt::current(BUCKET, key));
        let version = |place: usize| {
            let versions = self.log().base.get(key).cloned().unwrap_or_default();
            versions.get(place).map(|version| at.at_version(version.id.clone()))
        };
        let tags = |n: &u64| vec![("t".to_owned(), n.to_string()), ("u".to_owned(), "a b".to_owned())];
        match deed {
            Deed::Put(thing) => self.put(key, thing).await,
            Deed::Again(n) | Deed::Swap(n) => self.again(key, *n).await,
            Deed::Tags(n) => store.put_tags(&at, tags(n)),
            Deed::TagsOf(place, n) => version(*place).map_or(Ok(()), |at| store.put_tags(&at, tags(n))),
            Deed::Hold(hold) => {
                let lock = store.head(HeadRequest::of(&at)).await?.lock;
                store.put_lock(&at, Lock { legal_hold: *hold, ..lock })
            }
            Deed::LetRead(n) => store.let_read(&at, &format!("reader-{n}")),
            Deed::Delete => store.delete_object(&at).map(drop),
            Deed::DeleteVersion(place) => version(*place).map_or(Ok(()), |at| store.delete_object(&at).map(drop)),
        }
    }

    /// Puts the body that is there once more, with other metadata and tags.
    async fn again(&self, key: &str, n: u64) -> Result<()> {
        let at = ObjectAt::current(BUCKET, key);
        let (object, body) = self.model().get(GetRequest::of(&at)).await?;
        let body = body.collect().await?;
        self.put_back(key, (object, body), Some(n)).await
    }

    /// Puts an object as it was, or with other metadata and tags.
    async fn put_back(&self, key: &str, (object, body): (Object, Bytes), n: Option<u64>) -> Result<()> {
        let mut new = NewObject { sse: object.sse.clone(), headers: object.headers, ..NewObject::default() };
        new.storage_class = object.storage_class;
        if let Some(n) = n {
            new.headers.metadata.insert("n".into(), n.to_string());
            new.tags = vec![("t".into(), n.to_string())];
        }
        let at = ObjectAt::current(BUCKET, key);
        match new.sse {
            _ if object.etag.ends_with("-2") => put_parts(self.model(), key, new, &body).await,
            Sse::None => self.model().seed_plaintext(&at, new, body).await,
            Sse::DualLayer { .. } => self.model().seed_dsse(&at, OLD, new, body).await,
            _ => put_new(self.model(), key, new, &body).await,
        }
        .map(drop)
    }

    /// The first half of a swap; gives what the second half puts back.
    pub(super) async fn takes_away(&self, key: &str, n: u64) -> Option<(Object, Bytes)> {
        let (object, body) = self.model().get(GetRequest::of(&ObjectAt::current(BUCKET, key))).await.ok()?;
        let body = body.collect().await.ok()?;
        let other = Thing { n, kind: Kind::SseS3, body: Size::Small, ..Thing::plain(n) };
        self.theirs(key, &Deed::Put(other)).await;
        Some((object, body))
    }

    pub(super) async fn gives_back(&self, key: &str, there: (Object, Bytes)) {
        self.judge(key, None).await;
        let done = self.put_back(key, there, None).await;
        let after = seen(self.model(), key).await.remove(key).unwrap_or_default();
        let mut log = self.log();
        log.base.insert(key.to_owned(), after);
        log.tell(format!("somebody: puts back what was in `{key}`: {done:?}"));
        log.count("theirs: there and back");
        let at = log.at;
        log.theirs.push((at, key.to_owned()));
    }
}

impl Held {
    fn lock(self) -> Lock {
        let until = start().checked_add(SignedDuration::from_hours(24)).unwrap();
        match self {
            Self::Governance => Lock { retention: Some(("GOVERNANCE".into(), until)), legal_hold: false },
            Self::Compliance => Lock { retention: Some(("COMPLIANCE".into(), until)), legal_hold: false },
            Self::Hold => Lock { retention: None, legal_hold: true },
        }
    }
}

impl Thing {
    /// A small object with nothing odd about it.
    fn plain(n: u64) -> Self {
        Self {
            n,
            kind: Kind::Old,
            body: Size::Small,
            tags: 0,
            sum: false,
            class: None,
            redirect: false,
            lock: None,
            shared: false,
        }
    }

    fn body(&self) -> Bytes {
        let all = || format!("body {} ", self.n).into_bytes().into_iter().cycle();
        match self.body {
            Size::Empty => Bytes::new(),
            Size::Small => all().take(9).collect(),
            Size::Parts => all().take(PART + 700).collect(),
        }
    }

    fn new_object(&self, body: &[u8]) -> NewObject {
        let context = || Some([("of".to_owned(), "the object".to_owned())].into());
        let old = |context, bucket_key| Sse::Kms { key: Some(KeyName(OLD.into())), context, bucket_key };
        let sse = match self.kind {
            Kind::Plain | Kind::Customer | Kind::DualLayer => Sse::None,
            Kind::SseS3 => Sse::S3,
            Kind::Old => old(None, None),
            Kind::OldWithContext => old(context(), None),
            Kind::OldWithBucketKey => old(None, Some(true)),
            Kind::New => kms(NEW),
        };
        let mut new = new_object(sse, body);
        new.headers.metadata.insert("n".into(), self.n.to_string());
        new.headers.website_redirect = self.redirect.then(|| "/elsewhere".to_owned());
        new.tags.truncate(self.tags);
        new.checksum = new.checksum.filter(|_| self.sum);
        new.storage_class = self.class.map(str::to_owned);
        new
    }
}
