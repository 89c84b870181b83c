//! The checkpoint: jobs, passes, shards, leases, cursors and counts, so that a crash costs seconds.
//!
//! Three layers, each knowing only the one below:
//! - [`ledger`] is what workers and the coordinator call: typed, with leases that are consumed when they end;
//! - [`transition`] holds every rule, as pure functions from a record and an event to the next record;
//! - [`backend`] stores bytes and offers one atomic compare-and-swap over a few records. [`mod@file`] keeps them in an
//!   embedded database, [`mod@redis`] on a server for a fleet, [`memory`] for the life of a process. Every back-end passes [`conformance`].
//!
//! The store is the truth, the checkpoint a hint: losing it costs a re-scan, never a wrong `completed`. Values are
//! absolute, never increments, so that whatever is sent twice counts once; a missing record is never made anew by a
//! transition.

pub mod backend;
pub mod conformance;
pub mod file;
pub mod ledger;
pub mod memory;
pub mod record;
pub mod redis;
pub mod transition;

pub use backend::{Backend, BackendError};
pub use file::FileBackend;
pub use ledger::{Commit, HeldLease, LeaseRefusal, Ledger, LedgerError, Signal, Submit, WORKER_GONE_AFTER};
pub use memory::MemoryBackend;
pub use redis::{RedisBackend, RedisConfig};
pub use transition::Refusal;
