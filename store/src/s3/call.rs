//! What we change about a request of the SDK before it is signed, and what we keep of its answer.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::http::Headers as HttpHeaders;

use super::encode::percent;

/// Headers of ours, in the order they are set.
pub(super) type Lines = Vec<(String, String)>;

type BoxError = Box<dyn Error + Send + Sync>;

/// Changes one request and taps its answer. Headers and query are set before the signature, so that it covers them.
#[derive(Debug, Default)]
pub(super) struct Shape {
    headers: Lines,
    query: Vec<(&'static str, String)>,
    without: Option<&'static str>,
    headers_to: Option<Tap<HttpHeaders>>,
    body_to: Option<(Tap<SdkBody>, &'static str)>,
}

impl Shape {
    pub(super) fn of(headers: Lines) -> Self {
        Self { headers, ..Self::default() }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn query(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_owned())));
        self
    }

    /// Drops a header that the SDK adds on its own, unless it is among ours.
    pub(super) fn without(mut self, name: &'static str) -> Self {
        self.without = Some(name);
        self
    }

    /// Keeps the headers of the answer.
    pub(super) fn keep_headers(mut self, tap: &Tap<HttpHeaders>) -> Self {
        self.headers_to = Some(tap.clone());
        self
    }

    /// Takes the body of a good answer away from the SDK, which gets `instead` to parse.
    pub(super) fn take_body(mut self, tap: &Tap<SdkBody>, instead: &'static str) -> Self {
        self.body_to = Some((tap.clone(), instead));
        self
    }

    fn apply(&self, request: &mut HttpRequest) -> Result<(), BoxError> {
        if let Some(name) = self.without {
            request.headers_mut().remove(name);
        }
        for (name, value) in &self.headers {
            let set = request.headers_mut().try_insert(name.to_ascii_lowercase(), value.clone());
            set.map_err(|_| Unsendable(name.clone()))?;
        }
        if self.query.is_empty() {
            return Ok(());
        }
        let mut uri = request.uri().to_owned();
        for (name, value) in &self.query {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(&format!("{name}={}", percent(value, "")));
        }
        request.set_uri(uri)?;
        Ok(())
    }
}

impl Intercept for Shape {
    fn name(&self) -> &'static str {
        "keyrotate"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.apply(context.request_mut())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        if let Some(tap) = &self.headers_to {
            tap.put(answer.headers().clone());
        }
        if let Some((tap, instead)) = self.body_to.as_ref().filter(|_| answer.status().is_success()) {
            tap.put(std::mem::replace(answer.body_mut(), SdkBody::from(*instead)));
        }
        Ok(())
    }
}

/// A place where an interceptor leaves something for who made the call.
pub(super) struct Tap<T>(Arc<Mutex<Option<T>>>);

impl<T> Tap<T> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }
}

impl<T> Clone for Tap<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Tap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

/// A header that HTTP cannot carry.
#[derive(Debug, thiserror::Error)]
#[error("the value of the header {0} cannot be sent")]
pub(super) struct Unsendable(String);
