//! The wrapper that fails.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

async fn faulty() -> (Faulty<StoreModel>, World) {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    w.put("k", key("old"), "hello").await;
    (Faulty::new(w.model.clone()), w)
}

fn put() -> PutRequest {
    PutRequest { at: at("k"), new: under(key("new")), guard: Guard::None, place: InPlace::default() }
}

#[tokio::test(start_paused = true)]
async fn calls_fail_before_or_after_their_effect() {
    let (store, w) = faulty().await;
    store.faults().add(Rule::on("PutObject", Action::FailBefore(ErrorKind::Throttled)).nth(2));
    store.put(put(), Bytes::from("1").into()).await.unwrap();
    let error = store.put(put(), Bytes::from("2").into()).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Throttled, Some("SlowDown")));
    assert_eq!(w.body(&at("k")).await.unwrap(), "1");
    store.put(put(), Bytes::from("3").into()).await.unwrap();
    store.faults().add(Rule::on("PutObject", Action::FailAfter(ErrorKind::Timeout)).of_key("k").times(1));
    assert_eq!(kind(store.put(put(), Bytes::from("4").into()).await), ErrorKind::Timeout);
    assert_eq!(w.body(&at("k")).await.unwrap(), "4");
    store.put(put(), Bytes::from("5").into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_take_time_and_bodies_end_early() {
    let (store, _w) = faulty().await;
    store.faults().latency(Duration::from_secs(2));
    let begin = tokio::time::Instant::now();
    store.head(HeadRequest::of(&at("k"))).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_secs(2));
    store.faults().clear();
    for bytes in 0..5 {
        store.faults().add(Rule::on("GetObject", Action::CutBody(bytes)).times(1));
        let (object, body) = store.get(GetRequest::of(&at("k"))).await.unwrap();
        assert_eq!((object.size, body.len()), (5, 5));
        assert_eq!(kind(body.collect().await), ErrorKind::Cut);
    }
    store.faults().add(Rule::on("GetObject", Action::CutBody(5)).times(1));
    assert_eq!(store.get(GetRequest::of(&at("k"))).await.unwrap().1.collect().await.unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn somebody_else_acts_at_a_chosen_moment() {
    let (store, w) = faulty().await;
    let (model, times) = (w.model.clone(), Arc::new(AtomicU32::new(0)));
    let counted = times.clone();
    let deed: Arc<dyn Fn() -> futures::future::BoxFuture<'static, ()> + Send + Sync> = Arc::new(move || {
        let (model, counted) = (model.clone(), counted.clone());
        Box::pin(async move {
            counted.fetch_add(1, Ordering::SeqCst);
            model.delete(&at("k")).await.unwrap();
        })
    });
    store.faults().add(Rule::when(|call| call.operation == "HeadObject" && call.bucket == "b", Action::After(deed)));
    store.head(HeadRequest::of(&at("k"))).await.unwrap();
    assert_eq!(times.load(Ordering::SeqCst), 1);
    assert_eq!(kind(w.body(&at("k")).await), ErrorKind::NotFound);
}
