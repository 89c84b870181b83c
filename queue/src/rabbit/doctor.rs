//! Whether a broker is set up as the definitions that are shipped say.
//!
//! Over AMQP alone it shows its version, and whether queues exist with the right type. Policies are seen over its
//! management API only.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use keyrotate_env::Env;
use lapin::protocol::{AMQPClass, connection, parse_class};
use lapin::tcp::AMQPUriTcpExt as _;
use lapin::types::AMQPValue;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::config::RabbitConfig;
use super::link::{Current, Link, silent};
use super::management::{Management, ManagementError};
use super::names::check_store;
use super::{runtime, topology};
use crate::{QueueError, Route};

/// What is shipped.
const DEFINITIONS: &str = include_str!("../../../deploy/rabbitmq/definitions.json");
/// Where it says how to mend a policy.
const MEND_POLICY: &str = "load the policies of deploy/rabbitmq/definitions.json (rabbitmqctl import_definitions FILE)";
/// The first version with dead letters that can't get lost on their way.
const OLDEST: (u32, u32) = (3, 10);
/// Longest greeting that is read.
const LONGEST_GREETING: usize = 1 << 16;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could; or could not be seen.
    Warn,
    /// Tickets will be lost, go round for ever, or not go at all.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub health: Health,
    /// What was found.
    pub what: String,
    /// What to do about it, empty where nothing is.
    pub mend: String,
}

/// Looks at the broker, as far as it lets. Changes nothing on it.
pub async fn examine(
    config: &RabbitConfig,
    management: Option<&Management>,
    stores: &[String],
    env: &Env,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match version(config).await {
        Ok(version) => findings.push(of_version(&version)),
        Err(error) => {
            let mend = "check the address, the broker, and what lies between";
            return vec![bad(format!("{} can't be reached: {}", config.place(), chain(&error)), mend)];
        }
    }
    let queues = queues(config, stores);
    match queues_over_amqp(config, &queues, env).await {
        Ok(found) => findings.extend(found),
        Err(error) => {
            let mend = "check user, password, virtual host and permissions: see deploy/rabbitmq/definitions.json";
            findings.push(bad(format!("{} lets us not in: {}", config.place(), chain(&error)), mend));
        }
    }
    let Some(management) = management else {
        let what = "policies can't be seen over AMQP: delivery limit, dead letters and length are not checked";
        findings.push(warn(what.to_owned(), "give the URL of the management API"));
        return findings;
    };
    match policies(management, config, &queues).await {
        Ok(found) => findings.extend(found),
        Err(error) => {
            let what = format!("policies can't be seen: {}", chain(&error));
            findings.push(warn(what, "give the URL of the management API with a user that has the tag `monitoring`"));
        }
    }
    findings
}

/// The queues of these stores and that of the dead letters.
fn queues(config: &RabbitConfig, stores: &[String]) -> Vec<String> {
    let stores = stores.iter().filter(|store| check_store(store).is_ok());
    let routes = stores.flat_map(|store| [Route::to(store), Route::to(store).urgent()]);
    let mut queues: Vec<String> = routes.map(|route| config.names.tickets(&route)).collect();
    queues.push(config.names.dead());
    queues
}

fn of_version(version: &str) -> Finding {
    let mut parts = version.split('.').map_while(|part| part.parse().ok());
    let what = format!("RabbitMQ {version}");
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => ok(what),
        (Some(_), _) => bad(what, "use RabbitMQ 3.10 or newer: older ones lose dead letters on their way"),
        _ => warn(what, "nothing is known about this version"),
    }
}

async fn queues_over_amqp(config: &RabbitConfig, queues: &[String], env: &Env) -> Result<Vec<Finding>, QueueError> {
    let limit = config.limits.connect;
    let link = Link::start("doctor", Arc::new(config.clone()), env.clone(), watch::Sender::default())?;
    let current = timeout(limit, link.current()).await.map_err(|_| silent(limit))?;
    let mut findings = Vec::new();
    for queue in queues {
        findings.push(queue_over_amqp(&current, config, queue).await?);
    }
    Ok(findings)
}

async fn queue_over_amqp(current: &Current, config: &RabbitConfig, queue: &str) -> Result<Finding, QueueError> {
    let limit = config.limits.answer;
    // An error closes a channel: each look has its own.
    let missing = topology::look_for(&current.channel(limit).await?, queue, limit).await.is_err();
    if missing {
        let mend = "nothing to do: coordinator and workers declare it when they begin";
        return Ok(warn(format!("queue `{queue}` does not exist"), mend));
    }
    // Of a queue that exists, declaring it again changes nothing and is refused where the type differs.
    match topology::declare_queue(&current.channel(limit).await?, queue, limit).await {
        Ok(()) => Ok(ok(format!("queue `{queue}` is a durable quorum queue"))),
        Err(error) => {
            let what = format!("queue `{queue}` is no durable quorum queue of ours: {}", chain(&error));
            Ok(bad(what, "delete it while no job runs; it is declared again, and its tickets are sent again"))
        }
    }
}

#[derive(Deserialize)]
struct Definitions {
    policies: Vec<Policy>,
}

