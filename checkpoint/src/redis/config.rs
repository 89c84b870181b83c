//! Where the server is, and how to log in.

use std::fmt;
use std::path::{Path, PathBuf};

use ::redis::sentinel::SentinelClientBuilder;
use ::redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates, TlsMode};

use super::link::{PRIMARY, Server};
use crate::backend::{BackendError, Cause};

/// The port of a sentinel that is given without one.
const SENTINEL_PORT: u16 = 26379;

/// Where the checkpoint's Redis (or Valkey) is. `Debug` shows no secret.
#[derive(Clone, Default)]
pub struct RedisConfig {
    /// `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`, with TLS `rediss://…`, by a socket `redis+unix:///PATH`; where
    /// sentinels know the primary, `redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],…/SERVICE[/DB]`, with TLS
    /// `rediss+sentinel://…`.
    pub url: String,
    /// The password, where it does not stand in the URL.
    pub password: Option<String>,
    /// Password for the sentinels.
    pub sentinel_password: Option<String>,
    /// PEM file of the certificates to trust instead of the system's. It is read again for each connection.
    pub ca_bundle: Option<PathBuf>,
    /// PEM files of a client certificate and its key, likewise.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// What every name in Redis begins with, without the colon behind it: several installations may share a server.
    pub prefix: String,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").field("url", &self.shown()).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// The URL without a password, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, rest)), Some((_, place))) => {
                let user = rest.split(['@', ':']).next().unwrap_or_default();
                format!("{scheme}://{user}@{place}")
            }
            _ => self.url.clone(),
        }
    }

    pub(super) fn server(&self) -> Result<Server, BackendError> {
        let wrong = |cause: Cause| BackendError::Damaged(cause);
        match self.url.split_once("+sentinel://") {
            Some((scheme, rest)) => self.sentinels(scheme, rest).map_err(wrong),
            None => self.fixed().map_err(wrong),
        }
    }

    fn fixed(&self) -> Result<Server, Cause> {
        let mut info: ConnectionInfo = self.url.as_str().into_connection_info()?;
        // Redis 7.0 does not know the command that would tell it the library's name, and no ACL could allow it there.
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        info = info.set_redis_settings(settings);
        let client = match self.certificates()? {
            Some(certificates) => Client::build_with_tls(info, certificates)?,
            None => Client::open(info)?,
        };
        Ok(Server::Fixed(client))
    }

    fn sentinels(&self, scheme: &str, rest: &str) -> Result<Server, Cause> {
        let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let mut path = place.split('/');
        let hosts = path.next().unwrap_or_default().split(',').filter(|host| !host.is_empty());
        let tls = scheme == "rediss";
        let mut addresses = Vec::new();
        for host in hosts {
            let (host, port) = match host.rsplit_once(':') {
                Some((host, port)) => (host, port.parse()?),
                None => (host, SENTINEL_PORT),
            };
            addresses.push(ConnectionAddr::Tcp(host.to_owned(), port));
        }
        let service = path.next().filter(|service| !service.is_empty()).ok_or("the URL names no service: /SERVICE")?;
        if addresses.is_empty() {
            return Err("the URL names no sentinel".into());
        }
        let mut builder = SentinelClientBuilder::new(addresses, service, PRIMARY)?;
        if let Some(db) = path.next().filter(|db| !db.is_empty()) {
            builder = builder.set_client_to_redis_db(db.parse()?);
        }
        let (user, password) = login.map_or((None, None), |login| match login.split_once(':') {
            Some((user, password)) => (Some(user), Some(password)),
            None => (Some(login), None),
        });
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = self.password.as_deref().or(password) {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(password) = &self.sentinel_password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            builder = builder.set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = self.certificates()? {
            builder = builder.set_client_to_redis_certificates(certificates.clone());
            builder = builder.set_client_to_sentinel_certificates(certificates);
        }
        Ok(Server::Sentinels(builder.build()?))
    }

    /// What the files say now; `None` where there are none.
    fn certificates(&self) -> Result<Option<TlsCertificates>, Cause> {
        let root_cert = self.ca_bundle.as_deref().map(read).transpose()?;
        let client_tls = match &self.certificate {
            Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
            None => None,
        };
        let is_given = root_cert.is_some() || client_tls.is_some();
        Ok(is_given.then_some(TlsCertificates { client_tls, root_cert }))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Cause> {
    std::fs::read(file).map_err(|error| format!("`{}` can't be read: {error}", file.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> RedisConfig {
        RedisConfig { url: url.into(), ..RedisConfig::default() }
    }

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("redis://h/1", "redis://h/1"),
            ("redis://me:secret@h:6380", "redis://me@h:6380"),
            ("rediss://:secret@h", "rediss://@h"),
            ("redis+sentinel://me:secret@a,b/main", "redis+sentinel://me@a,b/main"),
        ] {
            assert_eq!(config(url).shown(), shown);
            assert!(!format!("{:?}", config(url)).contains("secret"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["", "http://h", "redis+sentinel:///main", "redis+sentinel://a:x/main", "redis+sentinel://a"] {
            assert!(config(url).server().is_err(), "`{url}` was taken");
        }
        for url in ["redis://h", "rediss://u:p@h:1/2", "redis+unix:///run/r.sock", "redis+sentinel://a:1,b/main/2"] {
            assert!(config(url).server().is_ok(), "`{url}` was refused");
        }
    }
}
