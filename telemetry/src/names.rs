//! Every metric's name, unit, labels and meaning. The registry is made of this table, and so is `docs/metrics.md`; a test
//! holds both against it.
//!
//! No label has values without a bound: they are listed here, or are names of stores, which the configuration lists, or
//! are the jobs that have not ended, whose series go when they end. Object keys, buckets and shards are never labels.

/// What a metric is called and what it says.
#[derive(Debug)]
pub struct Name {
    /// Its name, as Prometheus shows it.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Which roles show it.
    pub roles: &'static [Role],
    /// Its labels and their values.
    pub labels: &'static [(&'static str, Values)],
    /// One sentence, without its full stop.
    pub help: &'static str,
}

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

/// Who shows a metric. `keyrotate run` is both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `keyrotate coordinator`.
    Coordinator,
    /// `keyrotate worker`.
    Worker,
}

/// What bounds the values of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// These and no others: counters of all of them start at 0.
    These(&'static [&'static str]),
    /// Names of stores of the configuration, and `reports`.
    Stores,
    /// Jobs that have not ended: their series go with them.
    OpenJobs,
    /// One value in a process.
    One,
}

use Role::{Coordinator, Worker};
use Values::{One, OpenJobs, Stores, These};

/// By first word of an outcome.
pub const OUTCOME_WORDS: &[&str] = &["rotated", "current", "filtered", "skipped", "conflict", "failed"];
/// Methods of the store's trait.
pub const STORE_OPERATIONS: &[&str] = &[
    "list",
    "head",
    "get",
    "tags",
    "acl",
    "put",
    "copy",
    "update-encryption",
    "create-upload",
    "upload-part-copy",
    "upload-part",
    "parts",
    "complete-upload",
    "abort-upload",
    "uploads",
    "delete",
    "bucket",
];
/// Kinds of errors of a store.
pub const STORE_ERROR_KINDS: &[&str] = &[
    "not-found",
    "no-such-bucket",
    "precondition",
    "throttled",
    "denied",
    "credentials",
    "wrong-region",
    "clock-skew",
    "kms-key-not-found",
    "kms",
    "customer-key",
    "archived",
    "locked",
    "not-implemented",
    "refused",
    "server",
    "timeout",
    "unreachable",
    "untrusted",
    "cut",
    "nonsense",
    "lease-over",
];
/// Calls to KES.
pub const KES_OPERATIONS: &[&str] = &["create", "generate", "encrypt", "decrypt", "list", "status"];
/// Kinds of errors of KES.
pub const KES_ERROR_KINDS: &[&str] = &[
    "key-exists",
    "key-not-found",
    "not-authentic",
    "not-allowed",
    "no-certificate",
    "refused",
    "not-implemented",
    "server",
    "timeout",
    "unreachable",
    "untrusted",
    "nonsense",
    "breaker-open",
];
const RESULTS: &[&str] = &["ok", "error"];
const PEERS: &[&str] = &["redis", "rabbitmq-publish", "rabbitmq-consume", "kes"];
const JOB_STATES: &[&str] =
    &["queued", "preparing", "awaiting-confirmation", "running", "verifying", "paused", "cancelling", "failing"];

const fn metric(
    kind: Kind,
    roles: &'static [Role],
    name: &'static str,
    labels: &'static [(&'static str, Values)],
    help: &'static str,
) -> Name {
    Name { name, kind, roles, labels, help }
}

macro_rules! names {
    ($($constant:ident = $kind:ident [$($role:ident),*] $name:literal {$($label:literal: $values:expr),*} $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Name =
            metric(Kind::$kind, &[$($role),*], $name, &[$(($label, $values)),*], $help);)*
        /// All of them, in the order of the documentation.
        pub const ALL: &[&Name] = &[$(&$constant),*];
    };
}

