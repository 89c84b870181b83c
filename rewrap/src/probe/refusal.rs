//! Why a start is refused: what was found, and how to mend it.

use keyrotate_kms::{KmsError, KmsErrorKind};
use keyrotate_proto::say::chain;
use keyrotate_proto::state::PauseReason;
use keyrotate_store::{ErrorKind, StoreError};

/// A start is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {mend}")]
pub struct Refusal {
    /// What was found.
    pub what: String,
    /// How to mend it.
    pub mend: String,
    /// Where waiting may mend it: the pause that it would be.
    pub pause: Option<PauseReason>,
}

impl Refusal {
    /// One that only a change of file, bucket or rights mends.
    pub(super) fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into(), pause: None }
    }

    /// What a failed call to the store means for a start.
    #[must_use]
    pub fn store(doing: &str, error: &StoreError) -> Self {
        let (mend, pause) = match error.kind {
            ErrorKind::NoSuchBucket | ErrorKind::NotFound => {
                ("check the bucket's name, and that the endpoint is the one it lies on", Some(PauseReason::BucketGone))
            }
            ErrorKind::WrongRegion => ("start again with the region that the store names", None),
            ErrorKind::Credentials => (
                "check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, or those of the instance)",
                Some(PauseReason::Credentials),
            ),
            ErrorKind::ClockSkew => ("set the clock of this machine or of the store", Some(PauseReason::ClockSkew)),
            ErrorKind::Denied => (right(error.operation), Some(PauseReason::Denied)),
            // The KMS answered, and refused; or there is none.
            ErrorKind::Kms if error.status.is_some_and(|status| matches!(status, 400..=499 | 501)) => {
                ("configure a KMS for the store, and let it use the key there", None)
            }
            ErrorKind::Kms => ("see to it that the store reaches its KMS", Some(PauseReason::KmsDown)),
            ErrorKind::Untrusted => (
                "set AWS_CA_BUNDLE to the certificate of the store or of its issuer, and use in AWS_ENDPOINT_URL a name \
                 that the certificate has; where the store sent an alert it wants a client certificate: `cert` and `key` \
                 of the store in the configuration",
                None,
            ),
            ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Server | ErrorKind::Cut | ErrorKind::Throttled => {
                ("check the endpoint (AWS_ENDPOINT_URL) and try again", Some(PauseReason::StoreDown))
            }
            ErrorKind::Nonsense => (
                "check that the endpoint (AWS_ENDPOINT_URL) is the store's own for S3, and that nothing between changes its \
                 answers; then start again",
                None,
            ),
            _ => ("check that the endpoint speaks S3", None),
        };
        Self { what: format!("{doing}: {error}"), mend: mend.into(), pause }
    }

    /// What a failed call to KES means for a start: only trouble that passes by itself is worth waiting for.
    pub(super) fn kms(error: &KmsError) -> Self {
        let pause = match error.kind {
            KmsErrorKind::KeyNotFound => Some(PauseReason::TargetKeyGone),
            kind => kind.is_transient().then_some(PauseReason::KmsDown),
        };
        let check = || "check MINIO_KMS_KES_ENDPOINT and that KES reaches its key store".to_owned();
        Self { what: chain(error), mend: error.remedy().unwrap_or_else(check), pause }
    }
}

/// How to get the right that a denied call wants.
fn right(operation: &str) -> &'static str {
    match operation {
        "GetBucketVersioning" => "grant s3:GetBucketVersioning on the bucket",
        "HeadBucket" | "ListObjectsV2" => "grant s3:ListBucket on the bucket, for the job's prefix and for .keyrotate/",
        "ListObjectVersions" => "grant s3:ListBucketVersions on the bucket, for the job's prefix and for .keyrotate/",
        "ListMultipartUploads" => "grant s3:ListBucketMultipartUploads on the bucket",
        "HeadObject" | "GetObject" => {
            "grant s3:GetObject and s3:GetObjectVersion, and kms:Decrypt for the object's key"
        }
        "GetObjectTagging" => "grant s3:GetObjectTagging and s3:GetObjectVersionTagging",
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => {
            "grant s3:PutObject and s3:PutObjectTagging, and kms:GenerateDataKey and kms:Decrypt for the target key"
        }
        "CopyObject" | "UploadPartCopy" => "grant s3:GetObject and s3:PutObject, and the use of both KMS keys",
        "UpdateObjectEncryption" => "grant s3:UpdateObjectEncryption and s3:PutObject",
        "DeleteObject" => "grant s3:DeleteObject and s3:DeleteObjectVersion",
        "AbortMultipartUpload" => "grant s3:AbortMultipartUpload",
        _ => "grant the right that the message names",
    }
}
