//! The store and the KES that the environment names.

use std::sync::Arc;

use keyrotate_checkpoint::record::{PROBE_PREFIX, ProbePlace};
use keyrotate_config::Config;
use keyrotate_env::Env;
use keyrotate_kms::{KesClient, KesConfig, Kms};
use keyrotate_proto::say::chain;
use keyrotate_queue::DEFAULT_STORE;
use keyrotate_store::retry::{RetryPolicy, Retrying};
use keyrotate_store::s3::{S3Config, S3Store};
use keyrotate_store::wrap::fenced::Fenced;
use keyrotate_store::wrap::measured::Measured;
use keyrotate_worker::Served;

use crate::failure::Failure;
use crate::{alias, fleet};

/// A store, a KES if one is configured, and what the environment calls the default key.
pub(crate) struct Connected {
    /// The store, its single calls retried.
    pub(crate) store: Served,
    /// The KES.
    pub(crate) kms: Option<Arc<dyn Kms>>,
    /// `MINIO_KMS_KES_KEY_NAME`.
    pub(crate) default_key: Option<String>,
}

/// Connects to the store that the configuration has under that name, else to mc's alias of that name; without a name as
/// `AWS_*` say. To KES as `MINIO_KMS_KES_*` say.
pub(crate) async fn to(name: Option<&str>, config: &Config, env: &Env) -> Result<Connected, Failure> {
    match name {
        Some(name) => through(named(name, config)?, "see what is set under that name", env).await,
        None => from_environment(env).await,
    }
}

pub(crate) fn named(name: &str, config: &Config) -> Result<S3Config, Failure> {
    if let Some((_, settings)) = config.stores.iter().find(|(known, _)| known.as_str() == name) {
        return fleet::s3_config(&format!("stores.{name}."), settings);
    }
    alias::find(name)?.ok_or_else(|| {
        let known: Vec<_> = config.stores.keys().map(|name| format!("`{}`", name.as_str())).collect();
        let known = if known.is_empty() { "no store".to_owned() } else { known.join(", ") };
        let mend =
            format!("the configuration has {known}; `mc alias set {name} URL ACCESS SECRET` makes it one of mc's");
        Failure::usage(format!("there is no store `{}`", name.escape_debug()), mend)
    })
}

/// Connects as `AWS_*` and `MINIO_KMS_KES_*` say.
pub(crate) async fn from_environment(env: &Env) -> Result<Connected, Failure> {
    let mend = "set AWS_ENDPOINT_URL, AWS_REGION and credentials, or a profile, as for the aws command; or name a store \
        with --store";
    through(S3Config::default(), mend, env).await
}

async fn through(config: S3Config, mend: &str, env: &Env) -> Result<Connected, Failure> {
    let s3 = S3Store::connect(config).await;
    let s3 = s3.map_err(|e| Failure::refused(format!("no store: {}", chain(&e)), mend))?;
    let fenced = Fenced::new(Measured::new(DEFAULT_STORE, s3));
    let store = Retrying::new(fenced, RetryPolicy::default(), env.clone());
    Ok(Connected { store: store.into(), kms: kes(env)?, default_key: default_key() })
}

/// Where probe objects go: where the command line says, else where the configuration says for a store of its own.
pub(crate) fn probe_place(
    store: Option<&str>,
    prefix: Option<String>,
    bucket: Option<String>,
    config: &Config,
) -> ProbePlace {
    let ours = config.stores.iter().find(|(name, _)| store == Some(name.as_str()));
    let of_store = ours.map(|(_, settings)| settings.clone()).unwrap_or_default();
    let prefix = prefix.or(of_store.probe_prefix).unwrap_or_else(|| PROBE_PREFIX.to_owned());
    ProbePlace { prefix, bucket: bucket.or(of_store.probe_bucket) }
}

/// What the environment calls the default key.
pub(crate) fn default_key() -> Option<String> {
    KesConfig::default_key(|name| std::env::var(name).ok())
}

/// The KES that `MINIO_KMS_KES_*` name, if they name one.
pub(crate) fn kes(env: &Env) -> Result<Option<Arc<dyn Kms>>, Failure> {
    Ok(kes_client(env)?.map(|client| Arc::new(client) as Arc<dyn Kms>))
}

/// The same, by its own type.
pub(crate) fn kes_client(env: &Env) -> Result<Option<KesClient>, Failure> {
    let mend = "set MINIO_KMS_KES_ENDPOINT and its companions as for MinIO, or none of them";
    let config = KesConfig::from_env(|name| std::env::var(name).ok());
    let config = config.map_err(|e| Failure::refused(format!("no KES: {}", chain(&e)), mend))?;
    let Some(config) = config else { return Ok(None) };
    let client = KesClient::new(config, env.clone());
    let client = client.map_err(|e| Failure::refused(format!("no KES: {}", chain(&e)), mend))?;
    Ok(Some(client))
}