names! {
    BUILD_INFO = Gauge [Coordinator, Worker] "keyrotate_build_info" {"version": One, "role": One}
        "Always 1; says which keyrotate this is";
    CONNECTED = Gauge [Coordinator, Worker] "keyrotate_connected" {"to": These(PEERS)}
        "Whether the peer answers (1) or not (0); absent while nothing of this process has needed it";
    STORE_CONNECTED = Gauge [Coordinator, Worker] "keyrotate_store_connected" {"store": Stores}
        "Whether the store answered the last call in any way (1) or could not be reached (0)";
    RABBITMQ_BLOCKED = Gauge [Coordinator, Worker] "keyrotate_rabbitmq_blocked" {}
        "Whether RabbitMQ takes nothing more from us (1): an alarm about its memory or disk";
    STORE_CALL = Histogram [Coordinator, Worker] "keyrotate_store_call_seconds"
        {"store": Stores, "operation": These(STORE_OPERATIONS), "result": These(RESULTS)}
        "Duration of each try of a call to a store; `error` is any answer but success, also a 404 or 412 that was expected";
    STORE_ERRORS = Counter [Coordinator, Worker] "keyrotate_store_errors_total"
        {"store": Stores, "kind": These(STORE_ERROR_KINDS)}
        "Tries of calls to a store that did not succeed, by what the answer means";
    KES_CALL = Histogram [Coordinator, Worker] "keyrotate_kes_call_seconds"
        {"operation": These(KES_OPERATIONS), "result": These(RESULTS)}
        "Duration of each try of a call to KES";
    KES_ERRORS = Counter [Coordinator, Worker] "keyrotate_kes_errors_total" {"kind": These(KES_ERROR_KINDS)}
        "Tries of calls to KES that did not succeed, by what the answer means";
    REDIS_CALL = Histogram [Coordinator, Worker] "keyrotate_redis_call_seconds"
        {"operation": These(&["read", "swap", "scan"]), "result": These(RESULTS)}
        "Duration of calls to the checkpoint in Redis";
    RETRIES = Counter [Coordinator, Worker] "keyrotate_retries_total" {"target": These(&["store", "kes"])}
        "Tries of a call beyond its first";
    SPANS_LOST = Counter [Coordinator, Worker] "keyrotate_spans_lost_total" {}
        "Spans that the collector of traces did not take; those that found the queue to it full are not counted";
    OBJECTS = Counter [Worker] "keyrotate_objects_total" {"outcome": These(OUTCOME_WORDS)}
        "Object versions with an outcome; those of a window that was lost are counted again by whoever takes it over";
    VERIFIED = Counter [Worker] "keyrotate_verified_total" {}
        "Object versions that `verifying` found as their row says";
    ROTATED_BYTES = Counter [Worker] "keyrotate_rotated_bytes_total" {}
        "Sizes of rotated object versions";
    PERMITS = Gauge [Worker] "keyrotate_permits" {}
        "Calls to stores that may be under way at a time";
    PERMITS_IN_USE = Gauge [Worker] "keyrotate_permits_in_use" {}
        "Calls to stores that are under way";
    SLOTS = Gauge [Worker] "keyrotate_slots" {}
        "Slices that this worker works on at a time, over all its stores";
    LEASES = Gauge [Worker] "keyrotate_leases" {}
        "Shards that this worker works on right now";
    LEASES_GIVEN = Counter [Worker] "keyrotate_leases_given_total" {}
        "Shards that this worker got";
    LEASE_REFUSALS = Counter [Worker] "keyrotate_lease_refusals_total"
        {"why": These(&["over", "held", "not-now", "foreign", "misread", "out-of-scope", "lost", "unreachable"])}
        "Tickets whose shard was not given: it is over, held by somebody, not wanted now, of another spec, of a spec that reads otherwise here, of keys outside the prefix, unknown to the checkpoint, or the checkpoint did not answer";
    LEASES_LOST = Counter [Worker] "keyrotate_leases_lost_total" {"why": These(&["fenced", "expired", "unreachable"])}
        "Slices whose work since the last commit was dropped: somebody else holds the shard, the lease ran out, or the checkpoint did not answer";
    SLICES = Counter [Worker] "keyrotate_slices_total"
        {"end": These(&["through", "stopped", "halted", "source", "report", "lease-over", "lost"])}
        "Slices of walk, retry and verify passes, by what ended them";
    TICKETS_TAKEN = Counter [Worker] "keyrotate_tickets_taken_total" {}
        "Tickets that came from the queue";
    REDELIVERIES = Counter [Worker] "keyrotate_redeliveries_total" {}
        "Those of them that were in another worker's hand before";
    TICKETS_REJECTED = Counter [Worker] "keyrotate_tickets_rejected_total" {}
        "Messages that this worker sent to the dead letters";
    LEADER = Gauge [Coordinator] "keyrotate_leader" {}
        "Whether this coordinator leads (1); only the leader shows the gauges below";
    JOBS = Gauge [Coordinator] "keyrotate_jobs" {"state": These(JOB_STATES)}
        "Jobs that have not ended, by state";
    WORKERS = Gauge [Coordinator] "keyrotate_workers" {"store": Stores}
        "Workers that live and serve the store";
    WORKER_SLOTS = Gauge [Coordinator] "keyrotate_worker_slots" {"store": Stores}
        "Their slots";
    TICKETS_OUT = Gauge [Coordinator] "keyrotate_tickets_out" {"store": Stores}
        "Tickets that were published and whose shard nobody has taken yet";
    TICKETS_PUBLISHED = Counter [Coordinator] "keyrotate_tickets_published_total"
        {"result": These(&["confirmed", "full", "unroutable", "unavailable"])}
        "Tickets sent, by the broker's answer";
    SHARDS_LEASED = Gauge [Coordinator] "keyrotate_shards_leased" {"store": Stores}
        "Shards that workers hold";
    SHARDS_WAITING = Gauge [Coordinator] "keyrotate_shards_waiting" {"store": Stores}
        "Shards that could be worked on and that nobody holds";
    OLDEST_WAITING = Gauge [Coordinator] "keyrotate_oldest_waiting_shard_seconds" {"store": Stores}
        "How long the shard that waits longest has been seen to wait by this leader; 0 where none waits";
    DEAD_LETTERS = Gauge [Coordinator] "keyrotate_dead_letters" {}
        "Messages that lie in the dead letters, as the broker counts them; looked at each half minute";
    JOB_OBJECTS = Gauge [Coordinator] "keyrotate_job_objects" {"job": OpenJobs, "outcome": These(OUTCOME_WORDS)}
        "Committed outcomes of an open job, each version once; refreshed every few seconds";
    JOB_BYTES = Gauge [Coordinator] "keyrotate_job_rotated_bytes" {"job": OpenJobs}
        "Committed sizes of rotated versions of an open job";
    JOB_SHARDS = Gauge [Coordinator] "keyrotate_job_shards"
        {"job": OpenJobs, "state": These(&["waiting", "leased", "over"])}
        "Shards of an open job's open passes";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for name in ALL {
            let shown = name.name;
            assert!(shown.starts_with("keyrotate_"), "{shown}");
            assert!(shown.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{shown}");
            assert_eq!(name.kind == Kind::Counter, shown.ends_with("_total"), "{shown}");
            assert!(name.kind != Kind::Histogram || shown.ends_with("_seconds"), "{shown}");
            assert!(!name.help.ends_with('.') && !name.roles.is_empty(), "{shown}");
            assert_eq!(ALL.iter().filter(|other| other.name == shown).count(), 1, "{shown}");
        }
    }
}
