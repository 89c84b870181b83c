//! The one configuration of keyrotate, for every role: a file, above it the environment, above that the command line.
//!
//! The file is `--config`, else `$XDG_CONFIG_HOME/keyrotate/config.yaml`, else `/etc/keyrotate/config.yaml`; never one of
//! the working directory, which may be somebody else's. Every field is also a variable (`redis.url`:
//! `KEYROTATE_REDIS_URL`), a secret also the name of a file (`KEYROTATE_REDIS_PASSWORD_FILE`). Where each value came from
//! is kept.

mod fields;
mod layer;
mod secret;
pub mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use keyrotate_proto::job::settings::{self, Settings};
use keyrotate_proto::job::{self, Problem};
use serde::{Deserialize, Deserializer};

pub use layer::Source;
use layer::{Above, Layers};
pub use secret::Secret;
use token::TokenEntry;

/// The configuration. `Debug` shows no secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Where the fleet's coordinator is, for the verbs that talk to it.
    pub url: Option<String>,
    /// The token that those verbs show.
    pub token: Option<Secret>,
    /// PEM file of certificates that those verbs trust besides the system's.
    pub ca_bundle: Option<PathBuf>,
    /// PEM file of the client certificate that those verbs show.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Where the coordinator listens.
    pub listen: Listen,
    /// Where a coordinator or a worker answers `/healthz`, `/readyz` and `/metrics`, in the clear and to everybody who
    /// reaches it; absent: nowhere. A coordinator shows its metrics beside its API, too, to holders of tokens.
    pub metrics_listen: Option<Listen>,
    /// Certificate and key of the coordinator.
    pub tls: Option<Tls>,
    /// Who may talk to the coordinator.
    pub tokens: Vec<TokenEntry>,
    /// What the coordinator takes from each.
    pub limits: Limits,
    /// Who is told of the ends of jobs.
    pub notify: NotifySettings,
    /// What secrets of jobs are sealed with.
    pub secrets: Sealing,
    /// The queue.
    pub rabbitmq: RabbitMq,
    /// The checkpoint.
    pub redis: Redis,
    /// Where the reports of all jobs lie.
    pub reports: Reports,
    /// The stores that are rotated, by their names.
    pub stores: BTreeMap<StoreName, StoreSettings>,
    /// A worker.
    pub worker: WorkerSettings,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 7474)))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let wrong = |_| serde::de::Error::custom("is no address to listen on: write `127.0.0.1:7474` or `[::]:7474`");
        text.parse().map(Self).map_err(wrong)
    }
}

/// Files in PEM form. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// The certificate, and those between it and the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates that sign those of clients. Given, whoever shows none that they signed is not let in.
    pub client_ca: Option<PathBuf>,
}

/// What the coordinator takes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: u32,
    /// Requests per second of one token; twice as many at once.
    pub rate: u32,
    /// Jobs that have not ended.
    pub open_jobs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 64 << 10, rate: 20, open_jobs: 100 }
    }
}

/// Who is told of the ends of jobs: whom their files name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NotifySettings {
    /// Also at loopback, link-local and private addresses.
    pub allow_private: bool,
}

/// What secrets that a job's record must hold are sealed with: a key of the KES, else a key file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Sealing {
    /// Key of the KES that `MINIO_KMS_KES_*` names.
    pub kes_key: Option<String>,
    /// File of 32 random bytes, the same for all coordinators; made where it is not there.
    pub key_file: Option<PathBuf>,
}

/// The queue.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RabbitMq {
    /// `amqp://[USER[:PASSWORD]@]HOST[:PORT]/VHOST`, with TLS `amqps://…`.
    pub url: Option<Secret>,
    /// The password, where it does not stand in the URL.
    pub password: Option<Secret>,
    /// PEM file of certificates to trust besides the system's. It is read again for each connection.
    pub ca_bundle: Option<PathBuf>,
    /// PEM file of a client certificate, likewise; `?auth_mechanism=external` in the URL lets it stand for a user.
    pub cert: Option<PathBuf>,
    /// PEM file of its key, in PKCS#8.
    pub key: Option<PathBuf>,
    /// `http://USER:PASSWORD@HOST:15672` of the management API, for `doctor`.
    pub management: Option<Secret>,
}

