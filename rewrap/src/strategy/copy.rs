//! CopyObject of the object onto itself: the server takes body, metadata and tags along, guarded on both sides.

use keyrotate_store::{CopyRequest, Directive, Store};

use super::{Sent, Trouble, condition, expected};
use crate::plan::Plan;

pub(super) async fn run(store: &dyn Store, plan: &Plan, guard: Option<&str>) -> Result<Sent, Trouble> {
    let facts = &plan.facts;
    let request = CopyRequest {
        source: facts.at.clone(),
        source_if_match: Some(facts.guard().to_owned()),
        to: facts.at.key.clone(),
        guard: condition(facts.guard(), guard),
        sse: plan.wanted.clone(),
        directive: Directive::Copy,
        storage_class: facts.storage_class.clone(),
        lock: plan.lock.clone(),
        // COPY does not take this one along.
        website_redirect: facts.shown.as_ref().and_then(|s| s.headers.website_redirect.clone()),
    };
    let written = store.copy(request).await.map_err(Trouble::Writing)?;
    let mut expected = expected(plan);
    expected.etag = written.etag;
    expected.version = written.version;
    Ok(Sent { expected, digest: None })
}
