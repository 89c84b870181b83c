//! How to reach KES, read from the variables that MinIO reads.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::ellipses::{self, MOST};

const ENDPOINT: &str = "MINIO_KMS_KES_ENDPOINT";
const KEY_FILE: &str = "MINIO_KMS_KES_KEY_FILE";
const CERT_FILE: &str = "MINIO_KMS_KES_CERT_FILE";
const KEY_PASSWORD: &str = "MINIO_KMS_KES_KEY_PASSWORD";
const CAPATH: &str = "MINIO_KMS_KES_CAPATH";
const API_KEY: &str = "MINIO_KMS_KES_API_KEY";
const KEY_NAME: &str = "MINIO_KMS_KES_KEY_NAME";

/// How to reach KES and who we are there.
#[derive(Clone, Debug)]
pub struct KesConfig {
    /// `https://host:port`, without a slash at the end; at least one.
    pub endpoints: Vec<String>,
    /// Who we are.
    pub credential: Credential,
    /// File or folder of certificates that are trusted besides those of the system.
    pub ca_path: Option<PathBuf>,
    /// How long to wait and how often to try.
    pub limits: Limits,
}

/// Who we are at KES.
#[derive(Clone)]
pub enum Credential {
    /// The seed of an Ed25519 key, from an API key.
    ApiKey(Zeroizing<[u8; 32]>),
    /// PEM files, read again when they change.
    Files {
        /// Certificate, and what lies between it and its issuer.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
        /// What the private key is encrypted with.
        password: Option<Zeroizing<String>>,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(_) => f.write_str("ApiKey(..)"),
            Self::Files { cert, key, .. } => f.debug_struct("Files").field("cert", cert).field("key", key).finish(),
        }
    }
}

/// How long to wait and how often to try.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection to stand.
    pub connect: Duration,
    /// For one try at one endpoint.
    pub attempt: Duration,
    /// For a call with all its tries.
    pub deadline: Duration,
    /// Tries of one call, over all endpoints.
    pub tries: u32,
    /// Before the second try at the same endpoint; doubles, and gets as much at random on top.
    pub delay: Duration,
    /// How long an endpoint that failed is passed over.
    pub bench: Duration,
    /// Calls that fail in a row before the breaker opens.
    pub breaker_failures: u32,
    /// How long the open breaker sends nothing before it lets one probe through.
    pub breaker_open: Duration,
    /// How often files of keys and certificates are looked at.
    pub reload: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            attempt: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            tries: 4,
            delay: Duration::from_millis(200),
            bench: Duration::from_secs(30),
            breaker_failures: 5,
            breaker_open: Duration::from_secs(10),
            reload: Duration::from_secs(5),
        }
    }
}

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct ConfigError {
    /// The variable to look at.
    pub variable: &'static str,
    /// What is wrong with it and what to do.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(variable: &'static str, problem: impl Into<String>) -> Self {
        Self { variable, problem: problem.into() }
    }

    pub(crate) fn cert(problem: impl Into<String>) -> Self {
        Self::new(CERT_FILE, problem)
    }

    pub(crate) fn key(problem: impl Into<String>) -> Self {
        Self::new(KEY_FILE, problem)
    }

    pub(crate) fn ca(problem: impl Into<String>) -> Self {
        Self::new(CAPATH, problem)
    }

    pub(crate) fn password(problem: impl Into<String>) -> Self {
        Self::new(KEY_PASSWORD, problem)
    }

    pub(crate) fn api_key(problem: impl Into<String>) -> Self {
        Self::new(API_KEY, problem)
    }
}

impl KesConfig {
    /// The name that MinIO's variables give the store's default key, whether or not there is a KES for us.
    pub fn default_key(lookup: impl Fn(&str) -> Option<String>) -> Option<String> {
        lookup(KEY_NAME).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
    }

    /// Reads MinIO's variables through `lookup`. `None` when no endpoint is set: then there is no KES for us.
    ///
    /// # Errors
    /// A variable is missing or wrong; the error names it and says what to do.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, ConfigError> {
        let get = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let Some(endpoints) = get(ENDPOINT) else { return Ok(None) };
        Ok(Some(Self {
            endpoints: parse_endpoints(&endpoints)?,
            credential: credential(&get, lookup(KEY_PASSWORD))?,
            ca_path: get(CAPATH).map(PathBuf::from),
            limits: Limits::default(),
        }))
    }
}

/// The password is taken as it is: a blank may belong to it.
fn credential(get: &impl Fn(&str) -> Option<String>, password: Option<String>) -> Result<Credential, ConfigError> {
    match (get(API_KEY), get(CERT_FILE), get(KEY_FILE)) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            Err(ConfigError::new(API_KEY, format!("set either this or {CERT_FILE} with {KEY_FILE}, not both")))
        }
        (Some(text), None, None) => parse_api_key(&text).map(Credential::ApiKey),
        (None, Some(cert), Some(key)) => Ok(Credential::Files {
            cert: cert.into(),
            key: key.into(),
            password: password.filter(|text| !text.is_empty()).map(Zeroizing::new),
        }),
        (None, Some(_), None) => {
            Err(ConfigError::new(KEY_FILE, format!("set it too: {CERT_FILE} needs its private key")))
        }
        (None, None, Some(_)) => {
            Err(ConfigError::new(CERT_FILE, format!("set it too: {KEY_FILE} needs its certificate")))
        }
        (None, None, None) => Err(ConfigError::new(
            API_KEY,
            format!("{ENDPOINT} is set, so KES has to know us: set this, or {CERT_FILE} and {KEY_FILE}"),
        )),
    }
}

