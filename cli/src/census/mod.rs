//! `census`, and the dry run of a job: what lies in a bucket, and what a rotation would do about it.

pub(crate) mod page;
mod proven;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyrotate_config::Config;
use keyrotate_env::Env;
use keyrotate_manifest::Sorted;
use keyrotate_proto::forecast::Forecast;
use keyrotate_proto::spec::JobSpec;
use keyrotate_report::{FolderStore, ReportError};
use keyrotate_worker::Served;
pub(crate) use keyrotate_worker::census::SAMPLE;
use keyrotate_worker::census::{Census, CensusError, Count, Question};
use keyrotate_worker::manifest::{self, NoManifest};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::args::{CensusArgs, Output};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::verbs::print;
use crate::live::Screen;
use crate::signals::Signals;
use crate::state::{self, BucketFolder};
use crate::{connect, local, say};

pub(crate) use proven::remember;

/// A count that is interrupted loses no more than this.
const STORE_EVERY: Duration = Duration::from_secs(2);

/// How often it is said how far it is.
const SAY_EVERY: Duration = Duration::from_millis(200);

/// How it is taken.
pub(crate) struct Manner {
    /// So many objects; `None`: all.
    pub(crate) sample: Option<usize>,
    /// Objects per second at most.
    pub(crate) rate: Option<f64>,
    /// Store calls at a time.
    pub(crate) permits: keyrotate_config::Calls,
    /// The state folder.
    pub(crate) root: PathBuf,
    /// How the end is printed.
    pub(crate) output: Output,
}

/// Takes a census of a bucket.
pub(crate) async fn census(args: CensusArgs) -> Result<Exit, Failure> {
    let env = Env::system();
    let config: Config = crate::config::load(args.config.clone(), Vec::new())?;
    let connected = connect::to(args.scope.store.as_deref(), &config, &env).await?;
    let spec = args.scope.job(args.key.as_deref())?.spec;
    let manner = Manner {
        sample: (!args.full).then_some(args.sample as usize),
        rate: args.rate,
        permits: args.permits,
        root: state::root(&args.state)?,
        output: args.output,
    };
    take(connected.store, spec, manner, &env).await
}

/// Takes one for a job that would be begun, and prints it.
pub(crate) async fn take(served: Served, spec: JobSpec, manner: Manner, env: &Env) -> Result<Exit, Failure> {
    let folder = BucketFolder::of(&manner.root, served.store.identity(), &spec.bucket);
    let (proven, default_key) = proven::recall(&folder, env.now()).unzip();
    let (manifest, _sorted) = manifest_of(&spec, &served, &folder).await?.unzip();
    let question = Question { spec, rate: manner.rate, proven, default_key: default_key.flatten(), manifest };
    let permits = local::permits(manner.permits, manner.rate);
    let census = Census::begin(served.store, permits, question, env.clone()).await.map_err(no_census)?;
    let mut signals = Signals::listen()?;
    let mut screen = Screen::new();
    let taken = tokio::select! {
        taken = taken(&census, &manner, &folder) => taken,
        () = signals.recv() => Ok(None),
        never = say_how_far(&census, &mut screen) => match never {},
    };
    screen.clear();
    let Some(forecast) = taken? else {
        if manner.sample.is_none() {
            say("interrupted; the same command goes on where it was");
        }
        return Ok(Exit::Interrupted);
    };
    print(manner.output, &forecast, || page::of(&forecast))?;
    Ok(Exit::Completed)
}

/// What a job file's manifest names, in a folder that is there for as long as it is read.
async fn manifest_of(
    spec: &JobSpec,
    served: &Served,
    folder: &BucketFolder,
) -> Result<Option<(Sorted, TempDir)>, Failure> {
    let Some(named) = &spec.manifest else { return Ok(None) };
    let made = fs::create_dir_all(folder.path()).and_then(|()| tempfile::tempdir_in(folder.path()));
    let place = made.map_err(|e| Failure::io("can't make a folder for the manifest in", folder.path(), &e))?;
    let unkept = |e: ReportError| Failure::broke("the manifest can't be sorted", &e, "is there room on the disk?");
    let reports = Arc::new(FolderStore::open(place.path()).map_err(unkept)?);
    let sorted = manifest::bring_in(spec, named, Arc::clone(&served.store), true, reports, "dry-run").await;
    let sorted = sorted.map_err(|error| match error {
        NoManifest::Refused(refusal) => Failure::refused(refusal.what, refusal.mend),
        NoManifest::Report(error) => unkept(error),
    })?;
    Ok(Some((sorted, place)))
}

async fn taken(census: &Census, manner: &Manner, folder: &BucketFolder) -> Result<Option<Forecast>, Failure> {
    if let Some(wanted) = manner.sample {
        return census.sample(wanted).await.map(Some).map_err(no_census);
    }
    let file = folder.path().join("census.json");
    let earlier: Option<Count> = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(count) = &earlier {
        say(&format!("{} objects were counted before, if that was for the same question", count.objects()));
    }
    fs::create_dir_all(folder.path()).map_err(|e| Failure::io("can't make the state folder", folder.path(), &e))?;
    let stored = Mutex::new((Instant::now(), Ok(())));
    let store = |count: &Count| {
        let Ok(mut stored) = stored.lock() else { return };
        if stored.0.elapsed() >= STORE_EVERY {
            *stored = (Instant::now(), keep(&file, count));
        }
    };
    let forecast = census.full(earlier, store).await.map_err(no_census)?;
    if let Ok((_, Err(error))) = stored.into_inner() {
        say(&format!("what was counted could not be kept in `{}`: {error}", file.display()));
    }
    let _gone = fs::remove_file(&file);
    Ok(Some(forecast))
}

/// Stores it beside, then under its name: what is there is always whole.
fn keep(file: &Path, count: &Count) -> std::io::Result<()> {
    let beside = file.with_extension("json.new");
    fs::write(&beside, serde_json::to_vec(count)?)?;
    fs::rename(&beside, file)
}

async fn say_how_far(census: &Census, screen: &mut Screen) -> std::convert::Infallible {
    let progress = census.progress();
    loop {
        tokio::time::sleep(SAY_EVERY).await;
        screen.tell("census", &format!("{} objects looked at, {} listing pages", progress.looked(), progress.pages()));
    }
}

fn no_census(error: CensusError) -> Failure {
    match &error {
        CensusError::Refused(refusal) => Failure::refused(&refusal.what, &refusal.mend),
        other => Failure::broke("no census", other, "see what the store says; the same command tries again"),
    }
}
