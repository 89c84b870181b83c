//! What every back-end must do, as one suite that all of them run.
//!
//! Each check gets a fresh, empty back-end and panics when it is not kept to.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::backend::{Backend, Bell, Listed, RecordKey, Revision, Stored, Swap, SwapAnswer};

/// Runs every check, each on a back-end of its own.
///
/// # Panics
/// When the back-end does not keep to one.
pub async fn all<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Backend>>,
{
    values_come_back_as_written(make().await).await;
    missing_records_are_none(make().await).await;
    a_swap_is_all_or_nothing(make().await).await;
    a_swap_may_expect_more_than_it_writes(make().await).await;
    late_swaps_do_nothing(make().await).await;
    revisions_are_never_used_again(make().await).await;
    a_reader_sees_one_moment(make().await).await;
    of_concurrent_swaps_one_wins(make().await).await;
    listings_are_sorted_and_paged(make().await).await;
    time_never_goes_back(make().await).await;
    the_run_keeps_its_name(make().await).await;
    bells_hear_swaps_that_ring(make().await).await;
    a_swap_that_comes_twice_happens_once(make().await).await;
    many_records_change_in_one_swap(make().await).await;
}

/// For back-ends that outlive their process: `reopen` closes one and opens it again on the same records.
///
/// # Panics
/// When a record is lost, or a revision comes again.
pub async fn survives<Fut>(backend: Arc<dyn Backend>, reopen: impl FnOnce(Arc<dyn Backend>) -> Fut)
where
    Fut: Future<Output = Arc<dyn Backend>>,
{
    put(&*backend, "kept", b"value").await;
    put(&*backend, "removed", b"value").await;
    remove(&*backend, "removed").await;
    let before = found(&*backend, "kept").await;
    let (now, run) = (now(&*backend).await, run_id(&*backend).await);
    let backend = reopen(backend).await;
    assert_eq!(found(&*backend, "kept").await, before);
    assert_eq!(find(&*backend, "removed").await, None);
    assert!(self::now(&*backend).await >= now, "time went back over the restart");
    assert!(!run.is_empty() && !run_id(&*backend).await.is_empty());
    put(&*backend, "removed", b"value").await;
    assert_ne!(found(&*backend, "removed").await.revision, before.revision);
}

/// Any bytes, none and many.
pub async fn values_come_back_as_written(backend: Arc<dyn Backend>) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for (key, value) in [("empty", &Vec::new()), ("every byte", &every_byte), ("large", &large)] {
        put(&*backend, key, value).await;
        assert_eq!(found(&*backend, key).await.bytes, *value, "`{key}` came back otherwise");
    }
}

/// What was never written or was removed is `None`, in the place where it was asked for.
pub async fn missing_records_are_none(backend: Arc<dyn Backend>) {
    put(&*backend, "a", b"1").await;
    put(&*backend, "b", b"2").await;
    remove(&*backend, "b").await;
    let snapshot = good(backend.read(&[key("x"), key("a"), key("b"), key("a")]).await);
    let there: Vec<bool> = snapshot.records.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, true, false, true]);
}

/// One wrong expectation, and nothing of the swap happens.
pub async fn a_swap_is_all_or_nothing(backend: Arc<dyn Backend>) {
    put(&*backend, "a", b"1").await;
    let a = revision(&*backend, "a").await;
    let both = |expect| Swap {
        expect,
        writes: vec![(key("a"), Some(b"2".to_vec())), (key("b"), Some(b"2".to_vec()))],
        ..Swap::default()
    };
    let stale = both(vec![(key("a"), a), (key("b"), Some(Revision(0)))]);
    assert_eq!(good(backend.swap(stale).await), SwapAnswer::Conflict);
    let there = both(vec![(key("a"), None), (key("b"), None)]);
    assert_eq!(good(backend.swap(there).await), SwapAnswer::Conflict);
    assert_eq!((value(&*backend, "a").await, find(&*backend, "b").await), (b"1".to_vec(), None));
    is_done(backend.swap(both(vec![(key("a"), a), (key("b"), None)])).await);
    assert_eq!((value(&*backend, "a").await, value(&*backend, "b").await), (b"2".to_vec(), b"2".to_vec()));
    let again = both(vec![(key("a"), a), (key("b"), None)]);
    assert_eq!(good(backend.swap(again).await), SwapAnswer::Conflict, "the same swap happened twice");
}

/// Records that are only looked at guard the others, and are not changed.
pub async fn a_swap_may_expect_more_than_it_writes(backend: Arc<dyn Backend>) {
    put(&*backend, "job", b"running").await;
    let job = revision(&*backend, "job").await;
    let write = || Swap { expect: vec![(key("job"), job)], ..set("shard", b"x") };
    is_done(backend.swap(write()).await);
    assert_eq!(revision(&*backend, "job").await, job, "a record that was only looked at changed");
    put(&*backend, "job", b"cancelled").await;
    assert_eq!(good(backend.swap(write()).await), SwapAnswer::Conflict);
}

