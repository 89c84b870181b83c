//! What happens to one object: facts, a pure decision, a strategy, the read-back, an outcome.
//!
//! Nothing here knows of passes, leases or windows. A [`Rewrapper`] looks at one listed entry and either settles it
//! or plans a write; it makes the write; and it reads back what was written. What says nothing about the object is
//! never its outcome but a [`Halt`].

mod bodies;
pub mod choose;
mod classify;
pub mod decide;
mod facts;
mod gate;
mod halt;
mod plan;
pub mod probe;
mod readback;
mod rewrapper;
mod strategy;
#[cfg(test)]
mod testing;

pub use classify::halt_of;
pub use facts::{Facts, Shown, kind_of};
pub use halt::Halt;
pub use plan::{Interrupted, Look, Plan, Settled, Unread};
pub use rewrapper::{Fate, Foretold, Rewrapper, Rules, TakenOver};
pub use strategy::PART;
