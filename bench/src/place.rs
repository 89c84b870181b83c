//! Where a bare loop works: a synthetic bucket, whose keys anybody can compute.

use keyrotate_devstack::model::SyntheticKeys;

/// The bucket, its size, and the key to be under afterwards.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// The bucket.
    #[arg(long)]
    pub(crate) bucket: String,
    /// How many objects it has.
    #[arg(long)]
    pub(crate) count: u64,
    /// The KMS key that writes name.
    #[arg(long, default_value = "")]
    pub(crate) kms_key: String,
}

impl Place {
    /// The first moment after the date of all synthetic objects, as MinIO's header has it.
    pub(crate) const MOMENT_AFTER: &str = "1970-01-01T00:00:00.001Z";

    /// The object at a place of the order.
    pub(crate) fn key(&self, index: u64) -> String {
        SyntheticKeys::under_key(self.count, "").key(index)
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        (0..self.count).map(|index| self.key(index)).collect()
    }
}
