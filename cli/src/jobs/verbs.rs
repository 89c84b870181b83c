//! The verbs over jobs: each asks, shows, and says with which code it ends.

use std::io::{IsTerminal, Read as _};
use std::path::Path;

use keyrotate_proto::api::{JobStatus, LimitsChange};
use keyrotate_proto::id::JobId;
use keyrotate_proto::say::bytes;
use serde_json::{Value, json};

use super::follow::follow;
use super::{Ask, Client, Jobs, open, show};
use crate::args::{ConfirmArgs, JobArgs, ListArgs, Output, SetArgs, StartArgs, StatusArgs, WhereArgs};
use crate::census::page;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::run::ask;
use crate::say;

/// Longest job file that is sent: the other side reads no more.
const LONGEST: u64 = 1 << 20;

/// `start`: begins a job in the fleet, waits for what `prepare` finds.
pub(crate) async fn start(args: StartArgs) -> Result<Exit, Failure> {
    let jobs = open(&args.place)?;
    let client = Client(&*jobs);
    let name = args.file.display().to_string();
    let mut query = vec![format!("confirm={}", args.yes)];
    query.extend(args.dry_run.then(|| "dryRun=true".to_owned()));
    query.extend(args.full.then(|| "full=true".to_owned()));
    query.extend(args.store.as_ref().map(|store| format!("store={store}")));
    query.extend(args.failed_of.as_deref().map(id).transpose()?.map(|job| format!("failedOf={job}")));
    query.extend(args.priority.map(|priority| format!("priority={priority}")));
    let ask = Ask {
        method: "POST",
        path: format!("/v1/jobs?{}", query.join("&")),
        body: Some(("application/yaml", text(&args.file)?)),
        idempotency_key: args.idempotency_key.clone(),
    };
    let begun = client.submit(ask, &name).await?;
    for warning in &begun.warnings {
        say(&format!("warning: {}", warning.of_file(&name)));
    }
    if args.dry_run {
        return foretold(&*jobs, &begun.id, args.output).await;
    }
    say(&format!("job {} begins", begun.id));
    let mut status = follow(&*jobs, &begun.id, |status| !status.is_preparing()).await?;
    status.findings.iter().for_each(|line| say(line));
    if status.job.state == "awaiting-confirmation" {
        status = consent(&client, &begun.id, status).await?;
    }
    if args.wait && !status.is_ended() {
        status = follow(&*jobs, &begun.id, JobStatus::is_ended).await?;
    }
    print(args.output, &status, || format!("{}", begun.id))?;
    say(&show::line(&status));
    Ok(if args.wait || status.is_ended() { exit(&status) } else { Exit::Completed })
}

/// Waits for what a dry run says, and prints it.
async fn foretold(jobs: &dyn Jobs, job: &JobId, output: Output) -> Result<Exit, Failure> {
    say(&format!("dry run {job} begins"));
    let status = follow(jobs, job, JobStatus::is_ended).await?;
    if status.job.state != "completed" {
        say(&show::line(&status));
        return Ok(exit(&status));
    }
    let forecast = Client(jobs).forecast(job).await?;
    print(output, &forecast, || page::of(&forecast))?;
    Ok(Exit::Completed)
}

/// The file names no key, or versions are added: a person at the terminal says whether that is taken.
async fn consent(client: &Client<'_>, job: &JobId, status: JobStatus) -> Result<JobStatus, Failure> {
    if std::io::stdin().is_terminal() && ask("Rotate every object in scope so? [y/N] ").await {
        return client.tell(job, "confirm").await;
    }
    say(&format!(
        "nothing is written yet: `keyrotate confirm {job}` takes that, `keyrotate cancel {job}` ends the job"
    ));
    Ok(status)
}

/// `list`
pub(crate) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let jobs = open(&args.place)?;
    let all = jobs.list(args.in_state.as_deref()).await?;
    print(args.output, &json!({ "jobs": all }), || show::list(&all))?;
    Ok(Exit::Completed)
}

/// `status`: follows a job to its end, or looks once.
pub(crate) async fn status(args: StatusArgs) -> Result<Exit, Failure> {
    let (jobs, job) = (open(&args.place)?, id(&args.job)?);
    let status = if args.once || args.output == Output::Json {
        Client(&*jobs).status(&job).await?
    } else {
        follow(&*jobs, &job, JobStatus::is_ended).await?
    };
    let lines = || std::iter::once(show::line(&status)).chain(show::workers(&status)).collect::<Vec<_>>().join("\n");
    print(args.output, &status, lines)?;
    Ok(Exit::Completed)
}

