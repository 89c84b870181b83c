//! `coordinator`: a fleet's API, and one of those that may lead it.

use std::sync::Arc;

use keyrotate_checkpoint::record::ProbePlace;
use keyrotate_config::{Config, Given, StoreSettings};
use keyrotate_coordinator::api::server::Server;
use keyrotate_coordinator::api::{NamedStore, Site};
use keyrotate_coordinator::notify::Notifier;
use keyrotate_coordinator::sealed::Sealer;
use keyrotate_coordinator::{Coordinator, CoordinatorConfig, TicketsOut};
use keyrotate_env::Env;
use keyrotate_proto::say::chain;
use keyrotate_queue::RabbitQueue;
use keyrotate_store::s3::identity_of_endpoint;
use keyrotate_telemetry::{Role, metrics};
use tokio_util::sync::CancellationToken;

use crate::args::CoordinatorArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{self, Fleet};
use crate::signals::Signals;
use crate::{config, connect, say, watch};

/// How often the dead letters are counted.
const COUNT_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

/// Serves until it is told to stop.
pub(crate) async fn serve(args: CoordinatorArgs) -> Result<Exit, Failure> {
    let flags = args.listen.iter().map(|listen| ("listen", listen.clone(), "--listen")).collect();
    let given = Given::here(args.config.clone(), flags);
    let loaded = config::read(&given)?;
    let (config, env) = (loaded.config, Env::system());
    let mut signals = Signals::listen()?;
    let fleet = Fleet::connect(&config, &env).await?;
    let kms = connect::kes(&env)?;
    let (kes_key, key_file) = (config.secrets.kes_key.clone(), config.secrets.key_file.clone());
    if kes_key.is_some() && kms.is_none() {
        let mend = "set MINIO_KMS_KES_ENDPOINT and its companions, or `secrets.keyFile` instead";
        return Err(Failure::usage("`secrets.kesKey` is set, and no KES is named", mend));
    }
    let seals = kes_key.is_some() || key_file.is_some();
    let sealer = seals.then(|| Sealer::new(kms, kes_key, key_file.unwrap_or_default(), env.clone()));
    let site = Site {
        ledger: fleet.ledger.clone(),
        reports: fleet.reports.clone(),
        reports_at: Some(fleet.reports_at.clone()),
        dead: Some(Arc::new(fleet.queue.dead_letters())),
        sealer: sealer.clone(),
        allow_private_notify: config.notify.allow_private,
        stores: stores(&config)?,
        env: env.clone(),
    };
    watch::serve(&config, Role::Coordinator, &fleet.ledger).await?;
    let server = Server::start(site, &config, given).await;
    let server = server.map_err(|e| Failure::refused(chain(&e), e.remedy()))?;
    let owner = fleet::owner("coordinator", &env);
    say(&format!("keyrotate coordinator {owner} at {}", server.url()));
    tokio::spawn(count_dead_letters(Arc::clone(&fleet.queue)));
    let settings = CoordinatorConfig { tickets_out: TicketsOut::TwiceTheSlots, ..CoordinatorConfig::default() };
    let coordinator = Coordinator::new(fleet.ledger, fleet.queue, fleet.reports, settings);
    let coordinator = coordinator.with_notifier(Notifier::new(sealer, config.notify.allow_private));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let mut leading = tokio::spawn(async move { coordinator.run_among_others(&owner, stopped).await });
    tokio::select! {
        () = signals.recv() => {}
        _ended = &mut leading => {
            return Err(Failure::failed("keyrotate has a bug: a part of it ended", "start again; please report it"));
        }
    }
    signals.end_at_next();
    say("stopping");
    stop.cancel();
    server.shutdown().await;
    let _ended = leading.await;
    Ok(Exit::Completed)
}

/// Asks the broker now and then how many dead letters lie there.
async fn count_dead_letters(queue: Arc<RabbitQueue>) {
    loop {
        match queue.count_dead_letters().await {
            Ok(count) => drop(metrics().dead_letters.with(&[]).set(i64::from(count))),
            Err(error) => {
                metrics().dead_letters.clear();
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "nobody knows how many dead letters there are"
                );
            }
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

/// The stores of the configuration; without one, the environment's, called `default`.
fn stores(config: &Config) -> Result<Vec<NamedStore>, Failure> {
    let named = |name: &str, settings: &StoreSettings| {
        let wrong =
            |e: &dyn std::error::Error| Failure::usage(format!("store `{name}`: {}", chain(e)), "mend `endpoint`");
        let identity = settings.endpoint.as_deref().map(identity_of_endpoint).transpose().map_err(|e| wrong(&e))?;
        let mut probes = ProbePlace { bucket: settings.probe_bucket.clone(), ..ProbePlace::default() };
        if let Some(prefix) = &settings.probe_prefix {
            probes.prefix.clone_from(prefix);
        }
        Ok(NamedStore { name: name.to_owned(), identity: identity.map(|identity| identity.0), probes })
    };
    if config.stores.is_empty() {
        let variable = |name: &str| std::env::var(name).ok();
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        return Ok(vec![named("default", &StoreSettings { endpoint, ..StoreSettings::default() })?]);
    }
    config.stores.iter().map(|(name, settings)| named(name.as_str(), settings)).collect()
}
