//! Stores around a store.

pub mod counting;
pub mod fenced;
pub mod measured;
pub mod reading;
