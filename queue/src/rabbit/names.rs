//! What our exchanges and queues are called. The policies of `deploy/rabbitmq/definitions.json` find them by these names.

use std::fmt;

use crate::{QueueError, Route};

/// Longest name of a store: with prefix and all it stays below the 255 bytes of AMQP.
const LONGEST_STORE: usize = 100;
const LONGEST_PREFIX: usize = 64;

/// Names below one prefix, which is mostly empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn with_prefix(prefix: &str) -> Option<Self> {
        let fits = prefix.len() <= LONGEST_PREFIX && prefix.chars().all(|c| is_plain(c) || c == '.');
        fits.then(|| Self { prefix: prefix.to_owned() })
    }

    /// Direct; a ticket's routing key is the name of its queue.
    pub(crate) fn exchange(&self) -> String {
        format!("{}keyrotate", self.prefix)
    }

    /// Fanout, with one queue of the same name: dead letters keep their routing key, so they know where they came from.
    pub(crate) fn dead(&self) -> String {
        format!("{}keyrotate.dead", self.prefix)
    }

    /// The queue of a route, for a name that was checked.
    pub(crate) fn tickets(&self, route: &Route) -> String {
        let urgent = if route.urgent { ".urgent" } else { "" };
        format!("{}keyrotate.tickets.{}{urgent}", self.prefix, route.store)
    }

    /// Whether it is the name of a ticket queue of this installation.
    pub(crate) fn is_tickets(&self, queue: &str) -> bool {
        let store = queue.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix("keyrotate.tickets."));
        store.is_some_and(|store| check_store(store.strip_suffix(".urgent").unwrap_or(store)).is_ok())
    }
}

/// Refuses names that could be mistaken for another queue's, or that AMQP has no room for.
pub(crate) fn check_store(store: &str) -> Result<(), QueueError> {
    if !store.is_empty() && store.len() <= LONGEST_STORE && store.chars().all(is_plain) {
        return Ok(());
    }
    Err(QueueError::StoreName(store.to_owned()))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.exchange())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_store_and_urgency() {
        let names = Names::with_prefix("team-a.").unwrap();
        assert_eq!(names.tickets(&Route::to("prod")), "team-a.keyrotate.tickets.prod");
        assert_eq!(names.tickets(&Route::to("prod").urgent()), "team-a.keyrotate.tickets.prod.urgent");
        assert!(names.is_tickets("team-a.keyrotate.tickets.prod.urgent"));
        for other in ["keyrotate.tickets.prod", "team-a.keyrotate.dead", "team-a.keyrotate.tickets.", "orders"] {
            assert!(!names.is_tickets(other), "{other}");
        }
    }

    #[test]
    fn a_store_can_not_be_mistaken_for_anothers_urgent_queue() {
        for bad in ["", "a.urgent", "a b", "ä", &"x".repeat(101)] {
            assert!(check_store(bad).is_err(), "{bad}");
        }
        assert!(check_store("eu-west_1").is_ok());
    }
}
