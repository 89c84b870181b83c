//! A holder that was frozen in the middle of a write, and the one that took its work over: whichever write arrives first,
//! the object is there, whole, and under the key.

use super::*;

#[derive(Clone, Copy, Debug)]
enum Order {
    /// The frozen one's write arrives behind the other's.
    Late,
    /// It arrives in the moment before the other's.
    Early,
}

/// Writes as a holder does.
async fn through(rewrapper: &Rewrapper, look: Look) -> Vec<Row> {
    let Look::Write(plan) = look else { panic!("nothing to write: {look:?}") };
    match rewrapper.write(plan).await.unwrap_or_else(|end| panic!("{}", end.halt)) {
        Settled::Row(row) => vec![row],
        Settled::Unread(one) => read_back(rewrapper, vec![*one]).await.unwrap(),
    }
}

/// The frozen holder's look and the other's at the same entry, and their writes in that order.
async fn meet(world: &World, rewrapper: Rewrapper, order: Order) -> [Vec<Row>; 2] {
    let entry = world.list(&rewrapper.rules().frozen).await.remove(0);
    let frozen_one = rewrapper.look(&entry).await.unwrap();
    let other = rewrapper.look_in_doubt(&entry).await.unwrap();
    let (holds_up, goes_first) = match order {
        Order::Late => (frozen_one, other),
        Order::Early => (other, frozen_one),
    };
    let Look::Write(plan) = &holds_up else { panic!("nothing to write: {holds_up:?}") };
    // Each is a process of its own.
    let rules = rewrapper.rules();
    let acts = Arc::new(world.with(rules.spec.clone(), rules.frozen.clone()));
    let rows = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (said, first) = (rows.clone(), std::sync::Mutex::new(Some(goes_first)));
    let deed = Action::Before(Arc::new(move || {
        let (acts, said, look) = (acts.clone(), said.clone(), first.lock().unwrap().take().unwrap());
        async move {
            let made = through(&acts, look).await;
            said.lock().unwrap().extend(made);
        }
        .boxed()
    }));
    world.store.faults().add(Rule::on(writing(plan.strategy), deed).nth(1));
    let behind = through(&rewrapper, holds_up).await;
    let before = std::mem::take(&mut *rows.lock().unwrap());
    [before, behind]
}

#[tokio::test(start_paused = true)]
async fn a_write_of_a_frozen_holder_harms_nothing_whenever_it_arrives() {
    for order in [Order::Late, Order::Early] {
        for (world, rewrapper, strategy) in everywhere().await {
            let name = format!("{} {order:?}", name(&world, &rewrapper, strategy));
            put_without_checksum(world.store.store(), kms(OLD), &[]).await;
            world.later().await;
            let (before, body, tags) = world.get("k").await;
            let rows = meet(&world, rewrapper, order).await;
            let found = world.store.store().get(GetRequest::of(&ObjectAt::current(BUCKET, "k"))).await;
            let (now, _) = found.unwrap_or_else(|e| panic!("{name}: {e}, {rows:#?}"));
            assert_eq!((world.get("k").await.1, now.headers.clone()), (body, before.headers), "{name}");
            assert!(crate::readback::same_tags(&world.get("k").await.2, &tags), "{name}");
            assert!(now.sse.seal().kms_key().unwrap().same_key(&KeyName(NEW.into())), "{name}: {rows:#?}");
            assert!(!rows[0].is_empty() && !rows[1].is_empty(), "{name}: both wrote");
            assert!(world.store.uploads(BUCKET, "").await.unwrap().is_empty(), "{name}: an upload is left");
        }
    }
}

/// Under SSE-S3 an ETag says nothing of who wrote.
#[tokio::test(start_paused = true)]
async fn nor_does_it_where_the_etag_stays() {
    for order in [Order::Late, Order::Early] {
        for mode in Mode::all() {
            for versioning in VERSIONINGS {
                let name = format!("{} {versioning:?} {order:?}", mode.name);
                let world = World::new(mode.clone(), versioning).await;
                let spec = JobSpec { dialect: Dialect::Minio, target: Target::SseS3, ..any_size(spec()) };
                let rewrapper = world.rewrapper(spec).await;
                put_without_checksum(world.store.store(), Sse::S3, &[]).await;
                world.later().await;
                let (_, body, _) = world.get("k").await;
                let rows = meet(&world, rewrapper, order).await;
                let found = world.store.store().get(GetRequest::of(&ObjectAt::current(BUCKET, "k"))).await;
                assert!(found.is_ok(), "{name}: {rows:#?}");
                assert_eq!(world.get("k").await.1, body, "{name}");
            }
        }
    }
}
