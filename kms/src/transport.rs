//! One request over the wire, and what its failure means.

use std::error::Error;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method};
use rustls::{AlertDescription, ClientConfig};
use zeroize::Zeroizing;

use crate::KmsErrorKind;
use crate::answer::Answer;

/// Longest answer that is read. KES's own client reads as much.
const MOST_BYTES: usize = 1 << 20;
/// KES closes an idle connection after 90 s; ours go before.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_CONNECTIONS: usize = 64;

/// No whole answer came.
pub(crate) struct Trouble {
    pub(crate) kind: KmsErrorKind,
    pub(crate) message: String,
    pub(crate) source: Option<Box<dyn Error + Send + Sync>>,
}

/// The ways to a KES, under one identity.
#[derive(Clone)]
pub(crate) struct Clients {
    /// By the proxy of `HTTPS_PROXY` where there is one, as KES's own client goes.
    usual: Client,
    /// To this machine, which no proxy reaches.
    direct: Client,
}

impl Clients {
    pub(crate) fn new(tls: &ClientConfig, connect: Duration) -> reqwest::Result<Self> {
        let usual = builder(tls.clone(), connect).build()?;
        Ok(Self { usual, direct: builder(tls.clone(), connect).no_proxy().build()? })
    }

    pub(crate) fn to(&self, loopback: bool) -> &Client {
        if loopback { &self.direct } else { &self.usual }
    }
}

/// Whether an endpoint is on this machine.
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    let url = reqwest::Url::parse(endpoint).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// HTTP/1.1 with kept connections: faster with KES than one shared HTTP/2 connection.
fn builder(tls: ClientConfig, connect: Duration) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .http1_only()
        .connect_timeout(connect)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .tcp_nodelay(true)
        .user_agent(concat!("keyrotate/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::custom(|attempt| {
            let same = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
            if same && attempt.previous().len() <= 3 { attempt.follow() } else { attempt.stop() }
        }))
}

/// Sends the whole body and reads the whole answer.
pub(crate) async fn send(http: &Client, method: Method, url: &str, body: &[u8]) -> Result<Answer, Trouble> {
    let mut request = http.request(method.clone(), url);
    if method != Method::GET {
        request = request.header("content-type", "application/json").body(body.to_vec());
    }
    let mut response = request.send().await.map_err(trouble)?;
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let json = ["application/json", "application/x-ndjson"].iter().any(|kind| content_type.starts_with(kind));
    let status = response.status().as_u16();
    let mut whole = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(chunk) = response.chunk().await.map_err(trouble)? {
        if whole.len() + chunk.len() > MOST_BYTES {
            let message = "the answer is longer than any of KES's".to_owned();
            return Err(Trouble { kind: KmsErrorKind::Nonsense, message, source: None });
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(Answer { status, json, body: whole })
}

fn trouble(error: reqwest::Error) -> Trouble {
    let (kind, message) = match tls_error(&error) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            (KmsErrorKind::Untrusted, "the server's certificate is not trusted")
        }
        _ if refuses_our_certificate(&error) => {
            (KmsErrorKind::NoCertificate, "the server does not take our client certificate")
        }
        _ if error.is_timeout() => (KmsErrorKind::Timeout, "no answer in time"),
        _ if error.is_connect() => (KmsErrorKind::Unreachable, "no connection"),
        // An answer that ends too early, or that is not HTTP at all.
        _ => (KmsErrorKind::Unreachable, "the connection broke"),
    };
    // The URL is told by the caller; here it would be told twice.
    Trouble { kind, message: message.to_owned(), source: Some(Box::new(error.without_url())) }
}

/// Whether a request failed over the alert of a server that got no client certificate (116 in TLS 1.3, 40 in 1.2) or one
/// that it does not take. With TLS 1.3 the alert comes after the handshake, when the request was sent.
#[must_use]
pub fn refuses_our_certificate(error: &(dyn Error + 'static)) -> bool {
    use AlertDescription as A;
    let Some(rustls::Error::AlertReceived(alert)) = tls_error(error) else { return false };
    matches!(
        alert,
        A::CertificateRequired
            | A::NoCertificate
            | A::HandshakeFailure
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateUnknown
            | A::CertificateExpired
            | A::CertificateRevoked
            | A::UnknownCA
            | A::AccessDenied
    )
}

/// What rustls said, wherever in the chain. `io::Error` hides what it wraps from `source`.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (endpoint, expected) in [
            ("https://127.0.0.1:7373", true),
            ("https://127.8.9.1", true),
            ("https://[::1]:7373", true),
            ("https://localhost:7373", true),
            ("https://localhost.example.net", false),
            ("https://10.0.0.1:7373", false),
        ] {
            assert_eq!(is_loopback(endpoint), expected, "{endpoint}");
        }
    }
}
