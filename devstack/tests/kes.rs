//! The KES client against the KES server, over TLS.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyrotate_devstack::kes::{ApiKey, Failure, Grant, KesModel, KesServer, KesServerConfig, Policy, ServerCert};
use keyrotate_env::Env;
use keyrotate_kms::{ConfigError, KesClient, KesConfig, Kms as _, KmsError, KmsErrorKind as Kind, Limits, key_exists};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

const LOOPBACK: &str = "127.0.0.1:0";
/// The seed 00 01 … 1f, and what a real KES calls its holder.
const VECTOR: (&str, &str) = (
    "kes:v1:AAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
    "a050837d85070582ccf7394b0988847cc312cb88259b894899f6f239cf1791a5",
);

/// A KES with the keys `old` and `new`, an application under `policy`, and a folder.
struct Stand {
    kes: KesModel,
    server: KesServer,
    app: ApiKey,
    admin: ApiKey,
    dir: TempDir,
}

impl Stand {
    async fn new(policy: Policy) -> Self {
        let env = Env::system();
        let (app, admin) = (ApiKey::generate(&env), ApiKey::generate(&env));
        let kes = KesModel::new(env);
        kes.create("old", "").unwrap();
        kes.create("new", "").unwrap();
        let identities = vec![app.identity.clone(), VECTOR.1.to_owned()];
        let grants = vec![Grant { name: "app".to_owned(), policy, identities }];
        let dir = tempfile::tempdir().unwrap();
        let server = serve(&kes, LOOPBACK.parse().unwrap(), grants, Some(&admin)).await;
        std::fs::write(dir.path().join("ca.crt"), server.ca_pem()).unwrap();
        Self { kes, server, app, admin, dir }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    fn client(&self) -> KesClient {
        self.client_as(&self.app.text)
    }

    fn client_as(&self, api_key: &str) -> KesClient {
        client(&self.server.endpoint(), api_key, &self.ca(), quick())
    }
}

async fn serve(kes: &KesModel, addr: SocketAddr, grants: Vec<Grant>, admin: Option<&ApiKey>) -> KesServer {
    let admin = admin.map(|key| key.identity.clone());
    let config = KesServerConfig { addr, grants, admin, cert: ServerCert::generate().unwrap() };
    KesServer::start(kes.clone(), config).await.unwrap()
}

/// Patient enough for a busy machine where nothing fails, quick where something does.
fn quick() -> Limits {
    Limits { delay: Duration::from_millis(5), bench: Duration::from_millis(500), ..Limits::default() }
}

fn client(endpoints: &str, api_key: &str, ca: &Path, limits: Limits) -> KesClient {
    let ca = ca.display().to_string();
    let set =
        [("MINIO_KMS_KES_ENDPOINT", endpoints), ("MINIO_KMS_KES_API_KEY", api_key), ("MINIO_KMS_KES_CAPATH", &ca)];
    configured(&set, limits).unwrap()
}

fn configured(set: &[(&str, &str)], limits: Limits) -> Result<KesClient, ConfigError> {
    let lookup = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    let config = KesConfig { limits, ..KesConfig::from_env(lookup)?.unwrap() };
    KesClient::new(config, Env::system())
}

/// A client certificate and its key in two files of `dir`; the identity.
fn identity_files(dir: &Path, is_ca: IsCa) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = is_ca;
    let cert = params.self_signed(&key).unwrap();
    std::fs::write(dir.join("client.crt"), cert.pem()).unwrap();
    std::fs::write(dir.join("client.key"), key.serialize_pem()).unwrap();
    keyrotate_kms::identity_of(cert.der()).unwrap()
}

fn file_client(stand: &Stand, limits: Limits) -> Result<KesClient, ConfigError> {
    let path = |name: &str| stand.dir.path().join(name).display().to_string();
    let set = [
        ("MINIO_KMS_KES_ENDPOINT", stand.server.endpoint()),
        ("MINIO_KMS_KES_CERT_FILE", path("client.crt")),
        ("MINIO_KMS_KES_KEY_FILE", path("client.key")),
        ("MINIO_KMS_KES_CAPATH", path("ca.crt")),
    ];
    configured(&set.each_ref().map(|(name, value)| (*name, value.as_str())), limits)
}

