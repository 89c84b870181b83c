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
    let bytes = serde_json::to_vec(left).map_err(|e| ReportError::damaged(NAME, e))?;
    store.put(NAME, bytes).await
}

/// The list; an empty one where none was written.
///
/// # Errors
/// When the store can't be read, or the list is damaged.
pub async fn read(store: &dyn ReportStore) -> Result<Vec<Named>, ReportError> {
    match store.get(NAME).await {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| ReportError::damaged(NAME, e)),
        Err(ReportError::NotFound(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;

    #[tokio::test]
    async fn a_list_is_read_back_and_a_damaged_one_is_not_taken_for_an_empty_one() {
        let store = store();
        assert_eq!(read(&*store).await.unwrap(), []);
        let left = BTreeSet::from([("k".to_owned(), "u".to_owned())]);
        write(&*store, &left).await.unwrap();
        assert_eq!(read(&*store).await.unwrap(), Vec::from_iter(left));
        store.put(NAME, b"[[\"k\"".to_vec()).await.unwrap();
        assert!(matches!(read(&*store).await, Err(ReportError::Damaged { .. })));
    }
}
