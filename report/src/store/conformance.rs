//! What every report store must do: plain functions that each take a maker of fresh, empty stores. A back-end's
//! tests call [`all`].

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;

use super::{ReportError, ReportStore};

/// Runs every check.
///
/// # Panics
/// At the first thing that is not as it must be.
pub async fn all<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn ReportStore>>,
{
    what_was_put_is_read_back(make().await).await;
    put_new_never_overwrites(make().await).await;
    put_overwrites(make().await).await;
    swap_writes_only_over_what_was_read(make().await).await;
    missing_files_are_said_to_be_missing(make().await).await;
    the_start_of_a_file_is_read(make().await).await;
    lists_by_prefix_in_byte_order(make().await).await;
    names_can_not_lead_out(make().await).await;
    of_many_at_once_one_wins(make().await).await;
}

/// A file reads back byte for byte, the empty one too.
///
/// # Panics
/// When it does not.
pub async fn what_was_put_is_read_back(store: Arc<dyn ReportStore>) {
    let large: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    for (name, bytes) in [("a", vec![]), ("parts/p001/s000001/x-1.csv.gz", large), ("b/c", vec![0, 255, 10, 13])] {
        store.put_new(name, bytes.clone()).await.expect("put_new");
        assert_eq!(store.get(name).await.expect("get"), bytes, "{name}");
    }
}

/// The second `put_new` of a name is refused, and the file stays.
///
/// # Panics
/// When it does not.
pub async fn put_new_never_overwrites(store: Arc<dyn ReportStore>) {
    store.put_new("f/a", b"first".to_vec()).await.expect("put_new");
    let again = store.put_new("f/a", b"second".to_vec()).await;
    assert!(matches!(&again, Err(ReportError::Exists(name)) if name == "f/a"), "{again:?}");
    assert_eq!(store.get("f/a").await.expect("get"), b"first");
}

/// `swap` writes where the file is as it was read, and only there; of many at once one wins.
///
/// # Panics
/// When it does not.
pub async fn swap_writes_only_over_what_was_read(store: Arc<dyn ReportStore>) {
    let swap = async |seen: Option<&str>, next: &str| {
        store.swap("lease.json", seen.map(str::as_bytes), next.into()).await.expect("swap")
    };
    assert!(!swap(Some("a"), "b").await, "it is not there");
    assert!(swap(None, "a").await);
    assert!(!swap(None, "b").await && !swap(Some("b"), "c").await, "it is `a`");
    assert!(swap(Some("a"), "b").await);
    assert_eq!(store.get("lease.json").await.expect("get"), b"b");
    let names: Vec<_> = (0..8).map(|n| format!("of {n}")).collect();
    let swapped: Vec<_> =
        futures::stream::iter(&names).map(|next| swap(Some("b"), next)).buffer_unordered(8).collect().await;
    assert_eq!(swapped.into_iter().filter(|swapped| *swapped).count(), 1);
}

/// `put` takes the place of what was there, also of what `put_new` wrote.
///
/// # Panics
/// When it does not.
pub async fn put_overwrites(store: Arc<dyn ReportStore>) {
    store.put_new("summary.json", b"a longer first text".to_vec()).await.expect("put_new");
    store.put("summary.json", b"second".to_vec()).await.expect("put");
    assert_eq!(store.get("summary.json").await.expect("get"), b"second");
    store.put("other.json", b"new".to_vec()).await.expect("put");
    assert_eq!(store.list("").await.expect("list"), ["other.json", "summary.json"]);
}

/// `get` and `get_start` of what is not there.
///
/// # Panics
/// When they say anything but [`ReportError::NotFound`].
pub async fn missing_files_are_said_to_be_missing(store: Arc<dyn ReportStore>) {
    store.put("there/file", vec![1]).await.expect("put");
    for name in ["nothing", "there/nothing", "there", "there/file/below"] {
        let got = store.get(name).await;
        assert!(matches!(&got, Err(ReportError::NotFound(n)) if n == name), "{name}: {got:?}");
        let got = store.get_start(name, 10).await;
        assert!(matches!(&got, Err(ReportError::NotFound(n)) if n == name), "{name}: {got:?}");
    }
}

