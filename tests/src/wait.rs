//! Waiting for something to be so.

use std::time::Duration;

use tokio::time::Instant;

/// How long anything may take before a test gives up on it. The suite shares its machine with others.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a whole job may take: some stores serve one request at a time, and another test's job is at it too.
pub(crate) const LIMIT_OF_A_JOB: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until `holds`.
///
/// # Panics
/// When it does not hold within two minutes; the message names `what`.
pub async fn until(what: &str, holds: impl FnMut() -> bool) {
    within(LIMIT, what, holds).await;
}

/// [`until`], with a limit of its own.
pub(crate) async fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < give_up, "waited {limit:?} in vain until {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
