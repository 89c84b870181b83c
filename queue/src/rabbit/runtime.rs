//! The threads that RabbitMQ's connections live on.
//!
//! They are not those of the work: a worker that encrypts on all its threads would starve the heartbeats, and the broker
//! would take its tickets away. One small runtime serves all connections of a process, as long as the process lives.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::QueueError;

/// Of that runtime.
///
/// # Errors
/// When the system gives no threads.
pub(super) fn handle() -> Result<Handle, QueueError> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let made = Builder::new_multi_thread().worker_threads(2).thread_name("rabbitmq").enable_all().build();
    let made = made.map_err(|error| QueueError::Unavailable(Box::new(error)))?;
    match RUNTIME.set(made) {
        Ok(()) => {}
        // Somebody else was quicker. A runtime must not be dropped where it might block.
        Err(surplus) => surplus.shutdown_background(),
    }
    RUNTIME.get().map(|runtime| runtime.handle().clone()).ok_or(QueueError::Gone)
}
