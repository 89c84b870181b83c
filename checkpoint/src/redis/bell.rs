//! Rings of swaps, heard by a subscription on a connection of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use keyrotate_env::Env;
use tokio::task::AbortHandle;

use super::link::Links;
use crate::BackendError;
use crate::backend::{Bell, Ringer};

/// The longest wait before the next try to subscribe.
const PAUSE: Duration = Duration::from_secs(1);

/// Subscribes once somebody wants to hear, until it is dropped.
pub(super) struct Bells {
    links: Arc<Links>,
    channel: String,
    env: Env,
    ringer: Arc<Ringer>,
    task: OnceLock<AbortHandle>,
}

impl Bells {
    pub(super) fn new(links: Arc<Links>, channel: String, env: Env) -> Self {
        Self { links, channel, env, ringer: Arc::default(), task: OnceLock::new() }
    }

    pub(super) fn bell(&self) -> Bell {
        self.task.get_or_init(|| {
            let (links, ringer) = (Arc::clone(&self.links), Arc::clone(&self.ringer));
            let (channel, env) = (self.channel.clone(), self.env.clone());
            let listening = async move {
                loop {
                    if let Err(error) = listen(&links, &channel, &ringer).await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "the bell can't be heard");
                    }
                    tokio::time::sleep(PAUSE.mul_f64(0.5 + env.random_fraction() / 2.0)).await;
                }
            };
            tokio::spawn(listening).abort_handle()
        });
        self.ringer.bell()
    }
}

impl Drop for Bells {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Until the connection ends. Rings at its beginning: something may have rung before.
async fn listen(links: &Links, channel: &str, ringer: &Ringer) -> Result<(), BackendError> {
    let mut heard = links.subscribe(channel).await?;
    ringer.ring();
    while heard.next().await.is_some() {
        ringer.ring();
    }
    Ok(())
}
