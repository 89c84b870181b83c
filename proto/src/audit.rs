//! Who did what to a job: entries that are only ever added, each of which names the one before it by its hash, the first
//! the job's spec. Whoever changes one, or takes one out, breaks the chain behind it.
//!
//! Each is a file in the job's report store; `sha256sum` is all that it takes to check them by hand.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Version of [`Entry`] that this code writes.
pub const AUDIT_VERSION: u32 = 1;

/// What the names of all entries' files begin with.
pub const AUDIT: &str = "audit/";

/// Somebody did something to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub struct Entry {
    /// [`AUDIT_VERSION`] of the writer.
    pub version: u32,
    /// From 0, without a gap.
    pub number: u32,
    /// When, by the clock of the coordinator that was asked.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The name of his token; `local` where nobody needs one.
    pub who: String,
    /// What he asked for: `submit`, `confirm`, `pause`, `resume`, `cancel`, `limit`.
    pub what: String,
    /// What else he said with it; empty where that is nothing.
    pub detail: String,
    /// The job's state before it.
    pub state: String,
    /// Lower-case hex SHA-256 of the file of the entry before; of the first, the hash of the job's spec.
    pub previous: String,
}

impl Entry {
    /// Name of the file of that number. They sort as they follow each other.
    #[must_use]
    pub fn file(number: u32) -> String {
        format!("{AUDIT}{number:06}.json")
    }
}

/// Lower-case hex SHA-256 of an entry's file.
#[must_use]
pub fn hash(file: &[u8]) -> String {
    hex::encode(Sha256::digest(file))
}

/// The entries of a job's files, in the order of their names; and what is wrong with the chain, if anything is. What can't be
/// read is no entry.
#[must_use]
pub fn chain(spec_hash: &str, files: &[Vec<u8>]) -> (Vec<Entry>, Option<String>) {
    let (mut entries, mut broken) = (Vec::new(), None);
    let mut previous = spec_hash.to_owned();
    for (file, number) in files.iter().zip(0_u32..) {
        let entry = match serde_json::from_slice::<Entry>(file) {
            Ok(entry) => entry,
            Err(error) => {
                broken = broken.or_else(|| Some(format!("entry {number} can't be read: {error}")));
                previous = hash(file);
                continue;
            }
        };
        if entry.number != number {
            broken = broken.or_else(|| Some(format!("entry {number} is not there")));
        } else if entry.previous != previous {
            let before = number.checked_sub(1).map_or_else(|| "the job's spec".to_owned(), |n| format!("entry {n}"));
            broken = broken.or_else(|| Some(format!("{before} is not what it was when entry {number} was written")));
        }
        previous = hash(file);
        entries.push(entry);
    }
    (entries, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(count: u32) -> Vec<Vec<u8>> {
        let (mut files, mut previous) = (Vec::new(), "spec".to_owned());
        for number in 0..count {
            let (who, what, detail, state) = ("ci".into(), "pause".into(), String::new(), "running".into());
            let at = Timestamp::from_second(1_800_000_000 + i64::from(number)).unwrap();
            let entry = Entry { version: AUDIT_VERSION, number, at, who, what, detail, state, previous };
            files.push(serde_json::to_vec(&entry).unwrap());
            previous = hash(files.last().unwrap());
        }
        files
    }

    #[test]
    fn whatever_is_changed_or_missing_breaks_the_chain() {
        let whole = files(4);
        assert_eq!(chain("spec", &whole).1, None);
        assert_eq!(chain("spec", &[]), (Vec::new(), None));
        assert!(chain("another", &whole).1.unwrap().contains("spec"));
        for n in 0..3 {
            let mut without = whole.clone();
            without.remove(n);
            assert!(chain("spec", &without).1.is_some(), "without {n}");
            let mut changed = whole.clone();
            changed[n] = String::from_utf8(changed[n].clone()).unwrap().replace("\"ci\"", "\"me\"").into();
            assert_eq!(
                chain("spec", &changed).1,
                Some(format!("entry {n} is not what it was when entry {} was written", n + 1))
            );
            let mut cut = whole.clone();
            cut[n].pop();
            let (entries, broken) = chain("spec", &cut);
            assert!(entries.len() == 3 && broken.unwrap().contains("can't be read"));
        }
    }
}