async fn refused<T>(call: impl Future<Output = Result<T, KmsError>>) -> KmsError {
    call.await.err().unwrap()
}

#[tokio::test]
async fn the_vendors_policy_suffices_for_all_that_we_do() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let kes = stand.client();
    kes.create_key("made").await.unwrap();
    let sealed = kes.generate("made", b"context").await.unwrap();
    let opened = kes.decrypt("made", &sealed.ciphertext, b"context").await.unwrap();
    assert_eq!(opened.expose(), sealed.plaintext.expose());
    assert!(key_exists(&kes, "made").await.unwrap());
    assert!(!key_exists(&kes, "none").await.unwrap());
    assert!(!kes.status().await.unwrap().keystore_unreachable);
    assert_eq!(stand.kes.describe("made").unwrap().created_by, stand.app.identity);
}

/// Sealing bytes of one's own is a right that the vendor's policy lacks.
#[tokio::test]
async fn what_is_brought_along_is_sealed_where_the_policy_says_so() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let error = refused(stand.client().encrypt("old", b"key", b"")).await;
    assert_eq!(error.kind, Kind::NotAllowed);
    assert!(error.remedy().unwrap().contains("allow: /v1/key/encrypt/old"), "{:?}", error.remedy());

    let admin = stand.client_as(&stand.admin.text);
    for plain in [&b""[..], b"key", &[7; 600_000]] {
        let sealed = admin.encrypt("old", plain, b"context").await.unwrap();
        assert_eq!(admin.decrypt("old", &sealed, b"context").await.unwrap().expose(), plain);
        assert_eq!(refused(admin.decrypt("old", &sealed, b"other")).await.kind, Kind::NotAuthentic);
    }
}

#[tokio::test]
async fn ciphertexts_are_those_of_the_keys_and_of_any_length() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let kes = stand.client();
    let sealed = stand.kes.generate("old", b"").await.unwrap();
    assert_eq!(kes.decrypt("old", &sealed.ciphertext, b"").await.unwrap().expose(), sealed.plaintext.expose());
    let long = vec![7; 600_000];
    let error = refused(kes.decrypt("old", &long, b"")).await;
    assert_eq!(error.kind, Kind::NotAuthentic, "{error}");
    let too_long = vec![7; 800_000];
    let error = refused(kes.decrypt("old", &too_long, b"")).await;
    assert_eq!((error.kind, error.message.as_str()), (Kind::Refused, "invalid request body"));
}

#[tokio::test]
async fn lists_come_whole_although_kes_refuses_some_prefixes() {
    let stand = Stand::new(Policy::default()).await;
    let admin = stand.client_as(&stand.admin.text);
    for name in ["my-key", "my-other", "mykey"] {
        admin.create_key(name).await.unwrap();
    }
    assert_eq!(admin.list_keys("").await.unwrap(), ["my-key", "my-other", "mykey", "new", "old"]);
    assert_eq!(admin.list_keys("my-").await.unwrap(), ["my-key", "my-other"]);
    assert!(admin.list_keys("none").await.unwrap().is_empty());
}

/// Names that sort as their numbers.
fn many(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("many-{n:04}")).collect()
}

#[tokio::test]
async fn more_keys_than_a_page_of_kes_holds_come_in_one_answer_and_whole() {
    let stand = Stand::new(Policy::default()).await;
    let names = many(1101);
    names.iter().for_each(|name| stand.kes.create(name, "").unwrap());
    let admin = stand.client_as(&stand.admin.text);
    assert_eq!(admin.list_keys("many").await.unwrap(), names);
    assert_eq!(admin.list_keys("many-").await.unwrap(), names);
    assert_eq!(admin.list_keys("many-10").await.unwrap(), names[1000..1100]);
    assert_eq!(admin.list_keys("").await.unwrap().len(), 1103, "with `old` and `new`");
}

