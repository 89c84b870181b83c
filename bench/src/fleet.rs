//! A fleet under measurement: a coordinator and workers as processes, RabbitMQ and a Redis that syncs each write between
//! them, all private.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_peers::{PrivateRabbitMq, PrivateRedis};
use keyrotate_proto::api::{JobDescription, JobStatus, PassLine, Submitted};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::server::Server;
use crate::watch::{LOOK_EVERY, Seen, Watch, cpu_of, cpu_of_group, peak_kib};

/// How often the API is asked how a job stands: each time costs the coordinator something.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long a role may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew {
    /// How many.
    pub(crate) workers: usize,
    /// Store calls in flight, of each.
    pub(crate) permits: usize,
    /// What is logged.
    pub(crate) log: &'static str,
}

/// What is logged where nobody reads it.
pub(crate) const QUIET: &str = "error";
/// What is logged where leases are of interest.
pub(crate) const LEASES: &str = "keyrotate_worker=debug,error";

/// The fleet. Gone with its handle.
#[derive(Debug)]
pub(crate) struct Fleet {
    redis: PrivateRedis,
    rabbitmq: PrivateRabbitMq,
    coordinator: Role,
    workers: Vec<Role>,
    url: String,
    http: reqwest::Client,
    _dir: TempDir,
}

/// What a job of a fleet was like.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its processes from outside.
    pub(crate) seen: Seen,
    /// Its passes.
    pub(crate) passes: Vec<PassLine>,
    /// Memory.
    pub(crate) peaks: Peaks,
}

/// Largest resident memory, in KiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Peaks {
    /// The coordinator's.
    pub(crate) coordinator: u64,
    /// Of the worker that took most.
    pub(crate) worker: u64,
    /// Redis'.
    pub(crate) redis: u64,
}

/// A worker got a shard, as its log says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Lease {
    /// When.
    pub(crate) timestamp: Timestamp,
    /// Which.
    pub(crate) shard: String,
}

