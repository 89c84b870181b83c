//! From what the SDK and the store say to an [`ErrorKind`]: the one place that knows error codes.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId as _;

use super::xml;
use crate::{ErrorKind, StoreError};

/// What an answer with an error says, by its code before its status.
pub(super) fn kind_of(status: u16, code: Option<&str>, message: &str) -> ErrorKind {
    code.and_then(|code| kind_of_code(code, message)).unwrap_or_else(|| kind_of_status(status, message))
}

fn kind_of_code(code: &str, message: &str) -> Option<ErrorKind> {
    Some(match code {
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "LimitExceededException"
        | "ServiceUnavailable"
        | "XMinioServerNotInitialized" => ErrorKind::Throttled,
        "NoSuchBucket" => ErrorKind::NoSuchBucket,
        "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" | "NotFound" | "NoSuchObject" => ErrorKind::NotFound,
        "PreconditionFailed" | "ConditionalRequestConflict" | "OperationAborted" => ErrorKind::Precondition,
        "RequestTimeTooSkewed" | "RequestInTheFuture" => ErrorKind::ClockSkew,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "TokenRefreshRequired"
        | "InvalidToken"
        | "InvalidTokenId"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidSecurity"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "NotSignedUp"
        | "AccountProblem"
        | "AuthorizationHeaderMalformed"
        | "MissingAuthenticationToken" => ErrorKind::Credentials,
        "InvalidObjectState" => ErrorKind::Archived,
        "ObjectLocked" => ErrorKind::Locked,
        "NotImplemented" | "XNotImplemented" | "UnsupportedOperation" => ErrorKind::NotImplemented,
        "RequestTimeout" => ErrorKind::Timeout,
        "InternalError" | "InternalFailure" | "InternalServerError" => ErrorKind::Server,
        _ => return kind_of_kms(code).or_else(|| kind_of_message(message)),
    })
}

/// Errors of the store's KMS, which each store names in its own way: `KMS.NotFoundException`, `kms:KeyNotFound`,
/// `XMinioKMSKeyNotFoundException`, ….
fn kind_of_kms(code: &str) -> Option<ErrorKind> {
    let code = code.to_ascii_lowercase();
    if !code.contains("kms") {
        return None;
    }
    let has = |part: &str| code.contains(part);
    Some(match () {
        () if has("throttl") || has("limitexceeded") => ErrorKind::Throttled,
        () if has("notfound") || has("disabled") || has("invalidstate") => ErrorKind::KmsKeyNotFound,
        () => ErrorKind::Kms,
    })
}

/// What only the message tells: stores answer SSE-C objects and locked ones with codes that mean much else.
fn kind_of_message(message: &str) -> Option<ErrorKind> {
    let message = message.to_ascii_lowercase();
    let has = |part: &str| message.contains(part);
    match () {
        () if has("form of server side encryption") => Some(ErrorKind::CustomerKey),
        () if has("worm protected") || has("protected by object lock") => Some(ErrorKind::Locked),
        () => None,
    }
}

fn kind_of_status(status: u16, message: &str) -> ErrorKind {
    if let Some(kind) = kind_of_message(message) {
        return kind;
    }
    match status {
        404 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::Precondition,
        429 | 503 => ErrorKind::Throttled,
        401 | 403 => ErrorKind::Denied,
        408 => ErrorKind::Timeout,
        405 | 501 => ErrorKind::NotImplemented,
        500.. => ErrorKind::Server,
        200..300 => ErrorKind::Nonsense,
        _ => ErrorKind::Refused,
    }
}

