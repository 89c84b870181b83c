use keyrotate_proto::id::Nonce;
use keyrotate_proto::outcome::{Counts, Outcome};
use keyrotate_proto::part::PartHeader;
use proptest::prelude::*;

use super::*;
use crate::testing::{header, put, range, row, shard, store};

fn after(key: &str) -> Position {
    Position::After(key.into(), None)
}

fn job() -> JobId {
    JobId::new(1, [0; 10])
}

/// Parts of one row each, from `start` on, behind `previous`; gives their names.
async fn write(
    store: &dyn ReportStore,
    (nonce, number): (&str, u32),
    start: &str,
    keys: &[&str],
    previous: Option<String>,
) -> Vec<String> {
    let (mut from, mut previous) = (Position::Before(start.to_owned()), previous);
    if let Some(name) = &previous {
        from = crate::chain::read_header(store, name).await.unwrap().to;
    }
    let mut names = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let mut part = header(1, number, (nonce, 1), n as u64);
        (part.from, part.to, part.listed, part.previous) = (from, after(key), n as u64 + 1, previous);
        from = part.to.clone();
        names.push(put(store, part, &[row(key, None, Outcome::Current)]).await.name);
        previous = names.last().cloned();
    }
    names
}

#[tokio::test]
async fn a_chain_is_summed_up_to_its_last_part() {
    let store = store();
    let rows: Vec<_> = ["a", "b", "c", "d", "e"].map(|key| row(key, None, Outcome::Current)).into();
    let written = shard(store.as_ref(), 1, 7, range("", Some("m")), &rows, 2).await;
    let remains = remains(store.as_ref(), &job(), PassId(1)).await.unwrap();
    let mut counts = Counts::default();
    rows.iter().for_each(|row| row.count_into(&mut counts));
    let chain = Chain {
        start: String::new(),
        to: Position::Before("m".into()),
        last_part: written.last_part.unwrap(),
        parts: 3,
        counts,
        replaced: Counts::default(),
        listed: 0,
        shards: [ShardId(7)].into(),
    };
    assert_eq!(remains, Remains { chains: vec![chain], with_intents: Vec::new() });
}

/// A holder that was late wrote a part that a later one knew nothing of.
#[tokio::test]
async fn of_two_that_went_on_from_one_part_the_farther_one_counts() {
    let store = store();
    let first = write(store.as_ref(), ("n", 0), "", &["a", "b"], None).await;
    write(store.as_ref(), ("late", 0), "", &["c"], first.last().cloned()).await;
    let far = write(store.as_ref(), ("m", 0), "", &["bb", "d"], first.last().cloned()).await;
    let chains = remains(store.as_ref(), &job(), PassId(1)).await.unwrap().chains;
    assert_eq!((chains.len(), &chains[0].last_part), (1, far.last().unwrap()));
    assert_eq!((chains[0].counts.scanned(), &chains[0].to), (4, &after("d")));
}

#[tokio::test]
async fn what_reaches_into_the_next_chain_is_cut_off() {
    let store = store();
    let names = write(store.as_ref(), ("n", 0), "", &["a", "c", "k"], None).await;
    write(store.as_ref(), ("n", 1), "e", &["f", "g"], None).await;
    let chains = remains(store.as_ref(), &job(), PassId(1)).await.unwrap().chains;
    let ends: Vec<_> = chains.iter().map(|chain| (chain.start.as_str(), &chain.to)).collect();
    assert_eq!(ends, [("", &after("c")), ("e", &after("g"))]);
    assert_eq!(chains[0].last_part, names[1]);
}

#[tokio::test]
async fn parts_of_other_passes_and_older_writers_do_not_count() {
    let store = store();
    for (n, kind) in [Some(PassKind::Verify), Some(PassKind::Retry), None].into_iter().enumerate() {
        let part = PartHeader { kind, ..header(1, u32::try_from(n).unwrap(), ("n", 1), 0) };
        put(store.as_ref(), part, &[]).await;
    }
    put(store.as_ref(), header(2, 0, ("n", 1), 0), &[]).await;
    let other = JobId::new(2, [0; 10]);
    assert_eq!(remains(store.as_ref(), &job(), PassId(1)).await.unwrap(), Remains::default());
    assert_eq!(remains(store.as_ref(), &other, PassId(2)).await.unwrap(), Remains::default());
    assert_eq!(remains(store.as_ref(), &job(), PassId(2)).await.unwrap().chains.len(), 1);
}

#[tokio::test]
async fn a_chain_with_a_damaged_or_missing_part_is_walked_again() {
    let store = store();
    let names = write(store.as_ref(), ("n", 0), "", &["a", "b", "c"], None).await;
    write(store.as_ref(), ("n", 1), "m", &["n"], None).await;
    store.put(&names[1], b"no part".to_vec()).await.unwrap();
    let chains = remains(store.as_ref(), &job(), PassId(1)).await.unwrap().chains;
    // What stands before the damaged one is whole.
    let starts: Vec<_> = chains.iter().map(|chain| (chain.start.as_str(), chain.counts.scanned())).collect();
    assert_eq!(starts, [("", 1), ("m", 1)]);
}

#[tokio::test]
async fn shards_that_put_intents_down_are_named() {
    let store = store();
    for name in [
        "intents/p001/s000004/n-1-0.json.gz",
        "intents/p001/s000002/n-1-0.json.gz",
        "intents/p002/s000009/n-1-0.json.gz",
    ] {
        store.put(name, Vec::new()).await.unwrap();
    }
    let remains = remains(store.as_ref(), &job(), PassId(1)).await.unwrap();
    assert_eq!(remains.with_intents, [ShardId(2), ShardId(4)]);
}

proptest! {
    /// Whatever parts there are, and whichever are missing: what counts lies one behind the other, and each chain can be
    /// read from its last part.
    #[test]
    fn chains_are_disjoint_and_whole(
        parts in proptest::collection::vec((0_u32..3, 0_u8..26, 1_u8..6, 0_usize..40, any::<bool>()), 0..40),
    ) {
        let mut links: Vec<PartLink> = Vec::new();
        for (n, (number, from, long, previous, begins)) in parts.into_iter().enumerate() {
            let mut part = header(1, number, ("n", 1), n as u64);
            let previous = links.get(previous % links.len().max(1)).filter(|_| !begins);
            part.shard.shard = previous.map_or(ShardId(number), |link| link.header.shard.shard);
            part.from = previous.map_or(Position::Before(text(from)), |link| link.header.to.clone());
            let at = part.from.key().and_then(|key| key.bytes().next()).unwrap_or(b'z') - b'a';
            part.to = after(&text(at.saturating_add(long).min(25)));
            part.previous = previous.map(|link| link.name.clone());
            part.epoch.nonce = Nonce(format!("n{}", n % 3));
            links.push(PartLink { name: part.name(), header: part });
        }
        let known: BTreeMap<String, PartLink> = links.iter().map(|link| (link.name.clone(), link.clone())).collect();
        let chains = chains(links.into_iter());
        for pair in chains.windows(2) {
            prop_assert!(place(&pair[0].to) <= (false, pair[1].start.as_str(), false), "{:?}", pair);
        }
        for chain in &chains {
            let links = whole(&known, &known[&chain.last_part]).unwrap();
            prop_assert_eq!(&links[0].header.from, &Position::Before(chain.start.clone()));
            prop_assert!(links.iter().all(|link| link.header.number < chain.parts));
        }
    }
}

fn text(n: u8) -> String {
    char::from(b'a' + n).to_string()
}
