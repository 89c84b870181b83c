//! The message "this shard wants work".

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, ShardRef};

/// Version of [`Ticket`] that this code writes.
pub const TICKET_VERSION: u32 = 1;

/// The message "shard S of pass P of job J wants work". Carries names, never truth, never a secret: losing one,
/// or getting it twice, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// [`TICKET_VERSION`] of the writer.
    pub version: u32,
    /// The shard.
    #[serde(flatten)]
    pub shard: ShardRef,
    /// Hash of the job's spec: a worker that holds another one refuses the ticket.
    pub spec_hash: String,
    /// The shard's epoch when the ticket was published.
    pub epoch: Epoch,
    /// W3C trace context of the publisher, empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_reads_as_written() {
        let text = r#"{"version":1,"job":"01hf7yat00zzzzzzzzzzzzzzzz","pass":2,"shard":7,"spec_hash":"ab","epoch":{"nonce":"9f","counter":3}}"#;
        let ticket: Ticket = serde_json::from_str(text).unwrap();
        assert_eq!(ticket.shard.shard.0, 7);
        assert_eq!(serde_json::to_string(&ticket).unwrap(), text);
    }
}
