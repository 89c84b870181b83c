//! An S3 store and a KES in memory, for the demo and the tests. **Not for production**: keys lie in memory and on
//! disk unprotected, nobody reviewed it for that, and it forgets what it was not told to keep.
//!
//! [`model`] is the store: a library behind the [`keyrotate_store::Store`] trait that really encrypts. [`server`] is
//! its thin HTTP face. [`kes`] answers as a real KES does. [`stack`] starts them all.

pub mod kes;
pub mod mixed;
pub mod model;
pub mod server;
pub mod stack;
