//! KES: the key service, as a library and behind HTTPS.
//!
//! [`KesModel`] holds the keys and answers the [`keyrotate_kms::Kms`] trait without sockets. [`KesServer`] is its HTTPS
//! face, for clients of the real one. [`seal`] is the ciphertext format of a real KES, [`policy`] who may call what.

mod api;
mod body;
pub mod model;
pub mod policy;
mod route;
pub mod seal;
pub mod server;
mod shelf;
mod tls;

pub use model::{Failure, KesModel};
pub use policy::{Grant, Policy};
pub use server::{ApiKey, KesServer, KesServerConfig};
pub use tls::ServerCert;
