//! The one place that says whether a store's error is an outcome of an object or says nothing about it.

use keyrotate_proto::outcome::{FailReason, Outcome, SkipReason};
use keyrotate_proto::state::PauseReason;
use keyrotate_store::{ErrorKind, StoreError};

use crate::halt::Halt;

/// What an error means.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// It says nothing about the object.
    Halt(Halt),
    /// It is the object's outcome.
    Outcome(Outcome),
    /// The object is not what it was when it was looked at.
    Changed,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Reading the object's facts or body.
    Reading,
    /// Writing it under the target key.
    Writing,
}

/// What an error of a call about one object means.
///
/// That every object is denied, or every one times out, is a judgement over many of them, which a worker makes.
pub(crate) fn classify(error: &StoreError, doing: Doing) -> Meaning {
    let failed = |reason| Meaning::Outcome(Outcome::Failed(reason));
    let pause = |reason| Meaning::Halt(Halt::Pause { reason, detail: error.to_string() });
    // The version that was named is a delete marker by now: a suspended bucket puts one in the place of `null`.
    if error.status == Some(405) && error.kind == ErrorKind::Refused {
        return match doing {
            Doing::Reading => Meaning::Outcome(Outcome::Skipped(SkipReason::Gone)),
            Doing::Writing => Meaning::Changed,
        };
    }
    match (error.kind, doing) {
        (ErrorKind::NotFound, Doing::Reading) => Meaning::Outcome(Outcome::Skipped(SkipReason::Gone)),
        (ErrorKind::NotFound | ErrorKind::Precondition | ErrorKind::CustomerKey | ErrorKind::Locked, _) => {
            Meaning::Changed
        }
        (ErrorKind::NoSuchBucket | ErrorKind::WrongRegion, _) => pause(PauseReason::BucketGone),
        (ErrorKind::Credentials, _) => pause(PauseReason::Credentials),
        (ErrorKind::ClockSkew, _) => pause(PauseReason::ClockSkew),
        (ErrorKind::Throttled | ErrorKind::Unreachable | ErrorKind::Untrusted, _) => pause(PauseReason::StoreDown),
        (ErrorKind::Kms, _) => pause(PauseReason::KmsDown),
        (ErrorKind::KmsKeyNotFound, Doing::Writing) => pause(PauseReason::TargetKeyGone),
        (ErrorKind::KmsKeyNotFound, Doing::Reading) => failed(FailReason::KeyGone),
        (ErrorKind::Archived, _) => Meaning::Outcome(Outcome::Skipped(SkipReason::Archived)),
        (ErrorKind::Denied, _) => failed(FailReason::Denied),
        (ErrorKind::Timeout, _) => failed(FailReason::Timeout),
        (ErrorKind::Nonsense, _) => failed(FailReason::Unreadable),
        (ErrorKind::Server | ErrorKind::Cut | ErrorKind::NotImplemented | ErrorKind::Refused, _) => {
            failed(FailReason::Store)
        }
        (ErrorKind::LeaseOver, _) => Meaning::Halt(Halt::LeaseOver),
    }
}

/// What a failed listing means for the job; `None` where it says nothing about the job either, but only that this
/// stretch of keys could not be listed now.
#[must_use]
pub fn halt_of(error: &StoreError) -> Option<Halt> {
    let passing = matches!(
        error.kind,
        ErrorKind::Timeout | ErrorKind::Server | ErrorKind::Cut | ErrorKind::Nonsense | ErrorKind::Refused
    );
    (!passing).then(|| halt(error))
}

/// What an error means where no object is concerned: of a listing, of the bucket.
pub(crate) fn halt(error: &StoreError) -> Halt {
    let reason = match error.kind {
        ErrorKind::NoSuchBucket | ErrorKind::NotFound | ErrorKind::WrongRegion => PauseReason::BucketGone,
        ErrorKind::Credentials => PauseReason::Credentials,
        ErrorKind::ClockSkew => PauseReason::ClockSkew,
        ErrorKind::Denied => PauseReason::Denied,
        ErrorKind::Kms => PauseReason::KmsDown,
        ErrorKind::KmsKeyNotFound => PauseReason::TargetKeyGone,
        ErrorKind::LeaseOver => return Halt::LeaseOver,
        _ => PauseReason::StoreDown,
    };
    Halt::Pause { reason, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(kind: ErrorKind, doing: Doing) -> String {
        match classify(&StoreError::new("PutObject", kind, "m"), doing) {
            Meaning::Halt(Halt::Pause { reason, .. }) => format!("pause/{}", reason.as_str()),
            Meaning::Halt(Halt::Stop { reason, .. }) => format!("stop/{}", reason.as_str()),
            Meaning::Halt(Halt::LeaseOver) => "lease-over".into(),
            Meaning::Outcome(o) => format!("{}/{}", o.word(), o.reason()),
            Meaning::Changed => "changed".into(),
        }
    }

    #[test]
    fn every_kind_has_its_meaning() {
        let table = [
            (ErrorKind::NotFound, "skipped/gone", "changed"),
            (ErrorKind::NoSuchBucket, "pause/bucket-gone", "pause/bucket-gone"),
            (ErrorKind::WrongRegion, "pause/bucket-gone", "pause/bucket-gone"),
            (ErrorKind::Precondition, "changed", "changed"),
            (ErrorKind::Throttled, "pause/store-down", "pause/store-down"),
            (ErrorKind::Denied, "failed/denied", "failed/denied"),
            (ErrorKind::Credentials, "pause/credentials", "pause/credentials"),
            (ErrorKind::ClockSkew, "pause/clock-skew", "pause/clock-skew"),
            (ErrorKind::KmsKeyNotFound, "failed/key-gone", "pause/target-key-gone"),
            (ErrorKind::Kms, "pause/kms-down", "pause/kms-down"),
            (ErrorKind::CustomerKey, "changed", "changed"),
            (ErrorKind::Archived, "skipped/archived", "skipped/archived"),
            (ErrorKind::Locked, "changed", "changed"),
            (ErrorKind::NotImplemented, "failed/store", "failed/store"),
            (ErrorKind::Refused, "failed/store", "failed/store"),
            (ErrorKind::Server, "failed/store", "failed/store"),
            (ErrorKind::Timeout, "failed/timeout", "failed/timeout"),
            (ErrorKind::Unreachable, "pause/store-down", "pause/store-down"),
            (ErrorKind::Untrusted, "pause/store-down", "pause/store-down"),
            (ErrorKind::Cut, "failed/store", "failed/store"),
            (ErrorKind::Nonsense, "failed/unreadable", "failed/unreadable"),
            (ErrorKind::LeaseOver, "lease-over", "lease-over"),
        ];
        for (kind, reading, writing) in table {
            assert_eq!(word(kind, Doing::Reading), reading, "{kind:?} while reading");
            assert_eq!(word(kind, Doing::Writing), writing, "{kind:?} while writing");
        }
    }
}
