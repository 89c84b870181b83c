//! What every role of a fleet reaches: the checkpoint in Redis, the tickets on RabbitMQ, the reports in a bucket.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use keyrotate_checkpoint::redis::Weakness;
use keyrotate_checkpoint::{Ledger, RedisBackend, RedisConfig};
use keyrotate_config::{Config, Secret, StoreSettings};
use keyrotate_coordinator::api::ReportsAt;
use keyrotate_env::Env;
use keyrotate_proto::rates::Rates;
use keyrotate_proto::say::chain;
use keyrotate_queue::rabbit::{RabbitConfig, RabbitQueue};
use keyrotate_report::ReportRoot as _;
use keyrotate_report::root::BucketRoot;
use keyrotate_report::store::bucket;
use keyrotate_store::Store;
use keyrotate_store::retry::{RetryPolicy, Retrying};
use keyrotate_store::s3::{S3Config, S3Store};
use keyrotate_store::wrap::fenced::Fenced;
use keyrotate_store::wrap::measured::Measured;
use keyrotate_worker::{Served, StoreLimits};

use crate::failure::Failure;
use crate::say;

/// The three.
pub(crate) struct Fleet {
    /// The checkpoint.
    pub(crate) ledger: Ledger,
    /// The tickets.
    pub(crate) queue: Arc<RabbitQueue>,
    /// The reports.
    pub(crate) reports: Arc<BucketRoot>,
    /// Where those lie.
    pub(crate) reports_at: ReportsAt,
}

impl Fleet {
    /// Connects to all of them; says what is wrong with any.
    pub(crate) async fn connect(config: &Config, env: &Env) -> Result<Self, Failure> {
        let ledger = ledger(config, env).await?;
        let queue = Arc::new(RabbitQueue::new(rabbit_settings(config)?, env.clone()));
        let (reports, reports_at) = reports(config, env).await?;
        Ok(Self { ledger, queue, reports: Arc::new(reports), reports_at })
    }
}

/// How Redis is reached.
pub(crate) fn redis_settings(config: &Config) -> Result<RedisConfig, Failure> {
    let redis = &config.redis;
    let url = redis.url.as_ref().ok_or_else(|| missing("redis.url", "KEYROTATE_REDIS_URL"))?;
    let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    Ok(RedisConfig {
        url: url.expose().to_owned(),
        password: text(&redis.password),
        sentinel_password: text(&redis.sentinel_password),
        ca_bundle: redis.ca_bundle.clone(),
        certificate: certificate("redis.", redis.cert.as_ref(), redis.key.as_ref())?,
        prefix: redis.prefix.clone(),
    })
}

async fn ledger(config: &Config, env: &Env) -> Result<Ledger, Failure> {
    let (redis, settings) = (&config.redis, redis_settings(config)?);
    let broke = |e: &dyn std::error::Error| {
        Failure::refused(
            format!("no checkpoint at {}: {}", settings.shown(), chain(e)),
            "see `redis:` in the configuration; `keyrotate doctor` looks at it",
        )
    };
    let backend = RedisBackend::new(&settings, env.clone()).map_err(|e| broke(&e))?;
    let persistence = backend.persistence().await.map_err(|e| broke(&e))?;
    refuse_weak(&persistence.weaknesses(), redis.accept_weak_persistence, redis.accept_unknown_persistence)?;
    Ok(Ledger::new(Arc::new(backend), env.clone()))
}

/// A server that may lose what it acknowledged is refused, unless that is accepted by name.
fn refuse_weak(weaknesses: &[Weakness], weak: bool, unknown: bool) -> Result<(), Failure> {
    for weakness in weaknesses {
        let (accepted, field) = match weakness.unknown {
            true => (unknown, "acceptUnknownPersistence"),
            false => (weak, "acceptWeakPersistence"),
        };
        let what = format!("Redis: {}: {}", weakness.what, weakness.risk);
        if !accepted {
            return Err(Failure::refused(what, format!("{}, or accept it: `redis.{field}: true`", weakness.mend)));
        }
        say(&format!("warning: {what}"));
    }
    Ok(())
}

/// How RabbitMQ is reached.
pub(crate) fn rabbit_settings(config: &Config) -> Result<RabbitConfig, Failure> {
    let rabbit = &config.rabbitmq;
    let url = rabbit.url.as_ref().ok_or_else(|| missing("rabbitmq.url", "KEYROTATE_RABBITMQ_URL"))?;
    let wrong = |e: &dyn std::error::Error| Failure::refused(chain(e), "see `rabbitmq:` in the configuration");
    let mut settings = RabbitConfig::parse(url.expose()).map_err(|e| wrong(&e))?;
    if let Some(password) = &rabbit.password {
        settings = settings.with_password(password.expose());
    }
    if let Some(file) = &rabbit.ca_bundle {
        settings = settings.with_ca(file).map_err(|e| wrong(&e))?;
    }
    if let Some((cert, key)) = certificate("rabbitmq.", rabbit.cert.as_ref(), rabbit.key.as_ref())? {
        settings = settings.with_certificate(&cert, &key).map_err(|e| wrong(&e))?;
    }
    Ok(settings)
}

/// A client certificate and its key: both are given, or none. `of` is what their fields begin with.
pub(crate) fn certificate(
    of: &str,
    cert: Option<&PathBuf>,
    key: Option<&PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert.clone(), key.clone()))),
        (None, None) => Ok(None),
        _ => Err(Failure::usage(
            format!("a client certificate needs its key: `{of}cert` and `{of}key`"),
            "give both, or none",
        )),
    }
}

