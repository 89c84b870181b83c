//! RabbitMQ's management API, of which only the looking is used.

use std::fmt;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;

use super::config::RabbitConfig;

/// For one answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A way to the management API.
#[derive(Clone)]
pub struct Management {
    base: Url,
    user: String,
    password: String,
    http: Client,
}

/// It could not be asked. The text never holds the password.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ManagementError {
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Management {
    /// Reads `http://USER:PASSWORD@HOST:15672` or `https://...`; the user wants the tag `monitoring`. Authorities of
    /// `config` are trusted besides those of the system.
    ///
    /// # Errors
    /// When it is no such URL, or an authority's certificate is broken.
    pub fn parse(url: &str, config: &RabbitConfig) -> Result<Self, ManagementError> {
        let wrong = || failed("the management URL can't be read; it wants http://USER:PASSWORD@HOST:15672".to_owned());
        let mut base = Url::parse(url).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(wrong());
        }
        let (user, password) = (plain(base.username()), plain(base.password().unwrap_or_default()));
        let (Some(user), Some(password)) = (user, password) else { return Err(wrong()) };
        let encrypted = base.scheme() == "https";
        let _ = (base.set_username(""), base.set_password(None));
        Ok(Self { base, user, password, http: client(config, encrypted)? })
    }

    /// One answer; `None` where there is no such thing.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, ManagementError> {
        let sent = self.request(Method::GET, path)?.send().await;
        let answer = sent.map_err(|error| because("it can't be reached", error.without_url()))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::UNAUTHORIZED => return Err(failed("it refuses this user or password".to_owned())),
            StatusCode::FORBIDDEN => return Err(failed("the user lacks the tag `monitoring`".to_owned())),
            status => return Err(failed(format!("it answers {status}"))),
        }
        let body = answer.bytes().await.map_err(|error| because("its answer broke off", error.without_url()))?;
        serde_json::from_slice(&body).map(Some).map_err(|error| because("its answer is none that is known", error))
    }

    /// Each part of the path is encoded, above all the `/` of the usual virtual host.
    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ManagementError> {
        let mut url = self.base.clone();
        let no_base = || failed("the management URL can't be read".to_owned());
        url.path_segments_mut().map_err(|()| no_base())?.pop_if_empty().push("api").extend(path);
        Ok(self.http.request(method, url).basic_auth(&self.user, Some(&self.password)))
    }
}

/// Shows neither user nor password.
impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Management").field(&self.base.as_str()).finish()
    }
}

fn client(config: &RabbitConfig, encrypted: bool) -> Result<Client, ManagementError> {
    let http = Client::builder().tls_backend_preconfigured(tls(config, encrypted)?).timeout(LIMIT).build();
    http.map_err(|error| because("no HTTP client could be made", error))
}

fn tls(config: &RabbitConfig, encrypted: bool) -> Result<ClientConfig, ManagementError> {
    let mut roots = RootCertStore::empty();
    if encrypted {
        trust(config, &mut roots)?;
    }
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| because("no TLS", error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn trust(config: &RabbitConfig, roots: &mut RootCertStore) -> Result<(), ManagementError> {
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let ca =
        config.ca().map_err(|error| because("the authority's certificate is not there", error))?.unwrap_or_default();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let broken = |error| because("the authority's certificate is broken", error);
        roots.add(certificate.map_err(|error| failed(error.to_string()))?).map_err(broken)?;
    }
    Ok(())
}

/// A part of a URL without its percent signs.
fn plain(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

fn failed(message: String) -> ManagementError {
    ManagementError { message, source: None }
}

fn because(message: &str, source: impl std::error::Error + Send + Sync + 'static) -> ManagementError {
    ManagementError { message: message.to_owned(), source: Some(Box::new(source)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_its_user_and_never_shows_it() {
        let config = RabbitConfig::parse("amqp://broker").unwrap();
        let management = Management::parse("http://me:s%2fcr%20t@broker:15672", &config).unwrap();
        assert_eq!((management.user.as_str(), management.password.as_str()), ("me", "s/cr t"));
        assert_eq!(format!("{management:?}"), r#"Management("http://broker:15672/")"#);
        for bad in ["ftp://x:y@h", "nothing", "http://a:%zz@h"] {
            let error = Management::parse(bad, &config).unwrap_err().to_string();
            assert!(error.contains("http://USER") && !error.contains("zz"), "{error}");
        }
    }
}
