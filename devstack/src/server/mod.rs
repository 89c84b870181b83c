//! The thin HTTP face of the store model: what an S3 client can say is read, handed to the model, and its answer
//! written down as S3 does. **Not for production**, like everything here.

mod buckets;
mod call;
mod digest;
mod face;
mod faults;
mod listing;
mod multipart;
mod objects;
mod reply;
mod text;
mod wrong;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::StreamExt as _;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keyrotate_env::Env;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use self::call::Target;
use self::face::{Face, NoOperations};
pub use self::faults::{Fault, FaultRule, Faults};
use self::reply::{CutConnection, Reply};
use crate::model::StoreModel;

/// How long a shutdown waits for requests under way.
const DRAIN: Duration = Duration::from_secs(3);
/// How long a signature is good for, as everywhere.
const SIGNATURE_LIVES: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);
/// How long headers are given to leave before a cut behind them.
const FLUSH: Duration = Duration::from_millis(20);

/// Where a server listens, and who may call it.
#[derive(Clone, Debug)]
pub struct S3ServerConfig {
    /// Port 0 takes a free one.
    pub addr: SocketAddr,
    /// The one access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// The region that the server names.
    pub region: String,
}

/// An S3 server on a store model. Stops when dropped.
#[derive(Debug)]
pub struct S3Server {
    addr: SocketAddr,
    faults: Faults,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl S3Server {
    /// Starts to serve `model`.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(model: StoreModel, config: S3ServerConfig) -> std::io::Result<Self> {
        let listener = TcpListener::bind(config.addr).await?;
        let addr = listener.local_addr()?;
        let faults = Faults::default();
        let face = Face { model, region: config.region, env: Env::system() };
        let mut builder = S3ServiceBuilder::new(NoOperations);
        builder.set_auth(SimpleAuth::from_single(config.access_key, config.secret_key));
        builder.set_route(face);
        let door = Door { service: builder.build(), faults: faults.clone(), env: Env::system() };
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, door, stopped));
        Ok(Self { addr, faults, stop, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Switches for faults of the way, and counts of requests.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Takes no more requests, and waits a few seconds for those under way.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Err(broken) = (&mut self.serving).await {
            tracing::error!(%broken, "the server's task ended badly");
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Accepts connections until told to stop, then drains them.
async fn serve(listener: TcpListener, door: Door, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, door.clone(), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(FLUSH).await;
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

async fn connection(stream: TcpStream, door: Door, mut stopped: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY refused");
    }
    let service = service_fn(move |request| {
        let door = door.clone();
        async move { door.pass(request).await }
    });
    // No timer: idle connections stay open, so that no client meets one that was closed under it.
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// The way of every request: faults around the authenticated face.
#[derive(Clone)]
struct Door {
    service: S3Service,
    faults: Faults,
    env: Env,
}

/// The connection is to be cut.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
struct Cut;

impl Door {
    async fn pass(&self, request: Request<Incoming>) -> Result<Reply, Cut> {
        let target = Target::read(request.method(), request.uri(), request.headers());
        let (operation, key) = target.map_or(("Unknown", String::new()), |target| (target.operation, target.key));
        if is_stale(request.headers(), &self.env) {
            let message = "The difference between the request time and the server's time is too large.";
            return Ok(refused(403, "RequestTimeTooSkewed", message, request.uri().path()));
        }
        let (delay, fault) = self.faults.meet(operation, &key, request.uri().query().unwrap_or_default());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if fault == Some(Fault::CutBefore) {
            return Err(Cut);
        }
        if let Some(reply) = fault.and_then(|fault| wrong::instead(fault, request.uri().path())) {
            return Ok(reply);
        }
        let unread = Arc::new(AtomicBool::new(!request.body().is_end_stream()));
        let request = request.map(|body| s3s::Body::http_body(Watched { body, unread: unread.clone() }));
        let mut reply = self.service.call(request).await.map_err(|_| Cut)?;
        if fault == Some(Fault::DropReply) || reply.extensions().get::<CutConnection>().is_some() {
            return Err(Cut);
        }
        if unread.load(Ordering::Relaxed) {
            // hyper can't go on behind a body that nobody read, and a client must not find that out by itself.
            reply::set(reply.headers_mut(), "connection", "close");
        }
        if !reply.headers().contains_key("x-amz-request-id") {
            reply::set(reply.headers_mut(), "x-amz-request-id", REFUSED_ID);
        }
        Ok(match fault {
            Some(Fault::CutBody) => cut_in_body(reply),
            Some(fault) => wrong::changed(fault, reply).await,
            None => reply,
        })
    }
}

/// Whether a request was signed so long ago, or so far ahead, that no S3 takes it.
fn is_stale(headers: &http::HeaderMap, env: &Env) -> bool {
    let signed = headers.get("x-amz-date").and_then(|date| date.to_str().ok());
    let signed = signed.and_then(|date| jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok());
    let signed = signed.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok());
    signed.is_some_and(|signed| env.now().duration_since(signed.timestamp()).abs() > SIGNATURE_LIVES)
}

/// A request's body that tells whether it was read to its end.
struct Watched {
    body: Incoming,
    unread: Arc<AtomicBool>,
}

impl hyper::body::Body for Watched {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.unread.store(false, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// Request id of what never reached the store.
const REFUSED_ID: &str = "0000000000000000";

fn refused(status: u16, code: &str, message: &str, resource: &str) -> Reply {
    let mut reply = reply::error_document(status, code, message, resource, REFUSED_ID);
    reply::set(reply.headers_mut(), "x-amz-request-id", REFUSED_ID);
    // The body of the request was not read.
    reply::set(reply.headers_mut(), "connection", "close");
    reply
}

/// An answer whose body breaks off in its first chunk. Where there is none, it breaks off behind the headers, which
/// promise a byte that never comes.
fn cut_in_body(reply: Reply) -> Reply {
    let (mut parts, body) = reply.into_parts();
    if hyper::body::Body::is_end_stream(&body) {
        reply::set(&mut parts.headers, "content-length", "1");
    }
    let first = body.into_data_stream().take(1).map(|chunk| match chunk {
        Ok(bytes) => Ok(bytes.slice(..bytes.len() / 2)),
        Err(error) => Err(error),
    });
    let cut = futures::stream::once(async {
        tokio::time::sleep(FLUSH).await;
        Err(s3s::StdError::from(Cut))
    });
    let broken = http_body_util::StreamBody::new(first.chain(cut).map(|chunk| chunk.map(hyper::body::Frame::data)));
    Reply::from_parts(parts, s3s::Body::http_body_unsync(broken))
}
