//! `run`: a job file on this machine, from the first question to the table at the end.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_config::Config;
use keyrotate_coordinator::api::view;
use keyrotate_coordinator::notify::Notifier;
use keyrotate_coordinator::sealed::Sealer;
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::id::JobId;
use keyrotate_proto::job::{ParseOptions, Parsed, Scope};
use keyrotate_proto::say::{bytes, chain, grouped};
use keyrotate_proto::spec::{Manifest, Target};
use keyrotate_proto::state::JobState;
use keyrotate_worker::Served;

use crate::args::{Output, RunArgs};
use crate::census::{self, Manner};
use crate::choose::{self, Wish};
use crate::connect::{self, Connected};
use crate::control;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files;
use crate::live::{Pace, Screen};
use crate::local::{self, LOOK_EVERY, Local, LocalConfig, Place};
use crate::say;
use crate::scope::ScopeArg;
use crate::several;
use crate::signals::Signals;
use crate::state::{self, BucketFolder, Holder};
use crate::summary;

/// Name of the key file in the state folder that secrets are sealed with where no KES does it.
const KEY_FILE: &str = "secret.key";

/// Runs a job file.
pub(crate) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let env = Env::system();
    let settings = crate::config::load(args.config.clone(), Vec::new())?;
    let allow_private_notify = settings.notify.allow_private;
    let asked = Asked::of(&args)?;
    let mut parsed = asked.job(&args, allow_private_notify, None)?;
    if let Some(former) = &args.failed_of {
        parsed.spec.manifest = Some(failed_of(former, parsed.spec.manifest.as_ref())?);
    }
    for warning in &parsed.warnings {
        say(&format!("warning: {warning}"));
    }
    let wish = wish(&args)?;
    let store = args.on.as_ref().map_or(args.store.as_deref(), |on| on.store.as_deref());
    let connected = connect::to(store, &settings, &env).await?;
    let start = Start { args: &args, settings: &settings, wish, store, connected, what: asked.to_string(), env: &env };
    if parsed.buckets.is_empty() {
        return start.one(&parsed).await;
    }
    if args.resume.is_some() || args.failed_of.is_some() {
        let mend = "name its bucket with `bucket` in the file, in the place of `buckets`";
        return Err(Failure::usage("`--resume` and `--failed-of` are about one job, and the file is of several", mend));
    }
    let scopes = several::named(&parsed.buckets, &*start.connected.store.store).await?;
    let mut ends = several::Ends::default();
    for (n, scope) in scopes.iter().enumerate() {
        say(&format!("{} of {}: {scope}", n + 1, scopes.len()));
        let ended = match asked.job(&args, allow_private_notify, Some(scope)) {
            Ok(parsed) => start.one(&parsed).await,
            Err(failure) => Err(failure),
        };
        if ends.note(scope.clone(), ended) == Exit::Interrupted {
            break;
        }
    }
    ends.lines(scopes.len()).iter().for_each(|line| say(line));
    Ok(ends.worst())
}

/// What `run` is asked to rotate.
enum Asked<'a> {
    /// A file, and what is in it.
    File(&'a Path, Vec<u8>),
    /// What `--on` names.
    Place(&'a ScopeArg),
}

impl<'a> Asked<'a> {
    fn of(args: &'a RunArgs) -> Result<Self, Failure> {
        match (&args.file, &args.on) {
            (Some(file), _) => Ok(Self::File(file, files::text(file)?)),
            (None, Some(on)) => Ok(Self::Place(on)),
            (None, None) => Err(Failure::usage("nothing to rotate is named", "give a job file, or --on ALIAS/BUCKET")),
        }
    }

    /// The job; of a file about several buckets the one on that scope.
    fn job(&self, args: &RunArgs, allow_private_notify: bool, scope: Option<&Scope>) -> Result<Parsed, Failure> {
        match self {
            Self::File(path, text) => files::parse(text, path, ParseOptions { allow_private_notify, scope }),
            Self::Place(on) => on.job(args.key.as_deref()),
        }
    }
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, _) => path.display().fmt(f),
            Self::Place(on) => on.fmt(f),
        }
    }
}

