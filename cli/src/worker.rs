//! `keyrotate worker`: takes tickets and works, until it is told to stop.

use std::collections::BTreeMap;
use std::time::Duration;

use keyrotate_config::{Config, StoreSettings};
use keyrotate_env::Env;
use keyrotate_proto::say::chain;
use keyrotate_queue::{DEFAULT_STORE, QueueError};
use keyrotate_telemetry::{Role, metrics};
use keyrotate_worker::{Site, SliceLimits, Worker, WorkerConfig};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::args::WorkerArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{self, Fleet};
use crate::local::permits;
use crate::signals::Signals;
use crate::{config, connect, say, watch};

/// Slices at a time unless the configuration says otherwise.
const SLOTS: u32 = 2;
/// After a signal everything is committed by then, or the process ends as if it were killed: orchestrators wait 30 s.
const LAST_WORD: Duration = Duration::from_secs(24);

pub(crate) async fn work(args: WorkerArgs) -> Result<Exit, Failure> {
    let env = Env::system();
    let config = config::load(args.config, Vec::new())?;
    let kms = connect::kes(&env)?;
    let stores = served(&config)?;
    let fleet = Fleet::connect(&config, &env).await?;
    let permits = permits(config.worker.permits, None);
    let slots = config.worker.slots.unwrap_or(SLOTS) as usize;
    let owner = fleet::owner("worker", &env);
    watch::serve(&config, Role::Worker, &fleet.ledger).await?;
    metrics().slots.set(i64::try_from(slots).unwrap_or(i64::MAX));
    let shown = permits.clone();
    metrics().at_scrape(move |metrics| {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.permits.set(number(shown.count()));
        metrics.permits_in_use.set(number(shown.in_use()));
    });
    let mut connected = BTreeMap::new();
    for (name, settings) in stores {
        let served = fleet::store(&name, &settings, &env).await?;
        say(&format!("worker {owner} serves store {name} ({}), {slots} slots", served.store.identity()));
        connected.insert(name, served);
    }
    let site = Site {
        stores: connected,
        kms,
        reports: fleet.reports.clone(),
        ledger: fleet.ledger.clone(),
        queue: fleet.queue.clone(),
    };
    let config = WorkerConfig {
        owner,
        slots,
        permits,
        limits: SliceLimits::default(),
        probe_part: 5 << 20,
        default_key: connect::default_key(),
        confirmed: false,
        local_files: false,
    };
    until_told(Worker::new(site, config, env)).await
}

/// Works until a signal comes, then ends what is in flight.
async fn until_told(worker: Worker) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let stop = CancellationToken::new();
    let announcing = tokio::spawn({
        let (worker, stop) = (worker.clone(), stop.clone());
        async move { worker.announce(stop).await }
    });
    let mut working = tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop).await }
    });
    tokio::select! {
        () = signals.recv() => say("stopping: what is in flight is finished and committed; again to end at once"),
        ended = &mut working => return Err(ended_alone(ended)),
    }
    signals.end_at_next();
    stop.cancel();
    let finished = async { (working.await, announcing.await) };
    if tokio::time::timeout(LAST_WORD, finished).await.is_err() {
        say("some work did not end in time; its leases run out, and others go on with it");
    }
    Ok(Exit::Completed)
}

/// The stores to serve: those that the configuration names for this worker, else all; the environment's where it has none.
fn served(config: &Config) -> Result<Vec<(String, StoreSettings)>, Failure> {
    if config.stores.is_empty() && config.worker.stores.is_empty() {
        return Ok(vec![(DEFAULT_STORE.to_owned(), StoreSettings::default())]);
    }
    let wanted = &config.worker.stores;
    if let Some(unknown) = wanted.iter().find(|name| !config.stores.contains_key(name)) {
        let what = format!("`worker.stores` names `{}`, which `stores` does not have", unknown.as_str());
        return Err(Failure::usage(what, "add it there, or take it out here"));
    }
    let ours = config.stores.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
    Ok(ours.map(|(name, settings)| (name.as_str().to_owned(), settings.clone())).collect())
}

fn ended_alone(ended: Result<Result<(), QueueError>, JoinError>) -> Failure {
    match ended {
        Ok(Err(error)) => Failure::refused(chain(&error), "see `rabbitmq:` in the configuration"),
        _ => Failure::failed("keyrotate has a bug: a part of it ended", "start again; please report it"),
    }
}
