//! What happens to a fleet of one seed: a storm of everything at once, then calm, in which it must come to its end.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyrotate_checkpoint::transition::job::cancel;
use keyrotate_checkpoint::{LedgerError, Refusal};
use keyrotate_env::Env;
use keyrotate_proto::id::JobId;
use keyrotate_proto::state::JobState;
use tokio::task::JoinHandle;

use crate::fleet::{Fleet, Process};
use crate::wire::Life;

/// So long a calm fleet may take to its end: a lease in the bucket of a job that nobody knows any more stands in the way
/// for half an hour.
const CALM: Duration = Duration::from_hours(3);

/// Somebody writes to so many keys, and to no other.
const THEIRS: u64 = 20;
/// Their numbers are so far apart.
const EACH: u64 = 14;

/// Longer than anybody is frozen.
const QUIET: Duration = Duration::from_secs(300);

/// The processes, the job that somebody wants done, and the past that the checkpoint may come back from.
pub(crate) struct Storm<'a> {
    fleet: &'a Fleet,
    coordinators: Vec<Process>,
    workers: Vec<Process>,
    born: u32,
    key: &'static str,
    job: JobId,
    /// Pasts that the checkpoint will come back to.
    coming_back: Vec<JoinHandle<()>>,
    /// Clocks that were set, by so many seconds.
    wrong_clocks: Vec<(Env, i64)>,
}

impl<'a> Storm<'a> {
    pub(crate) async fn new(fleet: &'a Fleet) -> Self {
        let (dice, job) = (&fleet.dice, fleet.submit("key-b").await.unwrap());
        let mut storm = Self {
            coordinators: Vec::new(),
            workers: Vec::new(),
            born: 0,
            key: "key-b",
            job,
            coming_back: Vec::new(),
            wrong_clocks: Vec::new(),
            fleet,
        };
        for _ in 0..dice.between(1, 3) {
            let name = storm.name("c");
            storm.coordinators.push(fleet.coordinator(&name));
        }
        for _ in 0..dice.between(1, 4) {
            let name = storm.name("w");
            storm.workers.push(fleet.worker(&name));
        }
        storm
    }

    fn name(&mut self, kind: &str) -> String {
        self.born += 1;
        format!("{kind}{}", self.born)
    }

    fn tell(&self, deed: impl fmt::Display) {
        self.fleet.trace.tell(|| format!("{} {deed}", self.fleet.env.now()));
    }

    /// The storm.
    pub(crate) async fn blow(&mut self) {
        let (dice, weather) = (self.fleet.dice.clone(), self.fleet.weather.clone());
        if dice.one_in(2) {
            weather.losses.store(dice.between(0, 150), Ordering::Relaxed);
            weather.tickets.store(dice.between(0, 60), Ordering::Relaxed);
        }
        let busy = dice.one_in(4);
        for _ in 0..dice.between(4, 20) {
            let until = tokio::time::Instant::now() + dice.time(Duration::from_secs(12));
            while busy && tokio::time::Instant::now() < until {
                tokio::select! {
                    biased;
                    key = weather.write() => self.somebody_is_faster(&key).await,
                    () = tokio::time::sleep(dice.time(Duration::from_secs(1))) => self.somebody().await,
                }
            }
            // Half of the deeds are done amid a write, if there is one.
            if dice.one_in(2) {
                let _write = tokio::time::timeout_at(until, weather.write()).await;
            } else {
                tokio::time::sleep_until(until).await;
            }
            self.deed().await;
            if self.state().await.is_some_and(|state| state.is_ended()) && dice.one_in(2) {
                break;
            }
        }
        for past in std::mem::take(&mut self.coming_back) {
            past.await.unwrap();
        }
        for (env, forward) in std::mem::take(&mut self.wrong_clocks) {
            env.set_clock(-forward);
        }
        weather.losses.store(0, Ordering::Relaxed);
        weather.tickets.store(0, Ordering::Relaxed);
    }

