//! A whole stack in one process: keys, store, S3 over HTTP, KES over HTTPS, and what a child process must know to use
//! them.
//! **Not for production.**

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyrotate_env::Env;
use keyrotate_kms::{KmsError, KmsErrorKind};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::kes::{ApiKey, Grant, KesModel, KesServer, KesServerConfig, Policy, ServerCert};
use crate::model::{Mode, OpenError, StoreModel};
use crate::server::{S3Server, S3ServerConfig};

/// The keys that every stack has from its start.
pub const KEYS: [&str; 2] = ["key-a", "key-b"];
/// What KES shows, and what a client has to trust; in the stack's folder.
const CERT: &str = "kes.crt";
const CERT_KEY: &str = "kes.key";
/// What a client tells KES who it is by.
const API_KEY: &str = "kes-api.key";

/// What stack to start.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Where it keeps everything; `None`: in memory.
    pub dir: Option<PathBuf>,
    /// Which store it plays.
    pub mode: Mode,
    /// Where S3 listens; port 0 takes a free one.
    pub s3_addr: SocketAddr,
    /// Where KES listens; port 0 takes a free one.
    pub kes_addr: SocketAddr,
    /// Access key of the one user.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// The region that the store names.
    pub region: String,
    /// The name that both are reached under; `None`: the addresses that they listen on.
    pub host: Option<String>,
    /// The API key of KES's one client; `None`: the folder's, else a fresh one.
    pub kes_api_key: Option<Zeroizing<String>>,
    /// What that client may do there.
    pub kes_policy: Policy,
}

impl StackConfig {
    /// In memory, on free ports of the loopback.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            dir: None,
            mode,
            s3_addr: (Ipv4Addr::LOCALHOST, 0).into(),
            kes_addr: (Ipv4Addr::LOCALHOST, 0).into(),
            access_key: "devstack".to_owned(),
            secret_key: "devstack-secret".to_owned(),
            region: "us-east-1".to_owned(),
            host: None,
            kes_api_key: None,
            kes_policy: Policy::vendor_guide(),
        }
    }
}

