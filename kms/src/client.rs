//! The KES client: one call over several endpoints, with tries, a deadline and a breaker.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyrotate_env::Env;
use keyrotate_envelope::secret::Plaintext;
use keyrotate_telemetry::{Instrument as _, metrics, spans};
use reqwest::Method;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::answer::{self, Answer};
use crate::breaker::Breaker;
use crate::config::{ConfigError, KesConfig};
use crate::tls::{self, Files};
use crate::transport::{self, Clients, Trouble};
use crate::{Kms, KmsError, KmsErrorKind, Result, SealedKey, Status};

/// Pages of a listing that are followed: more than anybody has keys.
const MOST_PAGES: usize = 64;

/// A client of KES. Clones share connections, breaker and benches.
#[derive(Clone)]
pub struct KesClient {
    inner: Arc<Inner>,
}

struct Inner {
    config: KesConfig,
    env: Env,
    endpoints: Vec<Endpoint>,
    /// Where the next call begins: the endpoint that answered last.
    current: AtomicUsize,
    session: Mutex<Session>,
    breaker: Breaker,
}

struct Endpoint {
    url: String,
    loopback: bool,
    /// Until when it is passed over, because it failed.
    benched: Mutex<Duration>,
}

/// Connections under one identity, and the files it was made of.
struct Session {
    http: Clients,
    identity: String,
    files: Files,
    looked: Duration,
}

struct Request<'a> {
    operation: &'static str,
    key: &'a str,
    method: Method,
    path: String,
    body: Zeroizing<Vec<u8>>,
}

impl KesClient {
    /// Reads keys and certificates. No connection is made yet.
    ///
    /// # Errors
    /// A file is missing or wrong; the error names the variable and says what to do.
    pub fn new(config: KesConfig, env: Env) -> std::result::Result<Self, ConfigError> {
        let session = Session::open(&config, Files::read(&config)?, &env)?;
        let endpoint = |url: &String| {
            let loopback = transport::is_loopback(url);
            Endpoint { url: url.clone(), loopback, benched: Mutex::default() }
        };
        let endpoints: Vec<_> = config.endpoints.iter().map(endpoint).collect();
        // Each process begins elsewhere, so that a fleet spreads over the endpoints.
        let start = usize::try_from(env.random_u64() % endpoints.len().max(1) as u64).unwrap_or(0);
        let breaker = Breaker::new(config.limits.breaker_failures, config.limits.breaker_open);
        let (current, session) = (AtomicUsize::new(start), Mutex::new(session));
        Ok(Self { inner: Arc::new(Inner { config, env, endpoints, current, session, breaker }) })
    }

    /// What KES's policies name us by: lower-case hex SHA-256 of our public key.
    #[must_use]
    pub fn identity(&self) -> String {
        self.inner.session().identity.clone()
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &KesConfig {
        &self.inner.config
    }
}

impl Inner {
    /// One call with all its tries: the answer of a 200.
    async fn call(&self, request: Request<'_>) -> Result<Answer> {
        let Some(permit) = self.breaker.admit(self.env.boottime()) else {
            let seconds = self.config.limits.breaker_open.as_secs();
            let message = format!("not sent: KES failed too often in a row; one call is let through every {seconds} s");
            return Err(request.error(KmsErrorKind::BreakerOpen, message));
        };
        let span = spans::kes_call(request.operation);
        let tries = self.tries(&request).instrument(span.clone());
        let result = tokio::time::timeout(self.config.limits.deadline, tries).await;
        let result = result.unwrap_or_else(|_| {
            let seconds = self.config.limits.deadline.as_secs();
            Err(request.error(KmsErrorKind::Timeout, format!("no answer within {seconds} s")))
        });
        if let Err(error) = &result {
            spans::failed(&span, error.kind.word());
        }
        match &result {
            Err(error) if error.kind.is_transient() => permit.failed(self.env.boottime()),
            _ => permit.answered(),
        }
        result
    }

