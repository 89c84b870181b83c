//! A whole stack in one process: keys, store, S3 over HTTP, and what a child process must know to use it.
//! **Not for production.**

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use keyrotate_env::Env;
use keyrotate_kms::{KmsError, KmsErrorKind};

use crate::kes::KesModel;
use crate::model::{Mode, OpenError, StoreModel};
use crate::server::{S3Server, S3ServerConfig};

/// The keys that every stack has from its start.
pub const KEYS: [&str; 2] = ["key-a", "key-b"];

/// What stack to start.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Where it keeps everything; `None`: in memory.
    pub dir: Option<PathBuf>,
    /// Which store it plays.
    pub mode: Mode,
    /// Where S3 listens; port 0 takes a free one.
    pub s3_addr: SocketAddr,
    /// Access key of the one user.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// The region that the store names.
    pub region: String,
}

impl StackConfig {
    /// In memory, on a free port of the loopback.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            dir: None,
            mode,
            s3_addr: (Ipv4Addr::LOCALHOST, 0).into(),
            access_key: "devstack".to_owned(),
            secret_key: "devstack-secret".to_owned(),
            region: "us-east-1".to_owned(),
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
    /// The S3 server could not listen.
    #[error("S3 can't be served on {addr}")]
    Listen {
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
    config: StackConfig,
}

impl DevStack {
    /// Starts it; the keys of [`KEYS`] are there afterwards.
    ///
    /// # Errors
    /// When a folder can't be used or a port is taken.
    pub async fn start(config: StackConfig) -> Result<Self, StackError> {
        let env = Env::system();
        let (kes, model) = open(&config, env)?;
        let server = S3ServerConfig {
            addr: config.s3_addr,
            access_key: config.access_key.clone(),
            secret_key: config.secret_key.clone(),
            region: config.region.clone(),
        };
        let listen = |source| StackError::Listen { addr: config.s3_addr, source };
        let s3 = S3Server::start(model.clone(), server).await.map_err(listen)?;
        Ok(Self { kes, model, s3, config })
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

    /// The environment of a child process that shall use this stack.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("AWS_ENDPOINT_URL", self.s3.endpoint()),
            ("AWS_ACCESS_KEY_ID", self.config.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.config.secret_key.clone()),
            ("AWS_REGION", self.config.region.clone()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Takes no more requests and waits a few seconds for those under way.
    pub async fn shutdown(self) {
        self.s3.shutdown().await;
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

/// Starts a stack and serves until Ctrl-C; `started` is told of it, to print what a user must know.
///
/// # Errors
/// As [`DevStack::start`].
pub async fn serve(config: StackConfig, started: impl FnOnce(&DevStack)) -> Result<(), StackError> {
    let stack = DevStack::start(config).await?;
    started(&stack);
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "Ctrl-C can't be heard");
        std::future::pending::<()>().await;
    }
    stack.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keyrotate_store::{GetRequest, Guard, InPlace, NewObject, ObjectAt, PutRequest, Sse, Store as _};

    use super::*;
    use crate::model::BucketSettings;

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
        stack.shutdown().await;
        let stack = DevStack::start(config).await.unwrap();
        let (_, body) = stack.model().get(GetRequest::of(&at)).await.unwrap();
        assert_eq!(body.collect().await.unwrap(), "body");
    }
}
