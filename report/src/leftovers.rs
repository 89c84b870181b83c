//! The list that a `clean` pass leaves: uploads that it did not end, as pairs of key and upload id.

use std::collections::BTreeSet;

use crate::{ReportError, ReportStore};

const NAME: &str = "leftover-uploads.json";

/// Key and upload id.
pub type Named = (String, String);

/// Writes the list, in the place of an earlier one.
///
/// # Errors
/// When the store can't be written.
pub async fn write(store: &dyn ReportStore, left: &BTreeSet<Named>) -> Result<(), ReportError> {
    store.put(NAME, serde_json::to_vec(left).unwrap_or_default()).await
}

/// The list; an empty one where none was written.
///
/// # Errors
/// When the store can't be read.
pub async fn read(store: &dyn ReportStore) -> Result<Vec<Named>, ReportError> {
    match store.get(NAME).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(ReportError::NotFound(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