/// `get_start` gives the first bytes, and a shorter file whole.
///
/// # Panics
/// When it does not.
pub async fn the_start_of_a_file_is_read(store: Arc<dyn ReportStore>) {
    store.put("a", b"0123456789".to_vec()).await.expect("put");
    store.put("empty", vec![]).await.expect("put");
    for (limit, want) in [(0, ""), (4, "0123"), (10, "0123456789"), (1 << 20, "0123456789")] {
        assert_eq!(store.get_start("a", limit).await.expect("get_start"), want.as_bytes());
    }
    assert_eq!(store.get_start("empty", 5).await.expect("get_start"), b"");
}

/// Listings are by prefix (of the name, not of the folder), whole and sorted.
///
/// # Panics
/// When they are not.
pub async fn lists_by_prefix_in_byte_order(store: Arc<dyn ReportStore>) {
    assert_eq!(store.list("").await.expect("list"), Vec::<String>::new());
    assert_eq!(store.list("parts/p001/").await.expect("list"), Vec::<String>::new());
    let mut names = vec!["parts/p001/a", "parts/p001/s1/b", "parts/p001-x", "parts/p002/a", "Z", "intents/p001/a"];
    for name in &names {
        store.put(name, vec![7]).await.expect("put");
    }
    names.sort_unstable();
    assert_eq!(store.list("").await.expect("list"), names);
    let cases: [(&str, &[&str]); 5] = [
        ("parts/p001", &["parts/p001-x", "parts/p001/a", "parts/p001/s1/b"]),
        ("parts/p001/", &["parts/p001/a", "parts/p001/s1/b"]),
        ("parts/p002/a", &["parts/p002/a"]),
        ("parts/p002/a/", &[]),
        ("q", &[]),
    ];
    for (prefix, want) in cases {
        assert_eq!(store.list(prefix).await.expect("list"), want, "{prefix}");
    }
    let put = |n: u32| {
        let store = Arc::clone(&store);
        async move { store.put_new(&format!("many/{n:05}"), vec![]).await.expect("put_new") }
    };
    futures::stream::iter((0..1_100).map(put)).buffer_unordered(64).collect::<()>().await;
    assert_eq!(store.list("many/").await.expect("list").len(), 1_100, "more than a page of a bucket's listing");
}

/// Names that lead out of the folder are refused by every method.
///
/// # Panics
/// When they are not.
pub async fn names_can_not_lead_out(store: Arc<dyn ReportStore>) {
    let long = "a".repeat(513);
    for name in
        ["", "/", "/etc/x", "..", "../x", "a/../../x", "a//b", "a/", "./a", ".hidden", "a\0b", "a\\..\\b", "ä", &long]
    {
        let refused = |r: Result<(), ReportError>| matches!(r, Err(ReportError::BadName(n)) if n == name);
        assert!(refused(store.put_new(name, vec![1]).await), "put_new {name:?}");
        assert!(refused(store.put(name, vec![1]).await), "put {name:?}");
        assert!(refused(store.get(name).await.map(drop)), "get {name:?}");
        assert!(refused(store.get_start(name, 1).await.map(drop)), "get_start {name:?}");
    }
    assert_eq!(store.list("").await.expect("list"), Vec::<String>::new());
}

/// Of several `put_new` of one name at the same time exactly one succeeds, and its bytes are there.
///
/// # Panics
/// When it is otherwise.
pub async fn of_many_at_once_one_wins(store: Arc<dyn ReportStore>) {
    let put = |n: u8| {
        let store = Arc::clone(&store);
        async move { (n, store.put_new("race/file", vec![n; 1000]).await) }
    };
    let mut winners = Vec::new();
    for (n, result) in futures::future::join_all((0..16).map(put)).await {
        match result {
            Ok(()) => winners.push(n),
            Err(ReportError::Exists(_)) => {}
            Err(other) => panic!("neither written nor refused: {other:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(store.get("race/file").await.expect("get"), vec![winners[0]; 1000]);
    assert_eq!(store.list("").await.expect("list"), ["race/file"]);
}
