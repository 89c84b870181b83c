//! The HTTP face of the store model.
