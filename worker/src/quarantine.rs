//! An object over which three workers in a row came to an end is set aside: its row says so, and the rest goes on. It
//! is known for certain only where nothing else is left of the shard: until then the shard is cut into pieces, each of
//! which is tried anew.

use async_trait::async_trait;
use keyrotate_proto::outcome::{FailReason, Outcome};
use keyrotate_proto::row::Row;
use keyrotate_rewrap::Settled;

use crate::slice::Tools;
use crate::source::{Item, Source, SourceError, Task};
use crate::window::Done;

/// Pieces that a shard is cut into: a page of 1,000 objects comes down to one in three steps.
const PIECES: usize = 16;

/// What is left of a shard over which too many leases ended without progress.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// One object, in so many versions as fit into a page.
    OneObject,
    /// More, or nothing; and where it may be cut.
    Others(Vec<String>),
}

/// Reads on until it is known what is left of a shard; gives a source of all of it, too.
pub(crate) async fn what_is_left(mut rest: Box<dyn Source>) -> Result<(Box<dyn Source>, Left), SourceError> {
    let first = page(rest.as_mut()).await?;
    let mut keys: Vec<&str> = first.iter().filter_map(|item| item.after.key()).collect();
    keys.dedup();
    let second = if keys.len() == 1 { page(rest.as_mut()).await? } else { Vec::new() };
    let left = match keys.len() {
        1 if second.is_empty() => Left::OneObject,
        1 => Left::Others(
            second
                .iter()
                .filter_map(|item| item.after.key())
                .find(|key| *key != keys[0])
                .map(str::to_owned)
                .into_iter()
                .collect(),
        ),
        many => {
            let pieces = many.min(PIECES);
            Left::Others((1..pieces).map(|n| keys[n * many / pieces].to_owned()).collect())
        }
    };
    let mut read = vec![second, first];
    read.retain(|page| !page.is_empty());
    Ok((Box::new(Peeked { read, rest }), left))
}

/// The row of an item that is set aside, from the listing or from its last row: without a word to the store. One that a
/// dead worker put an intent down for may be written already: it is looked at, which killed nobody before the intent
/// was put down, and set aside in the place of its write.
pub(crate) fn set_aside(tools: &Tools, task: &Task) -> Option<Done> {
    if !tools.sets_aside {
        return None;
    }
    let row = match task {
        Task::Agrees | Task::Missing(_) => return None,
        Task::Look(entry) | Task::Current(entry, _) if !tools.left_intents.of(&entry.key).is_empty() => return None,
        Task::Again(at, _) | Task::Doubt(at, _) | Task::Reread(at, _) if !tools.left_intents.of(&at.key).is_empty() => {
            return None;
        }
        Task::Look(entry) | Task::Current(entry, _) => tools.rewrapper.set_aside(entry),
        Task::Again(_, row) | Task::Doubt(_, row) | Task::Reread(_, row) => again(row),
    };
    tracing::warn!("an object is set aside: three leases in a row ended over it without progress; the report names it");
    tracing::debug!(key = row.key, "set aside");
    tools.meter.outcome(row.outcome, row.size);
    Some(Done { settled: Some(Settled::Row(row)), replaced: task.replaces() })
}

fn again(row: &Row) -> Row {
    let outcome = Outcome::Failed(FailReason::Quarantined);
    Row { outcome, strategy: None, detail: FailReason::Quarantined.explain().into(), ..row.clone() }
}

/// The next page that has items; an empty one at the end.
async fn page(source: &mut dyn Source) -> Result<Vec<Item>, SourceError> {
    loop {
        match source.page().await? {
            Some(items) if items.is_empty() => {}
            Some(items) => return Ok(items),
            None => return Ok(Vec::new()),
        }
    }
}

/// A source of which some pages were read already.
struct Peeked {
    /// The last of them comes first.
    read: Vec<Vec<Item>>,
    rest: Box<dyn Source>,
}

#[async_trait]
impl Source for Peeked {
    async fn page(&mut self) -> Result<Option<Vec<Item>>, SourceError> {
        match self.read.pop() {
            Some(items) => Ok(Some(items)),
            None => self.rest.page().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrotate_proto::position::Position;

    struct Pages(Vec<Vec<Item>>);

    #[async_trait]
    impl Source for Pages {
        async fn page(&mut self) -> Result<Option<Vec<Item>>, SourceError> {
            Ok(if self.0.is_empty() { None } else { Some(self.0.remove(0)) })
        }
    }

    fn item(key: &str) -> Item {
        Item { after: Position::After(key.into(), Some("v".into())), task: Task::Agrees }
    }

    #[tokio::test]
    async fn one_object_is_told_from_more_and_nothing_read_is_lost() {
        let one = || Left::OneObject;
        let at = |cuts: &[&str]| Left::Others(cuts.iter().map(|cut| (*cut).to_owned()).collect());
        let cases: [(&[&[&str]], Left); 9] = [
            (&[], at(&[])),
            (&[&[]], at(&[])),
            (&[&["a"]], one()),
            (&[&[], &["a", "a"], &[]], one()),
            (&[&["a", "b"]], at(&["b"])),
            (&[&["a", "a", "b", "c", "c"], &["d"]], at(&["b", "c"])),
            (&[&["a"], &["b"]], at(&["b"])),
            (&[&["a"], &[], &["a", "b", "c"], &["d"]], at(&["b"])),
            (&[&["a", "a"], &["a"]], at(&[])),
        ];
        for (pages, left) in cases {
            let source = pages.iter().map(|page| page.iter().map(|key| item(key)).collect()).collect();
            let (mut source, what) = what_is_left(Box::new(Pages(source))).await.unwrap();
            assert_eq!(what, left, "{pages:?}");
            let mut keys = Vec::new();
            while let Some(items) = source.page().await.unwrap() {
                keys.extend(items.iter().filter_map(|item| item.after.key().map(str::to_owned)));
            }
            assert_eq!(keys, pages.concat(), "{pages:?}");
        }
    }

    #[tokio::test]
    async fn many_are_cut_into_pieces_of_about_the_same_size() {
        for many in [2_usize, 15, 16, 17, 31, 1_000] {
            let page: Vec<_> = (0..many).map(|n| item(&format!("{n:04}"))).collect();
            let (_, left) = what_is_left(Box::new(Pages(vec![page]))).await.unwrap();
            let Left::Others(cuts) = left else { panic!("{many} are not one") };
            let mut starts: Vec<usize> = cuts.iter().map(|cut| cut.parse().unwrap()).collect();
            starts.insert(0, 0);
            starts.push(many);
            let sizes: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert_eq!(sizes.len(), many.min(PIECES));
            assert!(sizes.iter().all(|size| size.abs_diff(many / sizes.len()) <= 1), "{many}: {sizes:?}");
        }
    }
}