/// A [`StoreError`] from whatever a call of the SDK ended with.
pub(super) fn from_sdk<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let Some(answer) = error.raw_response() else {
        let kind = kind_without_answer(&error);
        return StoreError::new(operation, kind, innermost(&error));
    };
    let header = |name: &str| answer.headers().get(name).map(ToOwned::to_owned);
    let status = answer.status().as_u16();
    let delete_marker = header("x-amz-delete-marker").as_deref() == Some("true");
    let request_id = header("x-amz-request-id");
    let service = error.as_service_error();
    // MinIO says in headers what the answer to HEAD has no body for.
    let code = header("x-minio-error-code").or_else(|| {
        let known = service.and_then(ProvideErrorMetadata::code);
        // The SDK makes a code of its own where HEAD answers a bare 404.
        known.filter(|code| *code != "NotFound").map(ToOwned::to_owned)
    });
    let said = service.and_then(ProvideErrorMetadata::message).map(ToOwned::to_owned);
    let said = header("x-minio-error-desc").or(said);
    if let Some(region) = region_of(status, code.as_deref(), answer) {
        let message = format!("the bucket lies in the region `{region}`: set AWS_REGION={region}");
        return StoreError {
            operation,
            kind: ErrorKind::WrongRegion,
            status: Some(status),
            code,
            message,
            request_id,
            source: None,
        };
    }
    let is_web_page = code.is_none() && answer.body().bytes().is_some_and(xml::is_web_page);
    let kind = match &error {
        // What it says of an object, the store never said.
        _ if is_web_page && status < 500 && status != 429 => ErrorKind::Nonsense,
        SdkError::ResponseError(_) if (200..300).contains(&status) => kind_of_bad_answer(&error),
        _ if delete_marker && matches!(status, 404 | 405) => ErrorKind::NotFound,
        _ => kind_of(status, code.as_deref(), said.as_deref().unwrap_or_default()),
    };
    let request_id = request_id.or_else(|| service.and_then(|e| e.meta().request_id().map(ToOwned::to_owned)));
    let message = said.map(|said| said.trim_matches('"').to_owned()).unwrap_or_default();
    let message = match () {
        () if is_web_page => xml::WEB_PAGE.to_owned(),
        () if message.is_empty() && service.is_none() => innermost(&error),
        () => message,
    };
    // What the store said stands in code and message; what the SDK wraps around it only repeats that.
    StoreError { operation, kind, status: Some(status), code, message, request_id, source: None }
}

/// The region that an answer names instead of the one that the request was signed for: AWS redirects with a header, and
/// refuses a signature for another region with the right one in the error, as MinIO does.
fn region_of(status: u16, code: Option<&str>, answer: &HttpResponse) -> Option<String> {
    let redirected = matches!(status, 301 | 307 | 308);
    // HEAD says no code.
    let malformed = status == 400 && matches!(code, None | Some("AuthorizationHeaderMalformed"));
    if !redirected && !malformed {
        return None;
    }
    let in_body = || {
        let body = std::str::from_utf8(answer.body().bytes()?).ok()?;
        Some(body.split_once("<Region>")?.1.split_once("</Region>")?.0)
    };
    let region = answer.headers().get("x-amz-bucket-region").or_else(in_body)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!region.is_empty() && region.len() < 64 && region.chars().all(is_name)).then(|| region.to_owned())
}

/// A call that ended before any answer came.
fn kind_without_answer<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> ErrorKind
where
    SdkError<E, HttpResponse>: Error,
{
    if in_chain::<aws_credential_types::provider::error::CredentialsError>(error) {
        return ErrorKind::Credentials;
    }
    match error {
        SdkError::ConstructionFailure(_) => ErrorKind::Refused,
        SdkError::TimeoutError(_) => ErrorKind::Timeout,
        SdkError::DispatchFailure(failure) => {
            let connecting = find::<hyper_util_client::client::legacy::Error>(error).is_some_and(|e| e.is_connect());
            match () {
                () if find::<rustls::Error>(error).is_some_and(is_about_a_certificate) => ErrorKind::Untrusted,
                // Also a connection that took too long to make: nothing of the request was sent.
                () if connecting => ErrorKind::Unreachable,
                () if failure.is_timeout() => ErrorKind::Timeout,
                () if in_chain::<super::call::Unsendable>(error) => ErrorKind::Refused,
                () => ErrorKind::Cut,
            }
        }
        _ => ErrorKind::Nonsense,
    }
}

