//! A client under measurement: a child process.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::Error;
use crate::server::Server;
use crate::watch::{LOOK_EVERY, Sample, Seen, Watch, cpu, peak_kib};

/// A client that is at work.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    watch: Watch,
    said: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Client {
    /// `keyrotate run` of a job file.
    pub(crate) fn keyrotate(exe: &Path, server: &mut Server, job: &Path, state: &Path) -> Result<Self, Error> {
        let mut command = Command::new(exe);
        command.arg("run").arg(job).arg("--state").arg(state).args(["--yes", "--no-wait", "--output", "json"]);
        Self::start(command, server, Stdio::null())
    }

    /// `keyrotate run --dry-run` of a job file; what it foretells goes into `forecast`.
    pub(crate) fn dry_run(
        exe: &Path,
        server: &mut Server,
        job: &Path,
        state: &Path,
        forecast: &Path,
    ) -> Result<Self, Error> {
        let mut command = Command::new(exe);
        command.arg("run").arg(job).arg("--state").arg(state).args(["--dry-run", "--output", "json"]);
        Self::start(command, server, File::create(forecast)?.into())
    }

    /// This very executable in another role.
    pub(crate) fn own(args: &[String], server: &mut Server) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        Self::start(command, server, Stdio::null())
    }

    fn start(mut command: Command, server: &mut Server, stdout: Stdio) -> Result<Self, Error> {
        alone(&mut command, server);
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let watch = Watch::begin(server)?;
        let mut child = command.spawn()?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (child.stderr.take().ok_or("no standard error")?, Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
            }
        });
        Ok(Self { child, watch, said })
    }

    /// Looks once; whether it is still at work.
    pub(crate) fn look(&mut self, server: &mut Server) -> Result<bool, Error> {
        let id = self.child.id();
        // What a process used can still be read between its end and our wait for it.
        let (cpu, ended) = cpu(id).ok_or("the client is gone")?;
        self.watch.note_peak(peak_kib(id).unwrap_or(0));
        self.watch.note(server, cpu, 0.0)?;
        Ok(!ended)
    }

    /// What was seen so far.
    pub(crate) fn last(&self) -> Option<&Sample> {
        self.watch.last()
    }

    /// Watches it to its end.
    pub(crate) async fn end(mut self, server: &mut Server) -> Result<Seen, Error> {
        while self.look(server)? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let status = self.child.wait()?;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // 3: completed, and the versions that were replaced are still there.
        if !matches!(status.code(), Some(0 | 3)) {
            let lines: Vec<_> = said.into_iter().map(|(_, line)| line).collect();
            return Err(format!("a client ended with {status}:\n{}", lines.join("\n")).into());
        }
        let states = states(self.watch.began(), &said);
        Ok(Seen { states, ..self.watch.end(server) })
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) -> Result<(), Error> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// With an environment that has nothing in it but the store.
fn alone(command: &mut Command, server: &Server) {
    let keep = ["PATH", "HOME", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(keep).envs(&server.variables);
}

/// Without a terminal, `run` says `STATE`, `STATE: …` or `STATE  …`, at each change of state.
fn states(began: Instant, said: &[(Instant, String)]) -> Vec<(f64, String)> {
    let mut states: Vec<(f64, String)> = Vec::new();
    for (at, line) in said {
        let state = line.split_once("  ").map_or(line.as_str(), |(state, _)| state);
        let state = state.split_once(": ").map_or(state, |(state, _)| state);
        if !state.contains(' ') && states.iter().all(|(_, known)| known != state) {
            states.push(((*at - began).as_secs_f64(), state.to_owned()));
        }
    }
    states
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