/// A command line of `run`, connected to its store.
struct Start<'a> {
    args: &'a RunArgs,
    settings: &'a Config,
    wish: Wish,
    store: Option<&'a str>,
    connected: Connected,
    what: String,
    env: &'a Env,
}

impl Start<'_> {
    /// One job, to its end.
    async fn one(&self, parsed: &Parsed) -> Result<Exit, Failure> {
        let (args, connected) = (self.args, &self.connected);
        if parsed.spec.options.approval && !args.dry_run {
            let why = "the job file says `approval: required`, and on one machine nobody knows who is who";
            return Err(Failure::refused(why, "begin it in a fleet with `keyrotate start`, or take `approval` out"));
        }
        let root = state::root(&args.state)?;
        if args.dry_run {
            files::check_at_start(parsed, self.env.now())?;
            let sample = (!args.full).then_some(census::SAMPLE);
            let rate = args.rate.or(parsed.spec.options.rates_at(self.env.now()).objects);
            let manner = Manner { sample, rate, permits: args.permits, root, output: args.output };
            return census::take(connected.store.clone(), parsed.spec.clone(), manner, self.env).await;
        }
        let (prefix, bucket) = (args.probe_prefix.clone(), args.probe_bucket.clone());
        let config = LocalConfig {
            permits: args.permits,
            rate: args.rate,
            confirmed: args.yes,
            probes: connect::probe_place(self.store, prefix, bucket, self.settings),
            default_key: connected.default_key.clone(),
        };
        let session = Session {
            what: self.what.clone(),
            store: self.store.map(str::to_owned),
            root,
            wish: self.wish.clone(),
            config,
            no_wait: args.no_wait,
            allow_private_notify: self.settings.notify.allow_private,
            output: args.output,
            stays: true,
        };
        session.run(parsed, connected.store.clone(), connected.kms.clone(), self.env).await
    }
}

/// What a former job could not do, in the place of a manifest.
fn failed_of(former: &str, manifest: Option<&Manifest>) -> Result<Manifest, Failure> {
    if manifest.is_some() {
        return Err(Failure::usage("the job file has a `manifest`, and so has `--failed-of`", "leave one of them out"));
    }
    let job = former.parse::<JobId>().map_err(|e| Failure::usage(e.to_string(), "`keyrotate list` shows the ids"))?;
    Ok(Manifest::FailedOf { job })
}

fn wish(args: &RunArgs) -> Result<Wish, Failure> {
    let resume = args.resume.as_deref().map(str::parse::<JobId>).transpose();
    let resume =
        resume.map_err(|e| Failure::usage(e.to_string(), "the id stands in the first line that `run` printed"))?;
    Ok(Wish { new: args.new, resume, replace: args.replace })
}

/// One start of one job file on one store, whoever asks for it: `run` or `demo`.
pub(crate) struct Session {
    /// What the lock says is being done.
    pub(crate) what: String,
    /// Under which name the store was reached; `None`: that of the environment.
    pub(crate) store: Option<String>,
    /// The state folder.
    pub(crate) root: std::path::PathBuf,
    /// What to do with jobs that are already there.
    pub(crate) wish: Wish,
    /// How to work.
    pub(crate) config: LocalConfig,
    /// Whether to leave when the job is paused.
    pub(crate) no_wait: bool,
    /// Whether news of the end may go to private addresses.
    pub(crate) allow_private_notify: bool,
    /// How the end is printed.
    pub(crate) output: Output,
    /// Whether the state folder is there when this has ended, so that its paths are worth saying.
    pub(crate) stays: bool,
}

