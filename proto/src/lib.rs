//! Words of keyrotate as types: what is written to a file, a queue, a checkpoint or a report, and read back.
//!
//! Depends on nothing else in the house. Everything serialised here carries a version from its first day.

pub mod api;
pub mod audit;
pub mod capability;
pub mod estimate;
pub mod forecast;
pub mod id;
pub mod intent;
pub mod job;
pub mod key;
pub mod outcome;
pub mod part;
pub mod position;
pub mod rates;
mod reason;
pub mod row;
pub mod say;
pub mod spec;
pub mod state;
pub mod ticket;
