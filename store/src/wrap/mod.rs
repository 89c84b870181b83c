//! Stores around a store.

pub mod counting;