/// The stack did not start.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The folder of the keys can't be used.
    #[error("the folder of the keys can't be used")]
    Keys(#[source] io::Error),
    /// The folder of the store can't be used.
    #[error("the store did not open")]
    Store(#[from] OpenError),
    /// A key could not be made.
    #[error("a key could not be made")]
    Key(#[from] KmsError),
    /// A server could not listen.
    #[error("{what} can't be served on {addr}")]
    Listen {
        /// `S3` or `KES`.
        what: &'static str,
        /// Where it should have listened.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A running stack. It stops when dropped.
#[derive(Debug)]
pub struct DevStack {
    kes: KesModel,
    model: StoreModel,
    s3: S3Server,
    kes_server: KesServer,
    api_key: ApiKey,
    config: StackConfig,
    /// Where files lie that a child reads.
    files: PathBuf,
    /// Deleted with the stack when it has no folder of its own.
    _scratch: Option<TempDir>,
}

impl DevStack {
    /// Starts it; the keys of [`KEYS`] are there afterwards.
    ///
    /// # Errors
    /// When a folder can't be used or a port is taken.
    pub async fn start(config: StackConfig) -> Result<Self, StackError> {
        let env = Env::system();
        let (kes, model) = open(&config, env.clone())?;
        let scratch = config.dir.is_none().then(tempfile::tempdir).transpose().map_err(StackError::Keys)?;
        let files =
            config.dir.clone().or_else(|| scratch.as_ref().map(|dir| dir.path().to_owned())).unwrap_or_default();
        let (api_key, kes_config) = identities(&files, &config, &env).map_err(StackError::Keys)?;
        let listen = |source| StackError::Listen { what: "KES", addr: config.kes_addr, source };
        let kes_server = KesServer::start(kes.clone(), kes_config).await.map_err(listen)?;
        let server = S3ServerConfig {
            addr: config.s3_addr,
            access_key: config.access_key.clone(),
            secret_key: config.secret_key.clone(),
            region: config.region.clone(),
        };
        let listen = |source| StackError::Listen { what: "S3", addr: config.s3_addr, source };
        let s3 = S3Server::start(model.clone(), server).await.map_err(listen)?;
        Ok(Self { kes, model, s3, kes_server, api_key, config, files, _scratch: scratch })
    }

    /// The store behind the server.
    #[must_use]
    pub fn model(&self) -> &StoreModel {
        &self.model
    }

    /// The keys.
    #[must_use]
    pub fn kes(&self) -> &KesModel {
        &self.kes
    }

    /// The S3 server, its faults and counts.
    #[must_use]
    pub fn s3(&self) -> &S3Server {
        &self.s3
    }

    /// The HTTPS face of the keys.
    #[must_use]
    pub fn kes_server(&self) -> &KesServer {
        &self.kes_server
    }

    /// The environment of a child process that shall use this stack.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let reached = |scheme: &str, addr: SocketAddr| match &self.config.host {
            Some(host) => format!("{scheme}://{host}:{}", addr.port()),
            None => format!("{scheme}://{addr}"),
        };
        let pairs = [
            ("AWS_ENDPOINT_URL", reached("http", self.s3.addr())),
            ("AWS_ACCESS_KEY_ID", self.config.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.config.secret_key.clone()),
            ("AWS_REGION", self.config.region.clone()),
            ("MINIO_KMS_KES_ENDPOINT", reached("https", self.kes_server.addr())),
            ("MINIO_KMS_KES_API_KEY", self.api_key.text.to_string()),
            ("MINIO_KMS_KES_CAPATH", self.files.join(CERT).display().to_string()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Takes no more requests and waits a few seconds for those under way.
    pub async fn shutdown(self) {
        self.s3.shutdown().await;
        self.kes_server.shutdown().await;
    }
}

/// Keys and store, in memory or in the folder.
fn open(config: &StackConfig, env: Env) -> Result<(KesModel, StoreModel), StackError> {
    let kes = match &config.dir {
        Some(dir) => KesModel::open(&dir.join("kes"), env.clone()).map_err(StackError::Keys)?,
        None => KesModel::new(env.clone()),
    };
    for key in KEYS {
        match kes.create(key, "") {
            Err(error) if error.kind == KmsErrorKind::KeyExists => {}
            made => made?,
        }
    }
    let kms = Arc::new(kes.clone());
    let model = match &config.dir {
        Some(dir) => StoreModel::open(&dir.join("store"), config.mode.clone(), kms, env)?,
        None => StoreModel::new(config.mode.clone(), kms, env),
    };
    Ok((kes, model))
}

/// Who KES is and who its clients are: the same after a restart, so that a child that outlives it goes on.
fn identities(files: &Path, config: &StackConfig, env: &Env) -> io::Result<(ApiKey, KesServerConfig)> {
    let kept = read_secret(&files.join(API_KEY))?;
    let api_key = match config.kes_api_key.clone().or(kept) {
        Some(text) => ApiKey::parse(text)?,
        None => ApiKey::generate(env),
    };
    write_secret(&files.join(API_KEY), &api_key.text)?;
    let cert = match (read_secret(&files.join(CERT))?, read_secret(&files.join(CERT_KEY))?) {
        (Some(cert), Some(key)) => ServerCert { cert: cert.to_string(), key },
        _ => ServerCert::generate_for(config.host.as_deref())?,
    };
    write_secret(&files.join(CERT_KEY), &cert.key)?;
    write_secret(&files.join(CERT), &cert.cert)?;
    let identities = vec![api_key.identity.clone()];
    let app = Grant { name: "app".to_owned(), policy: config.kes_policy.clone(), identities };
    Ok((api_key, KesServerConfig { addr: config.kes_addr, grants: vec![app], admin: None, cert }))
}

fn read_secret(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Beside its place first, so that a kill never leaves half of it.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keyrotate_kms::{KesClient, KesConfig, Kms as _};
    use keyrotate_store::{GetRequest, Guard, InPlace, NewObject, ObjectAt, PutRequest, Sse, Store as _};

    use super::*;
    use crate::model::BucketSettings;

    fn kes_of(stack: &DevStack) -> KesClient {
        let variables = stack.variables();
        let config = KesConfig::from_env(|name| variables.get(name).cloned()).unwrap().unwrap();
        KesClient::new(config, Env::system()).unwrap()
    }

    #[tokio::test]
    async fn a_child_needs_nothing_but_the_variables() {
        let stack = DevStack::start(StackConfig::new(Mode::minio())).await.unwrap();
        let kes = kes_of(&stack);
        let sealed = kes.generate("key-a", b"context").await.unwrap();
        let opened = stack.kes().decrypt("key-a", &sealed.ciphertext, b"context").await.unwrap();
        assert_eq!(opened.expose(), sealed.plaintext.expose());
        let files = stack.files.clone();
        stack.shutdown().await;
        assert!(!files.exists());
    }

    #[tokio::test]
    async fn a_stack_has_the_name_and_the_api_key_that_it_is_given() {
        let env = Env::system();
        let key = ApiKey::generate(&env).text;
        let mut config = StackConfig::new(Mode::minio());
        (config.host, config.kes_api_key) = (Some("localhost".into()), Some(key.clone()));
        let stack = DevStack::start(config).await.unwrap();
        let variables = stack.variables();
        assert!(variables["AWS_ENDPOINT_URL"].starts_with("http://localhost:"), "{variables:?}");
        assert_eq!(variables["MINIO_KMS_KES_API_KEY"], *key);
        kes_of(&stack).status().await.unwrap();
    }

    #[tokio::test]
    async fn a_stack_in_a_folder_is_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let config = StackConfig { dir: Some(dir.path().to_owned()), ..StackConfig::new(Mode::minio()) };
        let at = ObjectAt::current("b", "k");
        let stack = DevStack::start(config.clone()).await.unwrap();
        assert!(stack.variables()["AWS_ENDPOINT_URL"].starts_with("http://127.0.0.1:"));
        stack.model().create_bucket("b", BucketSettings::plain()).unwrap();
        let sse =
            Sse::Kms { key: Some(keyrotate_proto::key::KeyName("key-a".into())), context: None, bucket_key: None };
        let new = NewObject { sse, ..NewObject::default() };
        let put = PutRequest { at: at.clone(), new, guard: Guard::None, place: InPlace::default() };
        stack.model().put(put, Bytes::from_static(b"body").into()).await.unwrap();
        let kes = kes_of(&stack);
        kes.status().await.unwrap();
        let kes_addr = stack.kes_server().addr();
        stack.shutdown().await;
        let stack = DevStack::start(StackConfig { kes_addr, ..config }).await.unwrap();
        kes.status().await.unwrap();
        let (_, body) = stack.model().get(GetRequest::of(&at)).await.unwrap();
        assert_eq!(body.collect().await.unwrap(), "body");
    }
}
