//! A client under measurement: a child process, watched from outside while it works.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::Error;
use crate::server::{Requests, Server};

/// How often a client is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Linux counts a process's CPU in these, whatever the kernel's own tick is.
const TICK: f64 = 0.01;

/// A look at a client.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Seconds since it began.
    pub(crate) at: f64,
    /// CPU seconds it has used.
    pub(crate) cpu: f64,
    /// Requests that the store has counted since it began.
    pub(crate) requests: Requests,
}

/// All that was seen of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Looks, the last one at its end.
    pub(crate) samples: Vec<Sample>,
    /// Largest resident memory, in KiB.
    pub(crate) peak_kib: u64,
    /// When `run` first said each of its states.
    pub(crate) states: Vec<(f64, String)>,
    /// What it printed.
    pub(crate) stdout: String,
    /// CPU seconds that the store used meanwhile.
    pub(crate) server_cpu: f64,
}

/// Time and CPU of a stretch of work.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spent {
    /// Objects done in it.
    pub(crate) objects: f64,
    /// Seconds.
    pub(crate) seconds: f64,
    /// CPU seconds of the client.
    pub(crate) cpu: f64,
}

impl Spent {
    /// Objects per second.
    pub(crate) fn rate(&self) -> f64 {
        self.objects / self.seconds.max(1e-9)
    }

    /// CPU milliseconds per object.
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.cpu * 1000.0 / self.objects.max(1e-9)
    }
}

/// A client that is at work.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    began: Instant,
    before: Requests,
    server_before: f64,
    seen: Seen,
    said: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Client {
    /// `keyrotate run` of a job file.
    pub(crate) fn keyrotate(exe: &Path, server: &mut Server, job: &Path, state: &Path) -> Result<Self, Error> {
        let mut command = Command::new(exe);
        command.arg("run").arg(job).arg("--state").arg(state).args(["--yes", "--no-wait", "--output", "json"]);
        Self::start(command, server)
    }

    /// This very executable in another role.
    pub(crate) fn own(args: &[String], server: &mut Server) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        Self::start(command, server)
    }

    fn start(mut command: Command, server: &mut Server) -> Result<Self, Error> {
        let before = server.requests()?;
        let server_before = cpu(server.id()).map_or(0.0, |(cpu, _)| cpu);
        let keep = ["PATH", "HOME", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.env_clear().envs(keep).envs(&server.variables);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn()?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (child.stderr.take().ok_or("no standard error")?, Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
            }
        });
        Ok(Self { child, began, before, server_before, seen: Seen::default(), said })
    }

    /// Looks once; whether it is still at work.
    pub(crate) fn look(&mut self, server: &mut Server) -> Result<bool, Error> {
        let id = self.child.id();
        // What a process used can still be read between its end and our wait for it.
        let (cpu, ended) = cpu(id).ok_or("the client is gone")?;
        self.seen.peak_kib = self.seen.peak_kib.max(peak_kib(id).unwrap_or(0));
        let mut requests = server.requests()?;
        requests.iter_mut().for_each(|(name, count)| *count -= self.before.get(name).unwrap_or(&0));
        self.seen.samples.push(Sample { at: self.began.elapsed().as_secs_f64(), cpu, requests });
        Ok(!ended)
    }

    /// What was seen so far.
    pub(crate) fn last(&self) -> Option<&Sample> {
        self.seen.samples.last()
    }

    /// Watches it to its end.
    pub(crate) async fn end(mut self, server: &mut Server) -> Result<Seen, Error> {
        while self.look(server)? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.seen.server_cpu = cpu(server.id()).map_or(0.0, |(cpu, _)| cpu) - self.server_before;
        let mut stdout = self.child.stdout.take().ok_or("no standard output")?;
        stdout.read_to_string(&mut self.seen.stdout)?;
        let status = self.child.wait()?;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !status.success() {
            let lines: Vec<_> = said.into_iter().map(|(_, line)| line).collect();
            return Err(format!("a client ended with {status}:\n{}", lines.join("\n")).into());
        }
        self.seen.states = states(self.began, &said);
        Ok(self.seen)
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) -> Result<(), Error> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Seen {
    /// The whole of it, over so many objects.
    pub(crate) fn whole(&self, objects: u64) -> Spent {
        let end = self.samples.last();
        let (seconds, cpu) = end.map_or((0.0, 0.0), |end| (end.at, end.cpu));
        Spent { objects: float(objects), seconds, cpu }
    }

    /// The stretch in which requests of `operation` went from 2 % to 98 % of `objects`, those before the work (probes)
    /// left out: beginning and end of a run are not in it.
    pub(crate) fn steady(&self, operation: &str, objects: u64) -> Spent {
        let of = |sample: &Sample| sample.requests.get(operation).copied().unwrap_or(0);
        let others = self.samples.last().map_or(0, of).saturating_sub(objects);
        let done = |sample: &Sample| of(sample).saturating_sub(others);
        let (low, high) = (objects / 50, objects - objects / 50);
        let first = self.samples.iter().find(|sample| done(sample) >= low);
        let last = self.samples.iter().find(|sample| done(sample) >= high);
        let (Some(first), Some(last)) = (first, last) else { return Spent::default() };
        let objects = float(done(last) - done(first));
        Spent { objects, seconds: last.at - first.at, cpu: last.cpu - first.cpu }
    }

    /// From the moment when `run` said `from` to the one when it said `to` (or its end): to a tenth of a second.
    pub(crate) fn between(&self, from: &str, to: &str, objects: u64) -> Spent {
        let end = self.samples.last().map_or(0.0, |sample| sample.at);
        let said = |word: &str| self.states.iter().find(|(_, state)| state == word).map(|(at, _)| *at);
        let (from, to) = (said(from).unwrap_or(end), said(to).unwrap_or(end));
        let used = |at: f64| self.samples.iter().find(|sample| sample.at >= at).or(self.samples.last());
        let cpu = used(to).map_or(0.0, |sample| sample.cpu) - used(from).map_or(0.0, |sample| sample.cpu);
        Spent { objects: float(objects), seconds: to - from, cpu }
    }

    /// Requests to the store, by operation.
    pub(crate) fn requests(&self) -> Requests {
        self.samples.last().map(|sample| sample.requests.clone()).unwrap_or_default()
    }
}