    async fn deed(&mut self) {
        let dice = self.fleet.dice.clone();
        match dice.index(20) {
            0..3 => {
                let n = dice.index(self.workers.len());
                self.workers[n].kill();
                let name = self.name("w");
                self.tell(format!("{} is killed, {name} is started", self.workers[n].name));
                tokio::time::sleep(dice.time(Duration::from_secs(30))).await;
                self.workers[n] = self.fleet.worker(&name);
            }
            3..6 => {
                let n = dice.index(self.workers.len());
                self.freeze(false, n);
            }
            6..8 => {
                let n = dice.index(self.coordinators.len());
                self.coordinators[n].kill();
                let name = self.name("c");
                self.tell(format!("{} is killed, {name} is started", self.coordinators[n].name));
                tokio::time::sleep(dice.time(Duration::from_secs(30))).await;
                self.coordinators[n] = self.fleet.coordinator(&name);
            }
            8 => {
                let n = dice.index(self.coordinators.len());
                self.freeze(true, n);
            }
            9 => {
                self.tell("the checkpoint is restarted");
                self.fleet.watch.voids_leases();
                self.fleet.backend.restart();
            }
            10 | 11 => self.roll_back(),
            12 => {
                let n = dice.index(self.workers.len());
                self.tell(format!("{} loses its connection to the queue", self.workers[n].name));
                self.workers[n].queue.cut();
            }
            13 => self.cancel().await,
            14 => self.set_a_clock(),
            15 => {
                self.tell("the checkpoint is emptied");
                self.fleet.watch.forgets();
                self.fleet.backend.flush();
            }
            _ => self.somebody().await,
        }
    }

    /// Somebody writes or deletes one of some keys; all others stay as they are.
    async fn somebody(&mut self) {
        let key = format!("{:04}", self.fleet.dice.between(0, THEIRS) * EACH);
        self.somebody_writes(&key).await;
    }

    /// Somebody's write takes effect before one of the same key that is on its way.
    async fn somebody_is_faster(&mut self, key: &str) {
        let theirs = key.parse().is_ok_and(|n: u64| n.is_multiple_of(EACH) && n < THEIRS * EACH);
        if theirs && self.fleet.dice.one_in(8) {
            self.somebody_writes(key).await;
        }
    }

    async fn somebody_writes(&mut self, key: &str) {
        let dice = self.fleet.dice.clone();
        // Whoever writes again looks first at what became of the last write.
        self.fleet.check_body(key).await;
        if dice.one_in(5) {
            self.tell(format!("somebody deletes {key}"));
            self.fleet.delete(key);
        } else {
            self.tell(format!("somebody puts {key}"));
            self.fleet.put(key, true).await;
        }
    }

    /// Nothing goes from it or comes to it for a while. The queue gives its tickets to others before long.
    fn freeze(&mut self, coordinator: bool, n: usize) {
        let process = if coordinator { &self.coordinators[n] } else { &self.workers[n] };
        let (wire, queue, dice) = (process.wire.clone(), process.queue.clone(), self.fleet.dice.clone());
        // Half of them for longer than their leases stand.
        let long = dice.one_in(2);
        let time = if long { Duration::from_secs(dice.between(30, 240)) } else { dice.time(Duration::from_secs(30)) };
        let deed = format!("{} is frozen for {time:?}", process.name);
        self.tell(deed);
        wire.set(Life::Frozen);
        tokio::spawn(async move {
            if time > Duration::from_secs(20) && dice.one_in(2) {
                tokio::time::sleep(Duration::from_secs(20)).await;
                queue.cut();
                tokio::time::sleep(time.saturating_sub(Duration::from_secs(20))).await;
            } else {
                tokio::time::sleep(time).await;
            }
            wire.set(Life::Runs);
        });
    }

    /// The checkpoint comes back later as it is now.
    fn roll_back(&mut self) {
        let dice = self.fleet.dice.clone();
        let time = dice.time(Duration::from_secs(60));
        self.tell(format!("the checkpoint of now comes back in {time:?}"));
        let (backend, watch, past) = (self.fleet.backend.clone(), self.fleet.watch.clone(), self.fleet.backend.copy());
        self.coming_back.push(tokio::spawn(async move {
            tokio::time::sleep(time).await;
            watch.forgets();
            backend.roll_back(past);
        }));
    }