/// The checkpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Redis {
    /// `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`; `rediss://…`, `redis+sentinel://…`.
    pub url: Option<Secret>,
    /// The password, where it does not stand in the URL.
    pub password: Option<Secret>,
    /// The sentinels' password.
    pub sentinel_password: Option<Secret>,
    /// What every name in Redis begins with.
    pub prefix: String,
    /// PEM file of certificates to trust instead of the system's. It is read again for each connection.
    pub ca_bundle: Option<PathBuf>,
    /// PEM file of a client certificate, likewise.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Start although the server may lose what it acknowledged.
    pub accept_weak_persistence: bool,
    /// Start although the server does not say how it keeps what it acknowledged.
    pub accept_unknown_persistence: bool,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            password: None,
            sentinel_password: None,
            prefix: "keyrotate".into(),
            ca_bundle: None,
            cert: None,
            key: None,
            accept_weak_persistence: false,
            accept_unknown_persistence: false,
        }
    }
}

/// Where the reports of all jobs lie: a bucket, below a prefix.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Reports {
    /// The store's address; absent: AWS.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// The bucket.
    pub bucket: Option<String>,
    /// What all names in it begin with.
    pub prefix: String,
    /// Profile of the AWS configuration to take credentials from.
    pub profile: Option<String>,
    /// PEM file of certificates to trust instead of the system's. It is read again for each connection.
    pub ca_bundle: Option<PathBuf>,
    /// PEM file of a client certificate, likewise.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Credentials, where no profile and no `AWS_*` variables give them.
    pub access_key_id: Option<String>,
    /// Its other half.
    pub secret_access_key: Option<Secret>,
}

/// A store that is rotated.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct StoreSettings {
    /// Its address; absent: AWS.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Profile of the AWS configuration to take credentials from. Only workers need any.
    pub profile: Option<String>,
    /// PEM file of certificates to trust instead of the system's. It is read again for each connection.
    pub ca_bundle: Option<PathBuf>,
    /// PEM file of a client certificate, likewise.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Credentials, where no profile and no `AWS_*` variables give them.
    pub access_key_id: Option<String>,
    /// Its other half.
    pub secret_access_key: Option<Secret>,
    /// Key prefix of the probe objects in a job's bucket.
    pub probe_prefix: Option<String>,
    /// Another bucket for the probe objects.
    pub probe_bucket: Option<String>,
    /// Objects per second at most, of all jobs and workers together.
    pub rate: Option<PerSecond>,
    /// Bytes of bodies per second at most that are written, likewise.
    pub byte_rate: Option<BytesPerSecond>,
    /// Calls to the KMS per second at most that the store makes for what is written, likewise.
    pub kms_rate: Option<PerSecond>,
    /// Calls at a time at most, likewise, but one for each slot.
    pub permits: Option<NonZeroU32>,
}

/// A number per second, more than 0.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct PerSecond(pub f64);

impl TryFrom<String> for PerSecond {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse() {
            Ok(rate) if f64::is_finite(rate) && rate > 0.0 => Ok(Self(rate)),
            _ => Err(format!("`{}` is no number per second, more than 0", text.escape_debug())),
        }
    }
}

/// Bytes per second, more than 0.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct BytesPerSecond(pub f64);

