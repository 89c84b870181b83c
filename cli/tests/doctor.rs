//! What the doctor says of a real RabbitMQ and Redis, set up right and wrong.

use std::process::{Command, Output};

use keyrotate_peers::{PrivateRabbitMq, PrivateRedis};
use serde_json::Value;

fn doctor(settings: &[(&str, String)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyrotate"));
    let path = std::env::var("PATH").expect("a PATH");
    let command = command.arg("doctor").args(arguments).env_clear().env("PATH", path);
    let ended = command.env("XDG_CONFIG_HOME", "/nowhere").envs(settings.iter().cloned()).output();
    ended.expect("keyrotate can be started")
}

/// What is said, and with which exit code.
fn said(settings: &[(&str, String)]) -> (Value, Option<i32>) {
    let ended = doctor(settings, &["--output", "json"]);
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let found = serde_json::from_str(&text);
    (found.unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&ended.stderr))), ended.status.code())
}

fn has(found: &Value, section: &str, health: &str, part: &str) -> bool {
    found["findings"].as_array().expect("a list").iter().any(|finding| {
        let what = finding["what"].as_str().unwrap_or_default();
        finding["section"] == section && finding["health"] == health && what.contains(part)
    })
}

#[tokio::test]
async fn right_and_wrong_servers_are_told_apart() {
    let (rabbitmq, redis) = tokio::join!(PrivateRabbitMq::start(), PrivateRedis::start());
    let (rabbitmq, redis) = (rabbitmq.expect("a RabbitMQ"), redis.expect("a Redis"));
    let settings = |redis: String, management: String| {
        [
            ("KEYROTATE_RABBITMQ_URL", rabbitmq.url("/")),
            ("KEYROTATE_RABBITMQ_MANAGEMENT", management),
            ("KEYROTATE_REDIS_URL", redis),
        ]
    };
    let right = settings(redis.url(), rabbitmq.management_url());
    let (found, code) = said(&right);
    assert!(has(&found, "redis", "green", "it keeps what it acknowledged"), "{found:#}");
    assert!(has(&found, "redis", "green", "clock"), "{found:#}");
    assert!(has(&found, "rabbitmq", "green", "RabbitMQ "), "{found:#}");
    assert!(has(&found, "configuration", "green", "`redis.url` from KEYROTATE_REDIS_URL"), "{found:#}");
    assert!(has(&found, "fleet", "yellow", "no coordinator leads"), "{found:#}");
    // Queues are declared by whoever begins.
    assert_eq!((found["health"].as_str(), code), (Some("yellow"), Some(0)), "{found:#}");
    let text = doctor(&right, &[]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("green  RabbitMQ ") && !text.contains("private:"), "{text}");

    // The queues are there now, and the policy that they need is not.
    rabbitmq.ctl(&["clear_policy", "keyrotate-tickets"]).await.expect("the policy goes");
    let queue = keyrotate_queue::RabbitConfig::parse(&rabbitmq.url("/")).expect("a URL");
    let queue = keyrotate_queue::RabbitQueue::new(queue, keyrotate_env::Env::system());
    let ticket = keyrotate_queue::conformance::ticket(0);
    let route = keyrotate_queue::Route::to("default");
    keyrotate_queue::Queue::publish(&queue, &ticket, &route).await.expect("a ticket goes out");
    let weak = PrivateRedis::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await.expect("a Redis");
    let wrong = settings(weak.url(), rabbitmq.management_url());
    let mut seen = (Value::Null, None);
    for _ in 0..20 {
        seen = said(&wrong);
        if has(&seen.0, "rabbitmq", "red", "`delivery-limit` of queue") {
            break;
        }
        // The management API counts twice a second.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    let (found, code) = seen;
    assert!(has(&found, "rabbitmq", "red", "`delivery-limit` of queue"), "{found:#}");
    assert!(has(&found, "redis", "red", "appendfsync is everysec"), "{found:#}");
    assert_eq!((found["health"].as_str(), code), (Some("red"), Some(5)));

    // What can't be seen is said.
    let acl = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(acl.path(), "user default off\nuser me on >pw ~* &* +@all -config\n").expect("an ACL");
    let file = acl.path().display().to_string();
    let shy = PrivateRedis::start_with(&["--aclfile", &file, "--appendonly", "yes"]).await.expect("a Redis");
    let shy_url = shy.url().replace("redis://", "redis://me:pw@");
    let away = settings(shy_url, "http://me:s3cret@127.0.0.1:1".into());
    let (found, code) = said(&away);
    assert!(has(&found, "redis", "red", "appendfsync is not known"), "{found:#}");
    assert!(has(&found, "rabbitmq", "yellow", "policies can't be seen"), "{found:#}");
    assert!(code == Some(5) && !found.to_string().contains("s3cret"), "{found:#}");
}

#[test]
fn what_is_not_there_is_red() {
    let (found, code) = said(&[("KEYROTATE_REDIS_URL", "redis://me:s3cret@127.0.0.1:1".into())]);
    assert!(has(&found, "redis", "red", "no checkpoint at redis://me@127.0.0.1:1"), "{found:#}");
    assert!(has(&found, "rabbitmq", "red", "`rabbitmq.url` is not set"), "{found:#}");
    assert!(code == Some(5) && !found.to_string().contains("s3cret"), "{found:#}");
}