/// `kes:v1:` (which may be missing) and 33 bytes in base64: a type, of which only 0 exists, and the seed.
pub(crate) fn parse_api_key(text: &str) -> Result<Zeroizing<[u8; 32]>, ConfigError> {
    let wrong = |why: &str| {
        ConfigError::new(
            API_KEY,
            format!("this is no API key ({why}); one looks like kes:v1:AB…, `kes identity new` makes one"),
        )
    };
    let encoded = text.strip_prefix("kes:v1:").unwrap_or(text);
    let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| wrong("it is not base64"))?);
    match bytes.split_first() {
        Some((0, seed)) if seed.len() == 32 => {
            let mut key = Zeroizing::new([0; 32]);
            key.copy_from_slice(seed);
            Ok(key)
        }
        Some((_, seed)) if seed.len() == 32 => Err(wrong("its type is not known")),
        _ => Err(wrong("its length is not 33 bytes")),
    }
}

fn parse_endpoints(text: &str) -> Result<Vec<String>, ConfigError> {
    let wrong = |problem: String| ConfigError::new(ENDPOINT, problem);
    let mut endpoints = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        for endpoint in ellipses::expand(item).map_err(&wrong)? {
            endpoints.push(check_endpoint(&endpoint).map_err(&wrong)?);
        }
        if endpoints.len() > MOST {
            return Err(wrong(format!("these are more than {MOST} endpoints")));
        }
    }
    if endpoints.is_empty() {
        return Err(wrong("no endpoint in it; one looks like https://kes.example.net:7373".to_owned()));
    }
    Ok(endpoints)
}

fn check_endpoint(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text)
        .map_err(|_| format!("`{text}` is not a URL; one looks like https://kes.example.net:7373"))?;
    if url.scheme() != "https" {
        return Err(format!("`{text}` must begin with https://: KES talks TLS only"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(format!("`{text}` must be scheme, host and port only"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: &str = "kes:v1:AAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

    fn read(pairs: &[(&str, &str)]) -> Result<Option<KesConfig>, ConfigError> {
        KesConfig::from_env(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn endpoints_are_expanded_as_minio_expands_them() {
        let config = read(&[(ENDPOINT, "https://kes{1...3}:7373, https://b:1/"), (API_KEY, VECTOR)]).unwrap().unwrap();
        assert_eq!(config.endpoints, ["https://kes1:7373", "https://kes2:7373", "https://kes3:7373", "https://b:1"]);
        let hex = read(&[(ENDPOINT, "https://kes{09...0b}"), (API_KEY, VECTOR)]).unwrap().unwrap();
        assert_eq!(hex.endpoints, ["https://kes09", "https://kes0a", "https://kes0b"]);
        for bad in ["https://{", "https://kes}", "https://kes{1..2}", "https://kes{2...1}"] {
            assert_eq!(read(&[(ENDPOINT, bad), (API_KEY, VECTOR)]).unwrap_err().variable, ENDPOINT, "{bad}");
        }
    }

    #[test]
    fn the_default_key_is_known_without_an_endpoint() {
        let of = |value: &str| KesConfig::default_key(|name| (name == KEY_NAME).then(|| value.to_owned()));
        assert_eq!((of(" key-a\n"), of(" ")), (Some("key-a".to_owned()), None));
    }

    #[test]
    fn nothing_set_is_no_kes_and_half_set_is_told() {
        assert!(read(&[]).unwrap().is_none());
        for (pairs, variable) in [
            (vec![(ENDPOINT, "https://a")], API_KEY),
            (vec![(ENDPOINT, "https://a"), (CERT_FILE, "c")], KEY_FILE),
            (vec![(ENDPOINT, "https://a"), (KEY_FILE, "c")], CERT_FILE),
            (vec![(ENDPOINT, "https://a"), (KEY_FILE, "c"), (API_KEY, VECTOR)], API_KEY),
            (vec![(ENDPOINT, "http://a"), (API_KEY, VECTOR)], ENDPOINT),
            (vec![(ENDPOINT, "https://a/b"), (API_KEY, VECTOR)], ENDPOINT),
            (vec![(ENDPOINT, ","), (API_KEY, VECTOR)], ENDPOINT),
            (vec![(ENDPOINT, "https://a"), (API_KEY, "kes:v1:AAAA")], API_KEY),
            (vec![(ENDPOINT, "https://a"), (API_KEY, "kes:v1:%")], API_KEY),
        ] {
            let error = read(&pairs).unwrap_err();
            assert_eq!(error.variable, variable, "{error}");
            assert!(!error.to_string().contains("AAAA"), "{error}");
        }
    }

    #[test]
    fn the_prefix_of_an_api_key_may_be_missing() {
        let bare = parse_api_key(VECTOR.strip_prefix("kes:v1:").unwrap()).unwrap();
        assert_eq!(*bare, *parse_api_key(VECTOR).unwrap());
        assert_eq!(bare[31], 31);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = read(&[(ENDPOINT, &text), (API_KEY, &text)]);
        }
    }
}