/// A real KES over a folder cuts a listing after 1,024 names and takes the next name, sent back, for a prefix: its own
/// client sees 1,025 of 1,102 keys too.
#[tokio::test]
async fn of_a_kes_that_pages_a_listing_has_no_name_twice_and_comes_to_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let answer = |request: &str| {
        let prefix = request.split(' ').nth(1).and_then(|path| path.strip_prefix("/v1/key/list/")).unwrap();
        let mut names: Vec<_> = many(1102).into_iter().filter(|name| name.starts_with(prefix)).collect();
        let mut body = serde_json::json!({});
        if let Some(next) = names.get(1024).cloned() {
            body["continue_at"] = next.into();
            names.truncate(1024);
        }
        body["names"] = names.into();
        let body = body.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        format!("{head}content-length: {}\r\n\r\n{body}", body.len())
    };
    let (endpoint, ca) = answering(dir.path(), false, answer).await;
    let kes = client(&endpoint, VECTOR.0, &ca, quick());
    assert_eq!(kes.list_keys("many-").await.unwrap(), many(1025));
    assert_eq!(kes.list_keys("many-11").await.unwrap(), many(1102)[1100..]);
    assert!(kes.list_keys("none").await.unwrap().is_empty());
}

#[tokio::test]
async fn every_refusal_has_its_kind() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let kes = stand.client();
    let sealed = kes.generate("old", b"right").await.unwrap().ciphertext;
    for (error, kind, status) in [
        (refused(kes.create_key("old")).await, Kind::KeyExists, 400),
        (refused(kes.create_key("a.b")).await, Kind::Refused, 400),
        (refused(kes.create_key("a/b")).await, Kind::Refused, 400),
        (refused(kes.generate("none", b"")).await, Kind::KeyNotFound, 404),
        (refused(kes.decrypt("none", &sealed, b"")).await, Kind::KeyNotFound, 404),
        (refused(kes.decrypt("old", &sealed, b"wrong")).await, Kind::NotAuthentic, 400),
        (refused(kes.decrypt("new", &sealed, b"right")).await, Kind::NotAuthentic, 400),
        (refused(kes.decrypt("old", b"", b"")).await, Kind::NotAuthentic, 400),
        (refused(kes.list_keys("")).await, Kind::NotAllowed, 403),
    ] {
        assert_eq!((error.kind, error.status), (kind, Some(status)), "{error}");
    }
    stand.kes.set_failure(Failure::KeyStore);
    let error = refused(kes.generate("old", b"")).await;
    assert_eq!((error.kind, error.status, error.message.as_str()), (Kind::Server, Some(502), "failed to read key"));
    assert!(kes.status().await.unwrap().keystore_unreachable);
}

#[tokio::test]
async fn a_missing_right_is_told_with_the_line_that_grants_it() {
    let policy = Policy::allow(["/v1/key/generate/*"]);
    let stand = Stand::new(policy.clone()).await;
    let kes = stand.client();
    for (error, path) in [
        (refused(kes.create_key("k")).await, "/v1/key/create/k"),
        (refused(kes.decrypt("old", b"x", b"")).await, "/v1/key/decrypt/old"),
        (refused(kes.list_keys("")).await, "/v1/key/list/*"),
        (refused(kes.status()).await, "/v1/status"),
    ] {
        let remedy = error.remedy().unwrap();
        assert!(error.to_string().contains(&stand.app.identity), "{error}");
        assert!(remedy.contains(&format!("allow: {path}`")), "{remedy}");
        // The line that we tell is one that mends it.
        let line = remedy.split('`').nth(1).unwrap().strip_prefix("allow: ").unwrap();
        let mended = Policy::allow(policy.allow.iter().map(String::as_str).chain([line]));
        assert!(mended.allows(&path.replace('*', "")), "{line}");
    }
    let stranger = ApiKey::generate(&Env::system());
    let error = refused(stand.client_as(&stranger.text).generate("old", b"")).await;
    assert_eq!(error.kind, Kind::NotAllowed);
    assert!(error.to_string().contains(&stranger.identity), "{error}");
}

#[tokio::test]
async fn an_api_key_is_the_identity_that_a_real_kes_sees() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let kes = stand.client_as(VECTOR.0);
    assert_eq!(kes.identity(), VECTOR.1);
    kes.create_key("mine").await.unwrap();
    assert_eq!(stand.kes.describe("mine").unwrap().created_by, VECTOR.1);
}

