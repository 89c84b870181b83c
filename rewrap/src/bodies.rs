//! `verifyBodies`: a share of the bodies is hashed before and after the write.

use std::sync::atomic::{AtomicU32, Ordering};

use futures::StreamExt;
use keyrotate_env::Env;
use keyrotate_proto::outcome::Strategy;
use keyrotate_store::{ErrorKind, GetRequest, HeadRequest, ObjectAt, Store, StoreError};
use sha2::{Digest as _, Sha256};

use crate::facts::is_marker;
use crate::rewrapper::Rules;
use crate::strategy::Digest;

/// The least number of bodies per strategy.
const LEAST: u32 = 100;

/// Chooses whose bodies are hashed.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    taken: [AtomicU32; Strategy::ALL.len()],
}

impl Sample {
    /// Whether this object's body is hashed before and after: the first hundred of each strategy, then the job's
    /// share; none where the body may not pass.
    pub(crate) fn takes(&self, rules: &Rules, env: &Env, strategy: Strategy, size: u64) -> bool {
        let options = &rules.spec.options;
        if options.verify_bodies <= 0.0 || !options.body_transit.allows(size) {
            return false;
        }
        let Some(taken) = Strategy::ALL.iter().position(|s| *s == strategy).and_then(|n| self.taken.get(n)) else {
            return false;
        };
        taken.fetch_add(1, Ordering::Relaxed) < LEAST || env.random_fraction() < options.verify_bodies
    }
}

/// SHA-256 of an object's body, streamed; only of the object with that ETag.
pub(crate) async fn digest(store: &dyn Store, at: &ObjectAt, etag: &str) -> Result<Digest, StoreError> {
    let if_match = (!is_marker(&at.key)).then(|| etag.to_owned());
    let (_, body) = store.get(GetRequest { if_match, ..GetRequest::of(at) }).await?;
    let mut left = body.len();
    let mut hash = Sha256::new();
    let mut stream = body.into_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        left = left.saturating_sub(chunk.len() as u64);
        hash.update(&chunk);
    }
    // A GET of a key that ends in `/` takes no condition.
    if is_marker(&at.key) && store.head(HeadRequest::of(at)).await?.etag != etag {
        return Err(StoreError::new("GetObject", ErrorKind::Precondition, "it changed while its body was read"));
    }
    // A body that was cut is none that differs.
    match left {
        0 => Ok(hash.finalize().into()),
        left => Err(StoreError::new("GetObject", ErrorKind::Cut, format!("{left} bytes of the body did not come"))),
    }
}