impl TryFrom<String> for BytesPerSecond {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{}` are no bytes per second, such as `50MiB`", text.escape_debug());
        job::bytes_per_second(&text).map(Self).ok_or_else(wrong)
    }
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// Slices at a time.
    pub slots: Option<u32>,
    /// Store calls at a time.
    pub permits: Calls,
    /// The stores that it serves; none given: all.
    pub stores: Vec<StoreName>,
}

/// Store calls at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Calls {
    /// So many.
    AtMost(u16),
    /// As many as do good.
    Auto,
}

impl Calls {
    /// More than that do good nowhere.
    const MOST: u16 = 4096;
}

impl Default for Calls {
    fn default() -> Self {
        Self::AtMost(64)
    }
}

impl FromStr for Calls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(calls @ 1..=Self::MOST) => Ok(Self::AtMost(calls)),
            _ => Err(format!("`{}` is neither `auto` nor a number from 1 to {}", text.escape_debug(), Self::MOST)),
        }
    }
}

impl TryFrom<String> for Calls {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(calls) => calls.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// Name of a store: it is part of names of queues.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct StoreName(String);

impl StoreName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StoreName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=40).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(format!("`{}` is no name for a store: up to 40 of a-z 0-9 -", text.escape_debug()))
        }
    }
}

/// Where the configuration is looked for, and what stands above it.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// Path of a field, its value, the flag that gives it.
    pub flags: Vec<(&'static str, String, &'static str)>,
}

impl Given {
    /// With the environment of this process.
    #[must_use]
    pub fn here(file: Option<PathBuf>, flags: Vec<(&'static str, String, &'static str)>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let ours = |name: &str| name.starts_with(fields::PREFIX) || matches!(name, "XDG_CONFIG_HOME" | "HOME");
        let variables = std::env::vars_os().filter_map(text).filter(|(name, _)| ours(name)).collect();
        Self { file, variables, flags }
    }

    /// The file to read, if there is one.
    fn place(&self) -> Option<PathBuf> {
        let set = |name: &str| self.variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(asked) = self.file.clone().or_else(|| set("KEYROTATE_CONFIG")) {
            return Some(asked);
        }
        let home = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        let places = [home.map(|home| home.join("keyrotate/config.yaml")), Some("/etc/keyrotate/config.yaml".into())];
        places.into_iter().flatten().find(|path| path.exists())
    }
}

/// A configuration that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Where each value that was given came from, by the path of its field; the others are defaults.
    pub sources: BTreeMap<String, Source>,
    /// The file, where there was one.
    pub file: Option<PathBuf>,
    /// What is taken, but should be looked at.
    pub warnings: Vec<String>,
}

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration file `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Everything that is wrong with it.
    #[error("{}", lines(.0))]
    Wrong(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> impl fmt::Display {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the configuration.
///
/// # Errors
/// Everything that is wrong with file, variables and flags, each with its place.
pub fn load(given: &Given) -> Result<Loaded, ConfigError> {
    let file = given.place();
    let text = match &file {
        Some(path) => {
            let read = std::fs::read(path);
            read.map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?
        }
        None => Vec::new(),
    };
    let shown = file.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    let read = settings::read(&text, &shown, fields::FIELDS, "docs/fleet.md has an example");
    let read = read.map_err(|errors| ConfigError::Wrong(errors.0))?;
    let layers = layer::lay(&read, &Above { variables: &given.variables, flags: &given.flags });
    let config = typed(&read, &layers)?;
    let mut warnings = strange_variables(given, &layers);
    warnings.extend(file.as_deref().and_then(|path| open_to_others(path, &layers)));
    Ok(Loaded { config, sources: layers.sources, file, warnings })
}

fn typed(file: &Settings, layers: &Layers) -> Result<Config, ConfigError> {
    if !layers.problems.is_empty() {
        return Err(ConfigError::Wrong(layers.problems.clone()));
    }
    let wrong = |path: &str, message: String| {
        let mut problem = file.problem(path, message, None);
        if let Some(source @ (Source::Variable(_) | Source::SecretFile { .. } | Source::Flag(_))) = layers.source(path)
        {
            (problem.line, problem.path) = (0, format!("{source}: {path}"));
        }
        ConfigError::Wrong(vec![problem])
    };
    let read: Result<Config, _> = serde_path_to_error::deserialize(layers.value.clone());
    let config = read.map_err(|e| wrong(&e.path().to_string(), e.inner().to_string()))?;
    for (n, entry) in config.tokens.iter().enumerate() {
        let again = |earlier: &&TokenEntry| earlier.name == entry.name || earlier.hash == entry.hash;
        if config.tokens[..n].iter().any(|earlier| again(&earlier)) {
            let message = format!("name or hash of `{}` stands there twice", entry.name.as_str());
            return Err(wrong(&format!("tokens[{n}]"), message));
        }
    }
    for (n, name) in config.worker.stores.iter().enumerate() {
        if !config.stores.is_empty() && !config.stores.contains_key(name) {
            return Err(wrong(&format!("worker.stores[{n}]"), format!("`stores` has no `{}`", name.as_str())));
        }
    }
    Ok(config)
}

/// Variables that were taken for nothing and look like one that would be.
fn strange_variables(given: &Given, layers: &Layers) -> Vec<String> {
    let used: Vec<&str> = layers
        .sources
        .values()
        .filter_map(|source| match source {
            Source::Variable(name) | Source::SecretFile { variable: name, .. } => Some(name.as_str()),
            Source::File { .. } | Source::Flag(_) => None,
        })
        .collect();
    let known = layer::variables();
    let others = ["KEYROTATE_STATE", "KEYROTATE_LOG_FORMAT", "KEYROTATE_CONFIG", "XDG_CONFIG_HOME", "HOME"];
    let strange =
        given.variables.keys().filter(|name| !used.contains(&name.as_str()) && !others.contains(&name.as_str()));
    let near = |name: &String| settings::nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    strange
        .filter_map(|name| {
            near(name).map(|near| format!("`{name}` is no variable of keyrotate: did you mean `{near}`?"))
        })
        .collect()
}

/// A file with secrets in it that others of this machine may read.
fn open_to_others(path: &Path, layers: &Layers) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let secret =
        |(field, source): (&String, &Source)| fields::is_secret(field) && matches!(source, Source::File { .. });
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (layers.sources.iter().any(secret) && mode & 0o004 != 0).then(|| {
        format!("`{0}` holds a secret and everybody on this machine may read it: `chmod o-r {0}`", path.display())
    })
}

#[cfg(test)]
mod tests;