#[tokio::test]
async fn calls_fail_over_between_three_endpoints_with_their_whole_body() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let cas = stand.dir.path().join("cas");
    std::fs::create_dir(&cas).unwrap();
    std::fs::write(cas.join("README"), "certificates of three servers").unwrap();
    let grant =
        Grant { name: "app".to_owned(), policy: Policy::vendor_guide(), identities: vec![stand.app.identity.clone()] };
    let (mut nodes, mut servers, mut endpoints) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..3 {
        let node = stand.kes.node(Duration::ZERO);
        let server = serve(&node, LOOPBACK.parse().unwrap(), vec![grant.clone()], None).await;
        std::fs::write(cas.join(format!("{number}.pem")), server.ca_pem()).unwrap();
        endpoints.push(server.endpoint());
        nodes.push(node);
        servers.push(server);
    }
    let kes = client(&endpoints.join(","), &stand.app.text, &cas, quick());
    let sealed = kes.generate("old", b"context").await.unwrap();
    let bad = [Failure::Refuse, Failure::Unavailable, Failure::KeyStore];
    for round in 0..9 {
        // The node that served the round before fails now, so that each round fails over at least once.
        nodes[round % 3].set_failure(Failure::None);
        nodes[(round + 1) % 3].set_failure(bad[round / 3]);
        nodes[(round + 2) % 3].set_failure(bad[(round / 3 + 1) % 3]);
        let opened = kes.decrypt("old", &sealed.ciphertext, b"context").await.unwrap();
        assert_eq!(opened.expose(), sealed.plaintext.expose(), "round {round}");
    }
    for node in &nodes {
        node.set_failure(Failure::Refuse);
    }
    let error = refused(kes.generate("old", b"")).await;
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_says_that_the_key_may_be_its_own() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let node = stand.kes.node(Duration::ZERO);
    let grant =
        Grant { name: "app".to_owned(), policy: Policy::vendor_guide(), identities: vec![stand.app.identity.clone()] };
    let other = serve(&node, LOOPBACK.parse().unwrap(), vec![grant], None).await;
    let ca = stand.dir.path().join("both.crt");
    std::fs::write(&ca, format!("{}{}", stand.server.ca_pem(), other.ca_pem())).unwrap();
    node.set_failure(Failure::Unavailable);
    let both = format!("{},{}", stand.server.endpoint(), other.endpoint());
    // Which endpoint comes first is left to chance; sooner or later the failing one does.
    for _ in 0..64 {
        let error = refused(client(&both, &stand.app.text, &ca, quick()).create_key("old")).await;
        assert_eq!(error.kind, Kind::KeyExists);
        if error.message.contains("earlier try") {
            return;
        }
    }
    panic!("no call ever began at the failing endpoint");
}

#[tokio::test]
async fn the_breaker_opens_and_closes_by_a_probe() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let limits = Limits { tries: 1, breaker_failures: 2, breaker_open: Duration::from_secs(1), ..quick() };
    let kes = client(&stand.server.endpoint(), &stand.app.text, &stand.ca(), limits);
    stand.kes.set_failure(Failure::Unavailable);
    for _ in 0..2 {
        assert_eq!(refused(kes.generate("old", b"")).await.kind, Kind::Server);
    }
    let error = refused(kes.generate("old", b"")).await;
    assert_eq!(error.kind, Kind::BreakerOpen);
    assert!(error.kind.is_transient());

    // A probe that fails opens it again.
    assert_eq!(first_sent(&kes).await.unwrap_err().kind, Kind::Server);
    assert_eq!(refused(kes.generate("old", b"")).await.kind, Kind::BreakerOpen);
    // One that is answered closes it, be the answer a refusal.
    stand.kes.set_failure(Failure::None);
    first_sent(&kes).await.unwrap();
    for _ in 0..4 {
        kes.generate("old", b"").await.unwrap();
        assert_eq!(refused(kes.generate("none", b"")).await.kind, Kind::KeyNotFound);
    }
}