impl Fleet {
    /// Starts all of it; its reports lie in the store that it works on.
    pub(crate) async fn start(exe: &Path, server: &mut Server, crew: Crew) -> Result<Self, Error> {
        let redis = PrivateRedis::start().await?;
        let rabbitmq = PrivateRabbitMq::start().await?;
        let dir = TempDir::new()?;
        let settings = [
            ("KEYROTATE_REDIS_URL", redis.url()),
            ("KEYROTATE_RABBITMQ_URL", rabbitmq.url("/")),
            ("KEYROTATE_REPORTS_BUCKET", server.bucket(0, None)?),
            ("KEYROTATE_WORKER_PERMITS", crew.permits.to_string()),
            ("KEYROTATE_LOG_FORMAT", "json".to_owned()),
            ("RUST_LOG", crew.log.to_owned()),
            ("XDG_CONFIG_HOME", dir.path().display().to_string()),
        ];
        let role = |args: &[&str]| Role::start(exe, args, &settings, server);
        let coordinator = role(&["coordinator", "--listen", "127.0.0.1:0"])?;
        let mut workers = Vec::new();
        for _ in 0..crew.workers {
            workers.push(role(&["worker"])?);
        }
        let url = coordinator.says("keyrotate coordinator").await?;
        let url = url.split_once(" at ").ok_or("a coordinator says where it answers")?.1.to_owned();
        for worker in &workers {
            worker.says("serves store").await?;
        }
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { redis, rabbitmq, coordinator, workers, url, http, _dir: dir })
    }

    /// Runs a job to its end.
    pub(crate) async fn run(&self, server: &mut Server, job: &str) -> Result<Run, Error> {
        let mut watch = Watch::begin(server)?;
        let (clients, brokers) = self.cpu()?;
        let id = self.submit(job).await?;
        let mut asked = Instant::now();
        loop {
            let (clients_now, brokers_now) = self.cpu()?;
            watch.note(server, clients_now - clients, brokers_now - brokers)?;
            if asked.elapsed() >= ASK_EVERY {
                if self.has_completed(&id).await? {
                    break;
                }
                asked = Instant::now();
            }
            sleep(LOOK_EVERY).await;
        }
        let passes = self.passes(&id).await?;
        Ok(Run { seen: watch.end(server), passes, peaks: self.peaks()? })
    }

    /// Submits a job file, and confirms it; gives the job's id.
    pub(crate) async fn submit(&self, job: &str) -> Result<String, Error> {
        let request = self.http.post(format!("{}/v1/jobs?confirm=true", self.url));
        let request = request.header("content-type", "application/yaml").body(job.to_owned());
        Ok(answer::<Submitted>(request).await?.id.to_string())
    }

    /// How a job stands.
    pub(crate) async fn status(&self, id: &str) -> Result<JobStatus, Error> {
        answer(self.http.get(format!("{}/v1/jobs/{id}", self.url))).await
    }

    /// Whether a job has ended well; an error when it has ended otherwise.
    pub(crate) async fn has_completed(&self, id: &str) -> Result<bool, Error> {
        let status = self.status(id).await?;
        match (status.is_ended(), status.job.state.as_str()) {
            (true, "completed") => Ok(true),
            (true, state) => Err(format!("the job ended {state}: {:?} {:?}", status.reason, status.detail).into()),
            (false, _) => Ok(false),
        }
    }

    /// The passes of a job.
    pub(crate) async fn passes(&self, id: &str) -> Result<Vec<PassLine>, Error> {
        let described: JobDescription = answer(self.http.get(format!("{}/v1/jobs/{id}/describe", self.url))).await?;
        Ok(described.passes)
    }

    /// Kills the worker of that name as a power cut would; what it had leased. `None`: there is no such worker.
    pub(crate) fn kill(&mut self, name: &str) -> Result<Option<Vec<Lease>>, Error> {
        let is = |worker: &Role| name.contains(&format!("-{}-", worker.child.id()));
        let Some(place) = self.workers.iter().position(is) else { return Ok(None) };
        let mut killed = self.workers.remove(place);
        killed.child.kill()?;
        Ok(Some(killed.leases()))
    }

    /// What the workers that live have leased so far.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.workers.iter().flat_map(Role::leases).collect()
    }

    /// CPU seconds of coordinator and workers, and of RabbitMQ and Redis.
    fn cpu(&self) -> Result<(f64, f64), Error> {
        let clients = self.workers.iter().chain([&self.coordinator]).map(|role| cpu_of(role.child.id())).sum();
        let rabbitmq = self.rabbitmq.process_group().map_or(Ok(0.0), cpu_of_group)?;
        Ok((clients, rabbitmq + self.redis.pid().map_or(0.0, cpu_of)))
    }

    fn peaks(&self) -> Result<Peaks, Error> {
        let of = |id: u32| peak_kib(id).ok_or("a process is gone");
        let mut worker = 0;
        for role in &self.workers {
            worker = of(role.child.id())?.max(worker);
        }
        let redis = of(self.redis.pid().ok_or("Redis is gone")?)?;
        Ok(Peaks { coordinator: of(self.coordinator.child.id())?, worker, redis })
    }
}

/// A process of the fleet, and what it said on its standard error.
#[derive(Debug)]
struct Role {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Role {
    fn start(exe: &Path, args: &[&str], settings: &[(&str, String)], server: &Server) -> Result<Self, Error> {
        let mut command = Command::new(exe);
        let keep = ["PATH", "HOME", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.args(args).env_clear().envs(keep).envs(&server.variables);
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (child.stderr.take().ok_or("no standard error")?, Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { child, said })
    }

    /// Waits for a line.
    async fn says(&self, what: &str) -> Result<String, Error> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let said = self.said();
            if let Some(line) = said.iter().find(|line| line.contains(what)) {
                return Ok(line.clone());
            }
            if Instant::now() > give_up {
                return Err(format!("a role did not say `{what}`:\n{}", said.join("\n")).into());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn leases(&self) -> Vec<Lease> {
        let leased = self.said().into_iter().filter(|line| line.contains(r#""leased""#));
        leased.filter_map(|line| serde_json::from_str(&line).ok()).collect()
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

async fn answer<T: for<'a> Deserialize<'a>>(request: reqwest::RequestBuilder) -> Result<T, Error> {
    let answer = request.send().await?;
    let (status, body) = (answer.status(), answer.bytes().await?);
    if !status.is_success() {
        return Err(format!("the coordinator answers {status}: {}", String::from_utf8_lossy(&body)).into());
    }
    Ok(serde_json::from_slice(&body)?)
}
