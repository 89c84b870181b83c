//! Client-side envelopes as clients write them, as they should not be, and as any could be.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

mod malformed;
mod properties;
mod vectors;
mod world;