/// The first call that the breaker lets through.
async fn first_sent(kes: &KesClient) -> Result<(), KmsError> {
    for _ in 0..200 {
        match kes.generate("old", b"").await {
            Err(error) if error.kind == Kind::BreakerOpen => tokio::time::sleep(Duration::from_millis(25)).await,
            sent => return sent.map(drop),
        }
    }
    panic!("the breaker stays open");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_deadline_and_no_more() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    stand.kes.set_failure(Failure::Hang);
    let (attempt, deadline) = (Duration::from_millis(100), Duration::from_millis(250));
    for limits in [Limits { attempt, tries: 2, ..quick() }, Limits { deadline, ..quick() }] {
        let kes = client(&stand.server.endpoint(), &stand.app.text, &stand.ca(), limits);
        let call = tokio::time::timeout(Duration::from_secs(5), refused(kes.generate("old", b"")));
        assert_eq!(call.await.unwrap().kind, Kind::Timeout);
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told_as_such() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let (kes, endpoint) = (stand.client(), stand.server.endpoint());
    stand.server.shutdown().await;
    let error = refused(kes.generate("old", b"")).await;
    assert_eq!(error.kind, Kind::Unreachable);
    assert!(error.to_string().contains(&endpoint), "{error}");
    assert!(error.remedy().unwrap().contains("MINIO_KMS_KES_ENDPOINT"));
}

#[tokio::test]
async fn client_certificates_are_read_again_when_they_change() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let mine = identity_files(stand.dir.path(), IsCa::ExplicitNoCa);
    let limits = Limits { reload: Duration::ZERO, ..quick() };
    let kes = file_client(&stand, limits).unwrap();
    assert_eq!(kes.identity(), mine);
    let error = refused(kes.generate("old", b"")).await;
    assert!(error.message.contains(&mine), "{error}");

    // Half of the change: the new certificate with the old key. The client goes on as before.
    let old_key = std::fs::read(stand.dir.path().join("client.key")).unwrap();
    let new = identity_files(stand.dir.path(), IsCa::NoCa);
    let new_key = std::fs::read(stand.dir.path().join("client.key")).unwrap();
    std::fs::write(stand.dir.path().join("client.key"), old_key).unwrap();
    let error = refused(kes.generate("old", b"")).await;
    assert!(error.message.contains(&mine), "{error}");
    std::fs::write(stand.dir.path().join("client.key"), new_key).unwrap();
    let error = refused(kes.generate("old", b"")).await;
    assert!(error.message.contains(&new), "{error}");
    assert_eq!(kes.identity(), new);
}

#[tokio::test]
async fn an_untrusted_server_is_refused_until_its_certificate_is_given() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let limits = Limits { reload: Duration::ZERO, ..quick() };
    let kes = client(&stand.server.endpoint(), &stand.app.text, &stand.ca(), limits);
    kes.generate("old", b"").await.unwrap();

    let Stand { kes: model, server, app, dir, .. } = stand;
    let addr = server.addr();
    server.shutdown().await;
    let policy = Policy::vendor_guide();
    let grant = Grant { name: "app".to_owned(), policy, identities: vec![app.identity.clone()] };
    let renewed = serve(&model, addr, vec![grant], None).await;
    let error = refused(kes.generate("old", b"")).await;
    assert_eq!(error.kind, Kind::Untrusted, "{error}");
    assert!(error.remedy().unwrap().contains("MINIO_KMS_KES_CAPATH"));
    assert!(!error.kind.is_transient());

    std::fs::write(dir.path().join("ca.crt"), renewed.ca_pem()).unwrap();
    kes.generate("old", b"").await.unwrap();
    // A name that the certificate does not have is not trusted either.
    let by_other_name = format!("https://127.0.0.2:{}", addr.port());
    let error = refused(client(&by_other_name, &app.text, &dir.path().join("ca.crt"), quick()).status()).await;
    assert!(matches!(error.kind, Kind::Untrusted | Kind::Unreachable), "{error}");
}

#[tokio::test]
async fn a_servers_own_certificate_that_says_ca_is_trusted_when_given() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cert = ServerCert { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem().into() };
    let admin = Some(stand.app.identity.clone());
    let config = KesServerConfig { addr: LOOPBACK.parse().unwrap(), grants: Vec::new(), admin, cert };
    let server = KesServer::start(stand.kes.clone(), config).await.unwrap();
    let ca = stand.dir.path().join("self.crt");
    std::fs::write(&ca, server.ca_pem()).unwrap();
    client(&server.endpoint(), &stand.app.text, &ca, quick()).status().await.unwrap();
    let error = refused(client(&server.endpoint(), &stand.app.text, &stand.ca(), quick()).status()).await;
    assert_eq!(error.kind, Kind::Untrusted, "{error}");
}

