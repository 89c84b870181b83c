//! The fence on paused time, below the layer that sends again.

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::retry::{RetryPolicy, Retrying};
use crate::scripted::Scripted;

const LEASE_TIME: Duration = Duration::from_secs(60);

fn env() -> Env {
    Env::seeded(1, Timestamp::UNIX_EPOCH)
}

fn lease(env: &Env) -> Deadline {
    Deadline::new(env.clone(), env.boottime() + LEASE_TIME, LEASE_TIME)
}

fn put() -> PutRequest {
    let at = ObjectAt::current("b", "k");
    PutRequest { at, new: NewObject::default(), guard: Guard::None, place: InPlace::default() }
}

async fn write_to(store: &impl Store) -> Result<Written> {
    store.put(put(), Bytes::from_static(b"body").into()).await
}

fn kind<T: std::fmt::Debug>(ended: Result<T>) -> ErrorKind {
    ended.unwrap_err().kind
}

#[tokio::test(start_paused = true)]
async fn no_write_begins_in_the_last_quarter_of_a_lease() {
    let (env, store) = (env(), Fenced::new(Scripted::answering([])));
    let lease = lease(&env);
    lease.bounds(write_to(&store)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(46)).await;
    assert!(!lease.has_refused());
    assert_eq!(kind(lease.bounds(write_to(&store)).await), ErrorKind::LeaseOver);
    let at = ObjectAt::current("b", "k");
    assert_eq!(kind(lease.bounds(store.delete(&at)).await), ErrorKind::LeaseOver);
    assert!(lease.has_refused());
    assert_eq!(store.0.sent(), 1, "nothing was sent");
    lease.bounds(store.head(HeadRequest::of(&at))).await.unwrap();
    lease.extend(env.boottime() + LEASE_TIME);
    lease.bounds(write_to(&store)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_throttled_write_is_not_sent_again_towards_the_end_of_its_lease() {
    let env = env();
    let policy = RetryPolicy { tries: 1000, total: Duration::from_secs(3600), ..RetryPolicy::default() };
    let throttled = Scripted::answering(std::iter::repeat_n(ErrorKind::Throttled, 1000));
    let sent = throttled.times();
    let store = Retrying::new(Fenced::new(throttled), policy, env.clone());
    let began = Instant::now();
    assert_eq!(kind(lease(&env).bounds(write_to(&store)).await), ErrorKind::LeaseOver);
    let sent = sent.lock().unwrap();
    assert!(sent.len() > 3, "{sent:?}");
    assert!(sent.iter().all(|time| *time < began + LEASE_TIME * 3 / 4), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_lasts_is_given_up_with_its_lease_and_goes_on_with_a_longer_one() {
    let env = env();
    let store = Fenced::new(Scripted::taking(Duration::from_secs(300)));
    let began = Instant::now();
    assert_eq!(kind(lease(&env).bounds(write_to(&store)).await), ErrorKind::LeaseOver);
    let lasted = began.elapsed();
    assert!(lasted < LEASE_TIME && lasted > LEASE_TIME * 3 / 4, "{lasted:?}");

    let lease = lease(&env);
    let renewing = async {
        loop {
            tokio::time::sleep(LEASE_TIME / 3).await;
            lease.extend(env.boottime() + LEASE_TIME);
        }
    };
    let began = Instant::now();
    tokio::select! {
        written = lease.bounds(write_to(&store)) => drop(written.unwrap()),
        () = renewing => {}
    }
    assert_eq!(began.elapsed().as_secs(), 300);
}

/// What a frozen process does first when it goes on: the next step of what it was at, with all timers still to fire.
#[tokio::test(start_paused = true)]
async fn a_frozen_write_is_not_sent_when_the_process_goes_on() {
    let env = env();
    let store = Fenced::new(Scripted::pondering(Duration::from_millis(5)));
    let lease = lease(&env);
    let mut writing = pin!(lease.bounds(write_to(&store)));
    let begun = poll_fn(|context| Poll::Ready(writing.as_mut().poll(context).is_pending())).await;
    assert!(begun);
    tokio::time::advance(LEASE_TIME).await;
    assert_eq!(kind(writing.await), ErrorKind::LeaseOver);
    assert_eq!(store.0.sent(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_signed_with_the_time_at_which_it_was_asked_for() {
    let env = env();
    let seen = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(signed_at())
    };
    let asked = env.now();
    assert_eq!(lease(&env).bounds(write("PutObject", seen)).await.unwrap(), Some(asked));
    assert_eq!(signed_at(), None);
    assert_eq!(write("PutObject", async { Ok(signed_at()) }).await.unwrap(), None, "it is under no lease");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_gives_its_writes_up_however_long_the_lease_is() {
    let env = env();
    let store = Fenced::new(Scripted::taking(Duration::from_secs(300)));
    let lease = lease(&env);
    let (began, ends) = (Instant::now(), Duration::from_secs(20));
    let told = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        lease.end_within(ends);
        lease.extend(env.boottime() + LEASE_TIME);
    };
    let (ended, ()) = tokio::join!(lease.bounds(write_to(&store)), told);
    assert_eq!(kind(ended), ErrorKind::LeaseOver);
    assert!(began.elapsed() < ends && began.elapsed() > ends * 3 / 4, "{:?}", began.elapsed());
}
