//! Whole fleets on seeded time: the shipped coordinator, worker, checkpoint and rewrapper over a store, a queue and a
//! back-end in memory, in a storm of everything that can happen to them.
//!
//! `KEYROTATE_SEED=N` replays one seed and tells of it; `KEYROTATE_SEEDS=N` tries so many.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]
#![expect(clippy::print_stdout, reason = "a seed that is replayed tells of itself")]

mod dice;
mod fleet;
mod oracle;
mod storm;
mod wire;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use keyrotate_env::Safeguard;

use fleet::Fleet;
use storm::Storm;

/// Seeds of one run, where nobody says how many.
const SEEDS: u64 = 500;

/// What came of a seed.
struct Simulated {
    harms: Vec<String>,
    told: Vec<String>,
}

fn simulate(seed: u64, tells: bool) -> Simulated {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let simulated = async {
        let fleet = Fleet::new(seed, tells).await;
        let mut storm = Storm::new(&fleet).await;
        storm.blow().await;
        let completed = storm.calm_down().await;
        storm.quiet().await;
        if let Some((job, key)) = completed {
            fleet.check(&job, key).await;
        }
        Simulated { harms: fleet.watch.harms(), told: fleet.trace.told() }
    };
    runtime.block_on(simulated)
}

/// A seed is worth something only while it does the same each time.
#[test]
fn a_seed_does_the_same_each_time() {
    for seed in 0..20 {
        let (one, other) = (simulate(seed, true), simulate(seed, true));
        assert!(!one.told.is_empty());
        let differs = one.told.iter().zip(&other.told).position(|(one, other)| one != other);
        let at = differs.map(|at| (&one.told[at.saturating_sub(3)..=at], &other.told[at.saturating_sub(3)..=at]));
        assert!(one.told == other.told, "seed {seed} goes apart at {differs:?}: {at:#?}");
    }
}

/// Seeds in which harm is done or nobody comes to an end, until there are `enough` of them.
fn harmful(seeds: Range<u64>, enough: usize, without: Option<Safeguard>) -> Vec<(u64, Vec<String>)> {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || found.lock().unwrap_or_else(PoisonError::into_inner).len() >= enough {
                return;
            }
            let run = || std::panic::catch_unwind(|| simulate(seed, false));
            let simulated = without.map_or_else(run, |safeguard| safeguard.without(run));
            let harms = simulated.map_or_else(|_| vec!["it panicked".to_owned()], |simulated| simulated.harms);
            if !harms.is_empty() {
                found.lock().unwrap_or_else(PoisonError::into_inner).push((seed, harms));
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort();
    found
}

#[test]
#[ignore = "takes its time: `./test simulation`"]
fn no_storm_does_harm() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("KEYROTATE_SEED") {
        let simulated = simulate(seed, true);
        simulated.told.iter().for_each(|line| println!("{line}"));
        assert!(simulated.harms.is_empty(), "{:#?}", simulated.harms);
        return;
    }
    let count = number("KEYROTATE_SEEDS").unwrap_or(SEEDS);
    let found = harmful(0..count, usize::MAX, None);
    println!("{count} seeds");
    assert!(found.is_empty(), "replay one with KEYROTATE_SEED=N: {found:#?}");
}

/// What a safeguard is there for shows when it is taken away from the code that is shipped.
#[test]
#[ignore = "takes its time: `./test simulation`"]
fn without_any_one_of_the_safeguards_harm_is_done() {
    use Safeguard::{Cursor, End, Etag, Fence, Intents, Nonce};
    for safeguard in [Fence, Cursor, End, Intents, Etag, Nonce] {
        let found = harmful(0..SEEDS, 1, Some(safeguard));
        println!("without {safeguard:?}: {found:?}");
        assert!(!found.is_empty(), "without {safeguard:?} nothing happens");
    }
}
