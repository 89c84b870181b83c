//! What the API says when something is wrong: RFC 9457, each kind with a stable name.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keyrotate_checkpoint::{LedgerError, Refusal};
use keyrotate_proto::api;
use keyrotate_proto::id::JobId;
use keyrotate_proto::job::Problem as FileProblem;
use keyrotate_proto::say::chain;
use keyrotate_queue::QueueError;
use keyrotate_report::ReportError;

use crate::sealed::SealError;

/// Beginning of the names of all kinds.
const KINDS: &str = "urn:keyrotate:problem:";

/// Something is wrong.
#[derive(Debug)]
pub(crate) struct Problem(Box<api::Problem>);

/// Every kind: name, status, title.
const ALL: &[(Kind, &str, StatusCode, &str)] = &[
    (Kind::BadRequest, "bad-request", StatusCode::BAD_REQUEST, "The request can't be understood"),
    (Kind::NoToken, "no-token", StatusCode::UNAUTHORIZED, "A valid token is needed"),
    (Kind::Forbidden, "forbidden", StatusCode::FORBIDDEN, "The token does not allow that"),
    (Kind::NotFound, "not-found", StatusCode::NOT_FOUND, "There is no such thing"),
    (Kind::NotAllowed, "method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Not with this method"),
    (Kind::WrongState, "wrong-state", StatusCode::CONFLICT, "The job's state does not allow that"),
    (Kind::Overlap, "overlap", StatusCode::CONFLICT, "Another job works on some of the same keys"),
    (Kind::NoWorker, "store-unknown-yet", StatusCode::CONFLICT, "No worker serves the store"),
    (Kind::TooLarge, "too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too long"),
    (Kind::MediaType, "media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is of another type"),
    (Kind::JobFile, "job-file", StatusCode::UNPROCESSABLE_ENTITY, "The job file is wrong"),
    (Kind::Refused, "refused", StatusCode::UNPROCESSABLE_ENTITY, "The job is refused"),
    (Kind::KeyReused, "idempotency-key-reused", StatusCode::UNPROCESSABLE_ENTITY, "The key was used for another job"),
    (Kind::TooMany, "too-many", StatusCode::TOO_MANY_REQUESTS, "Too many"),
    (Kind::Unavailable, "unavailable", StatusCode::SERVICE_UNAVAILABLE, "Something behind the coordinator is away"),
    (Kind::Broken, "broken", StatusCode::INTERNAL_SERVER_ERROR, "Something is broken"),
];

/// What kind of problem it is: one per thing that a caller would do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    NoToken,
    Forbidden,
    NotFound,
    NotAllowed,
    WrongState,
    Overlap,
    NoWorker,
    TooLarge,
    MediaType,
    JobFile,
    Refused,
    KeyReused,
    TooMany,
    Unavailable,
    Broken,
}

impl Kind {
    /// Name, status and title.
    fn row(self) -> (&'static str, StatusCode, &'static str) {
        let row = ALL.iter().find(|(kind, ..)| *kind == self);
        row.map_or(("broken", StatusCode::INTERNAL_SERVER_ERROR, ""), |(_, name, status, title)| (name, *status, title))
    }

    /// Its status.
    pub(crate) fn status(self) -> StatusCode {
        self.row().1
    }
}

impl Problem {
    /// What happened, and what to do about it.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        let (name, status, title) = kind.row();
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        Self(Box::new(api::Problem {
            kind: format!("{KINDS}{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            hint,
            errors: Vec::new(),
            job: None,
        }))
    }

    /// A job file with all that is wrong with it.
    pub(crate) fn job_file(problems: &[FileProblem]) -> Self {
        let detail =
            format!("{} thing{} wrong with it", problems.len(), if problems.len() == 1 { " is" } else { "s are" });
        let mut problem = Self::new(Kind::JobFile, detail, "`errors` names each with its line");
        problem.0.errors = problems.iter().map(api::FileProblem::from).collect();
        problem
    }

    /// There is no job of that name, or none that the caller may see: nobody learns which.
    pub(crate) fn no_job(id: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no job `{}`", id.escape_debug()), "`GET /v1/jobs` lists the jobs")
    }

    fn with_job(mut self, job: &JobId) -> Self {
        self.0.job = Some(job.clone());
        self
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        let said = chain(&error);
        match &error {
            LedgerError::Refused(Refusal::Overlap { job, .. }) => {
                Self::new(Kind::Overlap, said, "wait for that job, or cancel it").with_job(job)
            }
            LedgerError::Refused(Refusal::KeyReused(job)) => {
                Self::new(Kind::KeyReused, said, "use a fresh key for another job").with_job(job)
            }
            LedgerError::Refused(Refusal::OwnApproval(_)) => {
                Self::new(Kind::Forbidden, said, "ask somebody with a token of his own to confirm it")
            }
            LedgerError::Refused(_) => Self::new(Kind::WrongState, said, "look at the job's status"),
            LedgerError::Lost(_) => Self::new(Kind::NotFound, said, ""),
            LedgerError::Backend(_) | LedgerError::Busy(_) => {
                Self::new(Kind::Unavailable, said, "try again: nothing is lost")
            }
            _ => Self::new(Kind::Broken, said, "look at the coordinator's log"),
        }
    }
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        match &error {
            ReportError::NotFound(_) => Self::new(Kind::NotFound, chain(&error), ""),
            ReportError::Store { .. } => Self::new(Kind::Unavailable, chain(&error), "see to the report store"),
            _ => Self::new(Kind::Broken, chain(&error), "the report is damaged"),
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        Self::new(Kind::Unavailable, chain(&error), "see to RabbitMQ: `keyrotate doctor` looks at it")
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        Self::new(Kind::Unavailable, format!("the notify token can't be sealed: {}", chain(&error)), error.remedy())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(detail = self.0.detail, kind = self.0.kind, "a request could not be answered");
        }
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
