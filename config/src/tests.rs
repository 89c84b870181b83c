//! What wins over what, where a value came from, and what is said where something is wrong.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

const HASH: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn given(text: Option<&str>, variables: &[(&str, &str)]) -> (tempfile::TempDir, Given) {
    let dir = tempfile::tempdir().unwrap();
    let mut given = Given::default();
    given.variables.insert("XDG_CONFIG_HOME".into(), dir.path().display().to_string());
    given.variables.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    if let Some(text) = text {
        std::fs::create_dir(dir.path().join("keyrotate")).unwrap();
        std::fs::write(dir.path().join("keyrotate/config.yaml"), text).unwrap();
    }
    (dir, given)
}

fn read(text: &str, variables: &[(&str, &str)]) -> Loaded {
    let (_dir, given) = given(Some(text), variables);
    load(&given).unwrap_or_else(|error| panic!("{error}"))
}

fn error(text: &str, variables: &[(&str, &str)]) -> String {
    let (dir, given) = given(Some(text), variables);
    let said = load(&given).unwrap_err().to_string();
    said.replace(&format!("{}/keyrotate/", dir.path().display()), "")
}

#[test]
fn a_whole_file_is_read() {
    let text = format!(
        "url: https://k.example\ntoken: kr_x\ncaBundle: /ca\ncert: c\nkey: k\nlisten: '[::]:1'\nmetricsListen: '[::]:2'\ntls: {{cert: c, key: k, clientCa: a}}\n\
         tokens:\n- {{name: ci, role: operate, hash: '{HASH}', scopes: [b, c/x/], expires: 2030-01-01T00:00:00Z}}\n\
         limits: {{body: 1, rate: 2, openJobs: 3}}\nnotify: {{allowPrivate: true}}\nsecrets: {{kesKey: s, keyFile: f}}\n\
         rabbitmq: {{url: amqp://q, password: p, caBundle: c, cert: c, key: k, management: http://m}}\n\
         redis: {{url: redis://r, password: p, sentinelPassword: s, prefix: x, caBundle: c, cert: c, key: k,\n  acceptWeakPersistence: true, acceptUnknownPersistence: true}}\n\
         reports: {{endpoint: e, region: r, bucket: b, prefix: p/, profile: x, caBundle: c, cert: c, key: k, accessKeyId: a, secretAccessKey: s}}\n\
         stores:\n  eu: {{endpoint: e, region: r, profile: p, caBundle: c, cert: c, key: k, accessKeyId: a, secretAccessKey: s, probePrefix: q/, probeBucket: b,\n    rate: 0.5, byteRate: 50MiB/s, kmsRate: 9, permits: 7}}\n\
         worker: {{slots: 3, permits: 4, stores: [eu]}}\n"
    );
    let Loaded { config, sources, warnings, .. } = read(&text, &[]);
    assert_eq!(
        config.tokens[0].line(),
        format!(
            "- {{name: \"ci\", role: operate, hash: \"{HASH}\", scopes: [\"b\", \"c/x/\"], expires: \"2030-01-01T00:00:00Z\"}}"
        )
    );
    let store = config.stores.values().next().unwrap();
    assert_eq!(store.probe_bucket.as_deref(), Some("b"));
    let limits = (store.rate, store.byte_rate, store.kms_rate, store.permits.map(NonZeroU32::get));
    let wanted = (Some(PerSecond(0.5)), Some(BytesPerSecond(f64::from(50 << 20))), Some(PerSecond(9.0)), Some(7));
    assert_eq!(limits, wanted);
    assert_eq!(config.limits, Limits { body: 1, rate: 2, open_jobs: 3 });
    assert_eq!(config.worker.stores[0].as_str(), "eu");
    assert_eq!(config.metrics_listen, Some(Listen(([0; 16], 2).into())));
    assert_eq!(sources["url"], Source::File { line: 1 });
    // 1 of each field but those inside `tokens`, whose list is one value.
    assert_eq!(sources.len(), layer::variables().len() + fields::STORE.len());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let shown = format!("{config:?}");
    for secret in ["kr_x", "amqp://q", "redis://r", "http://m"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn permits_are_a_number_or_found_out() {
    for (text, calls) in [("8", Calls::AtMost(8)), ("auto", Calls::Auto), ("'4096'", Calls::AtMost(4096))] {
        assert_eq!(read(&format!("worker: {{permits: {text}}}"), &[]).config.worker.permits, calls);
    }
    assert_eq!(read("", &[("KEYROTATE_WORKER_PERMITS", "auto")]).config.worker.permits, Calls::Auto);
    assert_eq!(read("", &[]).config.worker.permits.to_string(), "64");
    for wrong in ["0", "4097", "many", "-1", "1.5"] {
        let said = error(&format!("worker: {{permits: {wrong}}}"), &[]);
        assert!(said.contains(&format!("`{wrong}` is neither `auto` nor a number from 1 to 4096")), "{said}");
    }
}

#[test]
fn without_anything_the_defaults_hold() {
    let (_dir, given) = given(None, &[]);
    let Loaded { config, sources, .. } = load(&given).unwrap();
    assert_eq!((config.listen, config.limits), (Listen::default(), Limits::default()));
    assert!(sources.is_empty() && config.redis.prefix == "keyrotate" && config.stores.is_empty());
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    assert_eq!(
        error("listn: x\nredis:\n  passwort: y\n", &[]),
        "config.yaml:1: listn: unknown field `listn` (did you mean `listen`?)\n\
         config.yaml:3: redis.passwort: unknown field `passwort` (did you mean `password`?)"
    );
    assert_eq!(
        error("url: x\nlisten: here\n", &[]),
        "config.yaml:2: listen: is no address to listen on: write `127.0.0.1:7474` or `[::]:7474`"
    );
    let listen = error("", &[("KEYROTATE_LISTEN", "here")]);
    assert!(listen.starts_with("KEYROTATE_LISTEN: listen: is no address"), "{listen}");
    assert_eq!(
        error("", &[("KEYROTATE_LIMITS_RATE", "fast")]),
        "KEYROTATE_LIMITS_RATE: is not a whole number (write it in digits, such as 10)"
    );
    let two = error("", &[("KEYROTATE_TOKEN", "a"), ("KEYROTATE_TOKEN_FILE", "/b")]);
    assert_eq!(two, "KEYROTATE_TOKEN: `KEYROTATE_TOKEN_FILE` is set, too (keep one of them)");
    assert!(error("", &[("KEYROTATE_TOKEN_FILE", "/not/there")]).contains("can't read `/not/there`"));
    assert!(error("tls: {cert: c}", &[]).contains("config.yaml:1: tls: missing field `key`"));
    assert!(error("stores: {eu: {rate: 0}}", &[]).contains("`0` is no number per second"));
    assert!(error("stores: {eu: {byteRate: fast}}", &[]).contains("`fast` are no bytes per second"));
    assert!(error("stores: {EU: {}}", &[]).contains("no name for a store"));
    assert!(error("worker: {stores: [x]}\nstores: {eu: {}}", &[]).contains("worker.stores[0]: `stores` has no `x`"));
    let token = |rest: &str| error(&format!("tokens:\n- {{name: a, hash: '{HASH}', {rest}}}\n"), &[]);
    assert!(token("role: boss").starts_with("config.yaml:2: tokens[0].role:"), "{}", token("role: boss"));
    assert!(token("role: view, scopes: [/x]").contains("tokens[0].scopes[0]: `/x` is no scope"));
    let twice =
        format!("tokens:\n- {{name: a, role: view, hash: '{HASH}'}}\n- {{name: b, role: view, hash: '{HASH}'}}\n");
    assert!(error(&twice, &[]).starts_with("config.yaml:3: tokens[1]: name or hash"), "{}", error(&twice, &[]));
    let (_dir, mut given) = given(None, &[]);
    given.file = Some("/not/there.yaml".into());
    assert!(load(&given).unwrap_err().to_string().contains("/not/there.yaml"));
}

#[test]
fn stores_and_lists_come_from_variables_too() {
    let token = format!("[{{name: a, role: view, hash: '{HASH}'}}]");
    let config = read(
        "stores: {eu-1: {endpoint: file}}",
        &[
            ("KEYROTATE_STORES_EU_1_REGION", "r"),
            ("KEYROTATE_STORES_US_ENDPOINT", "e"),
            ("KEYROTATE_STORES_US_BYTE_RATE", "9"),
            ("KEYROTATE_STORES_US_SECRET_ACCESS_KEY", "s"),
            ("KEYROTATE_WORKER_STORES", "eu-1, us"),
            ("KEYROTATE_TOKENS", &token),
        ],
    )
    .config;
    let names: Vec<_> = config.stores.keys().map(StoreName::as_str).collect();
    assert_eq!(names, ["eu-1", "us"]);
    let eu = config.stores.values().next().unwrap();
    assert_eq!((eu.endpoint.as_deref(), eu.region.as_deref()), (Some("file"), Some("r")));
    assert_eq!(config.worker.stores.len(), 2);
    assert_eq!(config.tokens.len(), 1);
}

#[test]
fn a_variable_with_a_slip_is_pointed_at() {
    let near = read("", &[("KEYROTATE_REDSI_URL", "x"), ("KEYROTATE_SERVICE_HOST", "y"), ("KEYROTATE_STATE", "z")]);
    assert_eq!(
        near.warnings,
        ["`KEYROTATE_REDSI_URL` is no variable of keyrotate: did you mean `KEYROTATE_REDIS_URL`?"]
    );
}

proptest! {
    /// Whatever is given where: the flag beats the environment, the environment the file, and the source says so.
    #[test]
    fn the_highest_layer_wins(file: bool, variable: bool, secret_file: bool, flag: bool) {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "redis://secret-file\n").unwrap();
        let secret = secret.display().to_string();
        let mut variables = Vec::new();
        if variable {
            variables.push(("KEYROTATE_REDIS_URL", "redis://variable"));
        } else if secret_file {
            variables.push(("KEYROTATE_REDIS_URL_FILE", secret.as_str()));
        }
        let (_dir, mut given) = given(file.then_some("redis:\n  url: redis://file\n"), &variables);
        if flag {
            given.flags.push(("redis.url", "redis://flag".into(), "--redis"));
        }
        let loaded = load(&given).unwrap();
        let (value, source) = match (flag, variable, secret_file, file) {
            (true, ..) => (Some("redis://flag"), Some("--redis".to_owned())),
            (_, true, ..) => (Some("redis://variable"), Some("KEYROTATE_REDIS_URL".into())),
            (_, _, true, _) => (Some("redis://secret-file"), Some(format!("KEYROTATE_REDIS_URL_FILE ({secret})"))),
            (_, _, _, true) => (Some("redis://file"), Some("line 2 of the file".into())),
            _ => (None, None),
        };
        prop_assert_eq!(loaded.config.redis.url.as_ref().map(Secret::expose), value);
        prop_assert_eq!(loaded.sources.get("redis.url").map(ToString::to_string), source);
    }
}

#[test]
fn the_example_of_the_fleets_page_is_right() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fleet.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let example = blocks.into_iter().find(|block| block.starts_with("listen:")).unwrap();
    let config = read(&example.replace("sha256:…", HASH), &[]).config;
    assert!(config.tls.is_some() && config.tokens.len() == 1 && config.stores.len() == 1);
}
