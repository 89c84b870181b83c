//! Retries against a store that answers what a script says, on paused time.

use bytes::Bytes;
use futures::stream;
use jiff::Timestamp;

use super::*;
use crate::scripted::Scripted;

const EVERY_KIND: [ErrorKind; 19] = [
    ErrorKind::NotFound,
    ErrorKind::NoSuchBucket,
    ErrorKind::Precondition,
    ErrorKind::Throttled,
    ErrorKind::Denied,
    ErrorKind::Credentials,
    ErrorKind::ClockSkew,
    ErrorKind::KmsKeyNotFound,
    ErrorKind::Kms,
    ErrorKind::CustomerKey,
    ErrorKind::Archived,
    ErrorKind::Locked,
    ErrorKind::Refused,
    ErrorKind::Server,
    ErrorKind::Timeout,
    ErrorKind::Unreachable,
    ErrorKind::Cut,
    ErrorKind::Nonsense,
    ErrorKind::LeaseOver,
];

fn store(script: impl IntoIterator<Item = ErrorKind>, policy: RetryPolicy) -> Retrying<Scripted> {
    Retrying::new(Scripted::answering(script), policy, Env::seeded(1, Timestamp::UNIX_EPOCH))
}

fn at() -> ObjectAt {
    ObjectAt::current("b", "k")
}

fn put() -> PutRequest {
    PutRequest { at: at(), new: NewObject::default(), guard: Guard::None, place: InPlace::default() }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_sent_again_after_what_passes_and_never_after_what_does_not() {
    for kind in EVERY_KIND {
        let store = store([kind], RetryPolicy::default());
        let ended = store.head(HeadRequest::of(&at())).await;
        assert_eq!(ended.is_ok(), kind.is_transient(), "{kind:?}");
        assert_eq!(store.inner.sent(), 1 + usize::from(kind.is_transient()), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_sent_again_only_where_it_had_no_effect() {
    for kind in EVERY_KIND {
        let store = store([kind], RetryPolicy::default());
        let harmless = matches!(kind, ErrorKind::Throttled | ErrorKind::Unreachable);
        let ended = store.put(put(), Bytes::from_static(b"body").into()).await;
        assert_eq!(ended.is_ok(), harmless, "{kind:?}");
        let bodies = store.inner.bodies();
        assert_eq!(bodies, vec![Bytes::from_static(b"body"); 1 + usize::from(harmless)], "{kind:?}");
    }
}

/// A 503 comes from proxies, too, when the write was made: a second one in place would destroy the object.
#[tokio::test(start_paused = true)]
async fn a_throttled_write_in_place_is_given_back_and_of_a_refused_one_nothing_is_certain() {
    let place = InPlace { source_mtime: Some(Timestamp::UNIX_EPOCH), ..InPlace::default() };
    let in_place = store([ErrorKind::Throttled], RetryPolicy::default());
    let ended = in_place.put(PutRequest { place, ..put() }, Bytes::from_static(b"body").into()).await.unwrap_err();
    assert_eq!((ended.kind, in_place.inner.sent()), (ErrorKind::Throttled, 1));

    let refused = store([ErrorKind::Throttled, ErrorKind::Precondition], RetryPolicy::default());
    let ended = refused.put(put(), Bytes::from_static(b"body").into()).await.unwrap_err();
    assert!(ended.kind.is_ambiguous(), "{ended}");
    let refused = store([ErrorKind::Precondition], RetryPolicy::default());
    let ended = refused.put(put(), Bytes::from_static(b"body").into()).await.unwrap_err();
    assert_eq!(ended.kind, ErrorKind::Precondition);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_can_be_read_once_is_sent_once() {
    let store = store([ErrorKind::Throttled], RetryPolicy::default());
    let body = Body::Stream { length: 1, stream: Box::pin(stream::iter([Ok(Bytes::from_static(b"x"))])) };
    let error = store.put(put(), body).await.unwrap_err();
    assert_eq!((error.kind, error.operation), (ErrorKind::Throttled, "Scripted"));
    assert_eq!(store.inner.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn deleting_is_repeated_only_for_an_exact_version() {
    let exact = store([ErrorKind::Timeout], RetryPolicy::default());
    exact.delete(&at().at_version(Some("v".into()))).await.unwrap();
    let current = store([ErrorKind::Timeout], RetryPolicy::default());
    assert_eq!(current.delete(&at()).await.unwrap_err().kind, ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn tries_and_time_are_bounded_and_waits_grow_with_jitter() {
    let many = |kind| std::iter::repeat_n(kind, 1000);
    let policy = RetryPolicy { tries: 5, ..RetryPolicy::default() };
    let tries = store(many(ErrorKind::Unreachable), policy);
    tries.head(HeadRequest::of(&at())).await.unwrap_err();
    assert_eq!(tries.inner.sent(), 5);
    for (n, wait) in tries.inner.waits().into_iter().enumerate() {
        let interval = Duration::from_millis(100 << n);
        assert!(wait >= interval / 2 && wait <= interval + Duration::from_millis(2), "wait {n}: {wait:?}");
    }
    let policy = RetryPolicy { tries: 1, total: Duration::from_secs(30), budget: 0, ..RetryPolicy::default() };
    let time = store(many(ErrorKind::Throttled), policy);
    let began = Instant::now();
    time.head(HeadRequest::of(&at())).await.unwrap_err();
    assert!(began.elapsed() <= Duration::from_secs(30) && began.elapsed() >= Duration::from_secs(15));
    assert!(time.inner.waits().iter().all(|wait| *wait <= Duration::from_millis(10_002)));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_waits_the_same() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let store = store([ErrorKind::Cut; 5], RetryPolicy::default());
        store.head(HeadRequest::of(&at())).await.unwrap();
        runs.push(store.inner.waits());
    }
    assert_eq!(runs[0].len(), 5);
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test(start_paused = true)]
async fn one_budget_bounds_the_retries_of_all_calls_and_successes_refill_it() {
    let policy = RetryPolicy { budget: 3, ..RetryPolicy::default() };
    let store = store([ErrorKind::Server; 8], policy);
    for _ in 0..5 {
        store.head(HeadRequest::of(&at())).await.unwrap_err();
    }
    assert_eq!(store.inner.sent(), 8, "five calls and three retries");
    for _ in 0..10 {
        store.head(HeadRequest::of(&at())).await.unwrap();
    }
    store.inner.then(ErrorKind::Server);
    store.head(HeadRequest::of(&at())).await.unwrap();
    assert_eq!(store.pressure().retried(), 4);
}

#[tokio::test(start_paused = true)]
async fn pressure_tells_throttling_from_other_trouble() {
    let script = [ErrorKind::Throttled, ErrorKind::Timeout, ErrorKind::Throttled];
    let store = store(script, RetryPolicy::default());
    store.head(HeadRequest::of(&at())).await.unwrap();
    let pressure = store.pressure();
    assert_eq!(pressure.head_times().within(0.5, 0), Some(Duration::from_micros(100)), "one HEAD ended well");
    assert_eq!((pressure.answered(), pressure.throttled(), pressure.unreached(), pressure.retried()), (1, 2, 1, 3));
}
