//! Work under one lease that is not cut into windows.

use keyrotate_checkpoint::{HeldLease, Ledger, LedgerError};

/// Does `work`, which may last longer than a lease, and renews the lease meanwhile; once more at the end, so that what
/// was found counts only if it was found under the lease. `None` when the job wants no such work any more; then, and
/// when the lease is lost, the work is dropped where it stands.
pub(crate) async fn held<T>(
    ledger: &Ledger,
    lease: &mut HeldLease,
    work: impl Future<Output = T>,
) -> Result<Option<T>, LedgerError> {
    tokio::pin!(work);
    loop {
        let done = tokio::select! {
            done = &mut work => Some(done),
            () = tokio::time::sleep(lease.ttl() / 3) => None,
        };
        if ledger.renew(lease).await?.must_stop {
            return Ok(None);
        }
        if done.is_some() {
            return Ok(done);
        }
    }
}
