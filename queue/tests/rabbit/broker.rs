//! The broker of these tests, and what its management API can do to it.

use std::time::Duration;

use keyrotate_env::Env;
use keyrotate_peers::PrivateRabbitMq;
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};

const DEFINITIONS: &str = include_str!("../../../deploy/rabbitmq/definitions.json");

pub(super) struct Broker {
    pub(super) private: PrivateRabbitMq,
    http: Client,
}

impl Broker {
    pub(super) async fn start() -> Self {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Each test has a runtime of its own, and a kept connection dies with the one it was made on.
        let http = Client::builder().timeout(Duration::from_secs(20)).pool_max_idle_per_host(0);
        let http = http.build().unwrap();
        match PrivateRabbitMq::start().await {
            Ok(private) => Self { private, http },
            Err(error) => panic!("{error}"),
        }
    }

    /// A name that no other test has.
    pub(super) fn fresh_name(&self) -> String {
        format!("t{}", Env::system().random_hex(6))
    }

    /// Makes a virtual host with the policies that are shipped, and returns its URL.
    pub(super) async fn vhost(&self, name: &str) -> String {
        self.api(Method::PUT, &["vhosts", name], &json!({})).await;
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        self.api(Method::PUT, &["permissions", name, "private"], &all).await;
        let definitions: Value = serde_json::from_str(DEFINITIONS).unwrap();
        for policy in definitions["policies"].as_array().unwrap() {
            self.set_policy(name, policy["name"].as_str().unwrap(), policy).await;
        }
        self.private.url(name)
    }

    pub(super) async fn set_policy(&self, vhost: &str, name: &str, policy: &Value) {
        self.api(Method::PUT, &["policies", vhost, name], policy).await;
    }

    /// Messages in a queue, delivered ones included, as the broker last counted.
    pub(super) async fn depth(&self, vhost: &str, queue: &str) -> Option<u64> {
        self.api(Method::GET, &["queues", vhost, queue], &Value::Null).await["messages"].as_u64()
    }

    pub(super) async fn api(&self, method: Method, path: &[&str], body: &Value) -> Value {
        let mut url = Url::parse(&self.private.management_url()).unwrap();
        url.path_segments_mut().unwrap().pop_if_empty().push("api").extend(path);
        let request = self.http.request(method.clone(), url).header("content-type", "application/json");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = request.body(body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{method} {path:?}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}