    async fn tries(&self, request: &Request<'_>) -> Result<Answer> {
        let mut tries = 0;
        loop {
            let index = self.choose();
            let error = match self.measured(index, request).await {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            tries += 1;
            if !self.worth_another(&error, index) {
                return Err(request.doubt(error, tries));
            }
            self.bench(index);
            if tries >= self.config.limits.tries {
                return Err(error);
            }
            metrics().retries.with(&["kes"]).inc();
            tracing::debug!(endpoint = self.endpoints[index].url, %error, "KES did not answer, trying again");
            if self.is_benched(self.choose()) {
                tokio::time::sleep(self.delay(tries)).await;
            }
        }
    }

    /// One try, told in the metrics.
    async fn measured(&self, index: usize, request: &Request<'_>) -> Result<Answer> {
        let began = Instant::now();
        let ended = self.attempt(index, request).await;
        let result = if ended.is_ok() { "ok" } else { "error" };
        metrics().kes_call.with(&[request.operation, result]).observe(began.elapsed().as_secs_f64());
        let kind = ended.as_ref().err().map(|error| error.kind);
        if let Some(kind) = kind {
            metrics().kes_errors.with(&[kind.word()]).inc();
        }
        let away = matches!(kind, Some(KmsErrorKind::Unreachable | KmsErrorKind::Untrusted | KmsErrorKind::Timeout));
        metrics().connected.with(&["kes"]).set(i64::from(!away));
        ended
    }

    async fn attempt(&self, index: usize, request: &Request<'_>) -> Result<Answer> {
        let (http, identity) = self.http();
        let url = format!("{}{}", self.endpoints[index].url, request.path);
        let sent =
            transport::send(http.to(self.endpoints[index].loopback), request.method.clone(), &url, &request.body);
        let answer = match tokio::time::timeout(self.config.limits.attempt, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Trouble { kind, message, source })) => {
                let message = format!("{message} ({})", self.endpoints[index].url);
                return Err(KmsError { source, ..request.error(kind, message) });
            }
            Err(_) => {
                let message = format!("no answer from {} in time", self.endpoints[index].url);
                return Err(request.error(KmsErrorKind::Timeout, message));
            }
        };
        if answer.status == 200 {
            return Ok(answer);
        }
        let (kind, mut message) = answer::refusal(&answer);
        if kind == KmsErrorKind::NotAllowed {
            message = format!("{message} for identity {identity}");
        }
        Err(KmsError { status: Some(answer.status), ..request.error(kind, message) })
    }

    /// What may go well at once: connection trouble and 503 at any endpoint, other troubles of a server at another one.
    fn worth_another(&self, error: &KmsError, failed: usize) -> bool {
        match error.kind {
            KmsErrorKind::Unreachable | KmsErrorKind::Timeout => true,
            KmsErrorKind::Server => self.endpoints.len() > 1 || error.status == Some(503),
            // Of this endpoint alone, perhaps: its certificate ran out, it trusts others than us, it is no KES.
            KmsErrorKind::Untrusted
            | KmsErrorKind::NoCertificate
            | KmsErrorKind::NotImplemented
            | KmsErrorKind::Nonsense => (0..self.endpoints.len()).any(|i| i != failed && !self.is_benched(i)),
            _ => false,
        }
    }

    /// The current endpoint or the next that is not benched; if all are, the one that is free first.
    fn choose(&self) -> usize {
        let start = self.current.load(Ordering::Relaxed);
        let order = (0..self.endpoints.len()).map(|step| (start + step) % self.endpoints.len());
        let now = self.env.boottime();
        order.min_by_key(|index| self.endpoints[*index].until().max(now)).unwrap_or(0)
    }

    fn is_benched(&self, index: usize) -> bool {
        self.endpoints[index].until() > self.env.boottime()
    }

