//! RabbitMQ: its version and queues, and its policies against those that are shipped.

use keyrotate_config::Config;
use keyrotate_env::Env;
use keyrotate_proto::say::chain;
use keyrotate_queue::DEFAULT_STORE;
use keyrotate_queue::rabbit::{self, Management};

use super::{Finding, Health};
use crate::fleet;

const SECTION: &str = "rabbitmq";

pub(super) async fn examine(config: &Config, env: &Env) -> Vec<Finding> {
    let settings = match fleet::rabbit_settings(config) {
        Ok(settings) => settings,
        Err(failure) => return vec![Finding::of(SECTION, &failure)],
    };
    let mut findings = Vec::new();
    let url = config.rabbitmq.management.as_ref();
    let management = url.map(|url| Management::parse(url.expose(), &settings)).transpose().unwrap_or_else(|error| {
        findings.push(Finding::new(SECTION, Health::Red, chain(&error), "mend `rabbitmq.management`"));
        None
    });
    let mut stores: Vec<String> = config.stores.keys().map(|name| name.as_str().to_owned()).collect();
    if stores.is_empty() {
        stores.push(DEFAULT_STORE.to_owned());
    }
    let found = rabbit::examine(&settings, management.as_ref(), &stores, env).await;
    findings.extend(found.into_iter().map(|found| Finding::new(SECTION, health(found.health), found.what, found.mend)));
    findings
}

fn health(health: rabbit::Health) -> Health {
    match health {
        rabbit::Health::Ok => Health::Green,
        rabbit::Health::Warn => Health::Yellow,
        rabbit::Health::Bad => Health::Red,
    }
}