impl Session {
    /// Runs it to its end, an interruption, or a pause that nobody waits for.
    pub(crate) async fn run(
        self,
        parsed: &Parsed,
        served: Served,
        kms: Option<Arc<dyn Kms>>,
        env: &Env,
    ) -> Result<Exit, Failure> {
        let folder = BucketFolder::of(&self.root, served.store.identity(), &parsed.spec.bucket);
        let holder = Holder { pid: std::process::id(), what: self.what.clone(), since: env.now() };
        let _lock = folder.lock(&holder)?;
        folder.note_store(self.store.as_deref())?;
        let ledger = local::open_ledger(&folder, env).await?;
        let control = control::serve(folder.path(), crate::jobs::folder::router(&folder, &ledger, env));
        let _control = control.map_err(|e| Failure::io("can't open the control socket in", folder.path(), &e))?;
        let jobs = folder.path().join("jobs");
        let notifier = Notifier::new(Some(self.sealer(parsed, kms.clone(), env)), self.allow_private_notify);
        let (identity, notifier) = (served.store.identity().clone(), Some(notifier));
        let place = Place { store: served, kms: kms.clone(), jobs, notifier, config: self.config.clone() };
        let (job, line) = choose::settle(&ledger, &identity, parsed, &self.wish, &place, env).await?;
        self.keep_token(&ledger, &job, parsed, kms.clone(), env).await?;
        let limits = local::limits(&self.config);
        let change = |job: &JobRecord, _| Ok(JobRecord { limits: limits.clone(), ..job.clone() });
        let record = ledger.update_job(&job, change).await.map_err(checkpoint_broke)?;
        let mut screen = Screen::new();
        screen.line(&line);
        let mut local = Local::start(ledger, &record, &place, env);
        let seen = self.watch(&local, &mut screen, env).await;
        screen.clear();
        if let Ok(false) = &seen
            && !local.until_told().await.map_err(checkpoint_broke)?
        {
            say("whoever `notify` names did not take the news of the end yet; the next run on this bucket tries again");
        }
        local.stop().await;
        let interrupted = seen?;
        // Looked at once more: what was in flight is committed only now.
        let (job, totals) = local.look().await.map_err(checkpoint_broke)?;
        let report = folder.job(&job.id);
        summary::print(&job, &totals, &report, self.output)?;
        if self.stays && self.output == Output::Text {
            summary::print_place(&job, &report);
        }
        if interrupted && !job.state.is_ended() {
            say_how_to_go_on(&screen, &job);
            return Ok(Exit::Interrupted);
        }
        Ok(Exit::of(&job.state, &totals.counts))
    }

    fn sealer(&self, parsed: &Parsed, kms: Option<Arc<dyn Kms>>, env: &Env) -> Sealer {
        let key = match &parsed.spec.target {
            Target::SseKms { key: Some(key), .. } => Some(key.bare().to_owned()),
            _ => self.config.default_key.clone(),
        };
        Sealer::new(kms, key, self.root.join(KEY_FILE), env.clone())
    }

    /// The record holds the notify token sealed; the file's counts where it is another now.
    async fn keep_token(
        &self,
        ledger: &Ledger,
        job: &JobId,
        parsed: &Parsed,
        kms: Option<Arc<dyn Kms>>,
        env: &Env,
    ) -> Result<(), Failure> {
        let Some(token) = parsed.spec.notify.as_ref().and_then(|notify| notify.token.as_deref()) else { return Ok(()) };
        let broke = |e| Failure::broke("the checkpoint", &e, "start again");
        let sealer = self.sealer(parsed, kms, env);
        let there = ledger.job(job).await.map_err(broke)?.sealed_token;
        let opened = match &there {
            Some(sealed) => sealer.open(sealed).await,
            None => None,
        };
        if opened.is_some_and(|opened| *opened == token) {
            return Ok(());
        }
        let sealed = sealer
            .seal(token)
            .await
            .map_err(|e| Failure::refused(format!("the notify token can't be sealed: {}", chain(&e)), e.remedy()))?;
        let change = |job: &JobRecord, _| Ok(JobRecord { sealed_token: Some(sealed.clone()), ..job.clone() });
        ledger.update_job(job, change).await.map(drop).map_err(broke)
    }

