//! The server around the API: HTTP/1.1, with TLS where a certificate is given, to clients that show one where that is
//! wanted. Certificates and tokens are read again when their files change.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use keyrotate_config::{Config, Given, Loaded, Tls};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Api, Site};

/// How often files are looked at that may change.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a client has to finish its handshake, or the head of its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client whose handshake was refused may take to read why.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How long a shutdown waits for requests under way; streams are cut.
const DRAIN: Duration = Duration::from_secs(3);
/// Connections at a time.
const CONNECTIONS: usize = 1000;

/// The server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Everybody could come in.
    #[error("`tokens` is empty, and `listen` is {0}: everybody who reaches this address could run jobs")]
    Open(SocketAddr),
    /// The address can't be listened on.
    #[error("can't listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The certificate can't be used.
    #[error("the certificate can't be used: {0}")]
    Certificate(String),
}

impl ServeError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Open(_) => {
                "`keyrotate token new` makes a token and prints the line for `tokens:`; or listen on 127.0.0.1"
            }
            Self::Listen(..) => "name another address as `listen`",
            Self::Certificate(_) => {
                "give a certificate and its key in PEM form as `tls.cert` and `tls.key`, and as `tls.clientCa`, where clients \
                 are to show one, the certificates that sign theirs"
            }
        }
    }
}

/// A server at work.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    tls: bool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Starts to serve as the configuration says; `given` is where it is read again when its file changes.
    ///
    /// # Errors
    /// When everybody could come in, the address is taken, or the certificate can't be used.
    pub async fn start(site: Site, config: &Config, given: Given) -> Result<Self, ServeError> {
        let listen = config.listen.0;
        if !listen.ip().is_loopback() && config.tokens.is_empty() {
            return Err(ServeError::Open(listen));
        }
        if !listen.ip().is_loopback() && config.tls.is_none() {
            tracing::warn!(%listen, "there is no `tls`: tokens pass in the clear unless a proxy before us has it");
        }
        let acceptor = config.tls.as_ref().map(acceptor).transpose()?.map(|tls| Arc::new(RwLock::new(tls)));
        let api = Api::new(site, config.tokens.clone(), listen.ip().is_loopback(), &config.limits);
        let router = api.router(usize::try_from(config.limits.body).unwrap_or(usize::MAX));
        let listener = TcpListener::bind(listen).await.map_err(|e| ServeError::Listen(listen, e))?;
        let addr = listener.local_addr().map_err(|e| ServeError::Listen(listen, e))?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let files = Files { api, given, tls: config.tls.clone(), acceptor: acceptor.clone() };
        tasks.spawn(stop.clone().run_until_cancelled_owned(files.keep_up()));
        let tls = acceptor.is_some();
        let door = Door { router, acceptor, stop: stop.clone(), tasks: tasks.clone() };
        tasks.spawn(door.serve(listener));
        Ok(Self { addr, tls, stop, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.addr)
    }

    /// Takes no more requests, and waits a moment for those under way.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::debug!("requests were under way when the server stopped");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What every connection needs.
struct Door {
    router: Router,
    acceptor: Option<Arc<RwLock<TlsAcceptor>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Door {
    async fn serve(self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (router, stop) = (self.router.clone(), self.stop.clone());
                    let acceptor =
                        self.acceptor.as_ref().map(|a| a.read().unwrap_or_else(PoisonError::into_inner).clone());
                    self.tasks.spawn(async move {
                        connection(stream, acceptor, router, stop).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY refused");
    }
    let Some(acceptor) = acceptor else { return serve_connection(stream, router, stop).await };
    match tokio::time::timeout(PATIENCE, acceptor.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => serve_connection(stream, router, stop).await,
        Ok(Err((error, stream))) => {
            tracing::debug!(%error, "no TLS with a client");
            let _late = tokio::time::timeout(LAST_WORD, hang_up(stream)).await;
        }
        Err(_) => tracing::debug!("a client did not finish its handshake"),
    }
}

/// Ends a connection after the client: closed over a request that nobody read it would be reset, and the client might
/// not see the alert that says why.
async fn hang_up(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// Talks HTTP/1.1 over a connection until either side has enough.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    stop: CancellationToken,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            // A stream of events has no end of its own.
            tokio::time::timeout(DRAIN / 2, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke");
    }
}

/// Files that may change while we serve.
struct Files {
    api: Arc<Api>,
    given: Given,
    tls: Option<Tls>,
    acceptor: Option<Arc<RwLock<TlsAcceptor>>>,
}

impl Files {
    async fn keep_up(self) {
        let config = keyrotate_config::load(&self.given).ok().and_then(|Loaded { file, .. }| file);
        let mut seen = (config.as_deref().map(stamp), self.tls.as_ref().map(stamps));
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = (config.as_deref().map(stamp), self.tls.as_ref().map(stamps));
            if now.0 != seen.0 {
                self.read_tokens();
            }
            if now.1 != seen.1 {
                self.read_certificate();
            }
            seen = now;
        }
    }

    fn read_tokens(&self) {
        match keyrotate_config::load(&self.given) {
            Ok(loaded) => {
                tracing::info!(tokens = loaded.config.tokens.len(), "tokens were read again");
                self.api.set_tokens(loaded.config.tokens);
            }
            Err(error) => tracing::warn!(%error, "the changed configuration can't be read; the tokens of before hold"),
        }
    }

    fn read_certificate(&self) {
        let (Some(tls), Some(slot)) = (&self.tls, &self.acceptor) else { return };
        match acceptor(tls) {
            Ok(fresh) => *slot.write().unwrap_or_else(PoisonError::into_inner) = fresh,
            Err(error) => tracing::warn!(%error, "the changed certificate can't be used; the one of before holds"),
        }
    }
}

/// What tells a changed file: a symbolic link to another one counts, as Kubernetes swaps its secrets.
fn stamp(path: &Path) -> Option<(std::time::SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}

type Stamp = Option<(std::time::SystemTime, u64, u64)>;

fn stamps(tls: &Tls) -> [Stamp; 3] {
    [stamp(&tls.cert), stamp(&tls.key), tls.client_ca.as_deref().and_then(stamp)]
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, ServeError> {
    let chain = certificates(&tls.cert)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|e| unusable(&tls.key, &e))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| unusable(&tls.cert, &e))?;
    let config = match &tls.client_ca {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| unusable(path, &e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            config.with_client_cert_verifier(verifier.map_err(|e| unusable(path, &e))?)
        }
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_single_cert(chain, key).map_err(|e| unusable(&tls.cert, &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|e| unusable(path, &e))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> ServeError {
    ServeError::Certificate(format!("`{}`: {error}", path.display()))
}
