//! `coordinator`: a fleet's API, on its checkpoint and its reports.

use std::sync::Arc;

use keyrotate_checkpoint::record::ProbePlace;
use keyrotate_checkpoint::redis::Weakness;
use keyrotate_checkpoint::{Ledger, RedisBackend, RedisConfig};
use keyrotate_config::{Config, Given, Reports, Secret, StoreSettings};
use keyrotate_coordinator::api::server::Server;
use keyrotate_coordinator::api::{NamedStore, ReportsAt, Site};
use keyrotate_coordinator::sealed::Sealer;
use keyrotate_env::Env;
use keyrotate_proto::say::chain;
use keyrotate_report::ReportRoot;
use keyrotate_report::root::BucketRoot;
use keyrotate_store::Store;
use keyrotate_store::retry::{RetryPolicy, Retrying};
use keyrotate_store::s3::{S3Config, S3Store, identity_of_endpoint};

use crate::args::CoordinatorArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::run::Signals;
use crate::{config, connect, say};

/// Serves until it is told to stop.
pub(crate) async fn serve(args: CoordinatorArgs) -> Result<Exit, Failure> {
    let flags = args.listen.iter().map(|listen| ("listen", listen.clone(), "--listen")).collect();
    let given = Given::here(args.config.clone(), flags);
    let loaded = config::read(&given)?;
    let (config, env) = (loaded.config, Env::system());
    let mut signals = Signals::listen()?;
    let ledger = checkpoint(&config, &env).await?;
    let (reports, reports_at) = reports(&config.reports, &env).await?;
    let kms = connect::kes(&env)?;
    let (kes_key, key_file) = (config.secrets.kes_key.clone(), config.secrets.key_file.clone());
    if kes_key.is_some() && kms.is_none() {
        let mend = "set MINIO_KMS_KES_ENDPOINT and its companions, or `secrets.keyFile` instead";
        return Err(Failure::usage("`secrets.kesKey` is set, and no KES is named", mend));
    }
    let seals = kes_key.is_some() || key_file.is_some();
    let sealer = Sealer::new(kms, kes_key, key_file.unwrap_or_default(), env.clone());
    let site = Site {
        ledger,
        reports,
        reports_at: Some(reports_at),
        sealer: seals.then_some(sealer),
        stores: stores(&config)?,
        env,
    };
    let server = Server::start(site, &config, given).await;
    let server = server.map_err(|e| Failure::refused(chain(&e), e.remedy()))?;
    say(&format!("keyrotate coordinator at {}", server.url()));
    signals.recv().await;
    signals.end_at_next();
    say("stopping");
    server.shutdown().await;
    Ok(Exit::Completed)
}

/// The checkpoint in Redis, if it keeps what it acknowledges.
async fn checkpoint(config: &Config, env: &Env) -> Result<Ledger, Failure> {
    let redis = &config.redis;
    let Some(url) = &redis.url else {
        return Err(Failure::usage("no checkpoint is named", "set `redis.url`, or KEYROTATE_REDIS_URL"));
    };
    let pem = redis
        .ca_bundle
        .as_ref()
        .map(|path| std::fs::read(path).map_err(|e| Failure::io("can't read the certificates in", path, &e)));
    let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    let settings = RedisConfig {
        url: url.expose().to_owned(),
        password: text(&redis.password),
        sentinel_password: text(&redis.sentinel_password),
        root_certificates: pem.transpose()?,
        prefix: redis.prefix.clone(),
    };
    let mend = "check `redis.url`, and that the server runs";
    let broke = |e: &dyn std::error::Error| {
        Failure::refused(format!("no checkpoint at {}: {}", settings.shown(), chain(e)), mend)
    };
    let backend = RedisBackend::new(&settings, env.clone()).map_err(|e| broke(&e))?;
    let persistence = backend.persistence().await.map_err(|e| broke(&e))?;
    for weakness in persistence.weaknesses() {
        let accepted = if weakness.unknown { redis.accept_unknown_persistence } else { redis.accept_weak_persistence };
        let what = format!("{}: {}; {}", persistence.version, weakness.what, weakness.risk);
        if !accepted {
            return Err(Failure::refused(what, mend_of(&weakness)));
        }
        say(&format!("warning: {what}"));
    }
    Ok(Ledger::new(Arc::new(backend), env.clone()))
}

fn mend_of(weakness: &Weakness) -> String {
    let field = if weakness.unknown { "acceptUnknownPersistence" } else { "acceptWeakPersistence" };
    format!("{}, or accept it by `redis.{field}: true`", weakness.mend)
}

/// The bucket of the reports.
async fn reports(settings: &Reports, env: &Env) -> Result<(Arc<dyn ReportRoot>, ReportsAt), Failure> {
    let Some(bucket) = &settings.bucket else {
        let mend = "set `reports.bucket`, or KEYROTATE_REPORTS_BUCKET: all machines of a fleet write there";
        return Err(Failure::usage("no place for reports is named", mend));
    };
    if !settings.prefix.is_empty() && !settings.prefix.ends_with('/') {
        return Err(Failure::usage("`reports.prefix` does not end in a slash", "write it like `keyrotate/`"));
    }
    let s3 = S3Config {
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        ca_bundle: settings.ca_bundle.clone(),
        ..S3Config::default()
    };
    let mend = "check `reports`, and the credentials of the environment";
    let s3 = S3Store::connect(s3).await;
    let s3 = s3.map_err(|e| Failure::refused(format!("no store for reports: {}", chain(&e)), mend))?;
    let store: Arc<dyn Store> = Arc::new(Retrying::new(s3, RetryPolicy::default(), env.clone()));
    let at = ReportsAt { store: store.identity().0.clone(), bucket: bucket.clone(), prefix: settings.prefix.clone() };
    Ok((Arc::new(BucketRoot::new(store, bucket, &settings.prefix)), at))
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
