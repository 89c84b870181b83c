//! How to reach RabbitMQ, and how long to wait for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};

use super::names::Names;

/// Seconds between heartbeats where the URL says nothing: a frozen peer is noticed after about three times that.
const HEARTBEAT: u16 = 10;

/// What [`super::RabbitQueue`] is made with.
#[derive(Clone)]
pub struct RabbitConfig {
    pub(super) uri: AMQPUri,
    pub(super) names: Names,
    pub(super) limits: Limits,
    ca: Option<PathBuf>,
    /// A certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

/// Waits. None is without an end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection, from the first packet to the open channel.
    pub connect: Duration,
    /// For any answer of the broker: a confirm, above all.
    pub answer: Duration,
    /// Between proofs of life while no ticket comes.
    pub probe_every: Duration,
    /// Longest pause between tries to connect. Each is a random part of it, and the first ones are shorter.
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(10), answer: seconds(10), probe_every: seconds(30), longest_pause: seconds(5) }
    }
}

/// The configuration can't be used; the text says which part and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RabbitConfigError {
    message: String,
    #[source]
    source: Option<std::io::Error>,
}

impl RabbitConfig {
    /// Reads `amqp://user:password@host:port/vhost` or `amqps://...`. A virtual host of `/` is written `%2f`; none means
    /// it, too. `?heartbeat=SECONDS` and `?auth_mechanism=external` are understood.
    ///
    /// # Errors
    /// When it is no such URL. The text does not repeat it: it may hold a password.
    pub fn parse(url: &str) -> Result<Self, RabbitConfigError> {
        let mut uri: AMQPUri = url.parse().map_err(|error| {
            refused(format!("the RabbitMQ URL can't be read ({error}); it wants amqp://USER:PASSWORD@HOST:PORT/VHOST"))
        })?;
        if let Some(address) = bracketed(url) {
            // The parser takes an IPv6 address for no host at all, and no host for this machine.
            address.clone_into(&mut uri.authority.host);
        }
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat = uri.query.heartbeat.filter(|&seconds| seconds > 0).or(Some(HEARTBEAT));
        let (names, limits) = (Names::default(), Limits::default());
        Ok(Self { uri, names, limits, ca: None, identity: None })
    }

    /// Takes this password instead of the URL's.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        password.clone_into(&mut self.uri.authority.userinfo.password);
        self
    }

    /// Puts `prefix` before the names of all queues and exchanges, so that several installations share a virtual host.
    ///
    /// # Errors
    /// When it holds anything but letters, digits, `-`, `_` and `.`, or more than 64 of them.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, RabbitConfigError> {
        self.names = Names::with_prefix(prefix).ok_or_else(|| {
            refused(format!("the queue prefix `{prefix}` wants at most 64 letters, digits, `-`, `_` and `.`"))
        })?;
        Ok(self)
    }

    /// Waits other than the usual ones.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Trusts the authorities of this PEM file besides those of the system. It is read again for each connection.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn with_ca(self, file: &Path) -> Result<Self, RabbitConfigError> {
        let config = Self { ca: Some(file.to_owned()), ..self };
        config.ca().map(|_| config.clone())
    }

    /// Shows a client certificate: PEM files, the key in PKCS#8. They are read again for each connection.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn with_certificate(self, certificate: &Path, key: &Path) -> Result<Self, RabbitConfigError> {
        let config = Self { identity: Some((certificate.to_owned(), key.to_owned())), ..self };
        config.tls().map(|_| config.clone())
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    /// Where it leads, without user and password.
    #[must_use]
    pub fn place(&self) -> String {
        let (authority, scheme) = (&self.uri.authority, &self.uri.scheme);
        let host = if authority.host.contains(':') { format!("[{}]", authority.host) } else { authority.host.clone() };
        format!("{scheme}://{host}:{}, virtual host `{}`", authority.port, self.uri.vhost)
    }

    /// What the files say now.
    pub(super) fn tls(&self) -> Result<OwnedTLSConfig, RabbitConfigError> {
        let identity = match &self.identity {
            Some((certificate, key)) => Some(OwnedIdentity::PKCS8 { pem: read(certificate)?, key: read(key)? }),
            None => None,
        };
        Ok(OwnedTLSConfig { identity, cert_chain: self.ca()? })
    }

    /// The authorities that are trusted besides those of the system.
    pub(super) fn ca(&self) -> Result<Option<String>, RabbitConfigError> {
        let text = |file: &PathBuf| std::fs::read_to_string(file).map_err(|error| unreadable(file, error));
        self.ca.as_ref().map(text).transpose()
    }
}

/// Shows neither user nor password nor keys.
impl fmt::Debug for RabbitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitConfig").field("place", &self.place()).field("names", &self.names).finish_non_exhaustive()
    }
}

/// The address in `amqp://user@[::1]:5672/`.
fn bracketed(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(host.strip_prefix('[')?.split_once(']')?.0)
}

fn refused(message: String) -> RabbitConfigError {
    RabbitConfigError { message, source: None }
}

fn read(file: &Path) -> Result<Vec<u8>, RabbitConfigError> {
    std::fs::read(file).map_err(|error| unreadable(file, error))
}

fn unreadable(file: &Path, error: std::io::Error) -> RabbitConfigError {
    let file: PathBuf = file.to_owned();
    RabbitConfigError { message: format!("`{}` can't be read", file.display()), source: Some(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_its_secrets_are_never_shown() {
        let config = RabbitConfig::parse("amqp://me:s3cret@broker:5673/jobs").unwrap();
        assert_eq!(config.place(), "amqp://broker:5673, virtual host `jobs`");
        let shown = format!("{config:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("me:"), "{shown}");
        assert_eq!(config.clone().with_password("other").uri.authority.userinfo.password, "other");
        assert!(!config.is_encrypted());
        assert!(RabbitConfig::parse("amqps://broker").unwrap().is_encrypted());
    }

    #[test]
    fn no_virtual_host_is_the_usual_one() {
        for url in ["amqp://broker", "amqp://broker/", "amqp://broker/%2f"] {
            assert_eq!(RabbitConfig::parse(url).unwrap().uri.vhost, "/", "{url}");
        }
    }

    #[test]
    fn an_ipv6_address_is_not_taken_for_this_machine() {
        let config = RabbitConfig::parse("amqp://u:p@[2001:db8::7]:5672/%2f").unwrap();
        assert_eq!(config.uri.authority.host, "2001:db8::7");
        assert_eq!(config.place(), "amqp://[2001:db8::7]:5672, virtual host `/`");
    }

    #[test]
    fn heartbeats_are_never_off() {
        let heartbeat = |url| RabbitConfig::parse(url).unwrap().uri.query.heartbeat;
        assert_eq!(heartbeat("amqp://broker"), Some(10));
        assert_eq!(heartbeat("amqp://broker?heartbeat=0"), Some(10));
        assert_eq!(heartbeat("amqp://broker?heartbeat=2"), Some(2));
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        let error = RabbitConfig::parse("http://u:s3cret@broker").unwrap_err().to_string();
        assert!(error.contains("amqp://USER") && !error.contains("s3cret"), "{error}");
        assert!(RabbitConfig::parse("amqp://broker").unwrap().with_prefix("a b").is_err());
    }
}
