//! A request written down as it goes over the wire, signed and sent, and the answer as text.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{Config, ConfigBag, Intercept, ResponseChecksumValidation, RuntimeComponents};
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use serde::Deserialize;

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Method and place below the bucket: `PUT key?tagging`, `GET ?versions`.
    pub request: String,
    /// Its headers, besides those of the signature; `{bucket}` stands for the bucket's name.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(default)]
    pub body: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, one in a line, their names in small letters; an empty line; the body.
    pub text: String,
}

impl Raw {
    /// Sends it with the client's endpoint and credentials.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn send(&self, client: &Client, bucket: &str) -> Answer {
        let kept = Kept::default();
        // The SDK signs and sends; what it wanted to say, and what it makes of the answer, does not matter.
        let exact = Exact { raw: self.clone(), bucket: bucket.to_owned(), kept: Arc::clone(&kept) };
        // A checksum in the answer to a PUT is not that of the answer.
        let plain = Config::builder().response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let call = client.get_object().bucket(bucket).key("any").customize();
        let sent = call.config_override(plain).interceptor(exact).send().await;
        let answer = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((status, mut text, body)) = answer else {
            let why = sent.err().map(|e| DisplayErrorContext(e).to_string()).unwrap_or_default();
            panic!("no answer to `{}`: {why}", self.request);
        };
        let body = ByteStream::new(body).collect().await.expect("the answer's body can be read").into_bytes();
        let _never = write!(text, "\n{}", String::from_utf8_lossy(&body));
        Answer { status, text }
    }

    /// The method, and the URL of a request to a key of the bucket with this one's place instead.
    fn line(&self, url: &str, bucket: &str) -> Option<(&str, String)> {
        let (method, place) = self.request.split_once(' ')?;
        let base = &url[..url.find(&format!("/{bucket}/"))?];
        let slash = if place.starts_with('?') { "" } else { "/" };
        Some((method, format!("{base}/{bucket}{slash}{place}")))
    }
}

type Kept = Arc<Mutex<Option<(u16, String, SdkBody)>>>;
type BoxError = Box<dyn Error + Send + Sync>;

/// Replaces the SDK's request before it is signed, and takes its answer away.
#[derive(Debug)]
struct Exact {
    raw: Raw,
    bucket: String,
    kept: Kept,
}

impl Intercept for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let (method, url) = self.raw.line(request.uri(), &self.bucket).ok_or("a request is `METHOD place`")?;
        request.set_method(method)?;
        request.set_uri(url)?;
        request.headers_mut().remove("x-amz-checksum-mode");
        if method != "GET" {
            request.headers_mut().try_insert("content-length", self.raw.body.len().to_string())?;
        }
        for (name, value) in &self.raw.headers {
            let value = value.replace("{bucket}", &self.bucket);
            request.headers_mut().try_insert(name.to_ascii_lowercase(), value)?;
        }
        *request.body_mut() = SdkBody::from(self.raw.body.clone());
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        let mut text = String::new();
        for (name, value) in answer.headers() {
            writeln!(text, "{name}: {value}")?;
        }
        let body = std::mem::replace(answer.body_mut(), SdkBody::empty());
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((answer.status().as_u16(), text, body));
        Ok(())
    }
}