async fn reports(config: &Config, env: &Env) -> Result<(BucketRoot, ReportsAt), Failure> {
    let reports = &config.reports;
    let bucket = reports.bucket.as_ref().ok_or_else(|| missing("reports.bucket", "KEYROTATE_REPORTS_BUCKET"))?;
    let settings = StoreSettings {
        endpoint: reports.endpoint.clone(),
        region: reports.region.clone(),
        profile: reports.profile.clone(),
        ca_bundle: reports.ca_bundle.clone(),
        cert: reports.cert.clone(),
        key: reports.key.clone(),
        access_key_id: reports.access_key_id.clone(),
        secret_access_key: reports.secret_access_key.clone(),
        ..StoreSettings::default()
    };
    let store = Arc::new(Retrying::new(
        connected("reports", s3_config("reports.", &settings)?).await?,
        RetryPolicy::default(),
        env.clone(),
    ));
    if !reports.prefix.is_empty() && !reports.prefix.ends_with('/') {
        return Err(Failure::usage("`reports.prefix` does not end in a slash", "write it like `keyrotate/`"));
    }
    let at = ReportsAt { store: store.identity().0.clone(), bucket: bucket.clone(), prefix: reports.prefix.clone() };
    let root = BucketRoot::new(store, bucket, &reports.prefix);
    let what = |e| format!("no reports in the bucket `{bucket}`: {}", chain(&e));
    let proven = async { bucket::prove(root.own()?.as_ref()).await };
    proven.await.map_err(|e| {
        Failure::refused(what(e), "see `reports:` in the configuration; the store must honour If-None-Match")
    })?;
    Ok((root, at))
}

/// A store to rotate, by its settings: its single calls are retried, and bound to the lease that they are made under.
pub(crate) async fn store(name: &str, settings: &StoreSettings, env: &Env) -> Result<Served, Failure> {
    let fenced = Fenced::new(connected(name, s3_config(&format!("stores.{name}."), settings)?).await?);
    let served = Served::from(Retrying::new(fenced, RetryPolicy::default(), env.clone()));
    Ok(Served { limits: limits(settings), ..served })
}

/// What all jobs together may take of a store that has these settings.
fn limits(settings: &StoreSettings) -> StoreLimits {
    let rates = Rates {
        objects: settings.rate.map(|rate| rate.0),
        bytes: settings.byte_rate.map(|rate| rate.0),
        kms: settings.kms_rate.map(|rate| rate.0),
    };
    StoreLimits { rates, permits: settings.permits.map(NonZeroU32::get) }
}

/// How to reach a store that has these settings. `of` is what their fields begin with.
pub(crate) fn s3_config(of: &str, settings: &StoreSettings) -> Result<S3Config, Failure> {
    let keys = settings.access_key_id.as_ref().zip(settings.secret_access_key.as_ref());
    let s3 = S3Config {
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        profile: settings.profile.clone(),
        ca_bundle: settings.ca_bundle.clone(),
        certificate: certificate(of, settings.cert.as_ref(), settings.key.as_ref())?,
        ..S3Config::default()
    };
    Ok(match keys {
        Some((id, secret)) => s3.with_keys(id, secret.expose()),
        None => s3,
    })
}

/// A store. `name` is for the message.
async fn connected(name: &str, config: S3Config) -> Result<Measured<S3Store>, Failure> {
    let connected = S3Store::connect(config).await;
    let mend = "set its endpoint or region and its credentials in the configuration, or AWS_* as for the aws command";
    let s3 = connected.map_err(|e| Failure::refused(format!("no store `{name}`: {}", chain(&e)), mend))?;
    Ok(Measured::new(name, s3))
}

/// Tells this process from all others, of any machine and any time.
pub(crate) fn owner(role: &str, env: &Env) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().take(16).collect();
    format!("{host}-{}-{}-{role}", std::process::id(), env.random_hex(2))
}

fn missing(field: &str, variable: &str) -> Failure {
    Failure::usage(format!("`{field}` is not set"), format!("set it in the configuration file, or {variable}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_certificate_comes_with_its_key() {
        let [cert, key] = ["c.pem", "k.pem"].map(PathBuf::from);
        let of = |cert: Option<&PathBuf>, key: Option<&PathBuf>| {
            let settings = StoreSettings { cert: cert.cloned(), key: key.cloned(), ..StoreSettings::default() };
            s3_config("stores.eu.", &settings).map(|config| config.certificate)
        };
        assert_eq!(of(Some(&cert), Some(&key)).unwrap(), Some((cert.clone(), key.clone())));
        assert_eq!(of(None, None).unwrap(), None);
        for half in [of(Some(&cert), None), of(None, Some(&key))] {
            let said = half.unwrap_err().to_string();
            assert!(said.contains("`stores.eu.cert` and `stores.eu.key`"), "{said}");
        }
    }

    #[test]
    fn what_may_lose_records_is_refused_unless_it_is_accepted_by_name() {
        let weakness = |unknown| Weakness { what: "w".into(), risk: "r", mend: "m", unknown };
        for (unknown, accepted) in [(false, (true, false)), (true, (false, true))] {
            assert!(refuse_weak(&[weakness(unknown)], false, false).is_err());
            assert!(refuse_weak(&[weakness(unknown)], accepted.1, accepted.0).is_err());
            assert!(refuse_weak(&[weakness(unknown)], accepted.0, accepted.1).is_ok());
        }
    }
}
