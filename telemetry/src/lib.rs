//! What keyrotate tells about itself while it works: logs, traces and metrics. Nothing here may hold the work up.

mod logs;
pub mod metrics;
pub mod names;

pub use logs::logs;
pub use metrics::metrics;
pub use names::Role;
