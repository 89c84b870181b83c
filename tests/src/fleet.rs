//! A fleet on one machine: coordinators and workers as processes, with a Redis and a RabbitMQ that the test started and may
//! kill. In both they are the users that are shipped, with no more rights than those.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use keyrotate_peers::{PrivateRabbitMq, PrivateRedis};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bucket;
use crate::exe::{Ended, Process};
use crate::job::JobFile;
use crate::stand::Stand;
use crate::target::Target;
use crate::wait::until;

/// How long a job may take. Brokers are killed and machines are slow; nothing waits that long where all is well.
const LIMIT: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What every role says of itself into its file.
const LOG: &str = "keyrotate_worker=debug,keyrotate_coordinator=info,keyrotate_queue=info,warn,lapin=off";
/// Redis lets exactly the commands and keys through that are shipped.
const ACL: &str = include_str!("../../deploy/redis/users.acl");
/// And one user more, who may do anything, as an administrator does by mistake.
const ADMINISTRATOR: &str = "user administrator on >private ~* &* +@all\n";

/// The fleet of one test.
#[derive(Debug)]
pub struct Fleet {
    /// Its bucket, and a folder.
    pub stand: Stand,
    /// Its checkpoint.
    pub redis: PrivateRedis,
    /// Its queue.
    pub rabbitmq: PrivateRabbitMq,
    /// Who calls the coordinator.
    pub client: reqwest::Client,
    variables: BTreeMap<String, String>,
    reports: String,
}

/// A running coordinator.
#[derive(Debug)]
pub struct Coordinator {
    /// The process.
    pub process: Process,
    /// Where it answers.
    pub url: String,
}

impl Fleet {
    /// Redis and RabbitMQ, an empty bucket and one for the reports; no role yet.
    ///
    /// # Panics
    /// When they can't be started.
    pub async fn on(target: Arc<Target>) -> Self {
        Self::with(target, &[]).await
    }