/// `describe`
pub(crate) async fn describe(args: JobArgs) -> Result<Exit, Failure> {
    let (jobs, job) = (open(&args.place)?, id(&args.job)?);
    let described = Client(&*jobs).describe(&job).await?;
    print(args.output, &described, || show::description(&described))?;
    Ok(Exit::Completed)
}

/// `pause` and `resume`
pub(crate) async fn tell(args: JobArgs, verb: &'static str) -> Result<Exit, Failure> {
    told(&args.place, &args.job, verb, args.output).await
}

/// `confirm`
pub(crate) async fn confirm(args: ConfirmArgs) -> Result<Exit, Failure> {
    told(&args.place, &args.job, "confirm", args.output).await
}

async fn told(place: &WhereArgs, job: &str, verb: &'static str, output: Output) -> Result<Exit, Failure> {
    let (jobs, job) = (open(place)?, id(job)?);
    let status = Client(&*jobs).tell(&job, verb).await?;
    print(output, &status, || format!("job {job}: {}", show::line(&status)))?;
    Ok(Exit::Completed)
}

/// `cancel`
pub(crate) async fn cancel(args: JobArgs) -> Result<Exit, Failure> {
    let (jobs, job) = (open(&args.place)?, id(&args.job)?);
    jobs.cancel(&job).await?;
    let status = Client(&*jobs).status(&job).await?;
    let said = || match status.is_ended() {
        true => format!("job {job} is cancelled"),
        false => format!("job {job} is being cancelled; `keyrotate status {job}` shows its end"),
    };
    print(args.output, &status, said)?;
    Ok(Exit::Completed)
}

/// `set`
pub(crate) async fn set(args: SetArgs) -> Result<Exit, Failure> {
    let change = LimitsChange {
        rate: args.rate.map(|rate| rate.0),
        permits: args.permits.map(|permits| permits.0),
        priority: args.priority,
        max_added_bytes: args.max_added,
    };
    if change == LimitsChange::default() {
        return Err(Failure::usage("nothing is to be set", "give --rate, --permits, --priority or --max-added"));
    }
    let (jobs, job) = (open(&args.place)?, id(&args.job)?);
    let status = Client(&*jobs).limit(&job, &change).await?;
    let shown = |limit: Option<String>| limit.unwrap_or_else(|| "no limit".into());
    print(args.output, &status, || {
        let (rate, permits) = (status.limits.rate.map(|r| r.to_string()), status.limits.permits.map(|p| p.to_string()));
        let grows = status.growth.as_ref().map(|growth| format!(", adds at most {}", bytes(growth.bound)));
        format!(
            "job {job}: rate {}, permits {}, priority {}{}",
            shown(rate),
            shown(permits),
            status.limits.priority,
            grows.unwrap_or_default()
        )
    })?;
    Ok(Exit::Completed)
}

fn text(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(LONGEST).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
    };
    let failed = |e| Failure::usage(format!("can't read `{}`: {e}", file.display()), "give the path of a job file");
    read.map(|_| bytes).map_err(failed)
}

pub(super) fn id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|e| Failure::usage(format!("{e}"), "`keyrotate list` shows the ids"))
}

fn exit(status: &JobStatus) -> Exit {
    match status.exit_code {
        Some(0) | None => Exit::Completed,
        Some(3) => Exit::Exceptions,
        Some(5) => Exit::Refused,
        Some(6) => Exit::Interrupted,
        Some(_) => Exit::Failed,
    }
}

pub(crate) fn print(
    output: Output,
    value: &impl serde::Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let value = || serde_json::to_value(value).unwrap_or(Value::Null);
    let text = if output == Output::Json { format!("{:#}", value()) } else { text() };
    write(format!("{text}\n").as_bytes())
}

/// To standard output.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    write_to(&mut std::io::stdout().lock(), "standard output", bytes)
}

/// To an output of that name; whoever reads it may have seen enough.
pub(crate) fn write_to(out: &mut dyn std::io::Write, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::io("can't write to", Path::new(name), &e)),
        _ => Ok(()),
    }
}
