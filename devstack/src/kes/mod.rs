//! KES: the key service, as a library and behind HTTPS.
//!
//! [`KesModel`] holds the keys and answers the [`keyrotate_kms::Kms`] trait without sockets. [`seal`] is the ciphertext
//! format of a real KES, [`policy`] who may call what.

pub mod model;
pub mod policy;
pub mod seal;
mod shelf;

pub use model::{Failure, KesModel};
pub use policy::Policy;
