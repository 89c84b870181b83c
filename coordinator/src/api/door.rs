//! Who may come in: tokens with roles and scopes, and how often each may ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_config::token::{self, Role, TokenEntry};
use keyrotate_env::Env;
use keyrotate_telemetry::{Instrument as _, spans};
use tokio::time::Instant;

use super::problem::{Kind, Problem};

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Shown as the USER of his jobs.
    pub(crate) name: String,
    role: Role,
    /// `None`: nobody needs a token here.
    token: Option<TokenEntry>,
}

impl Caller {
    /// Whether a token said who he is.
    pub(crate) fn is_known(&self) -> bool {
        self.token.is_some()
    }

    /// Whether he may know of a job.
    pub(crate) fn sees(&self, job: &JobRecord) -> bool {
        self.reaches(&job.spec.bucket, &job.spec.prefix)
    }

    /// Whether he may work on these keys.
    pub(crate) fn reaches(&self, bucket: &str, prefix: &str) -> bool {
        self.token.as_ref().is_none_or(|token| token.reaches(bucket, prefix))
    }
}

/// The tokens, and how often each may ask.
#[derive(Debug)]
pub(crate) struct Door {
    tokens: RwLock<Arc<Vec<TokenEntry>>>,
    /// Without a token in the configuration everybody may come in: only a loopback address gets that far.
    open: bool,
    rate: f64,
    buckets: Mutex<HashMap<String, (f64, Instant)>>,
    env: Env,
}

impl Door {
    /// `open`: whether nobody needs a token as long as there is none.
    pub(crate) fn new(tokens: Vec<TokenEntry>, open: bool, rate: u32, env: Env) -> Self {
        let (tokens, rate) = (RwLock::new(Arc::new(tokens)), f64::from(rate.max(1)));
        Self { tokens, open, rate, buckets: Mutex::default(), env }
    }

    /// Other tokens from now on.
    pub(crate) fn set_tokens(&self, tokens: Vec<TokenEntry>) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    fn tokens(&self) -> Arc<Vec<TokenEntry>> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let tokens = self.tokens();
        if tokens.is_empty() && self.open {
            from_this_machine(headers)?;
            return Ok(Caller { name: "local".into(), role: Role::Admin, token: None });
        }
        let mend = "send `Authorization: Bearer TOKEN`; `keyrotate token new` makes one";
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown =
            shown.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, shown)) = shown else {
            return Err(Problem::new(Kind::NoToken, "the request shows no token", mend));
        };
        let found = token::find(&tokens, shown.trim(), self.env.now());
        let found =
            found.ok_or_else(|| Problem::new(Kind::NoToken, "the token is not known here, or has expired", mend))?;
        Ok(Caller { name: found.name.as_str().to_owned(), role: found.role, token: Some(found.clone()) })
    }

    /// A request more of that caller: twice the rate at once, then the rate.
    fn take(&self, name: &str) -> Result<(), Problem> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let most = 2.0 * self.rate;
        let (left, at) = buckets.entry(name.to_owned()).or_insert((most, now));
        *left = (*left + (now - *at).as_secs_f64() * self.rate).min(most);
        *at = now;
        if *left < 1.0 {
            let detail = format!("more than {} requests a second with this token", self.rate);
            return Err(Problem::new(Kind::TooMany, detail, "ask less often, or raise `limits.rate`"));
        }
        *left -= 1.0;
        Ok(())
    }
}

/// Lets a request in that shows a token of at least the role, and says whose it is.
pub(crate) async fn guard(State((door, role)): State<(Arc<Door>, Role)>, mut request: Request, next: Next) -> Response {
    let let_in = |headers: &HeaderMap| {
        let caller = door.caller(headers)?;
        door.take(&caller.name)?;
        if caller.role < role {
            let detail =
                format!("`{}` has the role `{}`, this needs `{}`", caller.name, caller.role.as_str(), role.as_str());
            return Err(Problem::new(Kind::Forbidden, detail, "use a token of that role"));
        }
        Ok(caller)
    };
    match let_in(request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Answers a request under a span of its own. Those who only look, and look often, make none.
pub(crate) async fn traced(method: &'static str, route: &'static str, request: Request, next: Next) -> Response {
    if method == "get" {
        return next.run(request).await;
    }
    let caller = request.headers().get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let span = spans::request(&method.to_uppercase(), route, caller);
    let answer = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", answer.status().as_u16());
    if answer.status().is_server_error() {
        spans::failed(&span, answer.status().as_str());
    }
    answer
}

/// Where no token is needed, a web page in a browser of this machine must not reach us: neither directly (it would
/// send its `Origin`), nor by a name of its own that leads here.
fn from_this_machine(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = if host.starts_with('[') {
        host.split_inclusive(']').next().unwrap_or_default().trim_matches(['[', ']'])
    } else {
        host.split(':').next().unwrap_or_default()
    };
    let address = name.parse::<std::net::IpAddr>();
    let local = name == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if !local || headers.contains_key(header::ORIGIN) {
        let mend = "without tokens only programs of this machine are answered; `keyrotate token new` makes a token";
        return Err(Problem::new(Kind::Forbidden, "the request comes from a web page, or by another name", mend));
    }
    Ok(())
}
