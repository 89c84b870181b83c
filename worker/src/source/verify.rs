//! The scope listed again, held against the last rows: what the report lacks or what differs is looked at.

use async_trait::async_trait;
use jiff::Timestamp;

use keyrotate_proto::outcome::{Outcome, SkipReason};
use keyrotate_proto::position::Position;
use keyrotate_proto::row::Row;
use keyrotate_report::rows::{KeyRows, LastRow, LastRows};
use keyrotate_store::{Entry, ObjectAt, Sse};

use super::{Item, Listing, Source, SourceError, Task};

/// A listing merged with the last rows of the same range.
pub(crate) struct Verify {
    bucket: String,
    listing: Listing,
    rows: LastRows,
    at: Option<KeyRows>,
}

impl Verify {
    /// Both must cover the same range.
    #[must_use]
    pub(crate) fn new(bucket: String, listing: Listing, rows: LastRows) -> Self {
        Self { bucket, listing, rows, at: None }
    }

    /// The rows of exactly that key, if it has any. Keys are asked for in order.
    async fn rows_of(&mut self, key: &str) -> Result<&[LastRow], SourceError> {
        while self.at.as_ref().is_none_or(|rows| rows.key.as_str() < key) {
            self.at = self.rows.next_key().await?;
            if self.at.is_none() {
                return Ok(&[]);
            }
        }
        Ok(self.at.as_ref().filter(|rows| rows.key == key).map_or(&[], |rows| &rows.rows))
    }
}

#[async_trait]
impl Source for Verify {
    async fn page(&mut self) -> Result<Option<Vec<Item>>, SourceError> {
        let Some(entries) = self.listing.entries().await? else { return Ok(None) };
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            let after = Position::After(entry.key.clone(), entry.version.clone());
            let at = ObjectAt { bucket: self.bucket.clone(), key: entry.key.clone(), version: entry.version.clone() };
            let task = match held_against(&entry, self.rows_of(&entry.key).await?) {
                Verdict::Agrees => Task::Agrees,
                Verdict::Lacks => Task::Look(Box::new(entry)),
                Verdict::Differs(row) => Task::Doubt(at, Box::new(row.clone())),
            };
            items.push(Item { after, task });
        }
        Ok(Some(items))
    }
}

#[derive(Debug, PartialEq)]
enum Verdict<'a> {
    Agrees,
    Lacks,
    Differs(&'a Row),
}

/// Whether the listing shows what the rows of its key say. Of what a row calls gone it should show nothing.
fn held_against<'a>(entry: &Entry, rows: &'a [LastRow]) -> Verdict<'a> {
    let mut rows = rows.iter().map(|last| &last.row);
    if let Some(row) = rows.clone().find(|row| written_version(row) == entry.version.as_ref()) {
        let sse = entry.facts.as_deref().map(|facts| &facts.sse);
        let agrees = agrees(row, &entry.etag, entry.size, entry.last_modified, sse);
        let is_gone = row.outcome == Outcome::Skipped(SkipReason::Gone) && !entry.delete_marker;
        return if agrees && !is_gone { Verdict::Agrees } else { Verdict::Differs(row) };
    }
    if rows.any(|row| row.supersedes() && row.version == entry.version) { Verdict::Agrees } else { Verdict::Lacks }
}

/// The version that the row's last three columns speak of.
fn written_version(row: &Row) -> Option<&String> {
    row.version_after.as_ref().or(row.version.as_ref())
}

/// Whether what is shown of an object is what its row says; of its encryption only where that is shown.
pub(crate) fn agrees(row: &Row, etag: &str, size: u64, modified: Timestamp, sse: Option<&Sse>) -> bool {
    let same_content = etag == row.etag && size == row.size && modified.as_second() == row.last_modified.as_second();
    let sealed_right = matches!(row.outcome, Outcome::Rotated(_) | Outcome::Current);
    let shows_other_key = |sse: &Sse| sealed_right && !same_seal(&sse.seal(), row);
    same_content && !sse.is_some_and(shows_other_key)
}

fn same_seal(seen: &keyrotate_proto::row::Seal, row: &Row) -> bool {
    match (seen.kms_key(), row.after.kms_key()) {
        (Some(seen), Some(wanted)) => seen.same_key(wanted),
        (None, None) => *seen == row.after,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrotate_proto::id::PassId;
    use keyrotate_proto::key::KeyName;
    use keyrotate_proto::outcome::Evidence;
    use keyrotate_proto::row::Seal;
    use keyrotate_store::{EntryFacts, Headers};

    fn entry(version: Option<&str>, etag: &str) -> Entry {
        Entry {
            key: "k".into(),
            version: version.map(str::to_owned),
            latest: true,
            delete_marker: false,
            size: 3,
            etag: etag.into(),
            last_modified: Timestamp::from_millisecond(5_250).unwrap(),
            storage_class: None,
            newer: None,
            facts: None,
        }
    }

    fn row(before: Option<&str>, after: Option<&str>, etag: &str) -> Row {
        Row {
            key: "k".into(),
            version: before.map(str::to_owned),
            version_after: after.map(str::to_owned),
            size: 3,
            outcome: Outcome::Rotated(Evidence::Key),
            strategy: None,
            before: Seal::SseS3,
            after: Seal::SseKms(KeyName("new".into())),
            etag: etag.into(),
            last_modified: Timestamp::from_second(5).unwrap(),
            detail: String::new(),
            notes: [].into(),
        }
    }

    fn last<const N: usize>(rows: [Row; N]) -> Vec<LastRow> {
        rows.into_iter().map(|row| LastRow { pass: PassId(1), row }).collect()
    }

    #[test]
    fn what_agrees_what_differs_what_lacks() {
        let rows = last([row(Some("1"), Some("2"), "e"), row(Some("0"), None, "z")]);
        assert_eq!(held_against(&entry(Some("2"), "e"), &rows), Verdict::Agrees);
        assert_eq!(held_against(&entry(Some("1"), "old"), &rows), Verdict::Agrees, "superseded");
        assert_eq!(held_against(&entry(Some("2"), "x"), &rows), Verdict::Differs(&rows[0].row));
        assert_eq!(held_against(&entry(Some("0"), "z"), &rows), Verdict::Agrees);
        assert_eq!(held_against(&entry(Some("9"), "e"), &rows), Verdict::Lacks);
        assert_eq!(held_against(&entry(None, "e"), &last([row(None, None, "e")])), Verdict::Agrees);
        assert_eq!(held_against(&entry(None, "e"), &[]), Verdict::Lacks);
        let gone = last([Row { outcome: Outcome::Skipped(SkipReason::Gone), ..row(None, None, "e") }]);
        assert_eq!(held_against(&entry(None, "e"), &gone), Verdict::Differs(&gone[0].row), "listed, so not gone");
    }

    #[test]
    fn a_key_that_the_listing_shows_counts_too() {
        let rows = last([row(None, None, "e")]);
        let mut entry = entry(None, "e");
        let kms = |key: &str| Sse::Kms { key: Some(KeyName(key.into())), context: None, bucket_key: None };
        let facts = |sse| Some(Box::new(EntryFacts { sse, headers: Headers::default(), tags: Vec::new() }));
        entry.facts = facts(kms("arn:aws:kms:new"));
        assert_eq!(held_against(&entry, &rows), Verdict::Agrees);
        entry.facts = facts(kms("old"));
        assert_eq!(held_against(&entry, &rows), Verdict::Differs(&rows[0].row));
    }
}
