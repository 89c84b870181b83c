//! Work under one lease that is not cut into windows.

use std::pin::pin;

use keyrotate_checkpoint::{HeldLease, Ledger, LedgerError};
use keyrotate_env::Env;
use keyrotate_store::wrap::fenced::Deadline;
use tokio_util::sync::CancellationToken;

/// Does `work`, which may last longer than a lease, and renews the lease meanwhile; once more at the end, so that what
/// was found counts only if it was found under the lease. `None`: nothing was found that counts, since this worker
/// stops, the job wants no such work any more, or a write in it would have come too late. Then, and when the lease is
/// lost, the work is dropped where it stands; whoever does it again begins by removing what it left.
pub(crate) async fn held<T>(
    ledger: &Ledger,
    env: &Env,
    lease: &mut HeldLease,
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<Option<T>, LedgerError> {
    let deadline = Deadline::new(env.clone(), lease.deadline(), lease.ttl());
    let mut work = pin!(deadline.bounds(work));
    loop {
        let done = tokio::select! {
            biased;
            done = &mut work => Some(done),
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(lease.ttl() / 3) => None,
        };
        if ledger.renew(lease).await?.must_stop || deadline.has_refused() {
            return Ok(None);
        }
        deadline.extend(lease.deadline());
        if done.is_some() {
            return Ok(done);
        }
    }
}