#[tokio::test]
async fn certificates_that_kes_does_not_count_are_told_before_or_by_it() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    identity_files(stand.dir.path(), IsCa::Ca(BasicConstraints::Unconstrained));
    let error = file_client(&stand, quick()).unwrap_err();
    assert_eq!(error.variable, "MINIO_KMS_KES_CERT_FILE");
    assert!(error.problem.contains("CA:FALSE"), "{error}");

    identity_files(stand.dir.path(), IsCa::NoCa);
    let second = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let path = stand.dir.path().join("client.crt");
    std::fs::write(&path, format!("{}{second}", std::fs::read_to_string(&path).unwrap())).unwrap();
    let error = refused(file_client(&stand, quick()).unwrap().status()).await;
    assert_eq!(error.kind, Kind::NoCertificate, "{error}");
    assert_eq!(error.message, "tls: received more than one client certificate");
}

/// A TLS server that is no KES: it says `answer` to whatever it reads. With `refuse` it does not take our certificate.
async fn canned(dir: &Path, answer: &'static str, refuse: bool) -> (String, PathBuf) {
    answering(dir, refuse, move |_| answer.to_owned()).await
}

/// The same with an answer made of the request.
async fn answering(dir: &Path, refuse: bool, answer: impl Fn(&str) -> String + Send + 'static) -> (String, PathBuf) {
    let cert = ServerCert::generate().unwrap();
    let chain = CertificateDer::pem_slice_iter(cert.cert.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(cert.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.unwrap();
    let builder = if refuse {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(chain[0].clone()).unwrap();
        let strict = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(strict.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let ca = dir.join(format!("{}.crt", listener.local_addr().unwrap().port()));
    std::fs::write(&ca, cert.cert).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            match acceptor.accept(stream).into_fallible().await {
                Ok(mut stream) => {
                    let read = stream.read(&mut buffer).await.unwrap_or_default();
                    let _ = stream.write_all(answer(&String::from_utf8_lossy(&buffer[..read])).as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
                Err((_, mut stream)) => {
                    let _ = stream.shutdown().await;
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                }
            }
        }
    });
    (endpoint, ca)
}

#[tokio::test]
async fn what_is_no_kes_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    let nginx = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
    let elsewhere = "HTTP/1.1 302 Found\r\nlocation: https://elsewhere.invalid/\r\ncontent-length: 0\r\n\r\n";
    for (answer, refuse, kind) in [
        (json, false, Kind::Nonsense),
        (nginx, false, Kind::NotImplemented),
        (elsewhere, false, Kind::Nonsense),
        ("SSH-2.0-OpenSSH_9.9\r\n", false, Kind::Unreachable),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n", false, Kind::Unreachable),
        (json, true, Kind::NoCertificate),
    ] {
        let (endpoint, ca) = canned(dir.path(), answer, refuse).await;
        let error = refused(client(&endpoint, VECTOR.0, &ca, quick()).generate("k", b"")).await;
        assert_eq!(error.kind, kind, "{answer:?}: {error} {:?}", error.source);
    }
}

#[tokio::test]
async fn an_endpoint_that_only_a_person_can_mend_is_passed_over_while_another_serves() {
    let stand = Stand::new(Policy::vendor_guide()).await;
    let cas = stand.dir.path().join("cas");
    std::fs::create_dir(&cas).unwrap();
    std::fs::copy(stand.ca(), cas.join("good.crt")).unwrap();
    let nginx = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
    for (refuse, trusted, kind) in
        [(false, false, Kind::Untrusted), (true, true, Kind::NoCertificate), (false, true, Kind::NotImplemented)]
    {
        let (bad, ca) = canned(stand.dir.path(), nginx, refuse).await;
        if trusted {
            std::fs::copy(ca, cas.join("bad.crt")).unwrap();
        }
        let both = format!("{bad},{}", stand.server.endpoint());
        // Each client begins at an endpoint of its own choice.
        for _ in 0..8 {
            client(&both, &stand.app.text, &cas, quick()).generate("old", b"").await.unwrap();
        }
        // Where there is no other, nothing is tried twice and the fault is told.
        for endpoints in [bad.clone(), format!("{bad},{bad}/")] {
            let error = refused(client(&endpoints, &stand.app.text, &cas, quick()).generate("old", b"")).await;
            assert_eq!(error.kind, kind, "{endpoints}: {error}");
        }
    }
}
