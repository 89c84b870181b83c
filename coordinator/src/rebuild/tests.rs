use std::collections::BTreeSet;

use jiff::Timestamp;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::job;
use keyrotate_proto::outcome::Counts;
use proptest::prelude::*;

use super::*;

fn record() -> JobRecord {
    let text = "keyrotate: {apiVersion: v1, bucket: bucket, encryption: {key: key-b}}";
    let spec = job::parse(text.as_bytes(), "job.yaml").unwrap().spec;
    JobRecord::new(JobId::new(1, [1; 10]), spec, "s".into(), Nonce("n".into()), "me".into(), Timestamp::UNIX_EPOCH)
}

fn chain(start: &str, to: Position, shard: u32) -> Chain {
    Chain {
        start: start.into(),
        to,
        last_part: format!("{start}-last"),
        parts: 3,
        counts: Counts::default(),
        replaced: Counts::default(),
        listed: 70,
        shards: [ShardId(shard)].into(),
    }
}

fn planned(starts: &[&str]) -> Vec<KeyRange> {
    let ends = starts[1..].iter().map(|end| Some((*end).to_owned())).chain([None]);
    starts.iter().zip(ends).map(|(start, end)| KeyRange { start: (*start).to_owned(), end }).collect()
}

fn after(key: &str) -> Position {
    Position::After(key.into(), None)
}

#[test]
fn without_anything_of_before_it_is_as_planned() {
    let job = record();
    let plan = planned(&["", "f", "p"]);
    assert_eq!(shards(&job, plan.clone(), &Remains::default()), job.new_shards(plan));
}

#[test]
fn chains_are_gone_on_from_and_the_rest_is_planned() {
    let chains = vec![chain("f", after("h"), 4), chain("p", Position::Before("s".into()), 9)];
    let remains = Remains { chains, with_intents: vec![ShardId(2), ShardId(4), ShardId(9)] };
    let shards = shards(&record(), planned(&["", "c", "g", "k", "s", "x"]), &remains);
    let seen: Vec<_> = shards.iter().map(|shard| (shard.range.start.as_str(), &shard.cursor, shard.listed)).collect();
    let before = |key: &str| Position::Before(key.into());
    let expected = [
        ("", &before(""), 0),
        ("c", &before("c"), 0),
        ("f", &after("h"), 70),
        ("k", &before("k"), 0),
        ("p", &before("s"), 70),
        ("s", &before("s"), 0),
        ("x", &before("x"), 0),
    ];
    assert_eq!(seen, expected);
    let intents: Vec<Vec<u32>> = shards.iter().map(|shard| shard.cut_from.iter().map(|id| id.0).collect()).collect();
    // The second wrote no part, and may have been anywhere.
    assert_eq!(intents, [vec![2], vec![2], vec![2, 4], vec![2, 4], vec![2, 9], vec![2, 9], vec![2, 9]]);
    assert!(shards.iter().all(|shard| shard.doubted_to == shard.listed + MAX_AHEAD));
    assert_eq!(shards[2].last_part.as_deref(), Some("f-last"));
}

proptest! {
    /// Whatever was planned and whatever chains there are: the shards are the scope, and each chain stands in its own.
    #[test]
    fn the_shards_are_the_scope(
        plan in proptest::collection::btree_set("[a-z]{1,2}", 0..8),
        ends in proptest::collection::btree_set("[a-z]{1,2}", 0..12),
        opens in any::<bool>(),
    ) {
        let ends: Vec<&String> = ends.iter().collect();
        let chains: Vec<Chain> = ends.chunks_exact(2).zip(0..).map(|(two, n)| {
            let to = if opens { after(two[1]) } else { Position::Before(two[1].clone()) };
            chain(two[0], to, n)
        }).collect();
        let starts: Vec<&str> = [""].into_iter().chain(plan.iter().map(String::as_str)).collect();
        let remains = Remains { chains: chains.clone(), with_intents: Vec::new() };
        let shards = shards(&record(), planned(&starts), &remains);
        let mut at = Some(String::new());
        for shard in &shards {
            prop_assert_eq!(Some(&shard.range.start), at.as_ref());
            at.clone_from(&shard.range.end);
            let key = shard.cursor.key().unwrap_or_default();
            prop_assert!(key >= shard.range.start.as_str());
            prop_assert!(shard.range.contains(key) || shard.cursor == shard.range.end_position());
        }
        prop_assert_eq!(at, None);
        let standing: BTreeSet<&str> =
            shards.iter().filter(|shard| shard.parts > 0).map(|shard| shard.range.start.as_str()).collect();
        prop_assert_eq!(standing, chains.iter().map(|chain| chain.start.as_str()).collect());
    }
}
