//! An object over which three workers in a row came to an end is set aside: its row says so, and the rest goes on. It
//! is known for certain only where nothing else is left of the shard.

use async_trait::async_trait;
use keyrotate_proto::outcome::{FailReason, Outcome};
use keyrotate_proto::row::Row;
use keyrotate_rewrap::Settled;

use crate::slice::Tools;
use crate::source::{Item, Source, SourceError, Task};
use crate::window::Done;

/// Reads on until it is known whether what is left of a shard is one object, in so many versions as fit into a page;
/// gives a source of all that is left, and whether it is.
pub(crate) async fn is_one_object(mut rest: Box<dyn Source>) -> Result<(Box<dyn Source>, bool), SourceError> {
    let first = page(rest.as_mut()).await?;
    let key = first.first().and_then(|item| item.after.key());
    let same_key = !first.is_empty() && first.iter().all(|item| item.after.key() == key);
    let second = if same_key { page(rest.as_mut()).await? } else { Vec::new() };
    let one = same_key && second.is_empty();
    let mut read = vec![second, first];
    read.retain(|page| !page.is_empty());
    Ok((Box::new(Peeked { read, rest }), one))
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
        let cases: [(&[&[&str]], bool); 8] = [
            (&[], false),
            (&[&[]], false),
            (&[&["a"]], true),
            (&[&[], &["a", "a"], &[]], true),
            (&[&["a", "b"]], false),
            (&[&["a"], &["b"]], false),
            (&[&["a"], &[], &["b"], &["c"]], false),
            (&[&["a", "a"], &["a"]], false),
        ];
        for (pages, one) in cases {
            let source = pages.iter().map(|page| page.iter().map(|key| item(key)).collect()).collect();
            let (mut source, is_one) = is_one_object(Box::new(Pages(source))).await.unwrap();
            assert_eq!(is_one, one, "{pages:?}");
            let mut keys = Vec::new();
            while let Some(items) = source.page().await.unwrap() {
                keys.extend(items.iter().filter_map(|item| item.after.key().map(str::to_owned)));
            }
            assert_eq!(keys, pages.concat(), "{pages:?}");
        }
    }
}