    /// Until the job has ended, nobody waits for it any more, or a person interrupts; whether that was it.
    async fn watch(&self, local: &Local, screen: &mut Screen, env: &Env) -> Result<bool, Failure> {
        let mut signals = Signals::listen()?;
        let (mut objects, mut bytes) = (Pace::default(), Pace::default());
        let mut announced = false;
        loop {
            let (job, totals) = local.look().await.map_err(checkpoint_broke)?;
            // `keyrotate set` in another terminal may have changed them.
            local.limit(&job, env);
            if let Some(frozen) = job.frozen.as_ref().filter(|_| !announced) {
                keyrotate_coordinator::findings(frozen).iter().for_each(|line| screen.line(line));
                announced = true;
            }
            let mut status = view::of(&job, &totals, env.now());
            let seen = local.meter().read();
            status.objects_per_second = objects.of(seen.outcomes.values().sum::<u64>() + seen.agree);
            status.bytes_per_second = bytes.of(seen.bytes);
            screen.show(&status);
            let leaves = matches!(job.state, JobState::Paused { .. }) && self.no_wait;
            if job.state.is_ended() || leaves {
                return Ok(false);
            }
            if local.has_died() {
                let (what, mend) =
                    ("keyrotate has a bug: a part of it ended", "start again: the job goes on; please report it");
                return Err(Failure::failed(what, mend));
            }
            if local::awaits_confirmation(&job) {
                tokio::select! {
                    confirmed = self.confirm(local, &job, screen) => confirmed?,
                    decided = local.until_decided() => decided.map_err(checkpoint_broke)?,
                    () = signals.recv() => return Ok(true),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = signals.recv() => {
                    screen.line("stopping: what is in flight is finished and committed; again to end at once");
                    signals.end_at_next();
                    return Ok(true);
                }
            }
        }
    }

    /// The file names no key and the store's own default was learnt, or versions are added: a person says yes.
    async fn confirm(&self, local: &Local, job: &JobRecord, screen: &Screen) -> Result<(), Failure> {
        let target = match job.frozen.as_ref().map(|frozen| &frozen.target) {
            Some(target) if target.is_map() => "the keys that the file names".to_owned(),
            Some(FrozenTarget::SseKms { key, .. }) if job.spec.names_target() => format!("the key `{key}`"),
            Some(FrozenTarget::SseKms { key, .. }) => format!("the store's default key `{key}`"),
            _ => "SSE-S3".to_owned(),
        };
        if !self.config.confirmed {
            let adds =
                job.growth.as_ref().filter(|growth| growth.versions > 0).map(|growth| {
                    format!("add about {} versions with {}", grouped(growth.versions), bytes(growth.bytes))
                });
            let and = adds.as_ref().map(|adds| format!(" and {adds}")).unwrap_or_default();
            let question = format!("Rotate every object in scope of `{}` to {target}{and}? [y/N] ", job.spec.bucket);
            let _hidden = screen.hide();
            if !ask(&question).await {
                return Err(nobody_said_yes(&target, adds));
            }
        }
        local.confirm().await.map_err(|e| Failure::broke("the target could not be confirmed", &e, "start again"))
    }
}

fn nobody_said_yes(target: &str, adds: Option<String>) -> Failure {
    match adds {
        Some(adds) => Failure::refused(
            format!("this would rotate to {target} and {adds}, which stay beside the old ones; nobody said yes"),
            "pass --yes, or set `options: {maxAddedBytes: …}` in the job file",
        ),
        None => Failure::refused(
            format!("the file names no key; the target would be {target}, and nobody said yes"),
            "name the key under `encryption.key`, or pass --yes",
        ),
    }
}

fn say_how_to_go_on(screen: &Screen, job: &JobRecord) {
    let id = &job.id;
    screen.line(&format!("job {id} is interrupted; the same command goes on with it, `keyrotate cancel {id}` ends it"));
}

fn checkpoint_broke(error: LedgerError) -> Failure {
    Failure::broke("the checkpoint", &error, "start again: the job goes on")
}

/// Asks on the terminal; without one the answer is no.
#[expect(clippy::print_stderr, reason = "a question goes to standard error")]
pub(crate) async fn ask(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("{question}");
    let _flushed = std::io::stderr().flush();
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line).unwrap_or_default()
    });
    matches!(answer.await.unwrap_or_default().trim(), "y" | "Y" | "yes")
}
