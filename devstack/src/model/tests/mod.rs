//! Tests of the store model.
