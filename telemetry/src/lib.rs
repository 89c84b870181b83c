//! What keyrotate tells about itself while it works: logs, traces and metrics. Nothing here may hold the work up.

mod logs;

pub use logs::logs;
