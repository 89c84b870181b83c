//! What is shipped to run a fleet with: files that nothing compiles, held against what reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use boon::{Compiler, Schemas};
use keyrotate_config::{Given, load};
use keyrotate_telemetry::names;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// `docker-compose.yml`, its anchors and merges resolved.
fn compose() -> Value {
    let mut read: serde_yaml::Value = serde_yaml::from_str(&text("docker-compose.yml")).expect("YAML");
    read.apply_merge().expect("merges of maps");
    serde_json::to_value(read).expect("names are strings")
}

/// With every `${NAME:-default}` replaced by its default and every `$$` by `$`.
fn by_default(text: &str) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.replace("$$", "$") };
    let (inside, after) = rest.split_once('}').expect("a closing brace");
    let (_, default) = inside.split_once(":-").expect("every variable has a default");
    format!("{}{default}{}", before.replace("$$", "$"), by_default(after))
}

/// The environment of a service.
fn environment(service: &str) -> BTreeMap<String, String> {
    let compose = compose();
    let all = compose["services"][service]["environment"].as_object().expect("a map").clone();
    all.into_iter().map(|(name, value)| (name, by_default(value.as_str().expect("a string")))).collect()
}

/// The Compose Specification's own schema, as of June 2026 (github.com/compose-spec/compose-spec, Apache-2.0).
#[test]
fn the_compose_file_keeps_to_its_specification() {
    let schema: Value = serde_json::from_str(include_str!("compose-spec.json")).expect("JSON");
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("compose-spec.json", schema).expect("a schema");
    let index = compiler.compile("compose-spec.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&compose(), index) {
        panic!("{error:#}");
    }
    let wrong: Value = serde_json::json!({"services": {"a": {"imag": "b"}}});
    assert!(schemas.validate(&wrong, index).is_err(), "the schema would let anything through");
}

#[test]
fn what_the_compose_file_mounts_is_there() {
    let compose = compose();
    let services = compose["services"].as_object().expect("services");
    let mut seen = 0;
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let source = volume.split(':').next().expect("a source");
            match source.strip_prefix("./") {
                Some(path) => assert!(root().join(path).exists(), "{name}: {path} is not there"),
                None => assert!(compose["volumes"].get(source).is_some(), "{name}: no volume {source}"),
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

/// Each role finds everything that it needs in its environment, and nothing there is misspelt.
#[test]
fn the_roles_understand_their_environment() {
    for role in ["coordinator", "worker"] {
        let mut variables = environment(role);
        variables.retain(|name, _| name.starts_with("KEYROTATE_"));
        if variables.contains_key("KEYROTATE_CONFIG") {
            let file = root().join("deploy/compose/config.yaml");
            variables.insert("KEYROTATE_CONFIG".into(), file.display().to_string());
        }
        let loaded = load(&Given { variables, ..Given::default() }).unwrap_or_else(|e| panic!("{role}: {e}"));
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{role}");
        let config = loaded.config;
        assert!(config.redis.url.is_some() && config.rabbitmq.url.is_some(), "{role}");
        assert!(config.reports.bucket.is_some(), "{role}");
        assert_eq!(config.tokens.is_empty(), role == "worker");
    }
}

/// The token that the demo's job is started with is the one that the coordinator lets in.
#[test]
fn the_demo_gets_in() {
    let token = environment("demo-job").remove("KEYROTATE_TOKEN").expect("a token");
    let given = Given { file: Some(root().join("deploy/compose/config.yaml")), ..Given::default() };
    let tokens = load(&given).expect("it can be read").config.tokens;
    let now = jiff::Timestamp::UNIX_EPOCH;
    assert!(keyrotate_config::token::find(&tokens, &token, now).is_some(), "{tokens:?}");
}

#[test]
fn dashboards_and_alerts_show_metrics_that_are_there() {
    let known: BTreeSet<&str> = names::ALL.iter().map(|name| name.name).collect();
    for path in ["deploy/grafana/dashboards/keyrotate.json", "deploy/prometheus/alerts.yaml"] {
        let text = text(path);
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        let mut used: BTreeSet<&str> = text.split(|c| !word(c)).filter(|w| w.starts_with("keyrotate_")).collect();
        used = used.into_iter().map(|name| name.strip_suffix("_bucket").unwrap_or(name)).collect();
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty() && !used.is_empty(), "{path}: {unknown:?}");
    }
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/dashboards/keyrotate.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 20));
}
