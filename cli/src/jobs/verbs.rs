//! The verbs over jobs: each asks, shows, and says with which code it ends.

use std::io::IsTerminal;
use std::path::Path;

use keyrotate_env::Env;
use keyrotate_proto::api::{JobBrief, JobStatus, LimitsChange};
use keyrotate_proto::id::JobId;
use keyrotate_proto::job::{self, BucketPattern, ParseOptions, Scope};
use keyrotate_proto::say::bytes;
use serde_json::{Value, json};

use super::follow::follow;
use super::{Ask, Client, Jobs, open, show};
use crate::args::{JobArgs, ListArgs, Output, SetArgs, StartArgs, StatusArgs, TellArgs};
use crate::census::page;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::run::ask;
use crate::several::{self, Ends};
use crate::{connect, files, say};

/// `start`: begins a job in the fleet, or one for each of a file's `buckets`, and waits for what `prepare` finds.
pub(crate) async fn start(args: StartArgs) -> Result<Exit, Failure> {
    let jobs = open(&args.place)?;
    let text = files::text(&args.file)?;
    let Some(scopes) = scopes(&args, &text).await? else {
        let id = begin(&*jobs, &args, &text, None).await?;
        say(&format!("{} {id} begins", if args.dry_run { "dry run" } else { "job" }));
        return see_through(&*jobs, &args, &id).await;
    };
    if args.failed_of.is_some() {
        let mend = "name its bucket with `bucket` in the file, in the place of `buckets`";
        return Err(Failure::usage("`--failed-of` is about one job, and the file is of several", mend));
    }
    let (mut begun, mut ends) = (Vec::<(Scope, JobId)>::new(), Ends::default());
    for scope in &scopes {
        match begin(&*jobs, &args, &text, Some((scope, begun.first().map(|(_, id)| id)))).await {
            Ok(id) => {
                say(&format!("{} {id} begins on {scope}", if args.dry_run { "dry run" } else { "job" }));
                begun.push((scope.clone(), id));
            }
            Err(failure) => drop(ends.note(scope.clone(), Err(failure))),
        }
    }
    let first = begun.first().map(|(_, id)| id.clone());
    for (scope, id) in begun {
        say(&format!("{scope}:"));
        let ended = see_through(&*jobs, &args, &id).await;
        ends.note(scope, ended);
    }
    match first {
        Some(first) if !args.wait && !args.dry_run => {
            say(&format!("`keyrotate list --group {first}` shows all of them"))
        }
        _ => ends.lines(scopes.len()).iter().for_each(|line| say(line)),
    }
    Ok(ends.worst())
}

/// What a file with `buckets` names; `None` of any other, and of one that can't be read, about which the fleet says more.
async fn scopes(args: &StartArgs, text: &[u8]) -> Result<Option<Vec<Scope>>, Failure> {
    let config = crate::config::load(args.place.config.clone(), args.place.flags())?;
    let options = ParseOptions { allow_private_notify: true, scope: None };
    let Ok(parsed) = files::parse(text, &args.file, options) else { return Ok(None) };
    if parsed.buckets.is_empty() {
        return Ok(None);
    }
    if !parsed.buckets.iter().any(BucketPattern::is_open) {
        return Ok(Some(job::scopes(&parsed.buckets, &[]).0));
    }
    let connected = connect::to(args.store.as_deref(), &config, &Env::system()).await.map_err(|failure| {
        let what = format!("a pattern in `buckets` wants the list of buckets, from this machine: {}", failure.what());
        Failure::refused(what, format!("name each bucket in the file, or: {}", failure.mend()))
    })?;
    several::named(&parsed.buckets, &*connected.store.store).await.map(Some)
}

/// Submits the file; of one with `buckets` the job on that scope, beside the first of its group.
async fn begin(
    jobs: &dyn Jobs,
    args: &StartArgs,
    text: &[u8],
    scope: Option<(&Scope, Option<&JobId>)>,
) -> Result<JobId, Failure> {
    let name = args.file.display().to_string();
    let mut query = vec![("confirm", args.yes.to_string())];
    query.extend(args.dry_run.then(|| ("dryRun", "true".to_owned())));
    query.extend(args.full.then(|| ("full", "true".to_owned())));
    query.extend(args.store.as_ref().map(|store| ("store", store.clone())));
    query.extend(args.failed_of.as_deref().map(id).transpose()?.map(|job| ("failedOf", job.to_string())));
    query.extend(args.priority.map(|priority| ("priority", priority.to_string())));
    query.extend(args.weight.map(|weight| ("weight", weight.to_string())));
    if let Some((scope, first)) = scope {
        query.extend([("bucket", scope.bucket.clone()), ("prefix", scope.prefix.clone())]);
        query.extend(first.map(|first| ("group", first.to_string())));
    }
    let query = serde_urlencoded::to_string(query).unwrap_or_default();
    let ask = Ask {
        method: "POST",
        path: format!("/v1/jobs?{query}"),
        body: Some(("application/yaml", text.to_vec())),
        idempotency_key: args.idempotency_key.clone(),
    };
    let begun = Client(jobs).submit(ask, &name).await?;
    let is_another = scope.is_some_and(|(_, first)| first.is_some());
    for warning in begun.warnings.iter().filter(|_| !is_another) {
        say(&format!("warning: {}", warning.of_file(&name)));
    }
    Ok(begun.id)
}

