//! Tickets as AMQP messages: body, properties and headers.

use std::collections::BTreeMap;

use keyrotate_env::Env;
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

/// Longest body that is read: a ticket has a few hundred bytes.
const LONGEST: usize = 16 << 10;
/// Of a dead letter, so much of the body is kept.
const LONGEST_DEAD: usize = 64 << 10;
/// Longest reason that goes into a header.
const LONGEST_REASON: usize = 500;
/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// W3C trace context. Baggage is left alone: it may say anything, and would travel on.
const TRACEPARENT: &str = "traceparent";
/// Why a dead letter died.
const REASON: &str = "x-keyrotate-reason";
/// The queue that it lay in.
const QUEUE: &str = "x-keyrotate-queue";

/// A message on its way to an exchange.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

impl Letter {
    pub(super) fn ticket(ticket: &Ticket, env: &Env) -> serde_json::Result<Self> {
        let mut headers = FieldTable::default();
        if is_traceparent(&ticket.traceparent) {
            headers.insert(TRACEPARENT.into(), long(&ticket.traceparent));
        }
        let properties = properties(headers, env).with_message_id(env.random_hex(16).into());
        Ok(Self { body: serde_json::to_vec(ticket)?, properties })
    }

    /// The copy of a message that nobody can work on.
    pub(super) fn dead(body: &[u8], old: &BasicProperties, queue: &str, reason: &str, env: &Env) -> Self {
        let mut headers = old.headers().clone().unwrap_or_default();
        headers.insert(REASON.into(), long(cut(reason, LONGEST_REASON)));
        headers.insert(QUEUE.into(), long(queue));
        let id = old.message_id().clone().unwrap_or_else(|| env.random_hex(16).into());
        let body = body[..body.len().min(LONGEST_DEAD)].to_vec();
        Self { body, properties: properties(headers, env).with_message_id(id) }
    }
}

/// The ticket in a message, or why there is none.
pub(super) fn read(body: &[u8], properties: &BasicProperties) -> Result<Ticket, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    if body.len() > LONGEST {
        return Err(format!("{} bytes, and no ticket has more than {LONGEST}", body.len()));
    }
    let broken = |error: serde_json::Error| format!("not a ticket: {error}");
    let Version { version } = serde_json::from_slice(body).map_err(broken)?;
    if version == 0 || version > TICKET_VERSION {
        return Err(format!("ticket version {version}, this worker knows {TICKET_VERSION}"));
    }
    let mut ticket: Ticket = serde_json::from_slice(body).map_err(broken)?;
    if let Some(traceparent) = text(properties, TRACEPARENT).filter(|text| is_traceparent(text)) {
        ticket.traceparent = traceparent;
    }
    Ok(ticket)
}

/// Why a dead letter died: in our words, else in the broker's.
pub(super) fn reason(properties: &BasicProperties) -> String {
    let ours = text(properties, REASON);
    let theirs = || match first_death(properties)?.get("reason")?.as_str() {
        "delivery_limit" => Some("delivered too often: whoever took it was lost each time".to_owned()),
        "rejected" => Some("rejected".to_owned()),
        "expired" => Some("lay too long".to_owned()),
        "maxlen" => Some("the queue was full".to_owned()),
        other => Some(other.to_owned()),
    };
    ours.or_else(theirs).unwrap_or_else(|| "unknown".to_owned())
}

/// The queue that a dead letter lay in.
pub(super) fn queue(properties: &BasicProperties) -> Option<String> {
    text(properties, QUEUE).or_else(|| first_death(properties)?.remove("queue"))
}

/// The texts of the broker's own note on a dead letter.
fn first_death(properties: &BasicProperties) -> Option<BTreeMap<String, String>> {
    let AMQPValue::FieldArray(deaths) = properties.headers().as_ref()?.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(death) = deaths.as_slice().first()? else { return None };
    let entries = death.inner().iter();
    Some(entries.filter_map(|(key, value)| Some((key.to_string(), to_text(value)?))).collect())
}

fn properties(headers: FieldTable, env: &Env) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_app_id("keyrotate".into())
        .with_timestamp(u64::try_from(env.now().as_second()).unwrap_or(0))
        .with_headers(headers)
}

fn text(properties: &BasicProperties, header: &str) -> Option<String> {
    to_text(properties.headers().as_ref()?.inner().get(header)?)
}

fn to_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(ShortString::to_string(text)),
        _ => None,
    }
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Version, trace id, parent id and flags, in lower-case hex.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]) && parts.iter().all(hex)
}

fn cut(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::ticket;

    #[test]
    fn a_ticket_comes_out_as_it_went_in_and_its_header_wins() {
        let letter = Letter::ticket(&ticket(3), &Env::system()).unwrap();
        assert_eq!(*letter.properties.delivery_mode(), Some(2));
        assert_eq!(read(&letter.body, &letter.properties), Ok(ticket(3)));

        let other = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), long(other));
        headers.insert("baggage".into(), long("user=alice"));
        let read = read(&letter.body, &BasicProperties::default().with_headers(headers)).unwrap();
        assert_eq!(read.traceparent, other);
    }

    #[test]
    fn a_header_that_is_no_trace_context_is_passed_over() {
        let letter = Letter::ticket(&ticket(3), &Env::system()).unwrap();
        for bad in ["", "00-xyz", "00-0AF7651916CD43DD8448EB211C80319C-00f067aa0ba902b7-01", &"a".repeat(5000)] {
            let mut headers = FieldTable::default();
            headers.insert("traceparent".into(), long(bad));
            let read = read(&letter.body, &BasicProperties::default().with_headers(headers)).unwrap();
            assert_eq!(read.traceparent, ticket(3).traceparent, "{bad}");
        }
    }

    #[test]
    fn what_is_no_ticket_says_why() {
        let no = BasicProperties::default();
        let why = |body: &[u8]| read(body, &no).unwrap_err();
        assert!(why(b"\xff\xfe").starts_with("not a ticket"));
        assert!(why(b"{\"version\":1}").contains("missing field"));
        assert_eq!(why(b"{\"version\":99,\"new\":true}"), "ticket version 99, this worker knows 1");
        assert_eq!(why(b"{\"version\":0}"), "ticket version 0, this worker knows 1");
        assert!(why(&vec![b' '; 1 << 20]).starts_with("1048576 bytes"));
    }

    #[test]
    fn a_dead_letter_keeps_its_reason_and_its_queue() {
        let env = Env::system();
        let letter = Letter::ticket(&ticket(3), &env).unwrap();
        let dead = Letter::dead(&letter.body, &letter.properties, "q.urgent", &"ä".repeat(400), &env);
        assert_eq!(reason(&dead.properties), "ä".repeat(250));
        assert_eq!(queue(&dead.properties).as_deref(), Some("q.urgent"));
        assert_eq!(read(&dead.body, &dead.properties), Ok(ticket(3)));
        assert_eq!(dead.properties.message_id(), letter.properties.message_id());
    }
}