    /// The same with settings of each role.
    ///
    /// # Panics
    /// When they can't be started.
    pub async fn with(target: Arc<Target>, settings: &[(&str, &str)]) -> Self {
        let rabbitmq = PrivateRabbitMq::start().await.expect("rabbitmq-server is installed and starts");
        let options = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];
        Self::around(Stand::on(target, false).await, rabbitmq, &options, settings).await
    }

    /// A fleet around a bucket that is there already, with a RabbitMQ that runs and a Redis with these options.
    ///
    /// # Panics
    /// When Redis can't be started.
    pub async fn around(stand: Stand, rabbitmq: PrivateRabbitMq, redis: &[&str], settings: &[(&str, &str)]) -> Self {
        // Refused where one is installed already.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let reports = format!("{}-reports", stand.bucket);
        bucket::create(stand.client(), &reports, false).await;
        let acl = stand.dir().join("users.acl");
        fs::write(&acl, format!("{ACL}{ADMINISTRATOR}")).expect("the test's folder can be written");
        let redis = PrivateRedis::start_with(&[redis, &["--aclfile", &acl.display().to_string()]].concat()).await;
        let redis = redis.expect("redis-server is installed and starts");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
        let (checkpoint, queue) = (checkpoint_of(&redis), rabbitmq.shipped_url("/"));
        let ours = [
            ("KEYROTATE_REDIS_URL", checkpoint.as_str()),
            ("KEYROTATE_RABBITMQ_URL", queue.as_str()),
            ("KEYROTATE_REPORTS_BUCKET", reports.as_str()),
            ("KEYROTATE_REPORTS_PREFIX", "jobs/"),
            ("RUST_LOG", LOG),
        ];
        let variables = and(&and(stand.target.variables(), &ours), settings);
        Self { stand, redis, rabbitmq, client, variables, reports }
    }

    /// One more coordinator. It answers when this returns.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn coordinator(&self) -> Coordinator {
        self.coordinator_with(&[]).await
    }

    /// The same with settings of its own.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn coordinator_with(&self, settings: &[(&str, &str)]) -> Coordinator {
        let args = ["coordinator", "--listen", "127.0.0.1:0"];
        let mut process = Process::start(args, &and(&self.variables, settings), self.stand.dir());
        let line = "keyrotate coordinator";
        until("a coordinator listens", || process.has_ended() || place(&process, line).is_some()).await;
        let url = place(&process, line).unwrap_or_else(|| panic!("no coordinator:\n{}", process.stderr()));
        Coordinator { process, url }
    }

    /// One more worker. It serves when this returns.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn worker(&self) -> Process {
        self.worker_with(&[]).await
    }

    /// The same with settings of its own.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn worker_with(&self, settings: &[(&str, &str)]) -> Process {
        self.serving(Process::start(["worker"], &and(&self.variables, settings), self.stand.dir())).await
    }

    /// The same by a program that becomes it, such as `nice -n 10`.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn worker_by(&self, by: &[&str]) -> Process {
        self.serving(Process::start_by(by, ["worker"], &self.variables, self.stand.dir())).await
    }

    async fn serving(&self, mut process: Process) -> Process {
        until("a worker serves", || process.has_ended() || process.stderr().contains("serves store")).await;
        assert!(!process.has_ended(), "no worker:\n{}", process.stderr());
        process
    }

    /// So many of them.
    pub async fn workers(&self, count: usize) -> Vec<Process> {
        let mut workers = Vec::new();
        for _ in 0..count {
            workers.push(self.worker().await);
        }
        workers
    }

    /// Submits a job file; gives the job's id.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn submit(&self, to: &Coordinator, job: &JobFile) -> String {
        self.submit_with(to, job, &[]).await
    }

    /// The same with headers of one's own.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn submit_with(&self, to: &Coordinator, job: &JobFile, headers: &[(&str, &str)]) -> String {
        let request = self.client.post(format!("{}/v1/jobs", to.url)).header("content-type", "application/yaml");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.body(job.text()).send().await.expect("the coordinator answers");
        let status = answer.status().as_u16();
        let body: Value = parsed(&answer.bytes().await.expect("an answer has a body"));
        // 200: the same submit began it before.
        assert!(matches!(status, 200 | 201), "{status}: {body}");
        body["id"].as_str().expect("a job has an id").to_owned()
    }

    /// Tells a job to do something: `cancel`, `pause`, `resume`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn tell(&self, to: &Coordinator, job: &str, verb: &str) {
        let answer = self.client.post(format!("{}/v1/jobs/{job}/{verb}", to.url)).send().await;
        let answer = answer.expect("the coordinator answers");
        let status = answer.status();
        assert!(status.is_success(), "{status}: {:?}", answer.bytes().await);
    }

    /// Changes a job's limits: a JSON object of them.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn limit(&self, to: &Coordinator, job: &str, limits: &str) {
        let request = self.client.patch(format!("{}/v1/jobs/{job}/limits", to.url));
        let answer = request.header("content-type", "application/json").body(limits.to_owned()).send().await;
        let answer = answer.expect("the coordinator answers");
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Puts a message into a queue as somebody else would, who knows nothing of tickets.
    ///
    /// # Panics
    /// When RabbitMQ refuses it.
    pub async fn publish_raw(&self, queue: &str, payload: &str) {
        let url = format!("{}/api/exchanges/%2F/amq.default/publish", self.rabbitmq.management_url());
        let message =
            json!({ "properties": {}, "routing_key": queue, "payload": payload, "payload_encoding": "string" });
        let answer = self.client.post(url).header("content-type", "application/json").body(message.to_string());
        let answer = answer.send().await.expect("RabbitMQ's management answers");
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Says something to Redis as an administrator; gives what it said.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn tell_redis(&self, command: &[&str]) -> String {
        let port = self.redis.port().to_string();
        let as_administrator = ["-p", &port, "--user", "administrator", "--pass", "private", "--no-auth-warning", "-e"];
        let told = tokio::process::Command::new("redis-cli").args(as_administrator).args(command).output().await;
        let told = told.expect("redis-cli can be run");
        let said = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        assert!(told.status.success(), "{command:?}: {said} {}", String::from_utf8_lossy(&told.stderr));
        said
    }

    /// How a job stands; `None` while the coordinator does not answer, or says that it can't.
    pub async fn status(&self, of: &Coordinator, job: &str) -> Option<Value> {
        let answer = self.client.get(format!("{}/v1/jobs/{job}", of.url)).send().await.ok()?;
        let answer = if answer.status().is_success() { answer } else { return None };
        Some(parsed(&answer.bytes().await.ok()?))
    }

    /// Waits until the job's status is so; gives it.
    ///
    /// # Panics
    /// When it ends before, or takes longer than anything should.
    pub async fn until(&self, of: &Coordinator, job: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let give_up = Instant::now() + LIMIT;
        let mut last = Value::Null;
        while Instant::now() < give_up {
            if let Some(status) = self.status(of, job).await {
                if so(&status) {
                    return status;
                }
                assert!(!is_ended(&status), "the job ended before {what}: {status}");
                last = status;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("waited {LIMIT:?} in vain until {what}: {last}");
    }

    /// Waits until so many versions have an outcome.
    pub async fn until_scanned(&self, of: &Coordinator, job: &str, count: u64) -> Value {
        let so = |status: &Value| status["scanned"].as_u64().unwrap_or(0) >= count;
        self.until(of, job, &format!("{count} versions are through"), so).await
    }

    /// Waits for the job's end and fetches its report to where [`Stand::report`] finds it.
    pub async fn end(&self, of: &Coordinator, job: &str) -> Ended {
        let status = self.until(of, job, "it ends", is_ended).await;
        self.fetch_reports(job).await;
        let code = status["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok());
        Ended { code, stdout: status.to_string(), stderr: format!("job {job} ended\n") }
    }

    /// Messages that wait in RabbitMQ or are being worked on, and those among the dead letters.
    ///
    /// # Panics
    /// When RabbitMQ's management does not say.
    pub async fn messages(&self) -> (u64, u64) {
        let url = format!("{}/api/queues/%2F", self.rabbitmq.management_url());
        let answer = self.client.get(url).send().await.expect("RabbitMQ's management answers");
        let queues = parsed(&answer.bytes().await.expect("an answer has a body"));
        let queues = queues.as_array().expect("a list of queues").iter();
        let count = |queue: &Value| (queue["name"] == "keyrotate.dead", queue["messages"].as_u64().unwrap_or(0));
        queues.map(count).fold((0, 0), |(live, dead), (is_dead, count)| match is_dead {
            true => (live, dead + count),
            false => (live + count, dead),
        })
    }

    /// The reports of a job, as a folder: `STATE/fleet/bucket/jobs/JOB`.
    async fn fetch_reports(&self, job: &str) {
        let of = format!("jobs/{job}/");
        let give_up = Instant::now() + LIMIT;
        // Its record is kept there as soon as it has ended, which is a moment later.
        let listed = loop {
            let listed = bucket::list(self.stand.client(), &self.reports).await;
            if listed.iter().any(|one| one.key == format!("{of}job.json")) {
                break listed;
            }
            assert!(Instant::now() < give_up, "the record of {job} was never kept");
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let folder = self.stand.state().join("fleet/bucket/jobs").join(job);
        for one in listed.iter().filter(|one| one.key.starts_with(&of)) {
            let path = folder.join(&one.key[of.len()..]);
            let body =
                bucket::get(self.stand.client(), &self.reports, &one.key, None).await.expect("reports can be read");
            fs::create_dir_all(path.parent().expect("a file lies in a folder"))
                .expect("the test's folder can be written");
            fs::write(path, body).expect("the test's folder can be written");
        }
    }
}

impl Coordinator {
    /// Whether it leads, by what it said last.
    #[must_use]
    pub fn leads(&self) -> bool {
        let said = self.process.stderr();
        let last = said.lines().rfind(|line| line.contains("leads"));
        last.is_some_and(|line| !line.contains("leads no more"))
    }
}

/// Where a Redis of a fleet is, for the user that is shipped.
#[must_use]
pub fn checkpoint_of(redis: &PrivateRedis) -> String {
    format!("redis://keyrotate:change-me@127.0.0.1:{}", redis.port())
}

/// Kills whoever leads.
///
/// # Panics
/// When nobody does.
pub async fn kill_the_leader(coordinators: &mut Vec<Coordinator>) {
    let leader = coordinators.iter().position(Coordinator::leads).expect("one leads");
    let _killed = coordinators.remove(leader).process.kill().await;
}

/// The worker that holds a slice of the job, by its status: the process id stands in its name.
#[must_use]
pub fn at_work(status: &Value, workers: &[Process]) -> Option<usize> {
    let names: Vec<&str> = status["workers"].as_array()?.iter().filter_map(|line| line["name"].as_str()).collect();
    workers.iter().position(|worker| names.iter().any(|name| name.contains(&format!("-{}-", worker.id()))))
}

/// Where a process says, in that line, that it listens.
#[must_use]
pub fn place(process: &Process, line: &str) -> Option<String> {
    process.stderr().lines().find(|said| said.contains(line))?.split_once(" at ").map(|(_, url)| url.to_owned())
}

/// Variables, and more of them.
#[must_use]
pub fn and(variables: &BTreeMap<String, String>, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    variables.clone().into_iter().chain(more).collect()
}

fn is_ended(status: &Value) -> bool {
    matches!(status["state"].as_str(), Some("completed" | "failed" | "cancelled"))
}

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(body)))
}
