//! The calls of KES over HTTP: order of checks, statuses and messages are those of a real one, byte for byte, because
//! its clients compare them.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Incoming};
use jiff::Timestamp;
use keyrotate_kms::KmsError;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::body::Fields;
use super::model::{self, Failure, KesModel};
use super::policy::Grant;
use super::route::{self, Call, Found, ROUTES, Route};

/// What goes back.
pub(super) type Reply = Response<Full<Bytes>>;

/// Ciphers of an import. A real KES takes two more, for keys of its other type, which we do not have.
const CIPHERS: [&str; 2] = ["AES256", "AES256-GCM_SHA256"];

/// Who calls, by the certificates that the connection showed.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// One certificate that is no CA's: its identity.
    Known(String),
    /// None that counts.
    Nobody,
    /// More than one that counts.
    Several,
}

/// The calls of one server.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) model: KesModel,
    pub(super) admin: Option<String>,
    pub(super) grants: Vec<Grant>,
    pub(super) started: Timestamp,
}

/// The connection is to be cut without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(super) struct Cut;

/// A call that was refused: status and message.
struct Refusal(u16, String);

type Outcome = Result<Option<Value>, Refusal>;

impl Api {
    /// Answers one request.
    pub(super) async fn answer(&self, caller: &Caller, request: Request<Incoming>) -> Result<Reply, Cut> {
        match self.model.failure() {
            Failure::None | Failure::KeyStore => {}
            Failure::Hang => std::future::pending().await,
            Failure::Refuse => return Err(Cut),
            Failure::Unavailable => return Ok(text(503, "service unavailable\n")),
            Failure::Revoked => return Ok(Refusal::from(model::not_allowed("", "")).reply()),
        }
        let (route, path, name) = match route::find(request.uri().path()) {
            Found::Call { route, path, name } => (route, path, name),
            Found::Redirect(to) => return Ok(redirect(&to)),
            Found::Nothing => return Ok(text(404, "404 page not found\n")),
            Found::Broken => return Ok(text(400, "400 Bad Request")),
        };
        if !route.takes(request.method()) {
            return Ok(wrong_method(route, request.method().as_str()));
        }
        let identity = match self.admit(route, &path, caller) {
            Ok(identity) => identity,
            Err(refusal) => return Ok(refusal.reply()),
        };
        let outcome = match check_name(route.call, &name) {
            Ok(()) if route.max_body > 0 => match read(route, request.into_body()).await {
                Ok(fields) => self.use_key(route.call, &name, identity, &fields),
                Err(refusal) => Err(refusal),
            },
            Ok(()) => self.tell(route.call, &name, identity),
            Err(refusal) => Err(refusal),
        };
        Ok(outcome.map_or_else(|refusal| refusal.reply(), |value| success(value.as_ref())))
    }

