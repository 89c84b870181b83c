//! `UpdateObjectEncryption`: the store seals the object's key anew; content, date and ETag stay.

use keyrotate_store::{Sse, Store};

use super::{Sent, Trouble, expected};
use crate::plan::Plan;

pub(super) async fn run(store: &dyn Store, plan: &Plan) -> Result<Sent, Trouble> {
    let Sse::Kms { key: Some(key), bucket_key, .. } = &plan.wanted else {
        return Err(Trouble::Changed("its target is not a KMS key".into()));
    };
    store.update_encryption(&plan.facts.at, &key.0, *bucket_key).await.map_err(Trouble::Writing)?;
    let mut expected = expected(plan);
    expected.etag = Some(plan.facts.etag.clone());
    expected.version.clone_from(&plan.facts.at.version);
    expected.date = Some(plan.facts.last_modified);
    Ok(Sent { expected, digest: None })
}