/// Ours does not trust the store's, or the store none or not the one that we show.
fn is_about_a_certificate(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as A;
    match error {
        rustls::Error::InvalidCertificate(_) => true,
        // 116 in TLS 1.3 and 40 in 1.2 where none was shown.
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            A::CertificateRequired
                | A::HandshakeFailure
                | A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateUnknown
                | A::CertificateExpired
                | A::CertificateRevoked
                | A::UnknownCA
                | A::AccessDenied
        ),
        _ => false,
    }
}

/// A good status whose answer could not be read: cut short, or no answer of S3.
fn kind_of_bad_answer(error: &(dyn Error + 'static)) -> ErrorKind {
    if in_chain::<std::io::Error>(error) { ErrorKind::Cut } else { ErrorKind::Nonsense }
}

/// A body that broke while it was read.
pub(super) fn from_body(operation: &'static str, error: impl Error + Send + Sync + 'static) -> StoreError {
    let message = innermost(&error);
    StoreError { source: Some(Box::new(error)), ..StoreError::new(operation, ErrorKind::Cut, message) }
}

fn in_chain<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    find::<T>(error).is_some()
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // `io::Error` hides what it wraps from `source`.
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => (**error).source(),
        }
    })
}

/// The text of the last cause: what really happened, without the layers around it.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let text = |error: &(dyn Error + 'static)| match error.downcast_ref::<StoreError>() {
        // A body of ours that broke: the operation is named once.
        Some(ours) => ours.message.clone(),
        None => error.to_string(),
    };
    chain(error).last().map(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the store's answer makes of a call.
    fn answered(status: u16, region: Option<&str>, code: Option<&str>, body: &str) -> StoreError {
        use aws_sdk_s3::error::ErrorMetadata;
        use aws_sdk_s3::operation::get_bucket_versioning::GetBucketVersioningError;
        use aws_sdk_s3::primitives::SdkBody;
        let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        if let Some(region) = region {
            answer.headers_mut().insert("x-amz-bucket-region", region.to_owned());
        }
        let said = ErrorMetadata::builder().message("The store's words");
        let meta = code.into_iter().fold(said, |said, code| said.code(code)).build();
        from_sdk("GetBucketVersioning", SdkError::service_error(GetBucketVersioningError::generic(meta), answer))
    }

    #[test]
    fn a_bucket_of_another_region_is_named_with_its_region() {
        let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region></Error>";
        let cases = [
            (301, Some("eu-central-1"), Some("PermanentRedirect"), ""),
            (301, Some("eu-central-1"), None, ""),
            (307, Some("eu-central-1"), Some("TemporaryRedirect"), ""),
            (400, None, Some("AuthorizationHeaderMalformed"), malformed),
            (400, Some("eu-central-1"), None, ""),
        ];
        for (status, region, code, body) in cases {
            let error = answered(status, region, code, body);
            assert_eq!(error.kind, ErrorKind::WrongRegion, "{status} {code:?}");
            assert!(error.to_string().contains("set AWS_REGION=eu-central-1"), "{error}");
        }
        // Every answer of AWS may carry the header: only these mean that it is another one.
        let denied = answered(403, Some("eu-central-1"), Some("AccessDenied"), "");
        assert_eq!(denied.kind, ErrorKind::Denied);
        let nowhere = answered(400, None, Some("AuthorizationHeaderMalformed"), "<Error/>");
        assert_eq!((nowhere.kind, nowhere.message.as_str()), (ErrorKind::Credentials, "The store's words"));
    }

    #[test]
    fn a_web_page_says_nothing_about_an_object() {
        let page = "\r\n<!doctype HTML><html><body>Not found";
        for (status, kind) in [(404, ErrorKind::Nonsense), (403, ErrorKind::Nonsense), (502, ErrorKind::Server)] {
            let error = answered(status, None, None, page);
            assert_eq!((error.kind, error.message.as_str()), (kind, xml::WEB_PAGE), "{status}");
        }
        assert_eq!(answered(503, None, None, page).kind, ErrorKind::Throttled);
        assert_eq!(answered(404, None, Some("NoSuchKey"), "<Error/>").kind, ErrorKind::NotFound);
    }

    #[test]
    fn the_code_comes_before_the_status() {
        let cases = [
            (400, "ThrottlingException", ErrorKind::Throttled),
            (400, "RequestLimitExceeded", ErrorKind::Throttled),
            (400, "KMS.ThrottlingException", ErrorKind::Throttled),
            (200, "SlowDown", ErrorKind::Throttled),
            (503, "SlowDown", ErrorKind::Throttled),
            (503, "SlowDownWrite", ErrorKind::Throttled),
            (404, "NoSuchBucket", ErrorKind::NoSuchBucket),
            (404, "NoSuchVersion", ErrorKind::NotFound),
            (409, "ConditionalRequestConflict", ErrorKind::Precondition),
            (400, "ExpiredToken", ErrorKind::Credentials),
            (403, "InvalidAccessKeyId", ErrorKind::Credentials),
            (403, "SignatureDoesNotMatch", ErrorKind::Credentials),
            (403, "RequestTimeTooSkewed", ErrorKind::ClockSkew),
            (403, "AccessDenied", ErrorKind::Denied),
            (403, "InvalidObjectState", ErrorKind::Archived),
            (400, "kms:KeyNotFound", ErrorKind::KmsKeyNotFound),
            (400, "KMS.NotFoundException", ErrorKind::KmsKeyNotFound),
            (400, "KMS.DisabledException", ErrorKind::KmsKeyNotFound),
            (400, "KMS.KMSInvalidStateException", ErrorKind::KmsKeyNotFound),
            (500, "KMS.InternalException", ErrorKind::Kms),
            (400, "KMSNotConfigured", ErrorKind::Kms),
            (501, "NotImplemented", ErrorKind::NotImplemented),
            (400, "RequestTimeout", ErrorKind::Timeout),
            (200, "InternalError", ErrorKind::Server),
            (400, "InvalidArgument", ErrorKind::Refused),
            (502, "SomethingNew", ErrorKind::Server),
            (400, "InvalidRequest", ErrorKind::Refused),
        ];
        for (status, code, kind) in cases {
            assert_eq!(kind_of(status, Some(code), ""), kind, "{status} {code}");
        }
    }

    #[test]
    fn without_a_code_the_status_and_the_message_decide() {
        let cases = [
            (404, ErrorKind::NotFound),
            (412, ErrorKind::Precondition),
            (429, ErrorKind::Throttled),
            (503, ErrorKind::Throttled),
            (403, ErrorKind::Denied),
            (400, ErrorKind::Refused),
            (301, ErrorKind::Refused),
            (500, ErrorKind::Server),
            (504, ErrorKind::Server),
            (200, ErrorKind::Nonsense),
        ];
        for (status, kind) in cases {
            assert_eq!(kind_of(status, None, ""), kind, "{status}");
        }
        let sse_c = "The object was stored using a form of Server Side Encryption. The correct parameters must be …";
        assert_eq!(kind_of(400, Some("InvalidRequest"), sse_c), ErrorKind::CustomerKey);
        let worm = "Object is WORM protected and cannot be overwritten";
        assert_eq!(kind_of(400, Some("MethodNotAllowed"), worm), ErrorKind::Locked);
        let lock = "Access Denied because object protected by object lock.";
        assert_eq!(kind_of(403, Some("AccessDenied"), lock), ErrorKind::Locked);
    }
}