    /// Who it is, if he may.
    fn admit<'a>(&self, route: &Route, path: &str, caller: &'a Caller) -> Result<&'a str, Refusal> {
        if route.call == Call::Version {
            return Ok("");
        }
        let identity = match caller {
            Caller::Known(identity) => identity,
            Caller::Nobody => return Err(Refusal(400, "tls: client certificate is required".to_owned())),
            Caller::Several => return Err(Refusal(400, "tls: received more than one client certificate".to_owned())),
        };
        let allowed = self.is_admin(identity)
            || route.call == Call::SelfDescribe
            || self.grant_of(identity).is_some_and(|grant| grant.policy.allows(path));
        if allowed { Ok(identity) } else { Err(model::not_allowed("", "").into()) }
    }

    /// The calls without a body.
    fn tell(&self, call: Call, name: &str, identity: &str) -> Outcome {
        match call {
            Call::Version => Ok(Some(json!({"version": env!("CARGO_PKG_VERSION"), "commit": "devstack"}))),
            Call::Ready if self.model.failure() == Failure::KeyStore => {
                Err(Refusal(504, "key store is not reachable".to_owned()))
            }
            Call::Ready => Ok(None),
            Call::Status => Ok(Some(self.status())),
            Call::Routes => Ok(Some(routes())),
            Call::Create => {
                self.model.store_answers("create", name)?;
                self.model.create(name, identity)?;
                Ok(None)
            }
            Call::Describe => self.describe_key(name),
            Call::Delete => {
                self.model.store_answers("delete", name)?;
                self.model.delete_key(name)?;
                Ok(None)
            }
            Call::List => {
                self.model.store_answers("list", "")?;
                let prefix = if name == "*" { "" } else { name };
                let names: Vec<_> = self.model.names().into_iter().filter(|key| key.starts_with(prefix)).collect();
                Ok(Some(json!({"names": names})))
            }
            Call::PolicyDescribe | Call::PolicyRead => self.policy(name, call == Call::PolicyRead),
            Call::PolicyList => {
                let names = self.grants.iter().map(|grant| grant.name.clone());
                Ok(Some(json!({"names": matching(name, names), "continue_at": ""})))
            }
            Call::IdentityDescribe => self.identity(name),
            Call::IdentityList => {
                let listed = self.grants.iter().flat_map(|grant| &grant.identities).chain(&self.admin).cloned();
                Ok(Some(json!({"identities": matching(name, listed), "continue_at": ""})))
            }
            // Of the real one nobody but the admin learns of himself.
            Call::SelfDescribe if self.is_admin(identity) => {
                Ok(Some(json!({"identity": identity, "admin": true, "created_at": self.started.to_string()})))
            }
            Call::SelfDescribe => Err(no_identity()),
            Call::Import | Call::Generate | Call::Encrypt | Call::Decrypt | Call::Hmac => {
                Err(Refusal(400, "invalid request body".to_owned()))
            }
        }
    }

    /// The calls with a body.
    fn use_key(&self, call: Call, name: &str, identity: &str, fields: &Fields) -> Outcome {
        let invalid = || Refusal(400, "invalid request body".to_owned());
        let bytes = |field| fields.bytes(field).ok_or_else(invalid);
        let encoded = |bytes: &[u8]| STANDARD.encode(bytes);
        let value = match call {
            Call::Import => {
                self.import(name, identity, fields)?;
                return Ok(None);
            }
            Call::Generate => {
                let context = bytes("context")?;
                self.model.store_answers("generate", name)?;
                let sealed = self.model.generate_now(name, &context)?;
                let plaintext = encoded(sealed.plaintext.expose());
                json!({"plaintext": plaintext, "ciphertext": encoded(&sealed.ciphertext)})
            }
            Call::Encrypt => {
                let (plaintext, context) = (bytes("plaintext")?, bytes("context")?);
                self.model.store_answers("encrypt", name)?;
                json!({"ciphertext": encoded(&self.model.encrypt_now(name, &plaintext, &context)?)})
            }
            Call::Decrypt => {
                let (ciphertext, context) = (bytes("ciphertext")?, bytes("context")?);
                self.model.store_answers("decrypt", name)?;
                json!({"plaintext": encoded(self.model.decrypt_now(name, &ciphertext, &context)?.expose())})
            }
            Call::Hmac => {
                let message = bytes("message")?;
                self.model.store_answers("hmac", name)?;
                json!({"hmac": encoded(&self.model.hmac_now(name, &message)?)})
            }
            _ => return self.tell(call, name, identity),
        };
        Ok(Some(value))
    }

    fn import(&self, name: &str, identity: &str, fields: &Fields) -> Result<(), Refusal> {
        let invalid = || Refusal(400, "invalid import key request body".to_owned());
        let cipher = fields.text("cipher").ok_or_else(invalid)?;
        let bytes = fields.bytes("key").ok_or_else(invalid)?;
        if !CIPHERS.contains(&cipher) {
            return Err(Refusal(406, format!("algorithm '{cipher}' is not supported")));
        }
        let mut material = Zeroizing::new([0; 32]);
        if bytes.len() != material.len() {
            return Err(Refusal(406, format!("invalid key size for '{cipher}'")));
        }
        material.copy_from_slice(&bytes);
        self.model.store_answers("create", name)?;
        Ok(self.model.import(name, material, identity)?)
    }

    fn describe_key(&self, name: &str) -> Outcome {
        self.model.store_answers("describe", name)?;
        let description = self.model.describe(name)?;
        let created_at = description.created_at.to_string();
        let mut value = json!({"name": name, "algorithm": "AES256", "created_at": created_at});
        if !description.created_by.is_empty() {
            value["created_by"] = description.created_by.into();
        }
        Ok(Some(value))
    }

    fn status(&self) -> Value {
        let up = self.model.env().now().duration_since(self.started);
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let mut value = json!({
            "version": env!("CARGO_PKG_VERSION"), "os": std::env::consts::OS, "arch": std::env::consts::ARCH,
            "uptime": up.as_secs(), "num_cpu": cpus, "num_cpu_used": cpus, "mem_heap_used": 0, "mem_stack_used": 0,
        });
        if self.model.failure() == Failure::KeyStore {
            value["keystore_unreachable"] = true.into();
        } else {
            value["keystore_latency"] = 1.into();
        }
        value
    }

    fn policy(&self, name: &str, rules: bool) -> Outcome {
        let grant = self.grants.iter().find(|grant| grant.name == name);
        let Some(grant) = grant else { return Err(Refusal(404, "policy does not exist".to_owned())) };
        let mut value = json!({
            "name": name, "created_at": self.started.to_string(), "created_by": self.admin.as_deref().unwrap_or_default(),
        });
        if rules {
            for (field, patterns) in [("allow", &grant.policy.allow), ("deny", &grant.policy.deny)] {
                if !patterns.is_empty() {
                    value[field] =
                        patterns.iter().map(|pattern| (pattern.clone(), json!({}))).collect::<Map<_, _>>().into();
                }
            }
        }
        Ok(Some(value))
    }

    fn identity(&self, id: &str) -> Outcome {
        let created_at = self.started.to_string();
        if self.is_admin(id) {
            return Ok(Some(json!({"admin": true, "created_at": created_at})));
        }
        let grant = self.grant_of(id).ok_or_else(no_identity)?;
        let created_by = self.admin.as_deref().unwrap_or_default();
        Ok(Some(json!({"policy": grant.name, "created_at": created_at, "created_by": created_by})))
    }

    fn is_admin(&self, identity: &str) -> bool {
        self.admin.as_deref() == Some(identity)
    }

    fn grant_of(&self, identity: &str) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.identities.iter().any(|id| id == identity))
    }
}