/// Follows a job until it is prepared, and confirmed where it asks; with --wait to its end.
async fn see_through(jobs: &dyn Jobs, args: &StartArgs, job: &JobId) -> Result<Exit, Failure> {
    if args.dry_run {
        return foretold(jobs, job, args.output).await;
    }
    let mut status = follow(jobs, job, |status| !status.is_preparing()).await?;
    status.findings.iter().for_each(|line| say(line));
    if status.job.state == "awaiting-confirmation" {
        status = consent(&Client(jobs), job, status).await?;
    }
    if args.wait && !status.is_ended() {
        status = follow(jobs, job, JobStatus::is_ended).await?;
    }
    print(args.output, &status, || format!("{job}"))?;
    say(&show::line(&status));
    Ok(if args.wait || status.is_ended() { exit(&status) } else { Exit::Completed })
}

/// Waits for what a dry run says, and prints it.
async fn foretold(jobs: &dyn Jobs, job: &JobId, output: Output) -> Result<Exit, Failure> {
    let status = follow(jobs, job, JobStatus::is_ended).await?;
    if status.job.state != "completed" {
        say(&show::line(&status));
        return Ok(exit(&status));
    }
    let forecast = Client(jobs).forecast(job).await?;
    print(output, &forecast, || page::of(&forecast))?;
    Ok(Exit::Completed)
}

/// The file names no key, or versions are added: a person at the terminal says whether that is taken, unless it must be
/// another one.
async fn consent(client: &Client<'_>, job: &JobId, status: JobStatus) -> Result<JobStatus, Failure> {
    if client.describe(job).await?.spec["options"]["approval"] == true {
        say(&format!(
            "nothing is written yet: somebody else must approve it, by `keyrotate confirm {job}` with another token"
        ));
        return Ok(status);
    }
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
    let mut all = jobs.list(args.in_state.as_deref()).await?;
    if let Some(first) = args.group.as_deref().map(id).transpose()? {
        all.retain(|job| is_of(job, &first));
    }
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

/// `audit`
pub(crate) async fn audit(args: JobArgs) -> Result<Exit, Failure> {
    let (jobs, job) = (open(&args.place)?, id(&args.job)?);
    let record = Client(&*jobs).audit(&job).await?;
    print(args.output, &record, || show::audit(&record))?;
    Ok(if record.broken.is_some() { Exit::Failed } else { Exit::Completed })
}

/// Whether a job belongs to the group that begins with that one.
fn is_of(job: &JobBrief, first: &JobId) -> bool {
    job.id == *first || job.group.as_ref() == Some(first)
}

/// The jobs that are told something: the one that is named, or what has not ended of its group.
async fn meant(jobs: &dyn Jobs, args: &TellArgs) -> Result<Vec<JobId>, Failure> {
    let named = id(&args.job)?;
    if !args.group {
        return Ok(vec![named]);
    }
    let all = jobs.list(None).await?;
    let of_group = all.into_iter().filter(|job| is_of(job, &named));
    let open: Vec<_> = of_group.filter(|job| !matches!(&*job.state, "completed" | "cancelled")).collect();
    if open.is_empty() {
        let mend = format!("`keyrotate list --group {named}` shows how they stand");
        return Err(Failure::usage(format!("no job of the group of {named} is open"), mend));
    }
    Ok(open.into_iter().map(|job| job.id).collect())
}

/// `pause`, `resume` and `confirm`
pub(crate) async fn tell(args: TellArgs, verb: &'static str) -> Result<Exit, Failure> {
    let jobs = open(&args.place)?;
    for job in meant(&*jobs, &args).await? {
        let status = Client(&*jobs).tell(&job, verb).await?;
        print(args.output, &status, || format!("job {job}: {}", show::line(&status)))?;
    }
    Ok(Exit::Completed)
}

/// `cancel`
pub(crate) async fn cancel(args: TellArgs) -> Result<Exit, Failure> {
    let jobs = open(&args.place)?;
    for job in meant(&*jobs, &args).await? {
        jobs.cancel(&job).await?;
        let status = Client(&*jobs).status(&job).await?;
        let said = || match status.is_ended() {
            true => format!("job {job} is cancelled"),
            false => format!("job {job} is being cancelled; `keyrotate status {job}` shows its end"),
        };
        print(args.output, &status, said)?;
    }
    Ok(Exit::Completed)
}

/// `set`
pub(crate) async fn set(args: SetArgs) -> Result<Exit, Failure> {
    let change = LimitsChange {
        rate: args.rate.map(|rate| rate.0),
        byte_rate: args.byte_rate.map(|rate| rate.0),
        kms_rate: args.kms_rate.map(|rate| rate.0),
        permits: args.permits.map(|permits| permits.0),
        priority: args.priority,
        weight: args.weight,
        max_added_bytes: args.max_added,
    };
    if change == LimitsChange::default() {
        return Err(Failure::usage(
            "nothing is to be set",
            "give --rate, --byte-rate, --kms-rate, --permits, --priority, --weight or --max-added",
        ));
    }
    let (jobs, job) = (open(&args.place)?, id(&args.job)?);
    let status = Client(&*jobs).limit(&job, &change).await?;
    print(args.output, &status, || {
        let limits = &status.limits;
        let most = crate::live::limits(limits).unwrap_or_else(|| "without a limit".into());
        let grows = status.growth.as_ref().map(|growth| format!(", adds at most {}", bytes(growth.bound)));
        let (priority, weight) = (limits.priority, limits.weight);
        format!("job {job}: {most}, priority {priority}, weight {weight}{}", grows.unwrap_or_default())
    })?;
    Ok(Exit::Completed)
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
