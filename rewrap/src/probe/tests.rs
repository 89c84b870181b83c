//! Preflight and proofs on the store model.