/// A count as a number to divide.
#[expect(clippy::cast_precision_loss, reason = "counts here stay far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Without a terminal, `run` says `STATE`, or `STATE: …`, at each change of state.
fn states(began: Instant, said: &[(Instant, String)]) -> Vec<(f64, String)> {
    let mut states: Vec<(f64, String)> = Vec::new();
    for (at, line) in said {
        let state = line.split_once(": ").map_or(line.as_str(), |(state, _)| state);
        if !state.contains(' ') && states.iter().all(|(_, known)| known != state) {
            states.push(((*at - began).as_secs_f64(), state.to_owned()));
        }
    }
    states
}

/// CPU seconds of a process, and whether it has ended.
fn cpu(id: u32) -> Option<(f64, bool)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before the last parenthesis may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |i: usize| fields.get(i)?.parse::<u32>().ok();
    let used = f64::from(ticks(11)?) + f64::from(ticks(12)?);
    Some((used * TICK, matches!(fields.first(), Some(&"Z"))))
}

fn peak_kib(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// The executable to measure: `keyrotate` beside this one, built first, as it is now in the work tree.
pub(crate) fn build_keyrotate() -> Result<PathBuf, Error> {
    let own = std::env::current_exe()?;
    let profile = own.parent().ok_or("a running executable lies in a folder")?;
    let target = profile.parent().ok_or("a profile lies in a target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "keyrotate", "--target-dir"]).arg(target);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
    if !built.success() {
        return Err(format!("{build:?} failed").into());
    }
    Ok(profile.join("keyrotate"))
}

/// What changed from one count to another.
pub(crate) fn less(more: &Requests, less: &Requests) -> BTreeMap<String, f64> {
    let count = |requests: &Requests, name: &str| float(requests.get(name).copied().unwrap_or(0));
    let names = more.keys().chain(less.keys());
    names.map(|name| (name.clone(), count(more, name) - count(less, name))).filter(|(_, count)| *count != 0.0).collect()
}
