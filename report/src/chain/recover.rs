//! Chains found again from the names of parts alone, after the checkpoint was lost.

use std::collections::HashMap;

use keyrotate_proto::id::{Epoch, PassId, ShardRef};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::position::{KeyRange, Position};

use super::{PartLink, check_alone, check_link, place, read_links};
use crate::{ReportError, ReportStore};

/// A chain of parts that can be taken over: it covers everything from `before(start)` to `cursor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// First key that may belong to it.
    pub start: String,
    /// How far its rows go without a gap.
    pub cursor: Position,
    /// Its newest part.
    pub last_part: String,
    /// The shard that the newest part was written for.
    pub shard: ShardRef,
    /// The epoch that the newest part was written under.
    pub epoch: Epoch,
    /// The newest part's number.
    pub number: u64,
    /// How many parts it has.
    pub parts: u64,
    /// Sum of the rows of all its parts.
    pub counts: Counts,
    /// Sum of the rows of earlier passes that they replace.
    pub replaced: Counts,
}

/// Chains of a pass with disjoint intervals, in key order, found from a listing of the report store.
///
/// # Errors
/// When the store can't be listed or read. Parts that are damaged are left out, and said so in the log.
pub async fn recover(store: &dyn ReportStore, pass: PassId) -> Result<Vec<Recovered>, ReportError> {
    let names = store.list(&format!("parts/{pass}/")).await?;
    Ok(recover_chains(read_links(store, names).await?))
}

/// Of all parts of a pass, committed or not, the chains with disjoint intervals that hold the most rows.
///
/// A part is true whether or not its commit was seen; but where two holders of a shard did the same keys, only one
/// of both may count. Every chain reaches back to a first part without a gap.
#[must_use]
pub fn recover_chains(links: Vec<PartLink>) -> Vec<Recovered> {
    let mut found: Vec<Recovered> = whole_chains(&links).into_values().collect();
    found.retain(|c| place(&c.cursor) > (false, c.start.as_str(), false));
    found.sort_by(|a, b| place(&a.cursor).cmp(&place(&b.cursor)).then_with(|| a.last_part.cmp(&b.last_part)));
    heaviest_disjoint(found)
}

/// Shards that cover `scope` exactly, of chains that [`recover_chains`] gave: each goes on to where the next one
/// begins; what lies before the first is a shard of its own.
#[must_use]
pub fn cover(scope: &KeyRange, chains: Vec<Recovered>) -> Vec<(KeyRange, Option<Recovered>)> {
    let inside = |c: &Recovered| {
        let ends = place(&c.cursor) <= place(&scope.end_position());
        c.start >= scope.start && scope.end.as_ref().is_none_or(|end| &c.start < end) && ends
    };
    let chains: Vec<Recovered> = chains.into_iter().filter(inside).collect();
    let mut starts: Vec<String> = chains.iter().map(|c| c.start.clone()).collect();
    let mut shards: Vec<Option<Recovered>> = chains.into_iter().map(Some).collect();
    if starts.first() != Some(&scope.start) {
        starts.insert(0, scope.start.clone());
        shards.insert(0, None);
    }
    let ends = starts[1..].iter().cloned().map(Some).chain([scope.end.clone()]).collect::<Vec<_>>();
    let ranges = starts.into_iter().zip(ends).map(|(start, end)| KeyRange { start, end });
    ranges.zip(shards).collect()
}

/// For each part that reaches back to a first one: the chain that ends with it.
fn whole_chains(links: &[PartLink]) -> HashMap<&str, Recovered> {
    let by_name: HashMap<&str, &PartLink> = links.iter().map(|link| (link.name.as_str(), link)).collect();
    let mut whole: HashMap<&str, Recovered> = HashMap::new();
    let mut broken: std::collections::HashSet<&str> = std::collections::HashSet::new();
    for link in links {
        // Back to the first part, or to one that is known already; then forward again.
        let mut way: Vec<&PartLink> = Vec::new();
        let mut next = Some(link);
        while let Some(part) = next.filter(|p| !whole.contains_key(p.name.as_str()) && way.len() < links.len()) {
            way.push(part);
            next = part.header.previous.as_deref().and_then(|name| by_name.get(name).copied());
        }
        for part in way.into_iter().rev() {
            if broken.contains(part.name.as_str()) {
                continue;
            }
            let before = part.header.previous.as_deref();
            let chain = match before {
                None => check_alone(part).is_ok().then(|| begin(part)),
                Some(name) => whole
                    .get(name)
                    .zip(by_name.get(name))
                    .filter(|(_, link)| check_alone(part).is_ok() && check_link(link, part).is_ok())
                    .and_then(|(chain, _)| extend(chain, part)),
            };
            match chain {
                Some(chain) => drop(whole.insert(&part.name, chain)),
                None => drop(broken.insert(&part.name)),
            }
        }
    }
    if !broken.is_empty() {
        tracing::warn!(parts = broken.len(), "parts without a whole chain are left out, their keys are listed again");
    }
    whole
}

fn begin(part: &PartLink) -> Recovered {
    let header = &part.header;
    Recovered {
        start: header.from.key().unwrap_or_default().to_owned(),
        cursor: header.to.clone(),
        last_part: part.name.clone(),
        shard: header.shard.clone(),
        epoch: header.epoch.clone(),
        number: header.number,
        parts: 1,
        counts: header.counts.clone(),
        replaced: header.replaced.clone(),
    }
}

fn extend(chain: &Recovered, part: &PartLink) -> Option<Recovered> {
    let mut longer = begin(part);
    longer.start.clone_from(&chain.start);
    longer.parts += chain.parts;
    longer.counts.add(&chain.counts);
    longer.replaced.add(&chain.replaced);
    Some(longer)
}

/// Weighted interval scheduling: `sorted` by their ends.
fn heaviest_disjoint(sorted: Vec<Recovered>) -> Vec<Recovered> {
    let weight = |c: &Recovered| c.counts.scanned() + c.parts;
    let mut best = vec![0u64];
    let mut before = Vec::with_capacity(sorted.len());
    for (i, chain) in sorted.iter().enumerate() {
        let start = (false, chain.start.as_str(), false);
        let fitting = sorted[..i].partition_point(|c| place(&c.cursor) <= start);
        before.push(fitting);
        best.push(best[i].max(best[fitting] + weight(chain)));
    }
    let mut taken = vec![false; sorted.len()];
    let mut i = sorted.len();
    while i > 0 {
        if best[i] > best[i - 1] {
            taken[i - 1] = true;
            i = before[i - 1];
        } else {
            i -= 1;
        }
    }
    sorted.into_iter().zip(taken).filter_map(|(chain, taken)| taken.then_some(chain)).collect()
}