/// The back-end's own clock decides at the moment of the swap.
pub async fn late_swaps_do_nothing(backend: Arc<dyn Backend>) {
    let write = |not_after| Swap { not_after: Some(not_after), ..set("a", b"1") };
    let now = now(&*backend).await;
    let past = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
    assert!(matches!(good(backend.swap(write(past)).await), SwapAnswer::TooLate { now: at } if at >= now));
    assert_eq!(find(&*backend, "a").await, None);
    let future = now.checked_add(Duration::from_secs(600)).unwrap_or(now);
    is_done(backend.swap(write(future)).await);
}

/// Each value of a key has a revision of its own, also when it is written as before, or after it was removed.
pub async fn revisions_are_never_used_again(backend: Arc<dyn Backend>) {
    let mut seen = Vec::new();
    for _ in 0..20 {
        put(&*backend, "a", b"same").await;
        seen.push(found(&*backend, "a").await.revision);
        put(&*backend, "a", b"same").await;
        seen.push(found(&*backend, "a").await.revision);
        remove(&*backend, "a").await;
    }
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "a revision came again: {seen:?}");
}

/// Two records that always change together are never seen apart.
pub async fn a_reader_sees_one_moment(backend: Arc<dyn Backend>) {
    let writer = Arc::clone(&backend);
    let writing = tokio::spawn(async move {
        for n in 0..100_u32 {
            let bytes = n.to_le_bytes().to_vec();
            let writes = vec![(key("left"), Some(bytes.clone())), (key("right"), Some(bytes))];
            is_done(writer.swap(Swap { writes, ..Swap::default() }).await);
        }
    });
    while !writing.is_finished() {
        let snapshot = good(backend.read(&[key("left"), key("right")]).await);
        let values: Vec<_> = snapshot.records.iter().map(|r| r.as_ref().map(|r| &r.bytes)).collect();
        assert_eq!(values[0], values[1], "a read saw half a swap");
        tokio::task::yield_now().await;
    }
    assert!(writing.await.is_ok(), "the writer panicked");
}

/// Many tasks count up one record by compare-and-swap: each value is written once, none is lost.
pub async fn of_concurrent_swaps_one_wins(backend: Arc<dyn Backend>) {
    const TASKS: u64 = 16;
    const EACH: u64 = 8;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let backend = Arc::clone(&backend);
        tasks.spawn(async move {
            let mut won = Vec::new();
            while (won.len() as u64) < EACH {
                let stored = find(&*backend, "n").await;
                let next = stored.as_ref().map_or(0, |s| number(&s.bytes)) + 1;
                let swap =
                    Swap { expect: vec![(key("n"), stored.map(|s| s.revision))], ..set("n", &next.to_le_bytes()) };
                if matches!(good(backend.swap(swap).await), SwapAnswer::Done { .. }) {
                    won.push(next);
                }
            }
            won
        });
    }
    let mut all = BTreeSet::new();
    while let Some(won) = tasks.join_next().await {
        for n in won.unwrap_or_default() {
            assert!(all.insert(n), "{n} was written twice");
        }
    }
    assert_eq!(all, (1..=TASKS * EACH).collect(), "a swap that was answered `Done` is lost");
    assert_eq!(number(&value(&*backend, "n").await), TASKS * EACH);
}

/// Names in the order of their bytes, page by page, nothing of other prefixes, nothing twice.
pub async fn listings_are_sorted_and_paged(backend: Arc<dyn Backend>) {
    let names = ["job/", "job/a", "job/a/b", "job/ä", "job/\u{10ffff}", "job/Z", "job/a\u{1}", "job/*[?"];
    for name in names {
        put(&*backend, name, name.as_bytes()).await;
    }
    for other in ["joa", "job", "job0", "jo", "z"] {
        put(&*backend, other, b"").await;
    }
    let mut sorted = names.map(str::to_owned);
    sorted.sort_unstable();
    for limit in [1, 3, 7, 8, 100] {
        let mut listed: Vec<Listed> = Vec::new();
        loop {
            let page = good(backend.scan("job/", listed.last().map(|l| &l.key), limit).await);
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            listed.extend(page);
        }
        assert_eq!(listed.iter().map(|l| l.key.as_str()).collect::<Vec<_>>(), sorted);
        for item in listed {
            let stored = Stored { revision: item.revision, bytes: item.bytes };
            assert_eq!(found(&*backend, item.key.as_str()).await, stored, "a listing shows another value");
        }
    }
    assert_eq!(good(backend.scan("nothing/", None, 10).await), []);
}

/// Reads and swaps show a clock that only goes forward.
pub async fn time_never_goes_back(backend: Arc<dyn Backend>) {
    let mut last = now(&*backend).await;
    for _ in 0..50 {
        let SwapAnswer::Done { now: at } = good(backend.swap(set("a", b"")).await) else { panic!("refused") };
        let after = now(&*backend).await;
        assert!(last <= at && at <= after, "time went back: {last} {at} {after}");
        last = after;
    }
}