    fn bench(&self, index: usize) {
        let until = self.env.boottime() + self.config.limits.bench;
        *self.endpoints[index].benched.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn delay(&self, tries: u32) -> Duration {
        let base = self.config.limits.delay.saturating_mul(1 << tries.saturating_sub(1).min(4));
        base + base.mul_f64(self.env.random_fraction())
    }

    /// The connections to use, made anew when a file changed.
    fn http(&self) -> (Clients, String) {
        let mut session = self.session();
        let now = self.env.boottime();
        if now.saturating_sub(session.looked) >= self.config.limits.reload {
            session.looked = now;
            if let Err(error) = session.reload(&self.config, &self.env) {
                tracing::warn!(%error, "keys and certificates of KES can't be read again, going on with those from before");
            }
        }
        (session.http.clone(), session.identity.clone())
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    fn until(&self) -> Duration {
        *self.benched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn open(config: &KesConfig, files: Files, env: &Env) -> std::result::Result<Self, ConfigError> {
        let tls = tls::build(config, &files, env)?;
        let http = Clients::new(&tls.config, config.limits.connect).map_err(|e| ConfigError::ca(e.to_string()))?;
        Ok(Self { http, identity: tls.identity, files, looked: env.boottime() })
    }

    fn reload(&mut self, config: &KesConfig, env: &Env) -> std::result::Result<(), ConfigError> {
        let files = Files::read(config)?;
        if files != self.files {
            *self = Self::open(config, files, env)?;
            tracing::info!(identity = self.identity, "keys and certificates of KES were read again");
        }
        Ok(())
    }
}

impl Request<'_> {
    fn error(&self, kind: KmsErrorKind, message: impl Into<String>) -> KmsError {
        KmsError::new(self.operation, self.key, kind, message)
    }

    /// A create whose first answer was lost finds its own key.
    fn doubt(&self, mut error: KmsError, tries: u32) -> KmsError {
        if tries > 1 && error.kind == KmsErrorKind::KeyExists {
            error.message.push_str(" (perhaps made by an earlier try of this call, whose answer was lost)");
        }
        error
    }
}

fn path(operation: &str, key: &str) -> String {
    let mut escaped = String::new();
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.~*".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("/v1/key/{operation}/{escaped}")
}

fn body(fields: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(b"{".to_vec());
    let length = fields.iter().map(|(name, value)| name.len() + value.len().div_ceil(3) * 4 + 6).sum::<usize>() + 1;
    // Grown, it would leave parts of a secret behind.
    body.reserve_exact(length);
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        let comma = if body.len() > 1 { "," } else { "" };
        body.extend(format!("{comma}\"{name}\":\"").bytes());
        body.extend(Zeroizing::new(STANDARD.encode(value)).bytes());
        body.push(b'"');
    }
    body.push(b'}');
    body
}

#[async_trait]
impl Kms for KesClient {
    async fn create_key(&self, key: &str) -> Result<()> {
        let request = Request::put("create", key, Zeroizing::default());
        self.inner.call(request).await.map(drop)
    }

    async fn generate(&self, key: &str, context: &[u8]) -> Result<SealedKey> {
        let answer = self.inner.call(Request::put("generate", key, body(&[("context", context)]))).await?;
        answer::sealed_key(&answer.body).ok_or_else(|| nonsense("generate", key))
    }

    async fn encrypt(&self, key: &str, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        let fields = body(&[("plaintext", plaintext), ("context", context)]);
        let answer = self.inner.call(Request::put("encrypt", key, fields)).await?;
        answer::ciphertext(&answer.body).ok_or_else(|| nonsense("encrypt", key))
    }

    async fn decrypt(&self, key: &str, ciphertext: &[u8], context: &[u8]) -> Result<Plaintext> {
        let fields = body(&[("ciphertext", ciphertext), ("context", context)]);
        let answer = self.inner.call(Request::put("decrypt", key, fields)).await?;
        answer::plaintext(&answer.body).ok_or_else(|| nonsense("decrypt", key))
    }

    async fn list_keys(&self, prefix: &str) -> Result<Vec<String>> {
        // KES refuses a prefix that ends in `-`, and takes a page's end for the next prefix.
        let mut next = prefix.trim_end_matches('-').to_owned();
        let mut names = Vec::new();
        for _ in 0..MOST_PAGES {
            let answer = self.inner.call(Request::get("list", path("list", &next))).await?;
            let page = answer::page(&answer.body).ok_or_else(|| nonsense("list", ""))?;
            names.extend(page.names.into_iter().filter(|name| name.starts_with(prefix)));
            if page.continue_at.is_empty() || page.continue_at == next {
                break;
            }
            next = page.continue_at;
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn status(&self) -> Result<Status> {
        let answer = self.inner.call(Request::get("status", "/v1/status".to_owned())).await?;
        answer::status(&answer.body).ok_or_else(|| nonsense("status", ""))
    }
}

impl<'a> Request<'a> {
    fn put(operation: &'static str, key: &'a str, body: Zeroizing<Vec<u8>>) -> Self {
        Self { operation, key, method: Method::PUT, path: path(operation, key), body }
    }

    fn get(operation: &'static str, path: String) -> Self {
        Self { operation, key: "", method: Method::GET, path, body: Zeroizing::default() }
    }
}

fn nonsense(operation: &'static str, key: &str) -> KmsError {
    KmsError::new(operation, key, KmsErrorKind::Nonsense, "the answer is not one that KES gives")
}

impl fmt::Debug for KesClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KesClient").field("endpoints", &self.inner.config.endpoints).finish_non_exhaustive()
    }
}
