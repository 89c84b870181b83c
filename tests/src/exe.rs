//! The executable as a child process, with an environment that a test chose and nothing else.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::wait::{LIMIT_OF_A_JOB, within};

/// The path of `keyrotate`: beside this test's own executable, built first if it is not there.
///
/// # Panics
/// When it can't be built.
pub fn executable() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let own = std::env::current_exe().expect("a running test has a path");
        let profile = own.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
        let path = profile.join(format!("keyrotate{}", std::env::consts::EXE_SUFFIX));
        if !path.exists() {
            build(profile);
        }
        assert!(path.exists(), "`{}` is not there: cargo build --package keyrotate", path.display());
        path
    })
}

fn build(profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "keyrotate"]).arg("--target-dir");
    command.arg(profile.parent().expect("a profile lies in a target folder"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let built = command.status().expect("cargo can be run");
    assert!(built.success(), "`{command:?}` failed");
}

/// A running `keyrotate`. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a process ended and what it said.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Process {
    /// Starts it with exactly these variables, its output in files below `dir`.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start<'a>(
        args: impl IntoIterator<Item = &'a str>,
        variables: &BTreeMap<String, String>,
        dir: &Path,
    ) -> Self {
        Self::start_by(&[], args, variables, dir)
    }

    /// The same by a program that becomes it, such as `nice -n 10`.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start_by<'a>(
        by: &[&str],
        args: impl IntoIterator<Item = &'a str>,
        variables: &BTreeMap<String, String>,
        dir: &Path,
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) = (dir.join(format!("{number}.out")), dir.join(format!("{number}.err")));
        let file = |path: &Path| File::create(path).expect("the test's folder can be written");
        let mut words = by.iter().map(OsStr::new).chain([executable().as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(args).env_clear().envs(variables).env("HOME", dir).current_dir(dir);
        let command = command.stdin(Stdio::null()).stdout(file(&stdout)).stderr(file(&stderr));
        let child = command.spawn().expect("keyrotate can be started");
        Self { child, stdout, stderr }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far on standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it said so far on standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Sends it a signal: `INT`, `TERM`, `STOP`, `CONT` or `KILL`.
    ///
    /// # Panics
    /// When it can't be sent.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status();
        assert!(sent.expect("sh can be run").success(), "SIG{name} could not be sent");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within ten minutes.
    pub async fn end(mut self) -> Ended {
        let tail = self.stderr.clone();
        within(LIMIT_OF_A_JOB, &format!("keyrotate ends; see {}", tail.display()), || self.has_ended()).await;
        let status = self.child.wait().expect("it has ended");
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        Ended { code: status.code(), stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }

    /// Ends it as a power cut would, unless it has ended by itself.
    ///
    /// # Panics
    /// When it can't be killed.
    pub async fn kill(mut self) -> Ended {
        self.child.kill().expect("a child can be killed");
        self.end().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Ended {
    /// Itself, when it ended with that code.
    ///
    /// # Panics
    /// When it ended otherwise; with all it said.
    #[must_use]
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Itself, when it completed, with or without exceptions.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    #[track_caller]
    pub fn expect_completed(self) -> Self {
        let code = if self.code == Some(3) { 3 } else { 0 };
        self.expect(code)
    }

    /// The summary that `--output json` prints.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn summary(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("no summary ({e}):\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }

    /// The id of its job, which its first line names.
    ///
    /// # Panics
    /// When it named none.
    #[must_use]
    #[track_caller]
    pub fn job(&self) -> String {
        job_id(&self.stderr).unwrap_or_else(|| panic!("no job in:\n{}", self.stderr))
    }
}

/// The id in `job ID begins` and its like.
#[must_use]
pub fn job_id(talk: &str) -> Option<String> {
    talk.lines().find_map(|line| line.strip_prefix("job ")?.split(' ').next()).map(str::to_owned)
}
