use std::collections::HashSet;

use keyrotate_proto::id::PassId;
use keyrotate_proto::outcome::Outcome;
use proptest::prelude::*;

use super::*;
use crate::testing::{header, put, range, row, shard, store};

async fn three_parts() -> (std::sync::Arc<dyn ReportStore>, Vec<PartLink>) {
    let store = store();
    let rows: Vec<_> = (0..6).map(|n| row(&format!("k{n}"), None, Outcome::Current)).collect();
    let parts = shard(&*store, 1, 4, range("", None), &rows, 2).await;
    let links = chain(&*store, parts.last_part.as_deref()).await.unwrap();
    (store, links)
}

#[tokio::test]
async fn a_chain_is_found_from_its_end() {
    let (store, links) = three_parts().await;
    assert_eq!(links.iter().map(|link| link.header.number).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(chain(&*store, None).await.unwrap(), []);
    let missing = chain(&*store, Some("parts/p001/s000004/n-000009-000009.csv.gz")).await;
    assert!(matches!(missing, Err(ReportError::NotFound(_))));
}

#[tokio::test]
async fn a_broken_chain_names_the_part() {
    type Harm = fn(&mut PartHeader);
    let harms: [(&str, Harm); 5] = [
        ("shard", |h| h.shard.shard.0 = 9),
        ("begins", |h| h.to = Position::After("k9".into(), None)),
        ("lease", |h| h.epoch.counter = 7),
        ("number", |h| h.number = 2),
        ("pass", |h| h.shard.pass = PassId(2)),
    ];
    for (word, harm) in harms {
        let (store, links) = three_parts().await;
        let mut before = links[1].header.clone();
        harm(&mut before);
        let before = put(&*store, before, &[]).await;
        let mut last = links[2].header.clone();
        last.previous = Some(before.name);
        let last = put(&*store, last, &[]).await;
        let error = chain(&*store, Some(&last.name)).await.unwrap_err();
        assert!(
            matches!(&error, ReportError::BrokenChain { name, what } if *name == last.name && what.contains(word)),
            "{word}: {error}"
        );
    }
}

#[tokio::test]
async fn after_a_loss_a_chain_goes_on_under_another_number() {
    let (store, links) = three_parts().await;
    let mut next = header(1, 8, ("other", 1), 0);
    next.previous = Some(links[1].name.clone());
    next.from = links[1].header.to.clone();
    let next = put(&*store, next, &[]).await;
    assert_eq!(chain(&*store, Some(&next.name)).await.unwrap().len(), 3);
    // Both ways from the second part are whole; the one with rows is taken.
    let found = recover(&*store, PassId(1)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].last_part.as_str(), found[0].counts.scanned(), found[0].parts),
        (links[2].name.as_str(), 6, 3)
    );
}

/// Parts as holders of shards may have left them: each goes on from any earlier one, or begins somewhere.
fn forest() -> impl Strategy<Value = Vec<PartLink>> {
    proptest::collection::vec((any::<proptest::sample::Index>(), 0u8..20, 0u8..6, any::<bool>(), 0u64..9), 1..14)
        .prop_map(|steps| {
            let mut links: Vec<PartLink> = Vec::new();
            for (i, (parent, start, length, begins, rows)) in steps.into_iter().enumerate() {
                let parent = (!begins && !links.is_empty()).then(|| links[parent.index(links.len())].clone());
                let from = parent.as_ref().map_or(start, |p| p.header.to.key().unwrap().as_bytes()[0] - b'a');
                let key = |n: u8| Position::Before(char::from(b'a' + n).to_string());
                let mut part = header(1, 0, ("n", i as u64), i as u64);
                (part.from, part.to) = (key(from), key(from + length));
                part.previous = parent.map(|p| p.name);
                part.counts.by_outcome.insert(Outcome::Current, rows);
                links.push(PartLink { name: part.name(), header: part });
            }
            links
        })
}

/// Most weight of disjoint chains, by trying all sets of ends.
fn best_by_trying(links: &[PartLink]) -> u64 {
    let find = |name: &str| links.iter().find(|link| link.name == name).unwrap();
    let ends: Vec<(u8, u8, u64)> = links
        .iter()
        .map(|end| {
            let (mut part, mut weight) = (end, end.header.counts.scanned() + 1);
            while let Some(name) = &part.header.previous {
                part = find(name);
                weight += part.header.counts.scanned() + 1;
            }
            let at = |p: &Position| p.key().unwrap().as_bytes()[0];
            (at(&part.header.from), at(&end.header.to), weight)
        })
        .filter(|(from, to, _)| from < to)
        .collect();
    let mut best = 0;
    for set in 0u32..1 << ends.len() {
        let chosen: Vec<_> = ends.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, end)| end).collect();
        let apart = |a: &(u8, u8, u64), b: &(u8, u8, u64)| a.1 <= b.0 || b.1 <= a.0;
        if chosen.iter().enumerate().all(|(i, a)| chosen[i + 1..].iter().all(|b| apart(a, b))) {
            best = best.max(chosen.iter().map(|end| end.2).sum());
        }
    }
    best
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn recovered_chains_are_disjoint_whole_and_the_heaviest(links in forest(), lost in proptest::collection::hash_set(0usize..14, 0..3)) {
        let kept: Vec<PartLink> = links.iter().enumerate().filter(|(i, _)| !lost.contains(i)).map(|(_, l)| l.clone()).collect();
        let names: HashSet<&str> = kept.iter().map(|link| link.name.as_str()).collect();
        let is_whole = |link: &PartLink| {
            let mut part = link;
            while let Some(previous) = &part.header.previous {
                if !names.contains(previous.as_str()) {
                    return false;
                }
                part = kept.iter().find(|l| l.name == *previous).unwrap();
            }
            true
        };
        let whole: Vec<PartLink> = kept.iter().filter(|link| is_whole(link)).cloned().collect();
        let found = recover_chains(kept.clone());
        for pair in found.windows(2) {
            prop_assert!(place(&pair[0].cursor) <= (false, pair[1].start.as_str(), false));
        }
        for chain in &found {
            prop_assert!(whole.iter().any(|link| link.name == chain.last_part && link.header.to == chain.cursor));
        }
        let weight: u64 = found.iter().map(|c| c.counts.scanned() + c.parts).sum();
        prop_assert_eq!(weight, best_by_trying(&whole));
        let scope = range("", None);
        let shards = cover(&scope, found.clone());
        prop_assert_eq!(shards.iter().filter(|(_, chain)| chain.is_some()).count(), found.len());
        prop_assert_eq!((&shards[0].0.start, &shards[shards.len() - 1].0.end), (&scope.start, &scope.end));
        for pair in shards.windows(2) {
            prop_assert_eq!(pair[0].0.end.as_ref(), Some(&pair[1].0.start));
        }
    }
}
