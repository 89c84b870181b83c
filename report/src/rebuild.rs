//! What is left of a walk whose checkpoint was lost: its parts, and what a new checkpoint can know from them.
//!
//! A part is true whether or not its commit was seen, so that any whole chain of them may be gone on from. What no chain
//! covers is walked again.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use keyrotate_proto::id::{JobId, PassId, ShardId};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::position::Position;
use keyrotate_proto::state::PassKind;

use crate::chain::{PartLink, check_alone, check_link, place, read_link};
use crate::{ReportError, ReportStore, intents};

/// Headers that are read at the same time.
const AT_ONCE: usize = 16;

/// What is left of a walk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remains {
    /// Disjoint, in the order of their keys.
    pub chains: Vec<Chain>,
    /// Shards that put intents down.
    pub with_intents: Vec<ShardId>,
}

/// A chain of parts that can be gone on from.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// The key before which it begins.
    pub start: String,
    /// Where it ends.
    pub to: Position,
    /// Name of its last part.
    pub last_part: String,
    /// More than any number of its parts.
    pub parts: u64,
    /// Sum of its rows.
    pub counts: Counts,
    /// Sum of the rows that they replaced.
    pub replaced: Counts,
    /// Entries that its source had shown.
    pub listed: u64,
    /// The shards that wrote it.
    pub shards: BTreeSet<ShardId>,
}

/// Looks for what is left of a pass of a job, if that was a walk. Parts that are damaged, or of no whole chain, are left
/// out.
///
/// # Errors
/// When the store can't be listed or read.
pub async fn remains(store: &dyn ReportStore, job: &JobId, pass: PassId) -> Result<Remains, ReportError> {
    let names = store.list(&format!("parts/{pass}/")).await?;
    let read = stream::iter(names).map(|name| async {
        match read_link(store, name).await {
            Err(ReportError::Part { .. }) => Ok(None),
            read => read.map(Some),
        }
    });
    let links: Vec<Option<PartLink>> = read.buffered(AT_ONCE).try_collect().await?;
    let of_the_walk = |link: &PartLink| {
        let header = &link.header;
        header.kind == Some(PassKind::Walk) && header.shard.job == *job && header.shard.pass == pass
    };
    let chains = chains(links.into_iter().flatten().filter(of_the_walk));
    Ok(Remains { chains, with_intents: intents::shards(store, pass).await? })
}

/// Of chains that begin at the same place the longest, and of each as much as ends before the next one begins.
fn chains(links: impl Iterator<Item = PartLink>) -> Vec<Chain> {
    let links: BTreeMap<String, PartLink> = links.map(|link| (link.name.clone(), link)).collect();
    let named: BTreeSet<&String> = links.values().filter_map(|link| link.header.previous.as_ref()).collect();
    let mut longest: BTreeMap<&str, Vec<&PartLink>> = BTreeMap::new();
    for tip in links.values().filter(|link| !named.contains(&link.name)) {
        let Some(chain) = whole(&links, tip) else { continue };
        let Position::Before(start) = &chain[0].header.from else { continue };
        let other = longest.entry(start).or_default();
        if other.last().is_none_or(|other| place(&other.header.to) < place(&tip.header.to)) {
            *other = chain;
        }
    }
    let ends = longest.keys().skip(1).map(|start| Position::Before((*start).to_owned())).chain([Position::End]);
    let ends: Vec<Position> = ends.collect();
    let cut = longest.into_iter().zip(ends).filter_map(|((start, mut chain), end)| {
        chain.retain(|link| place(&link.header.to) <= place(&end));
        summed(start, &chain)
    });
    cut.collect()
}

/// The parts up to `tip`, if none is missing and each fits the one before it.
fn whole<'a>(links: &'a BTreeMap<String, PartLink>, tip: &'a PartLink) -> Option<Vec<&'a PartLink>> {
    check_alone(tip).ok()?;
    let mut chain = vec![tip];
    while let Some(previous) = &chain[chain.len() - 1].header.previous {
        let before = links.get(previous)?;
        check_link(before, chain[chain.len() - 1]).ok()?;
        chain.push(before);
    }
    chain.reverse();
    Some(chain)
}

fn summed(start: &str, chain: &[&PartLink]) -> Option<Chain> {
    let last = chain.last()?;
    let (mut counts, mut replaced) = (Counts::default(), Counts::default());
    chain.iter().for_each(|link| counts.add(&link.header.counts));
    chain.iter().for_each(|link| replaced.add(&link.header.replaced));
    Some(Chain {
        start: start.to_owned(),
        to: last.header.to.clone(),
        last_part: last.name.clone(),
        parts: chain.iter().map(|link| link.header.number + 1).max()?,
        counts,
        replaced,
        listed: last.header.listed,
        shards: chain.iter().map(|link| link.header.shard.shard).collect(),
    })
}

#[cfg(test)]
mod tests;
