//! Waiting for something to be so.

use std::time::Duration;

use tokio::time::Instant;

/// How long anything may take before a test gives up on it. The suite shares its machine with others.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until `holds`.
///
/// # Panics
/// When it does not hold within two minutes; the message names `what`.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < give_up, "waited {LIMIT:?} in vain until {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
