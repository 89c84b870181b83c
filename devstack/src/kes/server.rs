//! KES over HTTPS: a [`KesModel`] as a real KES shows it on the wire. **Not for production**, like everything here.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use keyrotate_env::Env;
use keyrotate_kms::identity_of_api_key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::api::Api;
use super::model::{Failure, KesModel};
use super::policy::Grant;
use super::tls::{self, ServerCert};

/// How long a shutdown waits for requests under way.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a client has to finish its handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long an idle connection is kept, as a real KES keeps it.
const IDLE: Duration = Duration::from_secs(90);
/// How long a refused client has to read why.
const LINGER: Duration = Duration::from_secs(1);

/// Where a KES listens, and who may do what.
#[derive(Debug)]
pub struct KesServerConfig {
    /// Port 0 takes a free one.
    pub addr: SocketAddr,
    /// Policies and whom they are given to. An identity belongs to one at most; the first counts.
    pub grants: Vec<Grant>,
    /// The identity that may do everything.
    pub admin: Option<String>,
    /// What the server shows.
    pub cert: ServerCert,
}

/// A KES on a model. Stops when dropped.
#[derive(Debug)]
pub struct KesServer {
    addr: SocketAddr,
    ca_pem: String,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl KesServer {
    /// Starts to serve `model`, with its failures.
    ///
    /// # Errors
    /// When the address can't be listened on, or the certificate can't be used.
    pub async fn start(model: KesModel, config: KesServerConfig) -> io::Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(tls::server_config(&config.cert)?));
        let listener = TcpListener::bind(config.addr).await?;
        let addr = listener.local_addr()?;
        let started = model.env().now();
        let api = Api { model, admin: config.admin, grants: config.grants, started };
        let (stop, stopped) = watch::channel(false);
        let door = Door { acceptor, api: Arc::new(api), stopped };
        Ok(Self { addr, ca_pem: config.cert.cert, stop, serving: tokio::spawn(serve(listener, door)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.addr)
    }

    /// What a client has to trust, in PEM form.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Takes no more requests, and waits a moment for those under way.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Err(broken) = (&mut self.serving).await {
            tracing::error!(%broken, "the task of the KES ended badly");
        }
    }
}

impl Drop for KesServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An API key and whom it makes of its holder.
pub struct ApiKey {
    /// `kes:v1:…`
    pub text: Zeroizing<String>,
    /// What policies name its holder by.
    pub identity: String,
}

impl ApiKey {
    /// A fresh one.
    #[must_use]
    pub fn generate(env: &Env) -> Self {
        let mut bytes = Zeroizing::new([0; 33]);
        env.fill(&mut bytes[1..]);
        let text = Zeroizing::new(format!("kes:v1:{}", STANDARD.encode(*bytes)));
        // Every seed makes a key, so only a broken library could refuse it.
        let identity = identity_of_api_key(&text).unwrap_or_default();
        Self { text, identity }
    }

    /// One that somebody has.
    ///
    /// # Errors
    /// It is no API key.
    pub fn parse(text: Zeroizing<String>) -> io::Result<Self> {
        let wrong = |e| io::Error::new(io::ErrorKind::InvalidInput, e);
        let identity = identity_of_api_key(&text).map_err(wrong)?;
        Ok(Self { text, identity })
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    acceptor: TlsAcceptor,
    api: Arc<Api>,
    stopped: watch::Receiver<bool>,
}

/// Accepts connections until told to stop, then drains them.
async fn serve(listener: TcpListener, door: Door) {
    let mut connections = JoinSet::new();
    let mut stopped = door.stopped.clone();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if door.api.model.failure() == Failure::Refuse => drop(stream),
                Ok((stream, _)) => {
                    connections.spawn(door.clone().connection(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        connections.shutdown().await;
    }
}

impl Door {
    async fn connection(mut self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY refused");
        }
        let accepting = self.acceptor.accept(stream).into_fallible();
        match tokio::time::timeout(HANDSHAKE, accepting).await {
            Ok(Ok(stream)) => self.talk(stream).await,
            Ok(Err((error, stream))) => {
                tracing::debug!(%error, "no TLS with a client");
                linger(stream).await;
            }
            Err(_) => tracing::debug!("a client did not finish its handshake"),
        }
    }

    async fn talk(&mut self, stream: TlsStream<TcpStream>) {
        let caller = tls::caller(stream.get_ref().1.peer_certificates());
        let api = Arc::clone(&self.api);
        let service = service_fn(move |request| {
            let (api, caller) = (Arc::clone(&api), caller.clone());
            async move { api.answer(&caller, request).await }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
        builder.http2().timer(TokioTimer::new());
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            _ = self.stopped.changed() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "a connection broke");
        }
    }
}

/// Leaves a refused client time to read the alert: a connection closed over bytes that nobody read is reset, and a reset
/// would eat it.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut sink = [0; 1024];
        while stream.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, drain).await {
        tracing::debug!(%error, "a refused client went away");
    }
}