impl From<KmsError> for Refusal {
    fn from(error: KmsError) -> Self {
        Self(error.status.unwrap_or(500), error.message)
    }
}

impl Refusal {
    /// The line feed stands before the brace, as in the real one's.
    fn reply(&self) -> Reply {
        let body = format!("{{\"message\":{}\n}}", escape(&Value::from(self.1.as_str()).to_string()));
        typed(self.0, "application/json", body)
    }
}

/// The grammar of what follows the route.
fn check_name(call: Call, name: &str) -> Result<(), Refusal> {
    let (valid, what) = match call {
        Call::Version | Call::Ready | Call::Status | Call::Routes | Call::SelfDescribe => return Ok(()),
        Call::List | Call::PolicyList | Call::IdentityList => (is_pattern(name), "listing pattern"),
        Call::PolicyDescribe | Call::PolicyRead => (model::is_key_name(name), "policy name"),
        Call::IdentityDescribe => (model::is_key_name(name), "identity"),
        _ => return Ok(model::check_name("", name)?),
    };
    let ending = if what == "listing pattern" { "is invalid" } else { "contains invalid characters" };
    if valid { Ok(()) } else { Err(Refusal(400, format!("{what} '{name}' is empty, too long or {ending}"))) }
}

/// Whether KES takes `pattern` for a listing: it may be empty, and a prefix that ends in `-` is refused.
fn is_pattern(pattern: &str) -> bool {
    let letters = pattern.strip_suffix('*').unwrap_or(pattern);
    letters.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && pattern.len() <= 80
        && pattern != "_"
        && !pattern.starts_with('-')
        && !pattern.ends_with('-')
}

/// The names that a pattern of policies or identities means, sorted.
fn matching(pattern: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

/// The fields of the body. Only generate may come without one, and a body of unknown length counts as one.
async fn read(route: &Route, body: Incoming) -> Result<Fields, Refusal> {
    if route.call == Call::Generate && body.size_hint().exact() == Some(0) {
        return Ok(Fields::default());
    }
    let what = if route.call == Call::Import { "import key request" } else { "request" };
    let invalid = || Refusal(400, format!("invalid {what} body"));
    let whole = Limited::new(body, route.max_body).collect().await.map_err(|_| invalid())?.to_bytes();
    Fields::read(&whole).ok_or_else(invalid)
}

fn routes() -> Value {
    let entry = |route: &Route| json!({"method": route.method, "path": route.path, "max_body": route.max_body, "timeout": route.timeout});
    ROUTES.iter().map(entry).collect()
}

fn no_identity() -> Refusal {
    Refusal(404, "identity does not exist".to_owned())
}

fn success(value: Option<&Value>) -> Reply {
    match value {
        Some(value) => typed(200, "application/json", escape(&format!("{value}\n"))),
        None => Reply::default(),
    }
}

fn wrong_method(route: &Route, received: &str) -> Reply {
    let expected = route.method;
    let mut reply = Refusal(405, format!("received method '{received}' expected '{expected}'")).reply();
    reply.headers_mut().insert("accept", HeaderValue::from_static(expected));
    reply
}

fn redirect(to: &str) -> Reply {
    let mut reply = text(307, "");
    if let Ok(to) = HeaderValue::from_str(to) {
        reply.headers_mut().insert("location", to);
    }
    reply
}

fn text(status: u16, body: &'static str) -> Reply {
    typed(status, "text/plain; charset=utf-8", body.to_owned())
}

fn typed(status: u16, kind: &'static str, body: String) -> Reply {
    let mut reply = Reply::new(Full::new(body.into()));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    reply
}

/// As Go writes JSON: what a browser would act on is escaped.
fn escape(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out
}
