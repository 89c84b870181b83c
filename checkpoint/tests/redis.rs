//! The Redis back-end against a real server, with the ACL that is shipped.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keyrotate_checkpoint::backend::{RecordKey, Swap, SwapAnswer};
use keyrotate_checkpoint::{Backend, BackendError, RedisBackend, RedisConfig, conformance};
use keyrotate_env::Env;
use keyrotate_peers::PrivateRedis;

const ACL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/redis/users.acl");

const SAFE: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];

/// A server whose only user is the shipped one.
async fn with_acl() -> (PrivateRedis, RedisConfig) {
    let redis = PrivateRedis::start_with(&[&SAFE[..], &["--aclfile", ACL]].concat()).await.unwrap();
    let url = format!("redis://keyrotate@127.0.0.1:{}", redis.port());
    let config =
        RedisConfig { url, password: Some("change-me".into()), prefix: "keyrotate".into(), ..Default::default() };
    (redis, config)
}

fn open(config: &RedisConfig) -> Arc<dyn Backend> {
    Arc::new(RedisBackend::new(config, Env::system()).unwrap())
}

fn set(name: &str, value: &[u8]) -> Swap {
    Swap { writes: vec![(RecordKey(name.into()), Some(value.to_vec()))], ..Swap::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_as_the_shipped_user() {
    let (_redis, config) = with_acl().await;
    let number = AtomicU32::new(0);
    conformance::all(|| {
        let prefix = format!("keyrotate:{}", number.fetch_add(1, Ordering::Relaxed));
        let backend = open(&RedisConfig { prefix, ..config.clone() });
        async move { backend }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let (mut redis, config) = with_acl().await;
    let backend = open(&config);
    let run = backend.run_id().await.unwrap();
    conformance::survives(Arc::clone(&backend), |backend| async {
        redis.kill().await.unwrap();
        let down = backend.read(&[]).await;
        assert!(matches!(down, Err(BackendError::Unavailable(_))), "{down:?}");
        let down = backend.swap(set("a", b"1")).await;
        assert!(matches!(down, Err(BackendError::Unavailable(_) | BackendError::Unknown(_))), "{down:?}");
        redis.restart().await.unwrap();
        backend
    })
    .await;
    assert_ne!(backend.run_id().await.unwrap(), run, "a new server has the old one's name");
    // What was read before the kill decides nothing after it.
    let late = backend.swap(Swap { run: Some(run), ..set("a", b"1") }).await.unwrap();
    assert_eq!(late, SwapAnswer::Conflict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_given_up_and_used_again() {
    let (redis, config) = with_acl().await;
    let backend = open(&config);
    backend.swap(set("a", b"1")).await.unwrap();
    let pid = redis.pid().unwrap().to_string();
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    let lost = tokio::time::timeout(Duration::from_secs(15), backend.swap(set("a", b"2"))).await.unwrap();
    signal("-CONT");
    assert!(matches!(lost, Err(BackendError::Unknown(_))), "{lost:?}");
    // It was sent, and happened late: values are absolute, so that whoever looks sees it.
    let snapshot = backend.read(&[RecordKey("a".into())]).await.unwrap();
    assert_eq!(snapshot.records[0].as_ref().unwrap().bytes, b"2");
}

#[tokio::test]
async fn a_full_server_refuses_and_nothing_is_half_written() {
    let redis = PrivateRedis::start_with(&[&SAFE[..], &["--maxmemory", "3mb"]].concat()).await.unwrap();
    let backend = open(&RedisConfig { url: redis.url(), prefix: "k".into(), ..Default::default() });
    let value = vec![7; 200 << 10];
    let mut full = None;
    for n in 0..30 {
        let (left, right) = (format!("{n}/left"), format!("{n}/right"));
        let writes = [&left, &right].map(|name| (RecordKey(name.clone()), Some(value.clone())));
        if let Err(error) = backend.swap(Swap { writes: writes.to_vec(), ..Swap::default() }).await {
            full = Some((error, left, right));
            break;
        }
    }
    let (error, left, right) = full.expect("3 MiB never got full");
    assert!(matches!(error, BackendError::Unavailable(_)), "{error:?}");
    let snapshot = backend.read(&[RecordKey(left), RecordKey(right)]).await.unwrap();
    assert_eq!(snapshot.records, [None, None]);
}

#[tokio::test]
async fn persistence_is_told_as_it_is() {
    let (_redis, config) = with_acl().await;
    let safe = RedisBackend::new(&config, Env::system()).unwrap().persistence().await.unwrap();
    assert_eq!(safe.weaknesses(), []);
    assert!(safe.version.starts_with("Redis ") || safe.version.starts_with("Valkey "), "{}", safe.version);

    let debian = PrivateRedis::start_with(&["--maxmemory-policy", "allkeys-lru"]).await.unwrap();
    let config = RedisConfig { url: debian.url(), prefix: "k".into(), ..Default::default() };
    let weak = RedisBackend::new(&config, Env::system()).unwrap().persistence().await.unwrap();
    assert_eq!(weak.weaknesses().iter().filter(|weakness| !weakness.unknown).count(), 3, "{weak:?}");

    // A server that forbids CONFIG, as hosted ones do.
    let closed = PrivateRedis::start_with(&[&SAFE[..], &["--rename-command", "CONFIG", ""]].concat()).await.unwrap();
    let config = RedisConfig { url: closed.url(), prefix: "k".into(), ..Default::default() };
    let unknown = RedisBackend::new(&config, Env::system()).unwrap().persistence().await.unwrap();
    let weaknesses = unknown.weaknesses();
    assert!(weaknesses.len() == 1 && weaknesses[0].unknown, "{weaknesses:?}");
}

#[tokio::test]
async fn a_cluster_a_replica_and_a_wrong_password_are_named() {
    let cluster = PrivateRedis::start_with(&["--cluster-enabled", "yes"]).await.unwrap();
    let (primary, config) = with_acl().await;
    let replica = PrivateRedis::start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()]).await.unwrap();
    let at = |url| RedisConfig { url, prefix: "k".into(), ..Default::default() };
    let wrong = RedisConfig { password: Some("wrong".into()), ..config };
    for (config, word) in
        [(at(cluster.url()), "Cluster"), (at(replica.url()), "replica"), (wrong, "authentication failed")]
    {
        let error = open(&config).read(&[]).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(word), "{cause}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_to_the_primary_whoever_that_is() {
    let mut primary = PrivateRedis::start_with(&SAFE).await.unwrap();
    let port = primary.port().to_string();
    let _replica = PrivateRedis::start_with(&[&SAFE[..], &["--replicaof", "127.0.0.1", &port]].concat()).await.unwrap();
    let sentinel = PrivateRedis::sentinel_of(&primary, "main").await.unwrap();
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port());
    let backend = open(&RedisConfig { url, prefix: "k".into(), ..Default::default() });
    backend.swap(set("a", b"1")).await.unwrap();
    let run = backend.run_id().await.unwrap();
    has_caught_up(&sentinel, &primary).await;
    primary.kill().await.unwrap();
    let mut refused = 0;
    while let Err(error) = backend.swap(set("b", b"2")).await {
        refused += 1;
        assert!(refused < 300, "no replica took its place: {error:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(refused > 0, "it answered although it was killed");
    let snapshot = backend.read(&["a", "b"].map(|name| RecordKey(name.into()))).await.unwrap();
    let values: Vec<_> = snapshot.records.into_iter().map(|record| record.unwrap().bytes).collect();
    assert_eq!(values, [b"1", b"2"]);
    // What was read from the one decides nothing at the other.
    assert_ne!(backend.run_id().await.unwrap(), run);
    let late = backend.swap(Swap { run: Some(run), ..set("a", b"3") }).await.unwrap();
    assert_eq!(late, SwapAnswer::Conflict);
}

/// Waits until the sentinel knows a replica, and that has all of the primary's data.
async fn has_caught_up(sentinel: &PrivateRedis, primary: &PrivateRedis) {
    let info = async |of: &PrivateRedis, section: &str| -> String {
        let client = ::redis::Client::open(of.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        ::redis::cmd("INFO").arg(section).query_async(&mut connection).await.unwrap()
    };
    for _ in 0..300 {
        let (known, synced) = (info(sentinel, "sentinel").await, info(primary, "replication").await);
        let offset = synced.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).unwrap();
        if known.contains("slaves=1") && synced.contains(&format!("state=online,offset={offset},")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the replica never caught up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_it_shows_a_certificate_which_is_read_again_for_each_connection() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let make = |name: &str, host: &str| {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        std::fs::write(file(&format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(file(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    };
    make("server", "localhost");
    make("client", "a worker");
    let [server, server_key, client, client_key] =
        ["server.pem", "server.key", "client.pem", "client.key"].map(|name| file(name).display().to_string());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let tls =
        ["--tls-port", &port, "--tls-cert-file", &server, "--tls-key-file", &server_key, "--tls-ca-cert-file", &client];
    let mut redis = PrivateRedis::start_with(&[&SAFE[..], &tls].concat()).await.unwrap();
    let nameless = RedisConfig {
        url: format!("rediss://localhost:{port}"),
        ca_bundle: Some(server.into()),
        prefix: "k".into(),
        ..Default::default()
    };
    let refused = open(&nameless).run_id().await;
    assert!(matches!(refused, Err(BackendError::Unavailable(_))), "{refused:?}");
    let backend = open(&RedisConfig { certificate: Some((client.into(), client_key.into())), ..nameless });
    let run = backend.run_id().await.unwrap();
    make("client", "a worker");
    redis.kill().await.unwrap();
    redis.restart().await.unwrap();
    // The connection is known to be lost once it was used.
    let mut now = backend.read(&[]).await;
    for _ in 0..20 {
        if now.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        now = backend.read(&[]).await;
    }
    assert_ne!(now.unwrap().run, run);
}
