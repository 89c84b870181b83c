//! `demo --fleet`: the same show by a coordinator and three workers, each a process of its own, with RabbitMQ and Redis of
//! this machine between them. One worker is killed before your eyes.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use keyrotate_devstack::stack::DevStack;
use keyrotate_peers::{PeerError, PrivateRabbitMq, PrivateRedis};
use keyrotate_proto::api::JobStatus;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::follow::follow;
use crate::jobs::{Ask, Client, fleet::Fleet, show};

/// Workers at the start.
const WORKERS: usize = 3;
/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the job file in a fleet; gives the exit code of the job.
#[expect(clippy::print_stdout, reason = "the show is the output")]
pub(super) async fn rotate(stack: &DevStack, reports: &str, dir: &Path, job: &str) -> Result<Exit, Failure> {
    println!("Starting Redis and RabbitMQ of this machine, privately, in folders of their own …");
    let redis = PrivateRedis::start().await.map_err(|e| no_peer(&e))?;
    let rabbitmq = PrivateRabbitMq::start().await.map_err(|e| no_peer(&e))?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    let settings = [
        ("KEYROTATE_REDIS_URL", redis.url()),
        ("KEYROTATE_RABBITMQ_URL", rabbitmq.shipped_url("/")),
        ("KEYROTATE_REPORTS_BUCKET", reports.to_owned()),
        ("KEYROTATE_LISTEN", listen.clone()),
        // Nobody's own configuration takes part.
        ("XDG_CONFIG_HOME", dir.join("config").display().to_string()),
    ];
    let start = |role: &str, log: &str| role_of(role, &dir.join(log), stack, &settings);
    let mut coordinator = start("coordinator", "coordinator.log")?;
    answers(&mut coordinator, &listen, &dir.join("coordinator.log")).await?;
    println!("A coordinator serves its API at http://{listen}; three workers begin.");
    let mut workers = Vec::new();
    for n in 1..=WORKERS {
        workers.push(start("worker", &format!("worker-{n}.log"))?);
    }
    let config = keyrotate_config::Config::default();
    let fleet = Fleet::new(&format!("http://{listen}"), &config)?;
    let client = Client(&fleet);
    let body = Some(("application/yaml", job.as_bytes().to_vec()));
    let ask = Ask { method: "POST", path: "/v1/jobs?confirm=true".into(), body, idempotency_key: None };
    let begun = client.submit(ask, "job.yaml").await?;
    println!("The job {} is submitted.\n", begun.id);
    let status = follow(&fleet, &begun.id, |status| !status.is_preparing()).await?;
    if let Some(victim) = at_work(&status, &mut workers) {
        let pid = victim.id().unwrap_or_default();
        let killed = victim.kill().await;
        killed.map_err(|e| Failure::io("can't kill a worker, in", dir, &e))?;
        println!(
            "\nA worker that was at work, process {pid}, was just killed with SIGKILL; others go on with its part.\n"
        );
    }
    let status = follow(&fleet, &begun.id, JobStatus::is_ended).await?;
    println!("{}", show::line(&status));
    for process in workers.iter_mut().chain([&mut coordinator]) {
        stop(process).await;
    }
    Ok(match status.exit_code {
        Some(0) => Exit::Completed,
        Some(3) => Exit::Exceptions,
        _ => Exit::Failed,
    })
}

/// A worker that holds a slice, else any: the pid stands in its name.
fn at_work<'a>(status: &JobStatus, workers: &'a mut [Child]) -> Option<&'a mut Child> {
    let holds = |worker: &Child| {
        let pid = worker.id().map(|pid| format!("-{pid}-"));
        pid.is_some_and(|pid| status.workers.iter().any(|line| line.name.contains(&pid)))
    };
    let index = workers.iter().position(holds).unwrap_or(0);
    workers.get_mut(index)
}

/// This very executable in a role, its talk in a file.
fn role_of(role: &str, log: &Path, stack: &DevStack, settings: &[(&str, String)]) -> Result<Child, Failure> {
    let file = std::fs::File::create(log).map_err(|e| Failure::io("can't write", log, &e))?;
    let own = std::env::current_exe().map_err(|e| Failure::io("can't find this executable, in", log, &e))?;
    let twice = file.try_clone().map_err(|e| Failure::io("can't write", log, &e))?;
    Command::new(own)
        .arg(role)
        .envs(stack.variables())
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(twice)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Failure::io("can't start a process that writes to", log, &e))
}

/// Waits until the coordinator listens.
async fn answers(coordinator: &mut Child, listen: &str, log: &Path) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(listen).await.is_err() {
        let ended = !matches!(coordinator.try_wait(), Ok(None));
        if ended || Instant::now() > until {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            return Err(Failure::failed(format!("the coordinator did not start: {said}"), "this is a bug of the demo"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// As an orchestrator does: SIGTERM, and SIGKILL for those that do not hear.
async fn stop(process: &mut Child) {
    if let Some(pid) = process.id() {
        let _told = Command::new("kill").arg(pid.to_string()).status().await;
    }
    let _ended = tokio::time::timeout(Duration::from_secs(25), process.wait()).await;
}

fn free_port() -> Result<u16, Failure> {
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|any| any.local_addr());
    any.map(|at| at.port()).map_err(|e| Failure::io("no free port at", Path::new("127.0.0.1"), &e))
}

fn no_peer(error: &PeerError) -> Failure {
    Failure::broke("the fleet's demo", error, "see above; `keyrotate demo` needs neither")
}