    /// Somebody sets the clock of a process, by up to an hour, and right again when it is calm.
    fn set_a_clock(&mut self) {
        let dice = self.fleet.dice.clone();
        let all = self.coordinators.iter().chain(&self.workers).collect::<Vec<_>>();
        let process = all[dice.index(all.len())];
        let forward = i64::try_from(dice.between(0, 7200)).unwrap_or(0) - 3600;
        process.env.set_clock(forward);
        let (env, deed) = (process.env.clone(), format!("the clock of {} is set by {forward} s", process.name));
        self.tell(deed);
        self.wrong_clocks.push((env, forward));
    }

    async fn cancel(&mut self) {
        self.tell("the job is cancelled");
        let cancelled = self.fleet.ledger().update_job(&self.job, cancel).await;
        if matches!(cancelled, Err(LedgerError::Backend(_))) {
            self.fleet.watch.harm(format!("a cancel failed: {cancelled:?}"));
        }
        if self.fleet.dice.one_in(2) {
            self.key = if self.key == "key-b" { "key-c" } else { "key-b" };
        }
    }

    /// How the job stands; `None` where the checkpoint knows nothing of it.
    async fn state(&self) -> Option<JobState> {
        self.fleet.ledger().job(&self.job).await.ok().map(|job| job.state)
    }

    /// Somebody wants a job done: where it is cancelled, failed or forgotten, another one, or the one that lives again in
    /// a checkpoint that was rolled back.
    async fn see_to_it(&mut self) {
        let state = self.state().await;
        if state.as_ref().is_some_and(|state| !state.is_ended() || *state == JobState::Completed) {
            return;
        }
        if state.is_none() && self.fleet.dice.one_in(2) {
            let taken_up = self.fleet.take_up(&self.job).await;
            self.tell(format!("{} is taken up: {taken_up:?}", self.job));
            return;
        }
        if matches!(state, Some(JobState::Failed { .. })) {
            // A job that nobody remembers may be in the way for a while.
            tokio::time::sleep(Duration::from_secs(300)).await;
        }
        match self.fleet.submit(self.key).await {
            Ok(job) => {
                self.tell(format!("after {state:?} {job} to {} is submitted", self.key));
                self.job = job;
            }
            Err(LedgerError::Refused(Refusal::Exists)) => self.fleet.watch.harm("a job's name was used twice".into()),
            Err(LedgerError::Refused(Refusal::Overlap { .. })) => {
                let live = self.fleet.ledger().live_jobs().await.unwrap();
                let asked = self.fleet.submitted().into_iter().find(|(id, _)| live.iter().any(|job| job.id == *id));
                if let Some((job, key)) = asked {
                    self.tell(format!("the job to {key} lives again"));
                    (self.job, self.key) = (job, key);
                }
            }
            Err(error) => self.fleet.watch.harm(format!("a job was refused: {error}")),
        }
    }

    /// The calm: everybody lives, nothing is lost. Gives the job that was completed, and to which key.
    pub(crate) async fn calm_down(&mut self) -> Option<(JobId, &'static str)> {
        self.tell("calm");
        let began = tokio::time::Instant::now();
        while began.elapsed() < CALM {
            if self.fleet.submitted().len() > 30 {
                self.fleet.watch.harm("one job after the other fails".into());
                return None;
            }
            self.see_to_it().await;
            if self.state().await == Some(JobState::Completed) {
                return self.fleet.submitted().into_iter().find(|(id, _)| *id == self.job);
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        let job = self.fleet.ledger().job(&self.job).await;
        self.fleet.watch.harm(format!("it never ends: {:?}", job.map(|job| job.state)));
        None
    }

    /// Waits until nobody is frozen any more and no ticket lies about, but not for ever.
    pub(crate) async fn quiet(&self) {
        let frozen = || self.coordinators.iter().chain(&self.workers).any(|one| one.wire.life() == Life::Frozen);
        let began = tokio::time::Instant::now();
        while (frozen() || !self.fleet.queue.is_empty()) && began.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        // What is on its way arrives.
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
}
