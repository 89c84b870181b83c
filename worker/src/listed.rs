//! How many entries a shard's source has shown: the report says how many versions were looked at.

use keyrotate_proto::position::Position;

/// Entries by whether the cursor may still go back before them. A cursor that stands inside a key lets the next lease
/// list that key from its newest version again, so the key's entries count for good only when the cursor has left it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    behind: u64,
    key: String,
    of_key: u64,
}

impl Listed {
    /// Goes on at a cursor: `behind` stands in the shard's record, and so many entries of the cursor's key have a row,
    /// which is why the source leaves them out.
    #[must_use]
    pub(crate) fn open(behind: u64, cursor: &Position, with_row: u64) -> Self {
        Self { behind, key: cursor.key().unwrap_or_default().to_owned(), of_key: with_row }
    }

    /// Counts the next entry, by the position behind it.
    pub(crate) fn enter(&mut self, entry: &Position) {
        let key = entry.key().unwrap_or_default();
        if self.key != key {
            self.behind += std::mem::take(&mut self.of_key);
            key.clone_into(&mut self.key);
        }
        self.of_key += 1;
    }

    /// What a commit with that cursor says.
    #[must_use]
    pub(crate) fn at(&self, cursor: &Position) -> u64 {
        match cursor {
            Position::After(_, Some(_)) => self.behind,
            _ => self.behind + self.of_key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(key: &str, version: Option<&str>) -> Position {
        Position::After(key.into(), version.map(str::to_owned))
    }

    #[test]
    fn each_version_counts_once_wherever_leases_end() {
        let entries: Vec<_> = [("a", "2"), ("a", "1"), ("b", "3"), ("b", "2"), ("b", "1"), ("c", "1")]
            .map(|(key, version)| after(key, Some(version)))
            .into();
        for cut in 0..entries.len() {
            // Of the key that the first lease ends in, so many got a row and are left out by the next one's source.
            for with_row in 0..3 {
                let mut first = Listed::default();
                entries[..cut].iter().for_each(|entry| first.enter(entry));
                let Some(cursor) = entries[..cut].last() else { continue };
                let seen_again: Vec<_> = entries.iter().filter(|entry| entry.key() >= cursor.key()).collect();
                let of_key = entries[..cut].iter().filter(|entry| entry.key() == cursor.key()).count();
                let with_row = with_row.min(of_key);
                let mut second = Listed::open(first.at(cursor), cursor, with_row as u64);
                seen_again[with_row..].iter().for_each(|entry| second.enter(entry));
                assert_eq!(second.at(&Position::End), 6, "cut behind {cut}, {with_row} with a row");
            }
        }
    }

    #[test]
    fn without_versions_a_key_is_over_with_its_entry() {
        let mut listed = Listed::open(7, &after("k", None), 0);
        listed.enter(&after("l", None));
        assert_eq!(listed.at(&after("l", None)), 8);
        assert_eq!(Listed::open(8, &after("l", None), 0).at(&Position::Before("m".into())), 8);
    }
}
