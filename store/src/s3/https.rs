//! HTTPS with trust and a client certificate from files, which are read again for each connection. The SDK's own client
//! reads its trust once, and has no certificate to show.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpConnector as SdkConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util_client::client::legacy::Client;
use hyper_util_client::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util_client::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::connect::ConnectError;

/// PEM files.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    /// Whom to trust instead of whom the system trusts.
    pub(super) ca: Option<PathBuf>,
    /// A certificate to show, and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
}

/// A client for the SDK. A connection has to be made `within` that time.
pub(super) fn client(files: TlsFiles, within: Duration) -> Result<SharedHttpClient, ConnectError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connections = Connections { tcp, tls: Arc::new(Tls::new(files)?), within };
    let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connections);
    let requests = SharedHttpConnector::new(Requests(client));
    Ok(http_client_fn(move |_, _| requests.clone()))
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Pem {
    ca: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl TlsFiles {
    fn read(&self) -> Result<Pem, ConnectError> {
        let ca = self
            .ca
            .as_ref()
            .map(|path| std::fs::read(path).map_err(|source| ConnectError::CaBundle { path: path.clone(), source }));
        let read = |path| std::fs::read(path).map_err(|error| unreadable(path, pem::Error::Io(error)));
        let certificate = match &self.certificate {
            Some((cert, key)) => Some((read(cert)?, Zeroizing::new(read(key)?))),
            None => None,
        };
        Ok(Pem { ca: ca.transpose()?, certificate })
    }

    fn config(&self, held: &Pem) -> Result<ClientConfig, ConnectError> {
        let wrong = |error: rustls::Error| ConnectError::Tls(error.into());
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_root_certificates(self.roots(held)?);
        let mut config = match (&self.certificate, &held.certificate) {
            (Some((cert_file, key_file)), Some((cert, key))) => {
                let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>();
                let chain = chain.map_err(|error| unreadable(cert_file, error))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unreadable(key_file, error))?;
                config.with_client_auth_cert(chain, key).map_err(wrong)?
            }
            _ => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self, held: &Pem) -> Result<RootCertStore, ConnectError> {
        let mut roots = RootCertStore::empty();
        let (Some(path), Some(ca)) = (&self.ca, &held.ca) else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        for certificate in CertificateDer::pem_slice_iter(ca) {
            let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
            added.ok_or_else(|| ConnectError::NoCertificate(path.clone()))?;
        }
        if roots.is_empty() { Err(ConnectError::NoCertificate(path.clone())) } else { Ok(roots) }
    }
}

fn unreadable(path: &Path, source: pem::Error) -> ConnectError {
    ConnectError::Certificate { path: path.to_owned(), source }
}

/// The files, and what was made of them last.
struct Tls {
    files: TlsFiles,
    current: Mutex<(Pem, Arc<ClientConfig>)>,
}

impl Tls {
    fn new(files: TlsFiles) -> Result<Self, ConnectError> {
        let held = files.read()?;
        let config = files.config(&held)?;
        Ok(Self { files, current: Mutex::new((held, Arc::new(config))) })
    }

    /// What the files say now; what they said before where that can't be used.
    fn config(&self) -> Arc<ClientConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = self.files.read().and_then(|held| match held == current.0 {
            true => Ok(None),
            false => Ok(Some((Arc::new(self.files.config(&held)?), held))),
        });
        match renewed {
            Ok(Some((config, held))) => *current = (held, config),
            Ok(None) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the changed certificates for the store can't be used; those of before hold");
            }
        }
        Arc::clone(&current.1)
    }
}

/// Makes connections.
#[derive(Clone)]
struct Connections {
    tcp: HttpConnector,
    tls: Arc<Tls>,
    within: Duration,
}

impl tower::Service<Uri> for Connections {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = HttpsConnector::from((self.tcp.clone(), self.tls.config())).call(to);
        let within = self.within;
        Box::pin(async move { tokio::time::timeout(within, connecting).await? })
    }
}

/// Sends requests over connections that it keeps.
#[derive(Debug)]
struct Requests(Client<Connections, SdkBody>);

impl SdkConnector for Requests {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        // The SDK gives up a connection over which a 5xx came.
        let connection = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || {
                let connection = connection.clone();
                let give_up = move || {
                    if let Some(made) = connection.connection_metadata().as_ref() {
                        made.poison();
                    }
                };
                Some(ConnectionMetadata::builder().proxied(false).poison_fn(give_up).build())
            });
        }
        let answer = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
