//! One bucket on one store, one state folder, and `keyrotate` to work on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::Client;
use keyrotate_devstack::mixed;
use keyrotate_devstack::model::Mode;
use keyrotate_store::{NewObject, ObjectAt, Sse};
use tempfile::TempDir;

use crate::bucket::{self, Put, Snapshot};
use crate::exe::{Ended, Process};
use crate::job::JobFile;
use crate::reader::{Reader, Reads};
use crate::report::Report;
use crate::target::Target;

/// The place of one test.
#[derive(Debug)]
pub struct Stand {
    /// The store.
    pub target: Arc<Target>,
    /// Its bucket.
    pub bucket: String,
    versioned: bool,
    dir: TempDir,
    reader: Mutex<Option<Reader>>,
}

impl Stand {
    /// An empty bucket on an embedded store of its own.
    pub async fn embedded(mode: Mode) -> Self {
        Self::on(Arc::new(Target::embedded(mode).await), false).await
    }

    /// An empty bucket, with versions or without.
    ///
    /// # Panics
    /// When it can't be made.
    pub async fn on(target: Arc<Target>, versioned: bool) -> Self {
        let bucket = target.new_bucket_name();
        bucket::create(&target.client, &bucket, versioned).await;
        Self::in_bucket(target, bucket, versioned)
    }

    /// A bucket that the test has made, with versions or without.
    ///
    /// # Panics
    /// When there is no room for a folder.
    #[must_use]
    pub fn in_bucket(target: Arc<Target>, bucket: String, versioned: bool) -> Self {
        let dir = tempfile::tempdir().expect("there is room for a temporary folder");
        Self { target, bucket, versioned, dir, reader: Mutex::default() }
    }

    /// The client of the tests.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.target.client
    }

    /// Puts objects.
    pub async fn put_all(&self, all: impl IntoIterator<Item = Put>) {
        bucket::put_all(self.client(), &self.bucket, all).await;
    }

    /// Puts `count` objects under the old key: `PREFIX0000` and so on.
    pub async fn put_old(&self, prefix: &str, count: usize) {
        let old = &self.target.old_key;
        let one = |i: usize| Put::under(old, format!("{prefix}{i:04}"), format!("body of {prefix}{i}"));
        self.put_all((0..count).map(one)).await;
    }

    /// Puts the first `count` objects of the mix. Plaintext is plaintext on every embedded store, also on one that
    /// encrypts by itself.
    ///
    /// # Panics
    /// When the store refuses one.
    pub async fn put_mixed(&self, count: u64) {
        let (old, new) = (&self.target.old_key, &self.target.new_key);
        let all = || (0..count).map(|i| mixed::object(i, old, new));
        self.put_all(all().map(Put::from)).await;
        if self.target.stack().is_some() && self.target.model().mode().encrypts_always {
            for one in all().filter(|one| one.new.sse == Sse::None) {
                self.seed_plaintext(&one.key, one.new, one.body).await;
            }
        }
    }

    /// Makes a plaintext object, whatever the embedded store does with new ones.
    ///
    /// # Panics
    /// When it can't be made.
    pub async fn seed_plaintext(&self, key: &str, new: NewObject, body: bytes::Bytes) {
        let at = ObjectAt::current(&self.bucket, key);
        let body = keyrotate_store::Body::Bytes(body);
        self.target.model().seed_plaintext(&at, new, body).await.expect("the model takes plaintext");
    }

    /// Makes an object that its owner alone has the key of, behind the embedded store's back, which takes none over HTTP.
    ///
    /// # Panics
    /// When it can't be made.
    pub async fn seed_sse_c(&self, key: &str, body: &str) {
        let at = ObjectAt::current(&self.bucket, key);
        let new = NewObject { sse: Sse::Customer, ..NewObject::default() };
        let body = keyrotate_store::Body::Bytes(bytes::Bytes::copy_from_slice(body.as_bytes()));
        self.target.model().seed_sse_c(&at, new, body).await.expect("the model takes it");
    }

    /// A picture of every version.
    pub async fn snapshot(&self) -> Snapshot {
        bucket::snapshot(self.client(), &self.bucket).await
    }

    /// A job file for everything in the bucket under the new key, as this store needs it.
    #[must_use]
    pub fn job(&self) -> JobFile {
        self.as_needed(JobFile::of(&self.bucket).key(&self.target.new_key))
    }

    /// Any job file, with what this store needs: where nothing but GET + PUT is guarded, bodies must be let through.
    #[must_use]
    pub fn as_needed(&self, job: JobFile) -> JobFile {
        if matches!(self.target.like.as_str(), "rgw" | "moto") { job.option("bodyTransit: any") } else { job }
    }

    /// Writes a job file and gives its path.
    ///
    /// # Panics
    /// When it can't be written.
    #[must_use]
    pub fn write(&self, job: &JobFile) -> PathBuf {
        let path = self.dir.path().join("job.yaml");
        std::fs::write(&path, job.text()).expect("the test's folder can be written");
        path
    }

    /// Where `keyrotate` keeps its state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A folder for anything else.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts any verb.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Process {
        self.start_with(args, self.target.variables())
    }

    /// Starts any verb with another environment.
    #[must_use]
    pub fn start_with(&self, args: &[&str], variables: &BTreeMap<String, String>) -> Process {
        let mut variables = variables.clone();
        variables.insert("KEYROTATE_STATE".to_owned(), self.state().display().to_string());
        Process::start(args.iter().copied(), &variables, self.dir.path())
    }

    /// From now on somebody reads the bucket's objects, until [`Self::reads`].
    pub fn read_on(&self) {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.get_or_insert_with(|| Reader::start(&self.target, &self.bucket));
    }

    /// Starts `run` on a job, with a yes to the versions that it adds. From the first one on somebody reads the bucket's objects, until [`Self::reads`].
    #[must_use]
    pub fn begin(&self, job: &JobFile, more: &[&str]) -> Process {
        self.read_on();
        let file = self.write(job).display().to_string();
        let yes = (self.versioned && !more.contains(&"--yes") && !job.bounds_growth()).then_some("--yes");
        let args: Vec<&str> = ["run", &file].into_iter().chain(yes).chain(more.iter().copied()).collect();
        self.start(&args)
    }

    /// Runs a job to its end.
    pub async fn run(&self, job: &JobFile, more: &[&str]) -> Ended {
        self.begin(job, more).end().await
    }

    /// What somebody read since the first job began; nobody reads any more then. `None` when no job was begun since.
    pub async fn reads(&self) -> Option<Reads> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        Some(reader?.stop().await)
    }

    /// The report of the job that a process named.
    #[must_use]
    #[track_caller]
    pub fn report(&self, ended: &Ended) -> Report {
        Report::read(&self.state(), &ended.job())
    }

    /// Keys of a snapshot under that encryption.
    #[must_use]
    pub fn keys_under(snapshot: &Snapshot, seal: &str) -> BTreeSet<String> {
        let under = snapshot.iter().filter(|(_, seen)| seen.seal == seal);
        under.map(|((key, _), _)| key.clone()).collect()
    }
}
