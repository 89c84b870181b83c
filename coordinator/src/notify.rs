//! The news of a job's end, sent to whom its file names. At least once: the job's id is the key by which a receiver knows
//! what it has heard already.
//!
//! The body is MinIO's, flat, with fields of our own beside: receivers that were written for MinIO read it.

use std::net::SocketAddr;
use std::time::Duration;

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_proto::job::is_private;
use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::state::JobState;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde_json::{Value, json};

use crate::sealed::Sealer;

/// For the whole of one try.
const WITHIN: Duration = Duration::from_secs(10);

/// The news did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// It is no address.
    #[error("the notify endpoint is no address")]
    NoAddress,
    /// Its name is not known.
    #[error("the host of the notify endpoint can't be found")]
    Unknown(#[source] std::io::Error),
    /// Nobody should be able to have us talk to what only we can reach.
    #[error("the host of the notify endpoint has the private address {0}, which `notify.allowPrivate` would allow")]
    Private(std::net::IpAddr),
    /// The sealed token does not open here.
    #[error("the notify token does not open: it was sealed by another KES or key file")]
    Sealed,
    /// It could not be sent.
    #[error("the notify endpoint can't be reached")]
    Unreached(#[source] reqwest::Error),
    /// It was not taken.
    #[error("the notify endpoint answers {0}")]
    Refused(u16),
}

/// Tells.
#[derive(Clone, Debug)]
pub struct Notifier {
    sealer: Option<Sealer>,
    allow_private: bool,
}

impl Notifier {
    /// With what opens the tokens of jobs; `allow_private`: also to addresses that only this network reaches.
    #[must_use]
    pub fn new(sealer: Option<Sealer>, allow_private: bool) -> Self {
        Self { sealer, allow_private }
    }

    /// Who opens the tokens.
    #[must_use]
    pub fn sealer(&self) -> Option<&Sealer> {
        self.sealer.as_ref()
    }

    /// Sends the news of a job's end to whom its file names, if it does; comes back when it was taken.
    ///
    /// # Errors
    /// When it was not: it is tried again later.
    pub async fn tell(&self, job: &JobRecord) -> Result<(), NotifyError> {
        let Some(notify) = &job.spec.notify else { return Ok(()) };
        let url = Url::parse(&notify.endpoint).map_err(|_| NotifyError::NoAddress)?;
        let token = self.token(job).await?;
        let client = self.client(&url).await?;
        let body = news(job).to_string();
        let mut request = client.post(url).header(CONTENT_TYPE, "application/json").body(body);
        request = request.header("idempotency-key", job.id.as_str());
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        // The address may hold a secret in its path.
        let answer = request.send().await.map_err(|error| NotifyError::Unreached(error.without_url()))?;
        if answer.status().is_success() { Ok(()) } else { Err(NotifyError::Refused(answer.status().as_u16())) }
    }

    async fn token(&self, job: &JobRecord) -> Result<Option<HeaderValue>, NotifyError> {
        let Some(sealed) = &job.sealed_token else { return Ok(None) };
        let opened = match &self.sealer {
            Some(sealer) => sealer.open(sealed).await,
            None => None,
        };
        let mut token = HeaderValue::from_str(&opened.ok_or(NotifyError::Sealed)?).map_err(|_| NotifyError::Sealed)?;
        token.set_sensitive(true);
        Ok(Some(token))
    }

    /// A client that goes nowhere but to the addresses that were looked at: a name may mean another one a moment later.
    async fn client(&self, url: &Url) -> Result<Client, NotifyError> {
        let host = url.host_str().ok_or(NotifyError::NoAddress)?;
        let port = url.port_or_known_default().ok_or(NotifyError::NoAddress)?;
        let found = tokio::time::timeout(WITHIN, tokio::net::lookup_host((host.trim_matches(['[', ']']), port))).await;
        let found = found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(NotifyError::Unknown)?;
        let addresses: Vec<SocketAddr> = found.collect();
        let private = addresses.iter().map(SocketAddr::ip).find(|address| is_private(*address));
        if let Some(private) = private.filter(|_| !self.allow_private) {
            return Err(NotifyError::Private(private));
        }
        let client = Client::builder().no_proxy().redirect(Policy::none()).http1_only().timeout(WITHIN);
        let client = client.user_agent(concat!("keyrotate/", env!("CARGO_PKG_VERSION")));
        client.resolve_to_addrs(host, &addresses).build().map_err(NotifyError::Unreached)
    }
}

/// What is said.
fn news(job: &JobRecord) -> Value {
    let counts = job.result.as_ref().map(|result| result.counts.clone()).unwrap_or_default();
    let ended = job.result.as_ref().map_or(job.updated, |result| result.ended);
    let rotated = counts.by_outcome.iter().filter(|(outcome, _)| matches!(outcome, Outcome::Rotated(_)));
    let rotated: u64 = rotated.map(|(_, n)| n).sum();
    let reason = match &job.state {
        JobState::Failed { reason, .. } => Some(reason.as_str()),
        _ => None,
    };
    json!({
        "jobID": job.id,
        "jobType": "keyrotate",
        "startTime": job.started,
        "lastUpdate": ended,
        "retryAttempts": job.attempts_used,
        "attempts": counts.scanned(),
        "complete": job.state == JobState::Completed,
        "failed": matches!(job.state, JobState::Failed { .. }),
        "objects": rotated,
        "deleteMarkers": 0,
        "objectsFailed": counts.of("failed") + counts.of("conflict"),
        "deleteMarkersFailed": 0,
        "bytesTransferred": counts.rotated_bytes,
        "bytesFailed": 0,
        "state": job.state.word(),
        "reason": reason,
        "bucket": job.spec.bucket,
        "prefix": job.spec.prefix,
        "store": job.store_name,
        "user": job.user,
        "exceptions": counts.exceptions(),
        "report": job.result.as_ref().and_then(|result| result.report.as_ref()),
    })
}

#[cfg(test)]
mod tests;