#[derive(Deserialize)]
struct Policy {
    name: String,
    definition: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct SeenQueue {
    #[serde(default)]
    effective_policy_definition: Value,
}

async fn policies(
    management: &Management,
    config: &RabbitConfig,
    queues: &[String],
) -> Result<Vec<Finding>, ManagementError> {
    let mut findings = Vec::new();
    for queue in queues {
        let seen: Option<SeenQueue> = management.get(&["queues", &config.uri.vhost, queue]).await?;
        if let Some(seen) = seen {
            findings.extend(compare(config, queue, &seen.effective_policy_definition));
        }
    }
    Ok(findings)
}

/// What is in force on a queue, against what is shipped for it.
fn compare(config: &RabbitConfig, queue: &str, seen: &Value) -> Vec<Finding> {
    let wanted = wanted(config, queue);
    let differs = wanted.iter().filter(|(key, value)| seen.get(key) != Some(*value));
    let findings: Vec<Finding> = differs.map(|(key, value)| differing(queue, key, value, seen.get(key))).collect();
    if findings.is_empty() { vec![ok(format!("policy of queue `{queue}` is as shipped"))] } else { findings }
}

fn wanted(config: &RabbitConfig, queue: &str) -> BTreeMap<String, Value> {
    let name = if config.names.is_tickets(queue) { "keyrotate-tickets" } else { "keyrotate-dead" };
    let shipped: Option<Definitions> = serde_json::from_str(DEFINITIONS).ok();
    let policy = shipped.into_iter().flat_map(|shipped| shipped.policies).find(|policy| policy.name == name);
    let mut definition = policy.map(|policy| policy.definition).unwrap_or_default();
    if let Some(exchange) = definition.get_mut("dead-letter-exchange") {
        // With a prefix the exchange has it, too.
        *exchange = Value::String(config.names.dead());
    }
    definition
}

fn differing(queue: &str, key: &str, wanted: &Value, seen: Option<&Value>) -> Finding {
    let shown = seen.map_or_else(|| "not set".to_owned(), ToString::to_string);
    let what = format!("`{key}` of queue `{queue}` is {shown}, shipped is {wanted}");
    // Another number is somebody's choice. Another way of dead letters, or none, loses tickets or turns them for ever.
    let chosen = seen.is_some_and(Value::is_number) && wanted.is_number();
    Finding { health: if chosen { Health::Warn } else { Health::Bad }, what, mend: MEND_POLICY.to_owned() }
}

/// The version in the broker's greeting, which lapin reads and forgets.
async fn version(config: &RabbitConfig) -> Result<String, QueueError> {
    let limit = config.limits.connect;
    let (config, handle) = (config.clone(), runtime::handle()?);
    let greeting = handle.spawn(async move { timeout(limit, greeting(&config)).await });
    let greeting = match greeting.await {
        Ok(Ok(greeting)) => greeting.map_err(|error| QueueError::Unavailable(Box::new(error)))?,
        _ => return Err(silent(limit)),
    };
    let Ok((_, AMQPClass::Connection(connection::AMQPMethod::Start(start)))) = parse_class(greeting.as_slice()) else {
        return Err(QueueError::Unavailable("it does not speak AMQP 0-9-1".into()));
    };
    match start.server_properties.inner().get("version") {
        Some(AMQPValue::LongString(version)) => Ok(String::from_utf8_lossy(version.as_bytes()).into_owned()),
        _ => Ok("of unknown version".to_owned()),
    }
}

/// The payload of the first frame that a broker sends.
async fn greeting(config: &RabbitConfig) -> std::io::Result<Vec<u8>> {
    let runtime = async_rs::Runtime::tokio_current();
    let tls = config.tls().map_err(std::io::Error::other)?;
    let mut stream = config.uri.connect_with_config_async(tls.as_ref(), &runtime).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    stream.flush().await?;
    // Type, channel, length.
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let mut payload = vec![0; length.min(LONGEST_GREETING)];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

fn ok(what: String) -> Finding {
    Finding { health: Health::Ok, what, mend: String::new() }
}

fn warn(what: String, mend: &str) -> Finding {
    Finding { health: Health::Warn, what, mend: mend.to_owned() }
}

fn bad(what: String, mend: &str) -> Finding {
    Finding { health: Health::Bad, what, mend: mend.to_owned() }
}

/// An error and what it comes from, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_brokers_are_bad_and_unknown_ones_a_warning() {
        for (version, health) in
            [("3.9.29", Health::Bad), ("3.10.8", Health::Ok), ("4.2.1", Health::Ok), ("next", Health::Warn)]
        {
            assert_eq!(of_version(version).health, health, "{version}");
        }
    }

    #[test]
    fn what_is_shipped_is_found_for_both_kinds_of_queues() {
        let config = RabbitConfig::parse("amqp://broker").unwrap().with_prefix("a.").unwrap();
        let tickets = wanted(&config, "a.keyrotate.tickets.default");
        assert_eq!(tickets["dead-letter-exchange"], json!("a.keyrotate.dead"));
        assert_eq!(tickets["overflow"], json!("reject-publish"));
        assert!(wanted(&config, "a.keyrotate.dead").contains_key("delivery-limit"));
    }

    #[test]
    fn another_number_is_a_choice_and_another_way_is_not() {
        let config = RabbitConfig::parse("amqp://broker").unwrap();
        let queue = "keyrotate.tickets.default";
        let mut seen = serde_json::to_value(wanted(&config, queue)).unwrap();
        assert_eq!(compare(&config, queue, &seen)[0].health, Health::Ok);
        seen["max-length"] = json!(500);
        assert_eq!(compare(&config, queue, &seen)[0].health, Health::Warn);
        seen["overflow"] = json!("drop-head");
        let healths: Vec<Health> = compare(&config, queue, &seen).iter().map(|finding| finding.health).collect();
        assert_eq!(healths, [Health::Warn, Health::Bad]);
        assert_eq!(compare(&config, queue, &Value::Null).len(), 5);
    }
}
