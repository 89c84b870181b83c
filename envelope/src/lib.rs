//! Client-side envelopes: what the Amazon S3 Encryption Client puts beside an object that it encrypted before the upload.
//!
//! The body is encrypted with a *data key* of its own, and the data key, encrypted with a *wrapping key*, lies in the object's
//! metadata or in an *instruction file* beside it. To rotate is to open the data key with the old wrapping key and to close it
//! with the new one; the body stays as it is, and nobody reads it.
//!
//! Pure: no store, no clock. [`Envelope`] reads and changes what is stored, [`formulas`] has every derivation and byte layout,
//! [`secret`] the keys in memory. Formats: the specification of the client (`s3-encryption/` of
//! `awslabs/aws-encryption-sdk-specification`), and what the clients for Java, Ruby, Go and Python do.

mod description;
mod detect;
mod fields;
pub mod formulas;
pub mod keyring;
mod malformed;
mod rewrap;
pub mod secret;

pub use description::Description;
pub use detect::{Content, Envelope, Found, Place, Split, Version, Wrap, WrappedKey, file_of};
pub use fields::Fields;
pub use malformed::Malformed;
pub use rewrap::{Opened, Target, Unopened, open, rewrap};
