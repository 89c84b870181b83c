//! What a call to a store can end with, sorted by what the caller would do.

use std::fmt;

/// What a caller would do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 404: the object, version or upload is not there.
    NotFound,
    /// 404 `NoSuchBucket`.
    NoSuchBucket,
    /// 412, or 409 `ConditionalRequestConflict`: somebody else wrote.
    Precondition,
    /// The store asks for less, known by its code before its status: `SlowDown`, `ThrottlingException`,
    /// `RequestLimitExceeded`, 503, 429.
    Throttled,
    /// 403 for this object or call.
    Denied,
    /// The credentials themselves: expired, unknown, wrong signature, none found.
    Credentials,
    /// The bucket lies in another region than the requests are signed for; the message names it.
    WrongRegion,
    /// `RequestTimeTooSkewed`.
    ClockSkew,
    /// The KMS key named in the request does not exist, or is disabled.
    KmsKeyNotFound,
    /// The store's KMS refuses or is down.
    Kms,
    /// The object is under a key that its owner keeps (SSE-C): a 400 without that key.
    CustomerKey,
    /// Archived: `InvalidObjectState`.
    Archived,
    /// Object lock forbids it.
    Locked,
    /// 501 or a code that says that the store does not know this call.
    NotImplemented,
    /// Any other refusal (4xx): the same request would be refused again.
    Refused,
    /// 5xx: may have happened or not.
    Server,
    /// No answer in time: may have happened or not.
    Timeout,
    /// The request never left.
    Unreachable,
    /// The store's certificate is not trusted, or the store does not take ours or wants one: it saw no request.
    Untrusted,
    /// The answer ended early, or the connection broke after the request was sent: may have happened or not.
    Cut,
    /// The answer makes no sense: HTML, broken XML.
    Nonsense,
    /// The lease that the write was made under is over, or nearly: it was not sent, or its answer is not waited for.
    /// Who made it has nothing more to say about the object; see [`crate::wrap::fenced`].
    LeaseOver,
}

impl ErrorKind {
    /// Its word in metrics and spans.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::NoSuchBucket => "no-such-bucket",
            Self::Precondition => "precondition",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::Credentials => "credentials",
            Self::WrongRegion => "wrong-region",
            Self::ClockSkew => "clock-skew",
            Self::KmsKeyNotFound => "kms-key-not-found",
            Self::Kms => "kms",
            Self::CustomerKey => "customer-key",
            Self::Archived => "archived",
            Self::Locked => "locked",
            Self::NotImplemented => "not-implemented",
            Self::Refused => "refused",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted",
            Self::Cut => "cut",
            Self::Nonsense => "nonsense",
            Self::LeaseOver => "lease-over",
        }
    }

    /// Whether a write that ended so may have taken effect: look before deciding.
    #[must_use]
    pub fn is_ambiguous(self) -> bool {
        matches!(self, Self::Server | Self::Timeout | Self::Cut | Self::Nonsense)
    }

    /// Whether the same read may succeed a moment later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        self.is_ambiguous() || matches!(self, Self::Throttled | Self::Unreachable)
    }
}

/// A call to a store ended badly. Facts are typed, never parsed out of text.
#[derive(Debug, thiserror::Error)]
pub struct StoreError {
    /// The S3 operation, as its documentation calls it.
    pub operation: &'static str,
    /// What a caller would do differently.
    pub kind: ErrorKind,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The store's error code, where it gave one.
    pub code: Option<String>,
    /// The store's message, or what broke.
    pub message: String,
    /// The store's request id, where it gave one.
    pub request_id: Option<String>,
    /// What lies below it.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error without an HTTP answer.
    #[must_use]
    pub fn new(operation: &'static str, kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { operation, kind, status: None, code: None, message, request_id: None, source: None }
    }

    /// An error as a store answers it.
    #[must_use]
    pub fn answered(operation: &'static str, kind: ErrorKind, status: u16, code: &str, message: &str) -> Self {
        Self { status: Some(status), code: Some(code.to_owned()), ..Self::new(operation, kind, message) }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        match (self.status, &self.code) {
            (Some(status), Some(code)) => write!(f, ": {status} {code}")?,
            (Some(status), None) => write!(f, ": {status}")?,
            (None, _) => {}
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}
