//! The one who looks, writes and reads back.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use keyrotate_env::Env;
use keyrotate_proto::capability::Frozen;
use keyrotate_proto::row::Row;
use keyrotate_proto::spec::JobSpec;
use keyrotate_store::{Entry, ObjectAt, Store};

use crate::halt::Halt;
use crate::plan::{Look, Plan, Settled, Unread};

/// What decides about every object of a job.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The job file's meaning.
    pub spec: JobSpec,
    /// The job's start: durations of filters count back from it.
    pub started: Timestamp,
    /// What was proven about the store.
    pub frozen: Frozen,
    /// Exact names of our own objects in the bucket: left out.
    pub own_keys: BTreeSet<String>,
}

/// Rotates objects, one at a time, for one job. Cheap to share: all methods take `&self`.
#[derive(Debug)]
pub struct Rewrapper {
    _store: Arc<dyn Store>,
    _rules: Rules,
    _env: Env,
}

impl Rewrapper {
    /// A rewrapper of one job. Its counters (the first objects that go one at a time, the bodies that were hashed)
    /// live as long as it does, so a worker keeps one per job.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, rules: Rules, env: Env) -> Self {
        Self { _store: store, _rules: rules, _env: env }
    }

    /// What becomes of one listed entry: settled at once, or it wants a write. Asks the store only for what the
    /// listing could not decide.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn look(&self, _entry: &Entry) -> Result<Look, Halt> {
        unimplemented!("skeleton")
    }

    /// The same for a row of an earlier pass or a doubt of `verifying`: by key and version, always by HEAD.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn look_again(&self, _at: &ObjectAt) -> Result<Look, Halt> {
        unimplemented!("skeleton")
    }

    /// Opens the multipart upload of a plan that needs one, so that its id can stand in the intent before anything is
    /// copied. Does nothing for other plans. Without this call [`Rewrapper::write`] opens it itself.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn open(&self, _plan: &mut Plan) -> Result<(), Halt> {
        unimplemented!("skeleton")
    }

    /// Makes the write.
    ///
    /// # Errors
    /// What says nothing about the object, and what must stop the job.
    pub async fn write(&self, _plan: Box<Plan>) -> Result<Settled, Halt> {
        unimplemented!("skeleton")
    }

    /// Reads a window's writes back: by a listing with facts, by HEAD where an entry is in doubt.
    ///
    /// # Errors
    /// What says nothing about the object, and what must stop the job.
    pub async fn read_back(&self, _unread: Vec<Unread>) -> Result<Vec<Row>, Halt> {
        unimplemented!("skeleton")
    }
}