/// The name of the run is not empty and stays.
pub async fn the_run_keeps_its_name(backend: Arc<dyn Backend>) {
    let run = run_id(&*backend).await;
    put(&*backend, "a", b"1").await;
    assert!(!run.is_empty());
    assert_eq!(run_id(&*backend).await, run);
    assert_eq!(good(backend.read(&[]).await).run, run);
    is_done(backend.swap(Swap { run: Some(run), ..set("a", b"2") }).await);
    let other = Swap { run: Some("another run".into()), ..set("a", b"3") };
    assert_eq!(good(backend.swap(other).await), SwapAnswer::Conflict);
    assert_eq!(value(&*backend, "a").await, b"2");
}

/// Every bell hears of a swap that rings, in time; none hears of one that does not, or that did not happen.
pub async fn bells_hear_swaps_that_ring(backend: Arc<dyn Backend>) {
    let mut bells = [backend.bell(), backend.bell()];
    // A bell over a network may ring by itself once, when it is connected.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for bell in &mut bells {
        while heard(bell, Duration::from_millis(50)).await {}
    }
    for _ in 0..3 {
        is_done(backend.swap(Swap { ring: true, ..set("a", b"1") }).await);
        for bell in &mut bells {
            assert!(heard(bell, Duration::from_secs(2)).await, "a bell did not hear of a swap");
        }
    }
    is_done(backend.swap(set("a", b"2")).await);
    let stale = Swap { ring: true, expect: vec![(key("a"), None)], ..set("a", b"3") };
    assert_eq!(good(backend.swap(stale).await), SwapAnswer::Conflict);
    assert!(!heard(&mut bells[0], Duration::from_millis(300)).await, "a bell rang for nothing");
}

/// A swap whose answer was lost may arrive late, after others: what it expects does not stand any more.
pub async fn a_swap_that_comes_twice_happens_once(backend: Arc<dyn Backend>) {
    put(&*backend, "a", b"1").await;
    let swap = Swap { expect: vec![(key("a"), revision(&*backend, "a").await)], ..set("a", b"2") };
    is_done(backend.swap(swap.clone()).await);
    put(&*backend, "a", b"3").await;
    assert_eq!(good(backend.swap(swap).await), SwapAnswer::Conflict);
    assert_eq!(value(&*backend, "a").await, b"3");
}

/// Some hundreds at once.
pub async fn many_records_change_in_one_swap(backend: Arc<dyn Backend>) {
    let keys: Vec<RecordKey> = (0..401).map(|n| key(&format!("many/{n:03}"))).collect();
    let writes = keys.iter().map(|key| (key.clone(), Some(vec![1]))).collect();
    let expect = keys.iter().map(|key| (key.clone(), None)).collect();
    is_done(backend.swap(Swap { expect, writes, ..Swap::default() }).await);
    let all = good(backend.read(&keys).await).records;
    assert!(all.iter().all(Option::is_some));
    let expect = keys.iter().cloned().zip(all).map(|(key, there)| (key, there.map(|there| there.revision))).collect();
    let writes = keys.iter().map(|key| (key.clone(), None)).collect();
    is_done(backend.swap(Swap { expect, writes, ..Swap::default() }).await);
    assert_eq!(good(backend.scan("many/", None, 1_000).await), []);
}

async fn heard(bell: &mut Bell, patience: Duration) -> bool {
    tokio::time::timeout(patience, bell.rung()).await.is_ok()
}

fn key(name: &str) -> RecordKey {
    RecordKey(name.to_owned())
}

fn set(name: &str, bytes: &[u8]) -> Swap {
    Swap { writes: vec![(key(name), Some(bytes.to_vec()))], ..Swap::default() }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

async fn put(backend: &dyn Backend, name: &str, bytes: &[u8]) {
    is_done(backend.swap(set(name, bytes)).await);
}

async fn remove(backend: &dyn Backend, name: &str) {
    is_done(backend.swap(Swap { writes: vec![(key(name), None)], ..Swap::default() }).await);
}

async fn find(backend: &dyn Backend, name: &str) -> Option<Stored> {
    good(backend.read(&[key(name)]).await).records.into_iter().next().flatten()
}

async fn found(backend: &dyn Backend, name: &str) -> Stored {
    find(backend, name).await.unwrap_or_else(|| panic!("`{name}` is missing"))
}

async fn value(backend: &dyn Backend, name: &str) -> Vec<u8> {
    found(backend, name).await.bytes
}

async fn revision(backend: &dyn Backend, name: &str) -> Option<Revision> {
    find(backend, name).await.map(|stored| stored.revision)
}

async fn now(backend: &dyn Backend) -> Timestamp {
    good(backend.read(&[]).await).now
}

async fn run_id(backend: &dyn Backend) -> String {
    good(backend.run_id().await)
}

fn is_done(answer: Result<SwapAnswer, crate::BackendError>) {
    let answer = good(answer);
    assert!(matches!(answer, SwapAnswer::Done { .. }), "the swap was refused: {answer:?}");
}

fn good<T>(result: Result<T, crate::BackendError>) -> T {
    result.unwrap_or_else(|error| panic!("the back-end failed: {error:?}"))
}
