//! What a call to KES can end with, sorted by what the caller would do.

/// What a caller would do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KmsErrorKind {
    /// 400 `key already exists`.
    KeyExists,
    /// 404 `key does not exist`.
    KeyNotFound,
    /// 400 `decryption failed: ciphertext is not authentic`: another key, another context, tampered with, or the key
    /// was deleted and made anew under its name. The service can't tell them apart.
    NotAuthentic,
    /// 403: unknown identity, or its policy lacks a line.
    NotAllowed,
    /// The service wants a client certificate and got none that it counts.
    NoCertificate,
    /// 400 with any other message: the request is wrong.
    Refused,
    /// 404 as text, 405: the service does not know this call.
    NotImplemented,
    /// 5xx: the service or its key store has trouble.
    Server,
    /// No answer in time.
    Timeout,
    /// No connection, at no endpoint.
    Unreachable,
    /// The server's certificate is not trusted.
    Untrusted,
    /// The answer makes no sense.
    Nonsense,
    /// Too many failures in a row: the breaker is open and nothing was sent.
    BreakerOpen,
}

impl KmsErrorKind {
    /// Its word in metrics and spans.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::KeyExists => "key-exists",
            Self::KeyNotFound => "key-not-found",
            Self::NotAuthentic => "not-authentic",
            Self::NotAllowed => "not-allowed",
            Self::NoCertificate => "no-certificate",
            Self::Refused => "refused",
            Self::NotImplemented => "not-implemented",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted",
            Self::Nonsense => "nonsense",
            Self::BreakerOpen => "breaker-open",
        }
    }

    /// Whether the same call may succeed later without anybody mending anything in the request.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Server | Self::Timeout | Self::Unreachable | Self::Nonsense | Self::BreakerOpen)
    }
}

/// A call to KES ended badly.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.describe())]
pub struct KmsError {
    /// What was tried: `generate`, `decrypt`, `create`, `list`, `status`.
    pub operation: &'static str,
    /// The key it was tried with; empty where none was.
    pub key: String,
    /// What a caller would do differently.
    pub kind: KmsErrorKind,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The service's message, or what broke.
    pub message: String,
    /// What lies below it.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl KmsError {
    /// An error without an HTTP answer.
    #[must_use]
    pub fn new(operation: &'static str, key: &str, kind: KmsErrorKind, message: impl Into<String>) -> Self {
        Self { operation, key: key.to_owned(), kind, status: None, message: message.into(), source: None }
    }

    /// What somebody could do about it; for a missing right the policy line that grants it.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let text = match self.kind {
            KmsErrorKind::NotAllowed => {
                let line = match self.operation {
                    "status" => "/v1/status".to_owned(),
                    "list" => "/v1/key/list/*".to_owned(),
                    operation => format!("/v1/key/{operation}/{}", self.key),
                };
                format!(
                    "add the line `allow: {line}` to the policy of our identity in KES, or our identity to a policy that has it"
                )
            }
            KmsErrorKind::NoCertificate => "give a client certificate that says CA:FALSE \
                (MINIO_KMS_KES_CERT_FILE and MINIO_KMS_KES_KEY_FILE) or an API key (MINIO_KMS_KES_API_KEY)"
                .to_owned(),
            KmsErrorKind::Untrusted => {
                "set MINIO_KMS_KES_CAPATH to the certificate of KES or of its issuer, and use in \
                MINIO_KMS_KES_ENDPOINT a name that the certificate has"
                    .to_owned()
            }
            KmsErrorKind::KeyNotFound => {
                format!("make the key (`kes key create {}`) or correct its name", self.key)
            }
            KmsErrorKind::NotAuthentic => format!(
                "find out whether `{}` was deleted and made anew, and whether the context is the one it was sealed with",
                self.key
            ),
            KmsErrorKind::Unreachable | KmsErrorKind::Timeout => {
                "look whether KES runs and whether MINIO_KMS_KES_ENDPOINT is right".to_owned()
            }
            KmsErrorKind::NotImplemented => "look whether MINIO_KMS_KES_ENDPOINT points to a KES".to_owned(),
            KmsErrorKind::Server => "look into the log of KES, and whether its key store answers".to_owned(),
            KmsErrorKind::KeyExists | KmsErrorKind::Refused | KmsErrorKind::Nonsense | KmsErrorKind::BreakerOpen => {
                return None;
            }
        };
        Some(text)
    }

    fn describe(&self) -> String {
        let key = if self.key.is_empty() { String::new() } else { format!(" `{}`", self.key) };
        let status = self.status.map(|s| format!("{s} ")).unwrap_or_default();
        format!("KES {}{key}: {status}{}", self.operation, self.message)
    }
}
