//! The parsers of foreign bytes, with seeds as they are and changed at random: the same cases each time, unless
//! `KEYROTATE_SEED` says others. libFuzzer, which is guided by what code runs, is worth a night: `fuzz/`.

#[path = "../../../fuzz/targets.rs"]
mod targets;

use std::path::Path;

use targets::{ALL, seeds_in};

/// Changed seeds that each target is given.
const CASES: usize = 1_500;
/// Values that sit at the edges of what parsers count with.
const EDGES: [&[u8]; 12] = [
    b"0",
    b"-1",
    b"18446744073709551616",
    b"1e999",
    b"\0",
    b"\xff\xfe",
    b"\"",
    b"{",
    b"]",
    b"\n",
    b",",
    b": !!int 'x'",
];

fn changed(dice: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[dice.usize(..seeds.len())].clone();
    for _ in 0..dice.usize(1..6) {
        let at = dice.usize(..=bytes.len());
        let end = (at + dice.usize(..40)).min(bytes.len());
        match dice.u8(..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, EDGES[dice.usize(..EDGES.len())].iter().copied())),
            3 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << dice.u8(..8)),
            4 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            _ => {
                let other = &seeds[dice.usize(..seeds.len())];
                let from = dice.usize(..=other.len());
                let until = (from + dice.usize(..200)).min(other.len());
                drop(bytes.splice(at..end, other[from..until].iter().copied()));
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_make_a_parser_panic() {
    let number = std::env::var("KEYROTATE_SEED").ok().map_or(1, |seed| seed.parse().expect("a number"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, target, places) in ALL {
        let seeds: Vec<_> = places.iter().flat_map(|place| seeds_in(&root.join(place))).collect();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| target(seed));
        let mut dice = fastrand::Rng::with_seed(number);
        for case in 0..CASES {
            let bytes = changed(&mut dice, &seeds);
            let held = std::panic::catch_unwind(|| target(&bytes));
            assert!(held.is_ok(), "{name}, case {case} of KEYROTATE_SEED={number}: {}", bytes.escape_ascii());
        }
    }
}
