//! Refusals in the words of the stores.

use keyrotate_kms::{KmsError, KmsErrorKind};
use keyrotate_store::{ErrorKind, StoreError};

use super::Mode;

pub(super) fn no_such_bucket(op: &'static str) -> StoreError {
    let message = "The specified bucket does not exist";
    StoreError::answered(op, ErrorKind::NoSuchBucket, 404, "NoSuchBucket", message)
}

pub(super) fn no_such_key(op: &'static str) -> StoreError {
    StoreError::answered(op, ErrorKind::NotFound, 404, "NoSuchKey", "The specified key does not exist.")
}

pub(super) fn no_such_version(op: &'static str) -> StoreError {
    let message = "The specified version does not exist.";
    StoreError::answered(op, ErrorKind::NotFound, 404, "NoSuchVersion", message)
}

pub(super) fn no_such_upload(op: &'static str) -> StoreError {
    let message = "The specified multipart upload does not exist.";
    StoreError::answered(op, ErrorKind::NotFound, 404, "NoSuchUpload", message)
}

pub(super) fn delete_marker(op: &'static str) -> StoreError {
    let message = "The specified method is not allowed against this resource.";
    StoreError::answered(op, ErrorKind::Refused, 405, "MethodNotAllowed", message)
}

pub(super) fn precondition(op: &'static str) -> StoreError {
    let message = "At least one of the pre-conditions you specified did not hold";
    StoreError::answered(op, ErrorKind::Precondition, 412, "PreconditionFailed", message)
}

pub(super) fn customer_key(op: &'static str) -> StoreError {
    let message = "The object was stored using a form of Server Side Encryption. \
                   The correct parameters must be provided to retrieve the object.";
    StoreError::answered(op, ErrorKind::CustomerKey, 400, "InvalidRequest", message)
}

pub(super) fn archived(op: &'static str) -> StoreError {
    let message = "The operation is not valid for the object's storage class";
    StoreError::answered(op, ErrorKind::Archived, 403, "InvalidObjectState", message)
}

/// Object lock forbids it; MinIO says so with 400, the others with 403.
pub(super) fn locked(op: &'static str, mode: &Mode) -> StoreError {
    if mode.in_place {
        let message = "Object is WORM protected and cannot be overwritten";
        return StoreError::answered(op, ErrorKind::Locked, 400, "ObjectLocked", message);
    }
    let message = "Access Denied because object protected by object lock.";
    StoreError::answered(op, ErrorKind::Locked, 403, "AccessDenied", message)
}

pub(super) fn refused(op: &'static str, code: &str, message: &str) -> StoreError {
    StoreError::answered(op, ErrorKind::Refused, 400, code, message)
}

pub(super) fn not_implemented(op: &'static str) -> StoreError {
    let message = "A header you provided implies functionality that is not implemented";
    StoreError::answered(op, ErrorKind::NotImplemented, 501, "NotImplemented", message)
}

/// The store itself broke: its folder, or a body that does not authenticate.
pub(super) fn internal(op: &'static str, message: &str) -> StoreError {
    StoreError::answered(op, ErrorKind::Server, 500, "InternalError", message)
}

/// What the store says when its KMS refused.
pub(super) fn kms(op: &'static str, mode: &Mode, error: KmsError) -> StoreError {
    let (kind, status, code) = match (mode.name, error.kind) {
        ("minio", KmsErrorKind::KeyNotFound) => (ErrorKind::KmsKeyNotFound, 404, "kms:KeyNotFound"),
        ("minio", KmsErrorKind::NotAuthentic) => (ErrorKind::Kms, 400, "kms:InvalidCiphertextException"),
        ("minio", KmsErrorKind::NotAllowed) => (ErrorKind::Kms, 403, "kms:NotAuthorized"),
        ("rgw", KmsErrorKind::KeyNotFound) => (ErrorKind::Refused, 400, "InvalidArgument"),
        (_, KmsErrorKind::KeyNotFound) => (ErrorKind::KmsKeyNotFound, 400, "KMS.NotFoundException"),
        (_, KmsErrorKind::NotAuthentic) => (ErrorKind::Kms, 400, "KMS.InvalidCiphertextException"),
        (_, KmsErrorKind::NotAllowed) => (ErrorKind::Denied, 403, "AccessDenied"),
        _ => (ErrorKind::Kms, 503, "KMS.InternalException"),
    };
    let source: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
    StoreError { source: Some(source), ..StoreError::answered(op, kind, status, code, "the KMS refused") }
}
