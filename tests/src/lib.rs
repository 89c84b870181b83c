//! What whole-system tests stand on: the real executable as a child process, a store that it works on, a client that
//! looks at that store independently, and an oracle that knows what must hold after every job.
//!
//! Tests run against the embedded store in each of its modes, against moto's server, or against any store that the
//! environment names (`docs/acceptance.md`). Waits look again and again until what they wait for is so, and end in a
//! failure that says what it was; nothing here sleeps and hopes.

pub mod bucket;
pub mod collector;
pub mod exe;
pub mod fleet;
pub mod job;
mod old_keys;
pub mod oracle;
pub mod proxy;
pub mod raw;
pub mod reader;
pub mod report;
pub mod stand;
pub mod target;
pub mod wait;
pub mod writer;

/// What every test begins with.
pub mod prelude {
    pub use crate::bucket::{Put, Snapshot};
    pub use crate::exe::{Ended, Process};
    pub use crate::job::JobFile;
    pub use crate::oracle::{self, Expect};
    pub use crate::report::Report;
    pub use crate::stand::Stand;
    pub use crate::target::Target;
    pub use crate::wait::until;
    pub use crate::writer::Writer;
    pub use keyrotate_devstack::model::Mode;
    pub use keyrotate_devstack::server::{Fault, FaultRule};
}
